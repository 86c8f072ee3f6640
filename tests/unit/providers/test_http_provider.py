"""The one adapter over real sockets: what is sent, and how each kind of answer is read."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from llmwise.domain.errors import (
    GatewayError,
    InternalError,
    UnsupportedInput,
    UpstreamCut,
    UpstreamInvalid,
    UpstreamNoModel,
    UpstreamRateLimited,
    UpstreamUnreachable,
)
from llmwise.domain.events import AttemptEvent, Finished, TextDelta, UsageReport, Warned
from llmwise.domain.messages import Image, Message, Text
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import ChatRequest, Sampling
from llmwise.providers.http import Endpoint, HttpProvider
from llmwise.providers.openai import OpenAICodec
from llmwise.providers.registry import Auth
from llmwise.providers.transport import Transport

pytestmark = pytest.mark.anyio

CARD = ModelCard("target", "acme", "gpt-4o")
WHOLE = (
    b'{"id":"c1","model":"m","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":2}}'
)
FRAMES = [
    b'data: {"choices":[{"index":0,"delta":{"content":"h"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"i"},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Peer:
    """The server's end of one connection, with the request that came in."""

    request: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


Handler = Callable[[Peer], Awaitable[None]]


def answer(body: bytes, kind: str | None = "application/json", status: int = 200, extra: str = "") -> Handler:
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}"
    if kind is not None:
        head += f"Content-Type: {kind}\r\n"

    async def handle(peer: Peer) -> None:
        peer.writer.write(head.encode() + b"\r\n" + body)

    return handle


def sse(*frames: bytes, end: bool = True) -> Handler:
    """A chunked stream, each frame in a write of its own; without its `end` the connection is dropped."""

    async def handle(peer: Peer) -> None:
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for frame in frames:
            peer.writer.write(b"%x\r\n%s\r\n" % (len(frame), frame))
            await peer.writer.drain()
        if end:
            peer.writer.write(b"0\r\n\r\n")

    return handle


@asynccontextmanager
async def upstream(handler: Handler, **endpoint: Any) -> AsyncIterator[tuple[HttpProvider, list[bytes]]]:
    """A provider whose other end runs `handler` for each connection and then closes it; and what it was sent."""
    seen: list[bytes] = []

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with closing(writer), suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
            request = head + await reader.readexactly(int(fields[b"content-length"]))
            seen.append(request)
            await handler(Peer(request, reader, writer))
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = {"base_url": f"http://127.0.0.1:{port}/v1/", **endpoint}
    provider = HttpProvider(Endpoint("acme", **settings), OpenAICodec(), Transport())
    try:
        yield provider, seen
    finally:
        await provider.aclose()
        server.close()
        for task in serving:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in serving if task is not None))
        await server.wait_closed()


def asked(stream: bool = False, **more: Any) -> ChatRequest:
    return ChatRequest("requested", (Message("user", (Text("hello"),)),), stream=stream, **more)


async def all_events(provider: HttpProvider, request: ChatRequest, card: ModelCard = CARD) -> list[AttemptEvent]:
    exchange = await provider.send(request, card)
    events: list[AttemptEvent] = []
    while batch := await exchange.receive():
        events += batch
    assert await exchange.receive() in ((), [])
    await exchange.aclose()
    return events


def said(events: list[AttemptEvent]) -> str:
    return "".join(event.text for event in events if type(event) is TextDelta)


# --- the request ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "shown"),
    [
        ("bearer", [b"Authorization: Bearer sekret"]),
        ("x-api-key", [b"x-api-key: sekret", b"anthropic-version: 2023-06-01"]),
        ("x-goog-api-key", [b"x-goog-api-key: sekret"]),
        ("none", []),
    ],
)
async def test_the_key_is_shown_as_the_vendor_wants_it(auth: Auth, shown: list[bytes]) -> None:
    async with upstream(answer(WHOLE), api_key="sekret", auth=auth, headers=(("X-Title", "t"),)) as (provider, seen):
        await all_events(provider, asked())
    head, body = seen[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert all(line in head.split(b"\r\n") for line in [*shown, b"X-Title: t", b"Content-Type: application/json"])
    assert head.count(b"sekret") == bool(shown)
    assert b"sekret" not in body


def test_a_key_is_in_no_representation() -> None:
    assert "sekret" not in repr(Endpoint("acme", "https://api.example.org", api_key="sekret"))


@pytest.mark.parametrize("url", ["", "api.example.org", "file:///etc/passwd", "https://", "https://a/?key=x"])
def test_a_base_url_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        HttpProvider(Endpoint("acme", url), OpenAICodec(), Transport())


async def test_a_path_cant_change_the_host() -> None:
    class Bad(OpenAICodec):
        def encode(self, request: ChatRequest, target: ModelCard) -> Outgoing:
            return Outgoing("@evil.example/", b"{}")

    provider = HttpProvider(Endpoint("acme", "http://127.0.0.1:9"), Bad(), Transport())
    with pytest.raises(InternalError):
        await provider.send(asked(), CARD)


async def test_what_the_target_cant_take_is_never_sent() -> None:
    async with upstream(answer(WHOLE)) as (provider, seen):
        request = ChatRequest("requested", (Message("user", (Image(data="AAAA"),)),))
        with pytest.raises(UnsupportedInput):
            await provider.send(request, CARD)
    assert seen == []


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("handler", [answer(WHOLE), sse(*FRAMES)], ids=["json", "sse"])
async def test_the_answer_decides_how_it_is_read(stream: bool, handler: Handler) -> None:
    async with upstream(handler) as (provider, _):
        events = await all_events(provider, asked(stream))
    assert said(events) == "hi"
    assert events[-1] == Finished("stop", "stop")
    assert any(type(event) is UsageReport for event in events)


@pytest.mark.parametrize("stream", [False, True])
async def test_without_a_content_type_it_is_what_was_asked_for(stream: bool) -> None:
    async with upstream(answer(b"".join(FRAMES) if stream else WHOLE, kind=None)) as (provider, _):
        assert said(await all_events(provider, asked(stream))) == "hi"


async def test_a_page_of_html_is_no_answer() -> None:
    async with upstream(answer(b"<html>", "text/html; charset=utf-8")) as (provider, _):
        with pytest.raises(UpstreamInvalid, match="base_url") as caught:
            await provider.send(asked(True), CARD)
    assert (caught.value.provider, caught.value.upstream_status) == ("acme", 200)


async def test_warnings_come_first() -> None:
    async with upstream(sse(*FRAMES)) as (provider, _):
        request = asked(True, sampling=Sampling(top_k=5))
        exchange = await provider.send(request, CARD)
        first = await exchange.receive()
        assert type(first[0]) is Warned
        assert first[0].field == "top_k"
        assert len(first) > 1
        await exchange.aclose()


async def test_a_batch_comes_with_its_read_and_not_later() -> None:
    more = asyncio.Event()

    async def slowly(peer: Peer) -> None:
        await sse(FRAMES[0], end=False)(peer)
        await more.wait()
        for frame in FRAMES[1:]:
            peer.writer.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        peer.writer.write(b"0\r\n\r\n")

    async with upstream(slowly) as (provider, _):
        exchange = await provider.send(asked(True), CARD)
        assert list(await exchange.receive()) == [TextDelta("h")]
        more.set()
        assert TextDelta("i") in await exchange.receive()
        await exchange.aclose()


# --- refusals and cuts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_raised_by_send(stream: bool) -> None:
    body = b'{"error":{"message":"slow down, sekret","type":"requests"}}'
    async with upstream(answer(body, status=429, extra="Retry-After: 7\r\n"), api_key="sekret") as (provider, _):
        with pytest.raises(UpstreamRateLimited) as caught:
            await provider.send(asked(stream), CARD)
    assert (caught.value.provider, caught.value.upstream_status, caught.value.retry_after_s) == ("acme", 429, 7)
    assert "sekret" not in caught.value.message


async def test_a_refusal_whose_body_is_cut_is_still_that_refusal() -> None:
    async def cut(peer: Peer) -> None:
        peer.writer.write(b"HTTP/1.1 404 X\r\nContent-Length: 100\r\n\r\n{")

    async with upstream(cut) as (provider, _):
        with pytest.raises(UpstreamNoModel):
            await provider.send(asked(True), CARD)


async def test_a_redirect_is_not_followed_and_the_key_stays() -> None:
    handler = answer(b"", status=307, extra="Location: http://evil.example/\r\n")
    async with upstream(handler, api_key="sekret") as (provider, seen):
        with pytest.raises(UpstreamInvalid, match="redirect"):
            await provider.send(asked(), CARD)
    assert len(seen) == 1


async def test_nobody_there_is_unreachable() -> None:
    server = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    provider = HttpProvider(Endpoint("acme", f"http://127.0.0.1:{port}"), OpenAICodec(), Transport())
    with pytest.raises(UpstreamUnreachable):
        await provider.send(asked(), CARD)
    await provider.aclose()


@pytest.mark.parametrize("end", [False, True])
async def test_a_stream_that_stops_early_is_cut(end: bool) -> None:
    async with upstream(sse(FRAMES[0], end=end)) as (provider, _):
        exchange = await provider.send(asked(True), CARD)
        assert list(await exchange.receive()) == [TextDelta("h")]
        with pytest.raises(UpstreamCut) as caught:
            await exchange.receive()
        assert caught.value.provider == "acme"
        assert len(await exchange.receive()) == 0


async def test_a_connection_lost_after_the_terminal_frame_loses_nothing() -> None:
    async with upstream(sse(*FRAMES[:2], end=False)) as (provider, _):
        events = await all_events(provider, asked(True))
    assert said(events) == "hi"
    assert events[-1] == Finished("stop", "stop")


async def test_a_failure_behind_content_comes_after_it_and_without_more_bytes() -> None:
    async def hanging(peer: Peer) -> None:
        both = FRAMES[0] + b'data: {"error":{"message":"x","type":"server_error"}}\n\n'
        await sse(both, end=False)(peer)
        await asyncio.Event().wait()

    async with upstream(hanging) as (provider, _):
        exchange = await provider.send(asked(True), CARD)
        assert list(await exchange.receive()) == [TextDelta("h")]
        with pytest.raises(GatewayError, match="broke off"):
            await asyncio.wait_for(exchange.receive(), 5)


@pytest.mark.parametrize("body", [b"", b"{", b'{"choices": []}'])
async def test_a_body_that_is_no_answer_is_invalid(body: bytes) -> None:
    async with upstream(answer(body)) as (provider, _):
        exchange = await provider.send(asked(), CARD)
        with pytest.raises(UpstreamInvalid) as caught:
            await exchange.receive()
    assert caught.value.provider == "acme"


@pytest.mark.parametrize("how", ["cancel", "aclose"])
async def test_whoever_leaves_closes_the_connection(how: str) -> None:
    gone = asyncio.Event()

    async def waiting(peer: Peer) -> None:
        await sse(FRAMES[0], end=False)(peer)
        with suppress(ConnectionError):
            assert await peer.reader.read() == b""
        gone.set()

    async with upstream(waiting) as (provider, _):
        exchange = await provider.send(asked(True), CARD)
        assert list(await exchange.receive()) == [TextDelta("h")]
        if how == "aclose":
            await exchange.aclose()
        else:
            task = asyncio.create_task(_receive(exchange))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.wait_for(gone.wait(), 5)
        assert len(await exchange.receive()) == 0


async def _receive(exchange: Any) -> None:
    await exchange.receive()
