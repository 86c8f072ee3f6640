"""Events to server-sent events: headers with the first bytes, a comment while a provider thinks, an explicit end.

Before the first bytes an error is a status; after them it is an event, and the stream still ends cleanly. A caller that
leaves cancels the request: at a server that tells of it at once (`api.protocol`) by cancelling the task, elsewhere by
watching for the disconnect.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol, TypeVar

from llmwise.api.http import Headers, Receive, Scope, Send
from llmwise.domain.errors import GatewayError, InternalError

log = logging.getLogger(__name__)

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHE = (b"cache-control", b"no-cache")
NO_BUFFERING = (b"x-accel-buffering", b"no")
"""Asks nginx, and what follows its example, to pass each event on at once."""

KEEP_ALIVE = b": keep-alive\n\n"


class Renderer(Protocol[T_contra]):
    """One dialect's way to say a stream. Bytes may be empty: nothing to say yet."""

    def render(self, batch: T_contra, /) -> bytes: ...

    def end(self) -> bytes:
        """What follows the last event of a stream that succeeded."""
        ...

    def fail(self, error: GatewayError) -> bytes:
        """What ends a stream that has begun and failed."""
        ...


async def stream(
    send: Send,
    batches: AsyncGenerator[T, None],
    renderer: Renderer[T],
    headers: Callable[[], Headers],
    *,
    heartbeat_s: float,
    keep_alive: bytes = KEEP_ALIVE,
) -> None:
    """Send what a run of the engine yields, or several at once, as server-sent events. Raises the `GatewayError` that
    came before there was anything to say; then nothing was sent."""
    started = False
    heart: Heartbeat | None = None
    try:
        async with aclosing(batches):
            async for batch in batches:
                data = renderer.render(batch)
                if not data:
                    continue
                if heart is None:
                    await send({"type": "http.response.start", "status": 200, "headers": headers()})
                    started = True
                    heart = Heartbeat(send, heartbeat_s, keep_alive)
                heart.beat()
                await send({"type": "http.response.body", "body": data, "more_body": True})
        data = renderer.end()
    except GatewayError as error:
        if not started:
            raise
        data = renderer.fail(error)
    except Exception as error:
        if not started:
            raise
        log.exception("a defect while a stream was on its way")
        data = renderer.fail(InternalError(f"a defect in the gateway ({type(error).__name__}); its log says more"))
    finally:
        if heart is not None:
            heart.stop()
    if not started:
        await send({"type": "http.response.start", "status": 200, "headers": headers()})
    await send({"type": "http.response.body", "body": data})


class Heartbeat:
    """Sends a comment when nothing was sent for `interval_s`, so that no proxy in between takes the stream for dead.

    One timer for the whole stream, which looks at the time of the last write when it fires: a write costs a clock read.
    """

    def __init__(self, send: Send, interval_s: float, comment: bytes) -> None:
        self._send = send
        self._interval_s = interval_s
        self._comment = comment
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(interval_s, self._check)
        self._task: asyncio.Task[None] | None = None

    def beat(self) -> None:
        self._last = self._loop.time()

    def stop(self) -> None:
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _check(self) -> None:
        due = self._last + self._interval_s
        if self._loop.time() >= due and (self._task is None or self._task.done()):
            self._task = self._loop.create_task(self._write())
            self.beat()
            due = self._last + self._interval_s
        self._timer = self._loop.call_at(due, self._check)

    async def _write(self) -> None:
        with contextlib.suppress(OSError):  # the caller has left: the main task is told of it by itself
            await self._send({"type": "http.response.body", "body": self._comment, "more_body": True})


class CallerWatch:
    """Cancels the current task as soon as the caller leaves, whatever it waits for, until `stop`."""

    __slots__ = ("_connection", "_watcher")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._watcher: asyncio.Task[None] | None = None
        self._connection = scope.get("llmwise.connection")
        if self._connection is not None:
            self._connection.on_disconnect(task.cancel)
        else:
            self._watcher = asyncio.create_task(_cancel_when_gone(receive, task))

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.on_disconnect(None)
        elif self._watcher is not None:
            self._watcher.cancel()


async def _cancel_when_gone(receive: Receive, task: "asyncio.Task[object]") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()
