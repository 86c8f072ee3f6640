"""Tables on standard output: fitted to a terminal, and whole where a program reads them."""

from rich.console import Console
from rich.table import Table

WIDE = 400


def show(table: Table) -> None:
    """Print `table`. In a pipe nothing is cut: an id that was cut can't be used."""
    out = Console()
    if not out.is_terminal:
        out.width = WIDE
    out.print(table)
