"""API keys: what the caller's own is, and, for administrators, making, listing, rotating and revoking them, and the
accounts that pay for them."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.json import encode

from llmwise.api.auth import require_admin
from llmwise.api.frame import Call
from llmwise.catalog.lookup import Catalog
from llmwise.domain.access import DEFAULT_ACCOUNT, Access, Budget, Period, access_of, account_settings_of
from llmwise.domain.errors import Unprocessable
from llmwise.domain.money import from_usd, to_usd
from llmwise.domain.records import Mode
from llmwise.storage.accounts import set_budgets as set_budgets_of
from llmwise.storage.rows import AccountRow, KeyRow

Name = Annotated[str, Meta(min_length=1, max_length=100)]
Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]

DAY_S = 24 * 3600


class BudgetItem(Struct):
    """At most `usd` in each UTC `period`; a soft budget (`hard` false) only warns. Grants raise a total one."""

    period: Period
    usd: float
    hard: bool = True


class BudgetBody(Struct, forbid_unknown_fields=True):
    """A budget to be set: the fields of `BudgetItem`."""

    period: Period
    usd: Annotated[float, Meta(ge=0, le=1_000_000)]
    hard: bool = True


class KeyInfo(Struct):
    """A key without its secret. `prefix` is what of it may be shown. `null` is "no bound of its own"."""

    id: str
    name: str
    prefix: str
    admin: bool
    created_at_ms: int
    revoked: bool
    account_id: str
    expires_at_ms: int | None
    models: list[str] | None
    modes: list[str] | None
    budgets: list[BudgetItem]
    requests_per_minute: int | None
    burst: int | None
    tokens_per_minute: int | None
    concurrency: int | None
    has_key: bool = True


class GenerateBody(Struct, forbid_unknown_fields=True):
    """What the new key may do; what is left out is not bounded. `expires_at` is ISO 8601, in UTC unless it says
    otherwise."""

    name: Name = "unnamed"
    admin: bool = False
    account_id: Annotated[str, Meta(max_length=64)] = DEFAULT_ACCOUNT
    models: Annotated[list[str], Meta(min_length=1, max_length=200)] | None = None
    modes: Annotated[list[Mode], Meta(min_length=1)] | None = None
    expires_at: Annotated[str, Meta(max_length=40)] | None = None
    budgets: Annotated[list[BudgetBody], Meta(max_length=8)] = []
    requests_per_minute: Positive | None = None
    burst: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Positive | None = None
    strict: bool = False


class Generated(KeyInfo, kw_only=True):
    """The new key; `key` is shown this once and not kept."""

    key: str


class WhichKey(Struct, forbid_unknown_fields=True):
    """Which key: its id, name or shown prefix. Absent: the caller's own."""

    id: Name | None = None


class RotateBody(Struct, forbid_unknown_fields=True):
    """For so long the old secret still works."""

    grace_s: Annotated[int, Meta(ge=0, le=90 * DAY_S)] = DAY_S


class Rotated(Generated, kw_only=True):
    """`key` is the new secret, shown this once; the old one works until `previous_works_until_ms`."""

    previous_works_until_ms: int | None


class KeyList(Struct):
    total: int
    items: list[KeyInfo]


class AccountInfo(Struct):
    """Who pays for keys, and what they may spend together."""

    id: str
    name: str
    created_at_ms: int
    budgets: list[BudgetItem]


class AccountList(Struct):
    total: int
    items: list[AccountInfo]


class AccountBody(Struct, forbid_unknown_fields=True):
    id: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Annotated[str, Meta(max_length=100)] = ""


class BudgetsBody(Struct, forbid_unknown_fields=True):
    """They take the place of those that were there; none: unlimited. But where credit was granted the hard `total`
    stays, unless another one is among them."""

    budgets: Annotated[list[BudgetBody], Meta(max_length=8)]


async def info(call: Call) -> KeyInfo:
    """GET /api/v1/keys/info."""
    assert call.key is not None
    return KeyInfo(**_fields(call.key))


async def list_keys(call: Call) -> KeyList:
    """GET /api/v1/keys, for administrators."""
    rows = await call.services.store.list_keys()
    return KeyList(len(rows), [KeyInfo(**_fields(row)) for row in rows])


async def generate(call: Call) -> Generated:
    """POST /api/v1/keys/generate, for administrators."""
    body: GenerateBody = call.body or GenerateBody()
    settings = settings_text(access_from(body, call.services.catalog, call.services.planner.composed))
    now_ms = call.services.clock.unix_ms()
    expires_at_ms = None if body.expires_at is None else expiry(body.expires_at, now_ms)
    row, raw = await call.services.store.create_key(
        body.name, body.admin, now_ms, settings, account_id=body.account_id, expires_at_ms=expires_at_ms
    )
    call.services.authenticator.forget()
    return Generated(**_fields(row), key=raw)


async def rotate(call: Call) -> Rotated:
    """POST /api/v1/keys/rotate: the caller's own key, or, for administrators, the one that `id` names."""
    body: RotateBody = call.body or RotateBody()
    now_ms = call.services.clock.unix_ms()
    row, raw = await call.services.store.rotate_key(_which(call), now_ms, body.grace_s * 1000)
    call.services.authenticator.forget()
    return Rotated(**_fields(row), key=raw, previous_works_until_ms=row.previous_until_ms)


async def revoke(call: Call) -> KeyInfo:
    """DELETE /api/v1/keys/revoke: the caller's own key, or, for administrators, the one that `id` names."""
    row = await call.services.store.revoke_key(_which(call), call.services.clock.unix_ms())
    call.services.authenticator.forget()
    return KeyInfo(**_fields(row))


async def accounts(call: Call) -> AccountList:
    """GET /api/v1/accounts, for administrators."""
    rows = await call.services.store.list_accounts()
    return AccountList(len(rows), [_account(row) for row in rows])


async def create_account(call: Call) -> AccountInfo:
    """POST /api/v1/accounts, for administrators."""
    body: AccountBody = call.body
    return _account(await call.services.store.create_account(body.id, body.name, call.services.clock.unix_ms()))


async def set_budgets(call: Call) -> AccountInfo:
    """PUT /api/v1/accounts/{account_id}/budgets, for administrators."""
    body: BudgetsBody = call.body
    services, account_id = call.services, call.path["account_id"]
    budgets, entry_id = budgets_from(body.budgets), f"{services.new_request_id()}/adjust"
    row = await services.store.write(set_budgets_of, account_id, budgets, entry_id, services.clock.unix_ms())
    services.authenticator.forget()
    return _account(row)


def access_from(body: GenerateBody, catalog: Catalog, composed: Collection[str] = ()) -> Access:
    """Raises `UnknownModel` for a model that is not on offer. `composed` are the names of blends and cascades."""
    models: tuple[str, ...] | None = None
    if body.models is not None:
        models = tuple([name if name in composed else catalog.resolve(name, None).id for name in body.models])
    return Access(
        models=models,
        modes=None if body.modes is None else tuple(body.modes),
        budgets=budgets_from(body.budgets),
        requests_per_minute=body.requests_per_minute,
        burst=body.burst,
        tokens_per_minute=body.tokens_per_minute,
        concurrency=body.concurrency,
        strict=body.strict,
    )


def settings_text(access: Access) -> str | None:
    """What the key's row keeps."""
    return None if access == Access() else encode(access).decode()


def budgets_from(items: list[BudgetBody]) -> tuple[Budget, ...]:
    return tuple(Budget(item.period, from_usd(item.usd), item.hard) for item in items)


def expiry(text: str, now_ms: int) -> int:
    """Raises `Unprocessable` for what is no time, and for one that is past."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        message = f"expires_at = {text!r}: no time; write it like 2027-01-31 or 2027-01-31T12:00:00Z"
        raise Unprocessable(message, param="expires_at") from None
    expires_at_ms = int((when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp() * 1000)
    if expires_at_ms <= now_ms:
        raise Unprocessable(f"expires_at = {text!r}: is past", param="expires_at")
    return expires_at_ms


def budget_items(budgets: tuple[Budget, ...]) -> list[BudgetItem]:
    return [BudgetItem(one.period, to_usd(one.limit_nanousd), one.hard) for one in budgets]


def _which(call: Call) -> str:
    """Raises `Forbidden` when it is somebody else's and the caller is no administrator."""
    assert call.key is not None
    query: WhichKey = call.query
    if query.id is not None and query.id != call.key.id:
        require_admin(call.key)
    return query.id or call.key.id


def _account(row: AccountRow) -> AccountInfo:
    budgets = budget_items(account_settings_of(row.settings).budgets)
    return AccountInfo(row.id, row.name, row.created_at_ms, budgets)


def _fields(row: KeyRow) -> dict[str, Any]:
    access = access_of(row.settings)
    return {
        "id": row.id,
        "name": row.name,
        "prefix": row.prefix,
        "admin": row.admin,
        "created_at_ms": row.created_at_ms,
        "revoked": row.revoked_at_ms is not None,
        "account_id": row.account_id,
        "expires_at_ms": row.expires_at_ms,
        "models": None if access.models is None else [*access.models],
        "modes": None if access.modes is None else [*access.modes],
        "budgets": budget_items(access.budgets),
        "requests_per_minute": access.requests_per_minute,
        "burst": access.burst,
        "tokens_per_minute": access.tokens_per_minute,
        "concurrency": access.concurrency,
    }
