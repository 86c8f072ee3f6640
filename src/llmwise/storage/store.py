"""The store as the server and the command line see it.

Every call is one transaction in a thread: changes in one thread of their own (SQLite has one writer anyway, and so
they never wait for each other's lock), reads in two. A cancelled call lets its transaction run to its end.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from llmwise.domain.access import DEFAULT_ACCOUNT, AccountSettings
from llmwise.domain.records import AttemptRecord, LedgerEntry, Mode, RequestRecord
from llmwise.storage import accounts, audit, insights, keys, ledger, meta, postgres, rollup, stream, usage
from llmwise.storage.database import Database
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.insights import Document, Kind, Signal
from llmwise.storage.rows import AccountRow, FoundKey, KeyRow, ListedKey, SettledRequest, UsageSummary

__all__ = ["OfflineKeys", "StorageUnavailable", "Store"]

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

READERS = 2
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Store:
    """Every method raises `StorageUnavailable` when the database can't be used. `key_id` `None` means everybody's;
    times are Unix milliseconds and passed in."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._partitioned_until = 0
        self._newest_ms = 0  # of the records that this process has added
        self._to_close = True
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

    async def insert(
        self,
        requests: Sequence[RequestRecord],
        attempts: Sequence[AttemptRecord],
        entries: Sequence[LedgerEntry] = (),
    ) -> None:
        """Add what is not there yet, all or nothing. Known ids are left as they are."""
        if self._database.is_postgres and requests:
            await self._have_partitions(max(request.created_at_ms for request in requests) // DAY_MS)
        insert = lambda: self._database.append(ledger.insert, requests, attempts, entries)  # noqa: E731
        await asyncio.get_running_loop().run_in_executor(self._writer, insert)
        if requests:
            await self._close_hours([request.created_at_ms for request in requests])

    async def entries(self, account_id: str, *, limit: int = 100, offset: int = 0) -> tuple[LedgerEntry, ...]:
        """One page of an account's ledger, newest first."""
        return await self._read(ledger.entries, account_id, limit=limit, offset=offset)

    async def request(self, request_id: str) -> SettledRequest | None:
        return await self._read(ledger.request, request_id)

    async def charged(self, ids: Sequence[str]) -> dict[str, int]:
        """What each of these requests was charged, in nano-USD (see `ledger.charged`)."""
        return await self._read(ledger.charged, ids)

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
        return await self._read(rollup.history, key_id, limit=limit, offset=offset, mode=mode, search=search)

    async def usage_summary(self, key_id: str | None, days: int, now_ms: int) -> UsageSummary:
        """Over the last `days` times 24 hours; the first of the UTC days in it is therefore a part of one."""
        return await self._read(usage.summary, key_id, now_ms - days * DAY_MS)

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
        since_ms = now_ms - days * DAY_MS
        return await self._read(ledger.recent, key_id, since_ms, limit=limit, offset=offset, mode=mode)

    async def create_key(
        self,
        name: str,
        admin: bool,
        now_ms: int,
        settings: str | None = None,
        *,
        account_id: str = DEFAULT_ACCOUNT,
        expires_at_ms: int | None = None,
    ) -> tuple[KeyRow, str]:
        """The row and the raw key, shown this once (see `keys.create_key`)."""
        return await self._write(
            keys.create_key, name, admin, now_ms, settings, account_id=account_id, expires_at_ms=expires_at_ms
        )

    async def find_key(self, key_hash: str) -> KeyRow | None:
        """The working key with this hash (see `keys.hash_key`)."""
        return await self._read(keys.find_key, key_hash)

    async def list_keys(self) -> tuple[ListedKey, ...]:
        return await self._read(keys.list_keys)

    async def revoke_key(self, which: str, now_ms: int) -> KeyRow:
        """By id, name or shown prefix. Raises `NotFound`, or `Conflict` when several fit."""
        return await self._write(keys.revoke_key, which, now_ms)

    async def find_access(self, key_hash: str) -> FoundKey | None:
        """`find_key`, with what its account may spend."""
        return await self._read(keys.find_access, key_hash)

    async def one_key(self, which: str) -> KeyRow:
        """By id, name or shown prefix. Raises `NotFound`, or `Conflict` when several fit."""
        return await self._read(keys.one_key, which)

    async def rotate_key(self, which: str, now_ms: int, grace_ms: int) -> tuple[KeyRow, str]:
        """The row and the new raw key (see `keys.rotate_key`)."""
        return await self._write(keys.rotate_key, which, now_ms, grace_ms)

    async def account(self, account_id: str) -> AccountRow:
        """Raises `NotFound`."""
        return await self._read(accounts.account, account_id)

    async def list_accounts(self) -> tuple[AccountRow, ...]:
        return await self._read(accounts.list_accounts)

    async def create_account(self, account_id: str, name: str, now_ms: int) -> AccountRow:
        """Raises `InvalidRequest` and `Conflict`."""
        return await self._write(accounts.create_account, account_id, name, now_ms)

    async def change_account(
        self, account_id: str, now_ms: int, change: Callable[[AccountSettings], AccountSettings]
    ) -> AccountRow:
        """Its settings become what `change` makes of them. Raises `NotFound`."""
        return await self._write(accounts.change_account, account_id, now_ms, change)

    async def grant(self, entry: LedgerEntry) -> AccountRow:
        """Add credit (see `accounts.grant`). Raises `NotFound`."""
        return await self._write(accounts.grant, entry)

    async def transactions(
        self, account_id: str, key_id: str | None, *, limit: int, offset: int
    ) -> tuple[LedgerEntry, ...]:
        """One page of the entries of an account, or of one of its keys, newest first."""
        return await self._read(accounts.transactions, account_id, key_id, limit=limit, offset=offset)

    async def spent(self, account_id: str, key_id: str | None, since_ms: int) -> int:
        """What requests since then have cost, in nano-USD; of one key, or of all that the account pays for."""
        return await self._read(accounts.spent, account_id, key_id, since_ms)

    async def has_keys(self) -> bool:
        """Whether a key was ever made, revoked or not."""
        return await self._read(keys.has_keys)

    async def meta_value(self, name: str) -> str | None:
        return await self._read(meta.meta_value, name)

    async def set_meta(self, name: str, value: str) -> None:
        await self._write(meta.set_meta, name, value)

    async def document(self, kind: Kind, id: str) -> Document | None:
        return await self._read(insights.document, kind, id)

    async def latest_documents(self, kind: Kind, limit: int) -> tuple[int, tuple[Document, ...]]:
        """How many there are of a kind, and the newest of them, newest first."""
        return await self._read(insights.latest, kind, limit)

    async def put_document(self, document: Document) -> None:
        """Add, or replace all but the time of creation."""
        await self._write(insights.put, document)

    async def change_document(self, kind: Kind, id: str, now_ms: int, change: Callable[[str | None], str]) -> Document:
        """Its body becomes what `change` makes of it, in one transaction; what that raises changes nothing."""
        return await self._write(insights.change, kind, id, now_ms, change)

    async def remove_document(self, kind: Kind, id: str) -> bool:
        """Whether there was one."""
        return await self._write(insights.remove, kind, id)

    async def add_signals(self, signals: Sequence[Signal]) -> int:
        """How many of them were new."""
        return await self._write(insights.add_signals, signals)

    async def signals_since(self, since_ms: int) -> tuple[Signal, ...]:
        return await self._read(insights.signals_since, since_ms)

    async def signals_of(self, request_id: str) -> tuple[Signal, ...]:
        return await self._read(insights.signals_of, request_id)

    async def settled_between(
        self, since_ms: int, until_ms: int, limit: int, *, texts: bool = False, key_id: str | None = None
    ) -> tuple[SettledRequest, ...]:
        """Single answers in bulk (see `insights.settled_between`)."""
        return await self._read(insights.settled_between, since_ms, until_ms, limit, texts=texts, key_id=key_id)

    async def stream(
        self, since_ms: int, until_ms: int, *, mode: Mode | None = "chat", texts: bool = False
    ) -> AsyncIterator[SettledRequest]:
        """All requests created in [since_ms, until_ms), in the order of their ids, a page in memory at a time (see
        `storage.stream`). Without `texts` their question and answer are `None`."""
        after = ""
        while page := await self._read(stream.page, since_ms, until_ms, after, mode=mode, texts=texts):
            for settled in page:
                yield settled
            after = page[-1].request.id

    async def lease(self, name: str, holder: str, now_ms: int, for_ms: int) -> bool:
        """Whether `holder` has it from now on for so long."""
        return await self._write(insights.lease, name, holder, now_ms, for_ms)

    async def read(self, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """A query of one of this package's modules (`conversations`, `memory`, `settings`, `retention`)."""
        return await self._read(query, *args, **kwargs)

    async def write(self, change: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """A change of one of them."""
        return await self._write(change, *args, **kwargs)

    async def audited(self, since_ms: int, until_ms: int, most_sampled: int) -> audit.Everything:
        """What an audit's report is made of, live and imported."""
        return await self._read(audit.everything, since_ms, until_ms, most_sampled)

    async def add_imported(self, rows: Sequence[audit.ImportedUsage] | Sequence[audit.ImportedRequest]) -> audit.Added:
        """Add or replace rows of an export (see `audit.add`)."""
        return await self._write(audit.add, rows)

    async def imported_file(self, digest: str) -> audit.ImportedFile | None:
        return await self._read(audit.file, digest)

    async def add_imported_file(self, file: audit.ImportedFile) -> None:
        """Remember that a file was read to its end."""
        await self._write(audit.add_file, file)

    async def _close_hours(self, added_ms: Sequence[int]) -> None:
        """A step of `rollup`, when hours may be over or have got late records."""
        hour = self._newest_ms // HOUR_MS
        self._newest_ms = max(self._newest_ms, *added_ms)
        self._to_close |= self._newest_ms // HOUR_MS > hour or min(added_ms) // HOUR_MS < hour - 1
        if self._to_close:
            try:
                self._to_close = await self._write(rollup.close_a_day, self._newest_ms) is not None
            except StorageUnavailable as error:  # the records are in: they are not to be written again
                self._to_close = False
                log.warning("hours are not summed up until the next is over, reports read the records: %s", error)

    async def _have_partitions(self, day: int) -> None:
        """Partitions are made days before they are needed: rows may not lie in the default one by then."""
        if day >= self._partitioned_until - 1:
            await self._write(postgres.make_ahead, day)
            self._partitioned_until = day + postgres.DAYS_AHEAD

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

    @property
    def url(self) -> str:
        """For people: without the password."""
        return self._database.url

    def close(self) -> None:
        self._database.close()

    def create(
        self,
        name: str,
        admin: bool,
        now_ms: int,
        settings: str | None = None,
        *,
        account_id: str = DEFAULT_ACCOUNT,
        expires_at_ms: int | None = None,
    ) -> tuple[KeyRow, str]:
        """The row and the raw key, shown this once (see `keys.create_key`)."""
        return self._database.write(
            keys.create_key, name, admin, now_ms, settings, account_id=account_id, expires_at_ms=expires_at_ms
        )

    def one(self, which: str) -> KeyRow:
        """By id, name or shown prefix. Raises `NotFound`, or `Conflict` when several fit."""
        return self._database.read(keys.one_key, which)

    def rotate(self, which: str, now_ms: int, grace_ms: int) -> tuple[KeyRow, str]:
        """The row and the new raw key (see `keys.rotate_key`)."""
        return self._database.write(keys.rotate_key, which, now_ms, grace_ms)

    def list(self) -> tuple[ListedKey, ...]:
        return self._database.read(keys.list_keys)

    def revoke(self, which: str, now_ms: int) -> KeyRow:
        """By id, name or shown prefix. Raises `NotFound`, or `Conflict` when several fit."""
        return self._database.write(keys.revoke_key, which, now_ms)

    def create_first(self, name: str, now_ms: int) -> str | None:
        """An administrator's raw key, unless one was ever made, revoked or not (see `keys.create_first_key`)."""
        if self._database.read(keys.has_keys):
            return None
        return self._database.write(keys.create_first_key, name, now_ms)
