"""The catalog: built-in models and the configuration's, as one table of names.

`models.toml` says what models are, `prices.json` what they cost, and the configuration which providers there are and
what is different here. What is on offer:

- every `[[models]]` entry of the configuration. One that names a built-in model, by its id, an alias or `upstream`,
  starts from that model's facts and overrides what it states; any other starts from careful defaults;
- of a configured provider that no entry names, every built-in model of its vendor. To list a provider's models is to
  choose them: the others are not offered then. `enabled = false` hides a built-in one.

Prices are all or nothing: an entry with any price inherits none, so that a flat price of yours is never mixed with a
vendor's cache discount. An entry for another vendor's model inherits its abilities, not its price.

Entries own their names. A built-in model loses a name, even its id, that an entry claims; two entries with one name are
an error. The second provider of one vendor offers its models as `<provider>/<id>`. Where the maker's own provider isn't
configured, its model's name leads to the first host that serves it (`gpt-5.2` to `openrouter/gpt-5.2`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import msgspec
from msgspec import Struct

from llmwise.catalog import prices
from llmwise.catalog.lookup import Catalog, normal
from llmwise.catalog.prices import Schedule
from llmwise.catalog.rows import (
    Builtin,
    BuiltinModel,
    CapabilitySettings,
    CatalogError,
    ModelSettings,
    Price,
    read_models,
)
from llmwise.domain import money
from llmwise.domain.models import Capabilities, ModelCard, Rate
from llmwise.domain.requests import AUTO

FREE = Rate(input=0, output=0)


class CatalogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[catalog]`: what models cost.

    prices      the file that `llmwise catalog update --apply` writes, relative to the configuration's folder; absent:
                the prices that came with the package
    """

    prices: str | None = None


class _Offer(Struct, frozen=True):
    """A model on offer. `claims` are the names that must be its own; `wishes` are taken where they are free."""

    path: str
    card: ModelCard
    claims: tuple[str, ...]
    wishes: tuple[str, ...] = ()
    schedule: Schedule | None = None
    retires: date | None = None


def load(
    entries: Sequence[ModelSettings] = (),
    providers: Mapping[str, str] | None = None,
    *,
    unix_ms: int,
    prices_file: Path | None = None,
) -> Catalog:
    """The catalog of a configuration; see `build_catalog`. `prices_file` replaces the prices that came with the
    package. Raises `CatalogError`, and `OSError` or `msgspec.DecodeError` for that file."""
    return build_catalog(Builtin(read_models(), prices.read(prices_file)), entries, providers or {}, unix_ms=unix_ms)


def build_catalog(
    builtin: Builtin, entries: Sequence[ModelSettings], providers: Mapping[str, str], *, unix_ms: int
) -> Catalog:
    """Pure. `providers` are the configured ones in order: name to vendor (a row of `providers.registry`). `unix_ms`
    says which of a model's prices its card shows. Raises `CatalogError`."""
    hidden = {normal(entry.id) for entry in entries if not entry.enabled}
    own = [
        _entry(f"models[{number}]", entry, builtin, providers, unix_ms)
        for number, entry in enumerate(entries)
        if entry.enabled
    ]
    stock = list(_stock(builtin, providers, own, hidden, unix_ms))
    offers = [*own, *stock]
    return Catalog(
        tuple(offer.card for offer in offers),
        _names(own, stock),
        schedules={o.card.id: o.schedule for o in offers if o.schedule is not None and not o.schedule.steady},
        retirements={offer.card.id: offer.retires for offer in offers if offer.retires is not None},
        unconfigured=_unconfigured(builtin.models, set(providers.values())),
        prices_source=f"{builtin.prices.source}, {builtin.prices.taken}",
    )


def _entry(path: str, entry: ModelSettings, builtin: Builtin, providers: Mapping[str, str], unix_ms: int) -> _Offer:
    provider = _provider(path, entry, builtin.models, providers)
    vendor = providers[provider]
    base = _base(entry, builtin.models, vendor) or _unknown(entry.id, vendor)
    at_home = base.vendor == vendor
    upstream = entry.upstream or (base.upstream if at_home else entry.id)
    aliases = entry.aliases
    if aliases is None:
        aliases = base.aliases if normal(base.id) == normal(entry.id) else ()
    rate, schedule = _stated_rate(path, entry), None
    if rate is None and at_home and base.free:
        rate = FREE
    elif rate is None:
        schedule = builtin.prices.schedule(vendor, upstream)
        rate = None if schedule is None else schedule.at(unix_ms)
    card = ModelCard(
        id=entry.id,
        provider=provider,
        upstream=upstream,
        name=entry.name or base.name,
        vendor=vendor,
        aliases=aliases,
        context_window=entry.context_window or base.context_window,
        max_output=entry.max_output or base.max_output,
        capabilities=_capabilities(entry.capabilities, base),
        rate=rate,
        tier=entry.tier or base.tier,
        quality=base.quality if entry.quality is None else entry.quality,
        demonstration=at_home and base.demonstration,
        kind=entry.kind or base.kind,
        source=base.source,
    )
    wishes = (f"{provider}/{entry.id}", f"{provider}/{upstream}")
    retires = base.retires if at_home else None
    return _Offer(path, card, claims=(entry.id, *aliases), wishes=wishes, schedule=schedule, retires=retires)


def _provider(path: str, entry: ModelSettings, models: Iterable[BuiltinModel], providers: Mapping[str, str]) -> str:
    if normal(entry.id) == AUTO:
        raise CatalogError(f"{path}.id", entry.id, "this name lets the gateway choose, and can't be a model's")
    if entry.provider is not None:
        if entry.provider not in providers:
            there_are = ", ".join(providers) or "none"
            raise CatalogError(
                f"{path}.provider", entry.provider, f"not a configured provider (there are: {there_are})"
            )
        return entry.provider
    for model in models:
        if normal(entry.id) in map(normal, model.names):
            for name, vendor in providers.items():
                if vendor == model.vendor:
                    return name
            raise CatalogError(f"{path}.id", entry.id, f"no provider of its vendor {model.vendor!r} is configured")
    raise CatalogError(f"{path}.id", entry.id, "not a built-in model: say which `provider` serves it")


def _base(entry: ModelSettings, models: Sequence[BuiltinModel], vendor: str) -> BuiltinModel | None:
    """The built-in model that an entry is about: what it sends says more than what it is called, and the same vendor's
    row more than another's."""
    for wanted in (entry.upstream, entry.id):
        if wanted is None:
            continue
        name = normal(wanted)
        for model in models:
            if model.vendor == vendor and name in map(normal, (*model.names, model.upstream, model.serves or "")):
                return model
        for model in models:
            if name in map(normal, model.names):
                return model
    return None


def _unknown(name: str, vendor: str) -> BuiltinModel:
    """What is assumed of a model that nothing is known of: text, tools and JSON in a small window."""
    return BuiltinModel(
        id=name,
        vendor=vendor,
        upstream=name,
        name=name,
        context_window=8192,
        capabilities=("tools", "json_schema", "json_object"),
        tier="standard",
        quality=0.5,
    )


def _capabilities(settings: CapabilitySettings, base: BuiltinModel) -> Capabilities:
    stated = {name: value for name, value in msgspec.structs.asdict(settings).items() if value is not None}
    return msgspec.structs.replace(_known_capabilities(base), **stated)


def _known_capabilities(model: BuiltinModel) -> Capabilities:
    return Capabilities(**{name: name in model.capabilities for name in Capabilities.__struct_fields__})


def _stated_rate(path: str, entry: ModelSettings) -> Rate | None:
    """The entry's own prices, or `None` if it states none."""

    def nano(field: str, price: Price | None) -> int | None:
        if price is None:
            return None
        try:
            amount = money.from_usd(price)
        except (ArithmeticError, ValueError):
            amount = money.NanoUSD(-1)
        if amount < 0:
            raise CatalogError(f"{path}.{field}", price, "not a price in USD per million tokens")
        return amount

    figures = {
        "input_price": nano("input_price", entry.input_price),
        "output_price": nano("output_price", entry.output_price),
        "cache_read_price": nano("cache_read_price", entry.cache_read_price),
        "cache_write_price": nano("cache_write_price", entry.cache_write_price),
        "cache_write_1h_price": nano("cache_write_1h_price", entry.cache_write_1h_price),
    }
    if all(figure is None for figure in figures.values()):
        return None
    for field in ("input_price", "output_price"):
        if figures[field] is None:
            raise CatalogError(f"{path}.{field}", None, "prices are inherited all or not at all: state this one too")
    write, write_1h = figures["cache_write_price"], figures["cache_write_1h_price"]
    return Rate(
        figures["input_price"] or 0,
        figures["output_price"] or 0,
        cache_read=figures["cache_read_price"],
        cache_write_5m=write,
        cache_write_1h=write if write_1h is None else write_1h,
    )


def _stock(
    builtin: Builtin, providers: Mapping[str, str], own: Sequence[_Offer], hidden: set[str], unix_ms: int
) -> Iterator[_Offer]:
    """The built-in models of the configured providers, but for the providers whose models the entries list."""
    listed = {offer.card.provider for offer in own}
    claimed = {normal(claim) for offer in own for claim in offer.claims}
    first: dict[str, str] = {}
    for name, vendor in providers.items():
        first.setdefault(vendor, name)
    for model in builtin.models:
        if normal(model.id) in hidden:
            continue
        schedule = None if model.free else builtin.prices.schedule(model.vendor, model.upstream)
        for provider, vendor in providers.items():
            if vendor != model.vendor or provider in listed:
                continue
            leads = first[vendor] == provider
            plain = leads and normal(model.id) not in claimed
            card = ModelCard(
                id=model.id if plain else f"{provider}/{model.id}",
                provider=provider,
                upstream=model.upstream,
                name=model.name,
                vendor=vendor,
                aliases=model.aliases if leads else (),
                context_window=model.context_window,
                max_output=model.max_output,
                capabilities=_known_capabilities(model),
                rate=FREE if model.free else (None if schedule is None else schedule.at(unix_ms)),
                tier=model.tier,
                quality=model.quality,
                demonstration=model.demonstration,
                kind=model.kind,
                source=model.source,
            )
            prefixed = [f"{provider}/{name}" for name in (*model.names, model.upstream)]
            if leads:
                prefixed += [f"{vendor}/{name}" for name in model.names]
                # What a host calls `openai/gpt-5.2` is free for it to answer to, unless that maker is configured too.
                prefixed += [name for name in (model.serves, model.upstream) if name is not None]
            claims = (card.id, *card.aliases)
            yield _Offer(f"models.toml {model.id}", card, claims, tuple(prefixed), schedule, model.retires)


def _names(own: Sequence[_Offer], stock: Sequence[_Offer]) -> dict[str, ModelCard]:
    """Every name, as written and in normal form: claims of the entries, then of the built-in models, then wishes."""
    names: dict[str, ModelCard] = {}
    for offers in (own, stock):
        earlier = frozenset(names)
        for offer in offers:
            for claim in offer.claims:
                holder = names.setdefault(normal(claim), offer.card)
                if holder is not offer.card and normal(claim) not in earlier:
                    raise CatalogError(offer.path, claim, f"this name already means {holder.id!r}")
    for offer in (*own, *stock):
        for wish in offer.wishes:
            names.setdefault(normal(wish), offer.card)
    for offer in (*own, *stock):
        for name in (*offer.claims, *offer.wishes):
            names.setdefault(name, names[normal(name)])
    return names


def _unconfigured(models: Iterable[BuiltinModel], vendors: set[str]) -> dict[str, str]:
    return {normal(name): model.vendor for model in models if model.vendor not in vendors for name in model.names}
