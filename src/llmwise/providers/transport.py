"""The upstream port: one HTTP/1.1 exchange with a provider, bytes out and bytes in, nothing understood.

Laws:

- Who leaves, closes. A `send` that fails or is cancelled aborts its connection before it returns, and so does a
  `Response` closed early: no connection lives on without an owner, and a provider stops when its caller is gone.
- Bytes are handed over as they arrive: no buffer has to fill first, and nothing is decompressed.
- Memory is bounded: a streamed body pauses its socket while the reader is behind, a whole body has a limit.
- Nothing is retried and no redirect followed here; the attempt engine decides, by `TransportError.kind`.

Framing is llhttp's (by httptools, which the server uses too), sockets and TLS are the event loop's. The HTTP/2 of
pyreqwest 0.15.1 was given up for the first law: it runs requests as detached tasks, so one that is cancelled
before its headers (all that doesn't stream) keeps its connection, and its provider working, until it answers.
bench/transport_soak.py shows that and compares the cost.
"""

import asyncio
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache
from typing import Final, Literal, NamedTuple, Self, cast
from urllib.parse import unquote, urlsplit

import certifi
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

Kind = Literal["connect", "connect_timeout", "read", "decode", "too_large", "closed", "protocol"]

MAX_BODY_BYTES: Final = 32 * 1024 * 1024
MAX_HEAD_BYTES: Final = 64 * 1024
PAUSE_BYTES: Final = 256 * 1024
"""Unread bytes of a streamed body at which its socket is no longer read; reading takes it up again."""

_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection"})


class TransportError(Exception):
    """No answer, or not all of it.

    kind
        connect          no connection: name, refused, unreachable, TLS, or the proxy said no
        connect_timeout  no connection within `connect_timeout_s` (name, TCP and TLS together)
        closed           the connection ended before the first byte of the answer, or the response was closed by us
        read             the connection ended inside the answer
        protocol         the answer is not HTTP/1.1
        decode           the answer has a content-encoding, which was not asked for
        too_large        the body is longer than the limit
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Final = kind


class Headers:
    """Response headers. Names compare without case; values are latin-1, as they came."""

    __slots__ = ("_raw",)

    def __init__(self, raw: list[tuple[bytes, bytes]]) -> None:
        self._raw = raw

    def get(self, name: str) -> str | None:
        """The first value of `name`, or None."""
        wanted = name.lower().encode("latin-1")
        return next((value.decode("latin-1") for key, value in self._raw if key.lower() == wanted), None)

    def items(self) -> list[tuple[str, str]]:
        """Every header in the order of arrival, names in lower case."""
        return [(key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in self._raw]


class Response:
    """One answer. Iterate it for chunks as they come, or `read` it whole; then, or instead, `aclose` it.

    Its connection goes back to the pool by itself with the last byte; `aclose` before that aborts it at once.
    Cancelling `anext` loses no bytes and leaves the response usable: its owner closes it (`async with`).
    """

    __slots__ = ("_connection", "_error", "_limit", "_paused", "_size", "_unread", "_waiter", "headers", "status")

    def __init__(self, connection: "_Connection", limit: int) -> None:
        self.status = 0
        self.headers = Headers([])
        self._limit = limit
        self._size = 0  # bytes of the unread parts
        self._unread: list[bytes] = []
        self._connection: _Connection | None = connection  # None once the exchange is over, either way
        self._error: TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """All bytes that came since the last call, at least one; waits for the first.

        Raises TransportError when the body ends too early, after what came of it.
        """
        while not self._unread:
            if self._error is not None:
                raise self._error
            if self._connection is None:
                raise StopAsyncIteration
            await self._progress()
        chunk = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        self._size = 0
        if self._paused and self._connection is not None:
            self._paused = False
            self._connection.socket.resume_reading()
        return chunk

    async def read(self) -> bytes:
        """The rest of the body, whole. Raises `too_large` (and aborts) past `max_body_bytes`."""
        parts: list[bytes] = []
        size = 0
        async for part in self:
            parts.append(part)
            size += len(part)
            if size > self._limit:
                await self.aclose()
                raise TransportError("too_large", f"the body is longer than {self._limit} bytes")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def aclose(self) -> None:
        """Abort the exchange if it isn't over. Idempotent, doesn't wait."""
        if self._connection is not None:
            self._connection.fail(TransportError("closed", "the response was closed before its end"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _progress(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Transport:
    """Connections to one provider's origins, each carrying one exchange at a time and kept for the next.

    connect_timeout_s   name lookup, TCP and TLS handshake together; every other deadline is the caller's
    keep_alive_s        an idle connection older than this is closed; shorter than the usual 60 s of load balancers
    max_body_bytes      limit of a body read whole
    proxy               `http://[user:password@]host:port`, or None for a direct connection. The environment's
                        HTTP_PROXY and its like are not looked at.
    tls                 None verifies against the system's and certifi's authorities
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float = 5.0,
        keep_alive_s: float = 50.0,
        max_body_bytes: int = MAX_BODY_BYTES,
        proxy: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._keep_alive_s = keep_alive_s
        self._max_body_bytes = max_body_bytes
        self._proxy = _parse_proxy(proxy) if proxy is not None else None
        self._tls = tls
        self._idle: dict[_Origin, deque[_Connection]] = {}
        self._open: set[_Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(
        self, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes, *, stream: bool
    ) -> Response:
        """Send, and return with status and headers (`stream`) or with the whole body (otherwise).

        `headers` go out as given; Host, Content-Length and Connection are added here and refused there. Redirects,
        4xx and 5xx are answers like any other. Raises TransportError, or ValueError for a request that can't be
        put on the wire.
        """
        target = _parse_url(url)
        head = self._head(method, target, headers, len(body))
        connection = self._take_idle(target.origin) or await self._connect(target.origin)
        response = Response(connection, self._max_body_bytes)
        connection.start(response, head, body, whole=not stream)
        try:
            while response._connection is not None and not (stream and response.status):
                await response._progress()
        except BaseException:
            await response.aclose()
            raise
        if response._error is not None and not (stream and response.status):
            raise response._error
        if (encoding := response.headers.get("content-encoding")) not in (None, "identity"):
            await response.aclose()
            raise TransportError("decode", f"the answer is encoded as {encoding!r}, which was not asked for")
        return response

    async def aclose(self) -> None:
        """Abort every connection, those in use too: wait for running responses first. `send` refuses from now on."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in tuple(self._open):
            connection.fail(TransportError("closed", "the transport was closed"))
        self._idle.clear()

    def _head(self, method: str, target: "_Target", headers: Iterable[tuple[str, str]], length: int) -> bytes:
        pairs = list(headers)
        names = {name.lower() for name, _ in pairs}
        if not names.isdisjoint(_FRAMING):
            raise ValueError(f"the transport sets {', '.join(sorted(names & _FRAMING))} itself")
        if method not in ("GET", "POST", "DELETE"):
            raise ValueError(f"no provider needs {method!r}, and HEAD would be framed differently")
        lines = [f"{method} {target.path} HTTP/1.1", f"Host: {target.host}"]
        if self._proxy is not None and not target.origin.tls:
            lines[0] = f"{method} http://{target.host}{target.path} HTTP/1.1"
            lines += self._proxy.authorization
        if length or method == "POST":
            lines.append(f"Content-Length: {length}")
        lines += [f"{name}: {value}" for name, value in pairs]
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
            raise ValueError("a header holds a line break")
        return text.encode("latin-1") + b"\r\n\r\n"

    def _take_idle(self, origin: "_Origin") -> "_Connection | None":
        """The connection used last: the others get a chance to grow old."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.socket.is_closing():
                return connection
        return None

    async def _connect(self, origin: "_Origin") -> "_Connection":
        if self._closed:
            raise TransportError("closed", "the transport is closed")
        proxy = self._proxy
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                if proxy is None:
                    return await self._dial(origin, origin, self._tls_for(origin))
                connection = await self._dial(origin, proxy.origin, None)
                return await self._tunnel(connection, proxy) if origin.tls else connection
        except TimeoutError as error:
            raise TransportError(
                "connect_timeout", f"no connection to {origin.netloc} within {self._connect_timeout_s:g} s"
            ) from error
        except (OSError, ssl.SSLError) as error:
            raise TransportError("connect", f"no connection to {origin.netloc}: {error}") from error

    async def _dial(self, origin: "_Origin", peer: "_Origin", tls: ssl.SSLContext | None) -> "_Connection":
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self, origin), peer.host, peer.port, ssl=tls
        )
        return connection

    async def _tunnel(self, plain: "_Connection", proxy: "_Proxy") -> "_Connection":
        """TLS to the origin through the proxy's CONNECT (RFC 9110, 9.3.6)."""
        origin = plain.origin
        lines = [f"CONNECT {origin.netloc} HTTP/1.1", f"Host: {origin.netloc}", *proxy.authorization]
        response = Response(plain, MAX_HEAD_BYTES)
        plain.start(response, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", b"", whole=False)
        try:
            while response._connection is not None and not response.status:
                await response._progress()
            if response.status != 200:
                raise response._error or OSError(f"the proxy answered {response.status}")
            connection = _Connection(self, origin)
            connection.connection_made(
                cast(
                    asyncio.Transport,
                    await asyncio.get_running_loop().start_tls(
                        plain.socket, connection, cast(ssl.SSLContext, self._tls_for(origin)), server_hostname=origin.host
                    ),
                )
            )
        except BaseException:
            await response.aclose()
            raise
        self._open.discard(plain)
        return connection

    def _tls_for(self, origin: "_Origin") -> ssl.SSLContext | None:
        if not origin.tls:
            return None
        return self._tls or _default_tls()

    def _keep(self, connection: "_Connection") -> None:
        self._idle.setdefault(connection.origin, deque()).append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._keep_alive_s, self._close_old)

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        oldest_kept = loop.time() - self._keep_alive_s
        for idle in self._idle.values():
            while idle and (idle[0].idle_since <= oldest_kept or idle[0].socket.is_closing()):
                idle.popleft().socket.abort()
        since = min((idle[0].idle_since for idle in self._idle.values() if idle), default=None)
        self._sweep = None if since is None else loop.call_at(since + self._keep_alive_s, self._close_old)


class _Connection(asyncio.Protocol):
    """A socket, its parser, and the exchange it carries now, if any."""

    def __init__(self, transport: Transport, origin: "_Origin") -> None:
        self.origin: Final = origin
        self.idle_since = 0.0
        self._pool = transport
        self._response: Response | None = None
        self._parser = HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.socket = cast(asyncio.Transport, transport)
        self._pool._open.add(self)

    def start(self, response: Response, head: bytes, body: bytes, *, whole: bool) -> None:
        self._response = response
        self._whole = whole
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._over = False
        self._reusable = False
        self.socket.write(head + body if len(body) <= PAUSE_BYTES else head)
        if len(body) > PAUSE_BYTES:
            self.socket.write(body)

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            self.socket.abort()  # an answer to nothing: whatever follows can't be trusted
            return
        if not response.status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._reusable = False
            if not self._over:
                self.fail(TransportError("protocol", f"not an HTTP/1.1 answer: {error}"), error)
                return
        if self._over:
            self._finish(response)
        elif not response.status and self._head_bytes > MAX_HEAD_BYTES:
            self.fail(TransportError("protocol", f"the headers are longer than {MAX_HEAD_BYTES} bytes"))
        elif self._whole:
            if response._size > response._limit:
                self.fail(TransportError("too_large", f"the body is longer than {response._limit} bytes"))
        else:
            if response._size > PAUSE_BYTES and not response._paused:
                response._paused = True
                self.socket.pause_reading()
            response._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool._open.discard(self)
        response = self._response
        if response is None:
            with suppress(KeyError, ValueError):
                self._pool._idle[self.origin].remove(self)
        elif not response.status:
            self.fail(TransportError("closed", f"closed before the answer{_because(exc)}"), exc)
        elif exc is None and _ends_with_connection(response.headers):
            self._finish(response)
        else:
            self.fail(TransportError("read", f"closed inside the answer{_because(exc)}"), exc)

    def fail(self, error: TransportError, cause: BaseException | None = None) -> None:
        """End the exchange with `error`, and the connection with it."""
        response, self._response = self._response, None
        self.socket.abort()
        if response is not None:
            error.__cause__ = cause
            response._error = error
            response._connection = None
            response._wake()

    def _finish(self, response: Response) -> None:
        self._response = None
        response._connection = None
        response._wake()
        if not self._reusable or self._pool._closed or self.socket.is_closing():
            self.socket.abort()
            return
        if response._paused:
            self.socket.resume_reading()
        self.idle_since = asyncio.get_running_loop().time()
        self._pool._keep(self)

    # What the parser calls, in this order; a trailer comes as a header after the body.

    def on_message_begin(self) -> None:
        if self._over:
            raise ValueError("a second answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        response = self._response
        status = self._parser.get_status_code()
        if status < 200 or response is None:
            self._headers = []  # an interim answer (100, 103): the real one follows
            return
        response.status = status
        response.headers = Headers(self._headers)
        self._headers = []

    def on_body(self, data: bytes) -> None:
        response = self._response
        if response is not None:
            response._size += len(data)
            response._unread.append(data)

    def on_message_complete(self) -> None:
        if self._response is not None and self._response.status:
            self._over = True
            self._reusable = self._parser.should_keep_alive()


class _Origin(NamedTuple):
    tls: bool
    host: str
    port: int

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Target(NamedTuple):
    origin: _Origin
    host: str
    """The Host header: the port left out when it is the scheme's own."""
    path: str


class _Proxy(NamedTuple):
    origin: _Origin
    authorization: list[str]


@lru_cache(maxsize=1024)
def _parse_url(url: str) -> _Target:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f"not an address of a provider: {url!r}")
    origin = _Origin(parts.scheme == "https", parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError(f"the path has to be percent-encoded: {url!r}")
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    return _Target(origin, host if parts.port is None else f"{host}:{origin.port}", path)


def _parse_proxy(url: str) -> _Proxy:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError(f"a proxy is given as http://[user:password@]host:port, not {url!r}")
    authorization = []
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = [f"Proxy-Authorization: Basic {b64encode(user.encode()).decode()}"]
    return _Proxy(_Origin(False, parts.hostname, parts.port or 80), authorization)


@cache
def _default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # slim images have no system store
    context.set_alpn_protocols(["http/1.1"])
    return context


def _ends_with_connection(headers: Headers) -> bool:
    """Neither length nor chunks announce the body's end (RFC 9112, 6.3, case 8)."""
    return headers.get("content-length") is None and headers.get("transfer-encoding") is None


def _because(exc: BaseException | None) -> str:
    return f": {exc}" if exc is not None else ""
