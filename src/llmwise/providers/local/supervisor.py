"""Keeps one child process alive that serves on an address it announces.

The child is started, listened to until it says `READY <url>`, watched, and started again when it ends, after a pause
that grows with each failure up to a bound. Its standard input carries the key and then stays open: it ends when this
process ends, so that the child never outlives it. What it writes to standard error is kept to its last lines.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.providers.local.server import MISSING_DEPENDENCY, READY

log = logging.getLogger(__name__)

State: TypeAlias = Literal["stopped", "starting", "ready", "failed"]

_KEPT_LINES = 20
_STOP_S = 1.5


class Backoff(Struct, frozen=True):
    """Seconds to wait before the next start: `first` after one failure, doubled for each more, at most `longest`. A
    child that was ready for `steady_s` has made up for earlier failures."""

    first_s: float = 0.25
    longest_s: float = 30.0
    steady_s: float = 10.0

    def pause_s(self, failures: int) -> float:
        return 0.0 if failures == 0 else min(self.longest_s, self.first_s * 2 ** min(failures - 1, 30))


class NotServing(Exception):
    """The child isn't there to serve. The message says why; `final` means that it won't be tried again."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class Supervisor:
    """One child. `run` lives as long as it is wanted; `address` may be awaited by any number of requests meanwhile."""

    def __init__(
        self,
        what: str,
        *,
        key: str,
        environ: Mapping[str, str],
        start_timeout_s: float = 60.0,
        backoff: Backoff | None = None,
    ) -> None:
        self.state: State = "stopped"
        self.pid: int | None = None
        self.starts = 0
        self._what = what
        self._key = key
        self._environ = environ
        self._start_timeout_s = start_timeout_s
        self._backoff = backoff or Backoff()
        self._address: str | None = None
        self._failure: NotServing | None = None
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)
        self._changed = asyncio.Condition()

    async def address(self) -> str:
        """The URL, waited for while the child starts for the first time or again. Raises `NotServing` when the last
        start failed, until the next one succeeds. The caller sets the deadline."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._address is not None or self._failure is not None)
            if self._address is None:
                assert self._failure is not None
                raise NotServing(str(self._failure), final=self._failure.final)
            return self._address

    async def run(self, command: Sequence[str]) -> None:
        """Start `command` and start it again whenever it ends. Returns only when that can't ever help; `address` then
        says why. Cancelling ends the child: SIGTERM, and after 1.5 s SIGKILL."""
        failures = 0
        loop = asyncio.get_running_loop()
        try:
            while True:
                began = loop.time()
                await self._tell("starting", failure=self._failure)
                failure = await self._live(command)
                lasted_s = loop.time() - began
                if failure is None:  # it was ready, and then ended
                    failures = 0 if lasted_s >= self._backoff.steady_s else failures
                    log.warning("%s ended; starting it again. Its last words: %s", self._what, self._last_words())
                else:
                    await self._tell("failed", failure=failure)
                    log.error("%s", failure)
                    if failure.final:
                        return
                await asyncio.sleep(self._backoff.pause_s(failures))
                failures += 1
        finally:
            if self.state != "failed":
                await self._tell("stopped", failure=NotServing(f"{self._what} has been stopped", final=True))

    async def fail(self, message: str, *, final: bool = False) -> None:
        """Say why there is no child, for what has to come before `run`."""
        await self._tell("failed", failure=NotServing(message, final=final))

    async def _live(self, command: Sequence[str]) -> NotServing | None:
        """One life of the child. Returns why it never got ready, or `None` if it did and then ended."""
        self._said.clear()
        self.starts += 1
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=self._environ,
                start_new_session=True,  # Ctrl-C in a terminal is for us, who may have requests to finish
            )
        except OSError as error:
            return NotServing(f"{self._what} can't be started: {error}")
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.pid = process.pid
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(process.stderr))
            try:
                with suppress(ConnectionError):  # it is gone already: its exit status says why
                    process.stdin.write(self._key.encode() + b"\n")
                    await process.stdin.drain()
                failure = None
                try:
                    async with asyncio.timeout(self._start_timeout_s):
                        line = (await process.stdout.readline()).decode(errors="replace").strip()
                        if not line.startswith(READY):
                            await process.wait()
                except TimeoutError:
                    line = ""
                if line.startswith(READY):
                    await self._tell("ready", address=line.removeprefix(READY))
                    await process.wait()
                else:
                    failure = process.returncode
            finally:
                self._address = None
                self.pid = None
                await asyncio.shield(_end(process))
        return None if line.startswith(READY) else self._never_ready(failure)

    def _never_ready(self, status: int | None) -> NotServing:
        if status is None:
            return NotServing(f"{self._what} was not ready within {self._start_timeout_s:g} s: {self._last_words()}")
        final = status == MISSING_DEPENDENCY
        return NotServing(f"{self._what} ended with status {status}: {self._last_words()}", final=final)

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        unfinished = ""
        while data := await stream.read(4096):
            *lines, unfinished = (unfinished + data.decode(errors="replace")).split("\n")
            unfinished = unfinished[-1000:]
            for line in lines:
                self._said.append(line)
                log.debug("%s: %s", self._what, line)
        if unfinished:
            self._said.append(unfinished)

    def _last_words(self) -> str:
        return " | ".join(line.strip() for line in list(self._said)[-5:] if line.strip()) or "(nothing)"

    async def _tell(self, state: State, *, address: str | None = None, failure: NotServing | None = None) -> None:
        async with self._changed:
            self.state = state
            self._address = address
            self._failure = failure
            self._changed.notify_all()


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
