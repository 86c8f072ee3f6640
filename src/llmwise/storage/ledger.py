"""Requests and attempts: written once, read back as the records that they were.

The insert is the only statement that every request pays for. It is written once, and tuples go to the driver: not
with `executemany`, but 64 rows a statement. A statement a row gives up and takes back the interpreter's lock at
every row, and with a busy event loop in the other thread each return is a wait: 512 requests took 70 to 365 ms that way
and 29 to 89 ms this way (two cores, loop saturated), beside a tenth less CPU.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import ColumnElement, Connection, Table, case, delete, func, literal_column, null, or_, select

from llmwise.domain.records import AttemptRecord, LedgerEntry, Mode, RequestRecord
from llmwise.storage import lone, postgres
from llmwise.storage.lone import NOT_FOLDED, Folded
from llmwise.storage.rows import SettledRequest
from llmwise.storage.tables import LONE, attempts, days, hours, ledger, requests

HOUR_MS = 3_600_000

_ROWS_A_STATEMENT = (64, 8, 1)

COUNTED = 10_000
SEARCHED = 20_000
LOOKED_IN = ("id", "requested_model", "model", "prompt", "answer")

_LATER = ("insight", "byok")
_OWN = len(RequestRecord.__struct_fields__) - len(_LATER)
_LONE = slice(_OWN, _OWN + len(LONE))
_RECORD = (*tuple(requests.c)[:_OWN], *(requests.c[name] for name in _LATER))
"""The columns of a `RequestRecord`: those that came later stand behind those of its only attempt."""

_is_id = re.compile(r"req_[0-9a-f]{32}").fullmatch

_ID_LEADS_MS = 60_000
"""Between the making of an id and its request's time lies the reading of the body, which is bounded
(`[server] body_read_s`); clocks that are set back may add to it."""


def insert(
    connection: Connection,
    settled: Sequence[RequestRecord],
    settled_attempts: Sequence[AttemptRecord],
    settled_entries: Sequence[LedgerEntry] = (),
) -> None:
    """Add what is not there yet. A row that is there is left as it is, so that a replay changes nothing."""
    alone = {record.id: record for record in settled if record.attempts == 1}
    folded: dict[str, Folded] = {}
    rows: list[tuple[Any, ...]] = []
    for attempt in settled_attempts:
        of = alone.get(attempt.request_id)
        fold = None if of is None else lone.fold(of, attempt)
        if fold is None:
            rows.append(astuple(attempt))
        else:
            folded[attempt.request_id] = fold
    _insert_rows(connection, requests, [_row(of, folded.get(of.id, NOT_FOLDED)) for of in settled])
    _insert_rows(connection, attempts, rows)
    _insert_rows(connection, ledger, [astuple(entry) for entry in settled_entries])
    if settled:
        postgres.add(connection)
        touched = {of.created_at_ms // HOUR_MS for of in settled}  # whose sums are true no longer: see `rollup`
        connection.execute(delete(hours).where(hours.c.hour.in_(sorted(touched))))
        connection.execute(delete(days).where(days.c.day.in_(sorted({hour // 24 for hour in touched}))))


def _record(row: Any) -> RequestRecord:
    values = (*row[:_OWN], *row[_LONE.stop :])
    return RequestRecord(*values)


def _row(record: RequestRecord, folded: Folded | tuple[None, ...]) -> tuple[Any, ...]:
    own = astuple(record)
    return (*own[:_OWN], *folded, *own[_OWN:])


def request(connection: Connection, request_id: str) -> SettledRequest | None:
    row = connection.execute(select(requests).where(requests.c.id == request_id)).one_or_none()
    if row is None:
        return None
    found = _record(row)
    if row.outcome is not None:
        return SettledRequest(found, (lone.unfold(found, row[_LONE]),))
    of_it = select(attempts).where(attempts.c.request_id == request_id).order_by(attempts.c.number)
    return SettledRequest(found, tuple(AttemptRecord(*attempt) for attempt in connection.execute(of_it)))


def entries(connection: Connection, account_id: str, *, limit: int, offset: int = 0) -> tuple[LedgerEntry, ...]:
    """One page of an account's entries, newest first."""
    newest = (ledger.c.created_at_ms.desc(), ledger.c.id.desc())
    page = select(ledger).where(ledger.c.account_id == account_id).order_by(*newest).limit(limit).offset(offset)
    return tuple(LedgerEntry(*row) for row in connection.execute(page))


def charged(connection: Connection, ids: Sequence[str]) -> dict[str, int]:
    """What the requests' callers were charged, in nano-USD; one that was charged nothing may be absent."""
    wanted = [f"{id}/settle" for id in ids]
    rows = connection.execute(select(ledger.c.request_id, ledger.c.amount_nanousd).where(ledger.c.id.in_(wanted)))
    return {id: -amount for id, amount in rows}


def history(
    connection: Connection,
    key_id: str | None,
    *,
    limit: int = 20,
    offset: int = 0,
    mode: Mode | None = None,
    search: str | None = None,
    passed: tuple[int, int] | None = None,
) -> tuple[int, tuple[RequestRecord, ...]]:
    """How many requests match, and one page of them, newest first. `key_id` `None` means everybody's.

    They are counted up to `COUNTED` beyond the page's beginning: that many means "or more". `search` is text that the
    id, the requested or the answering model, the prompt or the answer contains; `%` and `_` mean themselves; letters
    match in either case (on SQLite those of ASCII only). It is looked for in the newest `SEARCHED` requests; a whole id
    is found however old its request is. `passed`: so many of them are from that time (Unix ms) on, and need not be
    walked over (`rollup.history`).
    """
    conditions = [*_of_key(key_id), *_of_mode(mode)]
    if search and not _is_id(search):
        found = _search(connection, conditions, key_id, search)
        return len(found), _records(connection, found[offset : offset + limit], _RECORD)
    if search:
        conditions.append(requests.c.id == search)
    skipped = 0
    if passed is not None:
        skipped, until_ms = passed
        r = requests.c
        conditions += window_between(r.id, r.key_id, r.created_at_ms, key_id, 0, until_ms)
    total, found = _counted(connection, conditions, key_id, limit, offset - skipped)
    return skipped + total, _records(connection, found, _RECORD)


def is_exact(total: int, offset: int, search: str | None) -> bool:
    """Whether `history` has counted all that there are."""
    return total < offset + COUNTED and (not search or bool(_is_id(search)))


def records(
    connection: Connection, *conditions: ColumnElement[bool], limit: int, offset: int = 0
) -> tuple[RequestRecord, ...]:
    """One page of the requests that meet the conditions, newest first."""
    newest = (requests.c.created_at_ms.desc(), requests.c.id.desc())
    page = select(*_RECORD).where(*conditions).order_by(*newest).limit(limit).offset(offset)
    return tuple(RequestRecord(*row) for row in connection.execute(page))


def recent(
    connection: Connection, key_id: str | None, since_ms: int, *, limit: int, offset: int, mode: Mode | None
) -> tuple[RequestRecord, ...]:
    """One page of the requests since `since_ms`, newest first; `prompt` and `answer` are not read and `None`."""
    columns = [null() if column.name in ("prompt", "answer") else column for column in _RECORD]
    return _page(connection, [*window(key_id, since_ms), *_of_mode(mode)], key_id, limit, offset, columns)


def records_between(
    connection: Connection, since_ms: int, until_ms: int, limit: int, *, texts: bool, key_id: str | None = None
) -> list[tuple[RequestRecord, Folded | None]]:
    """The newest `limit` single answers in the window, newest first, each with its only attempt folded (`None`: its
    attempts are in `attempts`). Without `texts` the answer is not read, nor the question of a typed request."""
    r = requests.c
    in_window = window_between(r.id, r.key_id, r.created_at_ms, key_id, since_ms, until_ms)
    columns: list[Any] = [*requests.c]
    if not texts:
        blank = {"answer": null(), "prompt": case((r.task_type.is_(None), r.prompt), else_=null())}
        columns = [blank[c.name].label(c.name) if c.name in blank else c for c in columns]
    wanted = select(*columns).where(*in_window, r.mode == "chat")
    rows = connection.execute(wanted.order_by(r.created_at_ms.desc(), r.id.desc()).limit(limit))
    found = []
    for row in rows:
        folded = row[_LONE]
        found.append(
            (
                _record(row),
                None if row.outcome is None else tuple(folded),
            )
        )
    return found


def _insert_rows(connection: Connection, table: Table, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    cursor = connection.connection.cursor()
    try:
        if connection.dialect.name == "postgresql":
            postgres.copy(cursor, table, rows)
            return
        start = 0
        for size in _ROWS_A_STATEMENT:
            statement = _insert_statement(table, size)
            while len(rows) - start >= size:
                cursor.execute(statement, tuple(chain.from_iterable(rows[start : start + size])))
                start += size
    finally:
        cursor.close()


@lru_cache(maxsize=32)
def _insert_statement(table: Table, rows: int) -> str:
    # Every column is named in the table's order, which is the order of the record's fields: so is the parameters'.
    values = ", ".join([f"({', '.join('?' * len(table.c))})"] * rows)
    return f"INSERT INTO {table.name} ({', '.join(table.c.keys())}) VALUES {values} ON CONFLICT DO NOTHING"


def _of_key(key_id: str | None) -> list[ColumnElement[bool]]:
    return [] if key_id is None else [requests.c.key_id == key_id]


def window(key_id: str | None, since_ms: int) -> list[ColumnElement[bool]]:
    """The conditions for the requests since a time; of everybody's with `None`, found by their ids: an id is made
    before its request is, and less than `_ID_LEADS_MS` before."""
    return window_between(requests.c.id, requests.c.key_id, requests.c.created_at_ms, key_id, since_ms, None)


def window_between(
    id: ColumnElement[Any],
    of_key: ColumnElement[Any],
    at: ColumnElement[Any],
    key_id: str | None,
    since_ms: int,
    until_ms: int | None,
) -> list[ColumnElement[bool]]:
    """`window`, with an end that is not in it, and with the request's id, key and time under other names."""
    found = [at >= since_ms]
    if key_id is not None:
        found.append(of_key == key_id)
    else:
        found.append(id >= f"req_{max(since_ms - _ID_LEADS_MS, 0):012x}")
    if until_ms is not None:
        found.append(at < until_ms)
        if key_id is None:
            found.append(id < f"req_{max(until_ms + _ID_LEADS_MS, 0):012x}")
    return found


def _of_mode(mode: Mode | None) -> list[ColumnElement[bool]]:
    if mode is None:
        return []
    # Said in the statement itself, so that the index of the rare modes is known to do.
    rare = [] if mode == "chat" else [requests.c.mode != literal_column("'chat'")]
    return [requests.c.mode == mode, *rare]


def _newest(id: ColumnElement[Any], at: ColumnElement[Any], key_id: str | None) -> tuple[ColumnElement[Any], ...]:
    """Each order is an index's: for everybody's requests that of the ids, which begin with the time."""
    return (id.desc(),) if key_id is None else (at.desc(), id.desc())


def _page(
    connection: Connection,
    conditions: list[ColumnElement[bool]],
    key_id: str | None,
    limit: int,
    offset: int,
    columns: Sequence[ColumnElement[Any]],
) -> tuple[RequestRecord, ...]:
    # First the ids, so that of what is skipped the index alone is read.
    r = requests.c
    page = select(r.id, r.created_at_ms).where(*conditions).order_by(*_newest(r.id, r.created_at_ms, key_id))
    found = [(id, at) for id, at in connection.execute(page.limit(limit).offset(offset))]
    return _records(connection, found, columns)


def _counted(
    connection: Connection, conditions: list[ColumnElement[bool]], key_id: str | None, limit: int, offset: int
) -> tuple[int, list[tuple[str, int]]]:
    """How many there are, up to `COUNTED` beyond `offset`, and the ids and times of the page there: one walk along the
    index for both."""
    r = requests.c
    ahead = select(r.id, r.created_at_ms).where(*conditions).order_by(*_newest(r.id, r.created_at_ms, key_id))
    one = ahead.limit(COUNTED).offset(offset).subquery().c
    page = select(one.id, one.created_at_ms, func.count().over()).order_by(*_newest(one.id, one.created_at_ms, key_id))
    rows = connection.execute(page.limit(limit)).all()
    if rows or not offset:
        return (offset + rows[0][2] if rows else 0), [(id, at) for id, at, _ in rows]
    fewer = select(r.id).where(*conditions).limit(offset).subquery()
    return connection.execute(select(func.count()).select_from(fewer)).scalar_one(), []


def _search(
    connection: Connection, conditions: list[ColumnElement[bool]], key_id: str | None, text: str
) -> list[tuple[str, int]]:
    """Ids and times, newest first."""
    r = requests.c
    columns = (*(r[name] for name in LOOKED_IN), r.created_at_ms)
    newest = select(*columns).where(*conditions).order_by(*_newest(r.id, r.created_at_ms, key_id)).limit(SEARCHED)
    one = newest.subquery().c
    holds = or_(*(one[name].icontains(text, autoescape=True) for name in LOOKED_IN))
    found = select(one.id, one.created_at_ms).where(holds).order_by(*_newest(one.id, one.created_at_ms, key_id))
    return [(id, at) for id, at in connection.execute(found)]


def _records(
    connection: Connection, found: Sequence[tuple[str, int]], columns: Sequence[ColumnElement[Any]]
) -> tuple[RequestRecord, ...]:
    """In the order of their ids given."""
    if not found:
        return ()
    ids, times = zip(*found, strict=True)
    # The times leave out the partitions that can't have them.
    of_them = (requests.c.id.in_(ids), requests.c.created_at_ms.between(min(times), max(times)))
    rows = {row[0]: RequestRecord(*row) for row in connection.execute(select(*columns).where(*of_them))}
    return tuple(rows[id] for id in ids if id in rows)
