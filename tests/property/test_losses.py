"""The law of losses: whatever a caller says arrives, or a warning names it, or a strict request is refused.

Checked by difference: a field is set on a plain question, and either the body that goes out is another one, or there
is a warning about it. A strict request gets the same bytes where nothing was dropped or changed, and is refused where
something was.
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmwise.api.anthropic.messages import parse as read_anthropic
from llmwise.api.openai.translate import ChatBody
from llmwise.api.openai.translate import to_request as read_openai
from llmwise.domain.errors import UnsupportedInput
from llmwise.domain.messages import Document, Image, Message, Opaque, Text, ToolCall, ToolResult
from llmwise.domain.models import Capabilities, ModelCard
from llmwise.domain.ports import Codec, Outgoing
from llmwise.domain.requests import ChatRequest, ResponseFormat, Sampling, Thinking, Tool, ToolChoice
from llmwise.providers import anthropic, gemini
from llmwise.providers.openai import OpenAICodec

ABLE = Capabilities(vision=True, documents=True, reasoning=True)
TARGETS: dict[str, tuple[Codec, ModelCard]] = {
    name: (codec, ModelCard(name, provider, upstream, capabilities=ABLE))
    for name, codec, provider, upstream in (
        ("opus-3", anthropic.CODEC, "anthropic", "claude-3-opus-20240229"),
        ("sonnet-4.5", anthropic.CODEC, "anthropic", "claude-sonnet-4-5"),
        ("opus-4.6", anthropic.CODEC, "anthropic", "claude-opus-4-6"),
        ("opus-5.5", anthropic.CODEC, "anthropic", "claude-opus-5-5"),
        ("gemini-2.5", gemini.CODEC, "gemini", "gemini-2.5-pro"),
        ("gemini-3", gemini.CODEC, "gemini", "gemini-3-flash-preview"),
        ("gemini-3.6", gemini.CODEC, "gemini", "gemini-3.6-flash"),
        ("gpt-5.2", OpenAICodec("openai"), "openai", "gpt-5.2"),
        ("gpt-4o", OpenAICodec("openai"), "openai", "gpt-4o"),
        ("deepseek", OpenAICodec("deepseek"), "deepseek", "deepseek-flash"),
        ("mistral", OpenAICodec("mistral"), "mistral", "mistral-large-latest"),
        ("openrouter", OpenAICodec("openrouter"), "openrouter", "anthropic/claude-sonnet-4.5"),
        ("vllm", OpenAICodec("vllm"), "vllm", "qwen3"),
    )
}
HELLO = Message("user", (Text("Hello"),))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool("weather", "The weather.", SCHEMA)
CALLED = (HELLO, Message("assistant", (ToolCall("call_1", "weather", "{}"),)))

FIELDS: dict[str, dict[str, Any]] = {
    "temperature": {"sampling": Sampling(temperature=0.3)},
    "hot": {"sampling": Sampling(temperature=1.7)},
    "top_p": {"sampling": Sampling(top_p=0.4)},
    "top_k": {"sampling": Sampling(top_k=7)},
    "temperature and top_p": {"sampling": Sampling(temperature=0.3, top_p=0.4)},
    "max_tokens": {"sampling": Sampling(max_tokens=77)},
    "stop": {"sampling": Sampling(stop=("END",))},
    "stop of space": {"sampling": Sampling(stop=("\n",))},
    "seed": {"sampling": Sampling(seed=4)},
    "presence_penalty": {"sampling": Sampling(presence_penalty=0.5)},
    "frequency_penalty": {"sampling": Sampling(frequency_penalty=0.5)},
    "logprobs": {"sampling": Sampling(logprobs=True)},
    "top_logprobs": {"sampling": Sampling(logprobs=True, top_logprobs=3)},
    "tools": {"tools": (WEATHER,)},
    "strict tools": {"tools": (replace(WEATHER, strict=True),)},
    "tool_choice": {"tools": (WEATHER,), "tool_choice": ToolChoice("required")},
    "named tool": {"tools": (WEATHER,), "tool_choice": ToolChoice("tool", "weather")},
    "no tool": {"tools": (WEATHER,), "tool_choice": ToolChoice("none")},
    "one tool at a time": {"tools": (WEATHER,), "parallel_tool_calls": False},
    "json": {"response_format": ResponseFormat("json_object")},
    "schema": {"response_format": ResponseFormat("json_schema", SCHEMA, "answer")},
    "thinking": {"thinking": Thinking("medium")},
    "thinking budget": {"thinking": Thinking(budget_tokens=3000)},
    "no thinking": {"thinking": Thinking("none")},
    "user": {"user": "u1"},
    "metadata": {"metadata": {"team": "blue"}},
    "image": {"messages": (Message("user", (Text("?"), Image(url="https://x/i.png"))),)},
    "image detail": {"messages": (Message("user", (Text("?"), Image(url="https://x/i.png", detail="low"))),)},
    "document": {"messages": (Message("user", (Text("?"), Document(data="JVBERg==", media_type="application/pdf"))),)},
    "image in a result": {
        "tools": (WEATHER,),
        "messages": (*CALLED, Message("tool", (ToolResult("call_1", (Image(data="iVBORw0KGgo="),)),))),
    },
    "block in a result": {
        "tools": (WEATHER,),
        "messages": (
            *CALLED,
            Message(
                "tool", (ToolResult("call_1", (Opaque("anthropic", "search_result", '{"type":"search_result"}'),)),)
            ),
        ),
    },
    "another family's block": {
        "messages": (HELLO, Message("assistant", (Text("a"), Opaque("gemini", "code", '{"a":1}'))), HELLO),
    },
}
"""What each is the opposite of, where that isn't nothing: the same field, said the other way."""
BASES: dict[str, dict[str, Any]] = {
    "strict tools": {"tools": (WEATHER,)},
    "tool_choice": {"tools": (WEATHER,)},
    "named tool": {"tools": (WEATHER,)},
    "no tool": {"tools": (WEATHER,)},
    "one tool at a time": {"tools": (WEATHER,)},
    "image": {"messages": (Message("user", (Text("?"),)),)},
    "image detail": {"messages": (Message("user", (Text("?"), Image(url="https://x/i.png"))),)},
    "document": {"messages": (Message("user", (Text("?"),)),)},
    "image in a result": {"tools": (WEATHER,), "messages": (*CALLED, Message("tool", (ToolResult("call_1", ()),)))},
    "block in a result": {"tools": (WEATHER,), "messages": (*CALLED, Message("tool", (ToolResult("call_1", ()),)))},
    "another family's block": {"messages": (HELLO, Message("assistant", (Text("a"),)), HELLO)},
}
ASKS_FOR_WHAT_HAPPENS_ANYWAY = {("no thinking", name) for name in TARGETS}
"""Leaving thinking off, where it is off unless asked for."""


def asked(**fields: Any) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": (HELLO,), **fields})


def encoded(request: ChatRequest, target: str) -> Outgoing | None:
    """`None` when it is refused."""
    codec, card = TARGETS[target]
    try:
        return codec.encode(request, card)
    except UnsupportedInput:
        return None


def losses(outgoing: Outgoing) -> list[str]:
    return [warning.field for warning in outgoing.warnings if warning.code != "noted"]


def check_strict(request: ChatRequest, target: str) -> None:
    """What loses something is refused; what loses nothing goes out as it would anyway."""
    free, strict = encoded(request, target), encoded(replace(request, strict=True), target)
    if free is None:
        assert strict is None
    elif losses(free):
        assert strict is None, (losses(free), "got through")
    else:
        assert strict is not None
        assert strict.body == free.body


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("field", FIELDS)
def test_a_field_arrives_or_is_told_or_refused(field: str, target: str) -> None:
    request = asked(**FIELDS[field])
    check_strict(request, target)
    with_it, without = encoded(request, target), encoded(asked(**BASES.get(field, {})), target)
    assert without is not None
    if with_it is None or (field, target) in ASKS_FOR_WHAT_HAPPENS_ANYWAY:
        return
    assert with_it.body != without.body or with_it.warnings != without.warnings, "lost without a word"


@pytest.mark.parametrize("target", TARGETS)
@given(names=st.sets(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=4))
def test_strict_holds_for_any_fields_together(target: str, names: set[str]) -> None:
    fields: dict[str, Any] = {}
    for name in sorted(names):
        fields |= FIELDS[name]
    check_strict(asked(**fields), target)


OPENAI_ONLY: dict[str, Any] = {
    "store": True,
    "service_tier": "priority",
    "verbosity": "low",
    "logit_bias": {"50256": -100},
    "prediction": {"type": "content", "content": "x"},
    "modalities": ["text", "audio"],
    "web_search_options": {},
    "functions": [{"name": "f"}],
    "brand_new": 1,
}
ANTHROPIC_ONLY: dict[str, Any] = {
    "container": {"id": "c"},
    "context_management": {"edits": []},
    "mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}],
    "inference_geo": "us",
    "speed": "fast",
    "brand_new": 1,
    "tools": [{"type": "web_search_20250305", "name": "web_search"}],
    "output_config": {"effort": "max"},
}


def of_openai(**fields: Any) -> ChatRequest:
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields})
    raw = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    return read_openai(msgspec.json.decode(body, type=ChatBody), {name: bytes(value) for name, value in raw.items()})


def of_anthropic(**fields: Any) -> ChatRequest:
    hello = {"role": "user", "content": "Hello"}
    return read_anthropic(msgspec.json.encode({"model": "m", "max_tokens": 9, "messages": [hello], **fields}))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("field", OPENAI_ONLY)
def test_a_field_that_only_openai_knows_arrives_there_and_is_told_elsewhere(field: str, target: str) -> None:
    request = of_openai(**{field: OPENAI_ONLY[field]})
    check_strict(request, target)
    sent = encoded(request, target)
    assert sent is not None
    if TARGETS[target][0].family == "openai":
        assert field in msgspec.json.decode(sent.body) or field in losses(sent)
    else:
        assert field in losses(sent)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("field", ANTHROPIC_ONLY)
def test_a_field_that_only_anthropic_knows_arrives_there_and_is_told_elsewhere(field: str, target: str) -> None:
    request = of_anthropic(**{field: ANTHROPIC_ONLY[field]})
    check_strict(request, target)
    sent = encoded(request, target)
    assert sent is not None
    if TARGETS[target][0].family == "anthropic" and field != "output_config":
        assert msgspec.json.decode(sent.body)[field] == ANTHROPIC_ONLY[field]
    elif target in ("opus-4.6", "opus-5.5"):
        assert msgspec.json.decode(sent.body)["output_config"] == {"effort": "max"}
    else:
        told = {"tools": "tools.web_search", "output_config": "output_config.effort"}
        assert told.get(field, field) in losses(sent)


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "context": "c"},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "citations": {}},
        {"type": "container_upload", "file_id": "f"},
    ],
    ids=["context", "citations", "upload"],
)
@pytest.mark.parametrize("target", TARGETS)
def test_what_a_block_says_to_anthropic_alone_arrives_there_and_is_told_elsewhere(
    block: dict[str, Any], target: str
) -> None:
    request = of_anthropic(messages=[{"role": "user", "content": [{"type": "text", "text": "?"}, block]}])
    check_strict(request, target)
    sent = encoded(request, target)
    if TARGETS[target][0].family == "anthropic":
        assert sent is not None
        assert msgspec.json.decode(sent.body)["messages"][0]["content"][1] == block
    else:
        assert sent is None or losses(sent)


def test_a_breakpoint_for_the_cache_is_told_and_no_reason_to_refuse() -> None:
    cached = {"type": "text", "text": "?", "cache_control": {"type": "ephemeral"}}
    request = replace(of_anthropic(messages=[{"role": "user", "content": [cached]}]), strict=True)
    told = {target: encoded(request, target) for target in ("gpt-5.2", "gemini-3", "openrouter", "opus-5.5")}
    noted = {target: [w.field for w in sent.warnings] for target, sent in told.items() if sent is not None}
    assert noted == {"gpt-5.2": ["cache_control"], "gemini-3": ["cache_control"], "openrouter": [], "opus-5.5": []}
