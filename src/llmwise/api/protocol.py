"""uvicorn's HTTP protocol with four things it lacks: a time for a request's headers, a bound on their size, word of a
caller that leaves at the moment it leaves, and one write for an answer's head and its first bytes."""

import asyncio
import http.client
from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec.json import encode
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def protocol(header_read_s: float, max_header_bytes: int, write_s: float) -> "partial[GatewayProtocol]":
    """What makes a connection's protocol, with these bounds. It can be sent to a worker process."""
    return partial(GatewayProtocol, header_read_s=header_read_s, max_header_bytes=max_header_bytes, write_s=write_s)


class GatewayProtocol(HttpToolsProtocol):
    """One connection. `_header_bytes` is `None` while no headers are being read."""

    def __init__(self, *args: Any, header_read_s: float, max_header_bytes: int, write_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_read_s = header_read_s
        self._max_header_bytes = max_header_bytes
        self._write_s = write_s
        self._write_timer: asyncio.TimerHandle | None = None
        self._header_timer: asyncio.TimerHandle | None = None
        self._header_bytes: int | None = None
        self._gone: Callable[[], object] | None = None

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        """Call `callback` when the connection is lost; `None` forgets it."""
        self._gone = callback
        if callback is not None and self.transport.is_closing():
            callback()

    @property
    def body_is_here(self) -> bool:
        """The request under way has been read whole: `receive` answers at once."""
        return not self.cycle.more_body

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._writing = _Writing(self.loop, transport)
        self._header_bytes = 0
        self._header_timer = self.loop.call_later(self._header_read_s, self._too_slow)

    def pause_writing(self) -> None:
        super().pause_writing()
        # A caller that stops reading would hold its request, and the provider's call, for ever.
        self._write_timer = self.loop.call_later(self._write_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._may_write()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_done()
        self._may_write()
        super().connection_lost(exc)
        if self._gone is not None:
            self._gone()

    def data_received(self, data: bytes) -> None:
        self._receive(data)
        # Most requests' headers come in one read, and then no timer is needed.
        if self._header_bytes is not None and self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self._header_read_s, self._too_slow)

    def _receive(self, data: bytes) -> None:
        if self._header_bytes is not None:
            most = self._max_header_bytes
            if self._header_bytes > most:  # and the headers have not ended in the reads before
                text = f"the headers are over {most} bytes ([server] max_header_bytes); send less"
                self._end(_refusal(431, "headers_too_large", text))
                return
            self._header_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["llmwise.connection"] = self  # type: ignore[typeddict-unknown-key]  # ours, for `streaming`
        if self._header_bytes is None:  # a further request on a kept connection
            self._header_bytes = 0

    def on_headers_complete(self) -> None:
        self._headers_done()
        super().on_headers_complete()
        self.cycle.transport = self._writing  # type: ignore[assignment]  # all that a cycle uses of it

    def _may_write(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _headers_done(self) -> None:
        self._header_bytes = None
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _too_slow(self) -> None:
        text = f"the headers did not come within {self._header_read_s:g} s ([server] header_read_s)"
        # One that said nothing is told nothing.
        self._end(_refusal(408, "header_timeout", text) if self._header_bytes else b"")

    def _end(self, answer: bytes) -> None:
        self._headers_done()
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


class _Writing:
    """A connection as an answer sees it: the head waits for the first bytes behind it, at most until the loop's next
    turn. That is a system call less, and the caller wakes up once instead of twice."""

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


def _refusal(status: int, code: str, error: str) -> bytes:
    """A whole answer before there is a request to answer: the native error body, without a request's id."""
    body = encode({"error": error, "code": code, "status_code": status})
    head = f"HTTP/1.1 {status} {http.client.responses[status]}\r\nconnection: close\r\ncontent-type: application/json"
    return f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
