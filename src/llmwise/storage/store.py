"""The store as the server and the command line see it.

Every call is one transaction in a thread: changes in one thread of their own (SQLite has one writer anyway, and so
they never wait for each other's lock), reads in two. A cancelled call lets its transaction run to its end.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from llmwise.domain.records import AttemptRecord, Mode, RequestRecord
from llmwise.storage import keys, ledger, meta, usage
from llmwise.storage.database import Database
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.rows import KeyRow, ListedKey, SettledRequest, UsageSummary

__all__ = ["OfflineKeys", "StorageUnavailable", "Store"]

P = ParamSpec("P")
R = TypeVar("R")

READERS = 2


class Store:
    """Every method raises `StorageUnavailable` when the database can't be used. `key_id` `None` means everybody's;
    times are Unix milliseconds and passed in."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = ThreadPoolExecutor(1, "llmwise-store-write")
        # A memory database has one connection, and a connection one transaction at a time.
        self._readers = self._writer if database.in_memory else ThreadPoolExecutor(READERS, "llmwise-store-read")

    @classmethod
    def open(cls, url: str) -> "Store":
        """Understand `url` and make its file (see `Database.open`); `migrate` comes next."""
        return cls(Database.open(url))

    @property
    def url(self) -> str:
        """For people: without the password."""
        return self._database.url

    async def migrate(self) -> None:
        """Create or upgrade the schema. Call it once, before anything else."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._database.migrate)

    async def close(self) -> None:
        """Wait for the transactions under way, then let go of the database."""
        await asyncio.to_thread(self._writer.shutdown)
        await asyncio.to_thread(self._readers.shutdown)
        self._database.close()

    async def insert(self, requests: Sequence[RequestRecord], attempts: Sequence[AttemptRecord]) -> None:
        """Add what is not there yet, all or nothing. Known ids are left as they are."""
        await self._write(ledger.insert, requests, attempts)

    async def request(self, request_id: str) -> SettledRequest | None:
        return await self._read(ledger.request, request_id)

    async def history(
        self,
        key_id: str | None,
        *,
        limit: int = 20,
        offset: int = 0,
        mode: Mode | None = None,
        search: str | None = None,
    ) -> tuple[int, tuple[RequestRecord, ...]]:
        """How many requests match, and one page of them, newest first (see `ledger.history`)."""
        return await self._read(ledger.history, key_id, limit=limit, offset=offset, mode=mode, search=search)

    async def usage_summary(self, key_id: str | None, days: int, now_ms: int) -> UsageSummary:
        """Over the last `days` times 24 hours; the first of the UTC days in it is therefore a part of one."""
        return await self._read(usage.summary, key_id, now_ms - days * usage.DAY_MS)

    async def usage_recent(
        self,
        key_id: str | None,
        days: int,
        now_ms: int,
        *,
        limit: int = 20,
        offset: int = 0,
        mode: Mode | None = None,
    ) -> tuple[RequestRecord, ...]:
        """One page of the last `days` times 24 hours, newest first; `prompt` and `answer` are left out."""
        since_ms = now_ms - days * usage.DAY_MS
        return await self._read(ledger.recent, key_id, since_ms, limit=limit, offset=offset, mode=mode)

    async def create_key(self, name: str, admin: bool, now_ms: int, settings: str | None = None) -> tuple[KeyRow, str]:
        """The row and the raw key, shown this once. Raises `InvalidRequest` for a blank name."""
        return await self._write(keys.create_key, name, admin, now_ms, settings)

    async def find_key(self, key_hash: str) -> KeyRow | None:
        """The working key with this hash (see `keys.hash_key`)."""
        return await self._read(keys.find_key, key_hash)

    async def list_keys(self) -> tuple[ListedKey, ...]:
        return await self._read(keys.list_keys)

    async def revoke_key(self, which: str, now_ms: int) -> KeyRow:
        """By id, name or shown prefix. Raises `NotFound`, or `Conflict` when several fit."""
        return await self._write(keys.revoke_key, which, now_ms)

    async def has_keys(self) -> bool:
        """Whether a key was ever made, revoked or not."""
        return await self._read(keys.has_keys)

    async def meta_value(self, name: str) -> str | None:
        return await self._read(meta.meta_value, name)

    async def set_meta(self, name: str, value: str) -> None:
        await self._write(meta.set_meta, name, value)

    async def _read(self, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        call = lambda: self._database.read(query, *args, **kwargs)  # noqa: E731  # partial() loses the types
        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    async def _write(self, change: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        call = lambda: self._database.write(change, *args, **kwargs)  # noqa: E731
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)


class OfflineKeys:
    """Keys for the command line: no loop, no server, and a server may be running on the same file meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    def open(cls, url: str) -> "OfflineKeys":
        """Open and migrate. Raises `StorageUnavailable`."""
        database = Database.open(url)
        database.migrate()
        return cls(database)

    def __enter__(self) -> "OfflineKeys":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def create(self, name: str, admin: bool, now_ms: int, settings: str | None = None) -> tuple[KeyRow, str]:
        """The row and the raw key, shown this once. Raises `InvalidRequest` for a blank name."""
        return self._database.write(keys.create_key, name, admin, now_ms, settings)

    def list(self) -> tuple[ListedKey, ...]:
        return self._database.read(keys.list_keys)

    def revoke(self, which: str, now_ms: int) -> KeyRow:
        """By id, name or shown prefix. Raises `NotFound`, or `Conflict` when several fit."""
        return self._database.write(keys.revoke_key, which, now_ms)

    def exist(self) -> bool:
        """Whether a key was ever made, revoked or not."""
        return self._database.read(keys.has_keys)
