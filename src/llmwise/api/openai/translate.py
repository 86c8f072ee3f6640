"""OpenAI's chat bodies to domain requests. Pure."""

from collections.abc import Iterator, Sequence
from typing import Annotated, get_args

import msgspec
from msgspec import Meta, Struct
from msgspec.json import encode

from llmwise.domain.errors import InvalidRequest
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
from llmwise.domain.requests import (
    ChatRequest,
    Effort,
    Passthrough,
    ResponseFormat,
    Routing,
    Sampling,
    Strategy,
    Thinking,
    Tool,
    ToolChoice,
)
from llmwise.orchestration.choices import MAX_CHOICES
from llmwise.wire import openai as wire

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
MAX_CHAIN = 8


class RoutingField(Struct, frozen=True, forbid_unknown_fields=True):
    fallback: list[str] = []
    strategy: Strategy = "rate-limit"


class ChatBody(wire.ChatCompletionRequest, frozen=True):
    """OpenAI's body and, as an extra field, the gateway's `routing`."""

    routing: RoutingField | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None


OURS = frozenset({"routing", "n"})
"""Fields that the gateway itself consumes (`n`: see `orchestration.choices`): they never go on to a provider."""

ONLY_OPENAI = "only models behind openai's own API take it"


def to_request(body: ChatBody, fields: dict[str, bytes]) -> ChatRequest:
    """`fields` are the body's top-level fields as JSON text. Raises `InvalidRequest`, naming the field."""
    if not body.messages:
        raise InvalidRequest("messages: is empty; give at least one message", param="messages")
    if body.n is not None and not 1 <= body.n <= MAX_CHOICES:
        raise InvalidRequest(f"n = {body.n}: 1 to {MAX_CHOICES} choices in one request", param="n")
    max_tokens = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    stop = body.stop
    return ChatRequest(
        model=body.model,
        messages=tuple([_message(message, index) for index, message in enumerate(body.messages)]),
        stream=bool(body.stream),
        sampling=Sampling(
            body.temperature,
            body.top_p,
            body.top_k,
            max_tokens,
            () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
            body.seed,
            body.presence_penalty,
            body.frequency_penalty,
            body.logprobs,
            body.top_logprobs,
        ),
        tools=tuple([_tool(tool.function) for tool in body.tools if tool.function is not None]) if body.tools else (),
        tool_choice=_tool_choice(body.tool_choice),
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_response_format(body.response_format),
        thinking=_thinking(body.reasoning_effort),
        routing=routing_of(body.routing),
        user=body.user,
        metadata=body.metadata if body.metadata is not None else msgspec.UNSET,
        passthrough=Passthrough(
            "openai",
            {name: text for name, text in fields.items() if name not in OURS},
            details=tuple(_details(body)),
        ),
        verbatim=body.n is None or body.n == 1,
    )


def routing_of(given: RoutingField | None) -> Routing | None:
    if given is None:
        return None
    fallback = tuple(dict.fromkeys(given.fallback))
    if len(fallback) > MAX_CHAIN:
        raise InvalidRequest(f"routing.fallback: {len(fallback)} models; at most {MAX_CHAIN}", param="routing")
    return Routing(fallback, given.strategy)


def _message(message: wire.Message, index: int) -> Message:
    role = ROLES.get(message.role)
    where = f"messages[{index}]"
    if role is None:
        raise InvalidRequest(
            f"{where}.role = {message.role!r}: must be one of {', '.join(ROLES)}", param=f"{where}.role"
        )
    content = message.content
    if type(content) is str and role != "tool" and message.tool_calls is None and role != "assistant":
        return Message(role, (Text(content),), message.name)
    parts: list[Part] = []
    if message.reasoning_content or message.reasoning:
        parts.append(Reasoning(message.reasoning_content or message.reasoning or "", family="openai"))
    if isinstance(content, str):
        if content or not message.tool_calls:
            parts.append(Text(content))
    elif content is not None:
        parts += [_part(part, f"{where}.content[{i}]") for i, part in enumerate(content)]
    if role == "tool":
        call_id = message.tool_call_id
        if not call_id and message.role == "function":
            call_id = _legacy_id(message.name or "")
        if not call_id:
            raise InvalidRequest(
                f"{where}.tool_call_id: is required in a message of role 'tool'", param=f"{where}.tool_call_id"
            )
        taken = tuple(part for part in parts if isinstance(part, Text | Image | Document))
        return Message("tool", (ToolResult(call_id, taken, name=message.name),))
    for call in message.tool_calls or ():
        parts.append(_call(call))
    if message.function_call is not None:
        legacy = message.function_call
        parts.append(ToolCall(_legacy_id(legacy.name), legacy.name, legacy.arguments))
    if message.refusal:
        parts.append(Text(message.refusal))
    if not parts:
        raise InvalidRequest(f"{where}.content: is required", param=f"{where}.content")
    return Message(role, tuple(parts), message.name)


def _call(call: wire.ToolCall | wire.CustomToolCall) -> ToolCall:
    """A custom tool's text is what a function would have for its only argument: so any family can be told of it."""
    if isinstance(call, wire.CustomToolCall):
        return ToolCall(call.id, call.custom.name, encode({"input": call.custom.input}).decode())
    return ToolCall(call.id, call.function.name, call.function.arguments)


def _legacy_id(name: str) -> str:
    """Calls of the time before tools had no id: one function was called at a time, and answered by its name."""
    return f"call_{name}"


def _part(part: wire.ContentPart, where: str) -> Part:
    match part.type:
        case "text":
            if part.text is None:
                raise InvalidRequest(f"{where}.text: is required", param=where)
            return Text(part.text)
        case "image_url":
            given = part.image_url
            if given is None:
                raise InvalidRequest(f"{where}.image_url: is required", param=where)
            url, detail = (given, None) if isinstance(given, str) else (given.url, given.detail)
            media_type, data = _data_url(url)
            return Image(url=None if data else url, data=data, media_type=media_type, detail=detail)
        case "file" if part.file is not None and part.file.file_data is not None:
            kind, content = _data_url(part.file.file_data)
            address = None if content else part.file.file_data
            return Document(url=address, data=content, media_type=kind, name=part.file.filename)
        case "refusal":
            return Text(part.refusal or "")
        case _:
            return Opaque("openai", part.type, encode(part).decode())


def _data_url(url: str) -> tuple[str | None, str | None]:
    """Media type and base64 text of a data URL; nothing of any other."""
    if not url.startswith("data:"):
        return None, None
    head, _, data = url[5:].partition(",")
    return head.split(";")[0] or None, data


def _tool(function: wire.FunctionDefinition) -> Tool:
    return Tool(function.name, function.description, function.parameters, function.strict)


def _tool_choice(choice: str | wire.NamedToolChoice | None) -> ToolChoice | None:
    """What can be said of it to any family: of allowed tools, whether one has to be called."""
    match choice:
        case None:
            return None
        case wire.NamedToolChoice(function=wire.FunctionName(name=name)):
            return ToolChoice("tool", name)
        case wire.NamedToolChoice(allowed_tools=wire.AllowedTools(mode=mode)):
            return ToolChoice(mode)
        case wire.NamedToolChoice():
            return None
        case "any" | "required":
            return ToolChoice("required")
        case "none":
            return ToolChoice("none")
        case _:
            return ToolChoice("auto")


def _details(body: ChatBody) -> Iterator[tuple[str, str]]:
    """What stands in fields that every family takes, and only OpenAI's own API understands."""
    for index, tool in enumerate(body.tools or ()):
        if tool.function is None:
            yield f"tools[{index}]", f"a tool of the type {tool.type!r}: {ONLY_OPENAI}"
    choice = body.tool_choice
    if isinstance(choice, wire.NamedToolChoice) and choice.function is None:
        yield "tool_choice", f"a choice of the type {choice.type!r}: {ONLY_OPENAI}"


def _response_format(given: wire.ResponseFormat | None) -> ResponseFormat | None:
    if given is None:
        return None
    if given.json_schema is None:
        if given.type == "json_schema":
            raise InvalidRequest("response_format.json_schema: is required", param="response_format")
        return ResponseFormat(given.type)
    schema = given.json_schema
    return ResponseFormat("json_schema", schema.schema_, schema.name, schema.strict)


def _thinking(effort: str | None) -> Thinking | None:
    if effort is None:
        return None
    efforts: Sequence[str] = get_args(Effort)
    if effort == "max":  # OpenAI's newest word: the strongest that we have
        return Thinking("xhigh")
    if effort not in efforts:
        raise InvalidRequest(
            f"reasoning_effort = {effort!r}: must be one of {', '.join(efforts)}", param="reasoning_effort"
        )
    return Thinking(effort=effort)  # type: ignore[arg-type]  # one of the words, checked above
