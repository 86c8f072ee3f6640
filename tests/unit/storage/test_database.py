"""SQLite as we open it: modes, settings, transactions, and what its errors say."""

import os
import pickle
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from llmwise.storage import database as database_module
from llmwise.storage import schema
from llmwise.storage.database import Database
from llmwise.storage.errors import StorageUnavailable


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path / 'a.db'}")
    opened.migrate()
    yield opened
    opened.close()


@contextmanager
def held_lock(path: Path) -> Iterator[None]:
    """Another program in the middle of a long write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def scalar(database: Database, sql: str) -> Any:
    return database.read(lambda connection: connection.exec_driver_sql(sql).scalar())


def test_the_file_and_its_directory_are_for_the_owner_only(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        opened = Database.open(f"sqlite:///{tmp_path / 'new' / 'deep' / 'a.db'}")
        opened.migrate()
        files = {path.name: mode_of(path) for path in (tmp_path / "new" / "deep").iterdir()}
    finally:
        os.umask(previous)
    opened.close()
    assert files == {"a.db": 0o600, "a.db-wal": 0o600, "a.db-shm": 0o600}
    assert mode_of(tmp_path / "new" / "deep") == 0o700


def test_an_existing_file_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    (tmp_path / "a.db").chmod(0o640)
    Database.open(f"sqlite:///{tmp_path / 'a.db'}").close()
    assert mode_of(tmp_path / "a.db") == 0o640


def test_it_runs_in_wal_mode_and_waits_for_locks(database: Database) -> None:
    assert scalar(database, "PRAGMA journal_mode") == "wal"
    assert scalar(database, "PRAGMA synchronous") == 1  # NORMAL
    assert scalar(database, "PRAGMA busy_timeout") == 5000


def test_another_programs_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as theirs, theirs:
        theirs.execute("CREATE TABLE requests (id)")
    before = path.read_bytes()
    opened = Database.open(f"sqlite:///{path}")
    assert opened.read(schema.at_head) is False
    with pytest.raises(StorageUnavailable, match=r"another program's tables \(requests\)"):
        opened.migrate()
    opened.close()
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["theirs.db"]


def test_a_change_that_fails_leaves_nothing_behind(database: Database) -> None:
    def half(connection: Connection) -> None:
        connection.execute(text("INSERT INTO meta VALUES ('a', '1')"))
        raise LookupError

    with pytest.raises(LookupError):
        database.write(half)
    assert scalar(database, "SELECT count(*) FROM meta") == 0


def test_a_read_sees_one_state_while_another_program_writes(database: Database, tmp_path: Path) -> None:
    def twice(connection: Connection) -> list[Any]:
        count = text("SELECT count(*) FROM meta")
        before = connection.execute(count).scalar()
        with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
            other.execute("INSERT INTO meta VALUES ('a', '1')")
        return [before, connection.execute(count).scalar()]

    assert database.read(twice) == [0, 0]
    assert scalar(database, "SELECT count(*) FROM meta") == 1


def test_what_a_change_has_read_stays_true_until_it_commits(database: Database, tmp_path: Path) -> None:
    def read_then_write(connection: Connection) -> None:
        connection.execute(text("SELECT * FROM meta")).all()
        other = sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=0)
        with closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO meta VALUES ('a', 'theirs')")
        connection.execute(text("INSERT INTO meta VALUES ('a', 'ours')"))

    database.write(read_then_write)
    assert scalar(database, "SELECT value FROM meta") == "ours"


def test_a_file_that_is_no_database_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, " * 100)
    opened = Database.open(f"sqlite:///{tmp_path / 'notes.txt'}")
    with pytest.raises(StorageUnavailable, match=r"notes\.txt: the file is not a database .*; name another file"):
        opened.migrate()
    opened.close()
    assert (tmp_path / "notes.txt").read_text().startswith("not a database")


def test_a_damaged_database_is_told_from_a_strange_file(database: Database, tmp_path: Path) -> None:
    database.write(lambda c: c.execute(text("INSERT INTO meta VALUES ('a', :long)"), {"long": "x" * 100_000}))
    database.close()
    raw = bytearray((tmp_path / "a.db").read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    (tmp_path / "a.db").write_bytes(raw)
    with pytest.raises(StorageUnavailable, match=r"the database is damaged .*; restore a backup"):
        database.read(lambda c: c.execute(text("SELECT * FROM requests")).all())
    database.close()


def test_a_locked_database_says_so_when_waiting_did_not_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    opened = Database.open(f"sqlite:///{tmp_path / 'a.db'}")
    opened.migrate()
    with held_lock(tmp_path / "a.db"), pytest.raises(StorageUnavailable, match="locked by another program"):
        opened.write(lambda c: c.execute(text("INSERT INTO meta VALUES ('a', '1')")))
    opened.write(lambda c: c.execute(text("INSERT INTO meta VALUES ('a', '1')")))
    opened.close()


def test_a_full_disk_says_so_and_heals(database: Database) -> None:
    def fill(connection: Connection) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        connection.execute(text("INSERT INTO meta VALUES ('a', :long)"), {"long": "x" * 100_000})

    def empty_the_disk_a_little(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        connection.execute(text("INSERT INTO meta VALUES ('a', '1')"))

    with pytest.raises(StorageUnavailable, match="no space is left"):
        database.write(fill)
    assert scalar(database, "SELECT count(*) FROM meta") == 0
    database.write(empty_the_disk_a_little)
    assert scalar(database, "SELECT count(*) FROM meta") == 1


def test_a_path_below_a_file_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable, match=r"can't open .*file.*must be writable"):
        Database.open(f"sqlite:///{tmp_path / 'file' / 'a.db'}")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="Is a directory"):
        Database.open(f"sqlite:///{tmp_path}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageUnavailable, match="Permission denied"):
            Database.open(f"sqlite:///{tmp_path / 'a.db'}")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("url", ["mysql://root:hunter2@db/x", "hunter2"])
def test_an_unknown_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(StorageUnavailable, match=r"sqlite:///llmwise\.db") as caught:
        Database.open(url)
    assert "hunter2" not in str(caught.value)


def test_the_error_survives_a_process_boundary() -> None:
    error = StorageUnavailable("sqlite:///a", "locked", "wait")
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "storage sqlite:///a: locked; wait"
