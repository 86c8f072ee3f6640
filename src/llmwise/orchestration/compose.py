"""Blends and cascades with a name: to every dialect they are models, `blend:NAME` and `cascade:NAME`.

A composed model is planned like any other; `Composer`, which stands where the engine stands, sees that the plan is a
composition, runs it, and yields what a run of the engine yields: events, and one closed ledger. So whoever can talk to
a model can talk to a composed one, streamed or whole, and no dialect knows of it.
"""

import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from llmwise.catalog.lookup import Catalog
from llmwise.domain.errors import CallerError, GatewayError, InternalError
from llmwise.domain.events import Event, Started
from llmwise.domain.models import Capabilities, ModelCard, Rate
from llmwise.domain.money import from_usd
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.requests import AUTO, ChatRequest, Request
from llmwise.orchestration.blend import Begun, Blend, Item, Synthesizing
from llmwise.orchestration.bounds import Bounds
from llmwise.orchestration.cascade import SURE, Cascade, Rule, Steps
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.panel import Said, piped
from llmwise.orchestration.prompts import Prompts
from llmwise.orchestration.recipe import DEFAULT_LAYERS, DEFAULT_SAMPLES, Recipe, Strategy, question_of, writers_of
from llmwise.orchestration.settlement import Ledger

PROVIDER = "llmwise"

_NAME = re.compile(r"[\w.-]+", re.ASCII)


class BlendSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[blend.NAME]`: the model `blend:NAME`, an answer made from those of several.

    models              2 to 6 of the catalog, and exactly one for `self_moa`
    strategy            how: `consensus`, `council`, `best_of`, `chain`, `moa` or `self_moa`
    synthesizer         who writes the answer; absent: the best rated of the models (of a chain, the last)
    layers              of `moa`
    samples             of `self_moa`
    source_timeout_s    how long one model may take; absent: the request's total
    min_sources         so many must answer
    max_cost            in USD for one request; nothing further is asked once it is spent
    """

    models: Annotated[tuple[str, ...], Meta(min_length=1, max_length=6)]
    strategy: Strategy = "consensus"
    synthesizer: str | None = None
    layers: Annotated[int, Meta(ge=1, le=3)] = DEFAULT_LAYERS
    samples: Annotated[int, Meta(ge=2, le=8)] = DEFAULT_SAMPLES
    source_timeout_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    min_sources: Annotated[int, Meta(ge=1, le=8)] = 1
    max_cost: Annotated[float, Meta(ge=0)] | None = None


class CascadeSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[cascade.NAME]`: the model `cascade:NAME`, which asks the first of its models and goes up only in doubt.

    models              2 to 5 of the catalog, the cheapest first
    rule                what doubts an answer: `format` (costs nothing), `check` (its own model), `judge` (another one)
    threshold           `check` and `judge` let pass what is at least so likely to be right, 0 to 1
    judge               the model that judges; for the rule `judge` alone
    source_timeout_s    how long one model may take, and one check; absent: the request's total
    max_cost            in USD for one request; nothing further is asked once it is spent
    """

    models: Annotated[tuple[str, ...], Meta(min_length=2, max_length=5)]
    rule: Rule = "check"
    threshold: Annotated[float, Meta(ge=0, le=1)] = SURE
    judge: str | None = None
    source_timeout_s: Annotated[float, Meta(gt=0, le=3600)] | None = None
    max_cost: Annotated[float, Meta(ge=0)] | None = None


class CompositionError(Exception):
    """A composed model that can't be used. `key` is the place in the configuration, `value` what stands there."""

    def __init__(self, key: str, value: object, advice: str) -> None:
        super().__init__(f"{key} = {value!r}: {advice}")


class Composition(Struct, frozen=True):
    """A composed model, looked up. `card` is how it shows; `writer` is the synthesizer that was named."""

    card: ModelCard
    settings: BlendSettings | CascadeSettings
    cards: tuple[ModelCard, ...]
    writer: ModelCard | None = None


def compositions_of(
    blends: Mapping[str, BlendSettings], cascades: Mapping[str, CascadeSettings], catalog: Catalog
) -> dict[str, Composition]:
    """The composed models by their ids. Raises `CompositionError`."""
    found = {}
    for name, blend in blends.items():
        key = _key("blend", name)
        if (blend.strategy == "self_moa") != (len(blend.models) == 1):
            raise CompositionError(f"{key}.models", blend.models, "self_moa takes exactly one model, all others 2 to 6")
        cards = _looked_up(key, blend.models, catalog)
        if blend.min_sources > (blend.samples if blend.strategy == "self_moa" else len(cards)):
            raise CompositionError(f"{key}.min_sources", blend.min_sources, "fewer than that are asked; lower it")
        for field, usual, strategy in (("layers", DEFAULT_LAYERS, "moa"), ("samples", DEFAULT_SAMPLES, "self_moa")):
            if blend.strategy != strategy and (given := getattr(blend, field)) != usual:
                raise CompositionError(f"{key}.{field}", given, f"only {strategy} has {field}; leave it out")
        writer = _one(f"{key}.synthesizer", blend.synthesizer, catalog)
        every = (*cards, writer) if writer is not None else cards
        _check_priced(key, blend.max_cost, every)
        vision = all(card.capabilities.vision for card in every)
        can = Capabilities(vision=vision, tools=False, json_schema=True, json_object=True)
        rounds = {"moa": blend.layers, "self_moa": blend.samples}.get(blend.strategy, 1)
        rate = _sum_of([*cards * rounds, *writers_of(ChatRequest("", ()), cards, writer)[:1]])
        found[f"blend:{name}"] = Composition(_card(f"blend:{name}", every, can, min, rate), blend, cards, writer)
    for name, cascade in cascades.items():
        key = _key("cascade", name)
        if (cascade.rule == "judge") != (cascade.judge is not None):
            raise CompositionError(f"{key}.judge", cascade.judge, "the rule 'judge' needs one, the others have none")
        cards = _looked_up(key, cascade.models, catalog)
        judge = _one(f"{key}.judge", cascade.judge, catalog)
        if judge in cards[:-1]:
            raise CompositionError(
                f"{key}.judge", cascade.judge, "judges its own answer; name another, or rule 'check'"
            )
        names = Capabilities.__struct_fields__
        can = Capabilities(**{able: any(getattr(card.capabilities, able) for card in cards) for able in names})
        asked = cards if judge is None else (*cards, judge)
        _check_priced(key, cascade.max_cost, asked)
        card = _card(f"cascade:{name}", cards, can, max, _sum_of(asked))
        found[card.id] = Composition(card, cascade, cards, judge)
    return found


class Composer:
    """An engine that also runs composed models (see `mesh.Mesh.run`)."""

    def __init__(self, mesh: Mesh, compositions: Mapping[str, Composition], prompts: Prompts) -> None:
        self._mesh = mesh
        self._compositions = compositions
        self._prompts = prompts

    @property
    def total_s(self) -> float:
        return self._mesh.total_s

    def run(self, request: Request, ledger: Ledger) -> AsyncGenerator[Sequence[Event], None]:
        if not ledger.plan.composed:
            return self._mesh.run(request, ledger)
        assert isinstance(request, ChatRequest), "only chat models are composed"
        composition = self._compositions.get(ledger.plan.attempts[0].target.id)
        if composition is None:
            raise InternalError("a plan of a composed model that isn't configured")
        return self._composed(composition, replace(request, passthrough=None, verbatim=False), ledger)

    async def _composed(
        self, composition: Composition, request: ChatRequest, ledger: Ledger
    ) -> AsyncGenerator[Sequence[Event], None]:
        """What the caller is told is what came of all calls: `ledger.final` has the tokens of them all."""
        try:
            items = self._items(composition, request, ledger)
        except GatewayError as error:
            ledger.admit()
            ledger.close(error.status, error.code)
            raise
        begun = False
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Begun):
                    if not begun:  # a model answers: the caller may see a stream begin, and wait with patience
                        begun = True
                        yield (Started(),)
                elif not isinstance(item, Said | Synthesizing):
                    batch = [event for event in item if type(event) is not Started or not begun]
                    begun = begun or bool(batch)
                    yield batch
        _count_all(ledger)

    def _items(self, composition: Composition, request: ChatRequest, ledger: Ledger) -> AsyncGenerator[Item, None]:
        settings, cards = composition.settings, composition.cards
        most = None if settings.max_cost is None else from_usd(settings.max_cost)
        if isinstance(settings, CascadeSettings):
            steps = Steps(cards, settings.rule, settings.threshold, composition.writer)
            bounds = Bounds(settings.source_timeout_s, max_cost_nanousd=most)
            return piped(partial(Cascade(steps, request, ledger, self._prompts, bounds).run, self._mesh))
        writer = composition.writer or (cards[-1] if settings.strategy == "chain" else None)
        recipe = Recipe(
            settings.strategy,
            tuple(question_of(Plan((PlannedAttempt(card, "source"),)), request) for card in cards),
            writers_of(request, cards, writer),
            settings.layers,
            settings.samples,
        )
        bounds = Bounds(settings.source_timeout_s, settings.min_sources, most)
        return piped(partial(Blend(recipe, request, ledger, self._prompts, bounds).run, self._mesh))


def _count_all(ledger: Ledger) -> None:
    final, record = ledger.final, ledger.record
    if final is not None and record is not None:
        ledger.final = replace(
            final,
            input_tokens=record.input_tokens,
            cache_read_tokens=record.cache_read_tokens,
            cache_write_tokens=record.cache_write_tokens,
            output_tokens=record.output_tokens,
            reasoning_tokens=record.reasoning_tokens,
            usage_estimated=record.usage_estimated,
            cost_nanousd=record.cost_nanousd,
        )


def _looked_up(key: str, names: Sequence[str], catalog: Catalog) -> tuple[ModelCard, ...]:
    cards: list[ModelCard] = []
    for index, name in enumerate(names):
        card = _one(f"{key}.models[{index}]", name, catalog)
        if card is None or card in cards:
            raise CompositionError(f"{key}.models[{index}]", name, "is named twice")
        cards.append(card)
    return tuple(cards)


def _one(key: str, name: str | None, catalog: Catalog) -> ModelCard | None:
    if name == AUTO or (name is not None and name.startswith(("blend:", "cascade:"))):
        raise CompositionError(key, name, "is no single model; name one of the catalog")
    try:
        return None if name is None else catalog.resolve(name)
    except CallerError as error:
        raise CompositionError(key, name, error.message) from error


def _key(section: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise CompositionError(f"{section}.{name}", name, "a name has letters, digits, dots, dashes and underscores")
    return f"{section}.{name}"


def _check_priced(key: str, max_cost: float | None, cards: Sequence[ModelCard]) -> None:
    unpriced = [card.id for card in cards if card.rate is None]
    if max_cost is not None and unpriced:
        raise CompositionError(
            f"{key}.max_cost",
            max_cost,
            f"no price is known for {', '.join(unpriced)}, so no bound can be kept; set input_price and output_price "
            "in their [[models]] entries, or leave max_cost out",
        )


def _card(
    id: str,
    cards: Sequence[ModelCard],
    can: Capabilities,
    bound: Callable[[Iterable[int]], int],
    rate: Rate | None,
) -> ModelCard:
    return ModelCard(
        id,
        PROVIDER,
        id,
        name=id,
        vendor=PROVIDER,
        context_window=bound(card.context_window for card in cards),
        capabilities=can,
        rate=rate,
        quality=max(card.quality for card in cards),
        demonstration=all(card.demonstration for card in cards),
    )


def _sum_of(cards: Sequence[ModelCard]) -> Rate | None:
    """About what a token of prompt and of answer costs with all calls made: for the list of models, and to set credit
    aside. What a request has cost is the sum of its calls, and not reckoned by this."""
    rates = [card.rate for card in cards if card.rate is not None]
    if len(rates) < len(cards):
        return None
    return Rate(sum(rate.input for rate in rates), sum(rate.output for rate in rates))
