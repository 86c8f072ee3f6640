"""Accounts, scoped keys and what was spent, on every database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmwise.domain.access import Budget, account_settings_of
from llmwise.domain.errors import Conflict, InvalidRequest, NotFound
from llmwise.domain.records import EntryKind, LedgerEntry
from llmwise.storage.accounts import set_budgets
from llmwise.storage.keys import hash_key
from llmwise.storage.store import Store

pytestmark = pytest.mark.anyio

URLS = ["sqlite:///:memory:", "sqlite:///{tmp_path}/store.db", "postgresql"]
NOW_MS = 1_795_000_000_000
GRACE_MS = 60_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=URLS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else request.param
    opened = Store.open(url.format(tmp_path=tmp_path))
    await opened.migrate()
    yield opened
    await opened.close()


def entry(number: int, kind: EntryKind, amount: int, *, account: str = "default", key: str = "key_a") -> LedgerEntry:
    return LedgerEntry(f"req_{number}/{kind}", account, key, f"req_{number}", kind, amount, NOW_MS + number, None)


async def test_the_default_account_is_there_and_unlimited(store: Store) -> None:
    account = await store.account("default")
    assert account.settings is None
    assert [row.id for row in await store.list_accounts()] == ["default"]
    with pytest.raises(NotFound, match="no account 'team'"):
        await store.account("team")


async def test_accounts_are_made_once_and_named_plainly(store: Store) -> None:
    made = await store.create_account("team-1", "Team one", NOW_MS)
    assert await store.account("team-1") == made
    for taken in ("team-1", "default"):
        with pytest.raises(Conflict):
            await store.create_account(taken, "", NOW_MS)
    for nonsense in ("", "a b", "ä", "x" * 65, "a/b"):
        with pytest.raises(InvalidRequest):
            await store.create_account(nonsense, "", NOW_MS)


async def test_settings_are_changed_and_found_with_the_key(store: Store) -> None:
    budgets = (Budget("day", 5),)
    _, raw = await store.create_key("k", False, NOW_MS)
    for limit in (5, 6):
        budgets = (Budget("day", limit),)
        await store.change_account("default", NOW_MS, lambda old, new=budgets: replace(old, budgets=new))  # type: ignore[misc]  # bound now
    found = await store.find_access(hash_key(raw))
    assert found is not None
    assert account_settings_of(found.account_settings).budgets == budgets


async def test_a_key_belongs_to_an_account_that_is_there(store: Store) -> None:
    with pytest.raises(NotFound, match="'team'"):
        await store.create_key("k", False, NOW_MS, account_id="team")
    await store.create_account("team", "", NOW_MS)
    row, raw = await store.create_key("k", False, NOW_MS, account_id="team", expires_at_ms=NOW_MS + 1)
    assert await store.find_key(hash_key(raw)) == row
    assert row.works(NOW_MS, row.hash)
    assert not row.works(NOW_MS + 1, row.hash)


async def test_a_rotated_key_is_found_by_both_secrets_while_the_grace_lasts(store: Store) -> None:
    row, old = await store.create_key("k", False, NOW_MS)
    rotated, new = await store.rotate_key(row.id, NOW_MS, GRACE_MS)
    assert rotated.id == row.id
    assert rotated.prefix == new[:12] != row.prefix
    for raw in (old, new):
        assert await store.find_key(hash_key(raw)) == rotated
    assert rotated.works(NOW_MS + GRACE_MS - 1, hash_key(old))
    assert not rotated.works(NOW_MS + GRACE_MS, hash_key(old))
    assert rotated.works(NOW_MS + GRACE_MS, hash_key(new))


async def test_a_second_rotation_and_one_without_grace_end_the_old_secret(store: Store) -> None:
    row, first = await store.create_key("k", False, NOW_MS)
    _, second = await store.rotate_key("k", NOW_MS, GRACE_MS)
    _, third = await store.rotate_key("k", NOW_MS, 0)
    assert [await store.find_key(hash_key(raw)) is not None for raw in (first, second, third)] == [False, False, True]
    await store.revoke_key(row.id, NOW_MS)
    with pytest.raises(Conflict, match="revoked"):
        await store.rotate_key(row.id, NOW_MS, 0)


async def test_spent_is_what_requests_cost_and_not_what_was_granted(store: Store) -> None:
    entries = [
        entry(1, "reserve", -10),
        entry(1, "settle", -7),
        entry(1, "refund", 10),
        entry(2, "settle", -3, key="key_b"),
        entry(3, "settle", -100, account="team"),
        entry(4, "grant", 1000),
    ]
    await store.insert([], [], entries)
    assert await store.spent("default", None, 0) == 10
    assert await store.spent("default", "key_a", 0) == 7
    assert await store.spent("default", None, NOW_MS + 2) == 3
    assert await store.spent("nobody", None, 0) == 0


async def test_what_was_reserved_once_breaks_no_sum_however_much_it_was(store: Store) -> None:
    entries = [entry(n, "reserve", -(2**62)) for n in range(3)] + [entry(n, "refund", 2**62) for n in range(3)]
    entries += [entry(n, "settle", -(2**61)) for n in range(5)]
    await store.insert([], [], entries)
    assert await store.spent("default", None, 0) == 5 * 2**61
    await store.insert([], [], [entry(n, "settle", -5, account="team") for n in range(10, 13)])
    assert await store.spent("team", None, 0) == 15


async def balance_and_sum(store: Store) -> tuple[int, int]:
    """What the default account may still spend in all, and the sum of its rows."""
    budgets = account_settings_of((await store.account("default")).settings).budgets
    [total] = [one for one in budgets if one.period == "total"]
    rows = await store.transactions("default", None, limit=99, offset=0)
    return total.limit_nanousd - await store.spent("default", None, 0), sum(row.amount_nanousd for row in rows)


async def test_a_grant_lets_spend_so_much_more(store: Store) -> None:
    await store.insert([], [], [entry(1, "settle", -30)])
    for number, limit in ((2, 130), (3, 230)):
        granted = replace(entry(number, "grant", 100), key_id=None, request_id=None)
        account = await store.grant(granted)
        assert account_settings_of(account.settings).budgets == (Budget("total", limit),)
        assert await balance_and_sum(store) == (limit - 30, limit - 30)
    with pytest.raises(NotFound):
        await store.grant(entry(4, "grant", 1, account="team"))
    rows = await store.transactions("default", None, limit=9, offset=0)
    assert [row.kind for row in rows] == ["grant", "grant", "adjust", "settle"]
    assert [one.id for one in await store.transactions("default", "key_a", limit=9, offset=0)] == ["req_1/settle"]


async def test_credit_stays_when_other_budgets_are_set_and_the_rows_add_up(store: Store) -> None:
    month, day, total = Budget("month", 7), Budget("day", 3), Budget("total", 50)

    async def put(*budgets: Budget, id: str = "x") -> tuple[Budget, ...]:
        row = await store.write(set_budgets, "default", budgets, f"{id}/adjust", NOW_MS)
        return account_settings_of(row.settings).budgets

    assert await put(total, month) == (total, month)
    assert await put(day) == (day,), "nothing was granted"
    await put(total, day)
    await store.insert([], [], [entry(1, "settle", -10)])
    await store.grant(replace(entry(2, "grant", 100), key_id=None, request_id=None))
    assert await balance_and_sum(store) == (140, 140)
    assert await put(month) == (Budget("total", 150), month)
    assert await put() == (Budget("total", 150),)
    assert await put(Budget("total", 1, hard=False)) == (Budget("total", 150), Budget("total", 1, hard=False))
    assert await put(total, id="y") == (total,)
    assert await balance_and_sum(store) == (40, 40)
