"""Chains with a name: a request for `fast` means the models that the configuration lists under `[chains.fast]`.

A chain may name another chain, whose models then stand in its place. All of it is checked when the configuration is
read, so that a request never meets a broken one.
"""

from collections.abc import Mapping

from msgspec import Struct

from llmwise.catalog.lookup import Catalog, normal
from llmwise.domain.errors import GatewayError
from llmwise.domain.models import Capabilities, ModelCard
from llmwise.domain.requests import AUTO, Strategy
from llmwise.domain.validation import did_you_mean

MAX_CHAIN = 8


class ChainSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[chains.NAME]`: a name for several models, asked one after the other until one answers.

    models      1 to 8 models of the catalog, or chains
    strategy    in which order: `rate-limit` is as listed, those that are limited just now last
    """

    models: list[str]
    strategy: Strategy = "rate-limit"


class Chain(Struct, frozen=True):
    """A chain, looked up."""

    name: str
    targets: tuple[ModelCard, ...]
    strategy: Strategy

    @property
    def card(self) -> ModelCard:
        """The chain as a list of models shows it: it can what one of its models can. Which of them answers, and so the
        price, is open."""
        abilities = Capabilities.__struct_fields__
        limits = [card.max_output for card in self.targets if card.max_output is not None]
        return ModelCard(
            id=self.name,
            provider="llmwise",
            upstream="",
            name=f"{self.name}: {', '.join(card.id for card in self.targets)}",
            context_window=max(card.context_window for card in self.targets),
            max_output=max(limits, default=None),
            capabilities=Capabilities(
                **{able: any(getattr(card.capabilities, able) for card in self.targets) for able in abilities}
            ),
            quality=max(card.quality for card in self.targets),
            demonstration=all(card.demonstration for card in self.targets),
        )


class ChainError(Exception):
    """A chain that can't be used. `key` is the place in `[chains]`, `value` what stands there."""

    def __init__(self, key: str, value: object, advice: str) -> None:
        super().__init__(f"chains.{key} = {value!r}: {advice}")


def chains_of(settings: Mapping[str, ChainSettings], catalog: Catalog) -> dict[str, Chain]:
    """The chains by the normal form of their names. Raises `ChainError`."""
    names = {normal(name): name for name in settings}
    chains: dict[str, Chain] = {}
    for name, chain in settings.items():
        if not name.strip() or normal(name) == AUTO:
            raise ChainError(name, chain.models, "a chain needs a name of its own")
        if names[normal(name)] != name:
            raise ChainError(name, chain.models, f"is the same name as {names[normal(name)]!r}")
        if (card := catalog.get(name)) is not None:
            raise ChainError(name, chain.models, f"the model {card.id} has this name; call the chain something else")
        targets = _targets(name, settings, names, catalog, ())
        if not 1 <= len(targets) <= MAX_CHAIN:
            raise ChainError(f"{name}.models", chain.models, f"{len(targets)} models; 1 to {MAX_CHAIN} make a chain")
        chains[normal(name)] = Chain(name, tuple(targets), chain.strategy)
    return chains


def _targets(
    name: str,
    settings: Mapping[str, ChainSettings],
    names: Mapping[str, str],
    catalog: Catalog,
    outer: tuple[str, ...],
) -> list[ModelCard]:
    """The models of a chain, with those of the chains in it in their places. `outer` are the chains around it."""
    path = (*outer, name)
    targets: list[ModelCard] = []
    for index, member in enumerate(settings[name].models):
        key = f"{name}.models[{index}]"
        inner = names.get(normal(member))
        if inner in path:
            raise ChainError(key, member, f"goes in a circle: {' -> '.join((*path, inner))}")
        if inner is not None:
            found = _targets(inner, settings, names, catalog, path)
        elif normal(member) == AUTO:
            raise ChainError(key, member, "Auto chooses by itself and is no member; name models")
        else:
            try:
                found = [catalog.resolve(member)]
            except GatewayError as error:
                raise ChainError(key, member, error.message + did_you_mean(member, names.values())) from error
        for card in found:
            if card in targets:
                raise ChainError(key, member, f"{card.id} is in the chain already")
            targets.append(card)
    return targets
