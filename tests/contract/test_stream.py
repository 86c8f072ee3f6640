"""Reading all settled requests in pages, on every database."""

import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmwise.storage import stream
from llmwise.storage.rows import SettledRequest
from llmwise.storage.store import Store
from tests.contract.test_store import NOW_MS, URLS, settled, tried

pytestmark = pytest.mark.anyio


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


async def filled(store: Store, count: int) -> list[SettledRequest]:
    """Requests of one attempt, every seventh of two, a millisecond apart."""
    made = []
    for number in range(count):
        request = settled(number, attempts=2 if number % 7 == 0 else 1, conversation_id=f"conv_{number % 3}")
        made.append(SettledRequest(request, tuple(tried(request, at) for at in range(request.attempts))))
    await store.insert([s.request for s in made], [a for s in made for a in s.attempts])
    return made


async def test_every_request_comes_once_with_its_attempts_in_the_order_of_time(store: Store) -> None:
    made = await filled(store, stream.PAGE + 40)

    found = [one async for one in store.stream(0, NOW_MS * 2, texts=True)]

    assert found == made


async def test_the_end_of_the_window_is_not_in_it_and_texts_are_left_out_unless_wanted(store: Store) -> None:
    await filled(store, 20)

    found = [one async for one in store.stream(NOW_MS + 5, NOW_MS + 12)]

    assert [one.request.created_at_ms - NOW_MS for one in found] == list(range(5, 12))
    assert all(one.request.prompt is None and one.request.answer is None for one in found)
    assert [len(one.attempts) for one in found] == [1, 1, 2, 1, 1, 1, 1]


async def test_only_the_mode_asked_for_comes_and_none_named_means_all(store: Store) -> None:
    chat, compare = settled(1, attempts=0), settled(2, mode="compare", attempts=0)
    await store.insert([chat, compare], [])

    assert [one.request.id async for one in store.stream(0, NOW_MS * 2)] == [chat.id]
    assert [one.request.id async for one in store.stream(0, NOW_MS * 2, mode=None)] == [chat.id, compare.id]
    assert [one async for one in store.stream(0, NOW_MS)] == []


async def test_memory_does_not_grow_with_the_number_of_requests(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/store.db")
    await store.migrate()
    long = "x" * 10_000
    requests = [settled(number, prompt=long) for number in range(6 * stream.PAGE)]
    for at in range(0, len(requests), 200):
        some = requests[at : at + 200]
        await store.insert(some, [tried(request) for request in some])
    requests.clear()
    tracemalloc.start()
    try:
        count = 0
        async for _ in store.stream(0, NOW_MS * 2, texts=True):
            count += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await store.close()

    assert count == 6 * stream.PAGE
    assert peak < 3 * stream.PAGE * len(long)  # all of them at once would be six pages
