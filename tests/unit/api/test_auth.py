"""Who is calling: keys by their hash, believed for a moment, refused in one way."""

import asyncio
import hashlib

import pytest

from llmwise.api.auth import CACHE_S, MAX_CACHED, Authenticator, credential_of, require_admin
from llmwise.domain.errors import Forbidden, Unauthorized
from llmwise.domain.ids import KeyId
from llmwise.storage.rows import KeyRow

RAW = b"mm_sk_" + b"a" * 64


def row(*, admin: bool = False) -> KeyRow:
    return KeyRow(KeyId("key_1"), "n", hashlib.sha256(RAW).hexdigest(), "mm_sk_aaaaaa", admin, 0, None, None)


class Keys:
    """A store that counts how often it is asked, and what for."""

    def __init__(self, *rows: KeyRow) -> None:
        self.rows = {row.hash: row for row in rows}
        self.asked: list[str] = []

    async def find_key(self, hash: str) -> KeyRow | None:
        self.asked.append(hash)
        return self.rows.get(hash)


def test_a_key_is_looked_up_once_and_then_believed_for_a_moment() -> None:
    now = [0.0]
    keys = Keys(row())
    authenticator = Authenticator(keys, lambda: now[0])

    async def scenario() -> None:
        assert authenticator.cached(RAW) is None
        assert await authenticator.authenticate(RAW) == row()
        assert authenticator.cached(RAW) == row()
        assert await authenticator.authenticate(RAW) == row()
        assert len(keys.asked) == 1
        keys.rows.clear()
        now[0] = CACHE_S
        assert authenticator.cached(RAW) is None
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(RAW)

    asyncio.run(scenario())


def test_a_change_of_keys_is_seen_at_once_by_who_made_it() -> None:
    keys = Keys(row())
    authenticator = Authenticator(keys, lambda: 0.0)

    async def scenario() -> None:
        await authenticator.authenticate(RAW)
        keys.rows.clear()
        authenticator.forget()
        with pytest.raises(Unauthorized):
            await authenticator.authenticate(RAW)

    asyncio.run(scenario())


def test_every_refusal_is_the_same_and_nonsense_does_not_reach_the_database() -> None:
    keys = Keys()
    authenticator = Authenticator(keys, lambda: 0.0)
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
    authenticator = Authenticator(Keys(row()), lambda: 0.0)

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
