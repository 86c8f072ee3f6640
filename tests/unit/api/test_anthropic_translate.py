"""Anthropic's bodies as domain requests, and from there to Anthropic again."""

import base64
from typing import Any

import msgspec
import pytest

from llmwise.api.anthropic.messages import parse
from llmwise.domain.errors import InvalidJSON, InvalidRequest
from llmwise.domain.messages import Document, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from llmwise.domain.models import ModelCard
from llmwise.domain.requests import ChatRequest, ResponseFormat, Routing, Sampling, Thinking, Tool, ToolChoice
from llmwise.providers.anthropic import CODEC

HELLO = {"role": "user", "content": "Hello"}
PIXEL = "iVBORw0KGgo="


def translated(**fields: Any) -> ChatRequest:
    body = {"model": "m", "max_tokens": 100, "messages": [HELLO], **fields}
    return parse(msgspec.json.encode(body))


def parts(*blocks: Any, role: str = "user") -> tuple[Message, ...]:
    return translated(messages=[{"role": role, "content": list(blocks)}]).messages


def sent(upstream: str = "claude-opus-4-6", **fields: Any) -> dict[str, Any]:
    """What Anthropic gets of a body of its own dialect."""
    out = CODEC.encode(translated(**fields), ModelCard("m", "anthropic", upstream))
    body: dict[str, Any] = msgspec.json.decode(out.body)
    return body


def test_a_plain_question_is_one_message() -> None:
    request = translated(stop_sequences=["END"], temperature=0.7, top_p=0.9, top_k=4)
    assert request.messages == (Message("user", (Text("Hello"),)),)
    assert request.sampling == Sampling(0.7, 0.9, 4, 100, ("END",))
    assert (request.stream, request.tools, request.thinking, request.routing) == (False, (), None, None)


@pytest.mark.parametrize("system", ["Be short.", [{"type": "text", "text": "Be short."}]])
def test_the_system_prompt_leads(system: Any) -> None:
    assert translated(system=system).messages[0] == Message("system", (Text("Be short."),))


def test_a_cache_breakpoint_stays_at_its_text() -> None:
    blocks = [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert parts(*blocks)[0].parts == (Text("a", "5m"), Text("b", "1h"))
    result = {"type": "tool_result", "tool_use_id": "t", "content": "r", "cache_control": {"type": "ephemeral"}}
    assert parts(result)[0].parts == (ToolResult("t", (Text("r", "5m"),)),)


def details(request: ChatRequest) -> list[str]:
    assert request.passthrough is not None
    return [field for field, _ in request.passthrough.details]


def test_a_breakpoint_anywhere_is_noted_for_the_providers_that_have_none() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "http://x/i"}, "cache_control": {"type": "ephemeral"}}
    given = translated(messages=[{"role": "user", "content": [image]}])
    assert details(given) == ["cache_control"]
    assert details(translated(tools=[{"name": "a", "input_schema": {}, "cache_control": {}}])) == ["cache_control"]
    assert details(translated()) == []


def test_images_and_documents_of_every_source() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
    image = {"type": "image", "source": source}
    assert parts(image, {"type": "image", "source": {"type": "url", "url": "http://x/i"}})[0].parts == (
        Image(data=PIXEL, media_type="image/png"),
        Image(url="http://x/i"),
    )
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}
    text = {"type": "text", "media_type": "text/plain", "data": "Grüße"}
    found = parts({"type": "document", "source": pdf, "title": "A"}, {"type": "document", "source": text})[0].parts
    assert found == (
        Document(data="JVBERg==", media_type="application/pdf", name="A"),
        Document(data=base64.b64encode("Grüße".encode()).decode(), media_type="text/plain"),
    )


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "document", "source": {"type": "file", "file_id": "f"}},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "brand_new", "a": [1]},
    ],
    ids=lambda block: str(block["type"]),
)
def test_what_only_anthropic_understands_goes_to_it_as_it_came(block: dict[str, Any]) -> None:
    (part,) = parts(block)[0].parts
    assert isinstance(part, Opaque)
    assert (part.family, part.kind) == ("anthropic", block["type"])
    assert sent(messages=[{"role": "user", "content": [block]}])["messages"][0]["content"] == [block]


def test_tool_results_are_a_message_before_the_rest_of_their_turn() -> None:
    found = parts(
        {"type": "text", "text": "and?"},
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "1"}], "is_error": True},
        {"type": "tool_result", "tool_use_id": "b"},
    )
    assert found == (
        Message("tool", (ToolResult("a", (Text("1"),), is_error=True), ToolResult("b", ()))),
        Message("user", (Text("and?"),)),
    )


def test_a_block_of_anthropic_s_inside_a_tool_result_stays_what_it_is() -> None:
    block = {"type": "search_result", "source": "s", "title": "t", "content": []}
    given = translated(
        messages=[{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [block]}]}]
    )
    (result,) = given.messages[0].parts
    assert isinstance(result, ToolResult)
    (piece,) = result.content
    assert isinstance(piece, Opaque)
    assert (piece.family, piece.kind, msgspec.json.decode(piece.json)) == ("anthropic", "search_result", block)


def test_an_assistant_s_turn_keeps_its_thinking_and_the_bytes_of_its_arguments() -> None:
    body = (
        b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"q"},{"role":"assistant","content":['
        b'{"type":"thinking","thinking":"hm","signature":"S"},{"type":"redacted_thinking","data":"D"},'
        b'{"type":"thinking","thinking":"other","signature":""},'
        b'{"type":"tool_use","id":"t","name":"n","input":{"b": 1.0,  "a":1e3}}]}]}'
    )
    assert parse(body).messages[1].parts == (
        Reasoning("hm", "S", family="anthropic"),
        Reasoning(redacted="D", family="anthropic"),
        Reasoning("other"),
        ToolCall("t", "n", '{"b": 1.0,  "a":1e3}'),
    )


def test_citations_go_back_to_anthropic_with_their_text() -> None:
    block = {"type": "text", "text": "So.", "citations": [{"type": "char_location", "cited_text": "x"}]}
    turns = [HELLO, {"role": "assistant", "content": [block]}, HELLO]
    assert sent(messages=turns)["messages"][1]["content"] == [block]


def test_tools_are_the_caller_s_own_and_anthropic_s_are_named() -> None:
    schema = {"type": "object"}
    given = translated(
        tools=[
            {"name": "a", "input_schema": schema, "description": "A", "strict": True},
            {"type": "custom", "name": "b", "input_schema": schema},
            {"type": "web_search_20250305", "name": "web_search"},
        ]
    )
    assert given.tools == (Tool("a", "A", schema, True), Tool("b", None, schema))
    assert details(given) == ["tools.web_search"]


@pytest.mark.parametrize(
    ("choice", "meant", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "tool", "name": "a", "disable_parallel_tool_use": False}, ToolChoice("tool", "a"), True),
        ({"type": "none"}, ToolChoice("none"), None),
    ],
)
def test_tool_choices(choice: Any, meant: ToolChoice, parallel: bool | None) -> None:
    request = translated(tool_choice=choice)
    assert (request.tool_choice, request.parallel_tool_calls) == (meant, parallel)


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Thinking(budget_tokens=2000)),
        ({"thinking": {"type": "disabled"}}, Thinking("none")),
        ({"thinking": {"type": "adaptive"}}, Thinking("high")),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, Thinking("xhigh")),
        ({"output_config": {"effort": "low"}}, Thinking("low")),
    ],
)
def test_thinking_and_effort(fields: Any, meant: Thinking) -> None:
    assert translated(**fields).thinking == meant


def test_an_effort_alone_turns_no_thinking_on_at_anthropic() -> None:
    body = sent(output_config={"effort": "low"}, temperature=0.5)
    assert "thinking" not in body
    assert (body["output_config"], body["temperature"]) == ({"effort": "low"}, 0.5)
    body = sent("claude-sonnet-4-0", output_config={"effort": "low"}, temperature=0.5)
    assert not {"thinking", "output_config"} & body.keys()


def test_a_schema_is_the_answer_s_format() -> None:
    schema = {"type": "object"}
    request = translated(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert request.response_format == ResponseFormat("json_schema", schema)


def test_routing_is_ours_and_stays_here() -> None:
    request = translated(routing={"fallback": ["b", "b", "c"], "strategy": "cost"}, metadata={"user_id": "u"})
    assert (request.routing, request.user) == (Routing(("b", "c"), "cost"), "u")
    assert request.passthrough is not None
    assert "routing" not in request.passthrough.fields


def test_null_is_not_said_and_never_sent_on() -> None:
    body = sent(tools=None, thinking=None, output_config=None, system=None, metadata=None, brand_new=None)
    assert body.keys() == {"model", "max_tokens", "messages"}


def test_an_empty_last_turn_of_the_assistant_is_left_out() -> None:
    assert len(translated(messages=[HELLO, {"role": "assistant", "content": []}]).messages) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"\\ud800"}]}]}',
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"new","text":"\xff"}]}]}',
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[' + b"[" * 5000 + b"]" * 5000 + b"]}]}",
    ],
    ids=["surrogate", "not-utf-8", "deep"],
)
def test_what_a_raw_block_hides_is_still_refused(body: bytes) -> None:
    with pytest.raises((InvalidJSON, InvalidRequest)):
        parse(body)


def test_a_tool_call_s_input_must_be_an_object() -> None:
    call = {"type": "tool_use", "id": "t", "name": "n", "input": [1]}
    with pytest.raises(InvalidRequest, match=r"messages\[0\]\.content\[0\]\.input"):
        parts(call, role="assistant")
