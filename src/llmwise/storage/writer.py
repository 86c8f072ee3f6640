"""From the hot path to the database: `record` appends to the spool and to a list, one task writes what has gathered.

    record -> spool, waiting -> (512 wait, or 250 ms have passed) -> one transaction -> database
                  no room in memory, the database being away or slow: read back from the spool later

Its laws. Nothing is written twice: inserts go by id, and a batch that may have been written is simply sent again.
Nothing is forgotten: what is on the spool is replayed by the next process, a batch that the database doesn't take is
kept and retried with backoff. Memory is bounded: with `window` records waiting, further ones lie on the spool alone.
Only with the database away and a disk that is full do records gather in memory, up to `bound`; then they are dropped,
counted and logged, newest first, because the caller has its answer and the process must live.

A request that was admitted by a process that died before it was settled becomes a record with the code `interrupted`.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from llmwise.domain.ports import Clock
from llmwise.domain.records import Admission, AttemptRecord, LedgerEntry, RequestRecord
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.spool import Leftovers, Position, Settled, Spool, abandoned, interrupted

log = logging.getLogger(__name__)


class WriterSettings(Struct, frozen=True, kw_only=True):
    """`batch`: requests in one transaction at most (each with its attempts). `linger_s`: how long the first one waits
    for others. `window`: requests that wait in memory; `bound`: those that may when no disk takes them. A failed write
    is retried after `first_retry_s`, then twice that, up to `longest_retry_s`. Every `sync_s` the spool is brought to
    the disk itself, and every `adopt_s` the folders of processes that died are looked for."""

    batch: int = 512
    linger_s: float = 0.25
    window: int = 2048
    bound: int = 20_000
    sync_s: float = 1.0
    adopt_s: float = 5.0
    first_retry_s: float = 0.1
    longest_retry_s: float = 5.0


class WriterHealth(Struct, frozen=True):
    """`waiting` are not in the database yet. `dropped` will never be: there was no room, the database refused the row
    itself, or a dead process' spool was damaged. While writes fail, `failing_since_ms` (Unix time) and `error` say so.
    `spool_error` says why the disk takes no records; `spooled` is whether there is a spool at all."""

    waiting: int
    written: int
    dropped: int
    failing_since_ms: int | None
    error: str | None
    spooled: bool = False
    spool_error: str | None = None


class Inserts(Protocol):
    """What the writer needs of a store."""

    async def insert(
        self,
        requests: Sequence[RequestRecord],
        attempts: Sequence[AttemptRecord],
        entries: Sequence[LedgerEntry] = (),
    ) -> None: ...


class Writer:
    """A `domain.ports.Recorder`. `run` does the writing and must be running in somebody's task group; every method
    belongs to the thread of that event loop.

    Invariant: `_settled + _unsettled` is the number of requests ever taken in. They settle in the order of their
    coming, but for those that a full disk kept in memory while others waited on it.
    """

    def __init__(
        self,
        store: Inserts,
        clock: Clock,
        settings: WriterSettings = WriterSettings(),  # noqa: B008  # frozen
        spool: Spool | None = None,
        on_replayed: Callable[[RequestRecord, Sequence[LedgerEntry]], None] = lambda record, entries: None,
    ) -> None:
        """`spool` is the writer's own, which `drain` closes; without one a killed process loses what waits.
        `on_replayed` is told of each request that a dead process has left, settled or interrupted, when it is in the
        database; perhaps more than once."""
        self._store = store
        self._spool = spool
        self._on_replayed = on_replayed
        self._clock = clock
        self._settings = settings
        self._bound = settings.bound
        self._waiting: deque[tuple[Settled, Position | None]] = deque()
        self._taken: Position = spool.start if spool is not None else (0, 0)  # what is behind it is on the spool alone
        self._unread = 0  # settlements that are on the spool alone
        self._in_flight = 0
        self._written = 0
        self._refused = 0  # taken in, but the database refused the row
        self._lost_of_others = 0  # of what dead processes left: refused too, or damaged
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

    def admit(self, admission: Admission) -> None:
        """Note that a request begins. Never waits, never raises."""
        if self._spool is not None:
            self._spool.admit(admission)

    def record(
        self, request: RequestRecord, attempts: Sequence[AttemptRecord], entries: Sequence[LedgerEntry] = ()
    ) -> None:
        """Take a settled request in. Never waits, never raises. When it returns, the record is on the spool, or, when
        the disk takes none, in memory; dropped when `bound` wait there already."""
        settled: Settled = (request, attempts, entries)
        position = self._spool.settle(settled) if self._spool is not None else None
        waiting = self._waiting
        count = len(waiting)
        if position is None:
            if count >= self._bound:
                self._no_room += 1
                self._complain("no room: %d requests wait, %d dropped so far", count, self._no_room)
                return
        elif self._unread or count >= self._settings.window:
            self._unread += 1
            return
        else:
            self._taken = position
        waiting.append((settled, position))
        if not count:
            self._arrived.set()
        elif count + 1 == self._settings.batch:
            self._hurry.set()

    async def run(self) -> None:
        """Write until `drain` has ended, after what dead processes have left. Cancelled, it stops where it is; the
        batch under way may still arrive."""
        self._task = asyncio.current_task()
        beside: list[asyncio.Task[None]] = []
        if self._spool is not None:
            beside.append(asyncio.create_task(self._keep_synced(), name="spool-sync"))
        try:
            if self._spool is not None:
                await self._replay(self._spool)
                beside.append(asyncio.create_task(self._keep_adopting(self._spool), name="spool-adopt"))
            while self._waiting or self._unread or not self._draining.is_set():
                if not self._waiting and not self._read_back():
                    self._arrived.clear()
                    if not self._draining.is_set():
                        await self._arrived.wait()
                    continue
                await self._linger()
                size = min(len(self._waiting), self._settings.batch)
                batch = [self._waiting.popleft() for _ in range(size)]
                self._in_flight = size
                refused = await self._write([settled for settled, _ in batch])
                self._in_flight = 0
                self._written += size - refused
                self._refused += refused
                self._release(batch)
                progress, self._progress = self._progress, asyncio.Event()
                progress.set()
        finally:
            self._bound = 0  # whatever comes now is counted as dropped, unless the spool takes it
            for task in beside:
                task.cancel()
            if beside:
                await asyncio.wait(beside)
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
        requests were left unwritten when `timeout_s` ran out: 0 is the good answer, and what the spool holds of them is
        replayed by the next process."""
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
                await asyncio.wait([self._task])
        if self._spool is not None:
            spool, self._spool = self._spool, None
            spool.close(everything_stored=not self._unsettled)
        return self._unsettled

    def health(self) -> WriterHealth:
        return WriterHealth(
            waiting=self._unsettled,
            written=self._written,
            dropped=self._no_room + self._refused + self._lost_of_others,
            failing_since_ms=self._failing_since_ms,
            error=self._error,
            spooled=self._spool is not None,
            spool_error=self._spool.error if self._spool is not None else None,
        )

    @property
    def _settled(self) -> int:
        return self._written + self._refused

    @property
    def _unsettled(self) -> int:
        return self._in_flight + len(self._waiting) + self._unread

    def _read_back(self) -> bool:
        """Take up to a batch from the spool into memory; whether there was any."""
        if not self._unread or self._spool is None:
            return False
        found, self._taken = self._spool.read(self._taken, self._settings.batch)
        self._waiting.extend((settled, None) for settled in found[:-1])
        if found:
            self._waiting.append((found[-1], self._taken))
        else:  # deleted or damaged below us
            self._refused += self._unread
            log.error("%d settled requests can't be read back from %s", self._unread, self._spool.folder)
            self._unread = 0
        self._unread -= len(found)
        return bool(found)

    def _release(self, batch: "list[tuple[Settled, Position | None]]") -> None:
        position = next((position for _, position in reversed(batch) if position is not None), None)
        if position is not None and self._spool is not None:
            self._spool.release(position)

    async def _replay(self, spool: Spool) -> None:
        """What the process before this one left in the same folder, then what others left in theirs."""
        await self._store_leftovers(Leftovers(spool.folder, before=spool.start[0]))
        await self._adopt(spool)

    async def _keep_adopting(self, spool: Spool) -> None:
        """Beside the writing, by a clock of its own: the folders of the dead wait neither for a pause nor delay one."""
        while True:
            await asyncio.sleep(self._settings.adopt_s)
            try:
                await self._adopt(spool)
            except Exception:  # a defect must not end the looking for good, and unheard
                log.exception("what a dead process has left could not be replayed; tried again")

    async def _adopt(self, spool: Spool) -> None:
        try:
            for lock, left in abandoned(spool.folder.parent, spool.folder):
                try:
                    await self._store_leftovers(left)
                finally:
                    os.close(lock)
        except OSError as error:
            self._complain("what dead processes have left can't be looked at: %s", error)

    async def _store_leftovers(self, left: Leftovers) -> None:
        if not left:
            return
        count = 0
        for batch in left.settlements(self._settings.batch):
            count += len(batch)
            await self._write_for_others(batch)
        cut_short = left.interrupted()
        for start in range(0, len(cut_short), self._settings.batch):
            await self._write_for_others(
                [interrupted(admission) for admission in cut_short[start : start + self._settings.batch]]
            )
        self._lost_of_others += left.lost
        left.discard()
        log.warning("replayed %d settled requests of a process that ended; %d were interrupted", count, len(cut_short))

    async def _write_for_others(self, batch: list[Settled]) -> None:
        self._lost_of_others += await self._write(batch)
        for record, _, entries in batch:
            self._on_replayed(record, entries)

    async def _keep_synced(self) -> None:
        while self._spool is not None:
            await asyncio.sleep(self._settings.sync_s)
            try:
                await asyncio.to_thread(self._spool.sync)
            except OSError as error:
                self._complain("the spool can't be brought to the disk: %s", error.strerror)

    async def _linger(self) -> None:
        """Let a batch gather, unless it is full or somebody waits for it."""
        self._hurry.clear()
        full = len(self._waiting) >= self._settings.batch
        if full or self._unread or self._wanted > self._settled or self._draining.is_set():
            return
        try:
            async with asyncio.timeout(self._settings.linger_s):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _write(self, batch: list[Settled]) -> int:
        """Bring `batch` into the database, however long it takes; how many the database refused for good."""
        requests = [request for request, _, _ in batch]
        attempts = [attempt for _, of_request, _ in batch for attempt in of_request]
        entries = [entry for _, _, of_request in batch for entry in of_request]
        retry_s = self._settings.first_retry_s
        while True:
            try:
                await self._store.insert(requests, attempts, entries)
            except StorageUnavailable as error:
                self._failed(error)
                await self._pause(retry_s)
                retry_s = min(2 * retry_s, self._settings.longest_retry_s)
            except Exception as error:  # a row that the database can't hold: the others must not wait behind it
                if len(batch) > 1:
                    return sum([await self._write([one]) for one in batch])
                # Not the error's text: a driver may quote the row, and the row holds a prompt.
                log.error("request %s can't be stored: %s", requests[0].id, type(error).__name__)
                return 1
            else:
                self._recovered()
                return 0

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
