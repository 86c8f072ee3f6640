"""`llmwise explain`: what Auto would choose for a question, and why, without calling a model."""

import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from llmwise.cli.failing import fail
from llmwise.cli.remote import DEFAULT_URL, KeyOption, UrlOption, gateway


def explain(
    question: Annotated[str | None, typer.Argument(help="The question; without it, standard input.")] = None,
    model: Annotated[str, typer.Option("--model", "-m")] = "auto",
    goal: Annotated[str | None, typer.Option("--goal", help="balanced, latency, cost or reliability.")] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Show the decision that the gateway would take now, with its candidates and reasons."""
    text = question if question is not None else sys.stdin.read()
    if not text.strip():
        fail("nothing to explain: give a question, or pipe one in")
    with gateway(url, key) as client:
        told = client.explain(model=model, messages=[{"role": "user", "content": text}], optimization_goal=goal)
    out = Console(highlight=False)
    out.print(f"[bold]{told['resolved_model']}[/bold]  ({told['auto_strategy'] or 'as named'})")
    for reason in told["reasons"]:
        out.print(f"  {reason}")
    if told["signals"]:
        out.print(f"  [dim]seen: {', '.join(told['signals'])}[/dim]")
    if told["candidates"]:
        table = Table("candidate", "cost", "first token", "quality", "why", box=None, header_style="bold")
        for row in told["candidates"]:
            cost = "?" if row["cost"] is None else f"${row['cost']:.6f}"
            first = "" if row["latency_ms"] is None else f"{row['latency_ms']:.0f} ms"
            table.add_row(row["model"], cost, first, f"{row['quality']:.2f}", row["reason"])
        out.print(table)
    for row in told["excluded"]:
        out.print(f"  [dim]left out: {row['detail']} ({row['reason']})[/dim]")
