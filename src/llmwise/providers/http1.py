"""One HTTP/1.1 exchange on one socket: a request's bytes out, the answer's bytes in, nothing understood.

Laws:

- Who leaves, closes. An `exchange` that fails or is cancelled aborts its socket before it returns, and so does a
  `Response` closed early: no socket lives on without an owner, and a provider stops when its caller is gone.
- Bytes are handed over as they arrive: no buffer has to fill first, and nothing is decompressed.
- Memory is bounded: a streamed body pauses its socket while the reader is behind, a whole body has a limit.

Framing is llhttp's (by httptools, which the server uses too); sockets and TLS are the event loop's.
"""

import asyncio
from typing import Final, Literal, Protocol, Self, TypeAlias, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

Kind: TypeAlias = Literal["connect", "connect_timeout", "closed", "read", "protocol", "decode", "too_large"]

MAX_HEAD_BYTES: Final = 64 * 1024
PAUSE_BYTES: Final = 256 * 1024
"""Unread bytes of a streamed body at which its socket isn't read any more; reading them takes it up again."""


class TransportError(Exception):
    """No answer, or not all of it.

    kind
        connect          no connection: name, refused, unreachable, TLS, or the proxy said no
        connect_timeout  no connection in time (name, TCP and TLS together)
        closed           the connection ended before the first byte of the answer, or we closed it ourselves
        read             the connection ended inside the answer
        protocol         the answer is not HTTP/1.1
        decode           the answer has a content-encoding, which was not asked for
        too_large        the body is longer than the limit
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Final = kind


class Headers:
    """Headers of an answer. Names compare without case; values are latin-1, as they came."""

    __slots__ = ("_raw",)

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._raw = raw

    def get(self, name: str) -> str | None:
        """The first value of `name`, or None."""
        wanted = name.lower().encode("latin-1")
        for key, value in self._raw:
            if len(key) == len(wanted) and key.lower() == wanted:
                return value.decode("latin-1")
        return None

    def items(self) -> list[tuple[str, str]]:
        """Every header in the order of arrival, names in lower case."""
        return [(key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in self._raw]


class Response:
    """One answer. Iterate it for chunks as they come, or `read` it whole; then, or instead, `aclose` it.

    Its connection goes back to the pool by itself with the last byte; `aclose` before that aborts it at once.
    Cancelling `anext` loses no bytes and leaves the response usable, so its owner has to close it (`async with`).
    """

    __slots__ = (
        "_connection",
        "_error",
        "_limit",
        "_paused",
        "_unread",
        "_unread_bytes",
        "_waiter",
        "headers",
        "status",
    )

    def __init__(self, connection: "Connection", limit: int) -> None:
        self.status = 0  # until the headers are there
        self.headers = _NO_HEADERS
        self._limit = limit
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._connection: Connection | None = connection  # None once the exchange is over, either way
        self._error: TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """All bytes that came since the last call, at least one; waits for the first.

        Raises TransportError when the body ends too early, once all that came of it was handed over.
        """
        while not self._unread:
            if self._error is not None:
                raise self._error
            if self._connection is None:
                raise StopAsyncIteration
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        chunk = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        if self._paused and self._connection is not None:
            self._paused = False
            self._connection.socket.resume_reading()
        return chunk

    async def read(self) -> bytes:
        """The rest of the body, whole. Raises `too_large`, and aborts, past the limit."""
        parts: list[bytes] = []
        size = 0
        async for part in self:
            parts.append(part)
            size += len(part)
            if size > self._limit:
                await self.aclose()
                raise _too_large(self._limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        """Abort the exchange if it isn't over. Idempotent, doesn't wait."""
        if self._connection is not None:
            self._connection.fail(TransportError("closed", "the response was closed before its end"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _news(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Pool(Protocol):
    """Whom a connection tells of itself."""

    def finished(self, connection: "Connection") -> None:
        """It may carry the next exchange."""

    def lost(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """A socket, its parser, and the exchange it carries now, if any. `key` says to the pool where it leads.

    While it is being made it belongs to the event loop, which may give it up (uvloop then doesn't call
    `connection_lost`): a pool counts it once it has it in hand and `lost` is false.
    """

    def __init__(self, pool: Pool, key: object) -> None:
        self.key: Final = key
        self.lost = False
        self.idle_since = 0.0  # loop time
        self._pool = pool
        self._response: Response | None = None
        self._parser = HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []

    async def exchange(self, head: bytes, body: bytes, *, whole: bool, limit: int) -> Response:
        """Send, and return with status and headers, or with the whole body too. `limit` is the body's, in bytes."""
        if self.lost:
            raise TransportError("closed", "the connection ended before the request")
        self._response = response = Response(self, limit)
        self._whole = whole
        self._head_bytes = 0
        self._encoding: bytes | None = None
        self._over = self._reusable = False
        if len(body) <= PAUSE_BYTES:
            self.socket.write(head + body)
        else:
            self.socket.write(head)
            self.socket.write(body)
        try:
            while response._connection is not None and (whole or not response.status):
                await response._news()
        except BaseException:
            await response.aclose()
            raise
        if response._error is not None and (whole or not response.status):
            raise response._error
        return response

    def fail(self, error: TransportError, cause: BaseException | None = None) -> None:
        """End the exchange with `error`, and the connection with it."""
        response, self._response = self._response, None
        self.socket.abort()
        if response is not None:
            error.__cause__ = cause
            response._error = error
            response._connection = None
            response._wake()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.socket.abort()  # an answer to nothing: what follows can't be told from the next one's
            return
        if not response.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._over:
                self.fail(TransportError("protocol", f"not an HTTP/1.1 answer: {error}"), error)
                return
            self._reusable = False
        if self._encoding is not None and not response.status:
            message = f"the answer is encoded as {self._encoding.decode('latin-1')!r}, which was not asked for"
            self.fail(TransportError("decode", message))
        elif self._whole and response._unread_bytes > response._limit:
            self.fail(_too_large(response._limit))
        elif self._over:
            self._finish(response)
        elif response.status:
            if not self._whole:
                if response._unread_bytes > PAUSE_BYTES and not response._paused:
                    response._paused = True
                    self.socket.pause_reading()
                response._wake()
        elif self._head_bytes > MAX_HEAD_BYTES:
            self.fail(TransportError("protocol", f"the headers are longer than {MAX_HEAD_BYTES} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._pool.lost(self)
        response = self._response
        if response is None:
            return
        if exc is None and response.status and _ends_with_connection(response.headers):
            self._finish(response)
            return
        because = f": {exc}" if exc is not None else ""
        if response.status:
            self.fail(TransportError("read", f"the connection ended inside the answer{because}"), exc)
        else:
            self.fail(TransportError("closed", f"the connection ended before the answer{because}"), exc)

    def _finish(self, response: Response) -> None:
        self._response = None
        response._connection = None
        response._wake()
        if self._reusable and not self.socket.is_closing():
            if response._paused:
                self.socket.resume_reading()
            self._pool.finished(self)
        else:
            self.socket.abort()

    # What the parser calls, in this order. After an interim answer (100, 103) it starts anew.

    def on_message_begin(self) -> None:
        if self._over:
            raise ValueError("a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        if len(name) == 16 and name.lower() == b"content-encoding" and value.lower() != b"identity":
            self._encoding = value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200 and self._response is not None and self._encoding is None:
            self._response.status = status
            self._response.headers = Headers(self._headers)
        self._headers = []

    def on_body(self, data: bytes) -> None:
        response = self._response
        if response is not None:
            response._unread.append(data)
            response._unread_bytes += len(data)

    def on_message_complete(self) -> None:
        self._headers = []  # trailers
        if self._response is not None and self._response.status:
            self._over = True
            self._reusable = self._parser.should_keep_alive()


_NO_HEADERS: Final = Headers([])


def _too_large(limit: int) -> TransportError:
    return TransportError("too_large", f"the body is longer than {limit} bytes")


def _ends_with_connection(headers: Headers) -> bool:
    """Neither a length nor chunks announce the body's end (RFC 9112, 6.3, case 8)."""
    return headers.get("content-length") is None and headers.get("transfer-encoding") is None
