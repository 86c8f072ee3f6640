"""What every store makes of imported rows, and the sums that it answers with: SQLite and PostgreSQL alike."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.storage import audit
from llmwise.storage.audit import Added, ImportedFile, ImportedRequest, ImportedUsage, Timing
from llmwise.storage.store import Store

pytestmark = pytest.mark.anyio

URLS = ["sqlite:///:memory:", "sqlite:///{tmp_path}/store.db", "postgresql"]
NOW_MS = 1_795_300_000_000
AT_MS = 1_793_491_200_000
DAY = AT_MS // 86_400_000


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


def request(number: int, **changes: object) -> ImportedRequest:
    whole = ImportedRequest(
        f"{AT_MS + number:011x}-{number:016x}", 2**62 + number, "litellm", f"ext_{number}", AT_MS + number, "gpt-4o",
        "openai", False, 100, 20, 3, 50, 2**40, "export", 800, 200, "code", 0.75, 0.5, "tools", "c1",
    )  # fmt: skip
    return replace(whole, **changes)


def bucket(number: int, **changes: object) -> ImportedUsage:
    whole = ImportedUsage(
        f"{AT_MS:011x}-{number:016x}", -(2**62) + number, "openai", "tokens", "1d by model", AT_MS, AT_MS + 86_400_000,
        NOW_MS, "gpt-4o", 7, 1000, 0, 0, 500, None, None,
    )  # fmt: skip
    return replace(whole, **changes)


async def test_rows_are_added_once_and_replaced_by_another_version(store: Store) -> None:
    rows = [request(n) for n in range(3)]
    assert await store.add_imported(rows) == Added(new=3)
    assert await store.add_imported(rows) == Added(unchanged=3)
    changed = [request(0, content=1, output_tokens=60), request(3)]
    assert await store.add_imported(changed) == Added(new=1, replaced=1)
    poorer = [request(1, content=2, task_type=None)]
    assert await store.add_imported(poorer) == Added(unchanged=1)
    twice = [request(9), request(9, content=5, output_tokens=70)]
    assert await store.add_imported(twice) == Added(new=1, unchanged=1)
    (cell,) = (await store.audited(0, NOW_MS, 100)).cells
    assert (cell.requests, cell.output_tokens) == (5, 60 + 50 + 50 + 50 + 70)


async def test_sums_histograms_and_samples(store: Store) -> None:
    await store.add_imported(
        [*(request(n) for n in range(4)), request(5, failed=True, cost_nanousd=None, priced_by=None)]
    )
    await store.add_imported([bucket(1), bucket(2, model=None, requests=None, cost_nanousd=9, priced_by="catalog")])
    known = await store.audited(0, NOW_MS, 100)
    by = {(cell.source, cell.model): cell for cell in known.cells}
    logged = by["litellm", "gpt-4o"]
    assert (logged.day, logged.requests, logged.failed, logged.unpriced) == (DAY, 5, 1, 1)
    assert (logged.input_tokens, logged.cache_read_tokens, logged.cost_nanousd) == (500, 100, 4 * 2**40)
    assert (by["openai", "gpt-4o"].requests, by["openai", "gpt-4o"].unpriced) == (7, 1)
    assert (by["openai", None].requests, by["openai", None].listed_nanousd) == (None, 9)
    assert set(known.timings) == {
        Timing("litellm", "gpt-4o", False, 800, 4),
        Timing("litellm", "gpt-4o", True, 200, 4),
    }
    assert known.sampled_of == len(known.sample) == 4
    assert (await store.audited(0, AT_MS, 100)).cells == ()


async def test_sums_do_not_end_at_64_bits_and_credits_count(store: Store) -> None:
    most = 2**62
    rows = [request(n, cost_nanousd=most, input_tokens=most, priced_by="catalog") for n in range(3)]
    await store.add_imported([*rows, request(3, cost_nanousd=-5, input_tokens=1)])
    await store.add_imported([bucket(n, cost_nanousd=most, output_tokens=most) for n in range(3)])
    logged, billed = (await store.audited(0, NOW_MS, 100)).cells
    assert (logged.cost_nanousd, logged.listed_nanousd, logged.input_tokens) == (3 * most - 5, 3 * most, 3 * most + 1)
    assert (billed.cost_nanousd, billed.output_tokens, billed.requests) == (3 * most, 3 * most, 21)


async def test_what_was_imported_of_a_source_can_be_removed(store: Store) -> None:
    await store.add_imported([request(n) for n in range(3)])
    await store.add_imported([bucket(1), bucket(2)])
    files = [ImportedFile(name[:1] * 64, name, name, NOW_MS, 1, 0) for name in ("litellm-csv", "openai-usage")]
    for file in files:
        await store.add_imported_file(file)
    assert await store.write(audit.remove, "litellm") == 3
    assert {cell.source for cell in (await store.audited(0, NOW_MS, 100)).cells} == {"openai"}
    assert await store.imported_file("l" * 64) is None
    assert await store.imported_file("o" * 64) == files[1]
    assert await store.write(audit.remove, "openai") == 2


async def test_a_request_of_the_gateways_own_is_not_counted_from_a_log(store: Store) -> None:
    own = RequestRecord(
        "ext_1", "key_1", AT_MS + 1, "compare", "native", False, "auto", None, None, 200, None, "stop", 2, 900, 200,
        10, 0, 0, 20, 0, False, 5, "code", 0.9, None, None, None, None, None, None, None,
    )  # fmt: skip
    tries = [
        AttemptRecord(
            f"ext_1.{n}", "ext_1", n, model, "openai", model, model, "complete", None, 200, AT_MS, 800, 100,
            5, 0, 0, 10,
            0, False, 2 + n, "stop",
        )
        for n, model in enumerate(("gpt-4o", "gpt-4o-mini"))
    ]  # fmt: skip
    await store.insert([own], tries)
    await store.add_imported([request(1), request(2)])
    known = await store.audited(0, NOW_MS, 100)
    assert sum(cell.requests or 0 for cell in known.cells) == 2
    assert {cell.model: cell.cost_nanousd for cell in known.cells if cell.source == "gateway"} == {
        None: 0,
        "gpt-4o": 2,
        "gpt-4o-mini": 3,
    }
    assert known.sampled_of == 1


async def test_a_file_is_remembered_by_its_digest(store: Store) -> None:
    file = ImportedFile("ab" * 32, "spend.json", "litellm", NOW_MS, 5, 1)
    assert await store.imported_file(file.digest) is None
    await store.add_imported_file(file)
    await store.add_imported_file(replace(file, records=6))
    assert await store.imported_file(file.digest) == replace(file, records=6)
