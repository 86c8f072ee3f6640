"""One script, told twice: by the provider inside the process, and by the HTTP server through the real adapters.

Whoever tests an engine with the one relies on what the other, and so a real provider, would have done.
"""

import asyncio
from contextlib import aclosing
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from llmwise.domain.errors import GatewayError
from llmwise.domain.events import (
    AttemptEvent,
    Finished,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from llmwise.domain.messages import Family, Message, Text
from llmwise.domain.models import Capabilities, ModelCard
from llmwise.domain.ports import Codec, Provider
from llmwise.domain.requests import ChatRequest, Sampling, Tool, ToolChoice
from llmwise.providers import anthropic, gemini, responses
from llmwise.providers.http import Endpoint, HttpProvider
from llmwise.providers.openai import OpenAICodec
from llmwise.providers.registry import Auth
from llmwise.providers.scripted import Script, ScriptedProvider
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import Settings, Usage
from llmwise.providers.scripted.server import ScriptedServer
from llmwise.providers.transport import MAX_BODY_BYTES, Transport

pytestmark = pytest.mark.anyio

TARGET = ModelCard("m", "scripted", "m", max_output=1000, capabilities=Capabilities(reasoning=True))
ADAPTERS: dict[Family, tuple[Codec, str, Auth]] = {
    "openai": (OpenAICodec(), "/v1", "bearer"),
    "responses": (responses.CODEC, "/v1", "bearer"),
    "anthropic": (anthropic.CODEC, "", "x-api-key"),
    "gemini": (gemini.CODEC, "", "x-goog-api-key"),
}
ENDLESS = (faults.Hang, faults.HangFirstEvent, faults.Stall)
WAIT_S = 0.25

RULES: list[faults.AnyRule] = [rule() for rule in get_args(faults.AnyRule) if rule not in ENDLESS]
RULES += [faults.Status(status=status) for status in (400, 401, 402, 403, 404, 408, 413, 422, 502, 503, 504)]
RULES += [faults.RateLimit(retry_after=2), faults.RateLimit(retry_after=2, retry_after_form="ms")]
RULES += [faults.ErrorIn200(status=status) for status in (429, 529)]
RULES[RULES.index(faults.Trickle())] = faults.Trickle(gap_ms=0)
RULES[RULES.index(faults.Oversized())] = faults.Oversized(bytes=MAX_BODY_BYTES + 1)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ask(stream: bool, *tools: Tool) -> ChatRequest:
    choice = ToolChoice("required") if tools else None
    messages = (Message("user", (Text("What is up?"),)),)
    return ChatRequest("m", messages, stream, Sampling(max_tokens=500), tools=tools, tool_choice=choice)


async def outcome(provider: Provider, request: ChatRequest) -> dict[str, Any]:
    """What an engine would see of it."""
    seen: dict[str, Any] = {"text": "", "reasoning": "", "calls": {}, "usage": None, "finish": None, "error": None}
    try:
        async with aclosing(await provider.send(request, TARGET)) as exchange:
            while batch := await exchange.receive():
                for event in batch:
                    note(event, seen)
    except GatewayError as error:
        seen["error"] = (type(error).__name__, error.code, error.upstream_status, error.retry_after_s)
    return seen


def note(event: AttemptEvent, seen: dict[str, Any]) -> None:
    match event:
        case TextDelta():
            seen["text"] += event.text
        case ReasoningDelta():
            seen["reasoning"] += event.text
        case ToolCallDelta():
            name, arguments = seen["calls"].get(event.index, ("", ""))
            seen["calls"][event.index] = (name or event.name, arguments + event.arguments)
        case UsageReport():
            seen["usage"] = event.usage
        case Finished():
            seen["finish"] = event.reason
        case _:
            pass


async def told_twice(script: Script, family: Family, request: ChatRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    inside = await outcome(ScriptedProvider("scripted", script, family), request)
    codec, base, auth = ADAPTERS[family]
    async with ScriptedServer(script) as server:
        adapter = HttpProvider(Endpoint("scripted", server.url + base, "key", auth), codec, Transport())
        over_http = await outcome(adapter, request)
        await adapter.aclose()
    return inside, over_http


@pytest.mark.parametrize("family", get_args(Family))
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.fault}-{getattr(rule, 'status', '')}")
async def test_a_fault_is_the_same_inside_and_over_http(rule: faults.AnyRule, stream: bool, family: Family) -> None:
    script = Script(defaults=Settings(text="one two three four"), rules=(rule,))
    inside, over_http = await told_twice(script, family, ask(stream))
    assert over_http == inside


@pytest.mark.parametrize("family", get_args(Family))
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_answer_is_the_same_inside_and_over_http(stream: bool, family: Family) -> None:
    usage = Usage(input=10, cache_read=5, output=20, reasoning=3)
    script = Script(defaults=Settings(reasoning="Let me see", usage=usage))
    inside, over_http = await told_twice(script, family, ask(stream))
    if family == "anthropic":  # it does not say how much of its output was thinking
        inside["usage"] = replace(inside["usage"], reasoning=over_http["usage"].reasoning)
    assert over_http == inside
    assert over_http["text"].startswith("Scripted answer")


@pytest.mark.parametrize("family", get_args(Family))
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_tool_calls_are_the_same_inside_and_over_http(stream: bool, family: Family) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    script = Script(defaults=Settings(tool_calls=2))
    inside, over_http = await told_twice(script, family, ask(stream, Tool("weather", None, schema)))
    assert over_http["calls"].keys() == {0, 1}
    assert over_http["finish"] == "tool_calls"
    assert over_http == inside


@pytest.mark.parametrize("family", get_args(Family))
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("fault", ENDLESS, ids=lambda rule: str(rule.__struct_config__.tag))
async def test_giving_up_an_endless_answer_frees_the_connection(
    fault: type[faults.AnyRule], stream: bool, family: Family
) -> None:
    codec, base, auth = ADAPTERS[family]
    async with ScriptedServer(Script(rules=(fault(),))) as server:
        adapter = HttpProvider(Endpoint("scripted", server.url + base, "key", auth), codec, Transport())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                await outcome(adapter, ask(stream))
        async with asyncio.timeout(5):
            while server.connections:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert server.requests[0].client_left
        await adapter.aclose()
