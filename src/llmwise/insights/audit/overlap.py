"""What several sources say of the same traffic, so that nothing counts twice.

- of two exports that cut the same day of a provider's usage differently, the one imported last counts;
- what a provider says that it billed goes before what its tokens would cost at list price;
- a provider's own report holds all of its traffic: requests of that provider on such a day, from a log or from the
  gateway, tell task types and latencies, and are not added to it again;
- a logged request that has the id of one of the gateway's own is that one (`storage.audit`).
"""

from collections.abc import Sequence

from msgspec.structs import replace

from llmwise.insights.audit.prices import Prices
from llmwise.storage.audit import Cell

REPORTS = ("openai", "anthropic")
"""Sources that are a provider's own report, all of its traffic."""


def once(cells: Sequence[Cell], prices: Prices) -> tuple[list[Cell], tuple[str, ...]]:
    """The cells to add up, with zeros where another cell says the same; and what was done, for people."""
    latest: dict[tuple[str, str, int], tuple[int, int, str]] = {}
    for cell in cells:
        if cell.source in REPORTS:
            key = (cell.source, cell.kind, cell.day)
            latest[key] = max(latest.get(key, (-1, 0, "")), (cell.imported_at_ms, len(cell.cut), cell.cut))
    billed = {(source, day) for source, kind, day in latest if kind == "cost"}
    used = {(source, day) for source, kind, day in latest if kind == "tokens"}
    requests = {(cell.source, cell.day) for cell in cells if cell.source in REPORTS and cell.requests is not None}
    counted: list[Cell] = []
    aside = inside = 0
    for cell in cells:
        if cell.source in REPORTS:
            if latest[cell.source, cell.kind, cell.day][2] != cell.cut:
                aside += 1
            elif cell.kind == "tokens" and (cell.source, cell.day) in billed:
                counted.append(_without_cost(cell))
            else:
                counted.append(cell)
            continue
        place = (vendor(cell, prices), cell.day)
        if place in used or place in billed:
            inside += cell.requests or 0
            cell = _without_cost(cell)
            if place in used:
                cell = replace(cell, input_tokens=0, cache_read_tokens=0, cache_write_tokens=0, output_tokens=0)
            if place in requests:
                cell = replace(cell, requests=0, failed=0)
        counted.append(cell)
    notes = []
    if aside:
        notes.append("A day was exported with different groupings: the export imported last counts.")
    if billed:
        notes.append("Where a cost export covers a day, its amounts count, not list prices.")
    if inside:
        notes.append(
            f"{inside:,} logged requests lie on days that their provider's own report covers: they tell task types and "
            "latency, and are not added to it again. If another organization paid for them, look at each --source."
        )
    return counted, tuple(notes)


def vendor(cell: Cell, prices: Prices) -> str:
    """Whose traffic a cell is: of the provider that served it, else of the model's maker; empty if nobody knows."""
    if cell.provider is not None:
        return cell.provider
    card = None if cell.model is None else prices.card(cell.model)
    return "" if card is None else card.vendor


def _without_cost(cell: Cell) -> Cell:
    return replace(cell, cost_nanousd=0, listed_nanousd=0, unpriced=0)
