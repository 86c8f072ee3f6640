"""The native API's shapes, as the published clients send and read them.

A request's unknown fields are refused by name. Answers are objects that clients read as dictionaries; what is not known
is `null`, never a made-up zero.
"""

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

Name: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class TextBlock(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    text: str


class ImageURL(Struct, forbid_unknown_fields=True):
    """`url` is http, https or a data URL."""

    url: str
    detail: str | None = None


class ImageBlock(Struct, tag_field="type", tag="image_url", forbid_unknown_fields=True):
    image_url: ImageURL


Block: TypeAlias = TextBlock | ImageBlock


class Function(Struct, forbid_unknown_fields=True):
    name: str
    arguments: str


class ToolCall(Struct, forbid_unknown_fields=True):
    id: str
    function: Function
    type: Literal["function"] = "function"
    index: int | UnsetType = UNSET


class Message(Struct, forbid_unknown_fields=True):
    """One turn, in OpenAI's shape. `content` may be `null` only beside `tool_calls`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Block] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class ToolFunction(Struct, forbid_unknown_fields=True):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Struct, forbid_unknown_fields=True):
    function: ToolFunction
    type: Literal["function"] = "function"


class ToolChoiceFunction(Struct, forbid_unknown_fields=True):
    name: str


class ToolChoice(Struct, forbid_unknown_fields=True):
    function: ToolChoiceFunction
    type: Literal["function"] = "function"


class JSONSchema(Struct, forbid_unknown_fields=True):
    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Struct, forbid_unknown_fields=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchema | None = None


class Routing(Struct, forbid_unknown_fields=True):
    """A fallback chain: `fallback` models are tried after the requested one, in the order that `strategy` makes."""

    fallback: Annotated[list[Name], Meta(max_length=64)] = []
    strategy: Literal["rate-limit", "latency", "cost", "round-robin"] = "rate-limit"


class ChatBody(Struct, forbid_unknown_fields=True):
    """`POST /chat`. `stream` is true when absent. `cost_saver` means `model="auto"` with the goal `cost`."""

    model: Name
    messages: Annotated[list[Message], Meta(min_length=1)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=128_000)] | None = None
    stream: bool = True
    routing: Routing | None = None
    cost_saver: bool | None = None
    optimization_goal: Literal["balanced", "latency", "cost", "reliability"] | None = None
    semantic_memory: bool | None = None
    semantic_top_k: Annotated[int, Meta(ge=1, le=12)] | None = None
    semantic_min_score: Annotated[float, Meta(ge=0, le=1)] | None = None
    conversation_id: Annotated[str, Meta(max_length=256)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | ToolChoice | None = None
    response_format: ResponseFormat | None = None
    stop: str | list[str] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int | None = None


class Step(Struct, omit_defaults=True):
    """One step of the trace."""

    model: str
    status: Literal["trying", "failed", "skipped", "success"]
    reason: str | None = None
    error: str | None = None
    status_code: int | None = None
    latency_ms: int | None = None


class RouteEvent(Struct, omit_defaults=True):
    """A step of the chain, as it happens."""

    event: str
    model: str
    status: Literal["trying", "failed", "skipped", "success"]
    reason: str | None = None
    error: str | None = None
    status_code: int | None = None
    latency_ms: int | None = None


class Auto(Struct):
    """Why Auto chose what it chose."""

    task_type: str
    confidence: float
    reasons: list[str]


class Warning(Struct):
    """Something the target could not take, or that came back changed: `code` is stable, `field` names what."""

    code: str
    field: str
    message: str


class ChatAnswer(Struct):
    """The JSON answer of `POST /chat`. Money in USD and credits (100 a dollar), times in ms; `null` is "not known"."""

    id: str
    model: str
    content: str
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int
    cost: float | None
    credits_charged: float | None
    credits_remaining: float | None
    finish_reason: str
    mode: str
    conversation_id: str | None
    resolved_model: str
    auto_strategy: str | None
    optimization_goal: str | None
    provider: str
    ttft_ms: int | None
    cached_tokens: int
    reasoning_tokens: int
    tool_calls: list[ToolCall] | None
    reasoning: str | None
    usage_estimated: bool
    trace: list[Step] | None
    auto: Auto | None
    warnings: list[Warning]
    byok: bool
    semantic_memory_used: bool
    semantic_memory_hits: int


class PlainChunk(Struct, omit_defaults=True):
    """A piece of a stream without a chain. The one with `done` closes the text and carries the account."""

    model: str
    delta: str
    done: bool
    latency_ms: int
    content_length: int
    reasoning: str | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET


class ChainChunk(Struct, omit_defaults=True):
    """A piece of a stream with a chain."""

    event: str
    model: str
    delta: str
    reasoning: str | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET


class LastChunk(Struct, omit_defaults=True):
    """The chunk with `done: true`, of either kind of stream."""

    model: str
    delta: str
    done: bool
    latency_ms: int
    content_length: int
    ttft_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    tokens: int
    tokens_per_second: float | None
    cost: float | None
    finish_reason: str
    event: str | UnsetType = UNSET


class TraceEvent(Struct):
    """The chain's whole way, once it has ended."""

    event: str
    final_model: str | None
    attempts: int
    trace: list[Step]
    saved_ms: int
    terminal_error: str | UnsetType | None = UNSET


class DoneEvent(Struct):
    """The last event of a stream that succeeded."""

    event: str
    id: str
    credits_charged: float | None
    credits_remaining: float | None
    finish_reason: str
    byok: bool
    conversation_id: str | None
    resolved_model: str
    auto_strategy: str | None
    optimization_goal: str | None
    cost: float | None
    provider: str
    cached_tokens: int
    reasoning_tokens: int
    usage_estimated: bool
    auto: Auto | None
    warnings: list[Warning]
    semantic_memory_used: bool
    semantic_memory_hits: int


Fallbacks: TypeAlias = Annotated[list[Name], Meta(min_length=1, max_length=8)]


class CompareBody(Struct, forbid_unknown_fields=True):
    """`POST /compare`. `models` are different ones, also after their aliases are resolved, and `auto` is none of them.
    `stream` is true when absent. `fallback` maps one of the models to those that are tried in its place.
    `source_timeout_s` is how long one model may take, `min_sources` how many must answer (1), `max_cost` in USD holds
    models back while there is no room for them. `dry_run` asks no model and answers an estimate."""

    models: Annotated[list[Name], Meta(min_length=2, max_length=9)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=128_000)] | None = None
    stream: bool = True
    semantic_memory: bool | None = None
    semantic_top_k: Annotated[int, Meta(ge=1, le=12)] | None = None
    semantic_min_score: Annotated[float, Meta(ge=0, le=1)] | None = None
    conversation_id: Annotated[str, Meta(max_length=256)] | None = None
    fallback: dict[str, Fallbacks] | None = None
    source_timeout_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    min_sources: Annotated[int, Meta(ge=1, le=9)] | None = None
    max_cost: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    dry_run: bool = False


class BlendBody(Struct, forbid_unknown_fields=True):
    """`POST /blend`. `models` are different ones: 2 to 6, and exactly one for `self_moa`. `synthesizer` writes the
    answer; absent, the best rated of the models. `layers` are `moa`'s, `samples` are `self_moa`'s. The rest is as in
    `CompareBody`; `min_sources` counts the first round's answers."""

    models: Annotated[list[Name], Meta(min_length=1, max_length=6)]
    messages: Annotated[list[Message], Meta(min_length=1)]
    strategy: Literal["consensus", "council", "best_of", "chain", "moa", "self_moa"] = "consensus"
    synthesizer: Name | None = None
    layers: Annotated[int, Meta(ge=1, le=3)] | None = None
    samples: Annotated[int, Meta(ge=2, le=8)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=128_000)] | None = None
    stream: bool = True
    semantic_memory: bool | None = None
    semantic_top_k: Annotated[int, Meta(ge=1, le=12)] | None = None
    semantic_min_score: Annotated[float, Meta(ge=0, le=1)] | None = None
    conversation_id: Annotated[str, Meta(max_length=256)] | None = None
    fallback: dict[str, Fallbacks] | None = None
    source_timeout_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    min_sources: Annotated[int, Meta(ge=1, le=9)] | None = None
    max_cost: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    dry_run: bool = False


class JudgeBody(Struct, forbid_unknown_fields=True):
    """`POST /judge`. `contestants` are different models, and `judge` is none of them. `criteria` are sentences; absent,
    correctness, completeness and usefulness. The rest is as in `CompareBody`."""

    contestants: Annotated[list[Name], Meta(min_length=2, max_length=4)]
    judge: Name
    messages: Annotated[list[Message], Meta(min_length=1)]
    criteria: Annotated[list[Annotated[str, Meta(min_length=1, max_length=2000)]], Meta(max_length=16)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=128_000)] | None = None
    stream: bool = True
    semantic_memory: bool | None = None
    semantic_top_k: Annotated[int, Meta(ge=1, le=12)] | None = None
    semantic_min_score: Annotated[float, Meta(ge=0, le=1)] | None = None
    conversation_id: Annotated[str, Meta(max_length=256)] | None = None
    fallback: dict[str, Fallbacks] | None = None
    source_timeout_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    min_sources: Annotated[int, Meta(ge=1, le=9)] | None = None
    max_cost: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    dry_run: bool = False


class CallCost(Struct):
    """One call of an estimate, in USD. `certain`: it is made whatever the others say."""

    role: Literal["source", "synthesis", "judge", "check"]
    model: str
    certain: bool
    least: float | None
    likely: float | None


class EstimateAnswer(Struct):
    """The answer to `dry_run`, in USD; no model was asked. `least` is the sum of the calls that are `certain`, with
    answers of one token, below which the call can't come out; `likely` that of all, with answers of `max_tokens`, or of
    a typical length. `null`: no known price."""

    id: str
    mode: str
    dry_run: bool
    least: float | None
    likely: float | None
    credits_likely: float | None
    calls: list[CallCost]
    warnings: list[Warning]


class SourceResult(Struct):
    """One model's part of a blend or a judgement. `status` is `complete` or `failed`, and then there is an `error`.
    `layer` counts the rounds from 1."""

    model: str
    status: Literal["complete", "failed"]
    layer: int
    content: str
    latency_ms: int
    ttft_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    finish_reason: str | None
    provider: str
    resolved_model: str
    error: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    status_code: int | UnsetType = UNSET


class SourceEvent(SourceResult):
    """`SourceResult` as an event, as soon as the source has ended."""

    event: Literal["source"] = "source"


class SourceBegunEvent(Struct):
    """A source has begun to answer; `source` comes again when it has ended."""

    event: str
    model: str
    status: Literal["started"]
    layer: int
    latency_ms: int


class SynthesizingEvent(Struct):
    """The sources are here; `model` begins to write."""

    event: str
    model: str


class BlendAnswer(Struct):
    """The JSON answer of `POST /blend`. `source_models` are those that answered, `candidates` how many answers the last
    step read, `synthesizer` who wrote `content`. Sums are over all calls: `cost` is that of the `sources`, among them
    writers that failed and a chain's last model, and the `synthesis_cost`."""

    id: str
    mode: str
    content: str
    strategy: str
    source_models: list[str]
    synthesizer: str
    latency_ms: int
    candidates: int
    layers: int | None
    samples: int | None
    prompts: str
    finish_reason: str
    synthesis_cost: float | None
    cost: float | None
    credits_charged: float | None
    credits_remaining: float | None
    conversation_id: str | None
    semantic_memory_used: bool
    semantic_memory_hits: int
    sources: list[SourceResult]
    warnings: list[Warning]


class BlendDoneEvent(Struct):
    """The last event of a blend that came to an answer."""

    event: str
    id: str
    strategy: str
    source_models: list[str]
    synthesizer: str
    resolved_model: str
    latency_ms: int
    candidates: int
    layers: int | None
    samples: int | None
    prompts: str
    finish_reason: str
    cost: float | None
    credits_charged: float | None
    credits_remaining: float | None
    byok: bool
    conversation_id: str | None
    semantic_memory_used: bool
    semantic_memory_hits: int
    warnings: list[Warning]


class VerdictScore(Struct):
    """`score` is 0 to 10, the mean over the judge's readings, and `null` when there was nothing to compare with. Equal
    scores share a rank, from 1."""

    model: str
    rank: int
    score: float | None
    reasoning: str


class VerdictOrder(Struct):
    """One reading of the judge: the answers in the order in which it saw them, and its scores."""

    models: list[str]
    scores: list[float]


class Verdict(Struct):
    """`tied` are the models that share the first rank, when several do; the `winner` is then the one whose worst score
    was the best, and of those the one named first. `disagreement`: the orders have no best model in common."""

    winner: str
    scores: list[VerdictScore]
    overall: str
    tied: list[str]
    disagreement: bool
    orders: list[VerdictOrder]


class VerdictEvent(Verdict):
    """`Verdict` as an event."""

    event: Literal["verdict"] = "verdict"


class JudgeAnswer(Struct):
    """The JSON answer of `POST /judge`: `contestants` in the order in which they were named. Sums are over all."""

    id: str
    mode: str
    verdict: Verdict
    winner_response: SourceResult
    contestants: list[SourceResult]
    judge: str
    criteria: list[str]
    prompts: str
    latency_ms: int
    judge_cost: float | None
    cost: float | None
    credits_charged: float | None
    credits_remaining: float | None
    conversation_id: str | None
    semantic_memory_used: bool
    semantic_memory_hits: int
    warnings: list[Warning]


class CompareResponse(Struct):
    """One model's part of a comparison. With `error` it failed, and `code` and `status_code` say how. `resolved_model`
    is who answered in the end: the model, or one of its fallbacks."""

    model: str
    content: str
    latency_ms: int
    ttft_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    finish_reason: str | None
    provider: str
    resolved_model: str
    reasoning: str | None
    tool_calls: list[ToolCall] | None
    usage_estimated: bool
    warnings: list[Warning]
    error: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    status_code: int | UnsetType = UNSET


class ModelSummary(Struct):
    """What one model's answer took. `tokens` are those of the answer."""

    latency_ms: int
    tokens: int
    cost: float | None


class CompareSummary(Struct):
    """Which of the models that answered did best, and what each took. `longest` is by tokens, `cheapest` is `null` when
    no price is known."""

    fastest: str | None
    longest: str | None
    cheapest: str | None
    models: dict[str, ModelSummary]


class CompareAnswer(Struct):
    """The JSON answer of `POST /compare`: `responses` in the order of `models`. Sums are over all models."""

    id: str
    mode: str
    responses: list[CompareResponse]
    summary: CompareSummary
    latency_ms: int
    cost: float | None
    credits_charged: float | None
    credits_remaining: float | None
    conversation_id: str | None
    semantic_memory_used: bool
    semantic_memory_hits: int
    warnings: list[Warning]


class FailedChunk(Struct, omit_defaults=True):
    """The last chunk of a model that failed; the others go on."""

    model: str
    delta: str
    done: bool
    latency_ms: int
    content_length: int
    error: str
    code: str
    status_code: int
    provider: str | None = None
    retry_after_s: float | None = None


class SummaryEvent(Struct):
    """`CompareSummary` as an event."""

    event: str
    fastest: str | None
    longest: str | None
    cheapest: str | None
    models: dict[str, ModelSummary]


class CompareDoneEvent(Struct):
    """The last event of a comparison in which at least one model answered."""

    event: str
    id: str
    latency_ms: int
    cost: float | None
    credits_charged: float | None
    credits_remaining: float | None
    byok: bool
    conversation_id: str | None
    semantic_memory_used: bool
    semantic_memory_hits: int
    warnings: list[Warning]


class ErrorAnswer(Struct):
    """Every error. `error` is a plain sentence, `code` is stable."""

    error: str
    code: str
    status_code: int
    request_id: str
