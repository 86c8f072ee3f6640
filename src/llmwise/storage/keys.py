"""The gateway's own API keys. The raw key is shown once, when it is made; only its SHA-256 is kept.

A plain hash suffices where the secret is 32 random bytes: there is nothing to guess. It must be fast, since every
request pays for it.
"""

import hashlib
import secrets
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update

from llmwise.domain.access import DEFAULT_ACCOUNT
from llmwise.domain.errors import Conflict, InvalidRequest, NotFound
from llmwise.domain.ids import KeyId
from llmwise.storage.rows import FoundKey, KeyRow, ListedKey
from llmwise.storage.settings import provider_keys
from llmwise.storage.tables import accounts, keys, requests

RAW_PREFIX = "mm_sk_"
LONGEST_NAME = 100
SHOWN_CHARACTERS = 12


def hash_key(raw: str) -> str:
    """What `keys.hash` holds for a raw key."""
    return hashlib.sha256(raw.encode()).hexdigest()


def create_key(
    connection: Connection,
    name: str,
    admin: bool,
    now_ms: int,
    settings: str | None = None,
    *,
    account_id: str = DEFAULT_ACCOUNT,
    expires_at_ms: int | None = None,
) -> tuple[KeyRow, str]:
    """A new key and its raw text, `mm_sk_` and 64 hex digits, which can't be had again. Names need not be unique.
    Raises `InvalidRequest` for a blank name, and `NotFound` for an account that is not there."""
    if not name.strip():
        raise InvalidRequest("a key needs a name that is not blank")
    if len(name) > LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"a key's name has at most {LONGEST_NAME} characters, and none that can't be printed")
    raw = RAW_PREFIX + secrets.token_hex(32)
    row = KeyRow(
        id=KeyId(f"key_{now_ms:012x}{secrets.token_hex(10)}"),  # the layout of `ids.request_id`
        name=name,
        hash=hash_key(raw),
        prefix=raw[:SHOWN_CHARACTERS],
        admin=admin,
        created_at_ms=now_ms,
        revoked_at_ms=None,
        settings=settings,
        account_id=account_id,
        expires_at_ms=expires_at_ms,
    )
    known = select(accounts.c.id).where(accounts.c.id == account_id)
    if account_id != DEFAULT_ACCOUNT and connection.execute(known).first() is None:
        raise NotFound(f"no account {account_id!r}: make it first")
    connection.execute(insert(keys).values({name: getattr(row, name) for name in KeyRow.__struct_fields__}))
    return row, raw


def create_first_key(connection: Connection, name: str, now_ms: int) -> str | None:
    """An administrator's raw key where none was ever made. Of several processes that start at once, one makes it."""
    return None if has_keys(connection) else create_key(connection, name, True, now_ms)[1]


def find_key(connection: Connection, key_hash: str) -> KeyRow | None:
    """The key with this hash, or that had it before it was rotated; `None` for an unknown and for a revoked one alike.
    Whether it works now is for `KeyRow.works` to say."""
    found = find_access(connection, key_hash)
    return None if found is None else found.key


def find_access(connection: Connection, key_hash: str) -> FoundKey | None:
    """`find_key`, with what its account may spend and its own keys of providers."""
    hashed = or_(keys.c.hash == key_hash, keys.c.previous_hash == key_hash)
    wanted = (
        select(keys, accounts.c.settings)
        .join(accounts, accounts.c.id == keys.c.account_id, isouter=True)
        .where(hashed, keys.c.revoked_at_ms.is_(None))
    )
    row = connection.execute(wanted).first()
    if row is None:
        return None
    key = KeyRow(*row[:-1])
    return FoundKey(key, row[-1], provider_keys(connection, key.account_id))


def list_keys(connection: Connection) -> tuple[ListedKey, ...]:
    """All keys, revoked ones too, in the order of their making."""
    last_used = select(func.max(requests.c.created_at_ms)).where(requests.c.key_id == keys.c.id).scalar_subquery()
    columns: list[ColumnElement[Any]] = [*keys.c, last_used]
    rows = connection.execute(select(*columns).order_by(keys.c.created_at_ms, keys.c.id))
    return tuple(ListedKey(*row) for row in rows)


def revoke_key(connection: Connection, which: str, now_ms: int) -> KeyRow:
    """Revoke the key with this id, name or shown prefix, and answer with it. One that is revoked stays as it is.

    Raises `NotFound`, and `Conflict` when a name or prefix fits more than one working key.
    """
    key = one_key(connection, which)
    still_working = keys.c.revoked_at_ms.is_(None)
    connection.execute(update(keys).where(keys.c.id == key.id, still_working).values(revoked_at_ms=now_ms))
    return KeyRow(*connection.execute(select(keys).where(keys.c.id == key.id)).one())


def rotate_key(connection: Connection, which: str, now_ms: int, grace_ms: int) -> tuple[KeyRow, str]:
    """Give the key a new secret, and answer with it. The old one works for `grace_ms` more; one that was rotated away
    before that, no longer. Raises what `revoke_key` does, and `Conflict` for a key that is revoked."""
    key = one_key(connection, which)
    if key.revoked_at_ms is not None:
        raise Conflict(f"{key.id} ({key.name}) is revoked: make a new key")
    raw = RAW_PREFIX + secrets.token_hex(32)
    changes = {
        "hash": hash_key(raw),
        "prefix": raw[:SHOWN_CHARACTERS],
        "previous_hash": key.hash if grace_ms > 0 else None,
        "previous_until_ms": now_ms + grace_ms if grace_ms > 0 else None,
    }
    connection.execute(update(keys).where(keys.c.id == key.id).values(changes))
    return one_key(connection, key.id), raw


def one_key(connection: Connection, which: str) -> KeyRow:
    """The key with this id, name or shown prefix. Of several the working one; raises what `revoke_key` does."""
    named = or_(keys.c.id == which, keys.c.name == which, keys.c.prefix == which)
    found = [KeyRow(*row) for row in connection.execute(select(keys).where(named).order_by(keys.c.id))]
    chosen = [key for key in found if key.id == which] or [key for key in found if key.revoked_at_ms is None]
    if len(chosen) > 1:
        ids = ", ".join(key.id for key in chosen)
        raise Conflict(f"{which!r} fits {len(chosen)} keys: say which by id ({ids})")
    if not chosen:
        if found:
            return found[-1]
        said = f"{which[:SHOWN_CHARACTERS]}..." if which.startswith(RAW_PREFIX) else which  # it may be a whole key
        raise NotFound(f"no key has the id, name or prefix {said!r}")
    return chosen[0]


def has_keys(connection: Connection) -> bool:
    """Whether a key was ever made. Revoked ones count: revoking the last key must not open the gateway."""
    return connection.execute(select(keys.c.id).limit(1)).first() is not None
