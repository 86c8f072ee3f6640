"""The upstream port: connections to a provider, and the only network I/O towards it.

Nothing is retried and no redirect followed here: the attempt engine decides, by `TransportError.kind`. What one
exchange promises (cancelling closes, first bytes at once, bounded memory) is in `http1`.

Why not pyreqwest 0.15.1, the first choice: it runs a request as a detached task, so one that is cancelled before
its headers came, which is every request that doesn't stream, keeps its connection open and its provider working
until the answer is there; closing the client doesn't end it either. By handing over between two threads it also
costs twice the CPU per request and half as much again per stream. Why not aiohttp: six times the CPU per request.
The price is HTTP/2, which no provider asks for. bench/transport_soak.py measures both.
"""

import asyncio
import ssl
from base64 import b64encode
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, lru_cache
from typing import Final, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import certifi

from llmwise.providers.http1 import MAX_HEAD_BYTES, Connection, Headers, Kind, Response, TransportError

__all__ = ["MAX_BODY_BYTES", "Headers", "Kind", "Response", "Transport", "TransportError"]

MAX_BODY_BYTES: Final = 32 * 1024 * 1024


class Transport:
    """Connections to one provider, each carrying one exchange at a time and kept for the next.

    connect_timeout_s   name lookup, TCP and TLS handshake together; every other deadline is the caller's
    keep_alive_s        an idle connection is closed after this; below the usual 60 s of load balancers
    max_body_bytes      limit of a body read whole
    proxy               `http://[user:password@]host:port`, or None for direct connections. HTTP_PROXY and its
                        like in the environment are not looked at.
    tls                 None trusts the system's and certifi's authorities
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
        self._idle: dict[_Origin, deque[Connection]] = {}
        self._open: set[Connection] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(
        self, method: str, url: str, headers: Iterable[tuple[str, str]], body: bytes, *, stream: bool
    ) -> Response:
        """Send, and return with status and headers (`stream`) or with the whole body too (otherwise).

        `headers` go out as given; Host, Content-Length and the like are added here and refused there. Redirects,
        4xx and 5xx are answers like any other. Cancelling aborts the connection. Raises TransportError, or
        ValueError for a request that can't be put on the wire.
        """
        origin, head = _request_head(method, url, tuple(headers), self._proxy)
        if body or method == "POST":
            head += b"Content-Length: %d\r\n" % len(body)
        connection = self._take_idle(origin) or await self._connect(origin)
        return await connection.exchange(head + b"\r\n", body, whole=not stream, limit=self._max_body_bytes)

    async def aclose(self) -> None:
        """Abort every connection, those in use too, and refuse to `send` from now on. Drain first."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        self._idle.clear()
        for connection in tuple(self._open):
            connection.fail(TransportError("closed", "the transport was closed"))

    # What a connection tells of itself.

    def finished(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(cast(_Origin, connection.key), deque()).append(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(self._keep_alive_s, self._close_old)

    def lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        with suppress(KeyError, ValueError):
            self._idle[cast(_Origin, connection.key)].remove(connection)

    def _take_idle(self, origin: "_Origin") -> Connection | None:
        """The one used last, so that the others can grow old."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.socket.is_closing():
                return connection
        return None

    def _close_old(self) -> None:
        loop = asyncio.get_running_loop()
        expired = loop.time() - self._keep_alive_s
        oldest: float | None = None
        for origin, idle in list(self._idle.items()):
            while idle and idle[0].idle_since <= expired:
                idle.popleft().socket.abort()
            if not idle:
                del self._idle[origin]
            elif oldest is None or idle[0].idle_since < oldest:
                oldest = idle[0].idle_since
        self._sweep = None if oldest is None else loop.call_at(oldest + self._keep_alive_s, self._close_old)

    async def _connect(self, origin: "_Origin") -> Connection:
        if self._closed:
            raise TransportError("closed", "the transport is closed")
        tls = (self._tls or _default_tls()) if origin.tls else None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                if self._proxy is None:
                    connection = await self._dial(origin, Connection(self, origin), tls)
                elif tls is None:
                    connection = await self._dial(self._proxy.origin, Connection(self, origin), None)
                else:
                    connection = await self._tunnel(self._proxy, origin, tls)
        except TimeoutError as error:
            message = f"no connection to {origin.netloc} within {self._connect_timeout_s:g} s"
            raise TransportError("connect_timeout", message) from error
        except OSError as error:  # ssl.SSLError is one
            raise TransportError("connect", f"no connection to {origin.netloc}: {error}") from error
        if not connection.lost:
            self._open.add(connection)
        return connection

    async def _dial(self, peer: "_Origin", connection: Connection, tls: ssl.SSLContext | None) -> Connection:
        await asyncio.get_running_loop().create_connection(lambda: connection, peer.host, peer.port, ssl=tls)
        return connection

    async def _tunnel(self, proxy: "_Proxy", origin: "_Origin", tls: ssl.SSLContext) -> Connection:
        """TLS to the origin inside the proxy's CONNECT (RFC 9110, 9.3.6)."""
        lines = [f"CONNECT {origin.netloc} HTTP/1.1", f"Host: {origin.netloc}", *proxy.authorization, "", ""]
        plain = await self._dial(proxy.origin, Connection(_NoPool(), None), None)
        try:
            head = "\r\n".join(lines).encode("latin-1")
            response = await plain.exchange(head, b"", whole=False, limit=MAX_HEAD_BYTES)
            if response.status != 200:
                raise OSError(f"the proxy answered {response.status}")
            connection = Connection(self, origin)
            loop = asyncio.get_running_loop()
            socket = await loop.start_tls(plain.socket, connection, tls, server_hostname=origin.host)
        except BaseException:
            plain.socket.abort()
            raise
        connection.connection_made(cast(asyncio.BaseTransport, socket))
        return connection


class _NoPool:
    """Of a connection that must not carry another exchange: the one below a tunnel."""

    def finished(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class _Origin(NamedTuple):
    tls: bool
    host: str
    port: int

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Proxy(NamedTuple):
    origin: _Origin
    authorization: tuple[str, ...]


_FRAMING: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te"})


@lru_cache(maxsize=512)
def _request_head(
    method: str, url: str, headers: tuple[tuple[str, str], ...], proxy: _Proxy | None
) -> tuple[_Origin, bytes]:
    """Where to connect, and the head up to the length. Kept: a provider gets the same one again and again."""
    if method not in ("GET", "POST", "DELETE"):
        raise ValueError(f"no provider needs {method!r} (and an answer to HEAD would be framed differently)")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f"not the address of a provider: {url!r}")
    tls = parts.scheme == "https"
    origin = _Origin(tls, parts.hostname, parts.port or (443 if tls else 80))
    host = origin.netloc if parts.port else origin.netloc.rpartition(":")[0]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError(f"a path has to be percent-encoded: {url!r}")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    if proxy is not None and not tls:
        lines[0] = f"{method} http://{host}{target} HTTP/1.1"
        lines += proxy.authorization
    for name, value in headers:
        if name.lower() in _FRAMING:
            raise ValueError(f"the transport sets {name} itself")
        if not name.isascii() or not name.isprintable() or any(mark in name for mark in " :") or not name:
            raise ValueError(f"not a header's name: {name!r}")
        if any(mark in value for mark in "\r\n\0"):
            raise ValueError(f"the value of {name} holds a line break")  # the value itself may be a key
        lines.append(f"{name}: {value}")
    return origin, "\r\n".join(lines).encode("latin-1") + b"\r\n"


def _parse_proxy(url: str) -> _Proxy:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("a proxy is given as http://[user:password@]host:port")  # not echoed: it may hold a password
    authorization: tuple[str, ...] = ()
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = (f"Proxy-Authorization: Basic {b64encode(user.encode()).decode()}",)
    return _Proxy(_Origin(False, parts.hostname, parts.port or 80), authorization)


@cache
def _default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())  # slim images have no system store
    context.set_alpn_protocols(["http/1.1"])
    return context
