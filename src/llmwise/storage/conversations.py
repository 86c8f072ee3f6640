"""Conversations: a row says that there is one; its turns are the requests that name it.

So a turn's text is stored once, and what is redacted, purged or too old in the history is so here. A conversation is
its account's: requests of other accounts' keys that name the same id are not in it.
"""

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, delete, func, insert, select, update

from llmwise.domain.records import RequestRecord
from llmwise.storage.ledger import records
from llmwise.storage.tables import conversations, keys, requests

MOST_TURNS = 500
"""Of one conversation, the newest are read."""


class Conversation(Struct, frozen=True):
    """`updated_at_ms` is its last turn's time, or that of its making; times are Unix ms."""

    id: str
    title: str | None
    created_at_ms: int
    updated_at_ms: int
    turns: int


def create(
    connection: Connection, id: str, account_id: str, key_id: str, title: str | None, now_ms: int
) -> Conversation:
    row = {"id": id, "account_id": account_id, "key_id": key_id, "title": title, "created_at_ms": now_ms}
    connection.execute(insert(conversations).values(row))
    return Conversation(id, title, now_ms, now_ms, 0)


def page(connection: Connection, account_id: str, *, limit: int, offset: int) -> tuple[int, tuple[Conversation, ...]]:
    """How many the account has, and one page of them, the newest first."""
    own = conversations.c.account_id == account_id
    total = connection.execute(select(func.count()).select_from(conversations).where(own)).scalar_one()
    newest = (conversations.c.created_at_ms.desc(), conversations.c.id.desc())
    rows = connection.execute(select(conversations).where(own).order_by(*newest).limit(limit).offset(offset)).all()
    counted = select(requests.c.conversation_id, func.count(), func.max(requests.c.created_at_ms)).where(
        requests.c.conversation_id.in_([row.id for row in rows]), requests.c.key_id.in_(of_account(account_id))
    )
    turns = {id: (count, last) for id, count, last in connection.execute(counted.group_by(requests.c.conversation_id))}
    found = []
    for row in rows:
        count, last_ms = turns.get(row.id, (0, row.created_at_ms))
        found.append(Conversation(row.id, row.title, row.created_at_ms, max(last_ms, row.created_at_ms), count))
    return total, tuple(found)


def exists(connection: Connection, account_id: str, id: str) -> bool:
    return connection.execute(select(conversations.c.id).where(*_is(account_id, id))).first() is not None


def one(connection: Connection, account_id: str, id: str) -> tuple[Conversation, tuple[RequestRecord, ...]] | None:
    """The conversation and its turns, in the order of time."""
    row = connection.execute(select(conversations).where(*_is(account_id, id))).one_or_none()
    if row is None:
        return None
    turns = records(connection, *_turns(account_id, id), limit=MOST_TURNS)
    count = connection.execute(select(func.count()).select_from(requests).where(*_turns(account_id, id))).scalar_one()
    last_ms = max((turn.created_at_ms for turn in turns), default=row.created_at_ms)
    found = Conversation(row.id, row.title, row.created_at_ms, max(last_ms, row.created_at_ms), count)
    return found, tuple(reversed(turns))


def rename(connection: Connection, account_id: str, id: str, title: str | None) -> bool:
    """Whether there was one."""
    return bool(connection.execute(update(conversations).where(*_is(account_id, id)).values(title=title)).rowcount)


def remove(connection: Connection, account_id: str, id: str) -> int | None:
    """Forget the conversation and the texts of its turns, whose account stays; how many texts there were, `None`
    without such a conversation."""
    if not connection.execute(delete(conversations).where(*_is(account_id, id))).rowcount:
        return None
    kept = requests.c.prompt.is_not(None) | requests.c.answer.is_not(None)
    blank = update(requests).where(*_turns(account_id, id), kept).values(prompt=None, answer=None)
    return connection.execute(blank).rowcount


def of_account(account_id: str) -> Select[tuple[str]]:
    """The ids of the account's keys, revoked ones too."""
    return select(keys.c.id).where(keys.c.account_id == account_id)


def _is(account_id: str, id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return conversations.c.id == id, conversations.c.account_id == account_id


def _turns(account_id: str, id: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return requests.c.conversation_id == id, requests.c.key_id.in_(of_account(account_id))
