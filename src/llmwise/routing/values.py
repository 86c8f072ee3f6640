"""What to expect of each model on a question: a table per task type, and how easy the question looks.

    expected(m) = sum over tasks of P(task) * table[task][m]  +  load[m] * ease(text)

The task types count by their probability and not as one verdict: a question that looks half like mathematics is valued
half as mathematics. `ease` is a number per text, a sum of the learned weights of its shape (`features.py`'s marks and
groups, no words: words carry one benchmark's subjects); `load` says how much a model gains from an easy question. A few
dozen additions, no model call. Learned by `insights/values.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import fsum

from msgspec import Struct

from llmwise.routing.classifier import TASK_TYPES, look
from llmwise.routing.features import features

LEAST_CHANCE = 0.001
"""A task type that is less likely counts for nothing."""


class Expected(Struct, frozen=True):
    """Of a model on a kind of question: `quality` 0..1, mean `cost` in the unit that it was learned in."""

    quality: float
    cost: float


class Values(Struct, frozen=True):
    """Learned. `table` has every task type, and each every model; `ease` the marks that say something; `loads` each
    model. `rows` outcomes of `prompts` questions were learned from."""

    version: str
    prompts: int
    rows: int
    table: dict[str, dict[str, Expected]]
    ease: dict[str, float]
    loads: dict[str, float]


def shape_of(text: str) -> list[str]:
    """The features that `ease` weighs, sorted."""
    return sorted(name for name in features(text).names if name[0] in "#@")


def expect(values: Values, text: str) -> dict[str, Expected]:
    """Model -> what to expect of it on this text."""
    chances, names = look(text)
    return expect_seen(values, chances, [name for name in names if name[0] in "#@"])


def expect_seen(values: Values, chances: Sequence[float], shape: Iterable[str]) -> dict[str, Expected]:
    """The same, of a text already looked at: `chances` in the order of `TASK_TYPES`."""
    ease = fsum([values.ease.get(name, 0.0) for name in shape])  # the same in whatever order a set has
    rows = [(c, values.table[task]) for c, task in zip(chances, TASK_TYPES, strict=True) if c > LEAST_CHANCE]
    whole = sum([chance for chance, _ in rows])
    return {
        model: Expected(
            sum([chance * row[model].quality for chance, row in rows]) / whole + load * ease,
            sum([chance * row[model].cost for chance, row in rows]) / whole,
        )
        for model, load in values.loads.items()
    }


def best_value(expected: Mapping[str, Expected], price: float) -> str:
    """The model with the most quality - price * cost; of equals the cheaper, then by name."""
    return max(expected, key=lambda m: (expected[m].quality - price * expected[m].cost, -expected[m].cost, m))
