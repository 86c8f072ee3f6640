"""Requests to the Responses API: what is sent is what OpenAI documents, and nothing is lost without a word."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from llmwise.api.responses.create import parse
from llmwise.domain.errors import UnsupportedInput
from llmwise.domain.messages import Document, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from llmwise.domain.models import Capabilities, ModelCard
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import ChatRequest, Passthrough, ResponseFormat, Sampling, Thinking, Tool, ToolChoice
from llmwise.providers.responses import CODEC
from llmwise.wire.proofs import Proof, wrap

from .recorded import cases

SPEC = Path(__file__).parents[2] / "data" / "wire" / "openai.json"
DOCUMENT = json.loads(SPEC.read_text().replace('"oneOf"', '"anyOf"'))  # a message fits two of the items' schemas
DOCUMENTED = jsonschema_rs.Draft202012Validator(
    {"$ref": "#/components/schemas/CreateResponse", "components": DOCUMENT["components"]}
)

USER = Message("user", (Text("What is up?"),))
ITEM = '{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"gAAAA"}'


def card(model: str = "gpt-5.2", *, vision: bool = True, documents: bool = True) -> ModelCard:
    return ModelCard("m", "p", model, capabilities=Capabilities(vision, documents))


def encoded(*messages: Message, model: str = "gpt-5.2", **fields: Any) -> tuple[dict[str, Any], Outgoing]:
    outgoing = CODEC.encode(ChatRequest("m", messages or (USER,), **fields), card(model))
    body = json.loads(outgoing.body)
    DOCUMENTED.validate(body)
    return body, outgoing


def warned(outgoing: Outgoing) -> set[tuple[str, str]]:
    return {(warning.code, warning.field) for warning in outgoing.warnings}


def test_a_translated_request_is_stored_nowhere_and_gets_its_thinking_back_encrypted() -> None:
    body, outgoing = encoded()
    assert outgoing.path == "/responses"
    assert body == {
        "model": "gpt-5.2",
        "input": [{"role": "user", "content": "What is up?"}],
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    body, _ = encoded(model="gpt-4o", stream=True)
    assert "include" not in body  # the model has no thinking, and the API refuses to encrypt none
    assert body["stream"] is True


def test_system_messages_at_the_start_are_instructions_and_later_ones_keep_their_place() -> None:
    system = Message("system", (Text("Be short."),))
    body, _ = encoded(system, Message("system", (Text("Be kind."),)), USER, system)
    assert body["instructions"] == "Be short.\n\nBe kind."
    assert [item["role"] for item in body["input"]] == ["user", "developer"]
    body, _ = encoded(system)
    assert body["input"] == [{"role": "developer", "content": "Be short."}]


def test_a_turn_becomes_items_in_the_order_in_which_it_was_said() -> None:
    turn = Message(
        "assistant",
        (
            Reasoning("Let me see.", signature=ITEM, family="responses"),
            Text("Looking."),
            Opaque("responses", "item", '{"phase":"commentary"}'),
            ToolCall("call_1", "f", '{"x":1}'),
            Opaque("responses", "item", '{"call_id":"call_1","namespace":"n"}'),
            Opaque("responses", "web_search_call", '{"type":"web_search_call","id":"ws_1"}'),
            Text("Found."),
            Opaque("responses", "annotation", "{}"),
        ),
    )
    outgoing = CODEC.encode(ChatRequest("m", (USER, turn)), card())
    assert json.loads(outgoing.body)["input"][1:] == [
        json.loads(ITEM),
        {"role": "assistant", "content": "Looking.", "phase": "commentary"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"x":1}', "namespace": "n"},
        {"type": "web_search_call", "id": "ws_1"},
        {"role": "assistant", "content": "Found."},
    ]
    assert outgoing.warnings == ()


def test_outputs_of_tools_keep_their_files_and_their_errors() -> None:
    image = Image(data="aGk=", media_type="image/png")
    calls = Message("assistant", (ToolCall("a", "f", "{}"), ToolCall("b", "g", "{}")))
    results = Message("tool", (ToolResult("a", (Text("no"),), is_error=True), ToolResult("b", (Text("see"), image))))
    body, _ = encoded(USER, calls, results)
    assert body["input"][3:] == [
        {"type": "function_call_output", "call_id": "a", "output": "Error: no"},
        {
            "type": "function_call_output",
            "call_id": "b",
            "output": [
                {"type": "input_text", "text": "see"},
                {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"},
            ],
        },
    ]


def test_images_and_documents_are_sent_by_address_or_as_data() -> None:
    parts = (
        Text("Look."),
        Image(url="https://a.b/c.png", detail="low"),
        Document(data="aGk=", media_type="text/plain", name="a.txt"),
        Document(url="https://a.b/c.pdf"),
    )
    body, _ = encoded(Message("user", parts))
    assert [part["type"] for part in body["input"][0]["content"]] == [
        "input_text",
        "input_image",
        "input_file",
        "input_file",
    ]
    for part, blind in ((parts[1], card(vision=False)), (parts[2], card(documents=False))):
        with pytest.raises(UnsupportedInput):
            CODEC.encode(ChatRequest("m", (Message("user", (part,)),)), blind)


def test_thinking_of_another_family_stays_at_home() -> None:
    thought = Reasoning("Let me see.", signature="c2ln", family="anthropic")
    body, outgoing = encoded(USER, Message("assistant", (thought, Text("x"))))
    assert len(body["input"]) == 2
    assert warned(outgoing) == {("noted", "messages.reasoning")}


def test_a_long_id_of_a_call_is_shortened_the_same_way_on_both_sides() -> None:
    long = "x" * 100
    call = Message("assistant", (ToolCall(long, "f", "{}"),))
    body, _ = encoded(USER, call, Message("tool", (ToolResult(long, (Text("y"),)),)))
    assert body["input"][1]["call_id"] == body["input"][2]["call_id"]
    assert len(body["input"][1]["call_id"]) <= 64


def test_settings_have_the_apis_own_names() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    body, outgoing = encoded(
        model="gpt-4o",
        sampling=Sampling(temperature=0.5, top_p=0.9, max_tokens=100, logprobs=True, top_logprobs=3),
        tools=(Tool("f", "does", schema), Tool("g")),
        tool_choice=ToolChoice("tool", "f"),
        parallel_tool_calls=False,
        response_format=ResponseFormat("json_schema", schema, "answer", True),
        user="me",
        metadata={"a": "b"},
    )
    assert {name: body[name] for name in ("temperature", "top_p", "max_output_tokens", "top_logprobs")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 100,
        "top_logprobs": 3,
    }
    assert body["include"] == ["message.output_text.logprobs"]
    assert body["tools"][0] == {
        "type": "function",
        "name": "f",
        "description": "does",
        "parameters": schema,
        "strict": False,
    }
    assert body["tool_choice"] == {"type": "function", "name": "f"}
    assert body["text"] == {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}}
    assert (body["parallel_tool_calls"], body["safety_identifier"], body["metadata"]) == (False, "me", {"a": "b"})
    assert outgoing.warnings == ()


def test_what_the_api_has_no_word_for_is_told_and_refused_if_the_request_is_strict() -> None:
    sampling = Sampling(top_k=3, seed=1, stop=("x",), presence_penalty=1, frequency_penalty=1)
    _, outgoing = encoded(model="gpt-4o", sampling=sampling)
    names = ("top_k", "seed", "stop", "presence_penalty", "frequency_penalty")
    assert warned(outgoing) == {("dropped", name) for name in names}
    with pytest.raises(UnsupportedInput):
        encoded(model="gpt-4o", sampling=sampling, strict=True)


def test_what_a_model_refuses_is_left_out() -> None:
    body, outgoing = encoded(model="gpt-5", sampling=Sampling(temperature=0.5, top_p=1, max_tokens=5))
    assert "temperature" not in body
    assert "top_p" not in body
    assert body["max_output_tokens"] == 16
    assert warned(outgoing) == {("dropped", "temperature"), ("changed", "max_tokens")}


@pytest.mark.parametrize(
    ("model", "thinking", "sent", "warnings"),
    [
        ("gpt-5", Thinking("low"), {"effort": "low"}, set()),
        ("gpt-5", Thinking(budget_tokens=8000), {"effort": "medium"}, set()),
        ("gpt-5", Thinking("xhigh"), {"effort": "high"}, {("changed", "thinking")}),
        ("gpt-4o", Thinking("low"), None, {("dropped", "thinking")}),
        ("gpt-4o", Thinking("none"), None, set()),
    ],
)
def test_effort_is_said_in_the_models_own_words(
    model: str, thinking: Thinking, sent: object, warnings: set[tuple[str, str]]
) -> None:
    body, outgoing = encoded(model=model, thinking=thinking)
    assert body.get("reasoning") == sent
    assert warned(outgoing) == warnings


@pytest.mark.parametrize("name", cases("openai-responses"))
def test_a_recorded_request_is_forwarded_as_its_client_sent_it(name: str) -> None:
    given = json.loads((cases("openai-responses")[name].folder / "request.json").read_bytes())
    request = parse(json.dumps(given | {"routing": {"fallback": []}}).encode()).request
    outgoing = CODEC.encode(request, card(given["model"]))
    said = {field: value for field, value in given.items() if value is not None and field != "stream"}
    sent = json.loads(outgoing.body)
    assert bool(sent.pop("stream", False)) == bool(given.get("stream"))
    assert sent == said
    assert outgoing.warnings == ()


def test_items_of_our_making_are_replaced_on_their_way_to_the_provider() -> None:
    def thought(proof: Proof) -> dict[str, Any]:
        return {"type": "reasoning", "id": "rs_ours", "summary": [], "encrypted_content": wrap(proof)}

    items = [
        {"role": "user", "content": "q", "prompt_cache_breakpoint": {"mode": "explicit"}},
        thought(Proof("responses", redacted=ITEM)),
        thought(Proof("anthropic", "sig")),
        thought(Proof("")),
        {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gBBBB"},
    ]
    request = ChatRequest("m", (USER,), passthrough=Passthrough("responses", {"input": json.dumps(items).encode()}))
    outgoing = CODEC.encode(request, card())
    assert json.loads(outgoing.body)["input"] == [items[0], json.loads(ITEM), items[4]]
    assert warned(outgoing) == {("noted", "messages.reasoning")}


def test_what_another_dialect_says_beyond_the_common_is_told() -> None:
    own = Passthrough("openai", {"messages": b"[]", "logit_bias": b'{"50256":-100}'})
    _, outgoing = encoded(passthrough=own)
    assert warned(outgoing) == {("dropped", "logit_bias")}
