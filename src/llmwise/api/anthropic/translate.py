"""Anthropic's message bodies to domain requests. Pure.

Blocks are read by their type: one that is new to us, or that only Anthropic understands, stays opaque and goes back to
its own family. Server tools are no tools of the caller's: they stay in the passthrough, which carries the whole `tools`
field for the hop to the same family. Nothing is lost here: what the domain has no notion of is listed in
`Passthrough.details`, and each target's codec sends it or tells of it.
"""

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, UnsetType
from msgspec.json import Decoder

from llmwise.domain.errors import InvalidJSON, InvalidRequest
from llmwise.domain.messages import (
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
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
from llmwise.wire import anthropic as wire

T = TypeVar("T")

MAX_CHAIN = 8
OURS = frozenset({"routing"})
"""Fields that the gateway itself consumes: they never go on to a provider."""

FORWARDED = ("anthropic-beta", "anthropic-version")
"""Headers of a caller's that an Anthropic provider is told of; any other stays here."""

WHY = "only Anthropic's own models take it"

CITATION = "citation"
"""The kind of an opaque part that belongs to the text before it."""

EFFORTS: dict[str, Effort] = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "xhigh"}


class RoutingField(Struct, frozen=True, forbid_unknown_fields=True):
    fallback: list[str] = []
    strategy: Strategy = "rate-limit"


class CountBody(wire.IncomingRequest, frozen=True):
    """The body of `count_tokens`: a message's, which need not say its limit."""


class MessagesBody(wire.IncomingRequest, frozen=True, kw_only=True):
    """Anthropic's body and, as an extra field, the gateway's `routing`."""

    max_tokens: Annotated[int, Meta(ge=1)]
    routing: RoutingField | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None


class _ToolResult(Struct, frozen=True):
    """As `wire.ToolResultBlock`, with contents that stay raw until their type is known."""

    tool_use_id: str
    content: str | list[Raw] | None = None
    is_error: bool | None = None
    cache_control: wire.CacheControl | None = None


class _Tool(Struct, frozen=True):
    """A tool of the caller's own."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


_SAID_OF_TOOLS = frozenset(("type", *_Tool.__struct_fields__))
_SAID_OF_THINKING = frozenset(("type", "budget_tokens"))
_SAID_OF_OUTPUT = frozenset(("effort", "format"))


class _Kind(Struct, frozen=True):
    type: str | None = None
    name: str | None = None


_KIND = Decoder(_Kind)
_TOOL = Decoder(_Tool)
_TEXT = Decoder(wire.TextBlock)
_IMAGE = Decoder(wire.ImageBlock)
_DOCUMENT = Decoder(wire.DocumentBlock)
_THINKING = Decoder(wire.ThinkingBlock)
_REDACTED = Decoder(wire.RedactedThinkingBlock)
_TOOL_USE = Decoder(wire.ToolUseBlock)
_TOOL_RESULT = Decoder(_ToolResult)
_OBJECT = Decoder(dict[str, Raw])


def to_request(body: MessagesBody, fields: dict[str, bytes], headers: Sequence[tuple[str, str]] = ()) -> ChatRequest:
    """`fields` are the body's top-level fields as JSON text, `headers` those in `FORWARDED`. Raises `InvalidRequest`,
    naming the field."""
    return _request(
        body,
        fields,
        tuple(headers),
        Sampling(body.temperature, body.top_p, body.top_k, body.max_tokens, tuple(body.stop_sequences or ())),
        _routing(body.routing),
        body.stream,
    )


def to_count(body: CountBody, fields: dict[str, bytes], headers: Sequence[tuple[str, str]] = ()) -> ChatRequest:
    """The body of `count_tokens` as the request whose tokens are counted."""
    return _request(body, fields, tuple(headers), Sampling(), None, stream=False)


def _request(
    body: wire.IncomingRequest,
    fields: dict[str, bytes],
    headers: tuple[tuple[str, str], ...],
    sampling: Sampling,
    routing: Routing | None,
    stream: bool,
) -> ChatRequest:
    reading = _Reading()
    messages = reading.conversation(body)
    tools = reading.tools(body.tools)
    output = body.output_config or wire.OutputConfig()
    metadata = body.metadata or wire.Metadata()
    choice, parallel = _tool_choice(body.tool_choice)
    reading.settings(fields, output)
    ours = OURS | {"messages"} if reading.misplaced else OURS
    return ChatRequest(
        model=body.model,
        messages=messages,
        stream=stream,
        sampling=sampling,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        response_format=_response_format(output),
        thinking=_thinking(body.thinking, output.effort),
        routing=routing,
        user=_said(metadata.user_id),
        passthrough=Passthrough(
            "anthropic",
            {name: text for name, text in fields.items() if name not in ours and text != b"null"},
            headers,
            tuple(reading.details.items()),
        ),
        verbatim=True,
    )


def texts(body: wire.IncomingRequest) -> list[str]:
    """All text of a body that a model would read: for an estimate of its tokens. Images and files have none."""
    messages = _Reading().conversation(body)
    found = [_spoken(part) for message in messages for part in message.parts]
    return [*found, *(bytes(tool).decode() for tool in body.tools or ())]


def _spoken(part: Part) -> str:
    match part:
        case Text() | Reasoning():
            return part.text
        case ToolCall():
            return f"{part.name} {part.arguments}"
        case ToolResult():
            return "\n".join(piece.text for piece in part.content if isinstance(piece, Text))
        case Opaque():
            return part.json
        case _:
            return ""


class _Reading:
    """One body being read; `details` grow on the way: what only Anthropic's models can be told, and why. `misplaced`:
    the API would refuse the messages as they stand, and they are put right."""

    def __init__(self) -> None:
        self.details: dict[str, str] = {}
        self.misplaced = False

    def conversation(self, body: wire.IncomingRequest) -> tuple[Message, ...]:
        if not body.messages:
            raise InvalidRequest("messages: is empty; give at least one message", param="messages")
        messages: list[Message] = []
        given = [wire.TextBlock(body.system)] if isinstance(body.system, str) else body.system or ()
        system = [self._text(text) for text in given]
        if system:
            messages.append(Message("system", tuple(system)))
        for index, turn in enumerate(body.messages):
            messages += self._turn(turn, f"messages[{index}]", last=index == len(body.messages) - 1)
        return tuple(messages)

    def _turn(self, turn: wire.IncomingTurn, where: str, *, last: bool) -> list[Message]:
        """One turn. The tool results of a user's become a message of their own, before the rest, as Anthropic wants
        them to come first."""
        role = turn.role
        if role not in ("user", "assistant", "system"):
            raise InvalidRequest(f"{where}.role = {role!r}: must be user, assistant or system", param=f"{where}.role")
        if isinstance(turn.content, str):
            return [Message(role, (Text(turn.content),))]  # type: ignore[arg-type]  # one of three, checked above
        parts = [part for i, raw in enumerate(turn.content) for part in self._parts(raw, f"{where}.content[{i}]")]
        if not parts:
            if last and role == "assistant":
                return []
            raise InvalidRequest(f"{where}.content: is empty; give at least one block", param=f"{where}.content")
        results = tuple(part for part in parts if isinstance(part, ToolResult))
        self.misplaced = self.misplaced or (results != () and not isinstance(parts[0], ToolResult))
        rest = tuple(part for part in parts if not isinstance(part, ToolResult))
        if results and role != "user":
            raise InvalidRequest(f"{where}: a tool_result belongs into a user turn", param=where)
        found = [Message("tool", results)] if results else []
        if rest:
            found.append(Message(role, rest))  # type: ignore[arg-type]  # as above
        return found

    def _parts(self, raw: Raw, where: str) -> Sequence[Part]:
        kind = _read(_KIND, raw, where).type
        match kind:
            case "text":
                text = _read(_TEXT, raw, where)
                cited = text.citations if isinstance(text.citations, list) else []
                return [self._text(text), *(Opaque("anthropic", CITATION, _json(citation)) for citation in cited)]
            case "image":
                image = _read(_IMAGE, raw, where)
                return [self._image(image, where) or Opaque("anthropic", "image", _json(raw))]
            case "document":
                document = _read(_DOCUMENT, raw, where)
                return [self._document(document, raw, where) or Opaque("anthropic", "document", _json(raw))]
            case "thinking":
                thinking = _read(_THINKING, raw, where)
                # Without a signature it is another family's, which this dialect has shown to the caller.
                if thinking.signature:
                    return [Reasoning(thinking.thinking, thinking.signature, family="anthropic")]
                return [Reasoning(thinking.thinking)]
            case "redacted_thinking":
                return [Reasoning(redacted=_read(_REDACTED, raw, where).data, family="anthropic")]
            case "tool_use":
                call = _read(_TOOL_USE, raw, where)
                self._cached(call.cache_control)
                _read(_OBJECT, call.input, f"{where}.input")
                return [ToolCall(call.id, call.name, _json(call.input))]
            case "tool_result":
                return [self._result(_read(_TOOL_RESULT, raw, where), where)]
            case None:
                raise InvalidRequest(f"{where}.type: is required", param=f"{where}.type")
            case _:
                return [Opaque("anthropic", kind, _json(raw))]

    def _result(self, block: _ToolResult, where: str) -> ToolResult:
        """A cache breakpoint at the result moves to its last text: the way in which adapters look for it."""
        if block.content is None or isinstance(block.content, str):
            pieces: list[Text | Image | Document | Opaque] = [Text(block.content)] if block.content else []
        else:
            pieces = [self._piece(raw, f"{where}.content[{i}]") for i, raw in enumerate(block.content)]
        self._cached(block.cache_control)
        if block.cache_control is not None and pieces and isinstance(last := pieces[-1], Text):
            pieces[-1] = Text(last.text, _cache(block.cache_control))
        return ToolResult(block.tool_use_id, tuple(pieces), is_error=bool(block.is_error))

    def _piece(self, raw: Raw, where: str) -> Text | Image | Document | Opaque:
        match _read(_KIND, raw, where).type:
            case "text":
                return self._text(_read(_TEXT, raw, where))
            case "image" if (image := self._image(_read(_IMAGE, raw, where), where)) is not None:
                return image
            case "document" if (document := self._document(_read(_DOCUMENT, raw, where), raw, where)) is not None:
                return document
            case kind:
                return Opaque("anthropic", kind or "block", _json(raw))

    def _image(self, block: wire.ImageBlock, where: str) -> Image | None:
        """`None` for what only Anthropic can find, such as an uploaded file."""
        source = block.source
        self._cached(block.cache_control)
        match source.type:
            case "base64":
                return Image(data=_needed(source.data, f"{where}.source.data"), media_type=_said(source.media_type))
            case "url":
                return Image(url=_needed(source.url, f"{where}.source.url"))
            case _:
                return None

    def _document(self, block: wire.DocumentBlock, raw: Raw, where: str) -> Document | None:
        source, name = block.source, _said(block.title)
        self._cached(block.cache_control)
        extra = _read(_OBJECT, raw, where).keys() & {"citations", "context"}
        match source.type:
            case "base64":
                data = _needed(source.data, f"{where}.source.data")
                found = Document(data=data, media_type=_said(source.media_type), name=name)
            case "text":
                plain = _needed(source.data, f"{where}.source.data")
                data = base64.b64encode(plain.encode("utf-8", "surrogatepass")).decode()
                found = Document(data=data, media_type="text/plain", name=name)
            case "url":
                found = Document(url=_needed(source.url, f"{where}.source.url"), name=name)
            case _:
                return None
        for field in sorted(extra):
            self.details[f"{where}.{field}"] = WHY
        return found

    def tools(self, given: list[Raw] | None) -> tuple[Tool, ...]:
        """The caller's own tools. Those that Anthropic defines (web search, bash, ...) are details, and so is what a
        tool of the caller's says beside its name, text and schema."""
        own: list[Tool] = []
        for index, raw in enumerate(given or ()):
            where = f"tools[{index}]"
            kind = _read(_KIND, raw, where)
            if kind.type not in (None, "custom"):
                self.details[f"tools.{kind.name or kind.type}"] = WHY
                continue
            tool = _read(_TOOL, raw, where)
            own.append(Tool(tool.name, tool.description, tool.input_schema, tool.strict))
            for field, value in _read(_OBJECT, raw, where).items():
                if field not in _SAID_OF_TOOLS and bytes(value) not in (b"null", b"false"):
                    self.details["cache_control" if field == "cache_control" else f"tools.{tool.name}.{field}"] = WHY
        return tuple(own)

    def settings(self, fields: dict[str, bytes], output: wire.OutputConfig) -> None:
        """What `thinking` and `output_config` say beyond an effort, a budget and a schema."""
        if output.effort == "max":
            self.details["output_config.effort"] = "max is said as xhigh elsewhere"
        for name, said in (("thinking", _SAID_OF_THINKING), ("output_config", _SAID_OF_OUTPUT)):
            if (text := fields.get(name)) is not None and text != b"null":
                for field, value in _read(_OBJECT, Raw(text), name).items():
                    if field not in said and bytes(value) != b"null":
                        self.details[f"{name}.{field}"] = WHY

    def _text(self, block: wire.TextBlock) -> Text:
        self._cached(block.cache_control)
        return Text(block.text, _cache(block.cache_control))

    def _cached(self, control: wire.CacheControl | UnsetType | None) -> None:
        if isinstance(control, wire.CacheControl):
            self.details["cache_control"] = "the provider has no breakpoints; most cache by themselves"


def _cache(control: wire.CacheControl | UnsetType | None) -> Literal["5m", "1h"] | None:
    if not isinstance(control, wire.CacheControl):
        return None
    return "5m" if isinstance(control.ttl, UnsetType) else control.ttl


def _tool_choice(choice: wire.ToolChoice | None) -> tuple[ToolChoice | None, bool | None]:
    if choice is None:
        return None, None
    one = _said(choice.disable_parallel_tool_use)
    parallel = None if one is None else not one
    match choice.type:
        case "any":
            return ToolChoice("required"), parallel
        case "tool":
            return ToolChoice("tool", _needed(choice.name, "tool_choice.name")), parallel
        case kind:
            return ToolChoice(kind), parallel


def _thinking(
    given: wire.Thinking | None, effort: Literal["low", "medium", "high", "xhigh", "max"] | UnsetType
) -> Thinking | None:
    """An effort alone is kept too: other families have no thinking without one. Adaptive thinking without an effort is
    of a high one, which is Anthropic's default."""
    word = None if isinstance(effort, UnsetType) else EFFORTS[effort]
    if given is None:
        return None if word is None else Thinking(word)
    match given.type:
        case "enabled":
            budget = _said(given.budget_tokens)
            if budget is None:
                raise InvalidRequest("thinking.budget_tokens: is required", param="thinking.budget_tokens")
            if budget < 1:
                raise InvalidRequest(f"thinking.budget_tokens = {budget}: must be at least 1", param="thinking")
            return Thinking(budget_tokens=budget)
        case "disabled":
            return Thinking("none")
        case "adaptive" | "between_tools":
            return Thinking(word or "high")


def _response_format(output: wire.OutputConfig) -> ResponseFormat | None:
    if isinstance(output.format, UnsetType):
        return None
    return ResponseFormat("json_schema", output.format.schema)


def _routing(given: RoutingField | None) -> Routing | None:
    if given is None:
        return None
    fallback = tuple(dict.fromkeys(given.fallback))
    if len(fallback) > MAX_CHAIN:
        raise InvalidRequest(f"routing.fallback: {len(fallback)} models; at most {MAX_CHAIN}", param="routing")
    return Routing(fallback, given.strategy)


def _read(decoder: "Decoder[T]", raw: Raw, where: str) -> T:
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


def _needed(value: str | UnsetType | None, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{where}: is required", param=where)
    return value


def _said(value: T | UnsetType | None) -> T | None:
    return None if isinstance(value, UnsetType) else value


def _json(raw: Raw) -> str:
    return bytes(raw).decode()
