"""What every store does, whatever database is behind it. A new one is a new line in `URLS`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from llmwise.domain.errors import Conflict, InvalidRequest, NotFound
from llmwise.domain.ids import RequestId, attempt_id, request_id
from llmwise.domain.records import AttemptRecord, LedgerEntry, RequestRecord
from llmwise.storage.keys import hash_key
from llmwise.storage.rows import SettledRequest
from llmwise.storage.store import Store

pytestmark = pytest.mark.anyio

URLS = ["sqlite:///:memory:", "sqlite:///{tmp_path}/store.db", "postgresql"]

NOW_MS = 1_795_000_000_000
DAY_MS = 86_400_000


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


def settled(number: int, **changes: Any) -> RequestRecord:
    """The `number`-th request, one millisecond after the one before; every field that may be `None` is set."""
    whole = RequestRecord(
        id=request_id(NOW_MS + number, number),
        key_id="key_a",
        created_at_ms=NOW_MS + number,
        mode="chat",
        dialect="anthropic",
        stream=True,
        requested_model="auto",
        model="claude-sonnet-4.5",
        provider="anthropic",
        status=200,
        code="some_code",
        finish_reason="stop",
        attempts=1,
        latency_ms=812,
        ttft_ms=211,
        input_tokens=1200,
        cache_read_tokens=400,
        cache_write_tokens=7,
        output_tokens=300,
        reasoning_tokens=100,
        usage_estimated=False,
        cost_nanousd=2**53 + 1,
        task_type="code",
        confidence=0.8125,
        auto_strategy="heuristic_routing",
        goal="balanced",
        conversation_id="conv_1",
        route='[{"model": "claude-sonnet-4.5"}]',
        warnings="[]",
        prompt="Why is the sky blue? \N{SPARKLES}",
        answer="Because 50% of it is_blue.",
    )
    return replace(whole, **changes)


def tried(of: RequestRecord, number: int = 0, **changes: Any) -> AttemptRecord:
    whole = AttemptRecord(
        id=attempt_id(RequestId(of.id), number),
        request_id=of.id,
        number=number,
        model="claude-sonnet-4.5",
        provider="anthropic",
        sent_model="claude-sonnet-4-5",
        answered_model="claude-sonnet-4-5-20250929",
        outcome="complete",
        code="some_code",
        upstream_status=200,
        started_at_ms=of.created_at_ms,
        latency_ms=800,
        ttft_ms=211,
        input_tokens=1200,
        cache_read_tokens=400,
        cache_write_tokens=7,
        output_tokens=300,
        reasoning_tokens=100,
        usage_estimated=True,
        cost_nanousd=2**53 + 1,
        finish_reason="stop",
    )
    return replace(whole, **changes)


OPTIONAL = (
    *("model", "provider", "code", "finish_reason", "ttft_ms", "cost_nanousd", "task_type", "confidence"),
    *("auto_strategy", "goal", "conversation_id", "route", "warnings", "prompt", "answer"),
)


async def ids(store: Store, **asked: Any) -> list[str]:
    key_id = asked.pop("key_id", None)
    return [record.id for record in (await store.history(key_id, **asked))[1]]


async def test_a_record_comes_back_as_it_was_written(store: Store) -> None:
    whole = settled(1)
    bare = settled(2, **dict.fromkeys(OPTIONAL))
    attempts = (tried(whole, 0, outcome="cut", cost_nanousd=None), tried(whole, 1))
    await store.insert([whole, bare], attempts)
    assert await store.request(whole.id) == SettledRequest(whole, attempts)
    assert await store.request(bare.id) == SettledRequest(bare, ())
    assert type((await store.history(None))[1][0].stream) is bool


@pytest.mark.parametrize("text", ["\\N", "a\tb\nc\r\nd", "\\", "\\t", "", "'; --", "%s {} ?", "\x7f\x01 \N{SPARKLES}"])
async def test_any_text_comes_back_as_it_is(store: Store, text: str) -> None:
    record = settled(1, prompt=text, answer=text, requested_model=text)
    await store.insert([record], [tried(record)])
    assert await store.request(record.id) == SettledRequest(record, (tried(record),))


async def test_a_record_is_not_lost_for_a_nul_in_a_prompt(store: Store) -> None:
    await store.insert([settled(1, prompt="a\0b")], [])
    found = await store.request(settled(1).id)
    assert found is not None
    assert found.request.prompt in ("a\0b", "a\N{REPLACEMENT CHARACTER}b")


async def test_a_lone_attempt_comes_back_whether_it_fits_its_requests_row_or_not(store: Store) -> None:
    records = [settled(number) for number in range(4)]
    attempts = [
        tried(records[0], usage_estimated=False, code=None),  # says what its request says
        tried(records[1], usage_estimated=False, outcome="rejected", upstream_status=None),
        tried(records[2], usage_estimated=False, output_tokens=1),  # says something else
        tried(records[3], usage_estimated=False, code="another"),
    ]
    await store.insert(records, attempts)
    for record, attempt in zip(records, attempts, strict=True):
        assert await store.request(record.id) == SettledRequest(record, (attempt,))
    summary = await store.usage_summary(None, 1, NOW_MS)
    assert [(m.attempts, m.errors, m.output_tokens) for m in summary.by_model] == [(4, 1, 901)]


async def test_entries_are_kept_once_and_read_newest_first(store: Store) -> None:
    entries = [
        LedgerEntry(f"{settled(n).id}/settle", "acc_1", "key_a", settled(n).id, "settle", -n, NOW_MS + n, None)
        for n in range(3)
    ]
    grant = LedgerEntry("grant_1", "acc_2", None, None, "grant", 2**60, NOW_MS, "welcome")
    await store.insert([settled(0)], [], [*entries[:2], grant])
    await store.insert([settled(0)], [], entries)  # a replay
    assert await store.entries("acc_1") == tuple(reversed(entries))
    assert await store.entries("acc_1", limit=1, offset=1) == (entries[1],)
    assert await store.entries("acc_2") == (grant,)


async def test_attempts_come_back_in_order_even_beyond_ten(store: Store) -> None:
    of = settled(1, attempts=12)
    attempts = tuple(tried(of, number) for number in range(12))
    await store.insert([of], attempts[::-1])
    assert await store.request(of.id) == SettledRequest(of, attempts)


async def test_an_unknown_request_is_none(store: Store) -> None:
    assert await store.request("req_unknown") is None


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 63, 64, 65, 137])
async def test_any_number_of_records_goes_in_whole(store: Store, count: int) -> None:
    records = [settled(number) for number in range(count)]
    await store.insert(records, [tried(of) for of in records])
    total, page = await store.history(None, limit=500)
    assert (total, page) == (count, tuple(reversed(records)))
    assert (await store.usage_summary(None, 1, NOW_MS)).total.requests == count


async def test_a_replay_changes_nothing(store: Store) -> None:
    records = [settled(number) for number in range(10)]
    attempts = [tried(of) for of in records]
    await store.insert(records[:6], attempts[:6])
    altered = [replace(record, status=500, cost_nanousd=0) for record in records]
    await store.insert([*altered[:6], *records[6:]], attempts)
    assert (await store.history(None))[1] == tuple(reversed(records))
    assert (await store.request(records[0].id)) == SettledRequest(records[0], (attempts[0],))


async def test_a_record_twice_in_one_batch_is_stored_once(store: Store) -> None:
    await store.insert([settled(1), settled(1)], [tried(settled(1)), tried(settled(1))])
    assert (await store.history(None))[0] == 1


async def test_a_batch_with_a_row_that_does_not_fit_is_refused_whole(store: Store) -> None:
    broken = settled(2, key_id=None)
    with pytest.raises(Exception, match="key_id"):
        await store.insert([settled(1), broken], [])
    assert (await store.history(None))[0] == 0


async def test_history_is_newest_first_and_pages_do_not_overlap(store: Store) -> None:
    records = [settled(number, created_at_ms=NOW_MS + number // 2) for number in range(9)]
    await store.insert(records, [])
    newest_first = [record.id for record in reversed(records)]
    assert await ids(store, limit=4) == newest_first[:4]
    assert await ids(store, limit=4, offset=4) == newest_first[4:8]
    assert await ids(store, limit=4, offset=8) == newest_first[8:]
    assert (await store.history(None, limit=4, offset=99)) == (9, ())


async def test_a_key_sees_its_own_requests_only(store: Store) -> None:
    mine, other = settled(1), settled(2, key_id="key_b", cost_nanousd=5)
    await store.insert([mine, other], [tried(mine), tried(other, cost_nanousd=5)])
    assert (await store.history("key_a")) == (1, (mine,))
    assert (await store.history("key_b")) == (1, (other,))
    assert (await store.usage_summary("key_b", 1, NOW_MS)).total.cost_nanousd == 5
    assert [m.cost_nanousd for m in (await store.usage_summary("key_b", 1, NOW_MS)).by_model] == [5]
    assert [r.id for r in await store.usage_recent("key_a", 1, NOW_MS)] == [mine.id]
    assert (await store.usage_summary("key_c", 1, NOW_MS)).total.requests == 0


async def test_history_filters_by_mode(store: Store) -> None:
    await store.insert([settled(1), settled(2, mode="compare")], [])
    assert await ids(store, mode="compare") == [settled(2).id]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("blue", [2, 1]),
        ("BLUE", [2, 1]),
        ("50%", [1]),
        ("5%y", []),
        ("is_blue", [1]),
        ("i__blue", []),
        ("/", [3]),
        ("\\", [3]),
        ("'; drop", [3]),
        ("gemini", [2]),
        (settled(3).id, [3]),
        ("nowhere", []),
        ("", [3, 2, 1]),
    ],
)
async def test_search_looks_for_the_text_as_it_is(store: Store, search: str, found: list[int]) -> None:
    await store.insert(
        [
            settled(1),
            settled(2, model="gemini-3-flash", answer=None),
            settled(3, prompt="C:\\a/b '; drop table requests", answer=None),
        ],
        [],
    )
    assert await ids(store, search=search) == [settled(number).id for number in found]


async def test_recent_leaves_the_texts_out_and_keeps_to_its_days(store: Store) -> None:
    past_ms = NOW_MS - 3 * DAY_MS
    young, old = settled(1), settled(2, id=request_id(past_ms, 2), created_at_ms=past_ms)
    await store.insert([young, old], [])
    assert await store.usage_recent(None, 2, NOW_MS) == (replace(young, prompt=None, answer=None),)
    assert len(await store.usage_recent(None, 4, NOW_MS)) == 2
    assert await store.usage_recent(None, 4, NOW_MS, limit=1, offset=1, mode="chat") == (
        replace(old, prompt=None, answer=None),
    )
    assert await store.usage_recent(None, 4, NOW_MS, mode="blend") == ()


async def test_a_summary_keeps_to_its_days_and_calls_no_unknown_cost_free(store: Store) -> None:
    priced, unpriced, old = settled(1), settled(2, cost_nanousd=None), settled(3, created_at_ms=NOW_MS - DAY_MS - 1)
    await store.insert(
        [priced, unpriced, old],
        [tried(priced), tried(unpriced, model="mystery", cost_nanousd=None), tried(old)],
    )
    summary = await store.usage_summary(None, 1, NOW_MS)
    assert (summary.since_ms, summary.total.requests) == (NOW_MS - DAY_MS, 2)
    assert (summary.total.cost_nanousd, summary.total.unpriced_requests) == (2**53 + 1, 1)
    assert [(m.model, m.cost_nanousd, m.unpriced_attempts) for m in summary.by_model] == [
        ("claude-sonnet-4.5", 2**53 + 1, 0),
        ("mystery", 0, 1),
    ]
    assert [(t.task_type, t.tally.requests) for t in summary.by_task_type] == [("code", 2)]
    assert (summary.latency.p50_ms, summary.ttft.p95_ms) == (812, 211)


async def test_a_new_key_is_found_by_the_hash_of_its_raw_text(store: Store) -> None:
    row, raw = await store.create_key("ci", admin=False, now_ms=NOW_MS, settings='{"compat": true}')
    assert raw.startswith("mm_sk_")
    assert len(bytes.fromhex(raw.removeprefix("mm_sk_"))) == 32
    assert (row.name, row.prefix, row.admin, row.created_at_ms) == ("ci", raw[:12], False, NOW_MS)
    assert await store.find_key(hash_key(raw)) == row
    assert await store.find_key(hash_key(raw + "0")) is None
    assert await store.find_key(raw) is None


async def test_the_raw_key_is_nowhere_in_its_row(store: Store) -> None:
    row, raw = await store.create_key("ci", admin=True, now_ms=NOW_MS)
    assert raw.removeprefix(row.prefix) not in repr(row)


async def test_a_revoked_key_stops_working_and_stays_listed(store: Store) -> None:
    row, raw = await store.create_key("ci", admin=False, now_ms=NOW_MS)
    revoked = await store.revoke_key(row.id, NOW_MS + 5)
    assert revoked == replace(row, revoked_at_ms=NOW_MS + 5)
    assert await store.find_key(hash_key(raw)) is None
    assert [key.revoked_at_ms for key in await store.list_keys()] == [NOW_MS + 5]
    assert await store.revoke_key(row.id, NOW_MS + 9) == revoked  # again: the first time counts
    assert await store.revoke_key("ci", NOW_MS + 9) == revoked


@pytest.mark.parametrize("by", ["id", "name", "prefix"])
async def test_a_key_is_revoked_by_id_name_or_prefix(store: Store, by: str) -> None:
    await store.create_key("other", admin=False, now_ms=NOW_MS)
    row, _ = await store.create_key("ci", admin=False, now_ms=NOW_MS)
    assert (await store.revoke_key(getattr(row, by), NOW_MS)).id == row.id
    assert [key.name for key in await store.list_keys() if key.revoked_at_ms is None] == ["other"]


async def test_a_name_that_fits_two_working_keys_revokes_neither(store: Store) -> None:
    first, _ = await store.create_key("ci", admin=False, now_ms=NOW_MS)
    second, _ = await store.create_key("ci", admin=False, now_ms=NOW_MS + 1)
    with pytest.raises(Conflict, match=f"{first.id}, {second.id}"):
        await store.revoke_key("ci", NOW_MS)
    await store.revoke_key(first.id, NOW_MS)
    assert (await store.revoke_key("ci", NOW_MS)).id == second.id


async def test_an_unknown_key_cannot_be_revoked(store: Store) -> None:
    with pytest.raises(NotFound, match="'ghost'"):
        await store.revoke_key("ghost", NOW_MS)


async def test_a_blank_name_is_refused(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        await store.create_key("  ", admin=False, now_ms=NOW_MS)


async def test_revoking_the_last_key_does_not_unmake_it(store: Store) -> None:
    assert not await store.has_keys()
    row, _ = await store.create_key("ci", admin=True, now_ms=NOW_MS)
    await store.revoke_key(row.id, NOW_MS)
    assert await store.has_keys()


async def test_the_list_says_when_a_key_was_last_used(store: Store) -> None:
    used, _ = await store.create_key("used", admin=False, now_ms=NOW_MS)
    await store.create_key("idle", admin=False, now_ms=NOW_MS + 1)
    await store.insert([settled(1, key_id=used.id), settled(7, key_id=used.id)], [])
    assert [(key.name, key.last_used_at_ms) for key in await store.list_keys()] == [
        ("used", NOW_MS + 7),
        ("idle", None),
    ]


async def test_meta_values_are_set_and_replaced(store: Store) -> None:
    assert await store.meta_value("a") is None
    await store.set_meta("a", "1")
    await store.set_meta("a", "2")
    await store.set_meta("b", "3")
    assert (await store.meta_value("a"), await store.meta_value("b")) == ("2", "3")


async def test_calls_at_the_same_time_do_not_disturb_each_other(store: Store) -> None:
    records = [settled(number) for number in range(40)]
    async with asyncio.TaskGroup() as tasks:
        for record in records:
            tasks.create_task(store.insert([record], [tried(record)]))
            tasks.create_task(store.history(None))
            tasks.create_task(store.create_key(f"k{record.id}", admin=False, now_ms=NOW_MS))
    assert (await store.history(None))[0] == 40
    assert len(await store.list_keys()) == 40


async def test_a_cancelled_write_still_ends_whole(store: Store) -> None:
    record = settled(1)
    write = asyncio.create_task(store.insert([record], [tried(record)]))
    await asyncio.sleep(0)
    write.cancel()
    with pytest.raises(asyncio.CancelledError):
        await write
    await store.set_meta("after", "it")  # in the same thread, so the cancelled one is over
    assert await store.request(record.id) in (None, SettledRequest(record, (tried(record),)))
