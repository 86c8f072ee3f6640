"""Is the database at this program's revision? If not, bring it there.

Three ways, of which the common ones leave Alembic unimported (0.2 s and 12 MB at every start otherwise):

    at `HEAD`        one SELECT
    empty            create all tables of `tables.metadata` and stamp them with `HEAD`
    older            Alembic, in the transaction of the caller

A test holds the second and the third together: both make the same schema.
"""

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, select

from llmwise.storage import postgres, tables

HEAD = "0008"
"""Revisions are numbers of four digits, so that a later one compares greater."""

_STAMP = Table(  # as Alembic makes it
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


class SchemaMismatch(Exception):
    """The database is not one that this program can use or upgrade."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def at_head(connection: Connection) -> bool:
    return _revision(connection) == HEAD


def bring_to_head(connection: Connection) -> None:
    """Create or upgrade, within the caller's transaction. Raises `SchemaMismatch`."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # a change of a large table takes its time
    revision = _revision(connection)  # again: since `at_head` another process may have done it
    if revision is None:
        _create(connection)
    elif revision > HEAD:
        raise SchemaMismatch(
            f"its schema is revision {revision}, newer than this program's {HEAD}",
            "use the llmwise that wrote it, or a later one",
        )
    elif revision < HEAD:
        upgrade(connection)


def upgrade(connection: Connection) -> None:
    """Run Alembic's migrations up to the newest, within the caller's transaction. Raises `SchemaMismatch`."""
    from alembic import command  # only a database that is behind pays for it
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        problem = f"its schema can't be brought to revision {HEAD} ({error})"
        raise SchemaMismatch(problem, "give llmwise a database of its own") from error


def _create(connection: Connection) -> None:
    strangers = connection.dialect.get_table_names(connection)
    if strangers:
        raise SchemaMismatch(
            f"it holds another program's tables ({', '.join(sorted(strangers)[:3])})",
            "give llmwise a database of its own",
        )
    if connection.dialect.name == "postgresql":
        postgres.create_tables(connection)
    else:
        tables.metadata.create_all(connection, checkfirst=False)
    _STAMP.create(connection)
    connection.execute(insert(_STAMP).values(version_num=HEAD))


def _revision(connection: Connection) -> str | None:
    """`None` without Alembic's table; empty before its first migration."""
    # The dialect's own question, which `inspect(connection).has_table` ends in.
    if not connection.dialect.has_table(connection, _STAMP.name):
        return None
    return connection.execute(select(_STAMP.c.version_num)).scalar_one_or_none() or ""
