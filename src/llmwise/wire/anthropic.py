"""Anthropic's Messages API: requests, answers and stream events as the wire has them.

Sources: https://platform.claude.com/docs/en/api/messages and .../build-with-claude/streaming, both by way of the types
of the official SDK `anthropic` 2.12.0 and their docstrings (2026-11-22), and answers recorded up to 2026-08. The link
at a struct is the page that the SDK names for it.

What we send is typed and leaves out what is not said. What we receive is lenient: unknown fields are ignored, blocks
stay raw until their type is known, and an event or delta of a new type is no error ("new event types may be added",
https://platform.claude.com/docs/en/api/versioning). The same structs serve the Anthropic dialect, the other way round:
there `IncomingRequest` is decoded and `Message` and the events are encoded.
"""

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType


class CacheControl(Struct, frozen=True):
    """A breakpoint: the prompt up to here is cached for `ttl` (5 minutes unless said).
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching (2026-11-22)."""

    type: Literal["ephemeral"] = "ephemeral"
    ttl: Literal["5m", "1h"] | UnsetType = UNSET


# --- content blocks -------------------------------------------------------------------------------------------------


class TextBlock(Struct, frozen=True, tag="text"):
    """Never empty when sent: an empty text is refused, also inside a tool result."""

    text: str
    cache_control: CacheControl | UnsetType | None = UNSET
    citations: list[Raw] | UnsetType | None = UNSET


class Source(Struct, frozen=True):
    """Where an image or document comes from: `base64` or `text` with `data` and `media_type`, `url`, or `file`.
    https://platform.claude.com/docs/en/build-with-claude/vision, .../pdf-support (2026-11-22)."""

    type: str
    media_type: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    file_id: str | UnsetType = UNSET


class ImageBlock(Struct, frozen=True, tag="image"):
    source: Source
    cache_control: CacheControl | UnsetType | None = UNSET


class DocumentBlock(Struct, frozen=True, tag="document"):
    source: Source
    title: str | UnsetType | None = UNSET
    cache_control: CacheControl | UnsetType | None = UNSET


class ThinkingBlock(Struct, frozen=True, tag="thinking"):
    """Goes back exactly as it came, or the API answers 400.
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking (2026-11-22)."""

    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Struct, frozen=True, tag="redacted_thinking"):
    data: str


class Caller(Struct, frozen=True):
    """Who made a tool call: the model itself (`direct`), or code that it runs on Anthropic's side."""

    type: str


class ToolUseBlock(Struct, frozen=True, tag="tool_use"):
    """`input` is always an object."""

    id: str
    name: str
    input: Raw
    caller: Caller | UnsetType | None = UNSET
    cache_control: CacheControl | UnsetType | None = UNSET


class ToolResultBlock(Struct, frozen=True, tag="tool_result"):
    tool_use_id: str
    content: "str | list[TextBlock | ImageBlock | DocumentBlock | Raw] | UnsetType" = UNSET
    is_error: bool | UnsetType = UNSET
    cache_control: CacheControl | UnsetType | None = UNSET


Block: TypeAlias = (
    TextBlock | ImageBlock | DocumentBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock | ToolResultBlock
)
"""The blocks that we translate. Any other stays `Raw`."""


# --- request --------------------------------------------------------------------------------------------------------


class Turn(Struct, frozen=True):
    """One message as we send it. Role `system` only where the model takes it
    (https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages, 2026-11-22)."""

    role: Literal["user", "assistant", "system"]
    content: list[Block | Raw]


class Tool(Struct, frozen=True):
    name: str
    input_schema: dict[str, Any]
    description: str | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class ToolChoice(Struct, frozen=True):
    """`auto`, `any`, `tool` (with `name`) or `none`. With `none` there is no `disable_parallel_tool_use`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | UnsetType = UNSET
    disable_parallel_tool_use: bool | UnsetType = UNSET


class Thinking(Struct, frozen=True):
    """Which types a model takes differs: `providers.anthropic.generations`."""

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: int | UnsetType = UNSET
    display: Literal["summarized", "omitted"] | UnsetType = UNSET


class OutputFormat(Struct, frozen=True):
    schema: dict[str, Any]
    type: Literal["json_schema"] = "json_schema"


class OutputConfig(Struct, frozen=True):
    """https://platform.claude.com/docs/en/build-with-claude/effort, .../structured-outputs (2026-11-22)."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | UnsetType = UNSET
    format: OutputFormat | UnsetType = UNSET


class Metadata(Struct, frozen=True):
    user_id: str | UnsetType = UNSET


class MessagesRequest(Struct, frozen=True):
    """The body of `POST /v1/messages` as we send it."""

    model: str
    max_tokens: int
    messages: list[Turn] | Raw
    system: list[TextBlock] | UnsetType = UNSET
    tools: list[Tool] | Raw | UnsetType = UNSET
    tool_choice: ToolChoice | Raw | UnsetType = UNSET
    thinking: Thinking | Raw | UnsetType = UNSET
    output_config: OutputConfig | Raw | UnsetType = UNSET
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    stop_sequences: list[str] | UnsetType = UNSET
    metadata: Metadata | UnsetType = UNSET
    stream: bool | UnsetType = UNSET


class IncomingTurn(Struct, frozen=True):
    """One message of a client's request; blocks stay raw, so that unknown ones survive."""

    role: str
    content: str | list[Raw]


class IncomingRequest(Struct, frozen=True):
    """A client's body, for the Anthropic dialect. What is not named here is kept by the dialect, not by this struct."""

    model: str
    messages: list[IncomingTurn]
    max_tokens: int | None = None
    system: str | list[TextBlock] | None = None
    tools: list[Raw] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    metadata: Metadata | None = None
    stream: bool = False


# --- answer ---------------------------------------------------------------------------------------------------------


class CacheCreation(Struct, frozen=True, gc=False):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True, gc=False):
    thinking_tokens: int = 0


class Usage(Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens. `input_tokens` leaves out cache reads and writes; `output_tokens` includes thinking. In a stream the
    counts are cumulative, and the `message_delta` may leave out what `message_start` said."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: OutputTokensDetails | None = None


class Message(Struct, frozen=True):
    """A whole answer, and (with no content and no stop reason) what `message_start` carries."""

    id: str = ""
    model: str = ""
    content: list[Raw] = []
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage = Usage()
    type: str = "message"
    role: str = "assistant"
    llmwise: Any = UNSET


class TokenCount(Struct, frozen=True, gc=False):
    """https://platform.claude.com/docs/en/api/messages-count-tokens (2026-11-22)."""

    input_tokens: int


class ErrorDetail(Struct, frozen=True):
    """https://platform.claude.com/docs/en/api/errors (2026-11-22)."""

    type: str = ""
    message: str = ""


class ErrorBody(Struct, frozen=True):
    """The body of a refused request, and the data of an `error` event."""

    error: ErrorDetail
    type: str = "error"
    request_id: str | None = None


# --- stream ---------------------------------------------------------------------------------------------------------


class TextDelta(Struct, frozen=True, gc=False, tag="text_delta"):
    text: str


class InputJSONDelta(Struct, frozen=True, gc=False, tag="input_json_delta"):
    partial_json: str


class ThinkingDelta(Struct, frozen=True, gc=False, tag="thinking_delta"):
    thinking: str


class SignatureDelta(Struct, frozen=True, gc=False, tag="signature_delta"):
    signature: str


class CitationsDelta(Struct, frozen=True, tag="citations_delta"):
    citation: Raw


Delta: TypeAlias = TextDelta | InputJSONDelta | ThinkingDelta | SignatureDelta | CitationsDelta


class StopDelta(Struct, frozen=True, gc=False):
    stop_reason: str | None = None
    stop_sequence: str | None = None


class MessageStart(Struct, frozen=True, tag="message_start"):
    message: Message


class ContentBlockStart(Struct, frozen=True, tag="content_block_start"):
    index: int
    content_block: Raw


class ContentBlockDelta(Struct, frozen=True, tag="content_block_delta"):
    index: int
    delta: Delta


class ContentBlockStop(Struct, frozen=True, gc=False, tag="content_block_stop"):
    index: int


class MessageDelta(Struct, frozen=True, tag="message_delta"):
    delta: StopDelta
    usage: Usage | None = None


class MessageStop(Struct, frozen=True, gc=False, tag="message_stop"):
    pass


class Ping(Struct, frozen=True, gc=False, tag="ping"):
    pass


class ErrorEvent(Struct, frozen=True, tag="error"):
    error: ErrorDetail


StreamEvent: TypeAlias = (
    MessageStart
    | ContentBlockStart
    | ContentBlockDelta
    | ContentBlockStop
    | MessageDelta
    | MessageStop
    | Ping
    | ErrorEvent
)


class Typed(Struct, frozen=True, gc=False):
    """Only the type of a thing: to tell a new type from a broken frame."""

    type: str


class TypedDelta(Struct, frozen=True):
    """As `Typed`, one level down."""

    type: str
    delta: Typed | None = None
