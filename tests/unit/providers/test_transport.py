"""The upstream port against a raw server on loopback: real sockets, scripted bytes, both event loops."""

import asyncio
import datetime
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from llmwise.providers.http1 import PAUSE_BYTES, Connection
from llmwise.providers.transport import Response, Transport, TransportError

pytestmark = pytest.mark.anyio

JSON = [("content-type", "application/json")]
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """The next request, head and body. Raises IncompleteReadError when the client left instead."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        return head + await self._reader.readexactly(int(fields.get(b"content-length", b"0")))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed or reset the connection."""
        try:
            while await self._reader.read(65536):
                pass
        except ConnectionError:
            pass


Script = Callable[[Peer], Awaitable[None]]


class Upstream:
    """A server that runs `script` for each connection and closes it afterwards."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self.connections = 0
        self.open = 0
        self.failure: BaseException | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> "Upstream":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/v1/chat?x=1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.all_closed()
        await self._server.wait_closed()
        if self.failure is not None:
            raise self.failure

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._count(+1)
        try:
            await self._script(Peer(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        except AssertionError as error:
            self.failure = error
        finally:
            writer.transport.abort()
            await self._count(-1)

    async def _count(self, change: int) -> None:
        async with self._changed:
            self.connections += change > 0
            self.open += change
            self._changed.notify_all()

    async def all_closed(self) -> None:
        async with asyncio.timeout(5), self._changed:
            await self._changed.wait_for(lambda: self.open == 0)


@asynccontextmanager
async def transport(**options: Any) -> AsyncIterator[Transport]:
    """A transport that must have no connection left in the end."""
    it = Transport(**options)
    yield it
    await it.aclose()
    async with asyncio.timeout(5):
        while it._open:  # noqa: ASYNC110  a socket's closing is told by the loop, one turn later
            await asyncio.sleep(0)


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def always(*parts: bytes) -> Script:
    """Each request gets the same bytes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for part in parts:
                await peer.send(part)

    return script


def once(*parts: bytes) -> Script:
    """The first request gets these bytes and the end of the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        for part in parts:
            await peer.send(part)
        peer.writer.write_eof()

    return script


async def post(via: Transport, url: str, *, stream: bool = False, body: bytes = b"{}") -> Response:
    return await via.send("POST", url, JSON, body, stream=stream)


async def fails(awaited: Awaitable[object]) -> TransportError:
    with pytest.raises(TransportError) as caught:
        await awaited
    return caught.value


# What goes out and comes in


async def test_the_request_is_what_was_asked_for_and_no_more() -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.request())
        await peer.send(answer(b"ok"))
        got.append(await peer.request())
        await peer.send(answer(b"ok"))

    async with Upstream(script) as up, transport() as via:
        await via.send("POST", up.url, [("Authorization", "Bearer k"), ("x-a", "é")], b'{"a":1}', stream=False)
        await via.send("GET", f"http://127.0.0.1:{up.port}", [], b"", stream=False)
    post_head = f"POST /v1/chat?x=1 HTTP/1.1\r\nHost: 127.0.0.1:{up.port}\r\nAuthorization: Bearer k\r\nx-a: é\r\n"
    assert got == [
        post_head.encode("latin-1") + b'Content-Length: 7\r\n\r\n{"a":1}',
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{up.port}\r\n\r\n".encode(),
    ]


async def test_a_whole_answer() -> None:
    async with (
        Upstream(always(answer(b"[1]", "429 Slow", "Retry-After: 3", "X-A: 1", "x-a: 2"))) as up,
        transport() as via,
    ):
        got = await post(via, up.url)
        assert (got.status, await got.read()) == (429, b"[1]")
        assert [got.headers.get(name) for name in ("retry-after", "X-a", "none")] == ["3", "1", None]
        assert got.headers.items() == [("retry-after", "3"), ("x-a", "1"), ("x-a", "2"), ("content-length", "3")]


async def test_a_large_request_body_arrives_whole() -> None:
    body = bytes(range(256)) * 20_000

    async def script(peer: Peer) -> None:
        assert (await peer.request()).endswith(b"\r\n\r\n" + body)
        await peer.send(answer(b"ok"))

    async with Upstream(script) as up, transport() as via:
        assert await (await post(via, up.url, body=body)).read() == b"ok"


async def test_a_chunk_is_handed_over_before_the_next_one_is_sent() -> None:
    seen = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(EVENTS)
        for part in (b"a", b"b", b"c"):
            await seen.acquire()
            await peer.send(chunk(part))
        await seen.acquire()
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with Upstream(script) as up, transport() as via, asyncio.timeout(5):
        response = await post(via, up.url, stream=True)
        assert response.status == 200
        seen.release()
        parts = []
        async for part in response:
            parts.append(part)
            seen.release()
        assert parts == [b"a", b"b", b"c"]


async def test_bytes_that_trickle_in_one_at_a_time() -> None:
    whole = EVENTS + chunk(b"data: 1\n\n") + chunk(b"data: 2\n\n") + b"0\r\n\r\n"
    async with Upstream(always(*(whole[i : i + 1] for i in range(len(whole))))) as up, transport() as via:
        for stream in (True, False):
            assert await (await post(via, up.url, stream=stream)).read() == b"data: 1\n\ndata: 2\n\n"
        assert up.connections == 1


@pytest.mark.parametrize("interim", ["100 Continue", "103 Early Hints"])
async def test_an_interim_answer_is_passed_over(interim: str) -> None:
    async with (
        Upstream(always(f"HTTP/1.1 {interim}\r\nLink: x\r\n\r\n".encode(), answer(b"ok"))) as up,
        transport() as via,
    ):
        for _ in range(2):
            got = await post(via, up.url)
            assert (got.status, got.headers.get("link"), await got.read()) == (200, None, b"ok")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_body_that_ends_with_the_connection_is_complete(stream: bool) -> None:
    async with Upstream(once(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")) as up, transport() as via:
        assert await (await post(via, up.url, stream=stream)).read() == b"abcd"


async def test_a_redirect_is_an_answer() -> None:
    async with (
        Upstream(always(answer(b"", "307 Temporary Redirect", "Location: /elsewhere"))) as up,
        transport() as via,
    ):
        got = await post(via, up.url)
        assert (got.status, got.headers.get("location"), await got.read()) == (307, "/elsewhere", b"")
        assert up.connections == 1


# What goes wrong


async def test_refused() -> None:
    async with Upstream(always(answer(b""))) as up:
        pass
    async with transport() as via:
        assert (await fails(post(via, up.url))).kind == "connect"


async def test_a_handshake_that_never_answers_is_a_connect_timeout() -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with Upstream(silent) as up, transport(connect_timeout_s=0.05) as via:
        error = await fails(post(via, up.url.replace("http:", "https:")))
        assert (error.kind, "0.05 s" in str(error)) == ("connect_timeout", True)
        await up.all_closed()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_cut_before_the_answer(part: bytes, stream: bool) -> None:
    async with Upstream(once(part)) as up, transport() as via:
        assert (await fails(post(via, up.url, stream=stream))).kind == "closed"


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", EVENTS + b"64\r\n"])
async def test_cut_inside_the_body(head: bytes) -> None:
    async with Upstream(once(head + b"half")) as up, transport() as via:
        assert (await fails(post(via, up.url))).kind == "read"
        response = await post(via, up.url, stream=True)
        assert await anext(response) == b"half"
        assert (await fails(anext(response))).kind == "read"


async def test_a_reset_inside_the_body_keeps_its_cause() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(EVENTS + chunk(b"a"))
        await said.wait()
        peer.writer.transport.abort()

    said = asyncio.Event()
    async with Upstream(script) as up, transport() as via:
        response = await post(via, up.url, stream=True, body=b"x" * 1_000_000)
        assert await anext(response) == b"a"
        said.set()
        assert (await fails(anext(response))).kind == "read"


async def test_a_stall_ends_by_the_callers_deadline_and_loses_nothing() -> None:
    waited = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(EVENTS)
        await waited.wait()
        await peer.send(chunk(b"late") + b"0\r\n\r\n")

    async with Upstream(script) as up, transport() as via:
        response = await post(via, up.url, stream=True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await anext(response)
        waited.set()
        assert [part async for part in response] == [b"late"]


WRONG = {
    "not http": b"SSH-2.0-OpenSSH_9.2\r\n",
    "http/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"x-filler: %s\r\n" % (b"y" * 1000) * 80,
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
    "bad chunk": EVENTS + b"zz\r\n",
}


@pytest.mark.parametrize("what", WRONG)
async def test_wrong_framing(what: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(WRONG[what])
        await peer.gone()

    async with Upstream(script) as up, transport() as via:
        assert (await fails(post(via, up.url))).kind == "protocol"
        await up.all_closed()


@pytest.mark.parametrize("stream", [True, False])
async def test_an_encoding_that_was_not_asked_for(stream: bool) -> None:
    async with Upstream(always(answer(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip"))) as up, transport() as via:
        error = await fails(post(via, up.url, stream=stream))
        assert (error.kind, "'gzip'" in str(error)) == ("decode", True)
    async with Upstream(always(answer(b"ok", "200 OK", "Content-Encoding: identity"))) as up, transport() as via:
        assert await (await post(via, up.url, stream=stream)).read() == b"ok"


@pytest.mark.parametrize("stream", [True, False])
async def test_the_limit_of_a_whole_body(stream: bool) -> None:
    async with Upstream(always(answer(b"x" * 1000))) as up:
        async with transport(max_body_bytes=1000) as via:
            assert len(await (await post(via, up.url, stream=stream)).read()) == 1000
        async with transport(max_body_bytes=999) as via:
            with pytest.raises(TransportError) as caught:
                await (await post(via, up.url, stream=stream)).read()
            assert caught.value.kind == "too_large"


async def test_an_endless_body_is_cut_at_the_limit() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(EVENTS)
        while True:
            await peer.send(chunk(b"x" * 10_000))

    async with Upstream(script) as up, transport(max_body_bytes=100_000) as via:
        assert (await fails(post(via, up.url))).kind == "too_large"
        await up.all_closed()


async def test_a_reader_that_is_behind_holds_the_sender_up() -> None:
    sent = 0
    total = 64 * 1024 * 1024
    stalled = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(f"HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n".encode())
        while sent < total:
            peer.writer.write(b"x" * 65536)
            sent += 65536
            try:
                async with asyncio.timeout(0.2):
                    await peer.writer.drain()
            except TimeoutError:
                stalled.set()
                await peer.writer.drain()
        await peer.gone()

    async with Upstream(script) as up, transport() as via, asyncio.timeout(30):
        response = await post(via, up.url, stream=True)
        await stalled.wait()
        assert sent < total / 2  # the rest is in the kernel's buffers
        assert response._unread_bytes < PAUSE_BYTES * 4
        assert sum([len(part) async for part in response]) == total


# Who leaves, closes


PROMPT_S = 0.1

PARTS = {
    "before the headers": b"",
    "inside the headers": b"HTTP/1.1 200 OK\r\nX-",
    "after the headers": EVENTS,
    "inside the body": EVENTS + b"ff\r\nhalf",
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("when", PARTS)
async def test_cancelling_closes_the_connection(when: str, stream: bool) -> None:
    ready = asyncio.Event()
    gone_at = 0.0

    async def script(peer: Peer) -> None:
        nonlocal gone_at
        await peer.request()
        await peer.send(PARTS[when])
        ready.set()
        await peer.gone()
        gone_at = time.monotonic()

    async def consume() -> None:
        async with await post(via, up.url, stream=stream) as response:
            async for _ in response:
                pass

    async with Upstream(script) as up, transport() as via:
        best = float("inf")
        for _ in range(3):  # the best of three: a busy machine may hold up the whole process
            ready.clear()
            task = asyncio.create_task(consume())
            await ready.wait()
            for _ in range(5):
                await asyncio.sleep(0)  # let the sent bytes reach the client
            cancelled_at = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await up.all_closed()
            best = min(best, gone_at - cancelled_at)
        assert best < PROMPT_S
        assert up.connections == 3


async def test_cancelling_inside_the_handshake_closes_the_connection() -> None:
    ready = asyncio.Event()

    async def script(peer: Peer) -> None:
        ready.set()
        await peer.gone()

    async with Upstream(script) as up, transport() as via:
        task = asyncio.create_task(post(via, up.url.replace("http:", "https:")))
        await ready.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await up.all_closed()


async def test_a_connection_given_up_while_it_was_made_is_forgotten() -> None:
    """Neither loop tells a protocol that its connection was lost before `create_connection` returned it."""

    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with Upstream(silent) as up, transport() as via:
        for turns in range(12):
            task = asyncio.create_task(post(via, up.url))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await up.all_closed()
            async with asyncio.timeout(5):
                while via._open:  # noqa: ASYNC110  the client's loop hears of it one turn later
                    await asyncio.sleep(0)


async def test_a_connection_that_ended_as_it_was_made_is_forgotten() -> None:
    class Hasty(Transport):
        async def _dial(self, peer: object, connection: Connection, tls: object) -> Connection:
            connection.connection_made(Wire())
            connection.connection_lost(None)
            return connection

    via = Hasty()
    assert (await fails(post(via, "http://provider.test/"))).kind == "closed"
    assert not via._open


async def test_closing_a_response_early_closes_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(EVENTS + chunk(b"a"))
        await peer.gone()

    async with Upstream(script) as up, transport() as via:
        response = await post(via, up.url, stream=True)
        assert await anext(response) == b"a"
        await response.aclose()
        await response.aclose()
        await up.all_closed()
        assert (await fails(anext(response))).kind == "closed"  # never the look of a clean end


async def test_closing_the_transport_ends_what_runs() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(EVENTS)
        await peer.gone()

    async with Upstream(script) as up:
        via = Transport()
        response = await post(via, up.url, stream=True)
        waiting = asyncio.create_task(response.read())
        await asyncio.sleep(0)
        await via.aclose()
        assert (await fails(waiting)).kind == "closed"
        await up.all_closed()
        assert (await fails(post(via, up.url))).kind == "closed"


# The pool


async def test_a_connection_is_used_again_and_only_by_one_at_a_time() -> None:
    async with Upstream(always(EVENTS, chunk(b"a"), b"0\r\n\r\n")) as up, transport() as via:
        for stream in (True, False, True):
            response = await post(via, up.url, stream=stream)
            assert [part async for part in response] != []
            await response.aclose()  # over: a no-op
        assert up.connections == 1
        for response in await asyncio.gather(*(post(via, up.url) for _ in range(5))):
            assert await response.read() == b"a"
        assert up.connections == 5
        await asyncio.gather(*(post(via, up.url) for _ in range(5)))
        assert up.connections == 5


async def test_origins_do_not_share_connections() -> None:
    async with Upstream(always(answer(b"1"))) as one, Upstream(always(answer(b"2"))) as two, transport() as via:
        for _ in range(2):
            assert await (await post(via, one.url)).read() == b"1"
            assert await (await post(via, two.url)).read() == b"2"
        assert (one.connections, two.connections) == (1, 1)


NOT_REUSABLE = {
    "connection: close": answer(b"ok", "200 OK", "Connection: close"),
    "http/1.0": answer(b"ok").replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a second answer": answer(b"ok") * 2,
    "bytes behind the answer": answer(b"ok") + b"\0",
}


@pytest.mark.parametrize("what", NOT_REUSABLE)
async def test_a_connection_that_cannot_be_trusted_is_not_used_again(what: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(NOT_REUSABLE[what])
        await peer.gone()

    async with Upstream(script) as up, transport() as via:
        for _ in range(2):
            assert await (await post(via, up.url)).read() == b"ok"
        assert up.connections == 2


async def test_a_connection_that_ended_or_spoke_while_idle_is_not_used_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"ok"))
        await idle.wait()
        if up.connections == 2:
            await peer.send(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
            await peer.gone()

    async with Upstream(script) as up, transport() as via:
        for count in (1, 2, 3):
            idle = asyncio.Event()
            assert await (await post(via, up.url)).read() == b"ok"
            assert up.connections == count
            idle.set()
            await up.all_closed()
            while via._open:  # noqa: ASYNC110  the client's loop hears of it one turn later
                await asyncio.sleep(0)


async def test_an_idle_connection_is_closed_in_time() -> None:
    async with Upstream(always(answer(b"ok"))) as up, transport(keep_alive_s=0.05) as via:
        await asyncio.gather(*(post(via, up.url) for _ in range(3)))
        await up.all_closed()
        assert (via._idle, via._sweep) == ({}, None)
        await post(via, up.url)
        await up.all_closed()
        assert up.connections == 4


# What can't be put on the wire


@pytest.mark.parametrize(
    ("method", "url", "headers"),
    [
        ("HEAD", "http://h/", []),
        ("POST", "ftp://h/", []),
        ("POST", "http:///x", []),
        ("POST", "http://user:pw@h/", []),
        ("POST", "http://h/a b", []),
        ("POST", "http://h/é", []),
        ("POST", "http://h/\x00", []),
        ("POST", "http://h/", [("x", "a\r\nb: c")]),
        ("POST", "http://h/", [("x", "a\nb")]),
        ("POST", "http://h/", [("x y", "a")]),
        ("POST", "http://h/", [("x:y", "a")]),
        ("POST", "http://h/", [("x\r", "a")]),
        ("POST", "http://h/", [("", "a")]),
        ("POST", "http://h/", [("Content-Length", "1")]),
        ("POST", "http://h/", [("transfer-encoding", "chunked")]),
        ("POST", "http://h/", [("HOST", "x")]),
    ],
)
async def test_a_request_that_would_break_the_framing_is_refused(
    method: str, url: str, headers: list[tuple[str, str]]
) -> None:
    with pytest.raises(ValueError):
        await Transport().send(method, url, headers, b"", stream=False)


# Proxies and TLS


async def test_the_environments_proxy_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with Upstream(always(answer(b"direct"))) as up, transport() as via:
        assert await (await post(via, up.url)).read() == b"direct"


async def test_a_configured_proxy_gets_the_whole_address() -> None:
    got: list[bytes] = []

    async def script(peer: Peer) -> None:
        got.append(await peer.request())
        await peer.send(answer(b"via"))

    async with Upstream(script) as proxy, transport(proxy=f"http://me:p%40ss@127.0.0.1:{proxy.port}") as via:
        assert await (await post(via, "http://provider.test/v1")).read() == b"via"
    assert got[0].startswith(b"POST http://provider.test/v1 HTTP/1.1\r\nHost: provider.test\r\n")
    assert b"\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n" in got[0]


@pytest.mark.parametrize("proxy", ["https://h:1", "h:1", "http://"])
def test_a_proxy_that_is_not_one_is_refused_without_showing_it(proxy: str) -> None:
    with pytest.raises(ValueError, match=r"^a proxy is given as"):
        Transport(proxy=proxy)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "upstream")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key(), serial_number=1)
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "upstream.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


async def test_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    async with Upstream(always(EVENTS, chunk(b"a"), b"0\r\n\r\n"), server_tls) as up, transport(tls=client_tls) as via:
        for stream in (True, False):
            assert await (await post(via, up.url, stream=stream)).read() == b"a"
        assert up.connections == 1


async def test_a_certificate_of_nobody_we_trust(server_tls: ssl.SSLContext) -> None:
    async with Upstream(always(answer(b"")), server_tls) as up, transport() as via:
        error = await fails(post(via, up.url))
        assert (error.kind, "certificate verify failed" in str(error).lower()) == ("connect", True)


@pytest.mark.parametrize("header", ["", "Content-Length: 0\r\n"])
async def test_tls_through_a_proxy(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, header: str) -> None:
    established = f"HTTP/1.1 200 Connection established\r\n{header}\r\n".encode()
    asked: list[bytes] = []

    async def relay(peer: Peer) -> None:
        asked.append(await peer.request())
        reader, writer = await asyncio.open_connection("127.0.0.1", up.port)
        await peer.send(established)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(copy(peer._reader, writer))
            tasks.create_task(copy(reader, peer.writer))

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()

    async with (
        Upstream(always(answer(b"inside")), server_tls) as up,
        Upstream(relay) as proxy,
        transport(proxy=f"http://me:pw@127.0.0.1:{proxy.port}", tls=client_tls) as via,
    ):
        for count in (2, 4):  # more at once than there are tunnels: a bare connection to the proxy must not be taken
            for response in await asyncio.gather(*(post(via, up.url) for _ in range(count))):
                assert await response.read() == b"inside"
            assert proxy.connections == count
        expected = f"CONNECT 127.0.0.1:{up.port} HTTP/1.1\r\nHost: 127.0.0.1:{up.port}\r\nProxy-Authorization: Basic "
        assert asked[0].startswith(expected.encode())


@pytest.mark.parametrize("reply", [answer(b"no", "407 Proxy Authentication Required"), b""])
async def test_a_proxy_that_says_no(reply: bytes) -> None:
    script = always(reply) if reply else once(reply)
    async with Upstream(script) as proxy, transport(proxy=f"http://127.0.0.1:{proxy.port}") as via:
        error = await fails(post(via, "https://provider.test/v1"))
        assert error.kind == ("connect" if reply else "closed")
        await proxy.all_closed()


# The law of the parser, without a socket


class Wire(asyncio.Transport):
    """Where a connection writes, in memory."""

    aborted = False

    def write(self, data: object) -> None: ...
    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


ANSWER = (
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    + EVENTS
    + b"".join(chunk(b"data: %d\n\n" % number) for number in range(5))
    + b"0\r\nTrailer: x\r\n\r\n"
)


@given(st.lists(st.integers(0, len(ANSWER)), max_size=40))
def test_the_body_does_not_depend_on_how_the_bytes_were_cut(cuts: list[int]) -> None:
    async def run() -> None:
        connection = Connection(Transport(), key=("", "", 0))
        connection.connection_made(Wire())
        sending = asyncio.create_task(connection.exchange(b"", b"", whole=False, limit=1000))
        await asyncio.sleep(0)
        edges = sorted({0, *cuts, len(ANSWER)})
        for start, end in pairwise(edges):
            connection.data_received(ANSWER[start:end])
        response = await sending
        assert await response.read() == b"".join(b"data: %d\n\n" % number for number in range(5))
        assert (response.status, response.headers.get("link"), connection.socket.is_closing()) == (200, None, False)

    asyncio.run(run())
