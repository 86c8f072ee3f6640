"""A question in each dialect, as its official client would put it."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Raw, Struct
from msgspec.json import encode

Dialect: TypeAlias = Literal["chat", "responses", "anthropic", "native"]

PATHS: Mapping[Dialect, str] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "native": "/api/v1/chat",
}

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""A PNG of one pixel, in base64."""


class Tool(Struct, frozen=True):
    name: str
    schema: dict[str, Any]


class Call(Struct, frozen=True):
    """A call of an earlier turn, and what the tool answered to it."""

    id: str
    name: str
    arguments: str
    result: str


class Question(Struct, frozen=True):
    """What is asked, in no dialect's shape. `None` and empty: not said."""

    text: str = "What is the capital of Norway?"
    system: str | None = None
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    calls: tuple[Call, ...] = ()
    image: bool = False
    schema: dict[str, Any] | None = None
    temperature: float | None = None
    max_tokens: int = 1000
    stop: tuple[str, ...] = ()
    usage: bool = True


def headers(dialect: Dialect, key: str | None) -> dict[str, str]:
    said = {"content-type": "application/json"}
    if dialect == "anthropic":
        said["anthropic-version"] = "2023-06-01"
    if key is not None:
        said |= {"authorization": f"Bearer {key}"} | ({"x-api-key": key} if dialect == "anthropic" else {})
    return said


def body(question: Question, dialect: Dialect, model: str, *, stream: bool) -> dict[str, Any]:
    """The JSON body of the request."""
    fields: dict[str, Any] = {"model": model, "stream": stream}
    if question.temperature is not None:
        fields["temperature"] = question.temperature
    match dialect:
        case "anthropic":
            return fields | _anthropic(question)
        case "responses":
            return fields | _responses(question)
        case _:
            return fields | _chat(question, stream and question.usage and dialect == "chat")


def _chat(question: Question, include_usage: bool) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    if question.system is not None:
        messages.append({"role": "system", "content": question.system})
    content: Any = question.text
    if question.image:
        image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
        content = [{"type": "text", "text": question.text}, image]
    messages.append({"role": "user", "content": content})
    if question.calls:
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in question.calls
        ]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": call.id, "content": call.result} for call in question.calls]
    fields: dict[str, Any] = {"messages": messages, "max_tokens": question.max_tokens}
    if question.tools:
        fields["tools"] = [
            {"type": "function", "function": {"name": tool.name, "parameters": tool.schema}} for tool in question.tools
        ]
    if question.must_call:
        fields["tool_choice"] = "required"
    if question.schema is not None:
        schema = {"name": "answer", "schema": question.schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    if question.stop:
        fields["stop"] = list(question.stop)
    if include_usage:
        fields["stream_options"] = {"include_usage": True}
    return fields


def _responses(question: Question) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "input_text", "text": question.text}]
    if question.image:
        content.append({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"})
    items: list[dict[str, Any]] = [{"role": "user", "content": content}]
    items += [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call in question.calls
    ]
    items += [{"type": "function_call_output", "call_id": call.id, "output": call.result} for call in question.calls]
    fields: dict[str, Any] = {"input": items, "max_output_tokens": question.max_tokens}
    if question.system is not None:
        fields["instructions"] = question.system
    if question.tools:
        fields["tools"] = [
            {"type": "function", "name": tool.name, "parameters": tool.schema, "strict": False}
            for tool in question.tools
        ]
    if question.must_call:
        fields["tool_choice"] = "required"
    if question.schema is not None:
        answer = {"type": "json_schema", "name": "answer", "schema": question.schema, "strict": True}
        fields["text"] = {"format": answer}
    return fields


def _anthropic(question: Question) -> dict[str, Any]:
    content: Any = question.text
    if question.image:
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        content = [{"type": "text", "text": question.text}, {"type": "image", "source": source}]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if question.calls:
        uses = [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": Raw(call.arguments.encode())}
            for call in question.calls
        ]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": call.result} for call in question.calls]
        messages += [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    fields: dict[str, Any] = {"messages": messages, "max_tokens": question.max_tokens}
    if question.system is not None:
        fields["system"] = question.system
    if question.tools:
        fields["tools"] = [{"name": tool.name, "input_schema": tool.schema} for tool in question.tools]
    if question.must_call:
        fields["tool_choice"] = {"type": "any"}
    if question.schema is not None:
        fields["output_config"] = {"format": {"type": "json_schema", "schema": question.schema}}
    if question.stop:
        fields["stop_sequences"] = list(question.stop)
    return fields


def encoded(question: Question, dialect: Dialect, model: str, *, stream: bool) -> bytes:
    return encode(body(question, dialect, model, stream=stream))
