"""`llmwise judge`: several models answer, another one scores them; on a terminal the answers grow side by side."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
    take_chunk,
)
from llmwise.cli.remote import DEFAULT_URL, KeyOption, UrlOption, gateway
from llmwise.cli.tables import cell
from llmwise.cli.terminal import say


def judge(
    question: QuestionArgument = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="A contestant; give 2 to 4.")] = None,
    by: Annotated[str | None, typer.Option("--by", help="The model that judges; not a contestant.")] = None,
    criterion: Annotated[
        list[str] | None, typer.Option("--criterion", "-c", help="What counts; may be repeated.")
    ] = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    max_cost: MaxCostOption = None,
    dry_run: DryRunOption = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Let a model judge the answers of others. The answers and the verdict go to stdout, the account to stderr."""
    if len(model or ()) < 2 or by is None:
        fail("nothing to judge: give two contestants or more, each with -m, and the judge with --by")
    asked: dict[str, Any] = {
        "contestants": model,
        "judge": by,
        "messages": messages_of(question, system),
        "criteria": criterion,
        "max_tokens": max_tokens,
        "max_cost": max_cost,
    }
    notes = Console(stderr=True, highlight=False)
    board = Board(notes)
    verdict: dict[str, Any] = {}
    done: dict[str, Any] = {}
    with gateway(url, key) as client:
        if dry_run:
            notes.print(estimate_table(client.judge(**asked, dry_run=True)))
            return
        try:
            with board.shown():
                for event in client.judge_stream(**asked):
                    match event.get("event"):
                        case "verdict":
                            verdict = event
                        case "done":
                            done = event
                        case None:
                            take_chunk(board, event)
                        case _:
                            pass
        finally:  # the answers are there, and paid for, also without a verdict
            for name, answer in board.answers.items():
                say(f"## {name}\n\n{answer}\n\n")
    say(f"The winner: {verdict['winner']}. {verdict['overall']}\n")
    notes.print(_table(verdict))
    if verdict["tied"]:
        notes.print(Text(f"a tie of {', '.join(verdict['tied'])}", style="yellow"))
    if verdict["disagreement"]:
        notes.print(Text("the orders of the answers have no best one in common", style="yellow"))
    notes.print(f"{dollars(done.get('cost'))} in {done.get('latency_ms')} ms")
    say_warnings(notes, done)


def _table(verdict: dict[str, Any]) -> Table:
    table = Table("rank", "model", "score", "in each order", "why", box=None, header_style="dim", pad_edge=False)
    for one in verdict["scores"]:
        orders = [str(o["scores"][o["models"].index(one["model"])]) for o in verdict["orders"]]
        score = "" if one["score"] is None else f"{one['score']:g}"
        table.add_row(str(one["rank"]), cell(one["model"]), score, " / ".join(orders), cell(one["reasoning"]))
    return table
