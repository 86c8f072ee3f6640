"""Settled requests -> rows to learn from: one per attempt that reached a provider. Streaming: a row depends on its
request alone. What a record can't tell is `None`, never guessed.

An attempt is the unit, because a request that was answered by its fallback says two things: that the first model
failed, and how the next did after it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from llmwise.domain.records import AttemptRecord, Outcome, RequestRecord

SUCCESS: Mapping[Outcome, bool | None] = {
    "complete": True,
    "provider_error": False,
    "cut": False,
    "timeout": False,
    "rejected": None,
    "client_gone": None,
    "skipped": None,
}
"""A refused request is the caller's fault, and one that he left says nothing of the model."""


OWN = "llmwise-"
"""The gateway's own conversations begin so: suites, graders, reruns. What it asks is paid for and recorded as any, and
is nobody's traffic to learn from."""


def is_own(conversation_id: str | None) -> bool:
    """Whether the gateway asked it itself."""
    return conversation_id is not None and conversation_id.startswith(OWN)


class Judged(Struct, frozen=True):
    """What is known of a request beside its record: `quality` 0..1 (feedback, a judge, a check), the chance
    `propensity` with which its first model was taken, and whether that was exploration."""

    quality: float | None = None
    propensity: float | None = None
    explored: bool | None = None
    policy_version: str | None = None


UNJUDGED = Judged()


class Row(Struct, frozen=True, gc=False):
    """An attempt. `after` is the model that failed just before it (`None`: the first attempt). `success` is `None`
    where it can't be told. Cost in nano-USD, times in ms. `quality` and `propensity` belong to the attempt that they
    were given for: quality to the one that answered, propensity to the first. `conversation` is the request's own id
    where it stands alone."""

    task_type: str | None
    model: str
    provider: str
    after: str | None
    success: bool | None
    quality: float | None
    cost_nanousd: int | None
    latency_ms: int
    ttft_ms: int | None
    propensity: float | None
    explored: bool | None
    policy_version: str | None
    conversation: str
    created_at_ms: int


def rows(
    settled: Iterable[tuple[RequestRecord, Sequence[AttemptRecord]]],
    judged: Callable[[str], Judged] = lambda _: UNJUDGED,
) -> Iterator[Row]:
    """Rows of single answers (`chat`; in a comparison every model is asked, none is chosen). `attempts` in their order;
    `judged` finds what is known of a request by its id."""
    for request, attempts in settled:
        if request.mode == "chat":
            yield from rows_of(request, attempts, judged(request.id))


def rows_of(request: RequestRecord, attempts: Sequence[AttemptRecord], judged: Judged = UNJUDGED) -> Iterator[Row]:
    """One request's rows."""
    after: str | None = None
    first = True
    for attempt in attempts:
        if attempt.outcome == "skipped":
            first = False  # the model that was chosen is not the one that is tried now
            continue
        success = SUCCESS[attempt.outcome]
        yield Row(
            task_type=request.task_type,
            model=attempt.model,
            provider=attempt.provider,
            after=after,
            success=success,
            quality=judged.quality if success else None,
            cost_nanousd=attempt.cost_nanousd,
            latency_ms=attempt.latency_ms,
            ttft_ms=attempt.ttft_ms,
            propensity=judged.propensity if first else None,
            explored=judged.explored if first else None,
            policy_version=judged.policy_version,
            conversation=request.conversation_id or request.id,
            created_at_ms=request.created_at_ms,
        )
        after, first = (attempt.model if success is False else None), False
