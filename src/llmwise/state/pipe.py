"""One connection's worth of questions to Valkey: what is asked in one turn of the loop goes in one round trip.

    ask    a script's answer, or `None` when there is none in time
    tell   a script that must run once Valkey can: kept, in its order, while it is away

A batch has `timeout_s`. When it is over, or the connection is, everybody who asks is told so at once, and nobody waits
again until `resume`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

log = logging.getLogger(__name__)

MAX_BATCH = 256
MAX_KEPT = 200_000
"""What is to be told while Valkey is away, at most (about 100 MB); then the newest is not kept, and said so."""

SLICES = 10

SCRIPTS = {file.stem: file.read_text() for file in (Path(__file__).parent / "scripts").glob("*.lua")}

FAILURES = (RedisError, OSError, TimeoutError)


class _Order(Struct):
    script: str
    arguments: tuple[str | int, ...]
    answer: "asyncio.Future[Any] | None"
    told: Callable[[Any], None] | None = None


class Pipe:
    """`lost` is called once when Valkey stops answering."""

    def __init__(self, client: "Redis", timeout_s: float, lost: Callable[[Exception], None]) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._lost = lost
        self._shas: dict[str, str] = {}
        self._queue: deque[_Order] = deque()
        self._wake = asyncio.Event()
        self._open = False
        self._busy = False
        self.dropped = 0

    async def ask(self, script: str, *arguments: str | int) -> Any:
        if not self._open:
            return None
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(_Order(script, arguments, answer))
        self._wake.set()
        return await answer

    def tell(self, script: str, *arguments: str | int, told: Callable[[Any], None] | None = None) -> None:
        """`told` is called with the answer, when there is one."""
        if len(self._queue) >= MAX_KEPT:
            if not self.dropped:
                log.error("more than %d settlements wait for the shared state; it will miss the rest", MAX_KEPT)
            self.dropped += 1
            return
        self._queue.append(_Order(script, arguments, None, told))
        self._wake.set()

    async def resume(self) -> None:
        """Valkey answers (again): load the scripts, and go on with what was kept. Raises one of `FAILURES`."""
        for name, text in SCRIPTS.items():
            self._shas[name] = await bounded(self._client.script_load(text), self._timeout_s)
        self._open = True
        self._wake.set()

    def suspend(self) -> None:
        """Ask no more. Who is waiting is told that there is no answer."""
        self._open = False
        kept = [order for order in self._queue if order.answer is None]
        for order in self._queue:
            if order.answer is not None and not order.answer.done():
                order.answer.set_result(None)
        self._queue = deque(kept)

    async def drain(self) -> None:
        """Until all is told, or Valkey is away."""
        while self._open and (self._queue or self._busy):  # noqa: ASYNC110  # at the end of the process only
            await asyncio.sleep(0.005)

    async def run(self) -> None:
        """Send what is queued, until cancelled."""
        while True:
            if not self._queue or not self._open:
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = [self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))]
            self._busy = True
            try:
                replies = await self._send(batch)
            except FAILURES as error:
                self._queue.extendleft(reversed(batch))
                self.suspend()
                self._lost(error)
            else:
                for order, reply in zip(batch, replies, strict=True):
                    self._deliver(order, reply)
            finally:
                self._busy = False

    async def _send(self, batch: list[_Order]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for order in batch:
            pipeline.evalsha(self._shas[order.script], 0, *order.arguments)
        replies: list[Any] = await bounded(pipeline.execute(raise_on_error=False), self._timeout_s)
        for reply in replies:
            if isinstance(reply, NoScriptError):  # it has forgotten everything: it was started anew
                raise reply
        return replies

    def _deliver(self, order: _Order, reply: Any) -> None:
        if isinstance(reply, Exception):
            log.error("the shared state refused %s: %s", order.script, reply)
            reply = None
        if order.answer is not None and not order.answer.done():
            order.answer.set_result(reply)
        elif order.told is not None and reply is not None:
            order.told(reply)


async def bounded(call: Any, timeout_s: float) -> Any:
    """`call`'s result, or `TimeoutError`. The time is as this process's loop lives it: it is waited for in slices, and
    one that took longer because the loop was busy elsewhere counts as one. A busy process is not a slow Valkey."""
    task = asyncio.ensure_future(call)
    try:
        for _ in range(SLICES):
            await asyncio.wait([task], timeout=timeout_s / SLICES)
            if task.done():
                return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=timeout_s)
    raise TimeoutError(f"no answer within {timeout_s * 1000:g} ms")
