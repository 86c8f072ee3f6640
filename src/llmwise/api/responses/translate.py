"""Bodies of the Responses API to domain requests. Pure.

Items are read by their type. What the model said in a row, its text, its thinking and its calls, becomes one message,
and so do the outputs of its calls. An item that is new to us, or that only this API has, stays opaque and goes back to
its own family; for any other target it is a loss like every field that only this API has.
"""

from collections.abc import Sequence
from typing import Annotated, TypeVar, get_args

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder, encode

from llmwise.domain.errors import InvalidJSON, InvalidRequest
from llmwise.domain.messages import (
    Document,
    Family,
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
from llmwise.domain.validation import misfit
from llmwise.wire import responses as wire
from llmwise.wire.proofs import unwrap

T = TypeVar("T")

ROLES: dict[str, Role] = {"user": "user", "system": "system", "developer": "system", "assistant": "assistant"}
FAMILIES: tuple[Family, ...] = get_args(Family)
MAX_CHAIN = 8
OURS = frozenset({"routing"})
"""Fields that the gateway itself consumes: they never go on to a provider."""

ITEM = "item"
"""The kind of an opaque part that says more of the message or call before it."""

WHY = "only OpenAI's Responses API has it"
_HARMLESS = frozenset({"reasoning.encrypted_content"})
_IN_TOOL_TURN = ("_output", "_response")


class RoutingField(Struct, frozen=True, forbid_unknown_fields=True):
    fallback: list[str] = []
    strategy: Strategy = "rate-limit"


class ResponsesBody(wire.ResponsesRequest, frozen=True):
    """OpenAI's body and, as an extra field, the gateway's `routing`."""

    routing: RoutingField | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class Translated(Struct, frozen=True):
    """`needs_store` names what refers to the provider's own store, and so makes sense to nobody else."""

    request: ChatRequest
    needs_store: str | None


def to_request(body: ResponsesBody, fields: dict[str, bytes]) -> Translated:
    """`fields` are the body's top-level fields as JSON text. Raises `InvalidRequest`, naming the field."""
    if body.background:
        text = "background: the gateway keeps no answers to be fetched later; leave it out, or ask with stream"
        raise InvalidRequest(text, param="background", code="unsupported_parameter")
    reading = _Reading()
    messages = reading.conversation(body)
    tools = reading.tools(body.tools or ())
    choice, tools = reading.choice(body.tool_choice, tools)
    include = body.include or ()
    if other := [name for name in include if name not in _HARMLESS and name != "message.output_text.logprobs"]:
        reading.details["include"] = f"{WHY}: {', '.join(other)}"
    if body.text is not None and body.text.verbosity not in (None, "medium"):
        reading.details["text.verbosity"] = WHY
    logprobs = "message.output_text.logprobs" in include or bool(body.top_logprobs)
    request = ChatRequest(
        model=body.model,
        messages=messages,
        stream=bool(body.stream),
        sampling=Sampling(
            body.temperature,
            body.top_p,
            max_tokens=body.max_output_tokens,
            logprobs=True if logprobs else None,
            top_logprobs=body.top_logprobs,
        ),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls,
        response_format=_response_format(body.text.format if body.text is not None else None),
        thinking=_thinking(body.reasoning.effort if body.reasoning is not None else None),
        routing=_routing(body.routing),
        user=body.user or body.safety_identifier,
        metadata=body.metadata if body.metadata is not None else msgspec.UNSET,
        passthrough=Passthrough(
            "responses",
            {name: text for name, text in fields.items() if name not in OURS},
            details=tuple(reading.details.items()),
        ),
        verbatim=True,
    )
    return Translated(request, _needs_store(body) or reading.reference)


def _needs_store(body: ResponsesBody) -> str | None:
    named = (
        ("previous_response_id", body.previous_response_id),
        ("conversation", body.conversation),
        ("prompt", body.prompt),
    )
    return next((name for name, value in named if value is not None), None)


def _routing(given: RoutingField | None) -> Routing | None:
    if given is None:
        return None
    fallback = tuple(dict.fromkeys(given.fallback))
    if len(fallback) > MAX_CHAIN:
        raise InvalidRequest(f"routing.fallback: {len(fallback)} models; at most {MAX_CHAIN}", param="routing")
    return Routing(fallback, given.strategy)


def _response_format(given: wire.Format | None) -> ResponseFormat | None:
    if given is None:
        return None
    if given.type == "json_schema" and given.schema_ is None:
        raise InvalidRequest("text.format.schema: is required", param="text.format.schema")
    return ResponseFormat(given.type, given.schema_, given.name, given.strict)


def _thinking(effort: str | None) -> Thinking | None:
    if effort is None:
        return None
    efforts: Sequence[Effort] = get_args(Effort)
    if effort == "max":  # OpenAI's newest word; the domain's strongest is said instead, and theirs goes to themselves
        return Thinking("xhigh")
    known = next((word for word in efforts if word == effort), None)
    if known is None:
        text = f"reasoning.effort = {effort!r}: must be one of {', '.join(efforts)}, max"
        raise InvalidRequest(text, param="reasoning.effort")
    return Thinking(known)


class _Reading:
    """One body being read. `details` grow on the way: what only this API can be told, and why. `reference` is the place
    of an item that is only a name in the provider's store."""

    def __init__(self) -> None:
        self.details: dict[str, str] = {}
        self.reference: str | None = None
        self._opaque_calls: set[str] = set()
        self._messages: list[Message] = []
        self._role: Role | None = None
        self._parts: list[Part] = []

    def conversation(self, body: ResponsesBody) -> tuple[Message, ...]:
        if body.instructions:
            self._messages.append(Message("system", (Text(body.instructions),)))
        if isinstance(body.input, str):
            self._messages.append(Message("user", (Text(body.input),)))
            return tuple(self._messages)
        if not body.input:
            raise InvalidRequest("input: is empty; give a text or at least one item", param="input")
        for index, raw in enumerate(body.input):
            self._item(raw, f"input[{index}]")
        self._flush()
        return tuple(self._messages)

    def tools(self, given: Sequence[Raw]) -> tuple[Tool, ...]:
        """The caller's own functions. Built-in tools stay in the passthrough."""
        own: list[Tool] = []
        for index, raw in enumerate(given):
            where = f"tools[{index}]"
            kind = read(wire.KIND, raw, where)
            if kind.type != "function":
                self.details[f"tools.{kind.name or kind.type}"] = WHY
                continue
            tool = read(wire.TOOL, raw, where)
            own.append(Tool(tool.name, tool.description, tool.parameters, tool.strict))
        return tuple(own)

    def choice(
        self, given: str | wire.ToolChoice | None, tools: tuple[Tool, ...]
    ) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
        """The choice, and the tools that it leaves."""
        match given:
            case None:
                return None, tools
            case "auto" | "none":
                return ToolChoice(given), tools
            case "required":
                # Without a function of the caller's it can only mean a built-in tool.
                return (ToolChoice("required") if tools or not self.details else None), tools
            case str():
                text = f"tool_choice = {given!r}: must be auto, none, required or an object"
                raise InvalidRequest(text, param="tool_choice")
            case wire.ToolChoice(type="function"):
                if given.name is None:
                    raise InvalidRequest("tool_choice.name: is required", param="tool_choice.name")
                return ToolChoice("tool", given.name), tools
            case wire.ToolChoice(type="allowed_tools"):
                names = {tool.name for tool in given.tools or ()}
                allowed = tuple(tool for tool in tools if tool.name in names)
                forced = given.mode == "required" and allowed
                return ToolChoice("required" if forced else "auto"), allowed
            case _:
                self.details["tool_choice"] = WHY
                return None, tools

    def _item(self, raw: Raw, where: str) -> None:
        kind = read(wire.KIND, raw, where)
        match kind.type:
            case None | "message":
                self._message(raw, where)
            case "function_call":
                call = read(wire.FUNCTION_CALL, raw, where)
                self._add("assistant", ToolCall(call.call_id, call.name, call.arguments))
                own = {"namespace": call.namespace, "caller": call.caller}
                self._besides({name: value for name, value in own.items() if value is not None})
            case "function_call_output":
                output = read(wire.FUNCTION_OUTPUT, raw, where)
                if output.call_id in self._opaque_calls:  # the output of a call that stays opaque does so too
                    self._add("tool", Opaque("responses", "function_call_output", bytes(raw).decode()))
                    return
                content = self._output(output.output, f"{where}.output")
                self._add("tool", ToolResult(output.call_id, content, name=output.name))
            case "reasoning":
                self._add("assistant", _reasoning(read(wire.REASONING, raw, where), raw))
            case "item_reference":
                self.reference = self.reference or where
                self._add("assistant", Opaque("responses", "item_reference", bytes(raw).decode()))
            case other:
                role: Role = "tool" if other.endswith(_IN_TOOL_TURN) else "assistant"
                if kind.call_id is not None:
                    self._opaque_calls.add(kind.call_id)
                self._add(role, Opaque("responses", other, bytes(raw).decode()))

    def _message(self, raw: Raw, where: str) -> None:
        given = read(wire.MESSAGE, raw, where)
        role = ROLES.get(given.role)
        if role is None:
            text = f"{where}.role = {given.role!r}: must be one of {', '.join(ROLES)}"
            raise InvalidRequest(text, param=f"{where}.role")
        if isinstance(given.content, str):
            parts: list[Part] = [Text(given.content)]
        else:
            parts = [self._part(part, f"{where}.content[{i}]") for i, part in enumerate(given.content)]
        if role == "assistant":
            self._add(role, *parts)
            self._besides({} if given.phase is None else {"phase": given.phase})
            return
        self._flush()
        self._messages.append(Message(role, tuple(parts)))

    def _output(self, output: str | list[Raw], where: str) -> tuple[Text | Image | Document | Opaque, ...]:
        if isinstance(output, str):
            return (Text(output),)
        parts = (self._part(part, f"{where}[{i}]") for i, part in enumerate(output))
        return tuple(part for part in parts if isinstance(part, Text | Image | Document | Opaque))

    def _part(self, raw: Raw, where: str) -> Part:
        part = read(wire.PART, raw, where)
        match part.type:
            case "input_text" | "output_text" | "text" | "summary_text":
                if part.text is None:
                    raise InvalidRequest(f"{where}.text: is required", param=f"{where}.text")
                return Text(part.text)
            case "refusal":
                return Text(part.refusal or "")
            case "input_image" if part.image_url is not None:
                media_type, data = _data_url(part.image_url)
                detail = None if part.detail == "auto" else part.detail
                return Image(None if data else part.image_url, data, media_type, detail)
            case "input_file" if part.file_url is not None:
                return Document(part.file_url, name=part.filename)
            case "input_file" if part.file_data is not None:
                media_type, data = _data_url(part.file_data)
                return Document(data=data or part.file_data, media_type=media_type, name=part.filename)
            case _:
                if part.file_id is not None:
                    self.reference = self.reference or f"{where}.file_id"
                return Opaque("responses", part.type, bytes(raw).decode())

    def _besides(self, fields: dict[str, object]) -> None:
        if fields:
            self._parts.append(Opaque("responses", ITEM, encode(fields).decode()))

    def _add(self, role: Role, *parts: Part) -> None:
        if self._role != role:
            self._flush()
            self._role = role
        self._parts += parts

    def _flush(self) -> None:
        if self._role is not None and self._parts:
            self._messages.append(Message(self._role, tuple(self._parts)))
        self._role, self._parts = None, []


def _reasoning(item: wire.InputReasoning, raw: Raw) -> Reasoning:
    """An item of ours holds the proof; an item of the provider's is one."""
    text = "\n\n".join(part.text for part in (*(item.summary or ()), *(item.content or ())) if part.text)
    proof = unwrap(item.encrypted_content)
    if proof is not None:
        family = next((known for known in FAMILIES if known == proof.family), None)
        return Reasoning(text, proof.signature, proof.redacted, family)
    whole = bytes(raw).decode()
    return Reasoning(text, whole if text else None, None if text else whole, "responses")


def _data_url(url: str) -> tuple[str | None, str | None]:
    """Media type and base64 text of a data URL; nothing of any other."""
    if not url.startswith("data:"):
        return None, None
    head, _, data = url[5:].partition(",")
    return head.split(";")[0] or None, data


def read(decoder: "Decoder[T]", raw: Raw, where: str) -> T:
    """A raw item as its struct. Raises `InvalidRequest`, naming the place."""
    try:
        return decoder.decode(raw)
    except RecursionError:
        raise InvalidRequest(f"{where}: nested too deeply", code="json_too_deep", param=where) from None
    except msgspec.ValidationError as error:
        wrong = misfit(str(error))
        path = f"{where}.{wrong.path}" if wrong.path and not wrong.path.startswith("[") else where + wrong.path
        raise InvalidRequest(f"{path}: {wrong.what}", param=path) from error
    except msgspec.DecodeError as error:  # what passing over a raw value does not see, such as half a surrogate pair
        raise InvalidJSON(f"{where}: {error}", param=where) from error
