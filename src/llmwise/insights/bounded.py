"""A policy that is adopted as it was bounded: the boldest price of quality at which all traffic stays good enough.

Questions with their text and what models made of them go in; a `Priced` policy (`routing/priced.py`) comes out, with
the lower bound that allowed it and with what it is expected to save. What is bounded is exactly what Auto then does:
one rule for each question, and a share of the conversations for a step that the evidence carries in part only.

    phi(question) = q(pi) + [pi's answer is known] / chance * (r(pi) - q(pi))        doubly robust, as in `offpolicy.py`

q is learned without the question's conversation (cross-fitting). `chance` is that with which the answer came to be
known: the propensity of a logged choice; 1 for questions that were really asked again (`rerun.py`), and then phi is
simply the answer's quality, and two policies are compared on the very same questions.

The prices are tried from the most careful on, and the first that fails ends it. An order that is fixed beforehand needs
no correction for the number tried (fixed-sequence testing: Maurer, Hothorn, Lehmacher, 1995): to go too far, the bound
of the first policy that is not good enough has to fail. Where the evidence ends between two prices, the mixes of the
two are further steps of the same sequence.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.insights import values as learning
from llmwise.insights.dataset import SUCCESS, Judged
from llmwise.insights.estimate import ENOUGH
from llmwise.insights.intervals import Estimate, mean, quantile_z, student
from llmwise.insights.offpolicy import FOLDS, LEAST_PROPENSITY, Pair, fold_of
from llmwise.insights.replay import not_replayable
from llmwise.insights.values import Seen
from llmwise.routing.classifier import TASK_TYPES
from llmwise.routing.priced import Priced
from llmwise.routing.values import Expected, best_value, expect_seen

LEVEL = 0.95
"""Of the one-sided bound."""
FLOOR = 0.98
PRICES = tuple(10 ** (step / 12) for step in range(-30, 13))
"""Of quality, in qualities per mean cost of the reference; careful first."""
SHARES = tuple(step / 20 for step in range(1, 21))


class Asked(Struct, frozen=True):
    """A question and the answers that are known of it. `chances[m]` is the chance with which that of model m came to be
    known: its propensity, or 1 if it was asked for anyway. `conversation` is what is drawn at random as a whole."""

    seen: Seen
    chances: Mapping[str, float]
    conversation: str


def asked_of(record: RequestRecord, attempts: Sequence[AttemptRecord], judged: Judged) -> Asked | None:
    """A settled request as evidence, where its text, its answer's quality and cost, and the chance of its choice are
    known. A first model that failed is an answer of quality 0. `None`: it says nothing here."""
    first = next(iter(attempts), None)
    if first is None or judged.propensity is None or not_replayable(record) is not None:
        return None
    quality = 0.0 if SUCCESS[first.outcome] is False else judged.quality if SUCCESS[first.outcome] else None
    if quality is None or first.cost_nanousd is None:
        return None
    outcome = {first.model: Expected(quality, float(first.cost_nanousd))}
    seen = learning.look(learning.Example(record.prompt or "", outcome))
    return Asked(seen, {first.model: judged.propensity}, record.conversation_id or record.id)


class Shift(Struct, frozen=True):
    """A task type under the policy, by the classifier's verdict: `share` of the questions, whom they go to, and what
    changes there: quality, and the part of the reference's cost that is saved (`None`: too few to say)."""

    task_type: str
    n: int
    share: float
    models: dict[str, float]
    quality_change: Estimate | None
    saving: Estimate | None


class Bounded(Struct, frozen=True):
    """`priced` is what may be adopted; it stays with the reference where nothing can be moved, and `why` says so.

    margin              lower bound of quality(policy) - floor * quality(reference) + points; never below 0
    quality_was, _is    of the reference and of the policy, `change` question by question
    saving              of the reference's cost, as a fraction, with its interval
    n, n_eff            questions, and how many independent conversations they are worth
    """

    priced: Priced
    floor: float
    points: float
    level: float
    n: int
    n_eff: float
    margin: float
    quality_was: Estimate
    quality_is: Estimate
    change: Estimate
    saving: Estimate
    tasks: tuple[Shift, ...]
    why: str


class NothingToLearn(ValueError):
    """Too few questions, or none that the reference answered: no policy can be bounded. The message says which."""


def bound(
    asked: Sequence[Asked],
    reference: str,
    version: str,
    *,
    floor: float = FLOOR,
    points: float = 0.0,
    level: float = LEVEL,
) -> Bounded:
    """The policy of least cost that keeps, surely, quality >= floor * quality(reference) - points, on the whole.
    Raises `NothingToLearn`."""
    if len({one.conversation for one in asked}) < ENOUGH:
        raise NothingToLearn(f"{len(asked)} questions with known answers; {ENOUGH:.0f} conversations are needed")
    if not any(reference in one.seen.outcomes for one in asked):
        raise NothingToLearn(f"{reference} answered none of the questions: there is nothing to compare with")
    table = _Table(asked, reference, version)
    steps = (None, *(price / table.unit for price in PRICES))
    base = table.phis(None)
    slack = [points - floor * phi.quality for phi in base]
    groups = _groups(table.conversations)
    z = student(quantile_z(level, sides=1), groups - 1)
    careful, now, bold, share = None, base, None, 0.0
    margin = math.fsum(s + phi.quality for s, phi in zip(slack, base, strict=True)) / len(base)
    for price in steps[1:]:
        then = table.phis(price)
        pair = Pair.of(
            [new.quality - old.quality for new, old in zip(then, now, strict=True)],
            [old.quality + s for old, s in zip(now, slack, strict=True)],
            table.conversations,
        )
        reached = 0.0
        for tried in SHARES:
            lower = pair.mean(tried) - z * pair.se(tried)
            if lower < 0:
                break
            reached, margin = tried, lower
        if reached == 1.0:
            careful, now = price, then
            continue
        bold, share = price, reached
        break
    priced = Priced(table.whole, reference, bold, careful, share)
    if table.saved(priced) <= 0:  # better answers for more money are not what was asked for
        priced, now, share = Priced(table.whole, reference, None, None, 0.0), base, 0.0
    after = now if priced.bold is None else table.phis(bold)
    mixed = [share * new.quality + (1 - share) * old.quality for new, old in zip(after, now, strict=True)]
    return _told(priced, table, [phi.quality for phi in base], mixed, margin, floor=floor, points=points, level=level)


class _Phi(Struct, frozen=True, gc=False):
    """A question's part in a policy's mean quality and cost."""

    quality: float
    cost: float


class _Table:
    """Questions with what is expected of each model there, by values learned without them."""

    def __init__(self, asked: Sequence[Asked], reference: str, version: str) -> None:
        self.asked = asked
        self.reference = reference
        self.conversations = [one.conversation for one in asked]
        self.whole = learning.learn([one.seen for one in asked], version)
        folds = [fold_of(conversation) for conversation in self.conversations]
        self.by_whole = [expect_seen(self.whole, one.seen.chances, one.seen.shape) for one in asked]
        self.expected = list(self.by_whole)
        for fold in range(FOLDS):
            others = [one.seen for one, at in zip(asked, folds, strict=True) if at != fold]
            values = learning.learn(others, version) if others else self.whole
            for at, one in enumerate(asked):
                if folds[at] == fold:
                    # A model that only this fold has seen is expected of as the whole says.
                    found = expect_seen(values, one.seen.chances, one.seen.shape)
                    self.expected[at] = {**self.by_whole[at], **found}
        known = [one.seen.outcomes[reference].cost for one in asked if reference in one.seen.outcomes]
        self.unit = math.fsum(known) / len(known) or 1.0

    def phis(self, price: float | None) -> list[_Phi]:
        """Of the policy that each fold's own values make: what is bounded."""
        return [self._phi(at, self._first(self.expected[at], price)) for at in range(len(self.asked))]

    def shares(self, at: int, priced: Priced) -> dict[str, float]:
        """Whom the policy that is adopted would ask this question, with which chance."""
        found: dict[str, float] = defaultdict(float)
        found[self._first(self.by_whole[at], priced.bold)] += priced.share
        found[self._first(self.by_whole[at], priced.careful)] += 1 - priced.share
        return found

    def cost(self, at: int, priced: Priced) -> float:
        """Of the policy that is adopted. Costs are not what it was chosen for, so that its own values don't flatter."""
        return math.fsum(share * self._phi(at, model).cost for model, share in self.shares(at, priced).items())

    def saved(self, priced: Priced) -> float:
        before = math.fsum(self._phi(at, self.reference).cost for at in range(len(self.asked)))
        return 1 - math.fsum(self.cost(at, priced) for at in range(len(self.asked))) / before if before else 0.0

    def _first(self, expected: Mapping[str, Expected], price: float | None) -> str:
        return self.reference if price is None else best_value(expected, price)

    def _phi(self, at: int, model: str) -> _Phi:
        one, expected = self.asked[at], self.expected[at][model]
        outcome = one.seen.outcomes.get(model)
        if outcome is None:
            return _Phi(expected.quality, expected.cost)
        weight = 1 / max(one.chances[model], LEAST_PROPENSITY)
        return _Phi(
            expected.quality + weight * (outcome.quality - expected.quality),
            expected.cost + weight * (outcome.cost - expected.cost),
        )


def _told(
    priced: Priced,
    table: _Table,
    before: Sequence[float],
    after: Sequence[float],
    margin: float,
    *,
    floor: float,
    points: float,
    level: float,
) -> Bounded:
    """`before` and `after` are the qualities of the reference and of the policy, question by question."""
    whole = range(len(before))
    old = [table.cost(at, Priced(table.whole, table.reference, None, None, 0.0)) for at in whole]
    new = [table.cost(at, priced) for at in whole]

    def average(values: Sequence[float], at: Sequence[int]) -> Estimate:
        found = mean([values[i] for i in at], None, [table.conversations[i] for i in at])
        assert found is not None, "there are questions"
        return found

    def saved(at: Sequence[int]) -> Estimate:
        """The ratio of two means, linearised: exact in value, and with the variance that it tends to."""
        was = math.fsum(old[i] for i in at) / len(at) or 1.0
        ratio = math.fsum(new[i] for i in at) / len(at) / was
        return average([1 - ratio - (n - ratio * o) / was for n, o in zip(new, old, strict=True)], at)

    change = [b - a for a, b in zip(before, after, strict=True)]
    places: dict[str, list[int]] = defaultdict(list)
    for at, asked in enumerate(table.asked):
        places[_verdict(asked.seen)].append(at)
    shifts = []
    for task, some in sorted(places.items(), key=lambda item: -len(item[1])):
        shares: dict[str, float] = defaultdict(float)
        for i in some:
            for model, part in table.shares(i, priced).items():
                shares[model] += part / len(some)
        models = {m: round(s, 3) for m, s in sorted(shares.items(), key=lambda item: -item[1]) if s >= 0.0005}
        enough = _groups([table.conversations[i] for i in some]) >= ENOUGH
        told = (average(change, some), saved(some)) if enough else (None, None)
        shifts.append(Shift(task, len(some), len(some) / len(before), models, *told))
    was, saving = average(before, whole), saved(whole)
    return Bounded(
        priced=priced,
        floor=floor,
        points=points,
        level=level,
        n=len(before),
        n_eff=was.n_eff,
        margin=margin,
        quality_was=was,
        quality_is=average(after, whole),
        change=average(change, whole),
        saving=saving,
        tasks=tuple(shifts),
        why=_why(priced, saving, floor, level),
    )


def _why(priced: Priced, saving: Estimate, floor: float, level: float) -> str:
    if priced.stays:
        return (
            f"Nothing is moved: not even the most careful policy is surely (at {level:.0%}) as good as "
            f"{floor:.0%} of {priced.reference}. More questions with known answers, or better candidates, would help."
        )
    ends = "all prices tried hold" if priced.bold is None else f"the next step holds for {priced.share:.0%} of traffic"
    return (
        f"Saves {saving.value:.1%} ({saving.interval.low:.1%} to {saving.interval.high:.1%}) at surely {floor:.0%} of "
        f"{priced.reference}'s quality or better; {ends}."
    )


def _verdict(seen: Seen) -> str:
    return TASK_TYPES[max(range(len(TASK_TYPES)), key=lambda at: seen.chances[at])]


def _groups(conversations: Sequence[str]) -> int:
    return len(set(conversations))
