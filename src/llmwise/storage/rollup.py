"""Hours and days that are over, summed up once: so that a report on ten million records reads some hundred rows, and at
most three hours of records.

An hour is closed when the one after it is over too, and then summed up for each key and for everybody (`''`); a day
when its hours are, from them. A record that comes late (from a spool) takes its hour's and its day's sums away in the
transaction that adds it (`ledger.insert`), and they are closed anew: sums and records always agree, and `usage.summary`
may take either. On PostgreSQL a lock keeps closing and adding apart, so that no record slips in between.
"""

from collections import defaultdict

import msgspec
from sqlalchemy import Column, Connection, case, func, insert, or_, select

from llmwise.domain.records import Mode, RequestRecord
from llmwise.storage import ledger, postgres, sums
from llmwise.storage.sums import DAY_MS, HOUR_MS, Sums
from llmwise.storage.tables import days, hours, requests

EVERYBODY = ""
MOST_DAYS = 400
"""What lies further back is summed up by nobody: no report asks for it."""

HOURS_AT_ONCE = 6
"""In one transaction: records wait while it runs."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Sums).decode


def close_a_day(connection: Connection, now_ms: int) -> int | None:
    """A step in the oldest day (since 1970) that is not summed up yet: some of its hours that are over for good, and
    the day itself after the last of them. `None`: nothing is left to do."""
    # The least id, and not the least time, which no index knows. Ids are made before their requests are.
    first_id = connection.execute(select(func.min(requests.c.id))).scalar_one()
    if first_id is None:
        return None
    postgres.keep_additions_out(connection)
    until_hour = now_ms // HOUR_MS - 1
    today = until_hour // 24
    oldest = max(_day_of(first_id), today - MOST_DAYS)
    closed = _closed(connection, days.c.day, oldest, today)
    for day in range(oldest, today + 1):
        if day not in closed and _close(connection, day, until_hour):
            return day
    return None


def closed_days(connection: Connection, key_id: str | None, since_ms: int) -> dict[int, Sums]:
    """The closed days that lie whole in the window since `since_ms`, of a key or of everybody."""
    return _read(connection, days.c.day, key_id, [(-(-since_ms // DAY_MS), None)])


def closed_hours(connection: Connection, key_id: str | None, windows: list[tuple[int, int | None]]) -> dict[int, Sums]:
    """The closed hours that lie whole in one of the windows: since a time and before another, or without an end."""
    spans = [(-(-since // HOUR_MS), None if until is None else until // HOUR_MS) for since, until in windows]
    return _read(connection, hours.c.hour, key_id, spans)


def history(
    connection: Connection, key_id: str | None, *, limit: int, offset: int, mode: Mode | None, search: str | None
) -> tuple[int, tuple[RequestRecord, ...]]:
    """As `ledger.history`; but of what lies before a deep page, whole days are counted by their sums, not walked."""
    deep = offset > ledger.COUNTED and mode is None and not search
    passed = _passed(connection, key_id, offset) if deep else None
    return ledger.history(connection, key_id, limit=limit, offset=offset, mode=mode, search=search, passed=passed)


def _passed(connection: Connection, key_id: str | None, offset: int) -> tuple[int, int] | None:
    """A time, and how many of the newest `offset` requests are from then on; `None`: only some of today's are."""
    closed = closed_days(connection, key_id, 0)
    if not closed:
        return None
    day = max(closed) + 1
    newer = select(requests.c.id).where(*ledger.window(key_id, day * DAY_MS)).limit(offset + 1).subquery()
    count: int = connection.execute(select(func.count()).select_from(newer)).scalar_one()
    if count > offset:
        return None
    while day - 1 in closed:
        of_day = sum(tally[0] for _, _, tally in closed[day - 1].cells)
        if count + of_day > offset:
            break
        count, day = count + of_day, day - 1
    return count, day * DAY_MS


def _close(connection: Connection, day: int, until_hour: int) -> bool:
    """Whether there was anything to do."""
    start, end = day * 24, day * 24 + 24
    there = _closed(connection, hours.c.hour, start, end - 1)
    missing = [hour for hour in range(start, min(end, until_hour)) if hour not in there][:HOURS_AT_ONCE]
    if missing:
        found = sums.by_hour(connection, missing[0] * HOUR_MS, (missing[-1] + 1) * HOUR_MS)
        for hour in missing:
            _write(connection, hours.c.hour, hour, {key: value for (of, key), value in found.items() if of == hour})
    elif len(there) == 24:
        by_key: defaultdict[str, list[Sums]] = defaultdict(list)
        of_day = select(hours.c.key_id, hours.c.sums).where(hours.c.hour.between(start, end - 1))
        for key_id, text in connection.execute(of_day.where(hours.c.key_id != EVERYBODY)):
            by_key[key_id].append(_decode(text))
        _write(connection, days.c.day, day, {key: sums.merged(parts) for key, parts in by_key.items()})
    else:
        return False
    return True


def _write(connection: Connection, number: Column[int], value: int, by_key: dict[str, Sums]) -> None:
    rows = [(EVERYBODY, sums.merged(by_key.values())), *by_key.items()]
    connection.execute(
        insert(number.table),
        [{number.name: value, "key_id": key, "sums": _encode(of_key).decode()} for key, of_key in rows],
    )


def _closed(connection: Connection, number: Column[int], first: int, last: int) -> set[int]:
    """What has been closed from `first` to `last`."""
    key_id = number.table.c.key_id
    return {*connection.scalars(select(number).where(key_id == EVERYBODY, number.between(first, last)))}


def _read(
    connection: Connection, number: Column[int], key_id: str | None, spans: list[tuple[int, int | None]]
) -> dict[int, Sums]:
    table = number.table
    of_key = table.c.key_id == (key_id or EVERYBODY)
    asked = of_key if key_id is None else of_key | (table.c.key_id == EVERYBODY)
    within = or_(*(number >= first if end is None else number.between(first, end - 1) for first, end in spans))
    found: dict[int, Sums] = {}
    for at, text in connection.execute(select(number, case((of_key, table.c.sums))).where(asked, within)):
        if text is not None:
            found[at] = _decode(text)
        else:
            found.setdefault(at, Sums())  # closed, and the key may have no requests in it
    return found


def _day_of(request_id: str) -> int:
    """Of the time that an id begins with (`domain.ids`)."""
    return int(request_id[4:16], 16) // DAY_MS
