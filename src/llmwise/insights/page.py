"""The report as one HTML page: no script, no network, readable at any width, light or dark, printable.

Plots are inline SVG without text (it would shrink with the picture); labels are HTML beside them. Everything that came
from a file is escaped.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from html import escape
from importlib.resources import files

from llmwise.insights.audit.whatif import Scenario, WhatIf
from llmwise.insights.report import Report, Share, Speed
from llmwise.insights.shown import between, called, ms, percent, tokens, usd

MOST_ROWS = 12
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Report, made_at: datetime) -> str:
    """The whole document."""
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    title = "LLM audit" + (f": {report.source}" if report.source else "")
    when = "" if report.empty else f"{report.first_day} to {report.last_day} (UTC). "
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">',
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>",
        f"<header><h1>{escape(title)}</h1><p>{when}Made {made_at:%Y-%m-%d %H:%M} UTC by llmwise.</p></header>",
    ]
    if report.empty:
        parts.append(f'<p class="advice">{escape(report.advice or "")}</p>')
    else:
        parts += _body(report)
    return "\n".join([*parts, "</main>\n</body>\n</html>\n"])


def _body(report: Report) -> list[str]:
    totals = report.totals
    cards = [
        ("spend", usd(totals.cost_nanousd), _paid(report)),
        ("requests", f"{totals.requests:,}", f"{totals.failed:,} failed" if totals.failed else ""),
        ("input tokens", tokens(totals.input_tokens), f"{tokens(totals.cached_tokens)} of them cached"),
        ("output tokens", tokens(totals.output_tokens), ""),
    ]
    shown = "".join(
        f"<div><dt>{name}</dt><dd>{escape(value)}</dd><dd>{escape(more)}</dd></div>" for name, value, more in cards
    )
    return [
        f'<dl class="cards">{shown}</dl>',
        *(_saving(report.what_if) if report.what_if is not None else ()),
        *([_section("Spend per day", _days(report.days))] if report.days else ()),
        _section("Models", _bars(report.models)),
        *([_section("Task types", _bars(report.tasks) + _simple(report))] if report.tasks else ()),
        *([_section("Speed", _speeds(report.speed))] if report.speed else ()),
        *(
            [_section("Sources, each on its own", _bars(report.sources, share=False))]
            if len(report.sources) > 1
            else ()
        ),
        *([_section("What the input can't tell", _list(report.unknown))] if report.unknown else ()),
        *([_section("How it was counted", _list(report.notes))] if report.notes else ()),
    ]


def _paid(report: Report) -> str:
    listed = report.totals.list_price_nanousd
    if not listed:
        return ""
    return "at list prices" if listed == report.totals.cost_nanousd else f"{usd(listed)} of it at list prices"


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n{inside}</section>"


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _days(days: Sequence[Share]) -> str:
    """Columns, one a day; a day's figures are its tooltip, and the first, the highest and the last stand below."""
    most = max((day.sums.cost_nanousd for day in days), default=0) or 1
    first, last = (date.fromisoformat(day.name).toordinal() for day in (days[0], days[-1]))
    width = 100 / (last - first + 1)
    columns = []
    for day in days:
        at = date.fromisoformat(day.name).toordinal() - first
        height = max(day.sums.cost_nanousd, 0) / most * 100
        tip = f"{day.name}: {usd(day.sums.cost_nanousd)}, {day.sums.requests:,} requests"
        box = f'x="{at * width:.3f}" y="{100 - height:.3f}" width="{width * 0.86:.3f}" height="{height:.3f}"'
        columns.append(f"<rect {box}><title>{escape(tip)}</title></rect>")
    highest = max(days, key=lambda day: day.sums.cost_nanousd)
    return (
        f'<p class="peak">highest: {escape(usd(highest.sums.cost_nanousd))} on {highest.name}</p>'
        '<svg class="days" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" '
        f'aria-label="Spend per day">{"".join(columns)}</svg>'
        f'<p class="axis"><span>{days[0].name}</span><span>{days[-1].name}</span></p>'
    )


def _bars(shares: Sequence[Share], *, share: bool = True) -> str:
    most = max((one.sums.cost_nanousd for one in shares), default=0) or 1
    rows = []
    for one in shares[:MOST_ROWS]:
        sums = one.sums
        length = max(sums.cost_nanousd, 0) / most * 100
        of_all = f" · {percent(one.share)}" if share else ""
        unpriced = f" · {sums.unpriced:,} without a price" if sums.unpriced else ""
        detail = (
            f"{sums.requests:,} requests · {tokens(sums.input_tokens)} in ({tokens(sums.cached_tokens)} cached) · "
            f"{tokens(sums.output_tokens)} out{unpriced}"
        )
        rows.append(
            f"{_line(one.name, usd(sums.cost_nanousd) + of_all)}{_bar(length)}<small>{escape(detail)}</small></li>"
        )
    more = f"<p>and {len(shares) - MOST_ROWS} more</p>" if len(shares) > MOST_ROWS else ""
    return f'<ul class="bars">{"".join(rows)}</ul>{more}'


def _line(name: str, said: str) -> str:
    return f'<li><div class="name"><b>{escape(name)}</b><span>{escape(said)}</span></div>'


def _bar(length: float) -> str:
    return (
        '<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="track" width="100" height="1"/><rect width="{length:.2f}" height="1"/></svg>'
    )


def _simple(report: Report) -> str:
    simple = report.simple
    if simple is None or not simple.requests:
        return ""
    text = (
        f"{percent(simple.share)} of the {simple.requests:,} requests of simple classes (questions and answers, "
        f"conversation, translation, summaries) went to expensive models"
    )
    if simple.models:
        text += f" ({', '.join(simple.models[:4])}), for {usd(simple.on_expensive_nanousd)}"
    return f'<p class="finding">{escape(text)}.</p>'


def _speeds(speeds: Sequence[Speed]) -> str:
    rows = []
    for speed in speeds[:MOST_ROWS]:
        cells = []
        for part in (speed.latency, speed.first_token):
            three = ("–", "–", "–") if part is None else (ms(part.p50_ms), ms(part.p95_ms), ms(part.p99_ms))
            cells += [f"<td>{value}</td>" for value in three]
        rows.append(f"<tr><th scope=row>{escape(speed.name)}</th>{''.join(cells)}</tr>")
    return (
        '<div class="scroll"><table><thead><tr><th rowspan=2>model</th><th colspan=3>whole answer</th>'
        "<th colspan=3>first token</th></tr><tr><th>p50</th><th>p95</th><th>p99</th><th>p50</th><th>p95</th>"
        f"<th>p99</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _saving(found: WhatIf) -> list[str]:
    inside = [f'<p class="finding">{escape(found.verdict)}.</p>']
    if found.basis == "requests" and len(found.scenarios) > 1:
        inside.append(_scenarios(found.scenarios))
        if found.answer_length is not None:
            ends = between(found.answer_length)
            text = f"If the other models' answers are half as long, or half as long again, Auto saves {ends}."
            inside.append(f"<p>{escape(text)}</p>")
        if found.moved:
            lines = [
                f"{one.task_type}: {one.requests:,} requests from {one.model} to {one.to}, "
                f"{usd(abs(one.saving_nanousd))} {'less' if one.saving_nanousd >= 0 else 'more'}"
                for one in found.moved
            ]
            inside.append(f"<details><summary>What would move</summary>{_list(lines)}</details>")
        left = [f"{count:,} {reason}" for reason, count in found.left_out.items()]
        text = f"{found.compared:,} requests compared, a sample of {found.total:,}"
        text += f"; left out: {', '.join(left)}" if left else ""
        inside.append(f"<p><small>{escape(text)}.</small></p>")
    if found.elsewhere:
        rows = "".join(
            f"<tr><th scope=row>{escape(one.model)}</th><td>{usd(one.cost_nanousd)}</td>"
            f"<td>{percent(one.saving)}</td></tr>"
            for one in found.elsewhere
        )
        inside.append(
            '<div class="scroll"><table><thead><tr><th>model</th><th>all tokens there</th><th>less than today</th></tr>'
            f"</thead><tbody>{rows}</tbody></table></div>"
        )
    if found.limits:
        inside.append(f"<p>Where the data do not allow it:</p>{_list(found.limits)}")
    if found.assumptions:
        inside.append(f"<details><summary>Assumptions</summary>{_list(found.assumptions)}</details>")
    return [_section("What routing would save", "\n".join(inside))]


def _scenarios(scenarios: Sequence[Scenario]) -> str:
    """A dot with its interval for each, on one scale."""
    ends = [end for one in scenarios if one.interval is not None for end in (one.interval.low, one.interval.high)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    low = max(low, -1.0)
    span = (high - low) or 1.0

    def at(value: float) -> float:
        return 2 + 96 * (min(max(value, low), high) - low) / span

    rows = []
    for one in scenarios:
        if one.interval is None:
            plot, said = "", f"{usd(one.cost_nanousd)}"
        else:
            left, right = at(one.interval.low), at(one.interval.high)
            plot = (
                '<svg class="interval" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
                '<rect class="rail" y="4.6" width="100" height="0.8"/>'
                f'<rect class="zero" x="{at(0.0):.2f}" width="0.4" height="10"/>'
                f'<rect class="range" x="{left:.2f}" y="3.5" width="{max(right - left, 0.4):.2f}" height="3"/>'
                f'<rect x="{at(one.saving) - 0.5:.2f}" y="1" width="1" height="8"/></svg>'
            )
            said = f"{percent(one.saving)} ({between(one.interval)}), {usd(one.cost_nanousd)}"
        quality = "" if one.quality is None else f"expected quality {one.quality:.2f}"
        below = "" if one.below_bar is None else f", {percent(one.below_bar)} of requests under the bar of their class"
        rows.append(f"{_line(called(one), said)}{plot}<small>{escape(quality + below)}</small></li>")
    return f'<ul class="bars">{"".join(rows)}</ul>'
