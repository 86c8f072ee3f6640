"""Requests to the OpenAI format: what is sent, in whose words, and what is said of what is not."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmwise.domain.errors import UnsupportedInput
from llmwise.domain.messages import (
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
)
from llmwise.domain.models import Capabilities, ModelCard
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import (
    ChatRequest,
    Passthrough,
    ResponseFormat,
    Sampling,
    Thinking,
    Tool,
    ToolChoice,
)
from llmwise.providers.openai import OpenAICodec
from llmwise.providers.profiles import BUDGETS, effort_of, nearest_effort, profile_for
from llmwise.wire import openai as wire

GOLDEN = Path(__file__).parents[2] / "golden" / "openai"
HELLO = (Message("user", (Text("hello"),)),)
SEES = Capabilities(vision=True, documents=True)


def sent(
    request: ChatRequest, vendor: str = "openai", model: str = "gpt-4o", capabilities: Capabilities = SEES
) -> tuple[dict[str, Any], Outgoing]:
    card = ModelCard("target", vendor, model, capabilities=capabilities)
    outgoing = OpenAICodec(vendor).encode(request, card)
    assert outgoing.path == "/chat/completions"
    wire.REQUEST.decode(outgoing.body)  # valid by our own reading of the format
    assert b"null" not in outgoing.body
    body = json.loads(outgoing.body)
    assert not {"max_tokens", "max_completion_tokens"} <= body.keys()
    return body, outgoing


def asked(*messages: Message, **more: Any) -> ChatRequest:
    return ChatRequest("requested", messages or HELLO, **more)


def warned(outgoing: Outgoing) -> list[tuple[str, str]]:
    return [(warning.code, warning.field) for warning in outgoing.warnings]


# --- parameters -------------------------------------------------------------------------------------------------------


def test_the_least_request_says_nothing_that_was_not_said() -> None:
    body, outgoing = sent(asked())
    assert body == {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
    assert outgoing.warnings == ()


def test_a_stream_asks_for_its_usage_where_the_vendor_takes_that() -> None:
    body, _ = sent(asked(stream=True))
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    body, _ = sent(asked(stream=True), "mistral", "mistral-large-latest")
    assert body["stream"] is True
    assert "stream_options" not in body


def test_numbers_stay_what_they_were() -> None:
    _, outgoing = sent(asked(sampling=Sampling(temperature=0.7, top_p=0.1, max_tokens=5)))
    assert b'"temperature":0.7,"top_p":0.1' in outgoing.body


@pytest.mark.parametrize(
    ("vendor", "model", "name"),
    [
        ("openai", "gpt-4o", "max_completion_tokens"),
        ("groq", "llama-3.3-70b-versatile", "max_completion_tokens"),
        ("mistral", "mistral-large-latest", "max_tokens"),
        ("zai", "glm-4.7", "max_tokens"),
        ("a server of mine", "llama", "max_tokens"),
    ],
)
def test_the_limit_of_tokens_has_the_vendors_name(vendor: str, model: str, name: str) -> None:
    body, _ = sent(asked(sampling=Sampling(max_tokens=5)), vendor, model)
    assert body[name] == 5


@pytest.mark.parametrize("model", ["o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5.5"])
def test_a_reasoning_model_gets_no_temperature_and_the_caller_hears_of_it(model: str) -> None:
    body, outgoing = sent(asked(sampling=Sampling(temperature=0.2)), model=model)
    assert "temperature" not in body
    assert warned(outgoing) == [("dropped", "temperature")]
    with pytest.raises(UnsupportedInput, match="temperature"):
        sent(asked(sampling=Sampling(temperature=0.2), strict=True), model=model)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5-chat-latest", "gpt-5.1", "gpt-5.2"])
def test_others_get_it(model: str) -> None:
    body, outgoing = sent(asked(sampling=Sampling(temperature=0.2)), model=model)
    assert body["temperature"] == 0.2
    assert outgoing.warnings == ()


def test_temperature_depends_on_whether_the_model_is_to_think() -> None:
    for effort, kept in (("none", True), ("low", False)):
        thinking = Thinking(effort=effort)  # type: ignore[arg-type]  # literals of a loop
        body, _ = sent(asked(sampling=Sampling(temperature=0.2), thinking=thinking), model="gpt-5.2")
        assert ("temperature" in body) is kept


def test_a_refused_default_is_left_out_without_a_word() -> None:
    body, outgoing = sent(asked(sampling=Sampling(temperature=1.0, top_p=1.0), strict=True), model="gpt-5")
    assert body.keys() == {"model", "messages"}
    assert outgoing.warnings == ()


def test_a_seed_is_a_random_seed_at_mistral() -> None:
    body, _ = sent(asked(sampling=Sampling(seed=7)), "mistral", "mistral-large-latest")
    assert body["random_seed"] == 7
    assert "seed" not in body


def test_metadata_stays_here_and_that_is_said() -> None:
    body, outgoing = sent(asked(metadata={"a": "b"}))
    assert "metadata" not in body
    assert warned(outgoing) == [("dropped", "metadata")]


# --- thinking ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "model", "thinking", "expected"),
    [
        ("openai", "gpt-5", Thinking("high"), {"reasoning_effort": "high"}),
        ("openai", "gpt-5", Thinking("none"), {"reasoning_effort": "minimal"}),
        ("openai", "o3", Thinking("xhigh"), {"reasoning_effort": "high"}),
        ("openai", "gpt-5.2", Thinking("xhigh"), {"reasoning_effort": "xhigh"}),
        ("openai", "gpt-5", Thinking(budget_tokens=2000), {"reasoning_effort": "low"}),
        ("openai", "gpt-4o", Thinking("high"), {}),
        ("groq", "openai/gpt-oss-120b", Thinking("minimal"), {"reasoning_effort": "low"}),
        ("groq", "qwen/qwen3-32b", Thinking("none"), {"reasoning_effort": "none"}),
        ("groq", "qwen/qwen3-32b", Thinking("high"), {}),
        ("deepseek", "deepseek-chat", Thinking("none"), {"thinking": {"type": "disabled"}}),
        (
            "deepseek",
            "deepseek-chat",
            Thinking("high"),
            {"thinking": {"type": "enabled"}, "reasoning_effort": "high"},
        ),
        ("zai", "glm-4.7", Thinking("low"), {"thinking": {"type": "enabled"}}),
        ("openrouter", "anthropic/claude-sonnet-4.5", Thinking("high"), {"reasoning": {"effort": "high"}}),
        (
            "openrouter",
            "anthropic/claude-sonnet-4.5",
            Thinking(budget_tokens=2000),
            {"reasoning": {"max_tokens": 2000}},
        ),
        ("moonshot", "kimi-k2.6", Thinking("none"), {"thinking": {"type": "disabled"}}),
    ],
)
def test_thinking_is_asked_for_in_the_targets_words(
    vendor: str, model: str, thinking: Thinking, expected: dict[str, Any]
) -> None:
    body, _ = sent(asked(thinking=thinking), vendor, model)
    body.pop("model")
    body.pop("messages")
    assert body == expected


def test_an_effort_that_is_not_to_be_had_is_changed_visibly() -> None:
    _, outgoing = sent(asked(thinking=Thinking("xhigh")), model="o3")
    assert warned(outgoing) == [("changed", "thinking")]
    _, outgoing = sent(asked(thinking=Thinking("high")), model="gpt-4o")
    assert warned(outgoing) == [("dropped", "thinking")]


def test_effort_and_budget_are_one_table() -> None:
    assert list(BUDGETS.values()) == sorted(set(BUDGETS.values()))
    for effort, budget in BUDGETS.items():
        assert effort_of(Thinking(budget_tokens=budget)) == effort
    assert effort_of(Thinking(budget_tokens=10**6)) == "xhigh"
    assert nearest_effort("minimal", ("low", "high")) == "low"
    assert nearest_effort("medium", ("low", "high")) == "high"
    assert nearest_effort("high", ("none",)) is None


# --- messages ---------------------------------------------------------------------------------------------------------


def test_system_messages_keep_their_place_and_take_the_models_role() -> None:
    talk = (Message("system", (Text("a"),)), *HELLO, Message("system", (Text("b"),)))
    for model, role in (("gpt-4o", "system"), ("gpt-5", "developer"), ("o1-mini", "user")):
        body, _ = sent(asked(*talk), model=model)
        assert [message["role"] for message in body["messages"]] == [role, "user", role]


def test_images_go_as_addresses_or_data_urls() -> None:
    parts = (
        Text("look"),
        Image(url="https://example.org/a.png", detail="low"),
        Image(data="iVBORw0KGgo=", media_type="image/png"),
        Image(data="/9j/4AAQSkZJRg=="),
    )
    body, _ = sent(asked(Message("user", parts)))
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4AAQSkZJRg=="}},
    ]


def test_documents_go_as_each_vendor_takes_them() -> None:
    talk = Message("user", (Document(data="JVBE", media_type="application/pdf", name="a.pdf"),))
    body, _ = sent(asked(talk))
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}
    assert body["messages"][0]["content"] == [{"type": "file", "file": file}]
    body, _ = sent(asked(talk), "mistral", "mistral-large-latest")
    expected = {"type": "document_url", "document_url": "data:application/pdf;base64,JVBE"}
    assert body["messages"][0]["content"] == [expected]


@pytest.mark.parametrize(
    ("part", "vendor", "capabilities"),
    [
        (Image(data="AAAA"), "openai", Capabilities(vision=False)),
        (Document(data="AAAA"), "openai", Capabilities(documents=False)),
        (Document(data="AAAA"), "groq", SEES),
        (Document(url="https://example.org/a.pdf"), "openai", SEES),
    ],
)
def test_what_the_target_cant_see_is_refused_and_not_left_out(
    part: Part, vendor: str, capabilities: Capabilities
) -> None:
    with pytest.raises(UnsupportedInput):
        sent(asked(Message("user", (Text("what is this?"), part))), vendor, "model", capabilities)


CALL = Message("assistant", (ToolCall("call_1", "look", ""), ToolCall("call_2", "look", '{"a": 0.10}')))


def test_a_tool_turn_is_written_as_the_format_has_it() -> None:
    results = (
        ToolResult("call_1", (Text("one"), Text("two"))),
        ToolResult("call_2", (Text("boom"),), is_error=True),
    )
    body, _ = sent(asked(*HELLO, CALL, Message("tool", results)))
    assert body["messages"][1:] == [
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
                {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": '{"a": 0.10}'}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "one\ntwo"},
        {"role": "tool", "tool_call_id": "call_2", "content": "Error: boom"},
    ]


def test_images_of_tool_results_are_shown_after_the_last_result() -> None:
    results = (ToolResult("call_1", (Image(data="iVBORw0KGgo="),)), ToolResult("call_2", (Text("two"),)))
    body, _ = sent(asked(*HELLO, CALL, Message("tool", results[:1]), Message("tool", results[1:]), *HELLO))
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "user", "user"]
    assert body["messages"][4]["content"][1]["type"] == "image_url"
    body, _ = sent(asked(*HELLO, CALL, Message("tool", results)), "mistral", "mistral-large-latest")
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["user", "assistant", "tool", "tool", "assistant", "user"]


def test_mistral_gets_ids_of_nine_characters_the_same_for_call_and_result() -> None:
    results = Message("tool", (ToolResult("call_1", (Text("a"),)), ToolResult("call_2", (Text("b"),))))
    body, _ = sent(asked(*HELLO, CALL, results), "mistral", "mistral-large-latest")
    ids = [call["id"] for call in body["messages"][1]["tool_calls"]]
    assert ids == [message["tool_call_id"] for message in body["messages"][2:]]
    assert all(len(one) == 9 and one.isalnum() for one in ids)
    assert len(set(ids)) == 2
    kept = Message("assistant", (ToolCall("Df1cqWOle", "look", "{}"),))
    body, _ = sent(asked(*HELLO, kept), "mistral", "mistral-large-latest")
    assert body["messages"][1]["tool_calls"][0]["id"] == "Df1cqWOle"


THOUGHT = Message("assistant", (Reasoning("because", family="openai"), Text("so")))


@pytest.mark.parametrize(
    ("vendor", "model", "turn"),
    [
        ("openai", "gpt-5", {"content": "so"}),
        ("deepseek", "deepseek-chat", {"content": "so", "reasoning_content": "because"}),
        ("zai", "glm-4.7", {"content": "so", "reasoning_content": "because"}),
        ("groq", "openai/gpt-oss-120b", {"content": "so", "reasoning": "because"}),
        (
            "mistral",
            "magistral-medium-latest",
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "because"}]},
                    {"type": "text", "text": "so"},
                ]
            },
        ),
        (
            "openrouter",
            "deepseek/deepseek-chat",
            {"content": "so", "reasoning_details": [{"type": "reasoning.text", "text": "because"}]},
        ),
    ],
)
def test_earlier_thinking_goes_back_as_each_vendor_takes_it(vendor: str, model: str, turn: dict[str, Any]) -> None:
    body, _ = sent(asked(*HELLO, THOUGHT, *HELLO), vendor, model)
    assert body["messages"][1] == {"role": "assistant", **turn}


def test_details_of_thinking_come_back_as_they_were() -> None:
    detail = {"type": "reasoning.text", "signature": "S", "format": "anthropic-claude-v1", "index": 0}
    sealed = {"type": "reasoning.encrypted", "data": "E", "id": "rs_1", "index": 1}
    thoughts = (
        Reasoning("because", signature=json.dumps(detail), family="openai"),
        Reasoning(redacted=json.dumps(sealed), family="openai"),
        Reasoning("foreign", signature="EooDCokBCA8Y", family="anthropic"),
    )
    body, outgoing = sent(asked(*HELLO, Message("assistant", (*thoughts, Text("so")))), "openrouter", "openai/o3")
    assert body["messages"][1]["reasoning_details"] == [{**detail, "text": "because"}, sealed]
    assert warned(outgoing) == [("noted", "messages.reasoning")]


def test_a_tool_call_without_its_thinking_is_given_some_where_that_is_an_error() -> None:
    body, _ = sent(asked(*HELLO, CALL), "deepseek", "deepseek-chat")
    assert body["messages"][1]["reasoning_content"] == " "
    assert body["messages"][1]["content"] == ""


def test_opaque_parts_go_to_their_own_family_as_they_came() -> None:
    audio = '{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}'
    parts = (Text("hear"), Opaque("openai", "input_audio", audio), Opaque("gemini", "executableCode", "{}"))
    body, outgoing = sent(asked(Message("user", parts)))
    assert body["messages"][0]["content"][1:] == [json.loads(audio)]
    assert warned(outgoing) == [("dropped", "messages.executableCode")]


def test_cache_breakpoints_go_where_they_are_understood() -> None:
    talk = asked(Message("user", (Text("long", cache="1h"),)))
    body, _ = sent(talk, "openrouter", "anthropic/claude-sonnet-4.5")
    control = {"type": "ephemeral", "ttl": "1h"}
    assert body["messages"][0]["content"] == [{"type": "text", "text": "long", "cache_control": control}]
    body, _ = sent(talk)
    assert body["messages"][0]["content"] == "long"


# --- tools and formats ------------------------------------------------------------------------------------------------

LOOK = Tool("look", "Looks.", {"type": "object", "properties": {}}, strict=True)


def test_tools_and_their_choice() -> None:
    request = asked(tools=(LOOK,), tool_choice=ToolChoice("tool", "look"), parallel_tool_calls=False)
    body, _ = sent(request)
    function = {
        "name": "look",
        "description": "Looks.",
        "parameters": {"type": "object", "properties": {}},
        "strict": True,
    }
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert body["parallel_tool_calls"] is False


def test_a_choice_without_tools_is_not_sent() -> None:
    body, _ = sent(asked(tool_choice=ToolChoice("auto"), parallel_tool_calls=True))
    assert body.keys() == {"model", "messages"}


def test_where_no_tool_can_be_forced_the_model_chooses_and_the_caller_hears_of_it() -> None:
    body, outgoing = sent(asked(tools=(LOOK,), tool_choice=ToolChoice("required")), "zai", "glm-4.7")
    assert "tool_choice" not in body
    assert "strict" not in body["tools"][0]["function"]
    assert warned(outgoing) == [("changed", "tool_choice")]
    body, outgoing = sent(asked(tools=(LOOK,), tool_choice=ToolChoice("none")), "zai", "glm-4.7")
    assert body.keys() == {"model", "messages"}
    assert outgoing.warnings == ()


SCHEMA = ResponseFormat("json_schema", {"type": "object"}, "thing", strict=True)


def test_a_schema_is_native_where_it_can_be() -> None:
    body, _ = sent(asked(response_format=SCHEMA))
    schema = {"name": "thing", "schema": {"type": "object"}, "strict": True}
    assert body["response_format"] == {"type": "json_schema", "json_schema": schema}


def test_elsewhere_the_schema_is_in_the_prompt_and_that_is_said() -> None:
    body, outgoing = sent(asked(response_format=SCHEMA), "deepseek", "deepseek-chat")
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["role"] == "system"
    assert '{"type":"object"}' in body["messages"][0]["content"]
    assert warned(outgoing) == [("changed", "response_format")]


# --- the caller's own body --------------------------------------------------------------------------------------------


def forwarded(*messages: Message, more: dict[str, Any] | None = None, **fields: Any) -> ChatRequest:
    raw = {name: json.dumps(value).encode() for name, value in {"model": "requested", **fields}.items()}
    return asked(*messages, passthrough=Passthrough("openai", raw), **(more or {}))


MINE = [{"role": "user", "content": "he\u20acllo", "name": "me"}]


def test_a_callers_body_is_forwarded_with_what_we_do_not_know() -> None:
    request = forwarded(
        messages=MINE, logit_bias={"50256": -100}, max_tokens=5, temperature=None, verbosity="low", stream=False
    )
    body, outgoing = sent(request)
    assert body == {
        "model": "gpt-4o",
        "messages": MINE,
        "logit_bias": {"50256": -100},
        "verbosity": "low",
        "max_completion_tokens": 5,
    }
    assert json.dumps(MINE).encode() in outgoing.body  # byte for byte


def test_a_forwarded_stream_reports_its_usage_whatever_the_caller_asked() -> None:
    body, _ = sent(forwarded(messages=MINE, stream_options={"include_usage": False}, more={"stream": True}))
    assert body["stream_options"] == {"include_usage": True}
    body, _ = sent(forwarded(messages=MINE, stream=True, stream_options={"include_usage": True}))
    assert body.keys() == {"model", "messages"}  # the engine asks for a whole answer, whatever the caller wrote


def test_two_limits_become_one() -> None:
    body, _ = sent(forwarded(messages=MINE, max_tokens=5, max_completion_tokens=6))
    assert body["max_completion_tokens"] == 6


def test_a_forwarded_request_is_fitted_too() -> None:
    request = forwarded(
        messages=MINE,
        temperature=0.2,
        reasoning_effort="none",
        more={"sampling": Sampling(temperature=0.2), "thinking": Thinking("none")},
    )
    body, outgoing = sent(request, model="o3")
    assert "temperature" not in body
    assert body["reasoning_effort"] == "low"
    assert warned(outgoing) == [("changed", "thinking"), ("dropped", "temperature")]


def test_messages_are_rewritten_only_where_the_vendor_would_choke_on_them() -> None:
    raw = [{"role": "developer", "content": "be brief"}]
    request = forwarded(Message("system", (Text("be brief"),)), messages=raw)
    body, _ = sent(request)
    assert body["messages"] == raw
    body, _ = sent(request, "groq", "llama-3.3-70b-versatile")
    assert body["messages"] == [{"role": "system", "content": "be brief"}]
    harmless = [{"role": "user", "content": 'the "developer" and the "name"'}]
    body, outgoing = sent(forwarded(messages=harmless), "groq", "llama-3.3-70b-versatile")
    assert json.dumps(harmless).encode() in outgoing.body


# --- recorded requests ------------------------------------------------------------------------------------------------


def heard(data: bytes) -> ChatRequest:
    """A recorded request in the gateway's own shape: a small stand-in for the dialect's translation."""
    request = wire.REQUEST.decode(data)
    raw = json.loads(data)
    sampling = {
        name: getattr(request, name)
        for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty")
    }
    limit = request.max_completion_tokens or request.max_tokens
    functions = [tool.function for tool in request.tools or () if tool.function is not None]
    return ChatRequest(
        request.model,
        tuple(turn(message, whole) for message, whole in zip(request.messages, raw["messages"], strict=True)),
        stream=bool(request.stream),
        sampling=Sampling(**sampling, max_tokens=limit),
        tools=tuple(Tool(f.name, f.description, f.parameters, f.strict) for f in functions),
        tool_choice=ToolChoice(request.tool_choice)  # type: ignore[arg-type]  # recorded ones are words
        if request.tools and isinstance(request.tool_choice, str)
        else None,
        thinking=Thinking(request.reasoning_effort) if request.reasoning_effort in BUDGETS else None,  # type: ignore[arg-type]
    )


def turn(message: wire.Message, raw: dict[str, Any]) -> Message:
    content = message.content
    parts: list[Part] = []
    if isinstance(content, str):
        parts.append(Text(content))
    for part, whole in zip(content if isinstance(content, list) else (), raw.get("content") or (), strict=False):
        parts.append(Text(part.text) if part.text is not None else Opaque("openai", part.type, json.dumps(whole)))
    if message.tool_call_id is not None:
        return Message("tool", (ToolResult(message.tool_call_id, (Text(str(content)),)),))
    parts += [
        ToolCall(call.id, call.function.name, call.function.arguments)
        for call in message.tool_calls or ()
        if isinstance(call, wire.ToolCall)
    ]
    role: Role = "system" if message.role in ("system", "developer") else message.role  # type: ignore[assignment]
    return Message(role, tuple(parts), message.name)


RECORDED = sorted(case.parent.name for case in GOLDEN.glob("openai-*/request.json"))


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_request_is_written_again_without_loss(name: str) -> None:
    data = (GOLDEN / name / "request.json").read_bytes()
    theirs = json.loads(data)
    body, outgoing = sent(heard(data), model=theirs["model"])
    assert outgoing.warnings == ()
    assert len(body["messages"]) == len(theirs["messages"])
    assert [m.get("content") or "" for m in body["messages"]] == [m.get("content") or "" for m in theirs["messages"]]
    assert body.get("tools") == theirs.get("tools")
    assert body.get("tool_choice") == theirs.get("tool_choice")


def test_profiles_are_looked_up_once() -> None:
    assert profile_for("openai", "gpt-4o") is profile_for("openai", "gpt-4o")
    assert msgspec.structs.asdict(profile_for("nobody", "x"))["max_tokens"] == "max_tokens"
