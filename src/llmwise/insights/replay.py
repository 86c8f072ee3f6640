"""Past requests under another policy: what they would have cost, and how good the answers would have been.

Nothing is sent. Cost and success come from rows, quality by the doubly robust estimate (`offpolicy.py`), and only
rows with a propensity count: of requests whose model was certain to be taken nothing can be learned about another.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from llmwise.insights.dataset import Row
from llmwise.insights.intervals import Estimate, mean
from llmwise.insights.offpolicy import LEAST_PROPENSITY, Logged, Scored


class Compared(Struct, frozen=True):
    """A measure as it was and as it would have been, both estimated from the same rows. `change` is the difference,
    row by row, so that its interval is shorter than the two."""

    was: Estimate
    would_be: Estimate
    change: Estimate


class Replayed(Struct, frozen=True):
    """`rows` went in. `left_out` had no task type, no propensity or not the measure. `supported` is the share of rows
    whose task has the policy's model in the logs; the others count as they were. `None`: nothing to go by."""

    rows: int
    left_out: int
    supported: float
    quality: Compared | None
    cost_nanousd: Compared | None


def replay(rows: Iterable[Row], policy: Mapping[str, str], reference: str) -> Replayed:
    """Task type -> model against always `reference`, on first attempts. A task type that `policy` doesn't name stays
    with the reference; so does one where the policy's model was never seen."""
    first = [row for row in rows if row.after is None]
    usable = [row for row in first if row.task_type is not None and row.propensity is not None]
    seen = {(row.task_type, row.model) for row in usable}
    choice = {task: model for task, model in policy.items() if (task, model) in seen}
    supported = sum(row.task_type not in policy or row.task_type in choice for row in usable)
    quality = [_logged(row, row.quality) for row in usable if row.quality is not None]
    cost = [_logged(row, float(row.cost_nanousd)) for row in usable if row.cost_nanousd is not None]
    return Replayed(
        rows=len(first),
        left_out=len(first) - len(usable),
        supported=supported / len(usable) if usable else 0.0,
        quality=_compared(quality, choice, reference),
        cost_nanousd=_compared(cost, choice, reference),
    )


def _logged(row: Row, measure: float) -> Logged:
    assert row.task_type is not None
    assert row.propensity is not None
    propensity = max(row.propensity, LEAST_PROPENSITY)
    return Logged(row.task_type, row.model, measure, 0.0, propensity, row.conversation)


def _compared(rows: list[Logged], choice: Mapping[str, str], reference: str) -> Compared | None:
    """`None` without rows of the reference: there is nothing to compare with."""
    if not any(row.model == reference for row in rows):
        return None
    scored = Scored(rows)
    try:
        was = scored.influence(lambda _: {}, reference)
        would_be = scored.influence(lambda _: choice, reference)
    except KeyError:  # a fold without a single row of a model: too few to say anything
        return None
    change = [new - old for new, old in zip(would_be, was, strict=True)]
    estimates = [mean(values, None, scored.conversations) for values in (was, would_be, change)]
    assert estimates[0] is not None
    assert estimates[1] is not None
    assert estimates[2] is not None
    return Compared(estimates[0], estimates[1], estimates[2])
