"""Gemini's generateContent: requests and answers as the wire has them, for AI Studio and Vertex AI.

Sources: the discovery document of Vertex AI (`aiplatform.v1`, schema `GoogleCloudAiplatformV1GenerateContentRequest`,
in google-api-python-client 2.202.0) and the types of google-genai 3.4.0 for AI Studio, both read 2026-11-22; requests
and answers recorded up to 2026-08. The link at a struct is the guide that goes with it.

A stream (`alt=sse`) is a sequence of whole `GenerateContentResponse`s, each with new parts.

What we send leaves out what is not said. What we receive is lenient: unknown fields are ignored and parts stay raw, so
that a part of a new kind is kept and not lost.
"""

from typing import Any, Literal

from msgspec import UNSET, Raw, Struct, UnsetType


class Blob(Struct, frozen=True, rename="camel"):
    """Base64 `data`."""

    mime_type: str
    data: str


class FileData(Struct, frozen=True, rename="camel"):
    """An uploaded file, a Cloud Storage object or, on the models that fetch it, a public URL. Vertex requires
    `mime_type`."""

    file_uri: str
    mime_type: str | UnsetType = UNSET


class FunctionCall(Struct, frozen=True):
    """`args` is an object, whole. Only newer models give an `id`, but every recorded model takes one back."""

    name: str
    args: Raw | UnsetType = UNSET
    id: str | UnsetType | None = UNSET


class FunctionResponsePart(Struct, frozen=True, rename="camel", omit_defaults=True):
    inline_data: Blob | UnsetType = UNSET
    file_data: FileData | UnsetType = UNSET


class FunctionResponse(Struct, frozen=True):
    """`response` holds `output` or `error`. `parts` (media) from Gemini 3 on.
    https://ai.google.dev/gemini-api/docs/function-calling#multimodal (2026-11-22)."""

    name: str
    response: "dict[str, Raw | str]"
    id: str | UnsetType = UNSET
    parts: list[FunctionResponsePart] | UnsetType = UNSET


class Part(Struct, frozen=True, rename="camel"):
    """One piece of a turn: exactly one of the data fields, and perhaps a signature.
    https://ai.google.dev/gemini-api/docs/thought-signatures (2026-11-22)."""

    text: str | UnsetType = UNSET
    thought: bool | UnsetType = UNSET
    thought_signature: str | UnsetType = UNSET
    function_call: FunctionCall | UnsetType = UNSET
    function_response: FunctionResponse | UnsetType = UNSET
    inline_data: Blob | UnsetType = UNSET
    file_data: FileData | UnsetType = UNSET


class Content(Struct, frozen=True):
    parts: list[Part | Raw]
    role: Literal["user", "model"] | UnsetType = UNSET


class FunctionDeclaration(Struct, frozen=True, rename="camel"):
    """`parameters_json_schema` takes JSON Schema as it is written; the older `parameters` only an OpenAPI subset."""

    name: str
    description: str | UnsetType = UNSET
    parameters_json_schema: dict[str, Any] | UnsetType = UNSET


class Tool(Struct, frozen=True, rename="camel"):
    function_declarations: list[FunctionDeclaration]


class FunctionCallingConfig(Struct, frozen=True, rename="camel"):
    """https://ai.google.dev/gemini-api/docs/function-calling#function_calling_modes (2026-11-22)."""

    mode: Literal["AUTO", "ANY", "NONE", "VALIDATED"]
    allowed_function_names: list[str] | UnsetType = UNSET


class ToolConfig(Struct, frozen=True, rename="camel"):
    function_calling_config: FunctionCallingConfig


class ThinkingConfig(Struct, frozen=True, rename="camel"):
    """A budget in tokens (Gemini 2.5; 0 is off) or a level (Gemini 3 and later), never both.
    https://ai.google.dev/gemini-api/docs/thinking (2026-11-22)."""

    include_thoughts: bool | UnsetType = UNSET
    thinking_budget: int | UnsetType = UNSET
    thinking_level: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH"] | UnsetType = UNSET


class GenerationConfig(Struct, frozen=True, rename="camel"):
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    max_output_tokens: int | UnsetType = UNSET
    stop_sequences: list[str] | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    presence_penalty: float | UnsetType = UNSET
    frequency_penalty: float | UnsetType = UNSET
    response_logprobs: bool | UnsetType = UNSET
    logprobs: int | UnsetType = UNSET
    response_mime_type: str | UnsetType = UNSET
    response_json_schema: dict[str, Any] | UnsetType = UNSET
    thinking_config: ThinkingConfig | UnsetType = UNSET


class GenerateContentRequest(Struct, frozen=True, rename="camel"):
    """The body of `models/{model}:generateContent` and `:streamGenerateContent`. The model is in the path."""

    contents: list[Content]
    system_instruction: Content | UnsetType = UNSET
    tools: list[Tool] | UnsetType = UNSET
    tool_config: ToolConfig | UnsetType = UNSET
    generation_config: GenerationConfig | UnsetType = UNSET


# --- answer ---------------------------------------------------------------------------------------------------------


class AnsweredPart(Struct, frozen=True, rename="camel"):
    """The fields of a part that we translate. A part with none of them is opaque: its raw JSON is kept."""

    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: FunctionCall | None = None


class AnsweredContent(Struct, frozen=True):
    parts: list[Raw] | None = None


class LogprobCandidate(Struct, frozen=True, rename="camel", gc=False):
    token: str = ""
    log_probability: float = 0.0


class TopCandidates(Struct, frozen=True, gc=False):
    candidates: list[LogprobCandidate] | None = None


class LogprobsResult(Struct, frozen=True, rename="camel"):
    """By the answer's tokens: the one that was chosen, and the likeliest.
    https://ai.google.dev/api/generate-content#LogprobsResult (2026-11-22)."""

    chosen_candidates: list[LogprobCandidate] | None = None
    top_candidates: list[TopCandidates] | None = None


class Candidate(Struct, frozen=True, rename="camel"):
    content: AnsweredContent | None = None
    finish_reason: str | None = None
    finish_message: str | None = None
    index: int = 0
    logprobs_result: LogprobsResult | None = None
    grounding_metadata: Raw = Raw()
    citation_metadata: Raw = Raw()
    url_context_metadata: Raw = Raw()


class PromptFeedback(Struct, frozen=True, rename="camel"):
    """Set when the prompt was blocked: then there are no candidates."""

    block_reason: str | None = None
    block_reason_message: str | None = None


class UsageMetadata(Struct, frozen=True, rename="camel", gc=False):
    """Tokens so far. `prompt_token_count` includes cached ones; thinking stands beside the candidates' tokens; results
    of server-side tools stand beside the prompt's. The total is the sum of prompt, candidates, thoughts, tool use."""

    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None
    tool_use_prompt_token_count: int | None = None
    total_token_count: int | None = None


class ErrorStatus(Struct, frozen=True):
    """A `google.rpc.Status`. https://cloud.google.com/apis/design/errors (2026-11-22)."""

    code: int = 0
    message: str = ""
    status: str = ""


class GenerateContentResponse(Struct, frozen=True, rename="camel"):
    """A whole answer, or one chunk of a stream. `error` replaces the rest when a stream fails under way."""

    candidates: list[Candidate] | None = None
    prompt_feedback: PromptFeedback | None = None
    usage_metadata: UsageMetadata | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: ErrorStatus | None = None
