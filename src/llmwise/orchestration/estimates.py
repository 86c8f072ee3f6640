"""What calls to models will cost, before they are made.

Two figures: the *least*, below which a call that is answered can't come out, and the *likely*, with an answer of the
`max_tokens` that was said, or of a typical length. Prompts are counted by the gateway's own estimate, which errs; so
the least is that of a prompt of which the provider counts a part only, and has that in its cache.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.catalog.cost import cost, estimate
from llmwise.domain.errors import InvalidRequest
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.money import to_usd
from llmwise.domain.plan import Plan
from llmwise.domain.requests import ChatRequest
from llmwise.domain.usage import TokenUsage
from llmwise.orchestration.settlement import Ledger
from llmwise.routing.needs import Needs, needs_of

Role: TypeAlias = Literal["source", "synthesis", "judge", "check"]

FRAME_TOKENS = 250
"""About what our instructions and the frame around quoted answers add to a prompt."""

VERDICT_TOKENS = 150
"""A typical verdict on one answer."""

LEAST_PART = 12
"""A provider counts no less than this part of our estimate of a prompt, which is four letters a token and a thousand a
picture: runs of blanks can be one token, and OpenAI counts 85 for a picture in low detail
(https://platform.openai.com/docs/guides/images-vision, read 2026-11-22)."""


MOST_TOKENS = 4096
"""Longer than this an answer is not expected to be, where `max_tokens` doesn't say."""


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


def estimated(calls: Sequence[Call], needs: Needs, account: Ledger) -> Estimate:
    """`needs` are those of the caller's question, which every call is asked with."""
    each = [_one(call, needs, account.rate(call.card)) for call in calls]
    least = [one.least_nanousd for one in each if one.call.certain]
    likely = [one.likely_nanousd for one in each]
    return Estimate(
        tuple(each),
        None if None in least else sum(cost for cost in least if cost is not None),
        None if None in likely else sum(cost for cost in likely if cost is not None),
    )


def expected(plan: Plan, request: ChatRequest, account: Ledger) -> tuple[int, int]:
    """What a run costs from its beginning, for its prompt, and at most until its end, in nano-USD; with fallbacks, of
    the dearest. The most is with `max_tokens`, or else with what the model can write, up to `MOST_TOKENS`. What has no
    known price counts nothing."""
    prompt, said = needs_of(request).prompt_tokens, request.sampling.max_tokens
    begun, ended = 0, 0
    for card in [attempt.target for attempt in plan.attempts]:
        rate, most = account.rate(card), said or min(card.max_output or MOST_TOKENS, MOST_TOKENS)
        begun = max(begun, estimate(prompt, 1, rate) or 0)
        ended = max(ended, estimate(prompt, most, rate) or 0)
    return begun, ended


def check_affordable(estimate: Estimate, max_cost_nanousd: int | None) -> None:
    """Raises `InvalidRequest` when even the least costs more than `max_cost`, or can't be known."""
    if max_cost_nanousd is None:
        return
    if estimate.likely_nanousd is None:
        unknown = dict.fromkeys(one.call.card.id for one in estimate.calls if one.likely_nanousd is None)
        raise price_unknown(", ".join(unknown))
    if estimate.least_nanousd is not None and estimate.least_nanousd > max_cost_nanousd:
        raise InvalidRequest(
            f"max_cost = {to_usd(max_cost_nanousd):g}: even with answers of one token the call costs about "
            f"{to_usd(estimate.least_nanousd):g} USD; raise it, or ask fewer or cheaper models",
            code="max_cost_too_low",
            param="max_cost",
        )


def price_unknown(models: str) -> InvalidRequest:
    return InvalidRequest(
        f"max_cost: no price is known for {models}, so no bound can be kept; set it, or leave max_cost out",
        code="price_unknown",
        param="max_cost",
    )


def _one(call: Call, needs: Needs, rate: Rate | None) -> CallEstimate:
    prompt = needs.prompt_tokens + (FRAME_TOKENS if call.reads or call.role != "source" else 0)
    measures = call.role in ("judge", "check")
    likely = VERDICT_TOKENS * max(1, call.reads) if measures else needs.output_tokens
    least = cost(TokenUsage(cache_read=prompt // LEAST_PART, output=1), rate)
    return CallEstimate(call, least, estimate(prompt + call.reads * needs.output_tokens, likely, rate))
