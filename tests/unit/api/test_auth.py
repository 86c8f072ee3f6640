"""Who is calling: keys by their hash, believed for a moment, refused in one way."""

import asyncio
import hashlib

import pytest
from msgspec.json import encode
from msgspec.structs import replace

from llmwise.api.auth import (
    CACHE_S,
    MAX_CACHED,
    Authenticator,
    credential_of,
    principal_of,
    purses_of,
    require_admin,
    require_mode,
)
from llmwise.domain.access import Access, Budget
from llmwise.domain.errors import Forbidden, Unauthorized
from llmwise.domain.ids import KeyId
from llmwise.state.port import Purse
from llmwise.storage.rows import FoundKey, KeyRow

RAW = b"mm_sk_" + b"a" * 64


def row(*, admin: bool = False) -> KeyRow:
    return KeyRow(KeyId("key_1"), "n", hashlib.sha256(RAW).hexdigest(), "mm_sk_aaaaaa", admin, 0, None, None)


class Clock:
    """Seconds that only the test adds to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def unix_ms(self) -> int:
        return int(self.now * 1000)


class Keys:
    """A store that counts how often it is asked, and what for."""

    def __init__(self, *rows: KeyRow) -> None:
        self.rows = {row.hash: row for row in rows} | {row.previous_hash: row for row in rows if row.previous_hash}
        self.asked: list[str] = []

    async def find_access(self, key_hash: str) -> FoundKey | None:
        self.asked.append(key_hash)
        row = self.rows.get(key_hash)
        return None if row is None else FoundKey(row, None)


def test_a_key_is_looked_up_once_and_then_believed_for_a_moment() -> None:
    clock = Clock()
    keys = Keys(row())
    authenticator = Authenticator(keys, clock)

    async def scenario() -> None:
        assert authenticator.cached(RAW) is None
        assert (await authenticator.authenticate(RAW)).key == row()
        assert authenticator.cached(RAW) == principal_of(row(), None)
        assert (await authenticator.authenticate(RAW)).key == row()
        assert len(keys.asked) == 1
        keys.rows.clear()
        clock.now = CACHE_S
        assert authenticator.cached(RAW) is None
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(RAW)

    asyncio.run(scenario())


def test_a_change_of_keys_is_seen_at_once_by_who_made_it() -> None:
    keys = Keys(row())
    authenticator = Authenticator(keys, Clock())

    async def scenario() -> None:
        await authenticator.authenticate(RAW)
        keys.rows.clear()
        authenticator.forget()
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(RAW)

    asyncio.run(scenario())


def test_every_refusal_is_the_same_and_nonsense_does_not_reach_the_database() -> None:
    keys = Keys()
    authenticator = Authenticator(keys, Clock())
    nonsense = (None, b"", b"sk-1", RAW[:-1], RAW + b"a", RAW.upper(), RAW + b"\n", b"mm_sk_" + "٣".encode() * 32)

    async def refusal(credential: bytes | None) -> str:
        with pytest.raises(Unauthorized) as caught:
            await authenticator.authenticate(credential)
        return caught.value.message

    async def scenario() -> set[str]:
        said = {await refusal(credential) for credential in nonsense}
        assert keys.asked == []
        said.add(await refusal(RAW))
        assert len(keys.asked) == 1
        said.add(await refusal(RAW))
        assert len(keys.asked) == 1, "an unknown key is remembered too"
        return said

    (message,) = asyncio.run(scenario())
    assert "llmwise keys create" in message


def test_what_is_remembered_is_bounded_and_holds_no_key() -> None:
    authenticator = Authenticator(Keys(row()), Clock())

    async def scenario() -> None:
        for number in range(MAX_CACHED + 10):
            with pytest.raises(Unauthorized):
                await authenticator.authenticate(b"mm_sk_%064x" % number)
        await authenticator.authenticate(RAW)

    asyncio.run(scenario())
    assert len(authenticator._cache) <= MAX_CACHED
    assert RAW not in authenticator._cache


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"authorization", b"Bearer k")], b"k"),
        ([(b"authorization", b"bearer  k ")], b"k"),
        ([(b"x-api-key", b" k ")], b"k"),
        ([(b"x-api-key", b"first"), (b"authorization", b"Bearer second")], b"first"),
        ([(b"authorization", b"Basic k")], None),
        ([(b"authorization", b"k")], None),
        ([(b"host", b"x")], None),
        ([], None),
    ],
)
def test_the_key_is_read_from_either_header(headers: list[tuple[bytes, bytes]], found: bytes | None) -> None:
    assert credential_of(headers) == found


def test_only_an_administrator_passes_for_one() -> None:
    require_admin(row(admin=True))
    with pytest.raises(Forbidden, match="--admin"):
        require_admin(row())


def test_a_key_ends_with_its_expiry_and_not_with_the_cache() -> None:
    clock = Clock()
    authenticator = Authenticator(Keys(replace(row(), expires_at_ms=1000)), clock)

    async def scenario() -> None:
        await authenticator.authenticate(RAW)
        clock.now = 0.999
        assert authenticator.cached(RAW) is not None
        clock.now = 1.0
        assert authenticator.cached(RAW) is None
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(RAW)

    asyncio.run(scenario())


def test_a_rotated_secret_works_until_its_grace_ends_and_the_new_one_goes_on() -> None:
    new = b"mm_sk_" + b"b" * 64
    rotated = replace(
        row(),
        hash=hashlib.sha256(new).hexdigest(),
        previous_hash=hashlib.sha256(RAW).hexdigest(),
        previous_until_ms=2000,
    )
    clock = Clock()
    authenticator = Authenticator(Keys(rotated), clock)

    async def scenario() -> None:
        assert (await authenticator.authenticate(RAW)).key == (await authenticator.authenticate(new)).key == rotated
        clock.now = 2.0
        assert authenticator.cached(RAW) is None
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(RAW)
        assert authenticator.cached(new) is not None

    asyncio.run(scenario())


def test_a_key_has_a_purse_for_each_period_of_its_own_and_of_its_account() -> None:
    budgets = (Budget("day", 5), Budget("day", 4, hard=False), Budget("day", 7), Budget("total", 9))
    assert purses_of("key", "k", "a", budgets) == (
        Purse("key", "k", "a", "day", hard_nanousd=5, soft_nanousd=4),
        Purse("key", "k", "a", "total", hard_nanousd=9),
    )
    access = encode(Access(budgets=(Budget("day", 5),))).decode()
    of_account = '{"budgets": [{"period": "month", "limit_nanousd": 3}]}'
    principal = principal_of(replace(row(), settings=access), of_account)
    assert [purse.id for purse in principal.purses] == ["key:key_1:day", "account:default:month"]


def test_a_key_keeps_to_its_modes_and_may_always_look() -> None:
    principal = principal_of(replace(row(), settings='{"modes": ["compare"]}'), None)
    for work in ("compare", "other"):
        require_mode(principal, work)
    with pytest.raises(Forbidden, match="only compare") as caught:
        require_mode(principal, "chat")
    assert caught.value.code == "mode_not_allowed"
    require_mode(principal_of(row(), None), "chat")
