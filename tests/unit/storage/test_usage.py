"""Laws of the sums, on whatever requests Hypothesis finds."""

from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update

from llmwise.domain.ids import request_id
from llmwise.domain.records import AttemptRecord, LedgerEntry, RequestRecord
from llmwise.storage import ledger, rollup, tables, usage
from llmwise.storage.database import Database
from llmwise.storage.rows import Tally, UsageSummary

from .samples import NOW_MS, attempt, request

counts = st.integers(0, 10**9)
costs = st.none() | st.integers(0, 10**15)
statuses = st.sampled_from([200, 200, 200, 400, 429, 499, 502])
outcomes = st.sampled_from(["complete", "provider_error", "rejected", "cut", "timeout", "client_gone", "skipped"])
HOUR = 3_600_000
DAY = 24 * HOUR

DATABASE = Database.open("sqlite:///:memory:")


@pytest.fixture(scope="module", autouse=True)
def schema() -> Iterator[None]:
    DATABASE.migrate()
    yield
    DATABASE.close()


@st.composite
def settled(draw: st.DrawFn, number: int) -> tuple[RequestRecord, list[AttemptRecord]]:
    created_at_ms = NOW_MS - draw(st.integers(0, 119)) * HOUR - draw(st.integers(0, HOUR))  # not mostly just now
    of = request(
        number,
        id=request_id(created_at_ms, number),
        key_id=draw(st.sampled_from(["key_a", "key_b"])),
        created_at_ms=created_at_ms,
        status=draw(statuses),
        latency_ms=draw(st.integers(0, 100)),
        ttft_ms=draw(st.none() | st.integers(0, 100)),
        input_tokens=draw(counts),
        cache_read_tokens=draw(counts),
        cache_write_tokens=draw(counts),
        output_tokens=draw(counts),
        reasoning_tokens=draw(counts),
        cost_nanousd=draw(costs),
        task_type=draw(st.sampled_from([None, "code", "creative"])),
    )
    attempts = [
        attempt(of, n, model=draw(st.sampled_from(["m1", "m2"])), outcome=draw(outcomes), cost_nanousd=draw(costs))
        for n in range(draw(st.integers(0, 3)))
    ]
    return of, attempts


@st.composite
def ledgers(draw: st.DrawFn) -> tuple[list[RequestRecord], list[AttemptRecord]]:
    found = [draw(settled(number)) for number in range(draw(st.integers(0, 12)))]
    return [of for of, _ in found], [one for _, attempts in found for one in attempts]


def entries_of(requests: Sequence[RequestRecord]) -> list[LedgerEntry]:
    """The operator bears a third of what each request costs, and sets the whole of it aside meanwhile."""
    return [
        LedgerEntry(f"{of.id}/{kind}", "acc", of.key_id, of.id, kind, amount, of.created_at_ms, None)  # type: ignore[arg-type]  # one of three words, below
        for of in requests
        if of.cost_nanousd
        for kind, amount in (
            ("reserve", -of.cost_nanousd),
            ("settle", -charged(of)),
            ("refund", of.cost_nanousd),
        )
    ]


def charged(of: RequestRecord) -> int:
    return (of.cost_nanousd or 0) * 2 // 3


def summary_of(
    requests: Sequence[RequestRecord], attempts: Sequence[AttemptRecord], key_id: str | None, since_ms: int
) -> UsageSummary:
    """Of a store that holds just these."""
    for table in (tables.requests, tables.attempts, tables.ledger, tables.days, tables.hours):
        DATABASE.write(lambda c, table=table: c.execute(delete(table)))  # type: ignore[misc]
    DATABASE.write(ledger.insert, requests, attempts, entries_of(requests))
    return DATABASE.read(usage.summary, key_id, since_ms)


def close_all(now_ms: int) -> set[int]:
    """Close what may be closed; the hours that are."""
    while DATABASE.write(rollup.close_a_day, now_ms) is not None:
        pass
    return {*DATABASE.read(lambda c: c.execute(select(tables.hours.c.hour)).scalars().all())}


laws = settings(max_examples=60, deadline=None)


@laws
@given(ledgers(), st.sampled_from([None, "key_a", "key_b"]), st.integers(0, 6))
def test_the_total_is_the_sum_of_the_requests_in_the_window(
    kept: tuple[list[RequestRecord], list[AttemptRecord]], key_id: str | None, days: int
) -> None:
    since_ms = NOW_MS - days * DAY
    summary = summary_of(*kept, key_id, since_ms)
    total = summary.total
    seen = [r for r in kept[0] if r.created_at_ms >= since_ms and key_id in (None, r.key_id)]
    assert total.requests == len(seen)
    assert total.errors == sum(r.status >= 400 for r in seen)
    for bucket in ("input", "cache_read", "cache_write", "output", "reasoning"):
        assert getattr(total, f"{bucket}_tokens") == sum(getattr(r, f"{bucket}_tokens") for r in seen)
    assert total.cost_nanousd == sum(r.cost_nanousd for r in seen if r.cost_nanousd is not None)
    assert summary.charged_nanousd == sum(map(charged, seen))


@laws
@given(ledgers())
def test_an_unpriced_request_is_counted_apart_and_never_free(
    kept: tuple[list[RequestRecord], list[AttemptRecord]],
) -> None:
    summary = summary_of(*kept, None, 0)
    assert summary.total.unpriced_requests == sum(r.cost_nanousd is None for r in kept[0])
    sent = [a for a in kept[1] if a.outcome != "skipped"]
    assert sum(m.unpriced_attempts for m in summary.by_model) == sum(a.cost_nanousd is None for a in sent)
    assert sum(m.cost_nanousd for m in summary.by_model) == sum(a.cost_nanousd or 0 for a in sent)
    assert sum(m.attempts for m in summary.by_model) == len(sent)


@laws
@given(ledgers())
def test_days_and_task_types_each_add_up_to_the_total(
    kept: tuple[list[RequestRecord], list[AttemptRecord]],
) -> None:
    summary = summary_of(*kept, None, 0)
    zero = Tally.zero()
    assert sum((d.tally for d in summary.by_day), zero) == summary.total
    assert sum((t.tally for t in summary.by_task_type), zero) == summary.total
    assert [d.day for d in summary.by_day] == sorted({d.day for d in summary.by_day})


@laws
@given(ledgers())
def test_quantiles_are_the_nearest_rank(kept: tuple[list[RequestRecord], list[AttemptRecord]]) -> None:
    summary = summary_of(*kept, None, 0)
    for name, found in (("latency_ms", summary.latency), ("ttft_ms", summary.ttft)):
        values = sorted(value for r in kept[0] if r.status < 400 and (value := getattr(r, name)) is not None)
        for answer, share in ((found.p50_ms, Fraction(1, 2)), (found.p95_ms, Fraction(95, 100))):
            expected = next((v for v in values if sum(w <= v for w in values) >= share * len(values)), None)
            assert answer == expected


def test_money_and_failures_are_booked_on_the_target_that_took_them() -> None:
    of = request(0, model="m2", attempts=3, cost_nanousd=70)
    tried = [
        attempt(of, 0, model="m0", outcome="skipped", cost_nanousd=None),
        attempt(of, 1, model="m1", outcome="cut", cost_nanousd=50, latency_ms=9),
        attempt(of, 2, model="m2", outcome="complete", cost_nanousd=20, latency_ms=7),
    ]
    first, second = summary_of([of], tried, None, 0).by_model
    assert (first.model, first.attempts, first.errors, first.cost_nanousd, first.latency_ms) == ("m1", 1, 1, 50, None)
    assert (second.model, second.attempts, second.errors, second.cost_nanousd, second.latency_ms) == ("m2", 1, 0, 20, 7)


def test_a_caller_who_left_is_not_the_models_error() -> None:
    of = request(0, status=499)
    assert summary_of([of], [attempt(of, outcome="client_gone")], None, 0).by_model[0].errors == 0


def test_days_are_utc_days() -> None:
    midnight = NOW_MS // DAY * DAY
    of = [request(0, created_at_ms=midnight - 1), request(1, created_at_ms=midnight)]
    assert [d.day for d in summary_of(of, [], None, 0).by_day] == ["2026-11-17", "2026-11-18"]


def test_nothing_stored_is_zero_and_no_quantile() -> None:
    summary = summary_of([], [], None, 0)
    assert summary.total == Tally.zero()
    assert (summary.latency.p50_ms, summary.ttft.p95_ms, summary.by_model, summary.by_day) == (None, None, (), ())


@settings(max_examples=25, deadline=None)
@given(ledgers(), ledgers(), st.sampled_from([None, "key_a", "key_b"]), st.integers(0, 6 * DAY))
def test_closed_hours_and_days_say_what_their_requests_say_also_when_some_come_late(
    kept: tuple[list[RequestRecord], list[AttemptRecord]],
    late: tuple[list[RequestRecord], list[AttemptRecord]],
    key_id: str | None,
    back_ms: int,
) -> None:
    since_ms = NOW_MS - back_ms
    before = summary_of(*kept, key_id, since_ms)
    closed = close_all(NOW_MS)
    assert closed >= {hour for of in kept[0] if (hour := of.created_at_ms // HOUR) < NOW_MS // HOUR - 1}
    assert DATABASE.read(usage.summary, key_id, since_ms) == before
    DATABASE.write(ledger.insert, *late, entries_of(late[0]))
    with_late = DATABASE.read(usage.summary, key_id, since_ms)
    close_all(NOW_MS)
    assert DATABASE.read(usage.summary, key_id, since_ms) == with_late
    for table in (tables.days, tables.hours):
        DATABASE.write(lambda c, table=table: c.execute(delete(table)))  # type: ignore[misc]
        assert DATABASE.read(usage.summary, key_id, since_ms) == with_late


def test_an_hour_is_closed_when_the_next_is_over_and_a_day_with_its_hours() -> None:
    midnight = NOW_MS // DAY * DAY
    of = [request(n, id=request_id(at, n), created_at_ms=at) for n, at in enumerate((midnight - DAY, midnight - 1))]
    summary_of(of, [], None, 0)
    days = select(tables.days.c.day).distinct()
    assert max(close_all(midnight + HOUR - 1)) == midnight // HOUR - 2
    assert DATABASE.read(lambda c: c.execute(days).scalars().all()) == []
    assert max(close_all(midnight + HOUR)) == midnight // HOUR - 1
    assert DATABASE.read(lambda c: c.execute(days).scalars().all()) == [midnight // DAY - 1]


def test_hours_that_were_summed_up_before_charges_were_counted_count_what_they_cost() -> None:
    of = request(0, id=request_id(NOW_MS - DAY, 0), created_at_ms=NOW_MS - DAY, cost_nanousd=300)
    assert summary_of([of], [attempt(of)], None, 0).charged_nanousd == 200
    close_all(NOW_MS)
    for table in (tables.days, tables.hours):
        old = func.json_remove(table.c.sums, "$.charged")
        DATABASE.write(lambda c, table=table, old=old: c.execute(update(table).values(sums=old)))  # type: ignore[misc]
    assert DATABASE.read(usage.summary, None, 0).charged_nanousd == 300


def test_a_late_record_takes_its_hours_and_its_days_sums_away() -> None:
    at = NOW_MS - 3 * DAY
    early, late = (request(n, id=request_id(at, n), created_at_ms=at) for n in (1, 2))
    for keys in (None, "key_a", early.key_id):
        summary_of([early], [], None, 0)
        close_all(NOW_MS)
        before = DATABASE.read(usage.summary, keys, at - DAY).total.requests
        DATABASE.write(ledger.insert, [late], [])
        for _ in range(2):
            assert DATABASE.read(usage.summary, keys, at - DAY).total.requests == 2 * before
            close_all(NOW_MS)


@settings(max_examples=12, deadline=None)
@given(ledgers(), ledgers(), st.sampled_from([None, "key_a", "key_b"]))
def test_a_page_is_the_same_whether_days_before_it_were_walked_or_counted_by_their_sums(
    kept: tuple[list[RequestRecord], list[AttemptRecord]],
    late: tuple[list[RequestRecord], list[AttemptRecord]],
    key_id: str | None,
) -> None:
    summary_of(*kept, None, 0)
    close_all(NOW_MS)
    DATABASE.write(ledger.insert, *late)  # some days are open again
    for offset in range(14):
        walked = DATABASE.read(ledger.history, key_id, limit=3, offset=offset)
        passed = DATABASE.read(rollup._passed, key_id, offset)
        assert DATABASE.read(ledger.history, key_id, limit=3, offset=offset, passed=passed) == walked


def test_of_a_deep_page_only_its_own_day_is_walked() -> None:
    midnight = NOW_MS // DAY * DAY
    of = [request(n, id=request_id(at, n), created_at_ms=at) for n in range(4) if (at := midnight - n * DAY)]
    summary_of(of, [], None, 0)
    close_all(NOW_MS)
    assert [DATABASE.read(rollup._passed, None, offset) for offset in range(4)] == [
        None,
        (1, midnight),
        (2, midnight - DAY),
        (3, midnight - 2 * DAY),
    ]


@pytest.mark.parametrize("key_id", [None, "key_a"])
def test_a_page_beyond_ten_thousand_is_the_one_that_walking_finds(key_id: str | None) -> None:
    midnight = NOW_MS // DAY * DAY
    times = [midnight - (n % 3) * DAY - n for n in range(ledger.COUNTED + 100)]
    of = [request(n, id=request_id(at, n), created_at_ms=at, key_id="key_a") for n, at in enumerate(times)]
    summary_of(of, [], None, 0)
    close_all(NOW_MS)
    offset = ledger.COUNTED + 50
    assert DATABASE.read(rollup._passed, key_id, offset) is not None
    walked = DATABASE.read(ledger.history, key_id, limit=5, offset=offset)
    assert DATABASE.read(rollup.history, key_id, limit=5, offset=offset, mode=None, search=None) == walked
