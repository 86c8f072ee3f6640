"""Sums over what was settled. An unknown cost is counted apart and never added as zero."""

from collections.abc import Iterable
from datetime import date
from typing import Any, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Connection, case, func, literal_column, select

from llmwise.storage.rows import DayUsage, ModelUsage, Quantiles, Tally, TaskUsage, UsageSummary
from llmwise.storage.tables import attempts, requests

K = TypeVar("K")

DAY_MS = 86_400_000

_FAILED = ("provider_error", "rejected", "cut", "timeout")
"""The outcomes of an attempt that count as its error: not `client_gone`, which is the caller's doing."""


def summary(connection: Connection, key_id: str | None, since_ms: int) -> UsageSummary:
    """All requests created at or after `since_ms` of one key, or of all with `None`."""
    window = [requests.c.created_at_ms >= since_ms]
    if key_id is not None:
        window.append(requests.c.key_id == key_id)
    cells = _cells(connection, window)
    return UsageSummary(
        since_ms=since_ms,
        total=sum((tally for _, _, tally in cells), Tally.zero()),
        latency=_quantiles(connection, requests.c.latency_ms, window),
        ttft=_quantiles(connection, requests.c.ttft_ms, window),
        by_model=_by_model(connection, window),
        by_day=_by_day(cells),
        by_task_type=_by_task_type(cells),
    )


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


def _count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


_TALLY: tuple[ColumnElement[int], ...] = (
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


def _cells(connection: Connection, window: list[ColumnElement[bool]]) -> list[tuple[str, str | None, Tally]]:
    """One tally for each day and task type: total, days and types are sums of these, so that the requests are read
    once and the three always agree."""
    # Literal: two parameters, one here and one in GROUP BY, would be two expressions to PostgreSQL.
    day = requests.c.created_at_ms // literal_column(str(DAY_MS), BigInteger)
    by = (day, requests.c.task_type)
    rows = connection.execute(select(*by, *_TALLY).where(*window).group_by(*by))
    # int(): PostgreSQL adds 64-bit integers up to a decimal.
    return [(_iso_day(int(days)), task_type, Tally(*map(int, sums))) for days, task_type, *sums in rows]


def _iso_day(days_since_1970: int) -> str:
    return date.fromordinal(date(1970, 1, 1).toordinal() + days_since_1970).isoformat()


def _rolled_up(cells: Iterable[tuple[K, Tally]]) -> dict[K, Tally]:
    sums: dict[K, Tally] = {}
    for key, tally in cells:
        sums[key] = sums.get(key, Tally.zero()) + tally
    return sums


def _by_day(cells: list[tuple[str, str | None, Tally]]) -> tuple[DayUsage, ...]:
    days = _rolled_up((day, tally) for day, _, tally in cells)
    return tuple(DayUsage(day, days[day]) for day in sorted(days))


def _by_task_type(cells: list[tuple[str, str | None, Tally]]) -> tuple[TaskUsage, ...]:
    types = _rolled_up((task_type, tally) for _, task_type, tally in cells)
    found = (TaskUsage(task_type, tally) for task_type, tally in types.items())
    return tuple(sorted(found, key=lambda u: (-u.tally.cost_nanousd, -u.tally.requests, u.task_type or "")))


def _whole(value: Any) -> Any:
    return None if value is None else round(value)


def _by_model(connection: Connection, window: list[ColumnElement[bool]]) -> tuple[ModelUsage, ...]:
    done = case((attempts.c.outcome == "complete", attempts.c.latency_ms))
    rows = connection.execute(
        select(
            attempts.c.model,
            attempts.c.provider,
            func.count(),
            _count_if(attempts.c.outcome.in_(_FAILED)),
            _sum(attempts.c.input_tokens),
            _sum(attempts.c.cache_read_tokens),
            _sum(attempts.c.cache_write_tokens),
            _sum(attempts.c.output_tokens),
            _sum(attempts.c.reasoning_tokens),
            _sum(attempts.c.cost_nanousd),
            _count_if(attempts.c.cost_nanousd.is_(None)),
            func.avg(done),
        )
        .join_from(requests, attempts, attempts.c.request_id == requests.c.id)
        .where(*window, attempts.c.outcome != "skipped")
        .group_by(attempts.c.model, attempts.c.provider)
    )
    found = (ModelUsage(model, provider, *map(_whole, sums)) for model, provider, *sums in rows)
    return tuple(sorted(found, key=lambda u: (-u.cost_nanousd, -u.attempts, u.model, u.provider)))


def _quantiles(connection: Connection, column: ColumnElement[int], window: list[ColumnElement[bool]]) -> Quantiles:
    """Exact, from a histogram: latencies are whole milliseconds, so that the database groups a million requests into
    some thousand values. (SQLite has no percentile function.)"""
    histogram = (
        select(column, func.count())
        .where(*window, column.is_not(None), requests.c.status < 400)
        .group_by(column)
        .order_by(column)
    )
    counts = [(value, count) for value, count in connection.execute(histogram)]
    return Quantiles(_nearest_rank(counts, 50), _nearest_rank(counts, 95))


def _nearest_rank(counts: list[tuple[int, int]], percent: int) -> int | None:
    total = sum(count for _, count in counts)
    rank = -(-total * percent // 100)  # rounded up
    for value, count in counts:
        rank -= count
        if rank <= 0:
            return value
    return None
