"""Sums over requests that can be added to one another: of an hour, of a day, of a window."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field
from sqlalchemy import BigInteger, ColumnElement, Connection, case, func, literal_column, select

from llmwise.storage.ledger import window_between
from llmwise.storage.lone import every_attempt
from llmwise.storage.tables import ledger, requests

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
TALLIED = 9
FAILED = ("provider_error", "rejected", "cut", "timeout")
"""The outcomes of an attempt that count as its error: not `client_gone`, which is the caller's doing."""


class Sums(Struct):
    """`cells`: (day, task type) to the fields of `Tally`; `models`: (model, provider) to those of `ModelUsage`, with
    the sum and the number of latencies in place of their mean; `latency` and `ttft`: milliseconds to how often. Lists
    of pairs, since JSON has no other keys than text. `charged` is what the ledger charged for them, in nano-USD; `None`
    in what was summed up before that was counted, and then it is what they cost."""

    cells: list[tuple[int, str | None, list[int]]] = field(default_factory=list)
    models: list[tuple[str, str, list[int]]] = field(default_factory=list)
    latency: list[tuple[int, int]] = field(default_factory=list)
    ttft: list[tuple[int, int]] = field(default_factory=list)
    charged: int | None = None


def merged(parts: Iterable[Sums]) -> Sums:
    """Of all of them together."""
    cells: dict[tuple[Any, Any], list[int]] = {}
    models: dict[tuple[Any, Any], list[int]] = {}
    latency: dict[int, int] = {}
    ttft: dict[int, int] = {}
    charged = 0
    for part in parts:
        charged += sum(tally[_COST] for _, _, tally in part.cells) if part.charged is None else part.charged
        for found, rows in ((cells, part.cells), (models, part.models)):
            for a, b, values in rows:
                there = found.get((a, b))
                found[a, b] = values if there is None else [x + y for x, y in zip(there, values, strict=True)]
        for counts, histogram in ((latency, part.latency), (ttft, part.ttft)):
            for value, count in histogram:
                counts[value] = counts.get(value, 0) + count
    return Sums(
        [(a, b, values) for (a, b), values in cells.items()],
        [(a, b, values) for (a, b), values in models.items()],
        [*latency.items()],
        [*ttft.items()],
        charged,
    )


def between(connection: Connection, key_id: str | None, since_ms: int, until_ms: int | None) -> Sums:
    """Over the requests of a key, or of everybody, from `since_ms` on and before `until_ms`."""
    return _sums(connection, key_id, since_ms, until_ms, apart=False).get((), Sums())


def by_hour(connection: Connection, since_ms: int, until_ms: int) -> dict[tuple[int, str], Sums]:
    """The same, of each hour (since 1970) and each key that has any in it."""
    return _sums(connection, None, since_ms, until_ms, apart=True)


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


def _count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


_TALLY = (
    func.count(),
    _count_if(requests.c.status >= 400),
    _sum(requests.c.input_tokens),
    _sum(requests.c.cache_read_tokens),
    _sum(requests.c.cache_write_tokens),
    _sum(requests.c.output_tokens),
    _sum(requests.c.reasoning_tokens),
    _sum(requests.c.cost_nanousd),
    _count_if(requests.c.cost_nanousd.is_(None)),
)
"""The fields of `Tally`, in their order."""
_COST = 7


def _each(column: ColumnElement[Any], ms: int) -> ColumnElement[int]:
    # Literal: two parameters, one here and one in GROUP BY, would be two expressions to PostgreSQL.
    return column // literal_column(str(ms), BigInteger)


def _sums(
    connection: Connection, key_id: str | None, since_ms: int, until_ms: int | None, *, apart: bool
) -> dict[Any, Sums]:
    """By `()`, or with `apart` by hour and key."""
    r, a = requests.c, every_attempt.c
    window = window_between(r.id, r.key_id, r.created_at_ms, key_id, since_ms, until_ms)
    of: defaultdict[Any, Sums] = defaultdict(lambda: Sums(charged=0))
    groups: list[ColumnElement[Any]] = [_each(r.created_at_ms, HOUR_MS), r.key_id] if apart else []
    n = len(groups)
    cell = (*groups, _each(r.created_at_ms, DAY_MS), r.task_type)
    for row in connection.execute(select(*cell, *_TALLY).where(*window).group_by(*cell)):
        # int(): PostgreSQL adds 64-bit integers up to a decimal.
        of[tuple(row[:n])].cells.append((int(row[n]), row[n + 1], [*map(int, row[n + 2 :])]))
    for name in ("latency", "ttft"):
        column = r[f"{name}_ms"]
        histogram = select(*groups, column, func.count()).where(*window, column.is_not(None), r.status < 400)
        for row in connection.execute(histogram.group_by(*groups, column)):
            getattr(of[tuple(row[:n])], name).append((row[n], row[n + 1]))
    done = case((a.outcome == "complete", a.latency_ms))
    groups = [_each(a.created_at_ms, HOUR_MS), a.key_id] if apart else []
    model = (*groups, a.model, a.provider)
    columns = (
        func.count(),
        _count_if(a.outcome.in_(FAILED)),
        _sum(a.input_tokens),
        _sum(a.cache_read_tokens),
        _sum(a.cache_write_tokens),
        _sum(a.output_tokens),
        _sum(a.reasoning_tokens),
        _sum(a.cost_nanousd),
        _count_if(a.cost_nanousd.is_(None)),
        _sum(done),
        func.count(done),
    )
    window = window_between(a.request_id, a.key_id, a.created_at_ms, key_id, since_ms, until_ms)
    rows = connection.execute(select(*model, *columns).where(*window, a.outcome != "skipped").group_by(*model))
    for row in rows:
        of[tuple(row[:n])].models.append((row[n], row[n + 1], [*map(int, row[n + 2 :])]))
    e = ledger.c
    groups = [_each(e.created_at_ms, HOUR_MS), e.key_id] if apart else []
    # Everybody's window, also for a key: an entry's id begins with its request's, and no index knows its key.
    window = window_between(e.id, e.key_id, e.created_at_ms, None, since_ms, until_ms)
    window += [e.kind == "settle", *([] if key_id is None else [e.key_id == key_id])]
    for row in connection.execute(select(*groups, _sum(e.amount_nanousd)).where(*window).group_by(*groups)):
        of[tuple(row[:n])].charged = -int(row[n])
    return of
