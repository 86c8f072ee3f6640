"""One database: its engine, its transactions, and what its driver's errors mean.

SQLAlchemy's synchronous engine, called from threads, and not its async engine over aiosqlite: SQLite blocks either
way, so that both need a thread, and this one hops once a transaction instead of once a statement. It also starts
cheaper (CPU for the imports 0.24 s against 0.30 s, resident memory 37 MB against 46 MB; Python 3.11, SQLAlchemy
2.1.9, two shared cores, the least of four runs) and needs no greenlet.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, StaticPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from llmwise.storage import postgres
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.schema import SchemaMismatch, at_head, bring_to_head

P = ParamSpec("P")
R = TypeVar("R")

BUSY_TIMEOUT_S = 5.0
"""How long a connection waits for another one's lock before it is `StorageUnavailable`."""

CHECKPOINT_PAGES = 4000
"""The WAL is copied into the file at 16 MB rather than at SQLite's 4 MB: a page that many inserts touch is copied
once instead of four times. A measured tenth of the cost of an insert."""

CONNECTIONS = 4


class Database:
    """A URL that has been understood. Connections are made when first needed, and any thread may call."""

    def __init__(self, url: URL, engine: Engine) -> None:
        self.url = url.render_as_string(hide_password=True)
        self.in_memory = _is_sqlite(url) and _is_memory(url)
        self.is_postgres = not _is_sqlite(url)
        self._reading = engine
        self._writing = engine.execution_options(**{_WRITES: True})

    @classmethod
    def open(cls, url: str) -> "Database":
        """`sqlite:///relative/path`, `sqlite:////absolute/path`, `sqlite:///:memory:`, or
        `postgresql://user:password@host/name`, which is not contacted yet.

        SQLite's file is created with mode 0600 (SQLite gives its `-wal` and `-shm` the same), missing directories with
        0700; what exists keeps its mode. Raises `StorageUnavailable`.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise StorageUnavailable(
                "?", "the URL can't be read", "write it like sqlite:///llmwise.db"
            ) from error  # not repeated in the message: it may hold a password
        shown = parsed.render_as_string(hide_password=True)
        if parsed.drivername in ("postgresql", "postgresql+psycopg"):
            try:
                return cls(parsed, postgres.engine(parsed))
            except ModuleNotFoundError as error:
                raise StorageUnavailable(
                    shown, "PostgreSQL's driver is not installed", "pip install 'llmwise[postgres]'"
                ) from error
        if not _is_sqlite(parsed):
            raise StorageUnavailable(
                shown,
                f"{parsed.drivername} is no known database",
                "use a URL like sqlite:///llmwise.db or postgresql://user@host/llmwise",
            )
        database = cls(parsed, _sqlite_engine(parsed))
        if not database.in_memory:
            with database._errors():
                _create_file(Path(parsed.database or ""))
        return database

    def read(self, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`query` in a transaction of its own: several statements see one state. Raises `StorageUnavailable`."""
        with self._errors(), self._reading.connect() as connection:
            return query(connection, *args, **kwargs)

    def write(self, change: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`change` in a transaction that holds the write lock from its start, so that what it reads stays true until
        it commits. An exception rolls it back. Raises `StorageUnavailable`."""
        with self._errors(), self._writing.begin() as connection:
            if self.is_postgres:
                postgres.lock(connection)
            return change(connection, *args, **kwargs)

    def append(self, change: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`change`, which only adds and reads nothing that it relies on, in a transaction that waits for no other one
        where the database can do that. Raises `StorageUnavailable`."""
        with self._errors(), self._writing.begin() as connection:
            return change(connection, *args, **kwargs)

    def migrate(self) -> None:
        """Create the schema or bring it to this program's revision. Safe to call from several processes at once.
        Raises `StorageUnavailable`, also for a database that is newer than this program or another program's."""
        if not self.read(at_head):
            self.write(bring_to_head)

    def close(self) -> None:
        self._reading.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except SchemaMismatch as error:
            raise StorageUnavailable(self.url, error.problem, error.remedy) from error
        except OSError as error:
            remedy = "the directory and the file must be writable by the user that runs llmwise"
            raise StorageUnavailable(self.url, f"can't open {error.filename}: {error.strerror}", remedy) from error
        except (DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            meaning = _meaning(cause)
            if meaning is None:
                raise
            raise StorageUnavailable(self.url, *meaning) from error


_WRITES = "llmwise_writes"

_BY_SQLITE_NAME = (
    ("SQLITE_BUSY", "locked by another program", "end the program that holds it, or wait"),
    ("SQLITE_LOCKED", "locked by another connection", "wait"),
    ("SQLITE_NOTADB", "the file is not a database", "name another file, or move this one away to start afresh"),
    ("SQLITE_CORRUPT", "the database is damaged", "restore a backup, or move it away to start afresh"),
    ("SQLITE_FULL", "no space is left on the disk", "free some"),
    ("SQLITE_READONLY", "the database can't be written", "its file and directory must be writable by llmwise' user"),
    ("SQLITE_CANTOPEN", "the file can't be opened", "its directory must exist and be writable by llmwise' user"),
    ("SQLITE_IOERR", "the disk failed to read or write", "check the disk"),
)
"""By prefix of the extended name. Codes: https://www.sqlite.org/rescode.html (read 2026-11-22)."""


def _meaning(cause: BaseException | None) -> tuple[str, str] | None:
    """What a driver's error says about the database (problem, remedy); `None` when it is about one row (it breaks a
    constraint, is too big, holds what the database can't), which no waiting mends."""
    if not isinstance(cause, sqlite3.Error):
        return None if cause is None else postgres.meaning(cause)
    name = getattr(cause, "sqlite_errorname", "")
    for prefix, problem, remedy in _BY_SQLITE_NAME:
        if name.startswith(prefix):
            return f"{problem} ({cause})", remedy
    if isinstance(cause, sqlite3.OperationalError):
        return f"the database failed ({cause})", "check the file with PRAGMA integrity_check, or restore a backup"
    return None


# sqlite3 binds the same without these, but for every type except int, float, str and bytearray it first raises and
# swallows AttributeErrors in search of an adapter (Modules/_sqlite/microprotocols.c of CPython 3.11), and a record has
# a dozen such values: 11.4 µs a record without, 9.2 with.
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(type(None), {None: None}.get)


def _is_sqlite(url: URL) -> bool:
    return url.drivername in ("sqlite", "sqlite+pysqlite")


def _is_memory(url: URL) -> bool:
    return url.database in (None, "", ":memory:")


def _create_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))


def _sqlite_engine(url: URL) -> Engine:
    options: dict[str, Any] = {"poolclass": StaticPool}  # a memory database lives and dies with its one connection
    if not _is_memory(url):
        options = {"poolclass": QueuePool, "pool_size": CONNECTIONS, "max_overflow": 0}
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}, **options)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # The driver would begin a transaction before a change only, and never for DDL: `_begin_sqlite` does it instead.
    connection.isolation_level = None
    _use_wal(connection)
    # No fsync per commit: in WAL mode a crash of the machine may lose the last commits but not the database's
    # consistency. https://www.sqlite.org/pragma.html#pragma_synchronous (read 2026-11-22)
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    # What is purged is overwritten, and not only no longer found. https://www.sqlite.org/pragma.html#pragma_secure_delete
    connection.execute("PRAGMA secure_delete = ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """The mode stays with the file, so this is a change only once. The change needs the file to itself and, unlike
    any other statement, doesn't wait for it: of three programs that start on no file at once, one in 450 failed.
    Another program's file, which is refused later (`schema`), is left as it is."""
    give_up_at = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables or {"alembic_version", "requests"} <= tables:
                connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > give_up_at:
                raise
        time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads before it writes can't wait for the write lock later: SQLite refuses it at once.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
