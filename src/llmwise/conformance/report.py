"""The cells as a table: a case a row, a pair of dialect and family a column; then what was wrong, in words."""

from collections.abc import Sequence

from rich.table import Table

from llmwise.conformance.run import Cell

SIGNS = {True: "✓", False: "✗", None: "·"}


def passed(cell: Cell) -> bool | None:
    """`None`: not asked."""
    return None if cell.wrong is None else not cell.wrong


def columns(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(f"{cell.dialect} > {cell.family}" for cell in cells))


def rows(cells: Sequence[Cell]) -> dict[str, dict[str, str]]:
    """By case and column: a sign."""
    found: dict[str, dict[str, str]] = {}
    for cell in cells:
        found.setdefault(cell.case, {})[f"{cell.dialect} > {cell.family}"] = SIGNS[passed(cell)]
    return found


def totals(cells: Sequence[Cell]) -> dict[str, str]:
    """By column: how many passed of those that were asked."""
    found = {}
    for column in columns(cells):
        asked = [p for c in cells if f"{c.dialect} > {c.family}" == column and (p := passed(c)) is not None]
        found[column] = f"{sum(asked)}/{len(asked)}"
    return found


def table(cells: Sequence[Cell]) -> Table:
    shown = Table(caption="✓ passes   ✗ does not   · not asked", caption_justify="left", pad_edge=False)
    shown.add_column("case", no_wrap=True)
    for column in columns(cells):
        shown.add_column(column.replace(" > ", "\n> "), justify="center")
    for case, signs in rows(cells).items():
        shown.add_row(case, *(f"[red]{s}[/red]" if s == "✗" else s for s in map(signs.get, columns(cells)) if s))
    shown.add_section()
    shown.add_row("passed", *totals(cells).values())
    return shown


def markdown(cells: Sequence[Cell]) -> str:
    """The same table for a page of documentation."""
    names = columns(cells)
    lines = ["| case | " + " | ".join(names) + " |", "|---|" + ":-:|" * len(names)]
    lines += [f"| {case} | " + " | ".join(signs[name] for name in names) + " |" for case, signs in rows(cells).items()]
    return "\n".join([*lines, "| **passed** | " + " | ".join(totals(cells).values()) + " |", ""])


def failures(cells: Sequence[Cell]) -> list[str]:
    return [
        f"{cell.case}, {cell.dialect} > {cell.family}, {wrong}" for cell in cells if cell.wrong for wrong in cell.wrong
    ]
