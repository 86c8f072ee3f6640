"""What is kept beside the traffic: documents, what was said of answers, leases; and settled requests in bulk.

A document is one JSON text with a kind and an id. `change` reads and writes it in one transaction, so that two workers
never lose each other's change.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import astuple
from sqlalchemy import Connection, delete, func, insert, select, update

from llmwise.domain.records import AttemptRecord
from llmwise.storage import lone
from llmwise.storage.ledger import records_between
from llmwise.storage.rows import SettledRequest
from llmwise.storage.tables import attempts, documents, leases, signals

Kind: TypeAlias = Literal["control", "policy", "event", "snapshot", "suite", "run", "schedule", "alert"]

READ_AT_ONCE = 500
"""Ids in one statement; SQLite takes 32,766 parameters, PostgreSQL plans long lists slowly."""


class Document(Struct, frozen=True):
    kind: Kind
    id: str
    created_at_ms: int
    updated_at_ms: int
    body: str


class Signal(Struct, frozen=True):
    """Something said of a request's answer. `value` is 0..1, `None` for a mere comment. `version` names the judge and
    its prompt. `cost_nanousd` is what asking cost. The same `id` is stored once."""

    id: str
    request_id: str
    created_at_ms: int
    source: Literal["user", "judge"]
    name: Literal["score", "thumbs", "regenerate", "comment", "judge"]
    value: float | None
    version: str | None = None
    key_id: str | None = None
    comment: str | None = None
    cost_nanousd: int | None = None


def document(connection: Connection, kind: Kind, id: str) -> Document | None:
    row = connection.execute(select(documents).where(documents.c.kind == kind, documents.c.id == id)).one_or_none()
    return None if row is None else Document(*row)


def put(connection: Connection, given: Document) -> None:
    """Add, or replace all but the time of creation."""
    change(connection, given.kind, given.id, given.created_at_ms, lambda _: given.body)


def change(connection: Connection, kind: Kind, id: str, now_ms: int, to: Callable[[str | None], str]) -> Document:
    """The document's body becomes what `to` makes of it; `None`: there was none. What `to` raises changes nothing."""
    old = document(connection, kind, id)
    body = to(None if old is None else old.body)
    if old is None:
        new = Document(kind, id, now_ms, now_ms, body)
        connection.execute(insert(documents).values(astuple(new)))
        return new
    of_it = update(documents).where(documents.c.kind == kind, documents.c.id == id)
    connection.execute(of_it.values(body=body, updated_at_ms=now_ms))
    return Document(kind, id, old.created_at_ms, now_ms, body)


def latest(connection: Connection, kind: Kind, limit: int) -> tuple[int, tuple[Document, ...]]:
    """How many there are of a kind, and the newest of them, newest first."""
    of_kind = documents.c.kind == kind
    total = connection.execute(select(func.count()).select_from(documents).where(of_kind)).scalar_one()
    newest = (documents.c.created_at_ms.desc(), documents.c.id.desc())
    rows = connection.execute(select(documents).where(of_kind).order_by(*newest).limit(limit))
    return total, tuple(Document(*row) for row in rows)


def beginning(
    connection: Connection, kind: Kind, begins: str, holds: str, before_ms: int, limit: int
) -> tuple[Document, ...]:
    """Documents from before whose body begins so and holds this, any first."""
    like = (documents.c.body.startswith(begins, autoescape=True), documents.c.body.contains(holds, autoescape=True))
    wanted = select(documents).where(documents.c.kind == kind, documents.c.created_at_ms < before_ms, *like)
    return tuple(Document(*row) for row in connection.execute(wanted.limit(limit)))


def remove(connection: Connection, kind: Kind, id: str) -> bool:
    """Whether there was one."""
    return bool(connection.execute(delete(documents).where(documents.c.kind == kind, documents.c.id == id)).rowcount)


def add_signals(connection: Connection, given: Sequence[Signal]) -> int:
    """How many of them were new."""
    known = {
        id
        for some in _slices([signal.id for signal in given])
        for (id,) in connection.execute(select(signals.c.id).where(signals.c.id.in_(some)))
    }
    new = [signal for signal in given if signal.id not in known]
    if new:
        connection.execute(insert(signals), [dict(zip(signals.c.keys(), astuple(s), strict=True)) for s in new])
    return len(new)


def signals_since(connection: Connection, since_ms: int) -> tuple[Signal, ...]:
    """In the order of their coming."""
    wanted = select(signals).where(signals.c.created_at_ms >= since_ms)
    return tuple(Signal(*row) for row in connection.execute(wanted.order_by(signals.c.created_at_ms, signals.c.id)))


def signals_of(connection: Connection, request_id: str) -> tuple[Signal, ...]:
    wanted = select(signals).where(signals.c.request_id == request_id)
    return tuple(Signal(*row) for row in connection.execute(wanted.order_by(signals.c.created_at_ms, signals.c.id)))


def settled_between(
    connection: Connection,
    since_ms: int,
    until_ms: int,
    limit: int,
    *,
    texts: bool = False,
    key_id: str | None = None,
) -> tuple[SettledRequest, ...]:
    """The newest `limit` single answers (mode `chat`) that began in the window, oldest first, with their attempts.
    Without `texts` the answer is left out, and the question where the task type is known."""
    rows = records_between(connection, since_ms, until_ms, limit, texts=texts, key_id=key_id)
    several = [record.id for record, folded in rows if folded is None]
    of: dict[str, list[AttemptRecord]] = defaultdict(list)
    for some in _slices(several):
        wanted = select(attempts).where(attempts.c.request_id.in_(some)).order_by(attempts.c.number)
        for row in connection.execute(wanted):
            attempt = AttemptRecord(*row)
            of[attempt.request_id].append(attempt)
    found = [SettledRequest(r, tuple(of[r.id]) if f is None else (lone.unfold(r, f),)) for r, f in rows]
    return tuple(reversed(found))


def lease(connection: Connection, name: str, holder: str, now_ms: int, for_ms: int) -> bool:
    """Whether `holder` has the lease from now on for so long: it was free, over, or its own already."""
    row = connection.execute(select(leases).where(leases.c.name == name)).one_or_none()
    if row is None:
        connection.execute(insert(leases).values(name=name, holder=holder, until_ms=now_ms + for_ms))
        return True
    if row.holder != holder and row.until_ms > now_ms:
        return False
    mine = update(leases).where(leases.c.name == name)
    connection.execute(mine.values(holder=holder, until_ms=now_ms + for_ms))
    return True


def _slices(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + READ_AT_ONCE] for at in range(0, len(ids), READ_AT_ONCE))
