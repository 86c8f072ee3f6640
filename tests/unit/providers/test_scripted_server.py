"""The scripted provider over HTTP: what is on the wire for each fault, in each format, streaming and not."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any, get_args

import httpx
import msgspec
import pytest

from llmwise.providers.scripted import Script
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.journal import KEPT_ENTRIES, Entry, Journal
from llmwise.providers.scripted.parsing import FAULTS
from llmwise.providers.scripted.script import Settings, Usage
from llmwise.providers.scripted.server import ScriptedServer
from llmwise.wire.sse import Frame, SSEDecoder

pytestmark = pytest.mark.anyio

DIALECTS = ("openai", "anthropic", "gemini")
WORDS = "one two three four"
HEADERS = {"anthropic-version": "2023-06-01", "authorization": "Bearer sk-secret-key-WXYZ"}

both_modes = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
every_dialect = pytest.mark.parametrize("dialect", DIALECTS)


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def path_and_body(dialect: str, stream: bool, **more: Any) -> tuple[str, dict[str, Any]]:
    match dialect:
        case "openai":
            body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "What is up?"}]}
            return "/v1/chat/completions", body | more
        case "anthropic":
            body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "What is up?"}]}
            return "/v1/messages", body | {"max_tokens": 1000} | more
        case _:
            method = "streamGenerateContent?alt=sse" if stream else "generateContent"
            return f"/v1beta/models/m:{method}", {"contents": [{"parts": [{"text": "What is up?"}]}]} | more


class Served:
    """A server and an httpx client of it."""

    def __init__(self, server: ScriptedServer, client: httpx.AsyncClient) -> None:
        self.server = server
        self.client = client

    def play(self, *rules: faults.AnyRule, **settings: Any) -> None:
        self.server.set_script(Script(defaults=Settings(**{"text": WORDS} | settings), rules=rules))

    async def ask(self, dialect: str, stream: bool, **more: Any) -> httpx.Response:
        path, body = path_and_body(dialect, stream, **more)
        return await self.client.post(path, json=body)

    async def broken_off(self, dialect: str, stream: bool) -> bytes:
        """The body up to where the connection broke. Fails if it did not."""
        path, body = path_and_body(dialect, stream)
        got = b""
        try:
            async with self.client.stream("POST", path, json=body) as response:
                async for piece in response.aiter_raw():
                    got += piece
        except (httpx.RemoteProtocolError, httpx.ReadError):
            return got
        pytest.fail(f"the answer ended: {got!r}")

    async def silent(self, dialect: str, stream: bool, headers: bool, text: bytes = b"") -> bytes:
        """The body up to where the server fell silent: after the headers, if they are due, and after `text`."""
        path, body = path_and_body(dialect, stream)
        status, got = None, bytearray()

        async def read() -> None:
            nonlocal status
            async with self.client.stream("POST", path, json=body) as response:
                status = response.status_code
                async for piece in response.aiter_raw():
                    got.extend(piece)

        task = asyncio.create_task(read())
        await until(lambda: self.server.in_flight and (not headers or status) and text in got)
        await asyncio.sleep(0.05)  # what came in this time would be wrong
        assert not task.done()
        assert status == (200 if headers else None)
        assert self.server.in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return bytes(got)


@asynccontextmanager
async def served(script: Script | None = None) -> AsyncIterator[Served]:
    async with ScriptedServer(script) as server:
        async with httpx.AsyncClient(
            base_url=server.url, headers=HEADERS, timeout=20, trust_env=False, verify=False
        ) as client:
            one = Served(server, client)
            one.play()
            yield one
        await nobody(server)


async def until(condition: Callable[[], object]) -> None:
    """Look again and again, for 5 s at most: the server has no event for what only tests want to know."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def nobody(server: ScriptedServer) -> None:
    await until(lambda: not server.connections)


def frames(body: bytes) -> list[Frame]:
    decoder = SSEDecoder(max_frame_bytes=1 << 30)
    return decoder.feed(body) + decoder.finish()


def texts(dialect: str, body: bytes, stream: bool) -> str:
    """The text in a body, read by the format's rules."""
    chunks = [json.loads(f.data) for f in frames(body) if f.data != b"[DONE]"] if stream else [json.loads(body)]
    match dialect, stream:
        case "openai", True:
            return "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c.get("choices"))
        case "openai", False:
            return str(chunks[0]["choices"][0]["message"]["content"])
        case "anthropic", True:
            return "".join(c["delta"]["text"] for c in chunks if c["type"] == "content_block_delta")
        case "anthropic", False:
            return "".join(block["text"] for block in chunks[0]["content"])
        case _:
            return "".join(part["text"] for c in chunks for part in c["candidates"][0]["content"]["parts"])


def ends_properly(dialect: str, body: bytes) -> bool:
    got = frames(body)
    match dialect:
        case "openai":
            return got[-1].data == b"[DONE]" and b'"finish_reason":"' in body
        case "anthropic":
            return [frame.event for frame in got[-2:]] == ["message_delta", "message_stop"]
        case _:
            return b'"finishReason"' in got[-1].data


def usage_of(dialect: str, body: bytes) -> Any:
    whole = json.loads(body)
    return whole.get("usageMetadata") if dialect == "gemini" else whole.get("usage")


# Answers.


@every_dialect
@both_modes
async def test_an_answer_is_whole_and_labelled(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.server.set_script(Script())
        response = await one.ask(dialect, stream)
    assert response.status_code == 200
    assert response.headers["x-llmwise-scripted"] == "1"
    text = texts(dialect, response.content, stream)
    assert text.startswith("Scripted answer")
    assert "What is up?" in text
    if stream:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert ends_properly(dialect, response.content)
    if dialect == "openai":
        assert b'"system_fingerprint":"scripted"' in response.content


async def test_each_format_counts_tokens_its_own_way() -> None:
    usage = Usage(input=10, cache_read=5, cache_write_5m=2, cache_write_1h=1, output=20, reasoning=8)
    async with served() as one:
        one.play(usage=usage)
        got = {dialect: usage_of(dialect, (await one.ask(dialect, False)).content) for dialect in DIALECTS}
    assert (got["openai"]["prompt_tokens"], got["openai"]["completion_tokens"]) == (18, 20)
    assert got["openai"]["prompt_tokens_details"]["cached_tokens"] == 5
    assert got["openai"]["completion_tokens_details"]["reasoning_tokens"] == 8
    assert (got["anthropic"]["input_tokens"], got["anthropic"]["output_tokens"]) == (10, 20)
    assert got["anthropic"]["cache_read_input_tokens"] == 5
    assert got["anthropic"]["cache_creation_input_tokens"] == 3
    assert (got["gemini"]["promptTokenCount"], got["gemini"]["totalTokenCount"]) == (18, 38)
    assert (got["gemini"]["candidatesTokenCount"], got["gemini"]["thoughtsTokenCount"]) == (12, 8)


async def test_openai_streams_usage_only_when_asked_and_apart_from_the_finish() -> None:
    async with served() as one:
        plain = frames((await one.ask("openai", True)).content)
        asked = frames((await one.ask("openai", True, stream_options={"include_usage": True})).content)
    assert not any(b'"usage"' in frame.data for frame in plain)
    *chunks, last, done = [frame.data for frame in asked]
    assert done == b"[DONE]"
    assert all(json.loads(chunk)["usage"] is None for chunk in chunks)
    assert json.loads(last)["choices"] == []
    assert json.loads(last)["usage"]["completion_tokens"] == 4


async def test_anthropic_keeps_its_grammar_with_thinking_text_and_tools() -> None:
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    async with served() as one:
        one.play(reasoning="Let me see", tool_calls=2)
        got = frames((await one.ask("anthropic", True, tools=[tool])).content)
    names = " ".join(frame.event or "?" for frame in got)
    block = r"(content_block_start (content_block_delta )+content_block_stop )"
    assert re.fullmatch(rf"message_start ping {block}{{3}}message_delta message_stop", names)
    assert all(json.loads(frame.data)["type"] == frame.event for frame in got)
    indexes = [json.loads(f.data)["index"] for f in got if f.event == "content_block_start"]
    assert indexes == [0, 1, 2]


TOOLS: dict[str, Callable[[str], dict[str, Any]]] = {
    "openai": lambda mode: {
        "tools": [{"type": "function", "function": {"name": n, "parameters": {}}} for n in ("weather", "clock")],
        "tool_choice": "required" if mode == "any" else {"type": "function", "function": {"name": "clock"}},
    },
    "anthropic": lambda mode: {
        "tools": [{"name": n, "input_schema": {"type": "object"}} for n in ("weather", "clock")],
        "tool_choice": {"type": "any"} if mode == "any" else {"type": "tool", "name": "clock"},
    },
    "gemini": lambda mode: {
        "tools": [{"functionDeclarations": [{"name": "weather"}, {"name": "clock"}]}],
        "toolConfig": {
            "functionCallingConfig": {"mode": "ANY"} | ({} if mode == "any" else {"allowedFunctionNames": ["clock"]})
        },
    },
}


@every_dialect
@both_modes
@pytest.mark.parametrize(("mode", "name"), [("any", "weather"), ("tool", "clock")])
async def test_a_demanded_tool_is_called(dialect: str, stream: bool, mode: str, name: str) -> None:
    async with served() as one:
        response = await one.ask(dialect, stream, **TOOLS[dialect](mode))
    assert f'"name":"{name}"'.encode() in response.content
    other = "clock" if name == "weather" else "weather"
    assert other.encode() not in response.content


@every_dialect
async def test_a_tools_result_is_answered_with_text(dialect: str) -> None:
    turns: dict[str, dict[str, Any]] = {
        "openai": {
            "messages": [{"role": "user", "content": "?"}, {"role": "tool", "tool_call_id": "a", "content": "5"}]
        },
        "anthropic": {
            "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "5"}]}]
        },
        "gemini": {
            "contents": [
                {"role": "model", "parts": [{"functionCall": {"name": "clock", "args": {}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "clock", "response": {}}}]},
            ]
        },
    }
    async with served() as one:
        one.server.set_script(Script())
        response = await one.ask(dialect, False, **TOOLS[dialect]("any") | turns[dialect])
    assert "after the tool's result" in texts(dialect, response.content, False)


@every_dialect
async def test_a_json_schema_gets_an_instance(dialect: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 4}}, "required": ["n"]}
    asked: dict[str, dict[str, Any]] = {
        "openai": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}},
        "anthropic": {"output_config": {"format": {"type": "json_schema", "schema": schema}}},
        "gemini": {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema}},
    }
    async with served() as one:
        one.server.set_script(Script())
        response = await one.ask(dialect, False, **asked[dialect])
    assert json.loads(texts(dialect, response.content, False)) == {"n": 4}


CHAT = {"model": "m", "messages": [{"role": "user", "content": "12345678"}]}
CONTENTS = {"contents": [{"parts": [{"text": "12345678"}]}]}


@pytest.mark.parametrize(
    ("path", "body", "needle"),
    [
        ("/v1/embeddings", {"model": "e", "input": ["a", "b"]}, '"index":1'),
        ("/v1/messages/count_tokens", CHAT, '"input_tokens":2'),
        ("/v1beta/models/m:countTokens", CONTENTS, '"totalTokens":2'),
        ("/openai/v1/chat/completions", CHAT, "chat.completion"),
        ("/api/v1/chat/completions", CHAT, "chat.completion"),
    ],
)
async def test_the_other_endpoints_and_prefixes(path: str, body: dict[str, Any], needle: str) -> None:
    async with served() as one:
        response = await one.client.post(path, json=body)
    assert response.status_code == 200
    assert needle in response.text


async def test_embeddings_depend_on_the_text_and_have_length_1() -> None:
    async with served() as one:
        body = {"model": "e", "input": ["a", "b", "a"], "dimensions": 8}
        rows = (await one.client.post("/v1/embeddings", json=body)).json()["data"]
    first, second, third = (row["embedding"] for row in rows)
    assert first == third != second
    assert sum(x * x for x in first) == pytest.approx(1)


async def test_models_are_listed_in_the_format_asked_for() -> None:
    async with served() as one:
        one.server.set_script(Script(models={"gpt-5.2": Settings(), "gpt-*": Settings()}))
        anthropic = (await one.client.get("/v1/models")).json()
        del one.client.headers["anthropic-version"]
        openai = (await one.client.get("/v1/models")).json()
        gemini = (await one.client.get("/v1beta/models")).json()
    assert anthropic["data"][0]["type"] == "model"
    assert [row["id"] for row in openai["data"]] == ["gpt-5.2"]
    assert gemini["models"][0]["name"] == "models/gpt-5.2"


# Requests that break a format's own rules.

EMPTY = {"role": "user", "content": [{"type": "text", "text": ""}]}
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("openai", {"messages": []}, "Invalid 'messages'"),
    ("openai", {"max_tokens": 1, "max_completion_tokens": 1}, "at the same time"),
    ("openai", {"model": 3}, "$.model"),
    ("anthropic", {"max_tokens": None}, "max_tokens"),
    ("anthropic", {"messages": [EMPTY]}, "non-empty"),
    ("anthropic", {"thinking": {"type": "enabled"}, "tool_choice": {"type": "any"}}, "Thinking may not"),
    ("gemini", {"contents": []}, "contents is not specified"),
    ("gemini", {"generationConfig": {"responseSchema": {"properties": {"a": {"const": 1}}}}}, '\\"const\\"'),
    ("gemini", {"contents": [{"parts": [{"functionCall": {"name": "f"}}]}, CONTENTS["contents"][0]]}, "function resp"),
]


@pytest.mark.parametrize(("dialect", "change", "words"), BAD)
async def test_a_request_against_the_rules_is_refused_in_its_envelope(
    dialect: str, change: dict[str, Any], words: str
) -> None:
    async with served() as one:
        response = await one.ask(dialect, False, **change)
        assert one.server.requests[0].fault == "invalid"
    assert response.status_code == 400
    assert words in response.text
    assert "message" in response.json()["error"]


async def test_unknown_paths_methods_and_bytes_are_refused() -> None:
    async with served() as one:
        assert (await one.client.post("/v1/nothing", json={})).status_code == 404
        assert (await one.client.get("/v1/messages")).status_code == 405
        reader, writer = await asyncio.open_connection("127.0.0.1", int(one.server.url.rpartition(":")[2]))
        writer.write(b"this is no HTTP\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()


# Faults.


@every_dialect
@both_modes
@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429, 500, 503, 529])
async def test_a_status_comes_with_the_formats_envelope(dialect: str, stream: bool, status: int) -> None:
    async with served() as one:
        one.play(faults.Status(status=status, message="Told you"))
        response = await one.ask(dialect, stream)
    assert response.status_code == status
    error = response.json()["error"]
    assert error["message"] == "Told you"
    match dialect:
        case "openai":
            assert set(error) == {"message", "type", "param", "code"}
        case "anthropic":
            assert response.json()["type"] == "error"
            assert error["type"].endswith("_error") or error["type"] == "request_too_large"
        case _:
            assert error["code"] == status
            assert error["status"].isupper()


@every_dialect
@both_modes
async def test_a_rate_limit_comes_without_and_with_each_form_of_retry_after(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(
            faults.RateLimit(nth=1),
            faults.RateLimit(nth=2, retry_after=2),
            faults.RateLimit(nth=3, retry_after=30, retry_after_form="date"),
            faults.RateLimit(nth=4, retry_after=1.5, retry_after_form="ms"),
        )
        plain, seconds, date, ms, answered = [await one.ask(dialect, stream) for _ in range(5)]
    assert {r.status_code for r in (plain, seconds, date, ms)} == {429}
    assert "retry-after" not in plain.headers
    assert seconds.headers["retry-after"] == "2"
    at = parsedate_to_datetime(date.headers["retry-after"]).timestamp()
    assert 29 <= at - one.server.requests[2].at_ms / 1000 <= 31
    assert ms.headers["retry-after-ms"] == "1500"
    assert answered.status_code == 200


@every_dialect
@both_modes
async def test_overloaded_is_529_and_a_long_prompt_400_in_the_providers_words(dialect: str, stream: bool) -> None:
    words = {"openai": "maximum context length", "anthropic": "prompt is too long", "gemini": "input token count"}
    async with served() as one:
        one.play(faults.Overloaded(nth=1, retry_after=1), faults.ContextTooLong())
        overloaded = await one.ask(dialect, stream)
        too_long = await one.ask(dialect, stream)
    assert (overloaded.status_code, overloaded.headers["retry-after"]) == (529, "1")
    assert too_long.status_code == 400
    assert words[dialect] in too_long.text


@every_dialect
@both_modes
@pytest.mark.parametrize("reset", [True, False])
async def test_refuse_ends_the_connection_without_an_answer(dialect: str, stream: bool, reset: bool) -> None:
    async with served() as one:
        one.play(faults.Refuse(reset=reset))
        with pytest.raises(httpx.ReadError if reset else httpx.RemoteProtocolError):
            await one.ask(dialect, stream)
        assert one.server.requests[0].finished


@every_dialect
@both_modes
async def test_hang_gives_no_headers_and_notes_when_the_client_left(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(faults.Hang())
        assert await one.silent(dialect, stream, headers=False) == b""
        await nobody(one.server)
        entry = one.server.requests[0]
    assert (entry.client_left, entry.finished) == (True, False)
    assert entry.left_after_ms is not None
    assert entry.left_after_ms >= 40


@every_dialect
@both_modes
async def test_hang_first_event_gives_headers_and_nothing_more(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(faults.HangFirstEvent())
        assert await one.silent(dialect, stream, headers=True) == b""


@every_dialect
@both_modes
async def test_a_stall_stops_amid_the_answer(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(faults.Stall(after=3))
        got = await one.silent(dialect, stream, headers=True, text=b"three" if stream else b"{")
    if stream:
        assert texts(dialect, got, True) == "one two three"
    else:
        assert got.startswith(b"{")
        assert not got.endswith(b"}")


@every_dialect
@both_modes
@pytest.mark.parametrize("after", [0, 1, 99])
async def test_a_cut_breaks_off_after_the_content_wanted(dialect: str, stream: bool, after: int) -> None:
    async with served() as one:
        one.play(faults.Cut(after=after))
        got = await one.broken_off(dialect, stream)
    if stream:
        assert texts(dialect, got, True) == " ".join(WORDS.split()[:after])
        assert b"finish" not in got.replace(b'"finish_reason":null', b"")
        assert b"message_delta" not in got
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(got)


@every_dialect
async def test_a_cut_can_be_a_reset(dialect: str) -> None:
    async with served() as one:
        one.play(faults.Cut(reset=True))
        await one.broken_off(dialect, True)


@every_dialect
@both_modes
async def test_malformed_breaks_one_frame_or_the_body(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(faults.Malformed(after=2))
        response = await one.ask(dialect, stream)
    if not stream:
        with pytest.raises(json.JSONDecodeError):
            response.json()
        return
    broken = []
    for number, frame in enumerate(frames(response.content)):
        try:
            json.loads(frame.data)
        except json.JSONDecodeError:
            if frame.data != b"[DONE]":
                broken.append(number)
    assert len(broken) == 1
    assert ends_properly(dialect, response.content)


@every_dialect
@both_modes
async def test_an_error_comes_inside_a_200(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(faults.ErrorIn200(after=1, status=503, message="Told you"))
        response = await one.ask(dialect, stream)
    assert response.status_code == 200
    last = frames(response.content)[-1] if stream else Frame(response.content)
    assert json.loads(last.data)["error"]["message"] == "Told you"
    if stream:
        assert last.event == ("error" if dialect == "anthropic" else None)
        assert b"one" in response.content
        assert b"two" not in response.content


@every_dialect
@both_modes
async def test_a_wrong_content_type_is_a_web_page(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(faults.WrongContentType())
        response = await one.ask(dialect, stream)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")


@every_dialect
@both_modes
async def test_oversized_is_as_large_as_told(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(faults.Oversized(bytes=3_000_000))
        response = await one.ask(dialect, stream)
    largest = max(len(frame.data) for frame in frames(response.content)) if stream else len(response.content)
    assert 3_000_000 < largest < 3_002_000
    assert texts(dialect, response.content, stream).count("x") == 3_000_000


@every_dialect
@both_modes
async def test_no_terminal_ends_cleanly_too_early(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(faults.NoTerminal())
        response = await one.ask(dialect, stream)
        assert (await one.client.get("/healthz")).json()["status"] == "ok"
    if stream:
        assert texts(dialect, response.content, True) == WORDS
        assert not ends_properly(dialect, response.content)
    else:
        with pytest.raises(json.JSONDecodeError):
            response.json()


@every_dialect
@both_modes
async def test_no_usage_leaves_the_rest(dialect: str, stream: bool) -> None:
    async with served() as one:
        one.play(faults.NoUsage())
        more = {"stream_options": {"include_usage": True}} if dialect == "openai" else {}
        response = await one.ask(dialect, stream, **more)
    assert texts(dialect, response.content, stream) == WORDS
    assert not re.search(rb'"usage(Metadata)?":\{', response.content)


@every_dialect
@both_modes
@pytest.mark.parametrize(
    "rule",
    [faults.Keepalive(gap_ms=1), faults.Crlf(), faults.Trickle(gap_ms=0), faults.Trickle(gap_ms=0.1, piece_bytes=7)],
    ids=["keepalive", "crlf", "trickle", "trickle by 7"],
)
async def test_a_harmless_oddity_leaves_the_answer_whole(dialect: str, stream: bool, rule: faults.AnyRule) -> None:
    async with served() as one:
        one.play(text="Scripted “ünïcode” text")
        plain = await one.ask(dialect, stream)
        one.play(rule, text="Scripted “ünïcode” text")
        odd = await one.ask(dialect, stream)
    assert texts(dialect, odd.content, stream) == "Scripted “ünïcode” text" == texts(dialect, plain.content, stream)
    match rule:
        case faults.Keepalive():
            assert odd.content.startswith(b": keep-alive\n\n" * 3 if stream else b"\n\n\n{")
        case faults.Crlf():
            assert b"\n" not in odd.content.replace(b"\r\n", b"")
        case _:
            assert len(odd.content) == len(plain.content)
    if stream:
        assert ends_properly(dialect, odd.content)


async def test_the_pace_is_kept() -> None:
    loop = asyncio.get_running_loop()
    async with served() as one:
        one.play(latency_ms=30, first_event_ms=30, tokens_per_second=100)
        for stream in (True, False):
            started = loop.time()
            await one.ask("openai", stream)
            assert loop.time() - started >= 0.089


# What the server tells of itself.


async def test_what_reached_it_can_be_looked_at_with_credentials_cut() -> None:
    async with served() as one:
        one.play(faults.RateLimit(nth=2))
        for _ in range(2):
            await one.ask("openai", False)
        path, body = path_and_body("gemini", False)
        await one.client.post(f"{path}?key=AIza-secret-key-1234", json=body, headers={"x-goog-api-key": "short"})
        shown = (await one.client.get("/_requests")).json()
        raw = (await one.client.get("/_requests")).text
        assert (await one.client.request("DELETE", "/_requests")).json() == {"total": 0}
        assert (await one.client.get("/_requests")).json() == {"total": 0, "by_model": {}, "requests": []}
        assert (await one.ask("openai", False)).status_code == 200, "counted from 1 again"
    assert (shown["total"], shown["by_model"]) == (3, {"m": 3})
    assert [(r["dialect"], r["nth"], r["fault"], r["finished"], r["client_left"]) for r in shown["requests"]] == [
        ("openai", 1, "none", True, False),
        ("openai", 2, "rate_limit", True, False),
        ("gemini", 3, "none", True, False),
    ]
    first, _, third = shown["requests"]
    assert first["body"]["messages"][0]["content"] == "What is up?"
    assert first["headers"]["authorization"] == "…WXYZ"
    assert third["headers"]["x-goog-api-key"] == "…"
    assert "secret" not in raw


async def test_a_script_is_replaced_at_run_time_or_refused_with_the_reason() -> None:
    async with served() as one:
        wrong = await one.client.post("/_script", json={"rule": [{"fault": "cutt"}]})
        right = await one.client.post("/_script", json={"rule": [{"fault": "overloaded"}]})
        assert (await one.ask("openai", False)).status_code == 529
        assert (await one.client.get("/_script")).json() == {"rule": [{"fault": "overloaded"}]}
        assert (await one.client.post("/_script", content=b"{")).status_code == 400
    assert (wrong.status_code, right.status_code) == (400, 200)
    assert "did you mean 'cut'" in wrong.json()["error"]


async def test_the_state_counts_others_and_what_is_in_flight() -> None:
    async with served() as one:
        one.play(faults.Hang())
        assert (await one.client.get("/_state")).json() == {"connections": 0, "in_flight": 0, "total": 0}
        task = asyncio.create_task(one.ask("openai", False))
        await until(lambda: one.server.in_flight)
        assert (await one.client.get("/_state")).json() == {"connections": 1, "in_flight": 1, "total": 1}
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_connections_are_kept_and_pipelined_requests_answered_in_order() -> None:
    async with served() as one:
        path, body = path_and_body("openai", False)
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", int(one.server.url.rpartition(":")[2]))
        writer.write(head.encode() + b"\r\n" + data + head.encode() + b"connection: close\r\n\r\n" + data)
        answers = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert answers.index(b"scripted-m-1") < answers.index(b"scripted-m-2")


def test_the_journal_is_bounded_by_number_and_by_bytes() -> None:
    journal = Journal()

    def entry(size: int) -> Entry:
        return Entry("m", "openai", "/", False, 1, "none", 0, {}, msgspec.Raw(b"x" * size), size)

    for _ in range(KEPT_ENTRIES + 5):
        journal.add(entry(1))
    assert (journal.total, len(journal)) == (KEPT_ENTRIES + 5, KEPT_ENTRIES)
    for _ in range(40):
        journal.add(entry(1 << 20))
    assert len(journal) == 16


# Leaks.


async def test_a_server_that_ends_takes_its_hanging_answers_along() -> None:
    before = asyncio.all_tasks()
    async with ScriptedServer(Script(rules=(faults.Hang(),))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(b'POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 26\r\n\r\n{"model":"m","input":"xx"}')
        await until(lambda: server.in_flight)
    assert asyncio.all_tasks() == before
    with suppress(ConnectionResetError):  # or an orderly end: it is the system's choice
        assert await reader.read() == b""
    writer.close()
    entry = server.requests[0]
    assert (entry.finished, entry.client_left) == (False, False)


async def test_two_hundred_faults_leave_no_connection_and_no_task() -> None:
    kinds: list[faults.AnyRule] = [rule() for rule in get_args(faults.AnyRule)]
    assert {rule.fault for rule in kinds} == set(FAULTS)
    kinds[kinds.index(faults.Oversized())] = faults.Oversized(bytes=1 << 20)
    kinds[kinds.index(faults.Trickle())] = faults.Trickle(gap_ms=0)
    rules = tuple(msgspec.structs.replace(rule, model=f"m{i}") for i, rule in enumerate(kinds))
    before = asyncio.all_tasks()
    at_once = asyncio.Semaphore(16)
    async with ScriptedServer(Script(defaults=Settings(text="x"), rules=rules)) as server:
        timeout = httpx.Timeout(20, read=0.1)
        async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, timeout=timeout, verify=False) as client:

            async def one(i: int) -> None:
                path, body = path_and_body(DIALECTS[i % 3], stream=i % 2 == 0)
                model = f"m{i % len(kinds)}"
                async with at_once:
                    with suppress(httpx.HTTPError):
                        await client.post(path.replace("models/m:", f"models/{model}:"), json=body | {"model": model})

            await asyncio.gather(*(one(i) for i in range(200)))
        await nobody(server)
        assert server.in_flight == 0
        assert server.journal.total == 200
        assert len(server.journal.by_model) == len(kinds)
        left = [entry for entry in server.requests if entry.client_left]
        assert {entry.fault for entry in left} >= {"hang", "hang_first_event", "stall"}
        assert all(entry.finished != entry.client_left for entry in server.requests)
    assert asyncio.all_tasks() == before
