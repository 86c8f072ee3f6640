"""Forgetting: texts and records by age, and all of an account's texts at once. In small batches, each a transaction of
its own, so that nobody waits long behind one.

What a request cost stays as long as its record, and in the ledger beyond it: texts are what is forgotten first. Days
that are over keep their sums (`rollup`) when their records are gone.
"""

from sqlalchemy import ColumnElement, Connection, delete, or_, select, text, update

from llmwise.domain.access import account_settings_of
from llmwise.storage import postgres
from llmwise.storage.conversations import of_account
from llmwise.storage.tables import accounts, attempts, conversations, memories, requests, signals

BATCH = 500

TOLD_BY_PROVIDER = ("route", "warnings")
"""Columns that quote providers' messages, which may quote the question."""


def forget_texts(connection: Connection, account_id: str) -> int:
    """Of one batch of an account's requests; how many had any."""
    return _blank(connection, requests.c.key_id.in_(of_account(account_id)))


def forget_texts_before(connection: Connection, before_ms: int) -> int:
    """Of one batch of everybody's requests from before; how many had any."""
    return _blank(connection, requests.c.created_at_ms < before_ms)


def forget_comments(connection: Connection, account_id: str) -> int:
    """What the account's keys wrote about answers."""
    own = signals.c.key_id.in_(of_account(account_id))
    return connection.execute(update(signals).where(own, signals.c.comment.is_not(None)).values(comment=None)).rowcount


def forget_titles(connection: Connection, account_id: str) -> int:
    """Of the account's conversations, which may quote a question."""
    own = (conversations.c.account_id == account_id, conversations.c.title.is_not(None))
    return connection.execute(update(conversations).where(*own).values(title=None)).rowcount


def forget_memories_before(connection: Connection, before_ms: int) -> int:
    return connection.execute(delete(memories).where(memories.c.created_at_ms < before_ms)).rowcount


def delete_records_before(connection: Connection, before_ms: int) -> int:
    """One batch of the oldest requests and their attempts; how many."""
    oldest = select(requests.c.id).where(requests.c.created_at_ms < before_ms)
    ids = [id for (id,) in connection.execute(oldest.order_by(requests.c.id).limit(BATCH))]
    if ids:
        connection.execute(delete(attempts).where(attempts.c.request_id.in_(ids)))
        connection.execute(delete(signals).where(signals.c.request_id.in_(ids)))
        connection.execute(delete(requests).where(requests.c.id.in_(ids)))
    return len(ids)


def drop_empty_days(connection: Connection, before_ms: int) -> None:
    """On PostgreSQL, the partitions of the days before, when `delete_records_before` has emptied them."""
    if connection.dialect.name == "postgresql":
        postgres.drop_before(connection, before_ms // postgres.DAY_MS)


def silent_accounts(connection: Connection) -> tuple[str, ...]:
    """The accounts with zero retention, of which there is no text to be found."""
    rows = connection.execute(select(accounts.c.id, accounts.c.settings).where(accounts.c.settings.is_not(None)))
    return tuple(id for id, settings in rows if account_settings_of(settings).zero_retention)


def scrub(connection: Connection) -> None:
    """What was forgotten leaves the write-ahead log too (SQLite)."""
    if connection.dialect.name == "sqlite":
        connection.execute(text("COMMIT"))  # a checkpoint can't be made within a transaction
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        connection.execute(text("BEGIN"))


def _blank(connection: Connection, which: ColumnElement[bool]) -> int:
    columns = ("prompt", "answer", *TOLD_BY_PROVIDER)
    told = or_(*(requests.c[name].is_not(None) for name in columns))
    some = select(requests.c.id).where(which, told).limit(BATCH)
    ids = [id for (id,) in connection.execute(some)]
    if ids:
        of_them = update(requests).where(requests.c.id.in_(ids))
        connection.execute(of_them.values(dict.fromkeys(columns)))
    return len(ids)
