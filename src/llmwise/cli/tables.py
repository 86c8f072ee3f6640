"""Tables on standard output: fitted to a terminal, and whole where a program reads them; and what stands in them."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmwise.cli.terminal import printable

WIDE = 400


def show(table: Table) -> None:
    """Print `table`. In a pipe nothing is cut: an id that was cut can't be used."""
    out = Console()
    if not out.is_terminal:
        out.width = WIDE
    out.print(table)


def cell(text: str, style: str = "") -> Text:
    """What a model or a provider has said; nothing in it is markup or steers the terminal."""
    return Text(printable(text), style)
