"""What PostgreSQL needs besides the statements that it shares with SQLite: its engine, what its errors mean, and the
day's partitions of `requests`.

psycopg 3, called from threads like SQLite's driver (see `database`). `requests` is partitioned by the day of
`created_at_ms`, so that retention drops tables instead of deleting rows; what has no partition of its own (records that
come from a spool after a week, or from a backup) lies in `requests_other`.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    create_engine,
    text,
)

from llmwise.storage import tables

CONNECTIONS = 4
CONNECT_S = 5
STATEMENT_MS = 30_000
DAYS_AHEAD = 7
DAY_MS = 86_400_000

_LOCK = 0x6C6C6D77697365
"""The advisory lock of those who change what they have read ("llmwise" in ASCII)."""

_ADDITIONS = _LOCK + 1
"""The lock of those who add records, who share it, and of who sums them up, who has it alone."""

_SPECIAL = re.compile(r"[\\\t\n\r\0]").search
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r", "\0": "\N{REPLACEMENT CHARACTER}"})
"""PostgreSQL's text holds no NUL, and a record must not be lost for one in a prompt."""


def engine(url: URL) -> Engine:
    """Raises `ModuleNotFoundError` without the extra `postgres`."""
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_pre_ping=True,  # after a restart of the server the pool's connections are dead
        connect_args={"connect_timeout": CONNECT_S, "options": _options(url)},
    )


def lock(connection: Connection) -> None:
    """Until the end of the transaction no other one that asks for it changes anything."""
    connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


def keep_additions_out(connection: Connection) -> None:
    """Until the end of the transaction nobody adds a record (SQLite has one writer anyway)."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADDITIONS})"))


def add(connection: Connection) -> None:
    """Until the end of the transaction nobody sums up what is being added."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({_ADDITIONS})"))


def meaning(cause: BaseException) -> tuple[str, str] | None:
    """As `database._meaning`. Classes of codes: https://www.postgresql.org/docs/18/errcodes-appendix.html (read
    2026-11-22)."""
    import psycopg

    if not isinstance(cause, psycopg.Error):
        return None
    problem = " ".join(str(cause).split())[:300]
    code = cause.sqlstate or ""
    if code.startswith("53"):
        return f"the server lacks room or connections ({problem})", "give it more, or wait"
    if code == "25006":
        return f"the server takes no writes ({problem})", "name the primary in [storage] url"
    if code == "42501":
        return f"the user lacks a right ({problem})", "let the user of [storage] url create and change tables there"
    # Only what is about the row itself is no fault of the database's: waiting would not mend it.
    if isinstance(cause, psycopg.DataError | psycopg.IntegrityError | psycopg.ProgrammingError):
        return None
    return (
        f"the server can't be used ({problem})",
        "check [storage] url; once it is reachable llmwise goes on by itself",
    )


def copy(cursor: Any, table: Table, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert rows that are not there yet, by COPY into a table of the connection's own and from there.

    The client's CPU for a record (37 columns, batches of 512, Python 3.11, psycopg 3.3): 167 µs by statements of 64
    rows, 50 by `executemany`, 23 by COPY with psycopg's formatting, 16 with the lines made here.
    """
    name, columns = table.name, ", ".join(table.c.keys())
    cursor.execute(f"CREATE TEMP TABLE IF NOT EXISTS incoming_{name} (LIKE {name}) ON COMMIT DELETE ROWS")
    with cursor.copy(f"COPY incoming_{name} ({columns}) FROM STDIN") as copying:
        copying.write("".join(map(_line, rows)).encode())
    cursor.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM incoming_{name} ON CONFLICT DO NOTHING")


def create_tables(connection: Connection) -> None:
    """As `MetaData.create_all`, with `requests` partitioned."""
    metadata = MetaData()
    for table in tables.metadata.sorted_tables:
        copied = table.to_metadata(metadata)
        if table is tables.requests:
            _partition(copied)
    metadata.create_all(connection, checkfirst=False)
    connection.execute(text("CREATE TABLE requests_other PARTITION OF requests DEFAULT"))


def make_ahead(connection: Connection, day: int) -> None:
    """Partitions for `day` (since 1970) and `DAYS_AHEAD` more, as far as they are missing."""
    there = {*connection.dialect.get_table_names(connection)}
    for each in range(day, day + DAYS_AHEAD + 1):
        if partition(each) not in there:
            make(connection, each)


def make(connection: Connection, day: int) -> None:
    """The partition of `day`, if it is missing."""
    bounds = f"FROM ({day * DAY_MS}) TO ({(day + 1) * DAY_MS})"
    connection.execute(text(f"CREATE TABLE IF NOT EXISTS {partition(day)} PARTITION OF requests FOR VALUES {bounds}"))


def drop_before(connection: Connection, day: int) -> Sequence[str]:
    """Drop the partitions of the days before `day`; their names. What `requests_other` holds is not looked at."""
    old = [
        name
        for name in sorted(connection.dialect.get_table_names(connection))
        if name.startswith("requests_2") and name < partition(day)
    ]
    for name in old:
        connection.execute(text(f"DROP TABLE {name}"))
    return old


def partition(day: int) -> str:
    return f"requests_{datetime.fromtimestamp(day * DAY_MS / 1000, UTC):%Y%m%d}"


def _line(row: tuple[Any, ...]) -> str:
    """A row in COPY's text format: https://www.postgresql.org/docs/18/sql-copy.html (read 2026-11-22)."""
    return "\t".join([_field(value) for value in row]) + "\n"


def _field(value: Any) -> str:
    if value is None:
        return "\\N"
    if type(value) is str:
        return value.translate(_ESCAPES) if _SPECIAL(value) else value
    return str(value)


def _partition(requests: Table) -> None:
    requests.dialect_options["postgresql"]["partition_by"] = "RANGE (created_at_ms)"
    for index in requests.indexes:  # not said in `tables`: that alone would load this dialect for everybody
        index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]
    # A unique key of a partitioned table holds what it is partitioned by. A record's time never changes, so that the
    # pair is as unique as the id.
    requests.constraints.remove(requests.primary_key)
    requests.c.id.primary_key = False
    requests.append_constraint(PrimaryKeyConstraint(requests.c.id, requests.c.created_at_ms, name="requests_pk"))


def _options(url: URL) -> str:
    """The URL's own `options` come last, and win."""
    own = url.query.get("options", "")
    return f"-c statement_timeout={STATEMENT_MS} {own if isinstance(own, str) else ' '.join(own)}".strip()
