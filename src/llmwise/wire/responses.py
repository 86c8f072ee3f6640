"""OpenAI's Responses API as the wire has it: what callers send, what providers answer, what we render.

Sources: https://platform.openai.com/docs/api-reference/responses (through OpenAI's OpenAPI description of August 2026,
read 2026-11-22) and answers of OpenAI, DeepSeek and OpenRouter recorded up to 2026-08.

Three groups, as in `wire.openai`. *Requests* are decoded from callers; items stay raw until their type is known,
because there are some thirty types and a new one must not be an error. *Received* answers: one flat struct fits every
event of a stream, and what a type does not have is missing. *Rendered* answers: members that the specification requires
are always written. `type` is the tag of everything.
"""

from typing import Any, Final, Literal, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder, Encoder

# --- requests ---------------------------------------------------------------------------------------------------------


class Kind(Struct, frozen=True, gc=False):
    """What an item or a tool is. An item without a type is a message: EasyInputMessage of
    https://platform.openai.com/docs/api-reference/responses/create (2026-11-22)."""

    type: str | None = None
    role: str | None = None
    name: str | None = None
    call_id: str | None = None


class ContentPart(Struct, frozen=True, gc=False):
    """One part of a message or of a tool's output: `input_text`, `output_text`, `input_image`, `input_file`, `refusal`,
    `summary_text`, `reasoning_text`. https://platform.openai.com/docs/guides/images-vision and .../pdf-files
    (2026-11-22)."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    file_data: str | None = None
    filename: str | None = None


class InputMessage(Struct, frozen=True, gc=False):
    """`phase` tells commentary from the final answer and goes back as it came:
    https://platform.openai.com/docs/guides/prompt-guidance (2026-11-22)."""

    role: str
    content: str | list[Raw]
    phase: str | None = None


class InputFunctionCall(Struct, frozen=True, gc=False):
    """https://platform.openai.com/docs/guides/function-calling (2026-11-22). `namespace` is a tool search's."""

    call_id: str
    name: str
    arguments: str
    namespace: str | None = None
    caller: dict[str, Any] | None = None


class InputFunctionOutput(Struct, frozen=True, gc=False):
    """https://platform.openai.com/docs/guides/function-calling (2026-11-22)."""

    call_id: str
    output: str | list[Raw]
    name: str | None = None


class InputReasoning(Struct, frozen=True, gc=False):
    """https://platform.openai.com/docs/guides/reasoning#encrypted-reasoning-items (2026-11-22)."""

    id: str | None = None
    summary: list[ContentPart] | None = None
    content: list[ContentPart] | None = None
    encrypted_content: str | None = None


class InputTool(Struct, frozen=True, gc=False):
    """A tool of type `function`. https://platform.openai.com/docs/guides/function-calling (2026-11-22)."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class AllowedTool(Struct, frozen=True, gc=False):
    type: str
    name: str | None = None


class ToolChoice(Struct, frozen=True, gc=False):
    """`function` with a name, `allowed_tools` with a mode, or a built-in tool.
    https://platform.openai.com/docs/guides/function-calling#tool-choice (2026-11-22)."""

    type: str
    name: str | None = None
    mode: str | None = None
    tools: list[AllowedTool] | None = None


class Format(Struct, frozen=True, gc=False, rename={"schema_": "schema"}):
    """https://platform.openai.com/docs/guides/structured-outputs (2026-11-22): flat, unlike Chat Completions'."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = None
    strict: bool | None = None


class TextConfig(Struct, frozen=True, gc=False):
    """https://platform.openai.com/docs/api-reference/responses/create#responses-create-text (2026-11-22)."""

    format: Format | None = None
    verbosity: str | None = None


class Reasoning(Struct, frozen=True, gc=False):
    """https://platform.openai.com/docs/guides/reasoning (2026-11-22)."""

    effort: str | None = None
    summary: str | None = None


class ResponsesRequest(Struct, frozen=True, gc=False):
    """The body of POST /responses: https://platform.openai.com/docs/api-reference/responses/create (2026-11-22)."""

    model: str
    input: str | list[Raw]
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: list[Raw] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    user: str | None = None
    safety_identifier: str | None = None


# --- usage, both ways -------------------------------------------------------------------------------------------------


class InputTokensDetails(Struct, frozen=True, gc=False):
    """Both lie inside `input_tokens`."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True, gc=False):
    reasoning_tokens: int = 0


class Usage(Struct, frozen=True, gc=False):
    """https://platform.openai.com/docs/api-reference/responses/object#responses-object-usage (2026-11-22)."""

    input_tokens: int
    output_tokens: int
    input_tokens_details: InputTokensDetails | None = None
    output_tokens_details: OutputTokensDetails | None = None
    total_tokens: int | None = None


# --- received ---------------------------------------------------------------------------------------------------------


class ReceivedPart(Struct, frozen=True, gc=False):
    """A content part of an item, or a part of a summary."""

    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    annotations: list[Raw] | None = None
    logprobs: list[Raw] | None = None


class ReceivedItem(Struct, frozen=True, gc=False):
    """An item of the output, as far as it is looked into: messages, function calls and reasoning."""

    type: str
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    namespace: str | None = None
    caller: Raw = Raw()
    phase: str | None = None
    content: list[ReceivedPart] | None = None
    summary: list[ReceivedPart] | None = None


class IncompleteDetails(Struct, frozen=True, gc=False):
    """`max_output_tokens` or `content_filter`."""

    reason: str | None = None


class ReceivedResponse(Struct, frozen=True, gc=False):
    """https://platform.openai.com/docs/api-reference/responses/object (2026-11-22). `error` is any shape."""

    id: str | None = None
    model: str | None = None
    object: str | None = None
    status: str | None = None
    output: list[Raw] | None = None
    usage: Usage | None = None
    incomplete_details: IncompleteDetails | None = None
    error: Any = None
    llmwise: Any = UNSET


class ReceivedEvent(Struct, frozen=True, gc=False):
    """Any event of a stream: https://platform.openai.com/docs/api-reference/responses-streaming (2026-11-22)."""

    type: str | None = None
    response: ReceivedResponse | None = None
    item: Raw = Raw()
    part: ReceivedPart | None = None
    delta: Any = None
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    logprobs: list[Raw] | None = None
    error: Any = None
    sequence_number: int | None = None


class LastEvent(Struct, frozen=True):
    """The terminal event of a stream, with its response as it came."""

    type: str
    sequence_number: int
    response: Raw


# --- rendered: items --------------------------------------------------------------------------------------------------

Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class OutputText(Struct, frozen=True, gc=False, tag_field="type", tag="output_text"):
    text: str
    annotations: list[Raw] = []
    logprobs: list[Raw] = []


class Refusal(Struct, frozen=True, gc=False, tag_field="type", tag="refusal"):
    refusal: str


Content: TypeAlias = OutputText | Refusal


class OutputMessage(Struct, frozen=True, gc=False, tag_field="type", tag="message"):
    """https://platform.openai.com/docs/api-reference/responses/object#responses-object-output (2026-11-22)."""

    id: str
    status: Status
    content: list[Content]
    role: Literal["assistant"] = "assistant"
    phase: str | UnsetType = UNSET


class FunctionCall(Struct, frozen=True, gc=False, tag_field="type", tag="function_call"):
    """`id` is the item's, `call_id` the call's, which its output names."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET
    caller: Raw | UnsetType = UNSET


class SummaryText(Struct, frozen=True, gc=False, tag_field="type", tag="summary_text"):
    text: str


class ReasoningItem(Struct, frozen=True, gc=False, tag_field="type", tag="reasoning"):
    id: str
    summary: list[SummaryText]
    encrypted_content: str | UnsetType = UNSET


Item: TypeAlias = OutputMessage | FunctionCall | ReasoningItem | Raw


class Error(Struct, frozen=True, gc=False):
    """`code` is one of a fixed list: https://platform.openai.com/docs/api-reference/responses/object (2026-11-22)."""

    code: str
    message: str


class Response(Struct, frozen=True, gc=False):
    """A whole response, without what it repeats of its request. `created_at` is Unix time in seconds.
    https://platform.openai.com/docs/api-reference/responses/object (2026-11-22)."""

    id: str
    created_at: float
    status: str
    model: str
    output: list[dict[str, Any]]
    object: Literal["response"] = "response"
    usage: Usage | None = None
    error: Error | None = None
    incomplete_details: IncompleteDetails | None = None
    llmwise: dict[str, Any] = {}


# --- rendered: events -------------------------------------------------------------------------------------------------
# https://platform.openai.com/docs/api-reference/responses-streaming (2026-11-22). The members of `response` are a dict,
# most of it the caller's own request given back.


class Event(Struct, frozen=True, gc=False, tag_field="type", kw_only=True):
    """`sequence_number` counts the events of a stream from 0."""

    sequence_number: int


class Created(Event, frozen=True, tag="response.created"):
    response: dict[str, Any]


class InProgress(Event, frozen=True, tag="response.in_progress"):
    response: dict[str, Any]


class Completed(Event, frozen=True, tag="response.completed"):
    response: dict[str, Any]


class Incomplete(Event, frozen=True, tag="response.incomplete"):
    response: dict[str, Any]


class Failed(Event, frozen=True, tag="response.failed"):
    response: dict[str, Any]


class Broken(Event, frozen=True, tag="error"):
    """`error` repeats the rest in the envelope that official clients raise an exception for."""

    code: str | None
    message: str
    param: str | None
    error: Raw


class ItemAdded(Event, frozen=True, tag="response.output_item.added"):
    output_index: int
    item: Item


class ItemDone(Event, frozen=True, tag="response.output_item.done"):
    output_index: int
    item: Item


class _InItem(Event, frozen=True):
    item_id: str
    output_index: int


class PartAdded(_InItem, frozen=True, tag="response.content_part.added"):
    content_index: int
    part: Content


class PartDone(_InItem, frozen=True, tag="response.content_part.done"):
    content_index: int
    part: Content


class TextDelta(_InItem, frozen=True, tag="response.output_text.delta"):
    content_index: int
    delta: str
    logprobs: list[Raw] = []


class TextDone(_InItem, frozen=True, tag="response.output_text.done"):
    content_index: int
    text: str
    logprobs: list[Raw] = []


class AnnotationAdded(_InItem, frozen=True, tag="response.output_text.annotation.added"):
    content_index: int
    annotation_index: int
    annotation: Raw


class RefusalDelta(_InItem, frozen=True, tag="response.refusal.delta"):
    content_index: int
    delta: str


class RefusalDone(_InItem, frozen=True, tag="response.refusal.done"):
    content_index: int
    refusal: str


class ArgumentsDelta(_InItem, frozen=True, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(_InItem, frozen=True, tag="response.function_call_arguments.done"):
    name: str
    arguments: str


class SummaryPartAdded(_InItem, frozen=True, tag="response.reasoning_summary_part.added"):
    summary_index: int
    part: SummaryText


class SummaryPartDone(_InItem, frozen=True, tag="response.reasoning_summary_part.done"):
    summary_index: int
    part: SummaryText


class SummaryDelta(_InItem, frozen=True, tag="response.reasoning_summary_text.delta"):
    summary_index: int
    delta: str


class SummaryDone(_InItem, frozen=True, tag="response.reasoning_summary_text.done"):
    summary_index: int
    text: str


KIND: Final = Decoder(Kind)
PART: Final = Decoder(ContentPart)
MESSAGE: Final = Decoder(InputMessage)
FUNCTION_CALL: Final = Decoder(InputFunctionCall)
FUNCTION_OUTPUT: Final = Decoder(InputFunctionOutput)
REASONING: Final = Decoder(InputReasoning)
TOOL: Final = Decoder(InputTool)
RECEIVED: Final = Decoder(ReceivedResponse)
RECEIVED_EVENT: Final = Decoder(ReceivedEvent)
RECEIVED_ITEM: Final = Decoder(ReceivedItem)
ENCODER: Final = Encoder()
