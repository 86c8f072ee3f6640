"""uvicorn's HTTP protocol with three things it lacks: a time for a request's headers, a bound on their size, and word
of a caller that leaves at the moment it leaves."""

import asyncio
import http.client
from collections.abc import Callable
from typing import Any

from msgspec.json import encode
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

def protocol(header_read_s: float, max_header_bytes: int) -> type[HttpToolsProtocol]:
    """The protocol class with these bounds."""
    too_slow = _refusal(
        408, "header_timeout", f"the headers did not come within {header_read_s:g} s ([server] header_read_s)"
    )
    too_large = _refusal(
        431, "headers_too_large", f"the headers are over {max_header_bytes} bytes ([server] max_header_bytes); send less"
    )

    class GatewayProtocol(HttpToolsProtocol):
        """One connection. `_header_bytes` is `None` while no headers are being read."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._header_timer: asyncio.TimerHandle | None = None
            self._header_bytes: int | None = None
            self._gone: Callable[[], object] | None = None

        def on_disconnect(self, callback: Callable[[], object] | None) -> None:
            """Call `callback` when the connection is lost; `None` forgets it."""
            self._gone = callback
            if callback is not None and self.transport.is_closing():
                callback()

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._headers_done()
            super().connection_lost(exc)
            if self._gone is not None:
                self._gone()

        def data_received(self, data: bytes) -> None:
            if self._header_bytes is not None:
                if self._header_bytes > max_header_bytes:  # and the headers have not ended in the reads before
                    self._end(too_large)
                    return
                self._header_bytes += len(data)
            super().data_received(data)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["llmwise.connection"] = self  # type: ignore[typeddict-unknown-key]  # ours, for `streaming`
            if self._header_bytes is None:  # a further request on a kept connection
                self._await_headers()

        def on_headers_complete(self) -> None:
            self._headers_done()
            super().on_headers_complete()

        def _await_headers(self) -> None:
            self._header_bytes = 0
            self._header_timer = self.loop.call_later(header_read_s, self._too_slow)

        def _headers_done(self) -> None:
            self._header_bytes = None
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None

        def _too_slow(self) -> None:
            self._end(too_slow if self._header_bytes else b"")  # one that said nothing is told nothing

        def _end(self, answer: bytes) -> None:
            self._headers_done()
            if not self.transport.is_closing():
                self.transport.write(answer)
                self.transport.close()

    return GatewayProtocol


def _refusal(status: int, code: str, error: str) -> bytes:
    """A whole answer before there is a request to answer: the native error body, without a request's id."""
    body = encode({"error": error, "code": code, "status_code": status})
    head = f"HTTP/1.1 {status} {http.client.responses[status]}\r\nconnection: close\r\ncontent-type: application/json"
    return f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
