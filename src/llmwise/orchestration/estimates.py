"""What a call to several models will cost, before any of them is asked.

Two figures: the *least*, with answers of one token, below which the call can't come out; and the *likely*, with answers
of the `max_tokens` that was said, or of a typical length. Prompts are counted by the gateway's own estimate.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.catalog.cost import estimate
from llmwise.domain.errors import InvalidRequest
from llmwise.domain.models import ModelCard
from llmwise.domain.money import to_usd
from llmwise.orchestration.settlement import RateOf
from llmwise.routing.needs import Needs

Role: TypeAlias = Literal["source", "synthesis", "judge", "check"]

FRAME_TOKENS = 250
"""About what our instructions and the frame around quoted answers add to a prompt."""

VERDICT_TOKENS = 150
"""A typical verdict on one answer."""


class Call(Struct, frozen=True):
    """One call to come: who is asked, and how many answers of others it is given to read. `certain`: it will be made
    whatever the others say."""

    role: Role
    card: ModelCard
    reads: int = 0
    certain: bool = True


class CallEstimate(Struct, frozen=True):
    """In nano-USD; `None` where no price is known."""

    call: Call
    least_nanousd: int | None
    likely_nanousd: int | None


class Estimate(Struct, frozen=True):
    """Sums over the calls, `None` if a price isn't known. `least_nanousd` counts only what is certain."""

    calls: tuple[CallEstimate, ...]
    least_nanousd: int | None
    likely_nanousd: int | None


def estimated(calls: Sequence[Call], needs: Needs, rate_of: RateOf, unix_ms: int) -> Estimate:
    """`needs` are those of the caller's question, which every call is asked with."""
    each = [_one(call, needs, rate_of, unix_ms) for call in calls]
    least = [one.least_nanousd for one in each if one.call.certain]
    likely = [one.likely_nanousd for one in each]
    return Estimate(
        tuple(each),
        None if None in least else sum(cost for cost in least if cost is not None),
        None if None in likely else sum(cost for cost in likely if cost is not None),
    )


def check_affordable(estimate: Estimate, max_cost_nanousd: int | None) -> None:
    """Raises `InvalidRequest` when even the least costs more than `max_cost`, or can't be known."""
    if max_cost_nanousd is None:
        return
    if estimate.least_nanousd is None:
        unknown = ", ".join(dict.fromkeys(one.call.card.id for one in estimate.calls if one.likely_nanousd is None))
        raise InvalidRequest(
            f"max_cost: no price is known for {unknown}, so no bound can be kept; set its price or leave max_cost out",
            code="price_unknown",
            param="max_cost",
        )
    if estimate.least_nanousd > max_cost_nanousd:
        raise InvalidRequest(
            f"max_cost = {to_usd(max_cost_nanousd):g}: even with answers of one token the call costs about "
            f"{to_usd(estimate.least_nanousd):g} USD; raise it, or ask fewer or cheaper models",
            code="max_cost_too_low",
            param="max_cost",
        )


def _one(call: Call, needs: Needs, rate_of: RateOf, unix_ms: int) -> CallEstimate:
    rate = rate_of(call.card, unix_ms)
    frame = FRAME_TOKENS if call.reads or call.role != "source" else 0
    measures = call.role in ("judge", "check")
    likely = VERDICT_TOKENS * max(1, call.reads) if measures else needs.output_tokens
    return CallEstimate(
        call,
        estimate(needs.prompt_tokens + frame + call.reads, 1, rate),
        estimate(needs.prompt_tokens + frame + call.reads * needs.output_tokens, likely, rate),
    )
