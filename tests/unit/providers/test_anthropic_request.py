"""Requests to Anthropic: recorded conversations first, checked against the official SDK's types, then each rule."""

import json
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming
from pydantic import TypeAdapter

from llmwise.domain.errors import UnsupportedInput
from llmwise.domain.messages import Document, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
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
from llmwise.providers.anthropic import CODEC
from llmwise.providers.anthropic.generations import generation

from .recorded import card, cases

CASES = cases("anthropic")
NEW, MIDDLE, OLD = "claude-opus-5-5", "claude-sonnet-4-5", "claude-3-5-haiku-20241022"
USER = Message("user", (Text("Hi"),))
WEATHER = Tool("weather", "Tells it", {"type": "object", "properties": {"city": {"type": "string"}}})
SDK: dict[bool, TypeAdapter[Any]] = {
    False: TypeAdapter(MessageCreateParamsNonStreaming),
    True: TypeAdapter(MessageCreateParamsStreaming),
}
SAMPLING = {"temperature", "top_p", "top_k"}
"""Still taken by the models that have them, though SDK 2 no longer types them."""


def encode(*messages: Message, model: str = MIDDLE, **changes: Any) -> Outgoing:
    settings = {"sampling": Sampling(max_tokens=4096), **changes}
    outgoing = CODEC.encode(ChatRequest(model, messages or (USER,), **settings), card(model))
    accepted(outgoing.body)
    return outgoing


def body(*messages: Message, **changes: Any) -> Any:
    return json.loads(encode(*messages, **changes).body)


def turns(*messages: Message, **changes: Any) -> Any:
    return body(*messages, **changes)["messages"]


def lost(outgoing: Outgoing) -> list[tuple[str, str]]:
    return [(warning.code, warning.field) for warning in outgoing.warnings]


def accepted(data: bytes) -> None:
    """The SDK's types take it, it says nothing twice, and nothing is null but what a caller's schema says."""
    request = json.loads(data, object_pairs_hook=_unique)
    known = SDK[request.get("stream", False)]
    _settled(known.validate_python({key: value for key, value in request.items() if key not in SAMPLING}))
    assert b":null" not in data.replace(b'"default":null', b"")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


def _settled(value: Any) -> Any:
    """Pydantic validates an `Iterable` only while it is iterated."""
    if isinstance(value, dict):
        return {key: _settled(child) for key, child in value.items()}
    return value if isinstance(value, str | int | float | None) else [_settled(child) for child in value]


# --- recorded -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_conversation_becomes_its_request(name: str) -> None:
    case = CASES[name]
    outgoing = CODEC.encode(case.request, card(case.meta["model"]))
    assert json.loads(outgoing.body) == case.sent
    assert outgoing.path == case.meta["path"] == "/messages"
    assert [[warning.code, warning.field] for warning in outgoing.warnings] == case.meta["warnings"]


@pytest.mark.parametrize("model", [NEW, MIDDLE, OLD, "claude-opus-4-8", "claude-fable-5", "deepseek-chat"])
@pytest.mark.parametrize("family", ["anthropic", "gemini"])
def test_the_sdk_accepts_what_any_recorded_conversation_becomes_for_any_model(family: str, model: str) -> None:
    for case in cases(family).values():
        accepted(CODEC.encode(case.request, card(model)).body)


# --- turns ----------------------------------------------------------------------------------------------------------


def test_leading_system_messages_go_to_the_top() -> None:
    sent = body(Message("system", (Text("A"),)), Message("system", (Text("B", cache="1h"),)), USER)
    assert sent["system"] == [
        {"type": "text", "text": "A"},
        {"type": "text", "text": "B", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert [turn["role"] for turn in sent["messages"]] == ["user"]


MIDDLE_SYSTEM = (USER, Message("system", (Text("Rhyme."),)))


def test_a_system_message_in_the_middle_is_a_turn_where_the_model_takes_one() -> None:
    assert turns(*MIDDLE_SYSTEM, model=NEW)[1] == {"role": "system", "content": [{"type": "text", "text": "Rhyme."}]}


def test_a_system_message_in_the_middle_keeps_its_place_inside_a_user_turn_elsewhere() -> None:
    [turn] = turns(*MIDDLE_SYSTEM)
    assert [block["text"] for block in turn["content"]] == ["Hi", "<system>\nRhyme.\n</system>"]


def test_a_system_message_behind_the_assistant_is_never_a_turn() -> None:
    sent = turns(USER, Message("assistant", (Text("Yo"),)), Message("system", (Text("Rhyme."),)), USER, model=NEW)
    assert [turn["role"] for turn in sent] == ["user", "assistant", "user"]


def test_a_lone_system_message_is_the_users() -> None:
    sent = encode(Message("system", (Text("Say hi."),)))
    assert json.loads(sent.body)["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hi."}]}]
    assert ("changed", "messages") in lost(sent)


def test_consecutive_messages_of_a_role_are_one_turn() -> None:
    assert [len(turn["content"]) for turn in turns(USER, USER)] == [2]


def test_empty_text_is_not_sent_not_even_in_a_tool_result() -> None:
    sent = turns(
        Message("user", (Text(""), Text("Go"))),
        Message("assistant", (Text(" \n"), ToolCall("t", "weather", "{}"))),
        Message("tool", (ToolResult("t", (Text(""),)),)),
        Message("assistant", (Text(""),)),
        USER,
    )
    assert [[block["type"] for block in turn["content"]] for turn in sent] == [
        ["text"],
        ["tool_use"],
        ["tool_result", "text"],
    ]
    assert "content" not in sent[2]["content"][0]


def test_a_leading_assistant_turn_is_sent_as_it_is() -> None:
    assert [turn["role"] for turn in turns(Message("assistant", (Text("Hello"),)), USER)] == ["assistant", "user"]


def test_the_start_of_an_answer_is_continued_where_the_model_can() -> None:
    start = Message("assistant", (Text("The answer is "),))
    assert turns(USER, start)[-1]["content"] == [{"type": "text", "text": "The answer is"}]
    asked = encode(USER, start, model=NEW)
    assert json.loads(asked.body)["messages"][-1]["role"] == "user"
    assert ("changed", "messages") in lost(asked)


def test_tool_results_lead_their_turn_in_order() -> None:
    calls = Message("assistant", (ToolCall("a", "weather", "{}"), ToolCall("b", "weather", "{}")))
    results = [Message("tool", (ToolResult(name, (Text("ok"),)),)) for name in "ab"]
    sent = turns(USER, calls, Message("user", (Text("And?"),)), *results)
    assert [block.get("tool_use_id", "text") for block in sent[-1]["content"]] == ["a", "b", "text"]


def test_a_failed_tool_says_so_and_images_and_documents_stay_inside() -> None:
    result = ToolResult(
        "t", (Text("see"), Image(data="iVBORw0KGgoAAA"), Document(url="https://x/y.pdf")), is_error=True
    )
    call = Message("assistant", (ToolCall("t", "weather", "{}"),))
    [block] = turns(USER, call, Message("tool", (result,)))[-1]["content"]
    assert block["is_error"] is True
    assert [piece["type"] for piece in block["content"]] == ["text", "image", "document"]


@pytest.mark.parametrize(
    ("image", "source"),
    [
        (Image(url="https://x/y.png"), {"type": "url", "url": "https://x/y.png"}),
        (Image(url="data:image/webp;base64,AAAA"), {"type": "base64", "media_type": "image/webp", "data": "AAAA"}),
        (Image(data="/9j/4AAQ"), {"type": "base64", "media_type": "image/jpeg", "data": "/9j/4AAQ"}),
        (Image(data="AA", media_type="image/gif"), {"type": "base64", "media_type": "image/gif", "data": "AA"}),
    ],
)
def test_an_image_is_an_address_or_typed_data(image: Image, source: dict[str, str]) -> None:
    assert turns(Message("user", (image,)))[0]["content"] == [{"type": "image", "source": source}]


def test_an_image_or_document_of_another_type_is_refused_and_may_move_on() -> None:
    for part in (Image(data="AA", media_type="image/tiff"), Document(data="AA", media_type="video/mp4"), Image()):
        with pytest.raises(UnsupportedInput) as refusal:
            encode(Message("user", (part,)))
        assert refusal.value.retryable


def test_documents_are_pdf_or_text() -> None:
    pdf, text = Document(data="JVBE", name="a.pdf"), Document(data="SGVsbG8=", media_type="text/csv")
    first, second = turns(Message("user", (pdf, text)))[0]["content"]
    assert first["title"] == "a.pdf"
    assert first["source"] == {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}
    assert second["source"] == {"type": "text", "media_type": "text/plain", "data": "Hello"}


def test_own_thinking_goes_back_first_and_unmodified() -> None:
    sent = turns(
        USER,
        Message(
            "assistant",
            (
                Text("So"),
                Reasoning("Hm ", "sig", family="anthropic"),
                Reasoning(redacted="xx", family="anthropic"),
                ToolCall("t", "weather", "{}"),
            ),
        ),
        USER,
    )
    assert sent[1]["content"] == [
        {"type": "thinking", "thinking": "Hm ", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xx"},
        {"type": "text", "text": "So"},
        {"type": "tool_use", "id": "t", "name": "weather", "input": {}},
    ]


def test_interleaved_thinking_keeps_the_models_own_order() -> None:
    first, second = (Reasoning(text, "sig", family="anthropic") for text in "ab")
    server = Opaque(
        "anthropic", "server_tool_use", '{"type":"server_tool_use","id":"s","name":"web_search","input":{}}'
    )
    sent = turns(USER, Message("assistant", (first, server, second, Text("ok"))), USER)
    assert [block["type"] for block in sent[1]["content"]] == ["thinking", "server_tool_use", "thinking", "text"]


@pytest.mark.parametrize(
    "foreign",
    [
        Reasoning("Hm", "sig", family="gemini"),
        Reasoning("Hm", family="openai"),
        Reasoning("Hm"),
        Reasoning("Hm", family="anthropic"),
    ],
)
def test_thinking_without_our_signature_stays_at_home(foreign: Reasoning) -> None:
    sent = encode(USER, Message("assistant", (foreign, Text("Yo"))), USER, strict=True)
    assert json.loads(sent.body)["messages"][1]["content"] == [{"type": "text", "text": "Yo"}]
    assert lost(sent) == [("noted", "messages.reasoning")]


def test_citations_go_back_with_their_text_and_foreign_parts_do_not() -> None:
    location = {
        "type": "char_location",
        "cited_text": "sky",
        "document_index": 0,
        "document_title": "a",
        "start_char_index": 0,
        "end_char_index": 3,
    }
    cited = Message("assistant", (Text("Blue"), Opaque("anthropic", "citation", json.dumps(location))))
    assert turns(USER, cited, USER)[1]["content"][0]["citations"] == [location]
    foreign = encode(USER, Message("assistant", (Text("Yo"), Opaque("gemini", "executableCode", "{}"))), USER)
    assert lost(foreign) == [("dropped", "messages.executableCode")]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a": 1.0, "b": 12345678901234567890}', '{"a": 1.0, "b": 12345678901234567890}'),
        ("", "{}"),
        ("{broken", '{"invalid_json":"{broken"}'),
        ("[1]", '{"invalid_json":"[1]"}'),
    ],
)
def test_tool_arguments_keep_their_bytes(arguments: str, sent: str) -> None:
    outgoing = encode(USER, Message("assistant", (ToolCall("t", "f", arguments),)), USER)
    assert f'"input":{sent}'.encode() in outgoing.body


def test_foreign_tool_ids_are_rewritten_alike_on_both_sides() -> None:
    call, result = ToolCall("fc:1/ü", "f", "{}"), ToolResult("fc:1/ü", (Text("ok"),))
    sent = turns(USER, Message("assistant", (call,)), Message("tool", (result,)))
    assert sent[1]["content"][0]["id"] == sent[2]["content"][0]["tool_use_id"]
    assert sent[1]["content"][0]["id"].replace("_", "").isalnum()


# --- parameters -----------------------------------------------------------------------------------------------------


def test_a_limit_is_always_sent() -> None:
    def limit(model: str, asked: int | None, most: int | None) -> int:
        request = ChatRequest(model, (USER,), sampling=Sampling(max_tokens=asked))
        sent: int = json.loads(CODEC.encode(request, card(model, max_output=most)).body)["max_tokens"]
        return sent

    assert limit(MIDDLE, 100, 64_000) == 100
    assert limit(MIDDLE, None, 8192) == 8192
    assert limit(MIDDLE, None, None) == generation(MIDDLE).max_tokens
    assert limit(OLD, None, None) == 4096
    assert limit(MIDDLE, 100_000, 64_000) == 64_000


def test_what_the_api_does_not_have_is_dropped_visibly_or_refused() -> None:
    sampling = Sampling(
        max_tokens=9, seed=1, presence_penalty=1.0, frequency_penalty=0.5, logprobs=True, stop=("x", " ")
    )
    outgoing = encode(sampling=sampling, metadata={"team": "a", "user_id": "u"})
    assert [field for code, field in lost(outgoing)] == [
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "stop",
        "metadata",
    ]
    sent = json.loads(outgoing.body)
    assert sent["stop_sequences"] == ["x"]
    assert sent["metadata"] == {"user_id": "u"}
    with pytest.raises(UnsupportedInput, match="seed"):
        encode(sampling=Sampling(seed=1), strict=True)


def test_nothing_that_was_not_said_is_sent() -> None:
    assert set(body()) == {"model", "max_tokens", "messages"}
    assert body(stream=True)["stream"] is True


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        (OLD, {"temperature", "top_p", "top_k"}),
        (MIDDLE, {"temperature", "top_k"}),
        ("claude-opus-4-7", set()),
        (NEW, set()),
        ("deepseek-chat", {"temperature", "top_p", "top_k"}),
    ],
)
def test_sampling_is_sent_as_far_as_the_generation_takes_it(model: str, kept: set[str]) -> None:
    asked = encode(model=model, sampling=Sampling(temperature=0.7, top_p=0.9, top_k=5))
    sent = json.loads(asked.body)
    assert SAMPLING & sent.keys() == kept
    assert {field for _, field in lost(asked)} == SAMPLING - kept
    assert sent.get("temperature", 0.7) == 0.7
    assert b'"temperature":0.7' in asked.body or "temperature" not in kept


def test_default_sampling_is_no_loss() -> None:
    assert lost(encode(model=NEW, sampling=Sampling(temperature=1.0, top_p=1.0))) == []


def test_a_temperature_over_one_is_one() -> None:
    assert body(model=OLD, sampling=Sampling(temperature=1.7))["temperature"] == 1


@pytest.mark.parametrize(
    ("model", "thinking", "sent", "effort"),
    [
        (OLD, Thinking(effort="high"), None, None),
        (MIDDLE, Thinking(effort="low"), {"type": "enabled", "budget_tokens": 2048}, None),
        (MIDDLE, Thinking(budget_tokens=10), {"type": "enabled", "budget_tokens": 1024}, None),
        (MIDDLE, Thinking(effort="none"), None, None),
        ("claude-opus-4-6", Thinking(effort="xhigh"), {"type": "adaptive"}, "max"),
        ("claude-opus-4-6", Thinking(budget_tokens=2000), {"type": "enabled", "budget_tokens": 2000}, None),
        ("claude-opus-4-7", Thinking(effort="xhigh"), {"type": "adaptive", "display": "summarized"}, "xhigh"),
        ("claude-opus-4-7", Thinking(effort="none"), None, None),
        ("claude-opus-5", Thinking(effort="none"), {"type": "disabled"}, None),
        ("claude-opus-5", Thinking(effort="minimal"), {"type": "adaptive", "display": "summarized"}, "low"),
        ("claude-sonnet-5-5", Thinking(effort="none"), {"type": "between_tools"}, None),
        (NEW, Thinking(effort="none"), None, "low"),
        (NEW, Thinking(budget_tokens=9000), {"type": "adaptive", "display": "summarized"}, "high"),
        (NEW, Thinking(), {"type": "adaptive", "display": "summarized"}, None),
    ],
)
def test_thinking_follows_the_generation(
    model: str, thinking: Thinking, sent: dict[str, Any] | None, effort: str | None
) -> None:
    found = body(model=model, thinking=thinking)
    assert found.get("thinking") == sent
    assert found.get("output_config", {}).get("effort") == effort


def test_a_thinking_budget_leaves_room_for_the_answer() -> None:
    assert (
        body(thinking=Thinking(effort="high"), sampling=Sampling(max_tokens=4000))["thinking"]["budget_tokens"] == 3000
    )
    tight = encode(thinking=Thinking(effort="high"), sampling=Sampling(max_tokens=500))
    assert lost(tight) == [("dropped", "thinking")]
    grown = body(thinking=Thinking(effort="xhigh"), sampling=Sampling())
    assert grown["max_tokens"] > grown["thinking"]["budget_tokens"]


def test_thinking_with_a_budget_excludes_a_temperature() -> None:
    asked = encode(thinking=Thinking(effort="low"), sampling=Sampling(temperature=0.2, max_tokens=8000))
    assert "temperature" not in json.loads(asked.body)
    assert lost(asked) == [("dropped", "temperature")]


def test_a_budget_is_dropped_where_a_tool_is_forced_but_adaptive_thinking_is_not() -> None:
    forced: dict[str, Any] = {"tools": (WEATHER,), "tool_choice": ToolChoice("required")}
    asked = encode(thinking=Thinking(effort="low"), **forced)
    assert "thinking" not in json.loads(asked.body)
    assert lost(asked) == [("dropped", "thinking")]
    both = body(model="claude-opus-4-6", thinking=Thinking(effort="low"), **forced)
    assert (both["thinking"]["type"], both["tool_choice"]["type"]) == ("adaptive", "any")


def test_a_budget_is_dropped_in_the_middle_of_a_call_that_was_made_without_thinking() -> None:
    history = (
        USER,
        Message("assistant", (ToolCall("t", "weather", "{}"),)),
        Message("tool", (ToolResult("t", (Text("ok"),)),)),
    )
    assert lost(encode(*history, tools=(WEATHER,), thinking=Thinking(effort="low"))) == [("dropped", "thinking")]


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice("auto"), True, {"type": "auto"}),
        (ToolChoice("none"), False, {"type": "none"}),
        (ToolChoice("required"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice("tool", "weather"), None, {"type": "tool", "name": "weather"}),
    ],
)
def test_tool_choice_in_anthropics_words(choice: ToolChoice | None, parallel: bool | None, sent: Any) -> None:
    assert body(tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=parallel).get("tool_choice") == sent


def test_a_forced_choice_becomes_a_free_one_where_the_model_knows_no_other() -> None:
    asked = encode(model=NEW, tools=(WEATHER,), tool_choice=ToolChoice("tool", "weather"))
    assert json.loads(asked.body)["tool_choice"] == {"type": "auto"}
    assert lost(asked) == [("changed", "tool_choice")]


def test_a_tool_without_parameters_takes_an_empty_object() -> None:
    assert body(tools=(Tool("now"),))["tools"] == [
        {"name": "now", "input_schema": {"type": "object", "properties": {}}}
    ]


def test_a_strict_tool_is_closed_and_says_what_is_not_enforced() -> None:
    parameters = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    asked = encode(tools=(Tool("roll", None, parameters, strict=True),))
    [tool] = json.loads(asked.body)["tools"]
    assert tool["strict"] is True
    assert tool["input_schema"]["additionalProperties"] is False
    assert tool["input_schema"]["properties"]["n"] == {"type": "integer", "description": "minimum: 1"}
    assert lost(asked) == [("changed", "tools.roll")]


SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}


def test_a_json_schema_is_native_where_the_model_has_it_and_told_elsewhere() -> None:
    wanted = ResponseFormat("json_schema", SCHEMA)
    native = body(response_format=wanted)
    assert native["output_config"] == {
        "format": {"type": "json_schema", "schema": {**SCHEMA, "additionalProperties": False}}
    }
    told = encode(model=OLD, response_format=wanted)
    assert '"required":["x"]' in json.loads(told.body)["system"][0]["text"]
    assert lost(told) == [("changed", "response_format")]


def test_any_json_object_is_told() -> None:
    told = encode(response_format=ResponseFormat("json_object"))
    assert "JSON" in json.loads(told.body)["system"][0]["text"]
    assert lost(told) == [("changed", "response_format")]


def test_a_clients_own_fields_and_tools_go_along_to_the_same_family() -> None:
    fields = {
        "model": b'"alias"',
        "max_tokens": b"5",
        "tools": b'[{"type":"web_search_20250305","name":"web_search"}]',
        "tool_choice": b'{"type":"auto"}',
        "service_tier": b'"auto"',
        "thinking": b'{"type":"enabled","budget_tokens":2000,"display":"omitted"}',
    }
    sent = body(thinking=Thinking(budget_tokens=2000), passthrough=Passthrough("anthropic", fields))
    assert sent["model"] == MIDDLE
    assert sent["max_tokens"] == 4096
    assert sent["tools"][0]["type"] == "web_search_20250305"
    assert sent["tool_choice"] == {"type": "auto"}
    assert sent["service_tier"] == "auto"
    assert sent["thinking"]["display"] == "omitted"


def test_a_clients_own_thinking_is_translated_for_a_model_that_takes_another_kind() -> None:
    own = Passthrough("anthropic", {"thinking": b'{"type":"enabled","budget_tokens":2000}'})
    assert body(model=NEW, thinking=Thinking(budget_tokens=2000), passthrough=own)["thinking"]["type"] == "adaptive"


def test_another_dialects_body_is_left_alone() -> None:
    assert "store" not in body(passthrough=Passthrough("openai", {"store": b"true"}))


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("anthropic/claude-opus-4.6", "claude-opus-4-6"),
        ("claude-opus-4-1@20250805", "claude-opus-4-1"),
        ("claude-3-5-sonnet-latest", "claude-3-opus-latest"),
        ("claude-mythos-preview", "claude-mythos-5-2"),
        ("glm-4.7", "claude-sonnet-4-0"),
    ],
)
def test_a_generation_is_found_by_any_of_a_models_names(name: str, like: str) -> None:
    assert generation(name) == generation(like)
