"""A learned policy for each question, not for each class: the model with the most quality - price * cost.

    first(question) = argmax over m of quality(m, question) - price * cost(m, question)      (`routing/values.py`)

The price of quality is the policy's one number, found by the logs (`insights/bounded.py`): the boldest for which the
whole policy is surely good enough. Evidence seldom ends at a step of the prices, so a part `share` of the conversations
goes by `bold` and the rest by `careful`. It holds for all questions, unsure and hard ones too, because it was bounded
on all of them; only who is not able (context, tools, a key's list, health) is passed over.

Deciding is a few dozen multiplications: what each model is worth at each price on each task type is worked out once,
when the policy is put in force.
"""

from collections.abc import Collection
from functools import cached_property
from math import fsum
from operator import mul

from msgspec import Struct

from llmwise.routing.classifier import TASK_TYPES, Looked
from llmwise.routing.values import LEAST_CHANCE, Values


class Worth(Struct, frozen=True, gc=False):
    """Of a model by task type, in their order: quality - price * cost at each price; `None` counts as a price of 0.
    `load` as in `Values`."""

    model: str
    bold: tuple[float, ...]
    careful: tuple[float, ...]
    load: float


class Priced(Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """`bold` and `careful` are prices of quality, in quality per cost, cost in the unit of `values`; `None`: stay with
    `reference`, today's model. `share` of the conversations goes by `bold`. Names of the catalog."""

    values: Values
    reference: str
    bold: float | None
    careful: float | None
    share: float

    @property
    def stays(self) -> bool:
        """Whether nothing is moved."""
        return self.careful is None and (self.bold is None or self.share == 0)

    @cached_property
    def worths(self) -> tuple[Worth, ...]:
        """Of equals the cheaper stands first."""
        rows = [self.values.table[task] for task in TASK_TYPES]

        def at(model: str, price: float | None) -> tuple[float, ...]:
            return tuple([row[model].quality - (price or 0.0) * row[model].cost for row in rows])

        models = sorted(self.values.loads, key=lambda model: (fsum(row[model].cost for row in rows), model))
        return tuple(Worth(m, at(m, self.bold), at(m, self.careful), self.values.loads[m]) for m in models)


class Ranked(Struct, frozen=True):
    """Of a question: whom each price takes, and all who are able, the reference first and then by the bold price."""

    bold: str
    careful: str
    order: tuple[str, ...]


def rank(priced: Priced, looked: Looked, able: Collection[str]) -> Ranked | None:
    """`looked` is the question (`classifier.look`). `None` where the policy knows nobody who is able."""
    known = [worth for worth in priced.worths if worth.model in able]
    reference = priced.reference if priced.reference in able else None
    if not known:
        return None if reference is None else Ranked(reference, reference, (reference,))
    chances, names = looked
    weights = [chance if chance > LEAST_CHANCE else 0.0 for chance in chances]
    whole, learned = sum(weights), priced.values.ease
    ease = whole * fsum(map(learned.__getitem__, learned.keys() & names))
    bold = {one.model: sum(map(mul, weights, one.bold)) + one.load * ease for one in known}
    careful = {one.model: sum(map(mul, weights, one.careful)) + one.load * ease for one in known}
    by = bold if priced.bold is not None else careful
    ranked = sorted(by, key=by.__getitem__, reverse=True)
    return Ranked(
        reference if priced.bold is None and reference is not None else max(bold, key=bold.__getitem__),
        reference if priced.careful is None and reference is not None else max(careful, key=careful.__getitem__),
        tuple(ranked if reference is None else dict.fromkeys((reference, *ranked))),
    )
