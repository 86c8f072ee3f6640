"""`llmwise catalog update`: newer prices, what they change, and what they mean for the adopted policies."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from llmwise.app import catalog_of
from llmwise.catalog import prices
from llmwise.catalog.lookup import Catalog
from llmwise.cli.failing import ConfigOption, fail, user_errors
from llmwise.cli.tables import show
from llmwise.config import Config, load
from llmwise.domain.models import Rate
from llmwise.domain.money import NANO_PER_USD
from llmwise.insights import repricing
from llmwise.insights.control import control_of, policy_of
from llmwise.insights.policy import Policy
from llmwise.storage import insights, schema, usage
from llmwise.storage.database import Database
from llmwise.storage.rows import ModelUsage

DAYS = 30
DAY_MS = 86_400_000
INSTALL = "pip install -U genai-prices"


def update(
    config: ConfigOption = None,
    file: Annotated[Path | None, typer.Option("--file", help="Take the prices from this prices.json.")] = None,
    fetch: Annotated[bool, typer.Option("--fetch", help="Fetch the newest published prices.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Write them to [catalog] prices.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which prices have changed and what that means. Changes nothing without --apply.

    The newer prices are those of the installed `genai-prices` package, of a file, or, with --fetch, the published
    ones."""
    if file is not None and fetch:
        fail("--file and --fetch name two sources: give one")
    now_ms = time.time_ns() // 1_000_000
    with user_errors():
        settings = load(config, secrets=False)
        target = Path(settings.catalog.prices) if settings.catalog.prices else None
        if apply and target is None:
            fail('--apply has nowhere to write: set `prices = "prices.json"` in [catalog]')
        first = target is not None and not target.exists()  # the first --apply makes it
        old_settings = msgspec.structs.replace(settings, catalog=type(settings.catalog)()) if first else settings
        old = catalog_of(old_settings, now_ms)
    body = file_of(file) if file is not None else _newer(fetch, now_ms)
    new = _catalog(settings, body, now_ms)
    used, policies = _known(settings, now_ms)
    told = _told(old, new, used, policies, now_ms)
    if as_json:
        typer.echo(msgspec.json.encode(told))
    else:
        _show(told, old, new)
    if apply:
        assert target is not None, "checked above"
        _write(target, body)
        typer.echo(f"written: {target}; a running gateway reads it at a reload (SIGHUP) or restart", err=True)


class Told(msgspec.Struct, frozen=True):
    """What `update` says. Costs in nano-USD: what the last `DAYS` days would have cost."""

    old_source: str
    new_source: str
    changes: list[repricing.PriceChange]
    retiring: list[tuple[str, str]]
    bill: tuple[int, int]
    policies: list[repricing.Standing]


def _told(old: Catalog, new: Catalog, used: tuple[ModelUsage, ...], policies: list[Policy], now_ms: int) -> Told:
    moved = repricing.changes(old, new, used, now_ms)
    return Told(
        old.prices_source,
        new.prices_source,
        moved,
        [(model, day.isoformat()) for model, day in repricing.retiring(new, now_ms)],
        repricing.bill(old, new, used, now_ms),
        [repricing.standing(policy, moved) for policy in policies],
    )


def file_of(path: Path) -> bytes:
    """The bytes of a price file that can be read."""
    try:
        body = path.read_bytes()
        given = msgspec.json.decode(body, type=prices.PriceFile)
        for vendor, models in given.prices.items():
            for model in models:
                _check(f"{vendor} {model}", given.schedule(vendor, model))
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except msgspec.DecodeError as error:
        fail(f"{path}: no price file ({error}); make one with `python -m llmwise.catalog.refresh {path}`")
    return body


def _check(whose: str, schedule: prices.Schedule | None) -> None:
    """Raises `msgspec.ValidationError` for a price below zero."""
    for price in schedule.prices if schedule is not None else ():
        rates = [price.rate] if price.rate.above is None else [price.rate, price.rate.above]
        for rate in rates:
            for name in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"):
                if (getattr(rate, name) or 0) < 0:
                    raise msgspec.ValidationError(f"{whose}: the price of {name} is below zero")


def _newer(fetch: bool, now_ms: int) -> bytes:
    """The installed package's data, or the published data."""
    try:
        from llmwise.catalog import refresh
    except ModuleNotFoundError:
        fail(f"the package of prices is not installed; run: {INSTALL}; or give a price file with --file")
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    if not fetch:
        return refresh.render(refresh.collect(today), refresh.source(), today)
    try:
        given = refresh.published()
    except (OSError, ValueError) as error:
        fail(f"the published prices can't be had ({error}); offline, take the installed ones: leave --fetch out")
    return refresh.render(refresh.collect(today, given), f"genai-prices, published, {today}", today)


def _catalog(settings: Config, body: bytes, now_ms: int) -> Catalog:
    """What the configuration would offer at other prices."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, user_errors():
        path = Path(folder, "prices.json")
        path.write_bytes(body)
        return catalog_of(msgspec.structs.replace(settings, catalog=type(settings.catalog)(prices=str(path))), now_ms)


def _known(settings: Config, now_ms: int) -> tuple[tuple[ModelUsage, ...], list[Policy]]:
    """What was used lately and which policies are in force; nothing without a database."""
    url = settings.storage.url or ""
    if url == "" or url.endswith(":memory:") or (url.startswith("sqlite:///") and not Path(url[10:]).exists()):
        return (), []
    with user_errors():
        database = Database.open(url)
        if not database.read(schema.at_head):
            fail(f"{database.url} is not at revision {schema.HEAD}: run `llmwise db migrate`")
        used = database.read(usage.summary, None, now_ms - DAYS * DAY_MS).by_model
        found = database.read(insights.document, "control", "policy")
        versions = sorted({*control_of(None if found is None else found.body).adopted.values()})
        bodies = [database.read(insights.document, "policy", version) for version in versions]
        database.close()
    return used, [policy_of(one.body) for one in bodies if one is not None]


def _write(target: Path, body: bytes) -> None:
    """Whole or not at all: a gateway may be reading it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        beside.write_bytes(body)
        beside.replace(target)
    except OSError as error:
        fail(f"{target}: {error.strerror}")


def _show(told: Told, old: Catalog, new: Catalog) -> None:
    out = Console(highlight=False)
    out.print(f"{told.old_source} -> {told.new_source}")
    if not told.changes:
        out.print("No price of a model on offer has changed.")
    else:
        table = Table("model", "", "in", "out", "times", box=None, header_style="bold")
        for one in told.changes:
            times = "" if one.times is None else f"x{one.times:.2f}{'' if one.used else ' (typical tokens)'}"
            table.add_row(one.model, one.moved, _pair(one, "input"), _pair(one, "output"), times)
        show(table)
    if told.bill[0]:
        before, after = (amount / NANO_PER_USD for amount in told.bill)
        out.print(f"Your last {DAYS} days: ${before:.2f} -> ${after:.2f} ({after / before - 1:+.1%})")
    for policy in told.policies:
        _show_policy(out, policy)
    for model, day in told.retiring:
        out.print(f"{model} is switched off on {day}")


def _show_policy(out: Console, policy: repricing.Standing) -> None:
    if not policy.effects and not policy.stale:
        out.print(f"Policy {policy.version} ({policy.goal}): every recommendation stays.")
    for effect in policy.effects:
        out.print(
            f"Policy {policy.version} ({policy.goal}): {effect.task_type} would go to {effect.then} and not to "
            f"{effect.now}, {effect.saved:.0%} cheaper at the new prices"
        )
    for model in policy.stale:
        out.print(f"Policy {policy.version} ({policy.goal}): {model} has no known price any more")


def _pair(one: repricing.PriceChange, field: str) -> str:
    def shown(rate: Rate | None) -> Any:
        return "?" if rate is None else f"{getattr(rate, field) / NANO_PER_USD:g}"

    before, after = shown(one.old), shown(one.new)
    return before if before == after else f"{before} -> {after}"
