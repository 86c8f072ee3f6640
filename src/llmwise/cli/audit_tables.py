"""The audit's report in a terminal: tables with small bars. In a pipe nothing is cut."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llmwise.cli.tables import WIDE
from llmwise.insights.audit.whatif import WhatIf
from llmwise.insights.report import Report, Share, Speed
from llmwise.insights.shown import between, called, ms, percent, tokens, usd

MOST_ROWS = 12
BAR = 20
EIGHTHS = " ▏▎▍▌▋▊▉█"


def show_report(report: Report) -> None:
    out = Console(highlight=False)
    if not out.is_terminal:
        out.width = WIDE
    if report.empty:
        out.print(escape(report.advice or ""), soft_wrap=True)
        return
    totals = report.totals
    of = f" of {report.source}" if report.source else ""
    out.print(f"[bold]LLM audit[/]{escape(of)}, {report.first_day} to {report.last_day} (UTC)\n")
    listed = f" ({usd(totals.list_price_nanousd)} of it at list prices)" if totals.list_price_nanousd else ""
    failed = f", {totals.failed:,} failed" if totals.failed else ""
    out.print(f"  spend    {usd(totals.cost_nanousd)}{listed}")
    out.print(f"  requests {totals.requests:,}{failed}")
    out.print(
        f"  tokens   {tokens(totals.input_tokens)} in ({tokens(totals.cached_tokens)} cached), "
        f"{tokens(totals.output_tokens)} out"
    )
    for title, shares in (("model", report.models), ("task type", report.tasks), ("day", report.days)):
        if shares:
            out.print()
            out.print(_shares(title, shares))
    if len(report.sources) > 1:
        out.print()
        out.print(_shares("source, on its own", report.sources))
    if report.speed:
        out.print()
        out.print(_speeds(report.speed))
    simple = report.simple
    if simple is not None and simple.requests:
        out.print(
            f"\n{percent(simple.share)} of {simple.requests:,} requests of simple classes went to expensive models"
            f" ({usd(simple.on_expensive_nanousd)} of {usd(simple.cost_nanousd)}).",
            soft_wrap=True,
        )
    if report.what_if is not None:
        _what_if(out, report.what_if)
    for title, lines in (("What the input can't tell", report.unknown), ("How it was counted", report.notes)):
        if lines:
            out.print(f"\n[bold]{title}[/]")
            for line in lines:
                out.print(f"  {escape(line)}", soft_wrap=True)


def bar(share: float) -> str:
    """A share of 0..1 in eighths of a character."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR * 8)
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


def _table(*columns: str) -> Table:
    table = Table(*columns, box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _shares(title: str, shares: Sequence[Share]) -> Table:
    """The largest, or the last of days."""
    shown = shares[-31:] if title == "day" else shares[:MOST_ROWS]
    table = _table(title, "spend", "", "requests", "input", "cached", "output")
    table.columns[2].justify = "left"
    most = max((one.sums.cost_nanousd for one in shown), default=0) or 1
    for one in shown:
        sums = one.sums
        spend = usd(sums.cost_nanousd) + (" + ?" if sums.unpriced else "")
        table.add_row(
            escape(one.name), spend, bar(sums.cost_nanousd / most), f"{sums.requests:,}",
            tokens(sums.input_tokens), tokens(sums.cached_tokens), tokens(sums.output_tokens),
        )  # fmt: skip
    if len(shares) > len(shown):
        table.add_row(f"and {len(shares) - len(shown)} more")
    return table


def _speeds(speeds: Sequence[Speed]) -> Table:
    table = _table("latency", "timed", "p50", "p95", "p99", "first token p50", "p95", "p99")
    for speed in speeds[:MOST_ROWS]:
        cells = []
        for part in (speed.latency, speed.first_token):
            cells += ["-"] * 3 if part is None else [ms(part.p50_ms), ms(part.p95_ms), ms(part.p99_ms)]
        timed = speed.latency or speed.first_token
        table.add_row(escape(speed.name), f"{timed.n:,}" if timed else "", *cells)
    return table


def _what_if(out: Console, found: WhatIf) -> None:
    out.print("\n[bold]What routing would save[/]")
    out.print(f"  {escape(found.verdict)}", soft_wrap=True)
    if len(found.scenarios) > 1:
        table = _table("", "cost", "saving", "95% interval", "expected quality", "under the bar of their class")
        for one in found.scenarios:
            saving = "" if one.interval is None else percent(one.saving)
            quality = "" if one.quality is None else f"{one.quality:.2f}"
            below = "" if one.below_bar is None else percent(one.below_bar)
            table.add_row(escape(called(one)), usd(one.cost_nanousd), saving, between(one.interval), quality, below)
        out.print(table)
        left = "".join(f", {count:,} {reason}" for reason, count in found.left_out.items())
        out.print(f"  {found.compared:,} requests compared, a sample of {found.total:,}{escape(left)}", soft_wrap=True)
    if found.answer_length is not None:
        ends = between(found.answer_length)
        out.print(f"  if the other models' answers are half as long, or half as long again: {ends}", soft_wrap=True)
    if found.elsewhere:
        table = _table("all tokens at", "cost", "less than today")
        for place in found.elsewhere:
            table.add_row(escape(place.model), usd(place.cost_nanousd), percent(place.saving))
        out.print(table)
    for title, lines in (("where the data do not allow it", found.limits), ("assumptions", found.assumptions)):
        if lines:
            out.print(f"  {title}:")
        for line in lines:
            out.print(f"  - {escape(line)}", soft_wrap=True)
