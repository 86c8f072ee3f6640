"""From the hot path to the disk: `record` appends to a list, one task writes what has gathered.

    record -> waiting -> (512 wait, or 250 ms have passed) -> one transaction -> database

Its laws. Nothing is written twice: inserts go by id, and a batch that may have been written is simply sent again.
Nothing is forgotten while the process lives: a batch that the database doesn't take is kept and retried with backoff.
Memory is bounded: with `bound` requests waiting, further ones are dropped, counted and logged, newest first, because
the caller has its answer and the process must live. A killed process loses what waits (a spool on disk will close
this).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from llmwise.domain.ports import Clock
from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)


class WriterSettings(Struct, frozen=True, kw_only=True):
    """`batch`: requests in one transaction at most (each with its attempts). `linger_s`: how long the first one waits
    for others. `bound`: requests that may wait. A failed write is retried after `first_retry_s`, then twice that,
    up to `longest_retry_s`."""

    batch: int = 512
    linger_s: float = 0.25
    bound: int = 100_000
    first_retry_s: float = 0.1
    longest_retry_s: float = 5.0


class WriterHealth(Struct, frozen=True):
    """`waiting` are not in the database yet. `dropped` will never be: there was no room, or the database refused the
    row itself. While writes fail, `failing_since_ms` (Unix time) and `error` say so."""

    waiting: int
    written: int
    dropped: int
    failing_since_ms: int | None
    error: str | None


class Inserts(Protocol):
    """What the writer needs of a store."""

    async def insert(self, requests: Sequence[RequestRecord], attempts: Sequence[AttemptRecord]) -> None: ...


class Writer:
    """A `domain.ports.Recorder`. `run` does the writing and must be running in somebody's task group; every method
    belongs to the thread of that event loop.

    Invariant: `_settled + _unsettled` is the number of requests ever taken in, and
    they settle in the order of their coming.
    """

    def __init__(self, store: Inserts, clock: Clock, settings: WriterSettings = WriterSettings()) -> None:  # noqa: B008  # frozen
        self._store = store
        self._clock = clock
        self._settings = settings
        self._bound = settings.bound
        self._waiting: deque[_Settled] = deque()
        self._in_flight = 0
        self._written = 0
        self._refused = 0  # taken in, but the database refused the row
        self._no_room = 0
        self._wanted = 0  # a flush waits until this many are settled
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._progress = asyncio.Event()
        self._draining = asyncio.Event()
        self._finished = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing_since_ms: int | None = None
        self._error: str | None = None
        self._next_complaint_s = 0.0

    def record(self, request: RequestRecord, attempts: Sequence[AttemptRecord]) -> None:
        """Take a settled request in. Never waits, never raises; dropped when `bound` requests wait already."""
        waiting = self._waiting
        count = len(waiting)
        if count >= self._bound:
            self._no_room += 1
            self._complain("no room: %d requests wait, %d dropped so far", count, self._no_room)
            return
        waiting.append((request, attempts))
        if not count:
            self._arrived.set()
        elif count + 1 == self._settings.batch:
            self._hurry.set()

    async def run(self) -> None:
        """Write until `drain` has ended. Cancelled, it stops where it is; the batch under way may still arrive."""
        self._task = asyncio.current_task()
        try:
            while self._waiting or not self._draining.is_set():
                if not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                    continue
                await self._linger()
                size = min(len(self._waiting), self._settings.batch)
                batch = [self._waiting.popleft() for _ in range(size)]
                self._in_flight = size
                await self._write(batch)
                progress, self._progress = self._progress, asyncio.Event()
                progress.set()
        finally:
            self._bound = 0  # whatever comes now is counted as dropped
            self._finished.set()

    async def flush(self, timeout_s: float = 2.0) -> bool:
        """Wait until everything recorded before this call is in the database, so that a caller reads its own writes.
        `False` when `timeout_s` ran out first: the database is away or slow."""
        target = self._settled + self._unsettled
        self._wanted = max(self._wanted, target)
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                while self._settled < target:
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    async def drain(self, timeout_s: float) -> int:
        """Write everything and end `run`; for the end of the process, after the last `record`. Returns how many
        requests were left unwritten when `timeout_s` ran out: 0 is the good answer."""
        self._draining.set()
        self._arrived.set()
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._finished.wait()
        except TimeoutError:
            log.error("%d settled requests not written within %.1f s: %s", self._unsettled, timeout_s, self._error)
            if self._task is not None:
                self._task.cancel()
        return self._unsettled

    def health(self) -> WriterHealth:
        return WriterHealth(
            waiting=self._unsettled,
            written=self._written,
            dropped=self._no_room + self._refused,
            failing_since_ms=self._failing_since_ms,
            error=self._error,
        )

    @property
    def _settled(self) -> int:
        return self._written + self._refused

    @property
    def _unsettled(self) -> int:
        return self._in_flight + len(self._waiting)

    async def _linger(self) -> None:
        """Let a batch gather, unless it is full or somebody waits for it."""
        self._hurry.clear()
        full = len(self._waiting) >= self._settings.batch
        if full or self._wanted > self._settled or self._draining.is_set():
            return
        try:
            async with asyncio.timeout(self._settings.linger_s):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _write(self, batch: "list[_Settled]") -> None:
        """Bring `batch` into the database, however long it takes."""
        requests = [request for request, _ in batch]
        attempts = [attempt for _, of_request in batch for attempt in of_request]
        retry_s = self._settings.first_retry_s
        while True:
            try:
                await self._store.insert(requests, attempts)
            except StorageUnavailable as error:
                self._failed(error)
                await self._pause(retry_s)
                retry_s = min(2 * retry_s, self._settings.longest_retry_s)
            except Exception as error:  # a row that the database can't hold: the others must not wait behind it
                if len(batch) > 1:
                    for one in batch:
                        await self._write([one])
                    return
                self._settle(refused=1)
                # Not the error's text: a driver may quote the row, and the row holds a prompt.
                log.error("request %s can't be stored: %s", requests[0].id, type(error).__name__)
                return
            else:
                self._recovered()
                self._settle(written=len(batch))
                return

    def _settle(self, written: int = 0, refused: int = 0) -> None:
        self._in_flight -= written + refused
        self._written += written
        self._refused += refused

    async def _pause(self, seconds: float) -> None:
        """Wait before a retry; when draining, no longer than the first pause."""
        if self._draining.is_set():
            await asyncio.sleep(min(seconds, self._settings.first_retry_s))
            return
        try:
            async with asyncio.timeout(seconds):
                await self._draining.wait()
        except TimeoutError:
            pass

    def _failed(self, error: StorageUnavailable) -> None:
        self._error = str(error)
        if self._failing_since_ms is None:
            self._failing_since_ms = self._clock.unix_ms()
        self._complain("%d settled requests wait for the database: %s", self._unsettled, error)

    def _recovered(self) -> None:
        if self._failing_since_ms is not None:
            log.warning("the database takes writes again")
            self._failing_since_ms = self._error = None

    def _complain(self, message: str, *values: object) -> None:
        """Log, at most once a second."""
        now_s = self._clock.monotonic()
        if now_s >= self._next_complaint_s:
            self._next_complaint_s = now_s + 1.0
            log.error(message, *values)


_Settled = tuple[RequestRecord, Sequence[AttemptRecord]]
