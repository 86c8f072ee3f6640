"""A learned policy for each question, not for each class: the model with the most quality - price * cost.

    first(question) = argmax over m of quality(m, question) - price * cost(m, question)      (`routing/values.py`)

The price of quality is the policy's one number, found by the logs (`insights/bounded.py`): the boldest for which the
whole policy is surely good enough. Evidence seldom ends at a step of the prices, so a part `share` of the conversations
goes by `bold` and the rest by `careful`. It holds for all questions, unsure and hard ones too, because it was bounded
on all of them; only who is not able (context, tools, a key's list, health) is passed over.
"""

from collections.abc import Collection

from msgspec import Struct

from llmwise.routing.values import Values, best_value, expect


class Priced(Struct, frozen=True, forbid_unknown_fields=True):
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


class Ranked(Struct, frozen=True):
    """Of a question: whom each price takes, and all who are able, the reference first and then by the bold price."""

    bold: str
    careful: str
    order: tuple[str, ...]


def rank(priced: Priced, text: str, able: Collection[str]) -> Ranked | None:
    """`None` where the policy knows nobody who is able."""
    expected = {model: one for model, one in expect(priced.values, text).items() if model in able}
    if not expected:
        alone = priced.reference
        return Ranked(alone, alone, (alone,)) if alone in able else None

    def first(price: float | None) -> str:
        return priced.reference if price is None and priced.reference in able else best_value(expected, price or 0.0)

    price = priced.bold if priced.bold is not None else priced.careful or 0.0
    ranked = sorted(expected, key=lambda m: (price * expected[m].cost - expected[m].quality, m))
    order = dict.fromkeys([priced.reference, *ranked] if priced.reference in able else ranked)
    return Ranked(first(priced.bold), first(priced.careful), tuple(order))
