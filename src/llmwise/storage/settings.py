"""Accounts' own keys of providers: one a provider, encrypted before it comes here."""

from collections.abc import Callable

from msgspec.structs import astuple
from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from llmwise.storage.rows import SealedKey
from llmwise.storage.tables import provider_keys as table


def provider_keys(connection: Connection, account_id: str) -> tuple[SealedKey, ...]:
    """In the order of their providers."""
    wanted = select(table).where(table.c.account_id == account_id).order_by(table.c.provider)
    return tuple(SealedKey(*row) for row in connection.execute(wanted))


def put_provider_keys(connection: Connection, given: tuple[SealedKey, ...]) -> None:
    """Each takes the place of what its account had for its provider."""
    for key in given:
        connection.execute(delete(table).where(*_is(key.account_id, key.provider)))
        connection.execute(insert(table).values(astuple(key)))


def delete_provider_key(connection: Connection, account_id: str, provider: str) -> bool:
    """Whether there was one."""
    return bool(connection.execute(delete(table).where(*_is(account_id, provider))).rowcount)


def reseal(connection: Connection, again: Callable[[str], str]) -> int:
    """Every key's ciphertext becomes what `again` makes of it; how many there were. What it raises changes nothing."""
    found = [SealedKey(*row) for row in connection.execute(select(table))]
    for key in found:
        anew = again(key.sealed)
        connection.execute(update(table).where(*_is(key.account_id, key.provider)).values(sealed=anew))
    return len(found)


def _is(account_id: str, provider: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return table.c.account_id == account_id, table.c.provider == provider
