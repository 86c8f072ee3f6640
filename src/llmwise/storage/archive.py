"""A backup that either database restores: all tables, as lines of JSON, compressed with gzip.

    {"llmwise_archive": 1, "revision": "0002", "created_at_ms": ...}
    {"table": "keys", "columns": ["id", "name", ...]}
    ["key_1", "ci", ...]                                    a row, in the order of the columns
    ...
    {"rows": 12345}                                         the end: without it the archive is cut off

Made in one transaction that sees one state, while gateways go on writing. Restored in one transaction into a database
that is empty, so that nothing is mixed. The file holds what the database holds, keys' hashes and prompts among it: it
is made with mode 0600.
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
from sqlalchemy import Connection, Table, func, insert, select, text
from sqlalchemy.exc import OperationalError, StatementError

from llmwise.storage import postgres, schema
from llmwise.storage.tables import metadata

FORMAT = 1
ROWS_AT_ONCE = 2000

Line: TypeAlias = list[Any] | dict[str, Any]

_line = msgspec.json.Decoder(Line)


class _Part(msgspec.Struct):
    """The line before a table's rows."""

    table: str
    columns: list[str]


class ArchiveError(Exception):
    """The archive can't be made, or not restored here. Nothing was changed."""


def backup(connection: Connection, path: Path, now_ms: int) -> int:
    """Write the archive; how many rows it has. Raises `ArchiveError` for a file that is there already or can't be
    made."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ArchiveError(f"can't make {path}: {error.strerror}; name another file") from error
    try:
        with os.fdopen(fd, "wb") as raw:
            count = _backup(connection, raw, now_ms)
            raw.flush()
            os.fsync(fd)
    except OSError as error:
        path.unlink()
        raise ArchiveError(f"can't write {path}: {error.strerror}; make room there or name another folder") from error
    except BaseException:
        path.unlink()
        raise
    return count


def _backup(connection: Connection, raw: BinaryIO, now_ms: int) -> int:
    encode = msgspec.json.Encoder().encode
    count = 0
    with gzip.open(raw, "wb", compresslevel=5) as file:
        file.write(encode({"llmwise_archive": FORMAT, "revision": schema.HEAD, "created_at_ms": now_ms}) + b"\n")
        for table in metadata.sorted_tables:
            file.write(encode({"table": str(table.name), "columns": [*map(str, table.c.keys())]}) + b"\n")
            rows = connection.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE).execute(select(table))
            for row in rows:
                file.write(encode(tuple(row)) + b"\n")
                count += 1
        file.write(encode({"rows": count}) + b"\n")
    return count


def restore(connection: Connection, path: Path) -> int:
    """Read an archive into this empty database, within the caller's transaction; how many rows it had. Raises
    `ArchiveError`."""
    for table in metadata.sorted_tables:
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise ArchiveError(f"the database is not empty: {table.name} has rows; restore into a new one")
    try:
        with gzip.open(path, "rb") as file:
            return _restore(connection, map(_line.decode, file))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise ArchiveError(f"it is damaged, or no archive of llmwise's ({error}); use another backup") from error


def _restore(connection: Connection, lines: Iterator[Line]) -> int:
    head = next(lines, None)
    if not isinstance(head, dict) or head.get("llmwise_archive") != FORMAT:
        raise ArchiveError(f"no archive of format {FORMAT}: its first line is not one's")
    table: Table | None = None
    columns: list[str] = []
    made: set[int] = set()
    count, waiting = 0, []
    for line in lines:
        if isinstance(line, list):
            if len(line) != len(columns):
                raise ArchiveError("it is damaged: a row does not have its table's columns; use another backup")
            waiting.append(dict(zip(columns, line, strict=True)))
            if len(waiting) < ROWS_AT_ONCE:
                continue
        if waiting and table is not None:
            count += _add(connection, table, waiting, made)
            waiting = []
        if isinstance(line, dict):
            if "rows" in line:
                if line["rows"] != count:
                    raise ArchiveError(f"it says that it has {line['rows']} rows and has {count}; use another backup")
                if next(lines, None) is not None:  # gzip's checksum is behind the last line: who stops here skips it
                    raise ArchiveError("it goes on after its end; use another backup")
                return count
            part = msgspec.convert(line, _Part)
            table, columns = _table(part), part.columns
    raise ArchiveError("it is cut off: its last line is missing; use another backup")


def _table(part: _Part) -> Table:
    table = metadata.tables.get(part.table)
    unknown = [part.table] if table is None else [name for name in part.columns if name not in table.c]
    if table is None or unknown:
        raise ArchiveError(f"it holds {', '.join(unknown)}, which this llmwise does not know; use a later one")
    return table


def _add(connection: Connection, table: Table, rows: list[dict[str, Any]], made: set[int]) -> int:
    try:
        if table.name == "requests" and connection.dialect.name == "postgresql":
            days = {row["created_at_ms"] // postgres.DAY_MS for row in rows}
            for day in sorted(days - made):
                postgres.make(connection, day)
            made |= days
        connection.execute(insert(table), rows)
    except OperationalError:  # about the database, and not about a row
        raise
    except (StatementError, LookupError, TypeError, ArithmeticError) as error:
        kind = type(getattr(error, "orig", None) or error).__name__  # not its text, which may quote the row
        raise ArchiveError(f"it is damaged: a row of {table.name} does not fit ({kind}); use another backup") from None
    return len(rows)


def counts(connection: Connection) -> dict[str, int]:
    """How many rows each table has."""
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in metadata.sorted_tables
    }


def damage(connection: Connection) -> list[str]:
    """What the database itself finds wrong with its file; PostgreSQL has no such question."""
    if connection.dialect.name != "sqlite":
        return []
    found = [row[0] for row in islice(connection.execute(text("PRAGMA quick_check(10)")), 10)]
    return [] if found == ["ok"] else found
