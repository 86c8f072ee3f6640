"""The order in which a chain is tried, by the strategy that the caller named. Pure; ties keep the caller's order.

rate-limit    as given, but a target whose provider asked for a pause (429) goes last until the pause is over
latency       fastest first token first, as measured here; the never measured stay behind the measured
cost          cheapest expected answer first; a model without a price is last, never first
round-robin   as given, rotated by one with each use of the same chain
"""

from collections.abc import Mapping, Sequence

from llmwise.domain.models import ModelCard
from llmwise.domain.requests import Strategy
from llmwise.routing.health import UNSEEN, Health


def order(
    chain: Sequence[ModelCard],
    strategy: Strategy,
    *,
    health: Mapping[str, Health],
    cost_nanousd: Mapping[str, int | None],
    turn: int,
    now: float,
) -> list[ModelCard]:
    """`chain` in the order to try. `cost_nanousd` is each model's expected cost of this request (`None`: no price),
    `turn` how often this chain was used before, `now` the monotonic time."""
    match strategy:
        case "rate-limit":
            return sorted(chain, key=lambda card: health.get(card.id, UNSEEN).limited_until > now)
        case "latency":
            return sorted(chain, key=lambda card: _or_last(health.get(card.id, UNSEEN).ttft_ms))
        case "cost":
            return sorted(chain, key=lambda card: _or_last(cost_nanousd.get(card.id)))
        case "round-robin":
            shift = turn % len(chain)
            return [*chain[shift:], *chain[:shift]]


def _or_last(value: float | None) -> float:
    return float("inf") if value is None else value
