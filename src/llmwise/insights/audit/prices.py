"""What a model in an export is: its card in the catalog, and its list price.

Exports write names in many ways: `gpt-4o-2024-08-06`, `azure/gpt-4o`, `us.anthropic.claude-sonnet-4-5-20250929-v1:0`,
`Claude Haiku 4.5`. A name is looked for as it stands, then without its provider, then without its date; first among the
models on offer, then among all that we know of.
"""

import re
import time
from collections.abc import Iterator

from llmwise.catalog import prices
from llmwise.catalog.cost import cost
from llmwise.catalog.load import load
from llmwise.catalog.lookup import Catalog, normal
from llmwise.catalog.prices import Schedule
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.money import divide_rounded
from llmwise.domain.usage import TokenUsage

MOST_NAMES = 10_000
"""Names remembered; an export with more is not naming models."""

_VENDORS = ("openai", "anthropic", "gemini", "deepseek", "mistral", "xai", "groq", "moonshot", "zai")
_DATE = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|20\d{6}|latest)(?:-v\d+)?$")
_BEDROCK = re.compile(r"^(?:[a-z]{2,6}\.)?(anthropic|meta|mistral|amazon|deepseek)\.")


class Prices:
    """Cards and rates by name, remembered. `catalog` holds what the configuration offers."""

    def __init__(self, catalog: Catalog, now_ms: int | None = None) -> None:
        self.catalog = catalog
        self._file = prices.read()
        known = {vendor: vendor for vendor in self._file.prices}
        self._known = load((), known, unix_ms=time.time_ns() // 1_000_000 if now_ms is None else now_ms)
        self._cards: dict[str, ModelCard | None] = {}
        self._schedules: dict[tuple[str, str | None], Schedule | None] = {}

    def card(self, name: str) -> ModelCard | None:
        """The model that `name` means, on offer or only known of; `None` for one that is neither."""
        if name not in self._cards:
            if len(self._cards) >= MOST_NAMES:
                return None
            forms = [*_forms(name)]
            offered = (self.catalog.get(form) for form in forms)
            known = (self._known.get(form) for form in forms)
            self._cards[name] = next((card for card in (*offered, *known) if card is not None), None)
        return self._cards[name]

    def shown(self, name: str | None) -> str:
        """One name for all the ways of writing it."""
        card = None if name is None else self.card(name)
        return (name or "(not told)") if card is None else card.id

    def rate(self, name: str, vendor: str | None, unix_ms: int) -> Rate | None:
        """The list price of `name` at that time. `vendor` says whose it is where several have it. What the
        configuration says of a model on offer goes first."""
        for form in _forms(name):
            if (card := self.catalog.get(form)) is not None and card.rate is not None:
                return self.catalog.rate(card, unix_ms)
        key = (name, vendor)
        if key not in self._schedules:
            if len(self._schedules) >= MOST_NAMES:
                return None
            self._schedules[key] = self._schedule(name, vendor)
        schedule = self._schedules[key]
        if schedule is not None:
            return schedule.at(unix_ms)
        card = self.card(name)
        return None if card is None else card.rate

    def cost(
        self, name: str | None, vendor: str | None, unix_ms: int, tokens: TokenUsage, *, half: bool = False
    ) -> int | None:
        """In nano-USD at list price, at half of it where `half`; `None` without a price, which is not free."""
        if name is None:
            return None
        full = cost(tokens, self.rate(name, vendor, unix_ms))
        return divide_rounded(full, 2) if full is not None and half else full

    def _schedule(self, name: str, vendor: str | None) -> Schedule | None:
        vendors = _VENDORS if vendor is None else (vendor, *_VENDORS)
        for form in _forms(name):
            for spelled in dict.fromkeys((form, form.lower().replace(" ", "-"), normal(form))):
                for one in vendors:
                    found = self._file.schedule(one, spelled)
                    if found is not None:
                        return found
        return None


def _forms(name: str) -> Iterator[str]:
    """The ways to look `name` up, the most exact first."""
    seen: set[str] = set()
    name = name.strip().replace(" ", "-")
    bare = _BEDROCK.sub("", name.rsplit("/", 1)[-1].lower()).split(":")[0]
    bare = re.sub(r"-v\d+$", "", bare)
    for form in (name, name.split("/", 1)[-1], bare, _DATE.sub("", name), _DATE.sub("", bare)):
        if form and form not in seen:
            seen.add(form)
            yield form
