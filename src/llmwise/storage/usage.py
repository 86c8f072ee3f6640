"""What was used, from the sums over it. An unknown cost is counted apart and never added as zero.

The sums of days and hours that are closed are read (`rollup`), those of the rest of the window are made (`sums`).
"""

from collections.abc import Iterable, Mapping
from datetime import date
from fractions import Fraction
from typing import TypeVar

from sqlalchemy import Connection

from llmwise.storage import rollup, sums
from llmwise.storage.rows import DayUsage, ModelUsage, Quantiles, Tally, TaskUsage, UsageSummary
from llmwise.storage.sums import DAY_MS, HOUR_MS, Sums

K = TypeVar("K")


def summary(connection: Connection, key_id: str | None, since_ms: int) -> UsageSummary:
    """All requests created at or after `since_ms` of one key, or of all with `None`."""
    found = _sums(connection, key_id, since_ms)
    # Total, days and types are sums of the same cells, so that the three always agree.
    cells = [(_iso_day(day), task_type, Tally(*tally)) for day, task_type, tally in found.cells]
    return UsageSummary(
        since_ms=since_ms,
        total=sum((tally for _, _, tally in cells), Tally.zero()),
        charged_nanousd=found.charged or 0,
        latency=_quantiles(found.latency),
        ttft=_quantiles(found.ttft),
        by_model=_by_model(found),
        by_day=_by_day(cells),
        by_task_type=_by_task_type(cells),
    )


def _sums(connection: Connection, key_id: str | None, since_ms: int) -> Sums:
    days = rollup.closed_days(connection, key_id, since_ms)
    closed = {day * DAY_MS: (DAY_MS, found) for day, found in days.items()}
    hours = rollup.closed_hours(connection, key_id, _between(closed, since_ms))
    closed |= {hour * HOUR_MS: (HOUR_MS, found) for hour, found in hours.items()}
    rest = [sums.between(connection, key_id, *window) for window in _between(closed, since_ms)]
    return sums.merged([*(found for _, found in closed.values()), *rest])


def _between(closed: Mapping[int, tuple[int, Sums]], since_ms: int) -> list[tuple[int, int | None]]:
    """The windows that are left between spans (their beginnings to their lengths, in ms); the last has no end."""
    left: list[tuple[int, int | None]] = []
    start_ms = since_ms
    for at_ms in sorted(closed):
        if start_ms < at_ms:
            left.append((start_ms, at_ms))
        start_ms = at_ms + closed[at_ms][0]
    return [*left, (start_ms, None)]


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


def _by_model(found: Sums) -> tuple[ModelUsage, ...]:
    models = [
        ModelUsage(model, provider, *values[:9], _mean(*values[9:]))  # type: ignore[call-arg]  # nine sums, then two
        for model, provider, values in found.models
    ]
    return tuple(sorted(models, key=lambda u: (-u.cost_nanousd, -u.attempts, u.model, u.provider)))


def _mean(total: int, count: int) -> int | None:
    return round(Fraction(total, count)) if count else None


def _quantiles(histogram: list[tuple[int, int]]) -> Quantiles:
    """Exact: latencies are whole milliseconds, so that a million requests have some thousand values."""
    counts = sorted(histogram)
    return Quantiles(_nearest_rank(counts, 50), _nearest_rank(counts, 95))


def _nearest_rank(counts: list[tuple[int, int]], percent: int) -> int | None:
    total = sum(count for _, count in counts)
    rank = -(-total * percent // 100)  # rounded up
    for value, count in counts:
        rank -= count
        if rank <= 0:
            return value
    return None
