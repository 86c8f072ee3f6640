"""Accounts: who pays for keys, what they may spend, what they have spent."""

from collections.abc import Callable

import msgspec
from msgspec.structs import astuple, replace
from sqlalchemy import ColumnElement, Connection, func, insert, literal_column, select, update

from llmwise.domain.access import DEFAULT_ACCOUNT, AccountSettings, Budget, account_settings_of
from llmwise.domain.errors import Conflict, InvalidRequest, NotFound
from llmwise.domain.records import LedgerEntry
from llmwise.storage.rows import AccountRow
from llmwise.storage.tables import accounts, ledger

LONGEST_ID = 64

_REQUESTS = ("reserve", "settle", "refund")
"""The entries that requests make; the others are an administrator's."""


def account(connection: Connection, account_id: str) -> AccountRow:
    """Raises `NotFound`. The default account is there without a row."""
    row = connection.execute(select(accounts).where(accounts.c.id == account_id)).one_or_none()
    if row is not None:
        return AccountRow(*row)
    if account_id == DEFAULT_ACCOUNT:
        return AccountRow(DEFAULT_ACCOUNT, DEFAULT_ACCOUNT, 0, None)
    raise NotFound(f"no account {account_id[:LONGEST_ID]!r}")


def list_accounts(connection: Connection) -> tuple[AccountRow, ...]:
    rows = [AccountRow(*row) for row in connection.execute(select(accounts).order_by(accounts.c.id))]
    if all(row.id != DEFAULT_ACCOUNT for row in rows):
        rows.insert(0, account(connection, DEFAULT_ACCOUNT))
    return tuple(rows)


def create_account(connection: Connection, account_id: str, name: str, now_ms: int) -> AccountRow:
    """Raises `InvalidRequest` for an id that is none, and `Conflict` for one that is taken."""
    if not account_id.isascii() or not account_id.replace("-", "").replace("_", "").isalnum():
        raise InvalidRequest(f"account id {account_id!r}: letters, digits, - and _ only")
    if len(account_id) > LONGEST_ID:
        raise InvalidRequest(f"an account's id has at most {LONGEST_ID} characters")
    taken = connection.execute(select(accounts.c.id).where(accounts.c.id == account_id)).first()
    if taken is not None or account_id == DEFAULT_ACCOUNT:
        raise Conflict(f"there is an account {account_id!r} already")
    row = AccountRow(account_id, name or account_id, now_ms, None)
    connection.execute(insert(accounts).values(astuple(row)))
    return row


def change_account(
    connection: Connection, account_id: str, now_ms: int, change: Callable[[AccountSettings], AccountSettings]
) -> AccountRow:
    """Its settings become what `change` makes of them. Raises `NotFound`."""
    old = account(connection, account_id)
    text = msgspec.json.encode(change(account_settings_of(old.settings))).decode()
    changed = connection.execute(update(accounts).where(accounts.c.id == account_id).values(settings=text))
    if not changed.rowcount:
        connection.execute(insert(accounts).values(id=old.id, name=old.name, created_at_ms=now_ms, settings=text))
    return account(connection, account_id)


def set_budgets(
    connection: Connection, account_id: str, budgets: tuple[Budget, ...], entry_id: str, now_ms: int
) -> AccountRow:
    """These take the place of those that were there, but that credit which was granted stays, as the hard budget in
    all, unless they name another one. Raises `NotFound`."""
    granted = connection.execute(select(ledger.c.id).where(*_not_of_requests(account_id)).limit(1)).first() is not None
    named = _total(budgets)
    if granted and named is not None:
        _adjust(connection, account_id, named.limit_nanousd, entry_id, now_ms)

    def changed(settings: AccountSettings) -> AccountSettings:
        kept = _total(settings.budgets) if granted and named is None else None
        return replace(settings, budgets=budgets if kept is None else (kept, *budgets))

    return change_account(connection, account_id, now_ms, changed)


def grant(connection: Connection, entry: LedgerEntry) -> AccountRow:
    """Write the entry, and let the account spend so much more in all. One that was unlimited is from now on prepaid: it
    may spend what it was granted beyond what it has spent. Raises `NotFound`."""
    account_id, now_ms = entry.account_id, entry.created_at_ms
    old = _total(account_settings_of(account(connection, account_id).settings).budgets)
    limit = spent(connection, account_id, None, 0) if old is None else old.limit_nanousd
    _adjust(connection, account_id, limit, f"{entry.id.partition('/')[0]}/adjust", now_ms)
    connection.execute(insert(ledger).values(astuple(entry)))

    def raised(settings: AccountSettings) -> AccountSettings:
        others = tuple(one for one in settings.budgets if one != old)
        return replace(settings, budgets=(Budget("total", limit + entry.amount_nanousd), *others))

    return change_account(connection, account_id, now_ms, raised)


def spent(connection: Connection, account_id: str, key_id: str | None, since_ms: int) -> int:
    """What requests since then have cost, in nano-USD; of one key, or of all that the account pays for. Only what was
    settled: what a request reserved it has given back in the same transaction."""
    which = [ledger.c.account_id == account_id, ledger.c.created_at_ms >= since_ms, ledger.c.kind == "settle"]
    return -_sum(connection, *which, *([] if key_id is None else [ledger.c.key_id == key_id]))


def transactions(
    connection: Connection, account_id: str, key_id: str | None, *, limit: int, offset: int
) -> tuple[LedgerEntry, ...]:
    """One page of the entries of an account, or of one of its keys, newest first."""
    wanted = select(ledger).where(ledger.c.account_id == account_id)
    if key_id is not None:
        wanted = wanted.where(ledger.c.key_id == key_id)
    page = wanted.order_by(ledger.c.created_at_ms.desc(), ledger.c.id.desc()).limit(limit).offset(offset)
    return tuple(LedgerEntry(*row) for row in connection.execute(page))


def _total(budgets: tuple[Budget, ...]) -> Budget | None:
    return next((one for one in budgets if one.period == "total" and one.hard), None)


def _adjust(connection: Connection, account_id: str, limit_nanousd: int, entry_id: str, now_ms: int) -> None:
    """Make the entries that are no request's add up to the budget in all, so that the sum of all is the balance."""
    missing = limit_nanousd - _sum(connection, *_not_of_requests(account_id))
    if missing:
        note = "what it could spend in all until now"
        entry = LedgerEntry(entry_id, account_id, None, None, "adjust", missing, now_ms, note)
        connection.execute(insert(ledger).values(astuple(entry)))


def _not_of_requests(account_id: str) -> tuple[ColumnElement[bool], ...]:
    return ledger.c.account_id == account_id, ledger.c.kind.not_in(_REQUESTS)


def _sum(connection: Connection, *which: ColumnElement[bool]) -> int:
    """In two parts: SQLite refuses a sum that 64 bits don't hold."""
    amount = ledger.c.amount_nanousd
    parts = func.sum(amount.bitwise_rshift(literal_column("32"))), func.sum(amount.bitwise_and(0xFFFF_FFFF))
    high, low = connection.execute(select(*parts).where(*which)).one()
    return (int(high or 0) << 32) + int(low or 0)
