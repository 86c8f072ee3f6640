"""Requests to Gemini: recorded conversations first, then each rule by itself."""

import json
from itertools import pairwise
from typing import Any

import pytest

from llmwise.domain.errors import UnsupportedInput
from llmwise.domain.messages import Document, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import ChatRequest, ResponseFormat, Sampling, Thinking, Tool, ToolChoice
from llmwise.providers.gemini import CODEC
from llmwise.providers.gemini.contents import ANY_SIGNATURE
from llmwise.providers.gemini.generations import generation

from .recorded import card, cases

CASES = cases("gemini")
NEW, MIDDLE, OLD = "gemini-3-flash-preview", "gemini-2.5-flash", "gemini-2.0-flash"
USER = Message("user", (Text("Hi"),))
ROLL = Tool("roll", "Rolls dice", {"type": "object", "properties": {"sides": {"type": "integer"}}})


def encode(*messages: Message, model: str = NEW, **changes: Any) -> Outgoing:
    outgoing = CODEC.encode(ChatRequest(model, messages or (USER,), **changes), card(model))
    assert b":null" not in outgoing.body
    roles = [content["role"] for content in json.loads(outgoing.body)["contents"]]
    assert all(before != after for before, after in pairwise(roles))
    return outgoing


def body(*messages: Message, **changes: Any) -> Any:
    return json.loads(encode(*messages, **changes).body)


def contents(*messages: Message, **changes: Any) -> Any:
    return body(*messages, **changes)["contents"]


def config(**changes: Any) -> Any:
    return body(**changes).get("generationConfig", {})


def lost(outgoing: Outgoing) -> list[tuple[str, str]]:
    return [(warning.code, warning.field) for warning in outgoing.warnings]


# --- recorded -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_conversation_becomes_its_request(name: str) -> None:
    case = CASES[name]
    outgoing = CODEC.encode(case.request, card(case.meta["model"]))
    assert json.loads(outgoing.body) == case.sent
    assert outgoing.path == case.meta["path"]
    assert [[warning.code, warning.field] for warning in outgoing.warnings] == case.meta["warnings"]


# --- turns ----------------------------------------------------------------------------------------------------------


def test_the_path_names_the_model_and_the_kind_of_call() -> None:
    assert encode(model=MIDDLE).path == "/models/gemini-2.5-flash:generateContent"
    assert encode(model=MIDDLE, stream=True).path == "/models/gemini-2.5-flash:streamGenerateContent?alt=sse"


def test_a_models_name_cannot_change_the_path() -> None:
    request = ChatRequest("x", (USER,))
    assert CODEC.encode(request, card("../../files?a=b#")).path == "/models/..%2F..%2Ffiles%3Fa%3Db%23:generateContent"


def test_leading_system_messages_are_the_system_instruction() -> None:
    sent = body(Message("system", (Text("A"), Text("B"))), USER)
    assert sent["systemInstruction"] == {"parts": [{"text": "A"}, {"text": "B"}]}
    assert sent["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]


def test_a_system_message_in_the_middle_keeps_its_place_inside_a_user_turn() -> None:
    sent = contents(USER, Message("assistant", (Text("Yo"),)), Message("system", (Text("Rhyme."),)), USER)
    assert sent[2]["parts"] == [{"text": "<system>\nRhyme.\n</system>"}, {"text": "Hi"}]


def test_a_lone_system_message_is_the_users() -> None:
    sent = encode(Message("system", (Text("Say hi."),)))
    assert json.loads(sent.body)["contents"] == [{"role": "user", "parts": [{"text": "Say hi."}]}]
    assert lost(sent) == [("changed", "messages")]


def test_there_are_as_many_responses_as_calls_in_their_order_in_one_turn() -> None:
    calls = Message("assistant", tuple(ToolCall(name, "roll", "{}", "sig") for name in "abc"))
    results = [Message("tool", (ToolResult(name, (Text(name),)),)) for name in "cab"]
    sent = contents(USER, calls, *results, Message("user", (Text("So?"),)))
    assert [part.get("functionResponse", {}).get("id", "text") for part in sent[2]["parts"]] == ["a", "b", "c", "text"]
    assert {part["functionResponse"]["name"] for part in sent[2]["parts"][:3]} == {"roll"}


@pytest.mark.parametrize(
    ("text", "is_error", "response"),
    [
        ("sunny", False, {"output": "sunny"}),
        ('{"temperature": 21.0}', False, {"output": {"temperature": 21.0}}),
        ("[broken", False, {"output": "[broken"}),
        ("", False, {"output": ""}),
        ("no such city", True, {"error": "no such city"}),
    ],
)
def test_a_tools_answer_is_its_output_or_its_error(text: str, is_error: bool, response: Any) -> None:
    result = ToolResult("t", (Text(text),), is_error, name="weather")
    [part] = contents(Message("tool", (result,)))[0]["parts"]
    assert part == {"functionResponse": {"name": "weather", "response": response, "id": "t"}}


def test_media_of_a_tool_are_inside_its_response_or_behind_it() -> None:
    result = Message("tool", (ToolResult("t", (Text("see"), Image(data="AA", media_type="image/png")), name="look"),))
    media = {"inlineData": {"mimeType": "image/png", "data": "AA"}}
    [part] = contents(result)[0]["parts"]
    assert part["functionResponse"]["parts"] == [media]
    response, behind = contents(result, model=MIDDLE)[0]["parts"]
    assert "parts" not in response["functionResponse"]
    assert behind == media


def test_a_call_goes_back_with_its_signature_and_its_arguments_bytes() -> None:
    call = ToolCall("t", "roll", '{"sides": 6.0}', "sig")
    sent = encode(USER, Message("assistant", (call,)), USER)
    assert b'"args":{"sides": 6.0}' in sent.body
    assert json.loads(sent.body)["contents"][1]["parts"][0]["thoughtSignature"] == "sig"
    assert lost(sent) == []


def test_the_first_call_of_a_foreign_turn_gets_the_documented_signature() -> None:
    calls = Message("assistant", (Text("So"), ToolCall("a", "roll", "{}"), ToolCall("b", "roll", "{}")))
    parts = contents(USER, calls, USER)[1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == [None, ANY_SIGNATURE, None]
    assert "thoughtSignature" not in encode(USER, calls, USER, model=MIDDLE).body.decode()


def test_thoughts_and_signatures_go_back_to_their_own_family_only() -> None:
    own = (Reasoning("Hm", "s1", family="gemini"), Text("Yo"), Reasoning("", "s2", family="gemini"))
    assert contents(USER, Message("assistant", own), USER)[1]["parts"] == [
        {"text": "Hm", "thought": True, "thoughtSignature": "s1"},
        {"text": "Yo"},
        {"text": "", "thoughtSignature": "s2"},
    ]
    foreign = encode(
        USER, Message("assistant", (Reasoning("Hm", "s", family="anthropic"), Text("Yo"))), USER, strict=True
    )
    assert json.loads(foreign.body)["contents"][1]["parts"] == [{"text": "Yo"}]
    assert lost(foreign) == [("noted", "messages.reasoning")]


def test_own_opaque_parts_go_back_and_foreign_ones_are_dropped_visibly() -> None:
    code = '{"executableCode":{"language":"PYTHON","code":"1"},"thoughtSignature":"s"}'
    own = Opaque("gemini", "executableCode", code)
    assert contents(USER, Message("assistant", (own,)), USER)[1]["parts"] == [json.loads(code)]
    foreign = Message("assistant", (Text("Yo"), Opaque("anthropic", "server_tool_use", "{}")))
    assert lost(encode(USER, foreign, USER)) == [("dropped", "messages.server_tool_use")]
    with pytest.raises(UnsupportedInput):
        encode(USER, foreign, USER, strict=True)


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        (Image(url="https://x/y.png?z"), {"fileData": {"fileUri": "https://x/y.png?z", "mimeType": "image/png"}}),
        (Image(url="https://x/y"), {"fileData": {"fileUri": "https://x/y", "mimeType": "image/jpeg"}}),
        (Image(url="data:image/webp;base64,AA"), {"inlineData": {"mimeType": "image/webp", "data": "AA"}}),
        (Image(data="AA", media_type="image/gif"), {"inlineData": {"mimeType": "image/gif", "data": "AA"}}),
        (Document(data="AA"), {"inlineData": {"mimeType": "application/pdf", "data": "AA"}}),
        (Document(url="gs://b/a.txt"), {"fileData": {"fileUri": "gs://b/a.txt", "mimeType": "text/plain"}}),
    ],
)
def test_media_are_inline_data_or_a_typed_address(part: Image | Document, sent: Any) -> None:
    assert contents(Message("user", (part,)))[0]["parts"] == [sent]


def test_a_turn_of_the_model_at_the_end_is_continued_where_it_can_be() -> None:
    start = Message("assistant", (Text("The answer is"),))
    assert contents(USER, start)[-1]["role"] == "model"
    asked = encode(USER, start, model="gemini-3.6-flash")
    assert json.loads(asked.body)["contents"][-1]["role"] == "user"
    assert lost(asked) == [("changed", "messages")]


# --- parameters -----------------------------------------------------------------------------------------------------


def test_nothing_that_was_not_said_is_sent() -> None:
    assert set(body()) == {"contents"}


def test_sampling_in_geminis_words() -> None:
    asked = Sampling(0.7, 0.9, 40, 100, ("x",), 1, 0.5, -0.5, True, 3)
    assert config(sampling=asked) == {
        "temperature": 0.7,
        "topP": 0.9,
        "topK": 40,
        "maxOutputTokens": 100,
        "stopSequences": ["x"],
        "seed": 1,
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
        "responseLogprobs": True,
        "logprobs": 3,
    }


def test_the_newest_models_take_no_sampling_and_no_penalties() -> None:
    asked = encode(model="gemini-3.6-flash", sampling=Sampling(temperature=0.2, presence_penalty=1.0, seed=1))
    assert json.loads(asked.body)["generationConfig"] == {"seed": 1}
    assert lost(asked) == [("dropped", "temperature"), ("dropped", "presence_penalty")]


@pytest.mark.parametrize(
    ("model", "thinking", "sent"),
    [
        (OLD, Thinking(effort="high"), None),
        (OLD, Thinking(effort="none"), None),
        (MIDDLE, Thinking(effort="none"), {"thinkingBudget": 0}),
        (MIDDLE, Thinking(effort="low"), {"includeThoughts": True, "thinkingBudget": 1024}),
        (MIDDLE, Thinking(budget_tokens=99_999), {"includeThoughts": True, "thinkingBudget": 24_576}),
        (MIDDLE, Thinking(), {"includeThoughts": True}),
        ("gemini-2.5-pro", Thinking(effort="none"), {"thinkingBudget": 128}),
        (NEW, Thinking(effort="none"), {"thinkingLevel": "MINIMAL"}),
        (NEW, Thinking(effort="medium"), {"includeThoughts": True, "thinkingLevel": "MEDIUM"}),
        (NEW, Thinking(effort="xhigh"), {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        (NEW, Thinking(budget_tokens=1000), {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-3-pro-preview", Thinking(effort="medium"), {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        ("gemini-3-pro-preview", Thinking(effort="minimal"), {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-3.8-flash", Thinking(effort="minimal"), {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-flash-latest", Thinking(effort="high"), {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        ("gemma-3-27b-it", Thinking(effort="high"), None),
    ],
)
def test_thinking_is_a_budget_or_a_level_by_generation(model: str, thinking: Thinking, sent: Any) -> None:
    assert config(model=model, thinking=thinking).get("thinkingConfig") == sent


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("tool", "roll"), {"mode": "ANY", "allowedFunctionNames": ["roll"]}),
    ],
)
def test_tool_choice_in_geminis_words(choice: ToolChoice, sent: Any) -> None:
    assert body(tools=(ROLL,), tool_choice=choice)["toolConfig"] == {"functionCallingConfig": sent}


def test_strict_tools_are_validated() -> None:
    strict = Tool("roll", None, ROLL.parameters, strict=True)
    assert body(tools=(strict,))["toolConfig"]["functionCallingConfig"]["mode"] == "VALIDATED"
    assert "toolConfig" not in body(tools=(strict, ROLL))


def test_one_call_at_a_time_cannot_be_promised() -> None:
    assert lost(encode(tools=(ROLL,), parallel_tool_calls=False)) == [("dropped", "parallel_tool_calls")]


def test_a_tools_schema_is_sent_as_json_schema_without_what_is_refused() -> None:
    parameters = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"kind": {"const": "a"}, "next": {"$ref": "#/definitions/Node", "description": "More"}},
        "definitions": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/definitions/Node"}}}},
        "additionalProperties": False,
    }
    asked = encode(tools=(Tool("f", None, parameters),))
    [declaration] = json.loads(asked.body)["tools"][0]["functionDeclarations"]
    assert declaration == {
        "name": "f",
        "parametersJsonSchema": {
            "type": "object",
            "properties": {
                "kind": {"enum": ["a"], "type": "string"},
                "next": {"anyOf": [{"$ref": "#/$defs/Node"}], "description": "More"},
            },
            "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
            "additionalProperties": False,
        },
    }
    assert lost(asked) == []


def test_a_tool_without_parameters_declares_none() -> None:
    assert body(tools=(Tool("now"),))["tools"] == [{"functionDeclarations": [{"name": "now"}]}]


def test_json_and_its_schema() -> None:
    assert config(response_format=ResponseFormat("json_object")) == {"responseMimeType": "application/json"}
    schema = {"type": "object", "properties": {"x": {"type": "string", "minLength": 2}}}
    asked = encode(response_format=ResponseFormat("json_schema", schema))
    assert json.loads(asked.body)["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": {
            "type": "object",
            "properties": {"x": {"type": "string", "description": "minLength: 2"}},
        },
    }
    assert lost(asked) == [("changed", "response_format.schema")]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("models/gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("gemini-3.1-pro-preview", "gemini-3.1-pro"),
        ("google/gemini-2.0-flash-001", "gemini-2.0-flash"),
        ("gemini-4-argon", "gemini-5"),
    ],
)
def test_a_generation_is_found_by_any_of_a_models_names(name: str, like: str) -> None:
    assert generation(name) == generation(like)
