"""What the commands that ask several models share: the question, and answers that grow side by side on a terminal."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.columns import Columns
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from llmwise.cli.failing import fail
from llmwise.cli.tables import cell
from llmwise.cli.terminal import printable

SHOWN_LINES = 12
"""Of each answer that still grows, this many lines are on the screen; the whole follows at the end."""

FRAMES_PER_SECOND = 12

QuestionArgument = Annotated[str | None, typer.Argument(help="What to ask; without it, standard input.")]
SystemOption = Annotated[str | None, typer.Option("--system", "-s", help="A system message.")]
MaxTokensOption = Annotated[int | None, typer.Option(min=1)]
MaxCostOption = Annotated[
    float | None,
    typer.Option(
        "--max-cost",
        min=0,
        help="US dollars; nothing further is asked once they are spent. The last call may go beyond.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what it will cost, and ask no model.")]


def messages_of(question: str | None, system: str | None) -> list[dict[str, str]]:
    """The messages to send; the question comes from standard input where it isn't given."""
    text = question if question is not None else sys.stdin.read()
    if not text.strip():
        fail("nothing to ask: give a question, or pipe one in")
    return [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": text}]


class Board:
    """Answers, each below its model's name; on a terminal they are drawn as they grow."""

    def __init__(self, notes: Console) -> None:
        self.notes = notes
        self.answers: dict[str, str] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw for as long as the block lasts."""
        if not self.notes.is_terminal:
            yield
            return
        with Live(console=self.notes, transient=True, refresh_per_second=FRAMES_PER_SECOND) as self._live:
            yield
        self._live = None

    def grow(self, name: str, text: str, ended: dict[str, Any] | None = None) -> None:
        """More of an answer; `ended` is its last chunk, or what says how it failed."""
        self.answers[name] = self.answers.get(name, "") + text
        if ended is not None:
            self.ended[name] = ended
            if "error" in ended:
                self.answers[name] += f"{self.answers[name] and chr(10)}[failed: {ended['error']}]"
        if self._live is not None:
            self._live.update(_growing(self.answers, self.ended, self.notes.width))


def take_chunk(board: Board, event: dict[str, Any]) -> None:
    """A plain chunk of a stream."""
    board.grow(event["model"], event["delta"], event if event.get("done") else None)


def say_warnings(notes: Console, event: Mapping[str, Any]) -> None:
    for warning in event.get("warnings") or ():
        notes.print(cell(f"{warning['field']}: {warning['message']}", "yellow"))


def estimate_table(answer: Mapping[str, Any]) -> Table:
    """What a dry run says."""
    table = Table("call", "model", "least", "likely", box=None, header_style="dim", pad_edge=False)
    for call in answer["calls"]:
        least = dollars(call["least"]) if call["certain"] else ""
        table.add_row(call["role"], cell(call["model"]), least, dollars(call["likely"]))
    table.add_row("all", "", dollars(answer["least"]), dollars(answer["likely"]), style="bold")
    return table


def dollars(cost: float | None) -> str:
    return "not known" if cost is None else f"${cost:.6f}"


def _growing(answers: dict[str, str], ended: dict[str, dict[str, Any]], width: int) -> Columns:
    side_by_side = max(1, min(len(answers), width // 40))
    panel_width = width // side_by_side - 1
    panels = []
    for name, answer in answers.items():
        last = ended.get(name)
        style = "dim" if last is None else "red" if "error" in last else "green"
        lines = _tail(printable(answer), panel_width - 4)
        panels.append(Panel(Text(lines), title=cell(name), border_style=style, width=panel_width))
    return Columns(panels)


def _tail(answer: str, width: int) -> str:
    """The last lines of an answer, broken as the panel breaks them, more or less."""
    lines = [line[at : at + width] for line in answer.splitlines() for at in range(0, max(1, len(line)), width)]
    return "\n".join(lines[-SHOWN_LINES:])
