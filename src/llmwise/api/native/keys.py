"""API keys: what the caller's own is, and, for administrators, making and revoking them."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from llmwise.api.auth import require_admin
from llmwise.api.frame import Call
from llmwise.storage.rows import KeyRow


class KeyInfo(Struct):
    """A key without its secret. `prefix` is what of it may be shown."""

    id: str
    name: str
    prefix: str
    admin: bool
    created_at_ms: int
    revoked: bool
    has_key: bool = True


class GenerateBody(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1, max_length=100)] = "unnamed"
    admin: bool = False


class Generated(KeyInfo, kw_only=True):
    """The new key; `key` is shown this once and not kept."""

    key: str


class RevokeQuery(Struct, forbid_unknown_fields=True):
    """Which key: its id, name or shown prefix. Absent: the caller's own."""

    id: Annotated[str, Meta(min_length=1, max_length=100)] | None = None


async def info(call: Call) -> KeyInfo:
    """GET /api/v1/keys/info."""
    assert call.key is not None
    return KeyInfo(**_fields(call.key))


async def generate(call: Call) -> Generated:
    """POST /api/v1/keys/generate, for administrators."""
    body: GenerateBody = call.body or GenerateBody()
    row, raw = await call.services.store.create_key(body.name, body.admin, call.services.clock.unix_ms())
    call.services.authenticator.forget()
    return Generated(**_fields(row), key=raw)


async def revoke(call: Call) -> KeyInfo:
    """DELETE /api/v1/keys/revoke: the caller's own key, or, for administrators, the one that `id` names."""
    assert call.key is not None
    query: RevokeQuery = call.query
    if query.id is not None and query.id != call.key.id:
        require_admin(call.key)
    row = await call.services.store.revoke_key(query.id or call.key.id, call.services.clock.unix_ms())
    call.services.authenticator.forget()
    return KeyInfo(**_fields(row))


def _fields(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "admin": row.admin,
        "created_at_ms": row.created_at_ms,
        "revoked": row.revoked_at_ms is not None,
    }
