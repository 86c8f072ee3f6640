"""Accounts: who pays for keys, what they may spend, what they have spent."""

from collections.abc import Callable

import msgspec
from msgspec.structs import astuple, replace
from sqlalchemy import Connection, func, insert, select, update

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


def grant(connection: Connection, entry: LedgerEntry) -> AccountRow:
    """Write the entry, and let the account spend so much more in all. One that was unlimited is from now on prepaid: it
    may spend what it was granted beyond what it has spent. Raises `NotFound`."""

    def raised(settings: AccountSettings) -> AccountSettings:
        total = next((one for one in settings.budgets if one.period == "total" and one.hard), None)
        if total is None:
            total = Budget("total", spent(connection, entry.account_id, None, 0))
        others = tuple(one for one in settings.budgets if one.period != "total" or not one.hard)
        raised = replace(total, limit_nanousd=total.limit_nanousd + entry.amount_nanousd)
        return replace(settings, budgets=(raised, *others))

    row = change_account(connection, entry.account_id, entry.created_at_ms, raised)
    connection.execute(insert(ledger).values(astuple(entry)))
    return row


def spent(connection: Connection, account_id: str, key_id: str | None, since_ms: int) -> int:
    """What requests since then have cost, in nano-USD; of one key, or of all that the account pays for."""
    total = select(func.coalesce(func.sum(ledger.c.amount_nanousd), 0)).where(
        ledger.c.account_id == account_id, ledger.c.created_at_ms >= since_ms, ledger.c.kind.in_(_REQUESTS)
    )
    if key_id is not None:
        total = total.where(ledger.c.key_id == key_id)
    return -int(connection.execute(total).scalar_one())


def transactions(
    connection: Connection, account_id: str, key_id: str | None, *, limit: int, offset: int
) -> tuple[LedgerEntry, ...]:
    """One page of the entries of an account, or of one of its keys, newest first."""
    wanted = select(ledger).where(ledger.c.account_id == account_id)
    if key_id is not None:
        wanted = wanted.where(ledger.c.key_id == key_id)
    page = wanted.order_by(ledger.c.created_at_ms.desc(), ledger.c.id.desc()).limit(limit).offset(offset)
    return tuple(LedgerEntry(*row) for row in connection.execute(page))
