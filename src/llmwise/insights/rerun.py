"""Past questions really asked again: a sample, other models, a limit on the cost, and somebody who grades the answers.

This is what exploring live traffic can't give: other models' answers to the same question, so that models are compared
on the very same questions, and nobody gets a worse answer meanwhile. It costs money, so it is asked for by name and
stops at its limit: a question is begun only where all that it may cost at most still fits, beside what is under way.

The engine and the grader are ports: asking goes through the same admission, account and engine as a caller's request
(`api.asking`), grading by a judge model in both orders (`api.rerunning`) or by a check of one's own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from math import hypot, sqrt
from random import Random
from typing import TypeAlias

from msgspec import Struct

from llmwise.insights import values
from llmwise.insights.bounded import Asked
from llmwise.insights.intervals import BOUNDLESS, LEVEL, Estimate, Interval, quantile_z
from llmwise.insights.replay import Why, not_replayable
from llmwise.insights.suites import Ask
from llmwise.routing.values import Expected
from llmwise.storage.rows import SettledRequest

PARALLEL = 4


class Past(Struct, frozen=True):
    """A past question with the answer that it got."""

    id: str
    conversation: str
    question: str
    model: str
    answer: str
    cost_nanousd: int


Grade: TypeAlias = Callable[[str, Mapping[str, str]], Awaitable[tuple[Mapping[str, float], int]]]
"""(question, model -> answer) -> (model -> quality 0..1, what grading cost in nano-USD). A model that it leaves out is
not graded, and the question then counts for nobody."""


class Rerun(Struct, frozen=True):
    """What came of it. `asked` are the questions that every model answered and that were graded, the outcome of the
    model of then first; `unchanged` stay with the model of then, so that nothing was asked, and how good they were
    nobody has said; `incomplete` are those where one failed or was not graded; `unasked` had no room under the limit.
    `spent_nanousd`: answers and grading."""

    asked: tuple[Asked, ...]
    unchanged: int
    incomplete: int
    unasked: int
    spent_nanousd: int


def sample(settled: Sequence[SettledRequest], count: int, random: Random) -> tuple[list[Past], dict[Why, int]]:
    """`count` past questions, drawn uniformly out of those that can be asked again, and why others can't."""
    past: list[Past] = []
    left_out: dict[Why, int] = {}
    for one in settled:
        record = one.request
        why = not_replayable(record)
        if why is None and (record.model is None or record.cost_nanousd is None or not record.answer):
            why = "no_model"
        if why is not None:
            left_out[why] = left_out.get(why, 0) + 1
            continue
        assert record.model is not None
        past.append(
            Past(
                record.id,
                record.conversation_id or record.id,
                record.prompt or "",
                record.model,
                record.answer or "",
                record.cost_nanousd or 0,
            )
        )
    return random.sample(past, min(count, len(past))), left_out


async def rerun(
    past: Sequence[Past],
    whom: Callable[[Past], Sequence[str]],
    ask: Ask,
    grade: Grade,
    at_most: Callable[[str, Past], int],
    limit_nanousd: int,
    *,
    max_tokens: int | None = None,
    parallel: int = PARALLEL,
) -> Rerun:
    """Ask each of `past` of all the models of `whom` and grade their answers beside the old one. Where the model of
    then is the only one, nothing is asked. `at_most(model, past)` is the most that an answer may cost, in nano-USD,
    grading included."""
    purse = _Purse(limit_nanousd)
    found: list[Asked] = []
    unchanged = incomplete = unasked = 0
    waiting = iter(past)

    async def work() -> None:
        nonlocal unchanged, incomplete, unasked
        for one in waiting:
            others = [model for model in dict.fromkeys(whom(one)) if model != one.model]
            if not others:
                unchanged += 1
                continue
            most = sum(at_most(model, one) for model in others)
            if not await purse.reserve(most):
                unasked += 1
                continue
            spent = 0
            try:
                asked, spent = await _one(one, others, ask, grade, max_tokens)
            finally:
                await purse.settle(most, spent)
            if asked is None:
                incomplete += 1
            else:
                found.append(asked)

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(work())
    return Rerun(tuple(found), unchanged, incomplete, unasked, purse.spent)


def over_all(change: Estimate, changed: int, of: int) -> Estimate:
    """The change over all questions where `changed` of a sample of `of` change and the others stay: the mean of the
    changed ones times their share. Both are drawn, and both make the interval (the variance of a product, to the first
    order)."""
    share = changed / of
    value = share * change.value
    if change.se >= BOUNDLESS:
        return Estimate(value, Interval(-BOUNDLESS, BOUNDLESS), BOUNDLESS, of, change.n_eff)
    drawn = change.value * sqrt(share * (1 - share) / of)
    reach = hypot(share * (change.interval.high - change.value), quantile_z(LEVEL) * drawn)
    return Estimate(value, Interval(value - reach, value + reach), hypot(share * change.se, drawn), of, change.n_eff)


class _Purse:
    """What may be spent. Invariant: `spent` and all that is reserved never exceed the limit together."""

    def __init__(self, limit: int) -> None:
        self.limit, self.spent, self.reserved = limit, 0, 0
        self._settled = asyncio.Condition()

    async def reserve(self, most: int) -> bool:
        """Set aside, as soon as it fits; false when it never will."""
        async with self._settled:
            await self._settled.wait_for(lambda: self._fits(most) or not self.reserved)
            if not self._fits(most):
                return False
            self.reserved += most
            return True

    async def settle(self, most: int, spent: int) -> None:
        async with self._settled:
            self.reserved -= most
            self.spent += spent
            self._settled.notify_all()

    def _fits(self, most: int) -> bool:
        return self.spent + self.reserved + most <= self.limit


async def _one(
    past: Past, others: Sequence[str], ask: Ask, grade: Grade, max_tokens: int | None
) -> tuple[Asked | None, int]:
    """A question with every model's quality and cost; `None` if one of them is not known. And what it cost."""
    answers, costs = {past.model: past.answer}, {past.model: past.cost_nanousd}
    spent, whole = 0, True
    for model in others:
        said = await ask(model, None, past.question, max_tokens)
        spent += said.cost_nanousd or 0
        if said.error is not None or said.cost_nanousd is None:
            whole = False
            break
        answers[model], costs[model] = said.text, said.cost_nanousd
    if not whole:
        return None, spent
    graded, cost = await grade(past.question, answers)
    spent += cost
    if graded.keys() < answers.keys():
        return None, spent
    outcomes = {model: Expected(graded[model], float(costs[model])) for model in answers}
    return Asked(
        values.look(values.Example(past.question, outcomes)), dict.fromkeys(outcomes, 1.0), past.conversation
    ), spent
