"""Past requests under another policy: whom they would have asked, what that would have cost, and how good the answers
would have been. Nothing is sent.

They go through the planner itself (`replanned`), under any policy that it knows: what live traffic would have met,
filters, conversations' lots and all. Of a question the record keeps the user's last words; one that brought more (a
conversation, a system prompt, tools' results, a document) is not what was asked, and is counted as left out.

What the planner's choices would have come to (`replay`) is the doubly robust estimate (`offpolicy.py`), and only rows
with a propensity count: of requests whose model was certain to be taken nothing can be learned about another. Asking
again can tell (`rerun.py`).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from llmwise.catalog.cost import estimate_tokens
from llmwise.domain.errors import GatewayError
from llmwise.domain.messages import Message, Text
from llmwise.domain.records import RequestRecord
from llmwise.domain.requests import AUTO, ChatRequest, Goal
from llmwise.insights.dataset import UNJUDGED, Judged, Row, rows_of
from llmwise.insights.intervals import BOUNDLESS, Estimate, Interval, mean
from llmwise.insights.offpolicy import LEAST_PROPENSITY, Logged, Scored
from llmwise.routing.planner import Planner, View
from llmwise.storage.rows import SettledRequest

MAX_KEPT_CHARS = 32_768
"""A text of this length was cut when it was kept (`orchestration.settlement`)."""

MORE_TOKENS, SPARE_TOKENS = 1.5, 64
"""A prompt billed for more than so many times the kept text's estimate, and so many tokens on top, brought more."""

Why: TypeAlias = Literal["no_text", "cut_text", "more_context", "not_chat", "no_model"]
"""Why a request can't be planned again: nothing kept; cut; more was sent than is kept; not a single answer; nobody
can take it now."""


class Compared(Struct, frozen=True):
    """A measure as it was and as it would have been, of the same requests. `change` is the difference, one by one, so
    that its interval is shorter than the two."""

    was: Estimate
    would_be: Estimate
    change: Estimate


class Replanned(Struct, frozen=True):
    """A past request as the planner would decide it now. `row` is its first attempt, with the model that was asked;
    `strategy` is Auto's word for how it decided."""

    row: Row
    model: str
    strategy: str | None
    policy_version: str | None


class Replay(Struct, frozen=True):
    """Of `requests`, `planned` went through the planner and `left_out` could not, by reason. `moves` counts "model
    asked then -> model it would ask" where these differ. `supported` is the share of the planned whose new model was
    ever logged on its task type with a chance; only they are estimated, and `was` is theirs, not that of all. `None`:
    nothing to go by, as where no propensities were logged."""

    requests: int
    planned: int
    left_out: dict[str, int]
    moves: dict[str, int]
    supported: float
    quality: Compared | None
    cost_nanousd: Compared | None


def replanned(
    settled: Iterable[SettledRequest],
    planner: Planner,
    view: Callable[[ChatRequest], View],
    goal: Goal | None = None,
    judged: Callable[[str], Judged] = lambda _: UNJUDGED,
) -> Iterator[Replanned | Why]:
    """Each past request, or why not. `view` is the world with the other policy in it; it may draw per request."""
    for one in settled:
        why = not_replayable(one.request)
        rows = [] if why is not None else list(rows_of(one.request, one.attempts, judged(one.request.id)))
        if why is not None or not rows:
            yield why or "no_model"
            continue
        request = asked_again(one.request, goal)
        try:
            plan = planner.plan(request, view(request))
        except GatewayError:
            yield "no_model"
            continue
        task = rows[0].task_type or (plan.auto.task_type if plan.auto is not None else None)
        how = (None, None) if plan.auto is None else (plan.auto.strategy, plan.auto.policy_version)
        row = rows[0] if rows[0].task_type == task else replace(rows[0], task_type=task)
        yield Replanned(row, plan.attempts[0].target.id, *how)


def not_replayable(record: RequestRecord) -> Why | None:
    """Why the kept text is not what was asked; `None`: it is, as far as can be told."""
    if record.mode != "chat":
        return "not_chat"
    if not record.prompt:
        return "no_text"
    if len(record.prompt) >= MAX_KEPT_CHARS:
        return "cut_text"
    billed = record.input_tokens + record.cache_read_tokens + record.cache_write_tokens
    if billed > MORE_TOKENS * estimate_tokens(record.prompt) + SPARE_TOKENS:
        return "more_context"
    return None


def asked_again(record: RequestRecord, goal: Goal | None) -> ChatRequest:
    """The question, for Auto to decide. Its conversation draws the same lots as it would live."""
    return ChatRequest(
        model=AUTO,
        messages=(Message("user", (Text(record.prompt or ""),)),),
        goal=goal,
        conversation_id=record.conversation_id or record.id,
    )


def replay(found: Iterable[Replanned | Why]) -> Replay:
    """What the planner's choices would have come to."""
    planned: list[Replanned] = []
    left_out: Counter[str] = Counter()
    for one in found:
        if isinstance(one, Replanned):
            planned.append(one)
        else:
            left_out[one] += 1
    moves = Counter(f"{one.row.model} -> {one.model}" for one in planned if one.model != one.row.model)
    usable = [one for one in planned if one.row.task_type is not None and one.row.propensity is not None]
    seen = {(one.row.task_type, one.row.model) for one in usable}
    backed = [one for one in usable if (one.row.task_type, one.model) in seen]
    quality = [one for one in backed if one.row.quality is not None]
    cost = [one for one in backed if one.row.cost_nanousd is not None]
    return Replay(
        requests=len(planned) + left_out.total(),
        planned=len(planned),
        left_out=dict(left_out),
        moves=dict(moves.most_common()),
        supported=len(backed) / len(planned) if planned else 0.0,
        quality=_against_was([_logged(one.row, one.row.quality or 0.0) for one in quality], quality),
        cost_nanousd=_against_was([_logged(one.row, float(one.row.cost_nanousd or 0)) for one in cost], cost),
    )


def _logged(row: Row, measure: float) -> Logged:
    assert row.task_type is not None
    assert row.propensity is not None
    propensity = max(row.propensity, LEAST_PROPENSITY)
    return Logged(row.task_type, row.model, measure, 0.0, propensity, row.conversation)


def _against_was(rows: list[Logged], planned: Sequence[Replanned]) -> Compared | None:
    """The planner's choices against what really happened, whose measure is known without a model of it."""
    if not rows:
        return None
    scored = Scored(rows)
    try:
        would_be = scored.influence_of([one.model for one in planned])
    except KeyError:  # a fold without a single row of a model: too few to say anything
        return None
    return compared([row.reward for row in rows], would_be, scored.conversations)


def compared(
    was: Sequence[float], would_be: Sequence[float], conversations: Sequence[Hashable], *, unit: bool = False
) -> Compared | None:
    """One number a request, twice. `None` without requests. `unit`: numbers lie in 0..1, and then a few requests that
    all changed alike don't make an interval of no width."""
    change = [new - old for new, old in zip(would_be, was, strict=True)]
    old, new = (mean(values, None, conversations, unit=unit) for values in (was, would_be))
    moved = _moved(change, conversations) if unit else mean(change, None, conversations)
    return None if old is None or new is None or moved is None else Compared(old, new, moved)


def _moved(change: Sequence[float], conversations: Sequence[Hashable]) -> Estimate | None:
    """The mean of differences in -1..1."""
    found = mean([(1 + one) / 2 for one in change], None, conversations, unit=True)
    if found is None:
        return None
    low, high = 2 * found.interval.low - 1, 2 * found.interval.high - 1
    return Estimate(2 * found.value - 1, Interval(low, high), min(2 * found.se, BOUNDLESS), found.n, found.n_eff)
