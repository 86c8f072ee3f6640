"""Credits: 100 are one US dollar. What is left, what moved, and how an administrator adds to it.

An account is unlimited until it has a budget or a grant; a balance that is `null` is without end.
"""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from llmwise.api.auth import principal_of
from llmwise.api.frame import Call
from llmwise.domain.access import AutoTopUp, account_settings_of
from llmwise.domain.errors import NotImplementedHere, Unprocessable
from llmwise.domain.money import CREDITS_PER_USD, from_usd, to_credits, to_usd
from llmwise.domain.records import LedgerEntry
from llmwise.state.port import Standing
from llmwise.storage.rows import AccountRow, KeyRow

Usd = Annotated[float, Meta(ge=0.000001, le=1_000_000)]

PACKS_USD = {"small": 10, "medium": 50, "large": 200}

NO_PAYMENT = "no payment is set up at this gateway: ask its administrator for credit"


class BudgetStanding(Struct):
    """One budget that bounds the caller. `owner` is `key` or `account`; `limit_usd` refuses, `warning_usd` warns; both
    may be `null`. `resets_at_ms` is Unix time, `null`: never."""

    owner: str
    period: str
    limit_usd: float | None
    warning_usd: float | None
    spent_usd: float
    reserved_usd: float
    resets_at_ms: int | None


class Balance(Struct):
    """`balance` in credits, by the account's budget in all; `null` when it is unlimited."""

    balance: float | None
    balance_usd: float | None
    unlimited: bool
    spent_credits: float
    reserved_credits: float
    account_id: str
    budgets: list[BudgetStanding]


class AutoTopUpInfo(Struct):
    """`active` says whether anything is ever bought: only where a payment is set up."""

    enabled: bool
    threshold_credits: int
    amount_usd: float
    monthly_cap_usd: float
    active: bool


class Wallet(Struct):
    account_id: str
    name: str
    balance: float | None
    balance_usd: float | None
    unlimited: bool
    currency: str
    credits_per_usd: int
    auto_topup: AutoTopUpInfo


class Transaction(Struct):
    """Credit that moved: what takes from the account is negative. `type` is `reserve`, `settle` or `refund` of a
    request, or an administrator's `grant`, `purchase` or `adjust`."""

    id: str
    type: str
    credits: float
    amount_usd: float
    created_at_ms: int
    key_id: str | None
    request_id: str | None
    note: str | None


class Pack(Struct):
    id: str
    amount_usd: float
    credits: int


class TransactionsQuery(Struct, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class PurchaseBody(Struct):
    """An amount or a pack, not both; other fields are the clients' own tracking and are not looked at."""

    amount_usd: Usd | None = None
    pack_id: str | None = None
    account_id: Annotated[str, Meta(max_length=64)] | None = None


class Purchase(Struct):
    """What was granted. `status` is `completed`."""

    id: str
    status: str
    account_id: str
    amount_usd: float
    credits: float
    balance: float | None


class CheckoutBody(Struct):
    session_id: Annotated[str, Meta(max_length=500)]


class TopUpBody(Struct, forbid_unknown_fields=True):
    enabled: bool
    threshold_credits: Annotated[int, Meta(ge=0, le=100_000_000)] = 300
    amount_usd: Usd = 10.0
    monthly_cap_usd: Usd = 200.0


async def balance(call: Call) -> Balance:
    """GET /api/v1/credits/balance."""
    account, standings = await _standings(call)
    total = _total(standings)
    left = _left(total)
    return Balance(
        balance=None if left is None else to_credits(left),
        balance_usd=None if left is None else to_usd(left),
        unlimited=left is None,
        spent_credits=to_credits(total.spent_nanousd) if total is not None else await _spent_credits(call),
        reserved_credits=to_credits(total.reserved_nanousd) if total is not None else 0.0,
        account_id=account.id,
        budgets=[_budget(standing) for standing in standings],
    )


async def wallet(call: Call) -> Wallet:
    """GET /api/v1/credits/wallet."""
    account, standings = await _standings(call)
    left = _left(_total(standings))
    return Wallet(
        account_id=account.id,
        name=account.name,
        balance=None if left is None else to_credits(left),
        balance_usd=None if left is None else to_usd(left),
        unlimited=left is None,
        currency="USD",
        credits_per_usd=CREDITS_PER_USD,
        auto_topup=_topup(account_settings_of(account.settings).auto_topup),
    )


async def transactions(call: Call) -> list[Transaction]:
    """GET /api/v1/credits/transactions, newest first: the caller's own; for an administrator all of its account's."""
    key, query = _key(call), call.query
    await call.services.writer.flush()
    entries = await call.services.store.transactions(
        key.account_id, None if key.admin else key.id, limit=query.limit, offset=query.offset
    )
    return [
        Transaction(
            entry.id,
            entry.kind,
            to_credits(entry.amount_nanousd),
            to_usd(entry.amount_nanousd),
            entry.created_at_ms,
            entry.key_id,
            entry.request_id,
            entry.note,
        )
        for entry in entries
    ]


async def packs(call: Call) -> list[Pack]:
    """GET /api/v1/credits/packs: what `purchase` takes as `pack_id`."""
    return [Pack(id, float(usd), usd * CREDITS_PER_USD) for id, usd in PACKS_USD.items()]


async def purchase(call: Call) -> Purchase:
    """POST /api/v1/credits/purchase: an administrator's grant, to its own account or another. An account that was
    unlimited is prepaid from then on. For others 501: nothing is paid for here."""
    key, body = _key(call), call.body
    amount_usd = _amount_usd(body)
    if not key.admin:
        raise NotImplementedHere(NO_PAYMENT, code="payments_not_set_up")
    services = call.services
    account_id = body.account_id or key.account_id
    await services.writer.flush()  # what was spent counts when an unlimited account becomes prepaid
    entry = LedgerEntry(
        id=f"{services.new_request_id()}/grant",
        account_id=account_id,
        key_id=None,
        request_id=None,
        kind="grant",
        amount_nanousd=from_usd(amount_usd),
        created_at_ms=services.clock.unix_ms(),
        note=f"granted with {key.id}",
    )
    account = await services.store.grant(entry)
    services.authenticator.forget()
    principal = principal_of(replace(key, account_id=account_id, settings=None), account.settings)
    left = _left(_total(await services.state.standings(principal.purses, services.clock.unix_ms())))
    return Purchase(
        id=entry.id,
        status="completed",
        account_id=account_id,
        amount_usd=amount_usd,
        credits=amount_usd * CREDITS_PER_USD,
        balance=None if left is None else to_credits(left),
    )


async def confirm_checkout(call: Call) -> Purchase:
    """POST /api/v1/credits/confirm-checkout: there are no checkouts here."""
    raise NotImplementedHere(NO_PAYMENT, code="payments_not_set_up")


async def auto_topup(call: Call) -> AutoTopUpInfo:
    """PUT /api/v1/credits/auto-topup: kept, and without effect while no payment is set up."""
    body: TopUpBody = call.body
    wanted = AutoTopUp(body.enabled, body.threshold_credits, body.amount_usd, body.monthly_cap_usd)
    await call.services.store.change_account(
        _key(call).account_id,
        call.services.clock.unix_ms(),
        lambda settings: replace(settings, auto_topup=wanted),
    )
    return _topup(wanted)


def _key(call: Call) -> KeyRow:
    assert call.key is not None, "these routes need a key"
    return call.key


async def _standings(call: Call) -> tuple[AccountRow, tuple[Standing, ...]]:
    key = _key(call)
    account = await call.services.store.account(key.account_id)
    purses = principal_of(key, account.settings).purses
    return account, await call.services.state.standings(purses, call.services.clock.unix_ms())


async def _spent_credits(call: Call) -> float:
    await call.services.writer.flush()
    return to_credits(await call.services.store.spent(_key(call).account_id, None, 0))


def _total(standings: tuple[Standing, ...]) -> Standing | None:
    for standing in standings:
        purse = standing.purse
        if (purse.kind, purse.period) == ("account", "total") and purse.hard_nanousd is not None:
            return standing
    return None


def _left(total: Standing | None) -> int | None:
    if total is None or total.purse.hard_nanousd is None:
        return None
    return total.purse.hard_nanousd - total.spent_nanousd - total.reserved_nanousd


def _budget(standing: Standing) -> BudgetStanding:
    purse = standing.purse
    return BudgetStanding(
        owner=purse.kind,
        period=purse.period,
        limit_usd=None if purse.hard_nanousd is None else to_usd(purse.hard_nanousd),
        warning_usd=None if purse.soft_nanousd is None else to_usd(purse.soft_nanousd),
        spent_usd=to_usd(standing.spent_nanousd),
        reserved_usd=to_usd(standing.reserved_nanousd),
        resets_at_ms=standing.ends_ms,
    )


def _topup(settings: AutoTopUp) -> AutoTopUpInfo:
    return AutoTopUpInfo(
        settings.enabled, settings.threshold_credits, settings.amount_usd, settings.monthly_cap_usd, active=False
    )


def _amount_usd(body: PurchaseBody) -> float:
    if body.pack_id is not None:
        if body.amount_usd is not None:
            raise Unprocessable("amount_usd and pack_id: name an amount or a pack, not both", param="pack_id")
        if body.pack_id not in PACKS_USD:
            known = ", ".join(PACKS_USD)
            raise Unprocessable(f"pack_id = {body.pack_id[:100]!r}: there are {known}", param="pack_id")
        return float(PACKS_USD[body.pack_id])
    if body.amount_usd is None:
        raise Unprocessable("amount_usd: say how much, or name a pack with pack_id", param="amount_usd")
    return body.amount_usd
