"""What another policy would have earned on the same traffic, from logs of what was done: doubly robust.

A log is (task, what was chosen and with which chance, what came of it). For a policy that sends task t to pi(t) each
row gives

    phi = q(t, pi(t)) + [a = pi(t)] / p * (r - q(t, a))

with the expectation q of a table, the model taken a, its propensity p and its reward r. The mean of phi is right if
either the propensities or the table are (Dudik, Langford, Li: https://arxiv.org/abs/1103.4601, 2011), and two policies
are compared row by row, so that what they share cancels. The table that scores a row is learned without that row's
conversation (cross-fitting): otherwise a policy is praised for the luck it was chosen by.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, TypeAlias
from zlib import crc32

from llmwise.insights.intervals import LEVEL, Estimate, mean, quantile_z, shrunk

PSEUDO_ROWS = 20.0
"""A cell is drawn towards its model's mean over all tasks by as many rows."""
FOLDS = 5
LEAST_PROPENSITY = 0.02
"""Below this a row's weight is cut off: one row must not outweigh fifty. Exploration never goes below it."""


BOUND_LEVEL = 0.999
"""Of the one-sided bound. Strict, because rewards divided by propensities are skewed, and the normal bound on their
mean is too short in just the tail that looks like a bargain: `bench/learning.py` shows the risk that remains."""


class Logged(NamedTuple):
    """One logged decision. `reward` 0..1, `cost` in any one unit, `propensity` the chance with which `model` was taken
    there and then, `conversation` what is drawn at random as a whole."""

    task: str
    model: str
    reward: float
    cost: float
    propensity: float
    conversation: Hashable


class Cell(NamedTuple):
    """Expected of a model on a task: reward 0..1 and cost."""

    reward: float
    cost: float


Table: TypeAlias = Mapping[str, Mapping[str, Cell]]
"""Task -> model -> what to expect."""
Choice: TypeAlias = Mapping[str, str]
"""Task -> model: a policy. A task that it does not name stays with the reference."""


def weight(row: Logged) -> float:
    return 1.0 / max(row.propensity, LEAST_PROPENSITY)


def learn(rows: Sequence[Logged], pseudo: float = PSEUDO_ROWS) -> dict[str, dict[str, Cell]]:
    """The table: inverse-propensity means per cell, drawn towards the model's mean by `pseudo` effective rows, and that
    towards the mean of all. Every task has every model."""
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * 4)
    for row in rows:
        w = weight(row)
        for key in ((row.task, row.model), ("", row.model), ("", "")):
            one = sums[key]
            one[0] += w
            one[1] += w * w
            one[2] += w * row.reward
            one[3] += w * row.cost

    def cell(task: str, model: str, prior: Cell) -> Cell:
        w, squares, reward, cost = sums[task, model]
        if not w:
            return prior
        n = w * w / squares
        return Cell(shrunk(reward / w, n, prior.reward, pseudo), shrunk(cost / w, n, prior.cost, pseudo))

    everything = cell("", "", Cell(0.5, 0.0)) if rows else Cell(0.5, 0.0)
    models = sorted({row.model for row in rows})
    overall = {model: cell("", model, everything) for model in models}
    return {t: {m: cell(t, m, overall[m]) for m in models} for t in sorted({row.task for row in rows})}


def fold_of(conversation: Hashable, folds: int = FOLDS) -> int:
    """Stable over processes, and no two turns of a conversation fall apart."""
    return crc32(repr(conversation).encode()) % folds


class Scored:
    """Logs, ready to value policies: cross-fitted tables, one for each fold."""

    def __init__(self, rows: Sequence[Logged], folds: int = FOLDS) -> None:
        self.rows = rows
        self.table = learn(rows)
        self._folds = [fold_of(row.conversation, folds) for row in rows]
        self.tables: list[Mapping[str, Mapping[str, Cell]]] = [
            learn([row for row, at in zip(rows, self._folds, strict=True) if at != fold]) for fold in range(folds)
        ]

    def influence(self, choose: Callable[[Table], Choice], reference: str) -> list[float]:
        """phi of each row. `choose` makes a policy of a table, anew for each fold: what is valued is the way of
        choosing. To value one fixed policy, return it whatever the table. Without a reference that was logged there is
        nothing to stay with: `KeyError`."""
        choices = [choose(table) for table in self.tables]
        return self.influence_of(
            [choices[f].get(row.task, reference) for row, f in zip(self.rows, self._folds, strict=True)]
        )

    def influence_of(self, chosen: Sequence[str]) -> list[float]:
        """phi of each row for a policy that was seen to choose `chosen`, row by row; each of them was logged somewhere,
        else `KeyError`."""
        values = []
        for row, fold, model in zip(self.rows, self._folds, chosen, strict=True):
            expected = self.tables[fold].get(row.task) or self.table[row.task]
            phi = expected[model].reward
            if row.model == model:
                phi += weight(row) * (row.reward - expected[model].reward)
            values.append(phi)
        return values

    def value(self, choice: Choice, reference: str, *, level: float = LEVEL) -> Estimate | None:
        """The mean reward of one fixed policy, with its interval."""
        return mean(self.influence(lambda _: choice, reference), None, self.conversations, level=level)

    @property
    def conversations(self) -> list[Hashable]:
        return [row.conversation for row in self.rows]


class Recommended(NamedTuple):
    """The cheapest policy whose quality is surely enough. `share` of the traffic goes by `choice`, the rest stays with
    `reference`: where the evidence does not carry the whole move it carries a part. `margin` is the lower bound of
    reward(policy) - floor * reward(reference), never below 0 unless nothing is moved (`share` 0); `saving` is of the
    reference's cost, as expected."""

    choice: dict[str, str]
    share: float
    reference: str
    margin: float
    saving: float
    tried: int


PRICES = (0.0, *(10 ** (step / 8) for step in range(-24, 9)))
"""Of reward, in rewards per cost of the dearest model: each makes a policy of a table."""
SHARES = tuple(step / 20 for step in range(20, 1, -1))


def priced(table: Table, price: float) -> dict[str, str]:
    """Task -> the model with the most reward - price * cost."""
    return {
        task: max(cells, key=lambda m: (cells[m].reward - price * cells[m].cost, m)) for task, cells in table.items()
    }


def recommend(
    rows: Sequence[Logged],
    *,
    reference: str | None = None,
    floor: float = 1.0,
    points: float = 0.02,
    level: float = BOUND_LEVEL,
) -> Recommended:
    """The policy of least cost that keeps, by a lower bound at `level`, reward >= floor * reward(reference) - points.

    The candidates are the policies that the prices make, and their mixes with the reference. The bound is one-sided, on
    the whole policy and not on each task (errors of tasks partly cancel, a bound on each adds them up), and corrected
    for the number of policies tried. `reference`: today's model; absent: the one that seems best on average.
    """
    scored = Scored(rows)
    table = scored.table
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.task] += 1
    models = sorted({row.model for row in rows})

    def average(model_of: Callable[[str], str], field: int) -> float:
        return sum(n * table[task][model_of(task)][field] for task, n in counts.items()) / len(rows)

    today = reference or max(models, key=lambda m: (average(lambda _: m, 0), m))
    cost_today = average(lambda _: today, 1)
    dearest = max(average(lambda _, m=m: m, 1) for m in models) or 1.0  # type: ignore[misc]  # bound per model
    staying = Recommended({}, 0.0, today, (1 - floor) * average(lambda _: today, 0) + points, 0.0, 0)
    steps = {tuple(sorted(priced(table, p / dearest).items())): p / dearest for p in PRICES}
    z = quantile_z(level, max(1, len(steps)), sides=1) if level > 0.5 else 0.0
    base = scored.influence(lambda _: {}, today)
    slack = [(1 - floor) * old + points for old in base]
    best = staying
    for items, price in steps.items():
        choice = dict(items)
        cost = average(choice.__getitem__, 1)
        if cost >= cost_today:
            continue
        moved = scored.influence(lambda t, price=price: priced(t, price), today)  # type: ignore[misc]  # bound per step
        gain = [new - old for new, old in zip(moved, base, strict=True)]
        both = Pair.of(gain, slack, scored.conversations)
        for share in SHARES:
            saving = share * (1 - cost / cost_today)
            if saving <= best.saving:
                break
            margin = both.mean(share) - z * both.se(share)
            if margin >= 0:
                best = Recommended(choice, share, today, margin, saving, len(steps))
                break
    return best._replace(tried=len(steps))


class Pair(NamedTuple):
    """Means and (co)variances of two sums per conversation, so that every mix of them is had without another pass."""

    a: float
    b: float
    aa: float
    ab: float
    bb: float

    @classmethod
    def of(cls, a: Sequence[float], b: Sequence[float], conversations: Sequence[Hashable]) -> "Pair":
        n = len(a)
        mean_a, mean_b = math.fsum(a) / n, math.fsum(b) / n
        sums: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for x, y, conversation in zip(a, b, conversations, strict=True):
            one = sums[conversation]
            one[0] += x - mean_a
            one[1] += y - mean_b
        groups = len(sums)
        scale = groups / max(groups - 1, 1) / n**2 if groups > 1 else math.inf
        return cls(
            mean_a,
            mean_b,
            scale * math.fsum([x * x for x, _ in sums.values()]),
            scale * math.fsum([x * y for x, y in sums.values()]),
            scale * math.fsum([y * y for _, y in sums.values()]),
        )

    def mean(self, share: float) -> float:
        """Of share * a + b."""
        return share * self.a + self.b

    def se(self, share: float) -> float:
        return math.sqrt(max(share * share * self.aa + 2 * share * self.ab + self.bb, 0.0))
