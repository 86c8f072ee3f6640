"""What an attempt yields, and what the engine adds: one stream of events for every provider and dialect.

The grammar of one attempt, which adapters keep and dialects rely on:

    Started? (TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | OpaquePart | UsageReport)* Finished

`UsageReport` is cumulative (the last one counts) and may also come between or before content. `Finished` comes once,
and only when the provider sent its terminal frame; a stream that stops without it is `UpstreamCut`. After `Finished`
only a `UsageReport` may follow.
The engine puts `Routed` before, between and after attempts and ends with `Traced`.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.domain.messages import Family
from llmwise.domain.usage import TokenUsage

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "unknown"]
RouteStatus: TypeAlias = Literal["trying", "failed", "skipped", "success"]


class Started(Struct, frozen=True, gc=False):
    """The provider took the request. `model` is the *answered* name, `id` the provider's own id of the answer."""

    id: str | None = None
    model: str | None = None


class TextDelta(Struct, frozen=True, gc=False):
    """More of the answer's text."""

    text: str


class ReasoningDelta(Struct, frozen=True, gc=False):
    """More thinking: text, or the opaque `signature` or `redacted` block that closes it (see `messages.Reasoning`).
    `block` tells apart the thinking blocks of one answer, from 0."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    block: int = 0


class RefusalDelta(Struct, frozen=True, gc=False):
    """More of a refusal, where the provider keeps it apart from the text (OpenAI)."""

    text: str


class ToolCallDelta(Struct, frozen=True, gc=False):
    """A fragment of the `index`-th tool call of the answer, from 0. `id` and `name` come with the first fragment,
    and only then; `arguments` are concatenated. Calls may interleave."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    signature: str | None = None


class OpaquePart(Struct, frozen=True, gc=False):
    """A whole part that only its family understands, as JSON text (see `messages.Opaque`)."""

    family: Family
    kind: str
    json: str


class UsageReport(Struct, frozen=True, gc=False):
    """The tokens so far; the last report of an attempt is its account."""

    usage: TokenUsage


class Finished(Struct, frozen=True, gc=False):
    """The provider's own end of the answer. `raw` is its word for the reason."""

    reason: FinishReason
    raw: str | None = None
    stop_sequence: str | None = None


class Warned(Struct, frozen=True, gc=False):
    """Something was lost or changed on the way to or from the provider: `code` is stable, `field` names what."""

    code: str
    field: str
    message: str


AttemptEvent: TypeAlias = (
    Started | TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | OpaquePart | UsageReport | Finished | Warned
)

CONTENT = frozenset({TextDelta, ReasoningDelta, RefusalDelta, ToolCallDelta, OpaquePart, Finished})
"""The events that commit an attempt: after one of these the caller holds a part of the answer."""


class Routed(Struct, frozen=True, gc=False):
    """A step of the plan, as it happens. `latency_ms` counts from the start of this attempt."""

    model: str
    status: RouteStatus
    reason: str | None = None
    error: str | None = None
    status_code: int | None = None
    latency_ms: int | None = None


class Traced(Struct, frozen=True):
    """All steps, when the request has ended. `saved_ms` is the time that skipping open circuits saved, estimated from
    the time-out that each skipped target would have cost. `terminal_error` is set when the request failed."""

    final_model: str | None
    attempts: int
    steps: tuple[Routed, ...]
    saved_ms: int = 0
    terminal_error: str | None = None


Event: TypeAlias = AttemptEvent | Routed | Traced
