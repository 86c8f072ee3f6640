"""What accounts asked to be remembered: turns with their vectors. Searched by the cosine of the angle, which of vectors
of length 1 is their product.

All vectors of an account and a model are read and multiplied: exact, and with `MOST` of them fast enough for a request
that asked for it. What is beyond that is forgotten, oldest first.
"""

from array import array
from base64 import b64decode, b64encode
from collections.abc import Sequence
from operator import mul
from sys import byteorder

from msgspec import Struct
from msgspec.structs import astuple
from sqlalchemy import Connection, delete, func, insert, select

from llmwise.storage.tables import memories

MOST = 2000
"""Memories of one account."""


class Memory(Struct, frozen=True):
    """One remembered turn. `model` made `vector`, which is packed (`pack`)."""

    id: str
    account_id: str
    created_at_ms: int
    request_id: str
    conversation_id: str | None
    prompt: str
    answer: str
    model: str
    vector: str


class Hit(Struct, frozen=True):
    """A memory that was found; `score` is the cosine, -1..1."""

    memory: Memory
    score: float


def add(connection: Connection, given: Memory) -> None:
    """Remember; the same id is remembered once. The account's oldest beyond `MOST` are forgotten."""
    if connection.execute(select(memories.c.id).where(memories.c.id == given.id)).first() is not None:
        return
    connection.execute(insert(memories).values(astuple(given)))
    own = memories.c.account_id == given.account_id
    newest = (memories.c.created_at_ms.desc(), memories.c.id.desc())
    beyond = select(memories.c.id).where(own).order_by(*newest).offset(MOST).limit(MOST)
    old = [id for (id,) in connection.execute(beyond)]
    if old:
        connection.execute(delete(memories).where(memories.c.id.in_(old)))


def page(connection: Connection, account_id: str, *, limit: int) -> tuple[int, tuple[Memory, ...]]:
    """How many the account has, and the newest."""
    own = memories.c.account_id == account_id
    total = connection.execute(select(func.count()).select_from(memories).where(own)).scalar_one()
    newest = (memories.c.created_at_ms.desc(), memories.c.id.desc())
    rows = connection.execute(select(memories).where(own).order_by(*newest).limit(limit))
    return total, tuple(Memory(*row) for row in rows)


def search(
    connection: Connection, account_id: str, model: str, vector: Sequence[float], *, top_k: int, min_score: float
) -> tuple[Hit, ...]:
    """The nearest first. Vectors of another model than `model` can't be compared, and are not looked at."""
    own = (memories.c.account_id == account_id, memories.c.model == model)
    scored = []
    for id, packed in connection.execute(select(memories.c.id, memories.c.vector).where(*own)):
        other = unpack(packed)
        if len(other) == len(vector):
            score = sum(map(mul, vector, other))
            if score >= min_score:
                scored.append((score, id))
    scored.sort(reverse=True)
    best = scored[:top_k]
    rows = connection.execute(select(memories).where(memories.c.id.in_([id for _, id in best])))
    found = {row.id: Memory(*row) for row in rows}
    return tuple(Hit(found[id], round(min(1.0, max(-1.0, score)), 6)) for score, id in best)


def remove(connection: Connection, account_id: str, id: str | None = None) -> int:
    """Forget one, or all that the account has; how many there were."""
    which = [memories.c.account_id == account_id]
    if id is not None:
        which.append(memories.c.id == id)
    return connection.execute(delete(memories).where(*which)).rowcount


def pack(vector: Sequence[float]) -> str:
    """Of length 1, as base64 of 32-bit floats, little-endian."""
    length = sum(x * x for x in vector) ** 0.5
    floats = array("f", [x / length for x in vector] if length else vector)
    if byteorder == "big":
        floats.byteswap()
    return b64encode(floats.tobytes()).decode()


def unpack(packed: str) -> "array[float]":
    floats = array("f")
    floats.frombytes(b64decode(packed))
    if byteorder == "big":
        floats.byteswap()
    return floats
