"""`llmwise db`: the database's schema, its health, and backups that either engine restores."""

import time
from pathlib import Path
from typing import Annotated

import typer

from llmwise.cli.failing import ConfigOption, fail, user_errors
from llmwise.config import Config, load
from llmwise.storage import archive, schema
from llmwise.storage.database import Database
from llmwise.storage.spool import damaged, waiting

ArchiveArgument = Annotated[Path, typer.Argument(help="The archive: one file, *.jsonl.gz.")]


def migrate(config: ConfigOption = None) -> None:
    """Create the schema, or bring it to this program's revision. `serve` does the same at its start."""
    with user_errors():
        settings = load(config)
        database = Database.open(settings.storage.url)
        database.migrate()
    typer.echo(f"{database.url} is at revision {schema.HEAD}")
    database.close()


def check(config: ConfigOption = None) -> None:
    """Look at the database and the spool: revision, damage, rows, what waits. Exit code 1 if anything is wrong."""
    with user_errors():
        settings = load(config)
        database = Database.open(settings.storage.url)
        if not database.read(schema.at_head):
            fail(f"{database.url} is not at revision {schema.HEAD}: run `llmwise db migrate`")
        damage, unreadable = database.read(archive.damage), _damaged(settings)
        counts = database.read(archive.counts)
    typer.echo(f"{database.url}: revision {schema.HEAD}")
    for name, count in counts.items():
        typer.echo(f"  {name:<12}{count:>12,}")
    typer.echo(f"  {_spool(settings)}")
    database.close()
    if damage:
        fail(f"the database is damaged: {'; '.join(damage)}; restore a backup")
    if unreadable:
        names = ", ".join(map(str, unreadable[:3]))
        fail(f"{len(unreadable)} files of the spool were damaged; what can't be read of them is lost: {names}")


def backup(archive_file: ArchiveArgument, config: ConfigOption = None) -> None:
    """Write all of the database to one file, while the gateway runs."""
    with user_errors():
        database = Database.open(load(config).storage.url)
        if not database.read(schema.at_head):
            fail(f"{database.url} is not at revision {schema.HEAD}: run `llmwise db migrate`")
        try:
            rows = database.read(archive.backup, archive_file, time.time_ns() // 1_000_000)
        except archive.ArchiveError as error:
            fail(str(error))
    database.close()
    typer.echo(f"{rows:,} rows of {database.url} in {archive_file} ({archive_file.stat().st_size:,} bytes)")


def restore(archive_file: ArchiveArgument, config: ConfigOption = None) -> None:
    """Read a backup into an empty database, SQLite or PostgreSQL, whichever it was made of. Stop the gateway first."""
    with user_errors():
        if not archive_file.is_file():
            fail(f"there is no file {archive_file}")
        database = Database.open(load(config).storage.url)
        database.migrate()
        try:
            rows = database.write(archive.restore, archive_file)
        except archive.ArchiveError as error:
            fail(f"{archive_file}: {error}")
    database.close()
    typer.echo(f"{rows:,} rows restored into {database.url}")


def _damaged(config: Config) -> list[Path]:
    root = Path(config.storage.spool or "")
    return damaged(root) if config.storage.spool and root.is_dir() else []


def _spool(config: Config) -> str:
    if not config.storage.spool:
        return "no spool: the database is in memory"
    root = Path(config.storage.spool)
    settled, bytes_ = waiting(root) if root.is_dir() else (0, 0)
    return f"spool {root}: {settled:,} settled requests in {bytes_:,} bytes (some may be in the database already)"
