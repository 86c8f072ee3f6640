"""What is kept and forgotten beside the records, whatever database is behind it: conversations, memories,
accounts' keys of providers, texts and records by age."""

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmwise.domain.ids import request_id
from llmwise.domain.records import RequestRecord
from llmwise.storage import archive, conversations, memory, retention, settings
from llmwise.storage.keeper import DAY_MS, Keeper, RetentionSettings
from llmwise.storage.memory import Memory
from llmwise.storage.rows import SealedKey
from llmwise.storage.store import Store
from tests.unit.storage.samples import NOW_MS, ManualClock, attempt, request

pytestmark = pytest.mark.anyio

URLS = ["sqlite:///:memory:", "sqlite:///{tmp_path}/store.db", "postgresql"]


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


async def key_of(store: Store, account_id: str) -> str:
    if account_id != "default":
        await store.create_account(account_id, account_id, NOW_MS)
    row, _ = await store.create_key("k", False, NOW_MS, account_id=account_id)
    return row.id


async def settle(store: Store, number: int, at_ms: int = NOW_MS, **changes: Any) -> RequestRecord:
    record = replace(request(number), id=request_id(at_ms, number), created_at_ms=at_ms, attempts=2, **changes)
    tries = [replace(attempt(record, n), byok=record.byok) for n in range(2)]
    await store.insert([record], tries)
    return record


def remembered(number: int, vector: list[float], account_id: str = "a", model: str = "m") -> Memory:
    packed = memory.pack(vector)
    return Memory(f"mem_{number:04}", account_id, NOW_MS + number, f"req_{number}", None, "p", "a", model, packed)


async def test_a_turn_belongs_to_its_accounts_conversation_alone(store: Store) -> None:
    mine, others = await key_of(store, "a"), await key_of(store, "b")
    await store.write(conversations.create, "conv_1", "a", mine, "Trip", NOW_MS)
    first = await settle(store, 1, NOW_MS + 1, key_id=mine, conversation_id="conv_1")
    second = await settle(store, 2, NOW_MS + 2, key_id=mine, conversation_id="conv_1")
    await settle(store, 3, NOW_MS + 3, key_id=others, conversation_id="conv_1")
    assert await store.read(conversations.exists, "b", "conv_1") is False
    assert await store.read(conversations.one, "b", "conv_1") is None
    found = await store.read(conversations.one, "a", "conv_1")
    assert found is not None
    assert [turn.id for turn in found[1]] == [first.id, second.id]
    assert (found[0].turns, found[0].updated_at_ms) == (2, NOW_MS + 2)
    total, page = await store.read(conversations.page, "a", limit=10, offset=0)
    assert (total, page) == (1, (found[0],))
    assert await store.read(conversations.page, "b", limit=10, offset=0) == (0, ())
    assert await store.write(conversations.rename, "b", "conv_1", "x") is False
    assert await store.write(conversations.remove, "b", "conv_1") is None
    assert await store.write(conversations.remove, "a", "conv_1") == 2
    left = await store.request(first.id)
    assert left is not None
    assert (left.request.prompt, left.request.answer, left.request.cost_nanousd) == (None, None, first.cost_nanousd)


async def test_whose_key_a_request_went_by_survives_the_database(store: Store) -> None:
    record = await settle(store, 1, byok=True, cost_nanousd=0)
    found = await store.request(record.id)
    assert found is not None
    assert (found.request.byok, [a.byok for a in found.attempts]) == (True, [True, True])
    alone = replace(request(2), id=request_id(NOW_MS, 2), byok=True)
    await store.insert([alone], [replace(attempt(alone), byok=True)])
    folded = await store.request(alone.id)
    assert folded is not None
    assert (folded.request, [a.byok for a in folded.attempts]) == (alone, [True])


async def test_the_nearest_memories_are_found_in_order(store: Store) -> None:
    angles = {1: 0.0, 2: 0.4, 3: 1.0, 4: 3.0}
    for number, angle in angles.items():
        await store.write(memory.add, remembered(number, [math.cos(angle), math.sin(angle)]))
    await store.write(memory.add, remembered(5, [1.0, 0.0], account_id="b"))
    await store.write(memory.add, remembered(6, [1.0, 0.0], model="another"))
    await store.write(memory.add, remembered(7, [1.0, 0.0, 0.0]))
    hits = await store.read(memory.search, "a", "m", [1.0, 0.0], top_k=2, min_score=0.5)
    assert [hit.memory.id for hit in hits] == ["mem_0001", "mem_0002"]
    assert hits[1].score == pytest.approx(math.cos(0.4), abs=1e-6)
    every = await store.read(memory.search, "a", "m", [1.0, 0.0], top_k=10, min_score=-1)
    assert [hit.memory.id for hit in every] == ["mem_0001", "mem_0002", "mem_0003", "mem_0004"]
    assert await store.write(memory.remove, "b", "mem_0001") == 0
    assert await store.write(memory.remove, "a") == 6
    assert (await store.read(memory.page, "b", limit=10))[0] == 1


async def test_an_account_remembers_its_newest_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST", 3)
    for number in (1, 2, 3, 4, 5, 5):
        await store.write(memory.add, remembered(number, [1.0]))
    total, page = await store.read(memory.page, "a", limit=10)
    assert (total, [one.id for one in page]) == (3, ["mem_0005", "mem_0004", "mem_0003"])


async def test_provider_keys_are_an_accounts_own_and_one_a_provider(store: Store) -> None:
    def key(account_id: str, provider: str, id: str) -> SealedKey:
        return SealedKey(account_id, provider, id, "https://x:443", "...", f"sealed {id}", NOW_MS)

    await store.write(settings.put_provider_keys, (key("a", "openai", "1"), key("a", "gemini", "2")))
    await store.write(settings.put_provider_keys, (key("a", "openai", "3"), key("b", "openai", "4")))
    assert [row.id for row in await store.read(settings.provider_keys, "a")] == ["2", "3"]
    assert await store.write(settings.reseal, str.upper) == 3
    assert [row.sealed for row in await store.read(settings.provider_keys, "b")] == ["SEALED 4"]
    assert await store.write(settings.delete_provider_key, "b", "gemini") is False
    assert await store.write(settings.delete_provider_key, "b", "openai") is True
    row, _ = await store.create_key("k", False, NOW_MS, account_id="default")
    found = await store.find_access(row.hash)
    assert found is not None
    assert found.provider_keys == ()


async def test_the_keeper_forgets_by_age_in_batches_and_what_should_not_be_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    loud, silent = await key_of(store, "loud"), await key_of(store, "silent")
    await store.change_account("silent", NOW_MS, lambda settings: replace(settings, zero_retention=True))
    ages = {1: 0, 2: 1, 3: 5, 4: 6, 5: 7, 6: 40, 7: 41, 8: 42}
    records = {
        number: await settle(store, number, NOW_MS - days * DAY_MS, key_id=loud) for number, days in ages.items()
    }
    strayed = await settle(store, 9, NOW_MS, key_id=silent)
    await store.write(memory.add, replace(remembered(1, [1.0]), created_at_ms=NOW_MS - 9 * DAY_MS))
    keeper = Keeper(store, ManualClock(), RetentionSettings(keep_text_days=3, keep_records_days=30))
    done = await keeper.round()
    assert done == {"silenced": 1, "texts": 6, "records": 3, "memories": 1}
    texts = {}
    for number, record in records.items():
        found = await store.request(record.id)
        texts[number] = None if found is None else found.request.prompt
        assert found is None or len(found.attempts) == 2
    assert texts == {1: records[1].prompt, 2: records[2].prompt, **dict.fromkeys((3, 4, 5, 6, 7, 8))}
    assert await store.request(records[5].id) is not None
    assert await store.request(records[6].id) is None
    left = await store.request(strayed.id)
    assert left is not None
    assert (left.request.prompt, left.request.answer, left.request.route) == (None, None, None)
    assert not any((await keeper.round()).values()), "nothing is due twice"


async def test_all_of_it_is_in_a_backup(store: Store, tmp_path: Path) -> None:
    await store.write(memory.add, remembered(1, [0.6, 0.8]))
    await store.write(conversations.create, "conv_1", "a", "key_1", "Trip", NOW_MS)
    file = tmp_path / "a.jsonl.gz"
    await store.read(archive.backup, file, NOW_MS)
    copy = Store.open(f"sqlite:///{tmp_path}/copy.db")
    await copy.migrate()
    await copy.write(archive.restore, file)
    (hit,) = await copy.read(memory.search, "a", "m", [0.6, 0.8], top_k=1, min_score=0.9)
    assert hit.score == pytest.approx(1.0)
    assert await copy.read(conversations.exists, "a", "conv_1")
    await copy.close()
