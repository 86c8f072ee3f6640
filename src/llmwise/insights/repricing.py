"""Prices that moved: what changed for each model on offer, and what that means for the money and for the policies.

A model's part of a bill moves with its own mix of tokens (cached ones are cheap, answers are dear), so that costs are
computed anew from what was used; a model that was not used is weighed by `TYPICAL`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.catalog.cost import cost
from llmwise.catalog.lookup import Catalog
from llmwise.domain.models import Rate
from llmwise.domain.usage import TokenUsage
from llmwise.insights.policy import Policy, TaskPolicy
from llmwise.routing.classifier import TASK_TYPES
from llmwise.routing.values import Expected, best_value
from llmwise.storage.rows import ModelUsage

Moved: TypeAlias = Literal["up", "down", "mixed", "new", "gone"]

TYPICAL = TokenUsage(input=750_000, output=250_000)
"""Three tokens of question to one of answer, where nothing was used."""


class PriceChange(Struct, frozen=True):
    """A model on offer. `new`: it had no known price; `gone`: it has none any more. `times` is the new price over the
    old one by the tokens that were used (`used`), or typical ones; `None` without one of the two."""

    model: str
    moved: Moved
    old: Rate | None
    new: Rate | None
    times: float | None
    used: bool


class Effect(Struct, frozen=True):
    """A task type of an adopted policy whose recommendation would be another. Costs are per answer, nano-USD, at the
    new prices; `saved` is the difference as a share of what staying costs."""

    task_type: str
    now: str
    then: str
    now_cost: float
    then_cost: float
    saved: float


class Standing(Struct, frozen=True):
    """An adopted policy under the new prices. `stale` are its models that have no price any more."""

    version: str
    goal: str
    effects: tuple[Effect, ...]
    stale: tuple[str, ...]


def changes(old: Catalog, new: Catalog, used: Iterable[ModelUsage], unix_ms: int) -> list[PriceChange]:
    """Of the models that both offer, in their order; only those whose price moved. Both are asked for this moment."""
    tokens = tokens_of(used)
    found = []
    for card in old.models:
        after = new.get(card.id)
        if after is None:
            continue
        was, now = old.rate(card, unix_ms), new.rate(after, unix_ms)
        if was != now:
            found.append(
                PriceChange(
                    card.id, _moved(was, now), was, now, _times(was, now, tokens.get(card.id)), card.id in tokens
                )
            )
    return found


def bill(old: Catalog, new: Catalog, used: Iterable[ModelUsage], unix_ms: int) -> tuple[int, int]:
    """What was used, at the old and the new prices, in nano-USD; models without a price on either side are left out."""
    before = after = 0
    for model, tokens in tokens_of(used).items():
        card, then = old.get(model), new.get(model)
        costs = (
            None if card is None else cost(tokens, old.rate(card, unix_ms)),
            None if then is None else cost(tokens, new.rate(then, unix_ms)),
        )
        if costs[0] is not None and costs[1] is not None:
            before, after = before + costs[0], after + costs[1]
    return before, after


def tokens_of(used: Iterable[ModelUsage]) -> dict[str, TokenUsage]:
    """Sums by model. A cache write counts as one for five minutes: the ledger's sums don't tell them apart."""
    found: dict[str, TokenUsage] = {}
    for one in used:
        old = found.get(one.model, TokenUsage())
        found[one.model] = TokenUsage(
            input=old.input + one.input_tokens,
            cache_read=old.cache_read + one.cache_read_tokens,
            cache_write_5m=old.cache_write_5m + one.cache_write_tokens,
            output=old.output + one.output_tokens,
        )
    return {model: tokens for model, tokens in found.items() if tokens != TokenUsage()}


def retiring(catalog: Catalog, unix_ms: int, within_days: int = 365) -> list[tuple[str, date]]:
    """Models whose vendor switches them off within so many days, or has already, soonest first."""
    last = datetime.fromtimestamp(unix_ms / 1000 + within_days * 86_400, UTC).date()
    return sorted(((model, day) for model, day in catalog.retirements.items() if day <= last), key=lambda one: one[1])


def standing(policy: Policy, moved: Sequence[PriceChange]) -> Standing:
    """What would be recommended now, with nothing but the prices changed."""
    times = {one.model: one.times for one in moved if one.times is not None}
    gone = {one.model for one in moved if one.moved == "gone"}
    if policy.bounded is not None:
        effects = list(_priced(policy, times))
        named = {*policy.bounded.priced.values.loads, policy.bounded.priced.reference}
    else:
        effects = [found for task in policy.tasks.values() if (found := _effect(policy, task, times)) is not None]
        named = {name for task in policy.tasks.values() for name in (task.primary, *task.chain)}
    return Standing(policy.version, policy.goal, tuple(effects), tuple(sorted(named & gone)))


def _priced(policy: Policy, times: Mapping[str, float]) -> Iterable[Effect]:
    """By the table: a typical question of each task type."""
    assert policy.bounded is not None
    priced = policy.bounded.priced
    price = priced.careful if priced.bold is None or priced.share < 0.5 else priced.bold
    if price is None:
        return
    for task in TASK_TYPES:
        old = priced.values.table[task]
        new = {m: Expected(one.quality, one.cost * times.get(m, 1.0)) for m, one in old.items()}
        now, then = best_value(old, price), best_value(new, price)
        if now != then:
            yield _change(task, now, then, new[now].cost, new[then].cost)


def _effect(policy: Policy, task: TaskPolicy, times: Mapping[str, float]) -> Effect | None:
    """Only a policy for cost follows prices: its values are costs, and move with them."""
    if policy.goal != "cost" or not task.enough:
        return None
    values = {o.model: o.value * times.get(o.model, 1.0) for o in task.options if o.guarded and o.value is not None}
    if not values or task.primary not in values:
        return None
    then = min(values, key=lambda model: (values[model], model != task.primary))
    return (
        None
        if then == task.primary
        else _change(task.task_type, task.primary, then, values[task.primary], values[then])
    )


def _change(task: str, now: str, then: str, now_cost: float, then_cost: float) -> Effect:
    return Effect(task, now, then, now_cost, then_cost, 1 - then_cost / now_cost if now_cost else 0.0)


def _moved(was: Rate | None, now: Rate | None) -> Moved:
    if was is None:
        return "new"
    if now is None:
        return "gone"
    up = now.input > was.input or now.output > was.output
    down = now.input < was.input or now.output < was.output
    return "up" if up and not down else "down" if down and not up else "mixed"


def _times(was: Rate | None, now: Rate | None, tokens: TokenUsage | None) -> float | None:
    before, after = cost(tokens or TYPICAL, was), cost(tokens or TYPICAL, now)
    return after / before if before and after is not None else None
