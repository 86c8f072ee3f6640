"""Estimates -> a policy: per task type a model to ask first and whom after it, under a guard, with the reasons.

    cost          least cost per successful answer: cost of an attempt / rate of success
    latency       least p95 of the chain: the model's own, and where it fails the next one's on top
    reliability   highest chance that the chain answers: s1 + (1 - s1) * s2, s2 measured right after the first failed
                  where that was seen often enough
    balanced      quality - 0.2 * cost / dearest - 0.1 * p95 / slowest

Every goal compares by the pessimistic end of the intervals (a cost's upper, a rate's lower), so that luck in few rows
wins nothing. The **guard** for all of them: quality not worse than today's by more than `points`, by a one-sided
bound of the difference, corrected for the number of candidates. Without any signal of quality the guard is on the
rate of success, and the policy says so. Below `ENOUGH` effective conversations a model is no candidate, and a task
type whose today's model lacks them gets no recommendation.

Where no model answers `MAJORITY` of a task type, today is a **mix**, and a comparison with the one asked most would say
that everything may become as bad as that. The guard is then on the mix as well: the mean of all, by their traffic. A
model of today that is surely worse than the mix by more than `points` does not stay; without another that passes,
nothing is recommended.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import fsum, hypot
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.requests import Goal
from llmwise.insights.bounded import Bounded
from llmwise.insights.estimate import ENOUGH, Cell, Estimates
from llmwise.insights.intervals import Estimate, Interval, quantile_z, student
from llmwise.routing.learned import Learned, LearnedTask

GUARD_POINTS = 0.02
GUARD_LEVEL = 0.95
MAJORITY = 2 / 3
"""Of a task type's first attempts: from this share on one model is what today is."""
MAX_CHAIN = 3
SEEN_AFTER = 20.0
"""Effective conversations from which a success right after another's failure is believed; else the plain rate."""
COST_WEIGHT, LATENCY_WEIGHT = 0.2, 0.1

Code: TypeAlias = Literal[
    "recommended",
    "kept",
    "not_enough_data",
    "below_guard",
    "guard_on_success",
    "mix",
    "not_first_for_goal",
    "no_price",
    "no_latency",
    "unweighted",
    "same_provider",
]


class Reason(Struct, frozen=True):
    """`code` is stable, `text` a sentence for people. `model` is whom it is about, `None` for the task as a whole."""

    code: Code
    text: str
    model: str | None = None


class Option(Struct, frozen=True):
    """A model as it was weighed. `value` is what the goal compares, pessimistic: nano-USD per answer, ms, a
    chance or a utility; `None` where it can't be told. `pareto`: no other candidate is at least as good, cheap and
    fast."""

    model: str
    provider: str
    n: int
    n_eff: float
    cost: Estimate | None
    p95: Estimate | None
    success: Estimate | None
    quality: Estimate | None
    guarded: bool
    pareto: bool
    value: float | None


class TaskPolicy(Struct, frozen=True):
    """One task type. `primary` is asked first, then `chain`. `enough` is false where nothing is recommended; `primary`
    is then today's model. `n` and `n_eff` are the primary's."""

    task_type: str
    enough: bool
    today: str
    primary: str
    chain: tuple[str, ...]
    n: int
    n_eff: float
    options: tuple[Option, ...]
    reasons: tuple[Reason, ...]


class Policy(Struct, frozen=True):
    """What is stored, adopted and returned to. `version` names the content: the same logs give the same version. Where
    it is `bounded` as a whole, that is what is adopted, and `tasks` are for people to read."""

    version: str
    goal: Goal
    created_at_ms: int
    guard_points: float
    level: float
    tasks: dict[str, TaskPolicy]
    bounded: Bounded | None = None


def recommend(
    estimates: Estimates,
    goal: Goal,
    today: Mapping[str, str],
    created_at_ms: int,
    *,
    points: float = GUARD_POINTS,
) -> Policy:
    """`today` is the model asked first now, by task type; absent: the one that was asked most."""
    tasks = {
        task: _task(task, estimates, goal, today.get(task) or _most_used(estimates.of(task)), points)
        for task in estimates.task_types
    }
    digest = sha256(msgspec.json.encode((goal, points, tasks))).hexdigest()[:12]
    return Policy(f"{goal}-{digest}", goal, created_at_ms, points, estimates.level, tasks)


def joined(policy: Policy, bounded: Bounded) -> Policy:
    """`policy` with the bound on all of its traffic: what Auto then does is what was bounded. For the goal `cost`, the
    only one that trades quality for money; raises `ValueError` for another."""
    if policy.goal != "cost":
        raise ValueError(f"a policy for {policy.goal} is not bounded by a price of quality")
    digest = sha256(msgspec.json.encode((policy.goal, policy.guard_points, policy.tasks, bounded))).hexdigest()[:12]
    return replace(policy, version=f"{policy.goal}-{digest}", bounded=bounded)


def today_of(estimates: Estimates) -> dict[str, str]:
    """Task type -> the model that was asked first most often."""
    return {task: _most_used(estimates.of(task)) for task in estimates.task_types}


def learned(policy: Policy, explore: float = 0.0) -> Learned:
    """What Auto needs of a policy (`routing/learned.py`): the task types with enough evidence. Explorable is who passed
    the guard, by the goal's order. Raises `ValueError` for an `explore` outside 0..0.1."""
    sign = 1 if policy.goal in ("cost", "latency") else -1

    def explorable(task: TaskPolicy) -> tuple[str, ...]:
        known = [option for option in task.options if option.guarded and option.value is not None]
        return tuple(option.model for option in sorted(known, key=lambda o: (sign * (o.value or 0.0), o.model)))

    tasks = {
        name: LearnedTask(task.primary, task.chain, explorable(task), task.n_eff)
        for name, task in policy.tasks.items()
        if task.enough
    }
    priced = None if policy.bounded is None else policy.bounded.priced
    return Learned(policy.version, policy.goal, tasks, explore, priced)


def _most_used(cells: Sequence[Cell]) -> str:
    return max(cells, key=lambda cell: (cell.n, cell.model)).model


def _task(task: str, estimates: Estimates, goal: Goal, today: str, points: float) -> TaskPolicy:
    cells = estimates.of(task)
    now = next((cell for cell in cells if cell.model == today), None)
    if now is None or not now.enough:
        have = 0.0 if now is None else now.n_eff
        text = f"Not enough data: {today} has {have:.0f} effective conversations of the {ENOUGH:.0f} needed."
        n = 0 if now is None else now.n
        reason = Reason("not_enough_data", text, today)
        return TaskPolicy(task, False, today, today, (), n, have, (), (reason,))
    reasons = [
        Reason("not_enough_data", f"{c.model}: {c.n_eff:.0f} effective conversations are not enough.", c.model)
        for c in cells
        if not c.enough
    ]
    known = [cell for cell in cells if cell.enough]
    on_quality = now.quality is not None
    if not on_quality:
        reasons.append(Reason("guard_on_success", "No signal of quality: the guard is on the rate of success."))
    elif not all(cell.weighted for cell in known if cell.quality is not None):
        text = (
            "No propensities were logged: qualities are plain means and right only if hard questions went to all alike."
        )
        reasons.append(Reason("unweighted", text))
    mix = _mix(cells, on_quality)
    if mix is not None:
        reasons.append(Reason("mix", _told_mix(cells, mix, on_quality)))
    guarded = []
    for cell in known:
        losses = [] if cell is now else [(_loss(cell, _measure(now, on_quality), on_quality, len(known) - 1), today)]
        if mix is not None:
            losses.append((_loss(cell, mix, on_quality, len(known) - 1, surely=cell is now), "today's mix"))
        below = next(((loss, than) for loss, than in losses if loss is None or loss > points), None)
        if below is None:
            guarded.append(cell)
        else:
            loss, than = below
            sure = "surely" if cell is now else "perhaps"
            what = "unknown" if loss is None else f"{sure} {100 * loss:.1f} points worse than {than}"
            text = f"{cell.model}: quality {what}, {100 * points:.0f} allowed."
            reasons.append(Reason("below_guard", text, cell.model))
    values = {cell.model: _value(cell, goal, known, estimates) for cell in guarded}
    for cell in guarded:
        if values[cell.model] is None:
            missing: Code = "no_latency" if goal == "latency" else "no_price"
            text = f"{cell.model}: {'no latency' if goal == 'latency' else 'no price'} is known."
            reasons.append(Reason(missing, text, cell.model))
    sign = 1 if goal in ("cost", "latency") else -1
    ranked = sorted(
        (cell for cell in guarded if values[cell.model] is not None),
        key=lambda cell: (sign * (values[cell.model] or 0.0), cell is not now, cell.model),
    )
    if not ranked and now not in guarded:
        return TaskPolicy(task, False, today, today, (), now.n, now.n_eff, (), tuple(reasons))
    primary = ranked[0] if ranked else now
    chain = _chain(task, primary, guarded, estimates)
    reasons += _told(goal, primary, now, ranked, values)
    if chain and chain[0].provider == primary.provider:
        text = f"No candidate at another provider: {chain[0].model} shares {primary.model}'s outages."
        reasons.append(Reason("same_provider", text, chain[0].model))
    front = _pareto(guarded)
    options = tuple(
        Option(c.model, c.provider, c.n, c.n_eff, c.cost, c.p95, c.success, c.quality, c in guarded, c.model in front,
               values.get(c.model))
        for c in known
    )  # fmt: skip
    names = tuple(cell.model for cell in chain)
    return TaskPolicy(task, True, today, primary.model, names, primary.n, primary.n_eff, options, tuple(reasons))


def _measure(cell: Cell, on_quality: bool) -> Estimate | None:
    return cell.quality if on_quality else cell.success


def _loss(
    cell: Cell, theirs: Estimate | None, on_quality: bool, comparisons: int, *, surely: bool = False
) -> float | None:
    """By how much `cell` may be worse than `theirs`, the upper bound of the difference; `surely`: by how much it is
    worse at least, the lower one."""
    ours = _measure(cell, on_quality)
    if ours is None or theirs is None:
        return None
    z = student(quantile_z(GUARD_LEVEL, max(comparisons, 1), sides=1), min(ours.n_eff, theirs.n_eff) - 1)
    reach = hypot(_bound(theirs, z, up=not surely), _bound(ours, z, up=surely))
    return theirs.value - ours.value + (-reach if surely else reach)


def _mix(cells: Sequence[Cell], on_quality: bool) -> Estimate | None:
    """The mean over all models, each by its traffic; `None` where one has a clear majority. A model that is compared
    with it is part of it, which is left out of account: the difference is less uncertain than that."""
    if max(cell.n for cell in cells) >= MAJORITY * sum(cell.n for cell in cells):
        return None
    parts = [(float(cell.n), found) for cell in cells if (found := _measure(cell, on_quality)) is not None]
    return _mean(parts)


def _mean(parts: Sequence[tuple[float, Estimate]]) -> Estimate | None:
    """The weighted mean of independent estimates. An end of its interval is as far off as theirs are together."""
    total = fsum(weight for weight, _ in parts)
    if not total:
        return None
    value = fsum(weight * one.value for weight, one in parts) / total
    low = hypot(*(weight * (one.value - one.interval.low) for weight, one in parts)) / total
    high = hypot(*(weight * (one.interval.high - one.value) for weight, one in parts)) / total
    se = hypot(*(weight * one.se for weight, one in parts)) / total
    n, n_eff = sum(one.n for _, one in parts), fsum(one.n_eff for _, one in parts)
    return Estimate(value, Interval(value - low, value + high), se, n, n_eff)


def _told_mix(cells: Sequence[Cell], mix: Estimate, on_quality: bool) -> str:
    total = sum(cell.n for cell in cells)
    shares = ", ".join(f"{cell.model} {cell.n / total:.0%}" for cell in sorted(cells, key=lambda c: (-c.n, c.model)))
    cost = _mean([(float(cell.n), cell.cost) for cell in cells if cell.cost is not None])
    text = f"Today is a mix ({shares}): its mean {'quality' if on_quality else 'success'} is {mix.value:.2f}"
    return text + ("." if cost is None else f" at ${cost.value / 1e9:.4g} an attempt.")


def _bound(estimate: Estimate, z: float, *, up: bool) -> float:
    """How far the truth may lie on one side: at least what the interval shows, since where nothing varied the standard
    error is zero and means nothing (Newcombe's hybrid of two intervals, 1998)."""
    side = estimate.interval.high - estimate.value if up else estimate.value - estimate.interval.low
    return max(side, z * estimate.se)


def _value(cell: Cell, goal: Goal, known: Sequence[Cell], estimates: Estimates) -> float | None:
    success = cell.success.interval.low if cell.success is not None else 0.0
    match goal:
        case "cost":
            return None if cell.cost is None else cell.cost.interval.high / max(success, 0.01)
        case "latency":
            if cell.p95 is None:
                return None
            second = max((c.p95.interval.high for c in known if c.p95 is not None and c is not cell), default=0.0)
            return cell.p95.interval.high + (1 - success) * second
        case "reliability":
            rest = [_after(estimates, cell, other) for other in known if other is not cell]
            return success + (1 - success) * max(rest, default=0.0)
        case "balanced":
            if cell.cost is None or cell.p95 is None:
                return None
            quality = success if cell.quality is None else cell.quality.interval.low
            dearest = max(c.cost.interval.high for c in known if c.cost is not None) or 1.0
            slowest = max(c.p95.interval.high for c in known if c.p95 is not None) or 1.0
            cost, p95 = cell.cost.interval.high / dearest, cell.p95.interval.high / slowest
            return quality - COST_WEIGHT * cost - LATENCY_WEIGHT * p95


def _after(estimates: Estimates, first: Cell, second: Cell) -> float:
    """The least chance that `second` answers when `first` has just failed."""
    seen = estimates.after.get((first.task_type, first.model, second.model))
    if seen is not None and seen.n_eff >= SEEN_AFTER:
        return seen.interval.low
    return second.success.interval.low if second.success is not None else 0.0


def _chain(task: str, primary: Cell, guarded: Sequence[Cell], estimates: Estimates) -> list[Cell]:
    """Other providers' first, then by the chance to answer after the primary failed."""
    rest = [cell for cell in guarded if cell is not primary]
    rest.sort(key=lambda c: (c.provider == primary.provider, -_after(estimates, primary, c), c.model))
    return rest[: MAX_CHAIN - 1]


def _told(
    goal: Goal, primary: Cell, now: Cell, ranked: Sequence[Cell], values: Mapping[str, float | None]
) -> list[Reason]:
    if primary is now:
        text = f"{now.model} stays: no other within the guard is better for {goal}, pessimistically counted."
        reasons = [Reason("kept", text, now.model)]
    else:
        text = f"{primary.model}: best for {goal} within the guard ({_shown(goal, values[primary.model])}"
        old = values.get(now.model)
        text += f", {now.model} {_shown(goal, old)})." if old is not None else ")."
        reasons = [Reason("recommended", text, primary.model)]
    return reasons + [
        Reason("not_first_for_goal", f"{cell.model}: {_shown(goal, values[cell.model])}.", cell.model)
        for cell in ranked
        if cell is not primary and cell is not now
    ]


def _shown(goal: Goal, value: float | None) -> str:
    if value is None:
        return "unknown"
    match goal:
        case "cost":
            return f"${value / 1e9:.4g} per answer"
        case "latency":
            return f"p95 {value:.0f} ms"
        case "reliability":
            return f"{value:.1%} answered"
        case "balanced":
            return f"utility {value:.3f}"


def _pareto(cells: Sequence[Cell]) -> set[str]:
    """Models that no other beats or equals in quality, cost and p95 at once; what is unknown counts as worst."""

    def place(cell: Cell) -> tuple[float, float, float]:
        worst = float("inf")
        return (
            -(cell.decided if cell.decided is not None else cell.success.value if cell.success else 0.0),
            cell.cost.value if cell.cost is not None else worst,
            cell.p95.value if cell.p95 is not None else worst,
        )

    places = {cell.model: place(cell) for cell in cells}
    return {
        model
        for model, mine in places.items()
        if not any(
            theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True)) for theirs in places.values()
        )
    }
