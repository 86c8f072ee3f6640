"""The schema: one revision, two ways to it, and clear words for databases that are not ours."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import llmwise.storage
from llmwise.storage import schema, tables
from llmwise.storage.database import Database
from llmwise.storage.errors import StorageUnavailable

MIGRATIONS = Path(llmwise.storage.__file__).parent / "migrations"


def url_of(path: Path) -> str:
    return f"sqlite:///{path}"


def schema_of(path: Path) -> list[tuple[str, str, tuple[tuple[object, ...], ...]]]:
    """Names, kinds and columns of everything in the file, whatever the spelling of the SQL that made it."""
    with sqlite3.connect(path) as connection:
        things = connection.execute("SELECT type, name FROM sqlite_master ORDER BY name").fetchall()
        pragma = {"table": "table_info", "index": "index_xinfo"}
        found = [
            (kind, name, tuple(connection.execute(f"PRAGMA {pragma[kind]}({name})").fetchall()))
            for kind, name in things
        ]
    connection.close()
    return found


def upgraded(path: Path) -> Database:
    """A database made by the migrations alone."""
    database = Database.open(url_of(path))
    database.write(schema.upgrade)
    return database


def test_head_is_the_head_of_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_upgrading_to_head_makes_exactly_the_tables(tmp_path: Path) -> None:
    database = upgraded(tmp_path / "a.db")
    differences = database.read(lambda c: compare_metadata(MigrationContext.configure(c), tables.metadata))
    database.close()
    assert differences == []


def test_a_fresh_database_is_the_same_as_an_upgraded_one(tmp_path: Path) -> None:
    upgraded(tmp_path / "upgraded.db").close()
    fresh = Database.open(url_of(tmp_path / "fresh.db"))
    fresh.migrate()
    fresh.close()
    assert schema_of(tmp_path / "fresh.db") == schema_of(tmp_path / "upgraded.db")
    assert len(schema_of(tmp_path / "fresh.db")) > 8


def before_0001(path: Path) -> None:
    """A database whose only table is Alembic's, empty: where the first migration starts."""
    upgraded(path).close()
    with sqlite3.connect(path) as connection:
        for table in tables.metadata.tables:
            connection.execute(f"DROP TABLE {table}")
        connection.execute("DELETE FROM alembic_version")
    connection.close()


def test_an_older_database_is_upgraded(tmp_path: Path) -> None:
    before_0001(tmp_path / "a.db")
    database = Database.open(url_of(tmp_path / "a.db"))
    database.migrate()
    database.close()
    upgraded(tmp_path / "whole.db").close()
    assert schema_of(tmp_path / "a.db") == schema_of(tmp_path / "whole.db")


def test_an_upgrade_that_fails_changes_nothing(tmp_path: Path) -> None:
    before_0001(tmp_path / "a.db")
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE keys (id)")  # 0001 makes this table after two others
    connection.close()
    before = schema_of(tmp_path / "a.db")
    database = Database.open(url_of(tmp_path / "a.db"))
    with pytest.raises(StorageUnavailable, match=r"the database failed \(table keys already exists\)"):
        database.migrate()
    database.close()
    assert schema_of(tmp_path / "a.db") == before


def test_a_revision_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    before_0001(tmp_path / "a.db")
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("INSERT INTO alembic_version VALUES ('0000')")
    connection.close()
    database = Database.open(url_of(tmp_path / "a.db"))
    with pytest.raises(StorageUnavailable, match=rf"revision {schema.HEAD} \(Can't locate .*'0000'\); give"):
        database.migrate()
    database.close()


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    database = Database.open(url_of(tmp_path / "a.db"))
    database.migrate()
    before = schema_of(tmp_path / "a.db")
    database.migrate()
    database.close()
    assert schema_of(tmp_path / "a.db") == before


def test_a_newer_schema_is_refused_by_number(tmp_path: Path) -> None:
    database = Database.open(url_of(tmp_path / "a.db"))
    database.migrate()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    connection.close()
    with pytest.raises(
        StorageUnavailable, match=rf"revision 0099, newer than this program's {schema.HEAD}.*later"
    ) as caught:
        database.migrate()
    database.close()
    assert str(tmp_path / "a.db") in str(caught.value)


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE recipes (id)")
    connection.close()
    database = Database.open(url_of(tmp_path / "a.db"))
    with pytest.raises(StorageUnavailable, match=r"another program's tables \(recipes\)"):
        database.migrate()
    database.close()
    assert [name for _, name, _ in schema_of(tmp_path / "a.db")] == ["recipes"]


def test_processes_that_start_together_make_one_schema(tmp_path: Path) -> None:
    program = f"""
import sys
from llmwise.storage.database import Database
database = Database.open({url_of(tmp_path / "a.db")!r})
sys.stdin.readline()
database.migrate()
database.close()
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=50)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, said


def test_starting_on_a_current_database_imports_no_alembic(tmp_path: Path) -> None:
    program = f"""
import sys
from llmwise.storage.database import Database
database = Database.open({url_of(tmp_path / "a.db")!r})
database.migrate()
database.migrate()
database.close()
assert not [name for name in sys.modules if name.startswith(("alembic", "mako", "sqlalchemy.ext.asyncio"))]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)
