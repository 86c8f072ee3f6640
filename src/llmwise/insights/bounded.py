"""A policy that is adopted as it was bounded: the boldest price of quality at which all traffic stays good enough.

Questions with their text and what models made of them go in; a `Priced` policy (`routing/priced.py`) comes out, with
the lower bound that allowed it and with what it is expected to save. What is bounded is exactly what Auto then does: one
rule for each question, and a share of the conversations for a step that the evidence carries in part only.

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
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from llmwise.insights import values as learning
from llmwise.insights.estimate import ENOUGH
from llmwise.insights.intervals import Estimate, mean, quantile_z, student
from llmwise.insights.offpolicy import FOLDS, LEAST_PROPENSITY, Pair, fold_of
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
    if math.fsum(phi.cost for phi in now) > math.fsum(phi.cost for phi in base):
        careful, now = None, base  # better answers for more money are not what was asked for
    priced = Priced(table.whole, reference, bold, careful, share)
    after = now if bold is None or share == 0 else table.phis(bold)
    mixed = [_Phi.mix(new, old, share) for new, old in zip(after, now, strict=True)]
    return _told(priced, table, base, mixed, margin, floor=floor, points=points, level=level)


class _Phi(Struct, frozen=True, gc=False):
    """A question's part in a policy's mean quality and cost."""

    quality: float
    cost: float

    @classmethod
    def mix(cls, a: "_Phi", b: "_Phi", share: float) -> "_Phi":
        return cls(share * a.quality + (1 - share) * b.quality, share * a.cost + (1 - share) * b.cost)


class _Table:
    """Questions with what is expected of each model there, by values learned without them."""

    def __init__(self, asked: Sequence[Asked], reference: str, version: str) -> None:
        self.asked = asked
        self.reference = reference
        self.conversations = [one.conversation for one in asked]
        self.whole = learning.learn([one.seen for one in asked], version)
        folds = [fold_of(conversation) for conversation in self.conversations]
        self.expected: list[dict[str, Expected]] = [{}] * len(asked)
        for fold in range(FOLDS):
            others = [one.seen for one, at in zip(asked, folds, strict=True) if at != fold]
            values = learning.learn(others, version) if others else self.whole
            for at, one in enumerate(asked):
                if folds[at] == fold:
                    self.expected[at] = {**expect_seen(self.whole, one.seen.chances, one.seen.shape)} | expect_seen(
                        values, one.seen.chances, one.seen.shape
                    )
        known = [one.seen.outcomes[reference].cost for one in asked if reference in one.seen.outcomes]
        self.unit = math.fsum(known) / len(known) or 1.0

    def model(self, at: int, price: float | None) -> str:
        return self.reference if price is None else best_value(self.expected[at], price)

    def phis(self, price: float | None) -> list[_Phi]:
        found = []
        for at, one in enumerate(self.asked):
            model = self.model(at, price)
            expected, outcome = self.expected[at][model], one.seen.outcomes.get(model)
            quality, cost = expected.quality, expected.cost
            if outcome is not None:
                weight = 1 / max(one.chances[model], LEAST_PROPENSITY)
                quality += weight * (outcome.quality - quality)
                cost += weight * (outcome.cost - cost)
            found.append(_Phi(quality, cost))
        return found


def _told(
    priced: Priced,
    table: _Table,
    base: Sequence[_Phi],
    mixed: Sequence[_Phi],
    margin: float,
    *,
    floor: float,
    points: float,
    level: float,
) -> Bounded:
    def estimates(at: Sequence[int]) -> tuple[Estimate, Estimate, Estimate, Estimate]:
        of = [table.conversations[i] for i in at]

        def one(value: Callable[[int], float]) -> Estimate:
            found = mean([value(i) for i in at], None, of)
            assert found is not None, "there are questions"
            return found

        old, new = one(lambda i: base[i].cost).value or 1.0, one(lambda i: mixed[i].cost).value
        ratio = new / old
        return (
            one(lambda i: base[i].quality),
            one(lambda i: mixed[i].quality),
            one(lambda i: mixed[i].quality - base[i].quality),
            # The ratio of two means, linearised: exact in value, and with the variance that it tends to.
            one(lambda i: 1 - ratio - (mixed[i].cost - ratio * base[i].cost) / old),
        )

    was, now, change, saving = estimates(range(len(base)))
    places: dict[str, list[int]] = defaultdict(list)
    for at, asked in enumerate(table.asked):
        places[_verdict(asked.seen)].append(at)
    shifts = []
    for task, some in sorted(places.items(), key=lambda item: -len(item[1])):
        shares: dict[str, float] = defaultdict(float)
        for i in some:
            shares[table.model(i, priced.bold)] += priced.share / len(some)
            shares[table.model(i, priced.careful)] += (1 - priced.share) / len(some)
        enough = _groups([table.conversations[i] for i in some]) >= ENOUGH
        told = estimates(some) if enough else None
        models = {m: round(s, 3) for m, s in sorted(shares.items(), key=lambda item: -item[1]) if s >= 0.0005}
        shifts.append(
            Shift(task, len(some), len(some) / len(base), models, told and told[2], told and told[3]),
        )
    return Bounded(
        priced=priced,
        floor=floor,
        points=points,
        level=level,
        n=len(base),
        n_eff=was.n_eff,
        margin=margin,
        quality_was=was,
        quality_is=now,
        change=change,
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
