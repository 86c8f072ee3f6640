"""Days that are over, summed up once: so that a report on ten million records reads some dozen rows.

A day is closed when the one after it is over too, and then summed up for each key and for everybody (`''`), in one
transaction. A record that comes late (from a spool) takes its day's sums away in the transaction that adds it
(`ledger.insert`), and the day is closed anew: sums and records always agree, and `usage.summary` may take either.
"""

import msgspec
from sqlalchemy import Connection, func, insert, select

from llmwise.storage import sums
from llmwise.storage.sums import Sums
from llmwise.storage.tables import days, requests

DAY_MS = 86_400_000
EVERYBODY = ""
MOST_DAYS = 400
"""What lies further back is summed up by nobody: no report asks for it."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Sums).decode


def close_a_day(connection: Connection, today: int) -> int | None:
    """Sum up the oldest day (since 1970) that is over for good and is not summed up yet; `None`: there is none."""
    oldest = connection.execute(select(func.min(requests.c.created_at_ms))).scalar_one()
    if oldest is None:
        return None
    closed = {day for (day,) in connection.execute(select(days.c.day).distinct())}
    for day in range(max(oldest // DAY_MS, today - MOST_DAYS), today - 1):
        if day not in closed:
            _close(connection, day)
            return day
    return None


def closed_days(connection: Connection, key_id: str | None, since_ms: int) -> dict[int, Sums]:
    """The closed days that lie whole in the window since `since_ms`, of a key or of everybody."""
    first = -(-since_ms // DAY_MS)
    wanted = (EVERYBODY,) if key_id is None else (EVERYBODY, key_id)
    rows = connection.execute(
        select(days.c.day, days.c.key_id, days.c.sums).where(days.c.day >= first, days.c.key_id.in_(wanted))
    )
    found: dict[int, Sums] = {}
    for day, of_key, text in rows:
        if of_key == (key_id or EVERYBODY):
            found[day] = _decode(text)
        elif key_id is not None:
            found.setdefault(day, Sums())  # closed, and the key has no requests in it
    return found


def _close(connection: Connection, day: int) -> None:
    by_key = sums.by_key(connection, day * DAY_MS, (day + 1) * DAY_MS)
    everybody = Sums()
    for of_key in by_key.values():
        everybody.add(of_key)
    rows = [(EVERYBODY, everybody), *by_key.items()]
    connection.execute(
        insert(days), [{"day": day, "key_id": key, "sums": _encode(value).decode()} for key, value in rows]
    )
