"""From a name in a request to the model it means.

Names are compared without case, and dots, underscores and dashes are one: `Claude-Sonnet-4-5` is `claude-sonnet-4.5`.
A name may be led by the provider or its vendor: `openai/gpt-5.2`.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from difflib import get_close_matches

from llmwise.catalog.prices import Schedule
from llmwise.domain.errors import InvalidRequest, UnknownModel
from llmwise.domain.models import Kind, ModelCard, Rate

_NEAREST = 3
_LONGEST_NAME = 100  # no model's name comes near it, and the search for near ones is quadratic
_ONE_SIGN = str.maketrans("._", "--")


def normal(name: str) -> str:
    """The form in which names are compared."""
    return name.lower().translate(_ONE_SIGN)


class Catalog:
    """The models on offer, the configuration's and then the built-in ones, in order; made by `load.build_catalog`.

    Invariant: `names` leads from every name, as written and in its normal form, to one of `models`, whose ids differ.
    `unconfigured` are the built-in names, in normal form, whose vendor no configured provider speaks to.
    """

    __slots__ = ("_names", "_schedules", "_unconfigured", "models", "prices_source", "retirements")

    def __init__(
        self,
        models: tuple[ModelCard, ...],
        names: Mapping[str, ModelCard],
        *,
        schedules: Mapping[str, Schedule],
        retirements: Mapping[str, date],
        unconfigured: Mapping[str, str],
        prices_source: str,
    ) -> None:
        self.models = models
        self.retirements = retirements
        """By id, the day on which a model's vendor switches it off."""
        self.prices_source = prices_source
        self._names = names
        self._schedules = schedules
        self._unconfigured = unconfigured

    def __iter__(self) -> Iterator[ModelCard]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    def get(self, name: str) -> ModelCard | None:
        return self._names.get(name) or self._names.get(normal(name[:_LONGEST_NAME]))

    def ids_of(self, names: Iterable[str]) -> frozenset[str]:
        """The ids of those among `names` that are on offer."""
        return frozenset(card.id for name in names if (card := self.get(name)) is not None)

    def resolve(self, name: str, kind: Kind | None = "chat") -> ModelCard:
        """The model called `name`, of this kind, or of any for `None`. Raises `UnknownModel`, with the nearest names or
        the provider that is missing, and `InvalidRequest` for a model of the other kind."""
        card = self.get(name)
        if card is None:
            raise self._unknown(name[:_LONGEST_NAME])
        if kind is not None and card.kind != kind:
            raise _of_the_other_kind(card)
        return card

    def rate(self, card: ModelCard, unix_ms: int) -> Rate | None:
        """The price of `card` at that time: `card.rate`, but for the few models whose price changes with the hour or on
        an announced day."""
        schedule = self._schedules.get(card.id)
        return card.rate if schedule is None else schedule.at(unix_ms)

    def _unknown(self, name: str) -> UnknownModel:
        vendor = self._unconfigured.get(normal(name))
        if vendor is not None:
            return UnknownModel(
                f"model {name!r} is known, but no provider of {vendor!r} is configured: set its key, or add "
                f"[providers.{vendor}]",
                model=name,
                vendor=vendor,
            )
        nearest = self._nearest(name)
        if not self.models:
            advice = "no provider is configured"
        elif nearest:
            advice = f"did you mean {' or '.join(map(repr, nearest))}?"
        else:
            advice = "GET /api/v1/models lists the ones there are"
        return UnknownModel(f"there is no model {name!r}; {advice}", model=name, did_you_mean=nearest)

    def _nearest(self, name: str) -> list[str]:
        ids: dict[str, str] = {}
        for card in self.models:
            for known in (card.id, *card.aliases):
                ids.setdefault(normal(known), card.id)
        near = get_close_matches(normal(name), ids, n=2 * _NEAREST, cutoff=0.5)
        return list(dict.fromkeys(ids[known] for known in near))[:_NEAREST]


def _of_the_other_kind(card: ModelCard) -> InvalidRequest:
    if card.kind == "embedding":
        message = f"{card.id} makes vectors of texts and answers no questions: POST /v1/embeddings takes it"
        return InvalidRequest(message, param="model", code="not_a_chat_model")
    message = f"{card.id} is a chat model and makes no vectors: name an embedding model"
    return InvalidRequest(message, param="model", code="not_an_embedding_model")
