"""`llmwise blend`: one answer made from those of several models; on a terminal the sources stand beside it."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from llmwise.cli.failing import fail
from llmwise.cli.panels import (
    Board,
    DryRunOption,
    MaxCostOption,
    MaxTokensOption,
    QuestionArgument,
    SystemOption,
    dollars,
    estimate_table,
    messages_of,
    say_warnings,
)
from llmwise.cli.remote import DEFAULT_URL, KeyOption, UrlOption, gateway
from llmwise.cli.tables import cell
from llmwise.cli.terminal import say


def blend(
    question: QuestionArgument = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="A model; give 2 to 6.")] = None,
    strategy: Annotated[
        str, typer.Option("--strategy", help="consensus, council, best_of, chain, moa, or self_moa with one model.")
    ] = "consensus",
    synthesizer: Annotated[
        str | None, typer.Option(help="Who writes; without it, the best rated of the models.")
    ] = None,
    layers: Annotated[int | None, typer.Option(min=1, max=3, help="Of moa.")] = None,
    samples: Annotated[int | None, typer.Option(min=2, max=8, help="Of self_moa.")] = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    max_cost: MaxCostOption = None,
    dry_run: DryRunOption = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Make one answer from those of several models. The answer goes to stdout, the sources' account to stderr."""
    if not model:
        fail("nothing to blend: give two models or more, each with -m")
    asked: dict[str, Any] = {
        "models": model,
        "messages": messages_of(question, system),
        "strategy": strategy,
        "synthesizer": synthesizer,
        "layers": layers,
        "samples": samples,
        "max_tokens": max_tokens,
        "max_cost": max_cost,
    }
    notes = Console(stderr=True, highlight=False)
    board = Board(notes)
    sources: list[dict[str, Any]] = []
    done: dict[str, Any] = {}
    text: list[str] = []
    with gateway(url, key) as client:
        if dry_run:
            notes.print(estimate_table(client.blend(**asked, dry_run=True)))
            return
        with board.shown():
            for event in client.blend_stream(**asked):
                match event.get("event"):
                    case "source" if event["status"] == "started":
                        board.grow(event["model"], "")
                    case "source":
                        sources.append(event)
                        board.grow(event["model"], _below(board.answers, event), event)
                    case "done":
                        done = event
                    case None:
                        text.append(event["delta"])
                        board.grow("the answer", event["delta"], event if event.get("done") else None)
                    case _:
                        pass
    say("".join(text) + "\n")
    notes.print(_table(sources, done))
    say_warnings(notes, done)


def _below(answers: dict[str, str], event: dict[str, Any]) -> str:
    """A source's answer, set off from what its model has said in an earlier layer."""
    return f"\n\n{event['content']}" if answers.get(event["model"]) else str(event["content"])


def _table(sources: list[dict[str, Any]], done: dict[str, Any]) -> Table:
    table = Table("model", "layer", "took", "cost", "", box=None, header_style="dim", pad_edge=False)
    for one in sources:
        failed = cell(one["error"], "red") if "error" in one else ""
        table.add_row(cell(one["model"]), str(one["layer"]), f"{one['latency_ms']} ms", dollars(one["cost"]), failed)
    if done:
        wrote = cell(f"{done['strategy']} by {done['synthesizer']}", "green")
        table.add_row("all", "", f"{done['latency_ms']} ms", dollars(done["cost"]), wrote)
    return table
