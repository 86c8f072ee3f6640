"""What an attempt yields, and what the engine adds: one stream of events for every provider and dialect.

The grammar of one attempt, which adapters keep and dialects rely on:

    Started? (TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | OpaquePart | UsageReport)* Finished

Where the caller's endpoint and the provider speak the same format, `Verbatim` stands for the events that it carries.

`UsageReport` is cumulative (the last one counts) and may also come between or before content. `Finished` comes once,
and only when the provider sent its terminal frame; a stream that stops without it is `UpstreamCut`. After `Finished`
only a `UsageReport` may follow.
The engine puts `Routed` before, between and after attempts and ends with `Traced`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeAlias, TypeVar

from msgspec import Struct

from llmwise.domain.messages import Family
from llmwise.domain.usage import TokenUsage

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "unknown"]
RouteStatus: TypeAlias = Literal["trying", "failed", "skipped", "success"]


E = TypeVar("E")


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
    and only then; `arguments` are concatenated. Calls may interleave. `custom`: the tool takes free text, and
    `arguments` are that text (OpenAI's custom tools)."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    signature: str | None = None
    custom: bool = False


class OpaquePart(Struct, frozen=True, gc=False):
    """A whole part that only its family understands, as JSON text (see `messages.Opaque`)."""

    family: Family
    kind: str
    json: str


class Embedded(Struct, frozen=True, gc=False):
    """The vectors of an `EmbeddingRequest`, in the order of its inputs. A vector is its numbers, or base64 of them as
    32-bit floats, little-endian: as the provider said it."""

    vectors: "tuple[Vector, ...]"


Vector: TypeAlias = list[float] | str


class UsageReport(Struct, frozen=True, gc=False):
    """The tokens so far; the last report of an attempt is its account."""

    usage: TokenUsage


class Finished(Struct, frozen=True, gc=False):
    """The provider's own end of the answer. `raw` is its word for the reason. `frame` and `usage_frame` are its last
    frames as they came, of a stream that was passed on verbatim."""

    reason: FinishReason
    raw: str | None = None
    stop_sequence: str | None = None
    frame: bytes | None = None
    usage_frame: bytes | None = None


class Warned(Struct, frozen=True, gc=False):
    """Something was lost or changed on the way to or from the provider: `code` is stable, `field` names what."""

    code: str
    field: str
    message: str


class Verbatim(Struct, frozen=True, gc=False):
    """A provider's bytes as they came, for an endpoint of the same format: whole frames of a stream, or a whole answer.
    `said` are the events that they stand for, for everybody who keeps account. Only for a request that asks for it
    (`ChatRequest.verbatim`)."""

    data: bytes
    said: "Sequence[AttemptEvent]"


AttemptEvent: TypeAlias = (
    Started
    | TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallDelta
    | OpaquePart
    | Embedded
    | UsageReport
    | Finished
    | Warned
    | Verbatim
)

CONTENT = frozenset({TextDelta, ReasoningDelta, RefusalDelta, ToolCallDelta, OpaquePart, Embedded, Finished})
"""The events that commit an attempt: after one of these the caller holds a part of the answer."""


def spelled_out(batch: Iterable[E]) -> Iterator[E | AttemptEvent]:
    """The events, with those that bytes stand for in their place."""
    for event in batch:
        if isinstance(event, Verbatim):
            yield from event.said
        else:
            yield event


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
