"""Bodies of the Responses API to domain requests."""

import json
from typing import Any

import pytest

from llmwise.api.responses.create import check_store, parse
from llmwise.domain.errors import InvalidJSON, InvalidRequest
from llmwise.domain.messages import Document, Image, Message, Opaque, Reasoning, Text, ToolCall, ToolResult
from llmwise.domain.requests import ChatRequest, ResponseFormat, Routing, Thinking, Tool, ToolChoice
from llmwise.wire.proofs import Proof, wrap

PIXEL = "data:image/png;base64,aGk="


def read(given: Any = "Hi", **fields: Any) -> ChatRequest:
    return parse(json.dumps({"model": "m", "input": given, **fields}).encode()).request


def details(request: ChatRequest) -> dict[str, str]:
    assert request.passthrough is not None
    return dict(request.passthrough.details)


def test_a_text_is_a_message_of_the_user_and_instructions_are_the_systems() -> None:
    assert read("Hi", instructions="Be short.").messages == (
        Message("system", (Text("Be short."),)),
        Message("user", (Text("Hi"),)),
    )


def test_what_the_model_said_in_a_row_is_one_message_and_so_are_the_outputs() -> None:
    native = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    request = read(
        [
            {"role": "developer", "content": "Be short."},
            {"role": "user", "content": [{"type": "input_text", "text": "Rain?"}]},
            native,
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Looking."}],
                "phase": "commentary",
            },
            search,
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}", "namespace": "n"},
            {"type": "function_call", "call_id": "b", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "yes"},
            {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_image", "image_url": PIXEL}]},
            {"role": "assistant", "content": "Yes."},
        ]
    )
    assert request.messages == (
        Message("system", (Text("Be short."),)),
        Message("user", (Text("Rain?"),)),
        Message(
            "assistant",
            (
                Reasoning("Hm.", json.dumps(native), None, "responses"),
                Text("Looking."),
                Opaque("responses", "item", '{"phase":"commentary"}'),
                Opaque("responses", "web_search_call", json.dumps(search)),
                ToolCall("a", "f", "{}"),
                Opaque("responses", "item", '{"namespace":"n"}'),
                ToolCall("b", "g", "{}"),
            ),
        ),
        Message(
            "tool",
            (ToolResult("a", (Text("yes"),)), ToolResult("b", (Image(data="aGk=", media_type="image/png"),))),
        ),
        Message("assistant", (Text("Yes."),)),
    )


def test_the_output_of_a_call_that_only_this_api_has_stays_with_it() -> None:
    call = {"type": "tool_search_call", "call_id": "a", "arguments": {}}
    output = {"type": "function_call_output", "call_id": "a", "output": "found"}
    _, said, done = read([{"role": "user", "content": "q"}, call, output]).messages
    assert said.parts == (Opaque("responses", "tool_search_call", json.dumps(call)),)
    assert done.parts == (Opaque("responses", "function_call_output", json.dumps(output)),)


@pytest.mark.parametrize(
    ("proof", "expected"),
    [
        (Proof("anthropic", "sig"), Reasoning("Hm.", "sig", None, "anthropic")),
        (Proof("gemini"), Reasoning("Hm.", None, None, "gemini")),
        (Proof("anthropic", None, "red"), Reasoning("Hm.", None, "red", "anthropic")),
        (Proof("nobody", "sig"), Reasoning("Hm.", "sig", None, None)),
    ],
)
def test_thinking_of_every_family_comes_back_as_it_was(proof: Proof, expected: Reasoning) -> None:
    summary = [{"type": "summary_text", "text": "Hm."}]
    item = {"type": "reasoning", "id": "rs", "summary": summary, "encrypted_content": wrap(proof)}
    assert read([{"role": "user", "content": "q"}, item]).messages[1].parts == (expected,)


def test_files_are_documents_and_images_wherever_they_lie() -> None:
    content = [
        {"type": "input_image", "image_url": "https://a.b/c.png", "detail": "low"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="},
        {"type": "input_file", "file_url": "https://a.b/c.pdf"},
    ]
    (message,) = read([{"role": "user", "content": content}]).messages
    assert message.parts == (
        Image(url="https://a.b/c.png", detail="low"),
        Document(data="aGk=", media_type="application/pdf", name="a.pdf"),
        Document(url="https://a.b/c.pdf"),
    )


def test_functions_are_tools_and_built_in_tools_are_told_of() -> None:
    function = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
    request = read(tools=[function, {"type": "web_search"}, {"type": "mcp", "server_label": "x"}])
    assert request.tools == (Tool("f", None, {"type": "object"}, True),)
    assert details(request).keys() == {"tools.web_search", "tools.mcp"}


@pytest.mark.parametrize(
    ("given", "choice", "tools"),
    [
        ("auto", ToolChoice("auto"), ["f", "g"]),
        ("none", ToolChoice("none"), ["f", "g"]),
        ("required", ToolChoice("required"), ["f", "g"]),
        ({"type": "function", "name": "f"}, ToolChoice("tool", "f"), ["f", "g"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]},
            ToolChoice("required"),
            ["g"],
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}, ToolChoice("auto"), []),
        ({"type": "web_search"}, None, ["f", "g"]),
    ],
)
def test_every_choice_of_tools(given: Any, choice: ToolChoice | None, tools: list[str]) -> None:
    functions = [{"type": "function", "name": name} for name in "fg"]
    request = read(tools=functions, tool_choice=given)
    assert request.tool_choice == choice
    assert [tool.name for tool in request.tools] == tools


def test_settings_become_the_domains() -> None:
    schema = {"type": "object"}
    request = read(
        stream=True,
        max_output_tokens=100,
        temperature=0.5,
        top_p=0.9,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}, "verbosity": "low"},
        include=["message.output_text.logprobs", "reasoning.encrypted_content", "file_search_call.results"],
        metadata={"a": "b"},
        safety_identifier="me",
        parallel_tool_calls=False,
        routing={"fallback": ["n"], "strategy": "cost"},
    )
    assert request.stream
    sampling = request.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.logprobs) == (100, 0.5, 0.9, True)
    assert request.thinking == Thinking("low")
    assert request.response_format == ResponseFormat("json_schema", schema, "x", True)
    assert (request.user, request.metadata, request.parallel_tool_calls) == ("me", {"a": "b"}, False)
    assert request.routing == Routing(("n",), "cost")
    assert details(request).keys() == {"include", "text.verbosity"}
    assert request.passthrough is not None
    assert "routing" not in request.passthrough.fields
    assert read(reasoning={"effort": "max"}).thinking == Thinking("xhigh")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
            "input[0].content[0].file_id",
        ),
        ({}, None),
    ],
)
def test_what_a_provider_keeps_only_its_own_models_can_be_asked_about(fields: Any, field: str | None) -> None:
    translated = parse(json.dumps({"model": "m", "input": "Hi", **fields}).encode())
    assert translated.needs_store == field
    check_store(field, {"a": "responses"})
    if field is not None:
        with pytest.raises(InvalidRequest, match="b can't look them up"):
            check_store(field, {"a": "responses", "b": "anthropic"})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "not JSON"),
        (b'{"model": "m", "input": "\xff"}', "not JSON"),
        (b'{"model": "m"}', "input: is required"),
        (b'{"model": "m", "input": []}', "input: is empty"),
        (b'{"model": "m", "input": [7]}', r"input\[0\]"),
        (b'{"model": "m", "input": [{"role": "user"}]}', r"input\[0\]"),
        (b'{"model": "m", "input": [{"role": "user", "content": [{"type": "input_text"}]}]}', r"content\[0\].text"),
        (b'{"model": "m", "input": "x", "tool_choice": "some"}', "tool_choice = 'some'"),
        (b'{"model": "m", "input": "x", "tool_choice": {"type": "function"}}', "tool_choice.name"),
        (b'{"model": "m", "input": "x", "tools": [{"type": "function"}]}', r"tools\[0\]"),
        (b'{"model": "m", "input": "x", "routing": {"fallbacks": []}}', "fallbacks"),
        (b'{"model": "m", "input": "x", "routing": {"fallback": ["1","2","3","4","5","6","7","8","9"]}}', "at most 8"),
    ],
)
def test_bad_input_is_named(body: bytes, message: str) -> None:
    with pytest.raises((InvalidRequest, InvalidJSON), match=message):
        parse(body)
