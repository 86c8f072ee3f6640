"""When a budget's period begins and ends: UTC, whatever the machine's zone."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from msgspec import Struct

from llmwise.domain.access import Period

DAY_MS = 86_400_000


class Span(Struct, frozen=True, gc=False):
    """From `start_ms` on and before `end_ms` (Unix time); a span without an end has `None`."""

    start_ms: int
    end_ms: int | None


EVER = Span(0, None)


def span(period: Period, unix_ms: int) -> Span:
    """The period that `unix_ms` lies in.

    >>> span("week", 1_795_000_000_000)
    Span(start_ms=1794787200000, end_ms=1795392000000)
    """
    return EVER if period == "total" else _span(period, unix_ms // DAY_MS)


@lru_cache(maxsize=64)
def _span(period: Period, day: int) -> Span:
    """All of a day's moments share their periods, so that a request costs a look into a table."""
    date = datetime.fromtimestamp(day * 86_400, UTC)
    match period:
        case "day":
            first, after = date, date + timedelta(days=1)
        case "week":
            first = date - timedelta(days=date.weekday())
            after = first + timedelta(days=7)
        case _:
            first = date.replace(day=1)
            after = (first + timedelta(days=32)).replace(day=1)
    return Span(int(first.timestamp()) * 1000, int(after.timestamp()) * 1000)
