"""Write `prices.json` anew from the installed `genai-prices`: `python -m llmwise.catalog.refresh [PATH]`.

Not on any running gateway's path: this is the one module that imports that package. What is taken: prices of text
tokens (input, output, cache reads and writes) of the vendors in `VENDORS`, at the standard service tier. What is left
out: models without a token price, prices of searches, pages, audio and images, and prices whose time is past.

`genai-prices` matches a model's name by rules; the file has plain names: the built-in catalog's, each model's own id,
and the other names that a rule equals.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from genai_prices.data import providers
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from llmwise.catalog.prices import Price
from llmwise.catalog.rows import read_models
from llmwise.domain import money
from llmwise.domain.models import Rate

VENDORS = {
    "anthropic": "anthropic",
    "cerebras": "cerebras",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "openai": "openai",
    "openrouter": "openrouter",
    "together": "together",
    "xai": "x-ai",
    "zai": "zai",
}
"""Our vendor and what `genai-prices` calls it."""


def collect(taken: date, given: Sequence[Provider] | None = None) -> dict[str, dict[str, tuple[Price, ...]]]:
    """Per vendor and lower-case model name its prices, without those that were over on the day `taken`. `given` goes
    in place of the installed package's own data."""
    known = {provider.id: provider for provider in (providers if given is None else given)}
    wanted: dict[str, list[str]] = {vendor: [] for vendor in VENDORS}
    for model in read_models():
        if model.vendor in wanted:
            wanted[model.vendor].append(model.upstream)
    return {
        vendor: dict(sorted(_of_vendor(known[theirs], wanted[vendor], taken).items()))
        for vendor, theirs in VENDORS.items()
    }


def published() -> Sequence[Provider]:
    """The newest published data, by the package's own client. Raises `OSError` where it can't be reached, `ValueError`
    for what is no such data."""
    from genai_prices.update_prices import UpdatePrices

    try:
        found = UpdatePrices().fetch()
    except (OSError, ValueError):
        raise
    except Exception as error:  # its HTTP client's errors have no base in common with ours
        raise OSError(f"{type(error).__name__}: {error}") from error
    if found is None:
        raise ValueError("nothing was published")
    return found.providers


def render(prices: Mapping[str, Mapping[str, Sequence[Price]]], source: str, taken: date) -> bytes:
    """The file's bytes: one line for each model, so that a refresh reads well as a difference."""
    vendors = []
    for vendor, models in prices.items():
        rows = ",\n".join(f"{_json(name)}:{_json([_plain(p) for p in row])}" for name, row in models.items())
        vendors.append(f"{_json(vendor)}:{{\n{rows}\n}}")
    body = ",\n".join(vendors)
    return f'{{"source":{_json(source)},"taken":{_json(taken)},"prices":{{\n{body}\n}}}}\n'.encode()


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("prices.json")
    today = datetime.now(UTC).date()
    prices = collect(today)
    path.write_bytes(render(prices, source(), today))
    print(f"{path}: {sum(map(len, prices.values()))} models of {len(prices)} vendors, from {source()}")


def source() -> str:
    return f"genai-prices {version('genai-prices')}"


def _of_vendor(provider: Provider, wanted: Sequence[str], taken: date) -> dict[str, tuple[Price, ...]]:
    found: dict[str, tuple[Price, ...]] = {}
    for model in provider.models:
        row = _prices(model, taken)
        if row:
            for name in _names(model):
                found.setdefault(name, row)
    for upstream in wanted:  # last, because the catalog's names are matched by the package's own rules
        matched = provider.find_model(upstream)
        row = () if matched is None else _prices(matched, taken)
        if row:
            found[upstream.lower()] = row
    return found


def _names(model: ModelInfo) -> Iterator[str]:
    yield model.id.lower()
    clauses = model.match.or_ if isinstance(model.match, ClauseOr) else [model.match]
    for clause in clauses:
        if isinstance(clause, ClauseEquals):
            yield clause.equals.lower()


def _prices(model: ModelInfo, taken: date) -> tuple[Price, ...]:
    """The model's prices in the package's order, in which the last one that holds counts; `()` if it has no price of
    input and output tokens."""
    listed = [ConditionalPrice(prices=model.prices)] if isinstance(model.prices, ModelPrice) else model.prices
    first = 0
    for index, entry in enumerate(listed):
        if isinstance(entry.constraint, StartDateConstraint) and entry.constraint.start_date <= taken:
            first = index  # it has begun, and what stands before it never counts again
    row = []
    for index, entry in enumerate(listed[first:]):
        rate = _rate(entry.prices, answers="embed" not in model.id)
        if rate is None:
            return ()
        constraint = None if index == 0 else entry.constraint
        if constraint is None:
            row.append(Price(rate))
        elif isinstance(constraint, StartDateConstraint):
            row.append(Price(rate, since=constraint.start_date))
        else:
            row.append(Price(rate, daily=_minutes(constraint)))
    return tuple(row)


def _rate(prices: ModelPrice, *, answers: bool = True) -> Rate | None:
    """One rate, nested where the price steps up with the prompt's length. `None` without input or output price; a model
    that makes vectors writes no tokens, and has no output price to lack.

    A one-hour cache write without a price of its own is billed as any cache write: `genai-prices` has them as kinds
    of one thing."""
    any_write, write_5m, write_1h = prices.cache_write_mtok, prices.cache_write_5m_mtok, prices.cache_write_1h_mtok
    listed = {
        "input": prices.input_mtok,
        "output": prices.output_mtok,
        "cache_read": prices.cache_read_mtok,
        "cache_write_5m": any_write if write_5m is None else write_5m,
        "cache_write_1h": any_write if write_1h is None else write_1h,
    }
    if listed["output"] is None and not answers:
        listed["output"] = Decimal(0)
    if listed["input"] is None or listed["output"] is None:
        return None
    tiered = [price for price in listed.values() if isinstance(price, TieredPrices)]
    starts = sorted({tier.start for price in tiered for tier in price.tiers})
    rate: Rate | None = None
    for index in range(len(starts), -1, -1):
        above = None if index == 0 else starts[index - 1]
        figures = {name: _figure(price, above) for name, price in listed.items()}
        threshold = starts[index] if index < len(starts) else None
        rate = Rate(**figures, threshold=threshold, above=rate)  # type: ignore[arg-type]  # input and output are there
    return rate


def _figure(price: Decimal | TieredPrices | None, above: int | None) -> int | None:
    """Nano-USD per million tokens in the step that begins above so many prompt tokens; `None` is the first step."""
    if isinstance(price, TieredPrices):
        steps = [tier.price for tier in price.tiers if above is not None and tier.start <= above]
        price = steps[-1] if steps else price.base
    return None if price is None else money.from_usd(price)


def _minutes(constraint: TimeOfDateConstraint) -> tuple[int, int]:
    return _minute(constraint.start_time), _minute(constraint.end_time)


def _minute(at: time) -> int:
    if at.utcoffset():
        raise ValueError(f"a price that changes at {at}, which is not UTC")
    return at.hour * 60 + at.minute


def _plain(price: Price) -> dict[str, Any]:
    """Without the fields that are absent."""
    plain: dict[str, Any] = {"rate": _plain_rate(price.rate)}
    if price.since is not None:
        plain["since"] = price.since
    if price.daily is not None:
        plain["daily"] = price.daily
    return plain


def _plain_rate(rate: Rate) -> dict[str, Any]:
    plain = {name: value for name, value in msgspec.structs.asdict(rate).items() if value is not None}
    if rate.above is not None:
        plain["above"] = _plain_rate(rate.above)
    return plain


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


if __name__ == "__main__":
    main()
