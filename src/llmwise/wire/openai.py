"""OpenAI's Chat Completions as the wire has it: what callers send, what vendors answer, what we render.

Sources: https://platform.openai.com/docs/api-reference/chat (through OpenAI's OpenAPI description of August 2026, read
2026-11-22) and answers of OpenAI, Groq, Mistral, OpenRouter, DeepSeek, Cerebras and Z.ai recorded up to 2026-08.

Three groups, because the same name means three things. *Requests* are decoded from callers: every member that clients
send, nulls accepted. *Received* answers come from some twenty vendors: one struct fits a whole answer and a chunk of
one, every field may be missing or null, and only what is used is decoded. *Rendered* answers go to callers: the members
that the specification requires are always written, null or not, and the optional ones only when they are set.
"""

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder, Encoder

# --- requests ---------------------------------------------------------------------------------------------------------


class CacheControl(Struct, frozen=True, omit_defaults=True, gc=False):
    """OpenRouter's breakpoint for prompt caching: https://openrouter.ai/docs/features/prompt-caching (2026-11-22)."""

    type: str = ""
    ttl: str | None = None


class ImageURL(Struct, frozen=True, omit_defaults=True, gc=False):
    """An http(s) address or a data URL; `detail` is `auto`, `low` or `high`.
    https://platform.openai.com/docs/guides/images-vision (2026-11-22)."""

    url: str
    detail: str | None = None


class File(Struct, frozen=True, omit_defaults=True, gc=False):
    """`file_data` is a data URL, or (OpenRouter) an http address; `file_id` names an upload.
    https://platform.openai.com/docs/guides/pdf-files (2026-11-22)."""

    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class TextChunk(Struct, frozen=True, omit_defaults=True, gc=False):
    """A piece of Mistral's thinking: https://docs.mistral.ai/capabilities/reasoning (2026-11-22)."""

    text: str | None = None


class ContentPart(Struct, frozen=True, omit_defaults=True, gc=False):
    """One part of a message's content; `type` says which other member is set. Flat, because vendors add types freely:
    `text`, `image_url`, `file`, `input_audio`, `refusal`; Mistral's `thinking` and `document_url`."""

    type: str
    text: str | None = None
    image_url: ImageURL | str | None = None
    file: File | None = None
    input_audio: dict[str, Any] | None = None
    refusal: str | None = None
    thinking: list[TextChunk] | str | None = None
    document_url: str | None = None
    cache_control: CacheControl | None = None


class FunctionCall(Struct, frozen=True, gc=False):
    """`arguments` is JSON text, as the model wrote it: not always valid."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True, gc=False, tag_field="type", tag="function"):
    """https://platform.openai.com/docs/guides/function-calling (2026-11-22)."""

    id: str
    function: FunctionCall


class CustomCall(Struct, frozen=True, gc=False):
    """`input` is free text."""

    name: str
    input: str


class CustomToolCall(Struct, frozen=True, gc=False, tag_field="type", tag="custom"):
    """https://platform.openai.com/docs/guides/function-calling#custom-tools (2026-11-22)."""

    id: str
    custom: CustomCall


class ReasoningDetail(Struct, frozen=True, omit_defaults=True, gc=False):
    """A piece of OpenRouter's `reasoning_details`: type `reasoning.text` (with the `signature` that closes it),
    `reasoning.summary` or `reasoning.encrypted`. Goes back as it came.
    https://openrouter.ai/docs/use-cases/reasoning-tokens (2026-11-22)."""

    type: str = ""
    text: str | None = None
    summary: str | None = None
    data: str | None = None
    signature: str | None = None
    id: str | None = None
    format: str | None = None
    index: int | None = None


class Message(Struct, frozen=True, omit_defaults=True, gc=False):
    """One message of a request: `system`, `developer`, `user`, `assistant` or `tool`. The reasoning members are those
    of vendors that return thinking in this format and want it back."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall | CustomToolCall] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCall | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[ReasoningDetail] | None = None
    annotations: list[dict[str, Any]] | None = None


class FunctionDefinition(Struct, frozen=True, omit_defaults=True, gc=False):
    """`parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, frozen=True, omit_defaults=True, gc=False):
    """`function` is set where the type is that; what other types have (`custom`, a vendor's own) is not looked into."""

    type: str = "function"
    function: FunctionDefinition | None = None


class FunctionName(Struct, frozen=True, gc=False):
    name: str


class AllowedTools(Struct, frozen=True, gc=False):
    """`tools` are choices of tools by their name. https://platform.openai.com/docs/guides/function-calling#tool-choice
    (2026-11-22)."""

    mode: Literal["auto", "required"]
    tools: list["NamedToolChoice"]


class NamedToolChoice(Struct, frozen=True, gc=False):
    """`type` says which other member is set: `function`, `custom` or `allowed_tools`."""

    type: str = "function"
    function: FunctionName | None = None
    custom: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class JSONSchema(Struct, frozen=True, omit_defaults=True, gc=False, rename={"schema_": "schema"}):
    """https://platform.openai.com/docs/guides/structured-outputs (2026-11-22)."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseFormat(Struct, frozen=True, omit_defaults=True, gc=False):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | None = None


class StreamOptions(Struct, frozen=True, omit_defaults=True, gc=False):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatCompletionRequest(Struct, frozen=True, omit_defaults=True, gc=False):
    """The body of POST /chat/completions: https://platform.openai.com/docs/api-reference/chat/create (2026-11-22).

    `max_tokens` is the older name of `max_completion_tokens`; `top_k` is an extension of vLLM, OpenRouter and others.
    """

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "required", "any"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None


# --- usage, both ways -------------------------------------------------------------------------------------------------


class PromptTokensDetails(Struct, frozen=True, omit_defaults=True, gc=False):
    """Both lie inside `prompt_tokens`. `cache_write_tokens` is on OpenRouter and, where it bills writes, OpenAI."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class CompletionTokensDetails(Struct, frozen=True, omit_defaults=True, gc=False):
    reasoning_tokens: int | None = None


class Usage(Struct, frozen=True, omit_defaults=True, gc=False):
    """https://platform.openai.com/docs/api-reference/chat/object (2026-11-22).

    The cached part of the prompt has other names elsewhere: `prompt_cache_hit_tokens` (DeepSeek), `num_cached_tokens`
    (Mistral), `cached_tokens` (Moonshot).
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None
    prompt_cache_hit_tokens: int | None = None
    num_cached_tokens: int | None = None
    cached_tokens: int | None = None


# --- received ---------------------------------------------------------------------------------------------------------


class ReceivedFunction(Struct, frozen=True, gc=False):
    """`arguments` is a fragment of JSON text, or (some local servers) the object itself."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ReceivedCustom(Struct, frozen=True, gc=False):
    """`input` is text, or a fragment of it."""

    name: str | None = None
    input: str | None = None


class ReceivedToolCall(Struct, frozen=True, gc=False):
    """A whole call, or a fragment: then `id` and `name` come with the first one only."""

    index: int | None = None
    id: str | None = None
    function: ReceivedFunction | None = None
    custom: ReceivedCustom | None = None


class ReceivedMessage(Struct, frozen=True, gc=False):
    """A whole answer's `message` and a chunk's `delta`: they differ in nothing that matters here.

    `annotations`, `audio`, `images` and `executed_tools` are kept as they came: web citations (OpenAI, OpenRouter),
    spoken answers (OpenAI), generated images (OpenRouter), tools that Groq's compound models ran.
    """

    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[ReasoningDetail] | None = None
    refusal: str | UnsetType | None = UNSET
    tool_calls: list[ReceivedToolCall] | None = None
    annotations: list[Any] | None = None
    audio: dict[str, Any] | None = None
    images: list[Any] | None = None
    executed_tools: list[Any] | None = None


class ReceivedChoice(Struct, frozen=True, gc=False):
    """`usage` of a choice is Moonshot's, `error` OpenRouter's (a failure after the first token)."""

    index: int | None = None
    delta: ReceivedMessage | None = None
    message: ReceivedMessage | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | UnsetType | None = UNSET
    usage: Usage | None = None
    error: Any = None


class GroqExtension(Struct, frozen=True, gc=False):
    """Groq's `x_groq`, where a stream's usage lies when `include_usage` was not asked for, and its errors.
    https://console.groq.com/docs/api-reference#chat (2026-11-22)."""

    usage: Usage | None = None
    error: Any = None


class Received(Struct, frozen=True, gc=False):
    """An answer, or a chunk of one. `error` and `object: "error"` are failures that came with a 200."""

    id: str | None = None
    model: str | None = None
    object: str | None = None
    created: Any = None
    choices: list[ReceivedChoice] | None = None
    usage: Usage | None = None
    llmwise: Any = UNSET
    x_groq: GroqExtension | None = None
    error: Any = None


class Model(Struct, frozen=True, omit_defaults=True):
    """A row of GET /models: https://platform.openai.com/docs/api-reference/models (2026-11-22)."""

    id: str
    object: str | None = None
    created: int | None = None
    owned_by: str | None = None


class ModelList(Struct, frozen=True):
    data: list[Model]
    object: str = "list"


# --- rendered ---------------------------------------------------------------------------------------------------------


class CompletionMessage(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="role", tag="assistant"):
    content: str | None
    refusal: str | None
    tool_calls: list[ToolCall | CustomToolCall] | None = None
    reasoning_content: str | None = None
    reasoning_details: list[ReasoningDetail] | None = None
    annotations: list[Any] | None = None


class CompletionChoice(Struct, frozen=True, gc=False):
    index: int
    message: CompletionMessage
    finish_reason: str
    logprobs: dict[str, Any] | None


class Completion(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="object", tag="chat.completion"):
    """https://platform.openai.com/docs/api-reference/chat/object (2026-11-22). `created` is Unix time in seconds."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None


class FunctionDelta(Struct, frozen=True, omit_defaults=True):
    arguments: str
    name: str | None = None


class CustomDelta(Struct, frozen=True, omit_defaults=True):
    input: str
    name: str | None = None


class ToolCallDelta(Struct, frozen=True, omit_defaults=True):
    """`id`, `type` and the tool's name belong to the first fragment only."""

    index: int
    function: FunctionDelta | None = None
    id: str | None = None
    type: Literal["function", "custom"] | None = None
    custom: CustomDelta | None = None


class Delta(Struct, frozen=True, omit_defaults=True, gc=False):
    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    reasoning_content: str | None = None
    reasoning_details: list[ReasoningDetail] | None = None
    annotations: list[Any] | None = None


class ChunkChoice(Struct, frozen=True, omit_defaults=True, gc=False):
    index: int
    delta: Delta
    finish_reason: str | None
    logprobs: dict[str, Any] | Raw | None = None


class Chunk(Struct, frozen=True, omit_defaults=True, gc=False, tag_field="object", tag="chat.completion.chunk"):
    """https://platform.openai.com/docs/api-reference/chat/streaming (2026-11-22). `choices` of the usage chunk is empty
    and still written."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class ErrorDetail(Struct, frozen=True):
    """https://platform.openai.com/docs/guides/error-codes (2026-11-22)."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(Struct, frozen=True):
    error: ErrorDetail


Rendered: TypeAlias = Completion | Chunk | ErrorEnvelope | ModelList

REQUEST = Decoder(ChatCompletionRequest)
RECEIVED = Decoder(Received)
MODELS = Decoder(ModelList)
ENCODER = Encoder()
