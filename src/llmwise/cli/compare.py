"""`llmwise compare`: one question to several models at once; on a terminal their answers grow side by side."""

from collections.abc import Sequence
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


def compare(
    question: QuestionArgument = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="A model; give 2 to 9.")] = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    max_cost: MaxCostOption = None,
    dry_run: DryRunOption = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Ask several models the same. The answers go to stdout, each below its model's name, the account to stderr."""
    models = model or []
    if len(models) < 2:
        fail("nothing to compare: give two models or more, each with -m")
    messages = messages_of(question, system)
    notes = Console(stderr=True, highlight=False)
    board = Board(notes)
    summary: dict[str, Any] = {}
    done: dict[str, Any] = {}
    with gateway(url, key) as client:
        asked: dict[str, Any] = {"models": models, "messages": messages, "max_tokens": max_tokens, "max_cost": max_cost}
        if dry_run:
            notes.print(estimate_table(client.compare(**asked, dry_run=True)))
            return
        with board.shown():
            for event in client.compare_stream(**asked):
                match event.get("event"):
                    case "summary":
                        summary = event
                    case "done":
                        done = event
                    case None:
                        take_chunk(board, event)
                    case _:
                        pass
    for name, answer in board.answers.items():
        say(f"## {name}\n\n{answer}\n\n")
    notes.print(_table(board.ended, summary))
    say_warnings(notes, done)


def _table(last: dict[str, dict[str, Any]], summary: dict[str, Any]) -> Table:
    table = Table("model", "first token", "took", "tokens", "cost", "", box=None, header_style="dim", pad_edge=False)
    for name, chunk in last.items():
        if "error" in chunk:
            table.add_row(cell(name, "red"), "", f"{chunk['latency_ms']} ms", "", "", cell(chunk["error"]))
            continue
        best = [word for word in ("fastest", "longest", "cheapest") if summary.get(word) == name]
        table.add_row(*_row(name, chunk), Text(", ".join(best), style="green"))
    return table


def _row(name: str, chunk: dict[str, Any]) -> Sequence[Text | str]:
    return (
        cell(name),
        f"{chunk['ttft_ms']} ms",
        f"{chunk['latency_ms']} ms",
        f"{chunk['prompt_tokens']} + {chunk['completion_tokens']}",
        dollars(chunk["cost"]),
    )
