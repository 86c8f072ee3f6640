"""`llmwise compare`: one question to several models at once; on a terminal their answers grow side by side."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from llmwise.cli.failing import fail
from llmwise.cli.remote import DEFAULT_URL, KeyOption, UrlOption, gateway

SHOWN_LINES = 12
"""Of each answer that still grows, this many lines are on the screen; the whole follows at the end."""

FRAMES_PER_SECOND = 12


def compare(
    question: Annotated[str | None, typer.Argument(help="What to ask; without it, standard input.")] = None,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="A model; give 2 to 9.")] = None,
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1)] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Ask several models the same. The answers go to stdout, each below its model's name, the account to stderr."""
    models = model or []
    if len(models) < 2:
        fail("nothing to compare: give two models or more, each with -m")
    text = question if question is not None else sys.stdin.read()
    if not text.strip():
        fail("nothing to ask: give a question, or pipe one in")
    messages = [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}]
    notes = Console(stderr=True, highlight=False)
    answers: dict[str, str] = {}
    last: dict[str, dict[str, Any]] = {}
    summary: dict[str, Any] = {}
    done: dict[str, Any] = {}
    live = Live(console=notes, transient=True, refresh_per_second=FRAMES_PER_SECOND) if notes.is_terminal else None
    shown: AbstractContextManager[Any] = live if live is not None else nullcontext()
    with gateway(url, key) as client, shown:
        for event in client.compare_stream(models=models, messages=messages, max_tokens=max_tokens):
            match event.get("event"):
                case "summary":
                    summary = event
                case "done":
                    done = event
                case None:
                    name = event["model"]
                    answers[name] = answers.get(name, "") + event["delta"]
                    if event.get("done"):
                        last[name] = event
                    if "error" in event:
                        answers[name] += f"{answers[name] and chr(10)}[failed: {event['error']}]"
                    if live is not None:
                        live.update(_growing(answers, last, notes.width))
                case _:
                    pass
    for name, answer in answers.items():
        sys.stdout.write(f"## {name}\n\n{answer}\n\n")
    sys.stdout.flush()
    notes.print(_table(last, summary))
    for warning in done.get("warnings") or ():
        notes.print(Text(f"{warning['field']}: {warning['message']}", style="yellow"))


def _growing(answers: dict[str, str], last: dict[str, dict[str, Any]], width: int) -> Columns:
    side_by_side = max(1, min(len(answers), width // 40))
    panel_width = width // side_by_side - 1
    panels = []
    for name, answer in answers.items():
        ended = last.get(name)
        style = "dim" if ended is None else "red" if "error" in ended else "green"
        lines = _tail(answer, panel_width - 4)
        panels.append(Panel(Text(lines), title=Text(name), border_style=style, width=panel_width))
    return Columns(panels)


def _tail(answer: str, width: int) -> str:
    """The last lines of an answer, broken as the panel breaks them, more or less."""
    lines = [line[at : at + width] for line in answer.splitlines() for at in range(0, max(1, len(line)), width)]
    return "\n".join(lines[-SHOWN_LINES:])


def _table(last: dict[str, dict[str, Any]], summary: dict[str, Any]) -> Table:
    table = Table("model", "first token", "took", "tokens", "cost", "", box=None, header_style="dim", pad_edge=False)
    for name, chunk in last.items():
        if "error" in chunk:
            table.add_row(Text(name, style="red"), "", f"{chunk['latency_ms']} ms", "", "", Text(chunk["error"]))
            continue
        best = [word for word in ("fastest", "longest", "cheapest") if summary.get(word) == name]
        table.add_row(*_row(name, chunk), Text(", ".join(best), style="green"))
    return table


def _row(name: str, chunk: dict[str, Any]) -> Sequence[Text | str]:
    cost = chunk["cost"]
    return (
        Text(name),
        f"{chunk['ttft_ms']} ms",
        f"{chunk['latency_ms']} ms",
        f"{chunk['prompt_tokens']} + {chunk['completion_tokens']}",
        "not known" if cost is None else f"${cost:.6f}",
    )
