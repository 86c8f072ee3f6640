"""`llmwise models`: what the configuration offers, offline."""

import time
from typing import Annotated

import typer
from rich.table import Table

from llmwise.app import catalog_of, planner_of
from llmwise.cli.failing import ConfigOption, user_errors
from llmwise.cli.tables import show
from llmwise.config import load
from llmwise.domain.models import ModelCard
from llmwise.domain.money import NANO_PER_USD


def models(
    config: ConfigOption = None,
    find: Annotated[str | None, typer.Option("--find", help="Only models whose name holds this.")] = None,
) -> None:
    """List the models on offer, with their prices in USD per million tokens."""
    with user_errors():
        settings = load(config, secrets=False)
        catalog = catalog_of(settings, time.time_ns() // 1_000_000)
        chains = planner_of(settings, catalog).chains if settings.chains else {}
    table = Table("model", "provider", "in", "out", "context", "can", "also called", box=None, header_style="bold")
    table.columns[2].justify = table.columns[3].justify = table.columns[4].justify = "right"
    rows = [card for card in catalog.models if find is None or find.lower() in f"{card.id} {card.aliases}".lower()]
    for card in rows:
        rate = card.rate
        table.add_row(
            card.id,
            card.provider,
            "?" if rate is None else f"{rate.input / NANO_PER_USD:g}",
            "?" if rate is None else f"{rate.output / NANO_PER_USD:g}",
            f"{card.context_window:,}",
            _abilities(card),
            ", ".join(card.aliases[:3]),
        )
    for chain in chains.values():
        members = " -> ".join(card.id for card in chain.targets)
        table.add_row(chain.name, "llmwise", "", "", f"{chain.card.context_window:,}", _abilities(chain.card), members)
    show(table)
    typer.echo(f"{len(rows)} models; '?' is a price that is not known, which is not free", err=True)


def _abilities(card: ModelCard) -> str:
    can = card.capabilities
    named = {"vision": can.vision, "tools": can.tools, "json": can.json_schema, "thinks": can.reasoning}
    return " ".join(name for name, able in named.items() if able) + (" (demonstration)" if card.demonstration else "")
