"""Requests and attempts: written once, read back as the records that they were.

The insert is the only statement that every request pays for. Core compiles it once, and tuples go to the driver: not
with `executemany`, but 64 rows a statement. A statement a row gives up and takes back the interpreter's lock at
every row, and with a busy event loop in the other thread each return is a wait: 512 requests took 70 to 365 ms that way
and 29 to 89 ms this way (two cores, loop saturated), beside a tenth less CPU.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import ColumnElement, Connection, Dialect, Select, Table, func, null, or_, select
from sqlalchemy.dialects import sqlite

from llmwise.domain.records import AttemptRecord, Mode, RequestRecord
from llmwise.storage.rows import SettledRequest
from llmwise.storage.tables import attempts, requests

_ROWS_A_STATEMENT = (64, 8, 1)

_INSERTS = {"sqlite": sqlite.insert}  # a database is supported when it can ignore a row that is there already


def insert(connection: Connection, settled: Sequence[RequestRecord], settled_attempts: Sequence[AttemptRecord]) -> None:
    """Add what is not there yet. A row that is there is left as it is, so that a replay changes nothing."""
    _insert_rows(connection, requests, [astuple(record) for record in settled])
    _insert_rows(connection, attempts, [astuple(record) for record in settled_attempts])


def request(connection: Connection, request_id: str) -> SettledRequest | None:
    row = connection.execute(select(requests).where(requests.c.id == request_id)).one_or_none()
    if row is None:
        return None
    of_it = select(attempts).where(attempts.c.request_id == request_id).order_by(attempts.c.number)
    return SettledRequest(RequestRecord(*row), tuple(AttemptRecord(*attempt) for attempt in connection.execute(of_it)))


def history(
    connection: Connection,
    key_id: str | None,
    *,
    limit: int = 20,
    offset: int = 0,
    mode: Mode | None = None,
    search: str | None = None,
) -> tuple[int, tuple[RequestRecord, ...]]:
    """How many requests match, and one page of them, newest first. `key_id` `None` means everybody's.

    `search` is text that the id, the requested or the answering model, the prompt or the answer contains; `%` and `_`
    mean themselves; letters match in either case (on SQLite those of ASCII only).
    """
    conditions = [*_of_key(key_id), *_of_mode(mode)]
    if search:
        looked_in = ("id", "requested_model", "model", "prompt", "answer")
        conditions.append(or_(*(requests.c[name].icontains(search, autoescape=True) for name in looked_in)))
    total = connection.execute(select(func.count()).select_from(requests).where(*conditions)).scalar_one()
    page = _newest_first(select(requests).where(*conditions), limit, offset)
    return total, tuple(RequestRecord(*row) for row in connection.execute(page))


def recent(
    connection: Connection, key_id: str | None, since_ms: int, *, limit: int, offset: int, mode: Mode | None
) -> tuple[RequestRecord, ...]:
    """One page of the requests since `since_ms`, newest first; `prompt` and `answer` are not read and `None`."""
    columns = [null() if column.name in ("prompt", "answer") else column for column in requests.c]
    wanted = select(*columns).where(requests.c.created_at_ms >= since_ms, *_of_key(key_id), *_of_mode(mode))
    page = _newest_first(wanted, limit, offset)
    return tuple(RequestRecord(*row) for row in connection.execute(page))


def _insert_rows(connection: Connection, table: Table, rows: list[tuple[Any, ...]]) -> None:
    cursor = connection.connection.cursor()
    try:
        start = 0
        for size in _ROWS_A_STATEMENT:
            statement = _insert_statement(table, connection.dialect, size)
            while len(rows) - start >= size:
                cursor.execute(statement, tuple(chain.from_iterable(rows[start : start + size])))
                start += size
    finally:
        cursor.close()


@lru_cache(maxsize=32)
def _insert_statement(table: Table, dialect: Dialect, rows: int) -> str:
    # Every column is named in the table's order, which is the order of the record's fields: so is the parameters'.
    row = dict.fromkeys(table.c.keys())
    statement = str(_INSERTS[dialect.name](table).values([row]).on_conflict_do_nothing().compile(dialect=dialect))
    # To compile 64 rows of 31 columns takes Core as long as to insert a thousand of them: one row, written 64 times.
    values = f"({', '.join('?' * len(row))})"
    assert statement.count(values) == 1, statement
    return statement.replace(values, ", ".join([values] * rows))


def _of_key(key_id: str | None) -> list[ColumnElement[bool]]:
    return [] if key_id is None else [requests.c.key_id == key_id]


def _of_mode(mode: Mode | None) -> list[ColumnElement[bool]]:
    return [] if mode is None else [requests.c.mode == mode]


def _newest_first(wanted: Select[Any], limit: int, offset: int) -> Select[Any]:
    return wanted.order_by(requests.c.created_at_ms.desc(), requests.c.id.desc()).limit(limit).offset(offset)
