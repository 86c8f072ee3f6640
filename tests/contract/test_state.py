"""What every shared state does: in memory, and in a real Valkey. A new one is a new line in `STATES`.

Where replicas are meant, two states on one Valkey are two replicas; in memory there is one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from llmwise.clock import SystemClock
from llmwise.domain.errors import Unavailable
from llmwise.domain.money import NANO_PER_USD
from llmwise.domain.records import Admission, EntryKind, LedgerEntry, RequestRecord
from llmwise.routing.breaker import BreakerSettings
from llmwise.state.circuits import TICKET_S
from llmwise.state.memory import MemoryState
from llmwise.state.port import Claim, Purse, SharedState, Spent, StateSettings, Window, nothing_spent
from llmwise.state.valkey import ValkeyState
from llmwise.storage.spool import interrupted
from tests.valkeys import Valkey, valkey

pytestmark = pytest.mark.anyio

STATES = ["memory", "valkey"]
BREAKER = BreakerSettings(failures=3, open_s=0.2, probe_s=0.5)
PATIENT = 2.0
"""Tests run beside each other on busy machines: no answer is late because of them."""

CENT = NANO_PER_USD // 100
MINUTE = Window("chat", 5, 60)
PURSE = Purse("account", "a", "a", "total", hard_nanousd=NANO_PER_USD)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with valkey(tmp_path_factory.mktemp("v")) as server:
        yield server


@asynccontextmanager
async def connected(settings: StateSettings, spent: Spent = nothing_spent) -> AsyncIterator[ValkeyState]:
    state = ValkeyState(settings, SystemClock(), BREAKER, spent)
    running = asyncio.create_task(state.run())
    assert await state.ready(10), state.away
    try:
        yield state
    finally:
        await state.close(5)
        running.cancel()
        await asyncio.wait([running])


@pytest.fixture
def shared(server: Valkey) -> StateSettings:
    """A corner of the server for one test."""
    return StateSettings(server.url, PATIENT, f"{uuid4().hex}:")


@pytest.fixture(params=STATES)
async def state(request: pytest.FixtureRequest, shared: StateSettings) -> AsyncIterator[SharedState]:
    if request.param == "memory":
        yield MemoryState(SystemClock(), BREAKER)
        return
    async with connected(shared) as state:
        yield state


def claim(number: int = 0, **changes: object) -> Claim:
    whole = Claim(f"req_{number}", "key", SystemClock().unix_ms(), (PURSE,), 10 * CENT)
    return replace(whole, **changes)


def spooled(of: Claim, charged: int) -> tuple[RequestRecord, list[LedgerEntry]]:
    """What the spool has of a claim's request."""
    record, _, _ = interrupted(
        Admission(of.id, of.key_id, None, of.created_at_ms, "chat", "native", False, "m", of.amount_nanousd)
    )
    moves: list[tuple[EntryKind, int]] = [("reserve", -of.amount_nanousd), ("refund", of.amount_nanousd)]
    if charged:
        moves.append(("settle", -charged))
    return record, [
        LedgerEntry(f"{of.id}/{kind}", "a", of.key_id, of.id, kind, amount, of.created_at_ms, None)
        for kind, amount in moves
    ]


async def eventually(holds: Callable[[], object], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def fail(state: SharedState, times: int = 3) -> None:
    for _ in range(times):
        state.report("t", "failure", reason="upstream_error")


# limits


async def test_requests_are_counted_up_to_the_limit_and_refused_ones_are_not(state: SharedState) -> None:
    windows = (MINUTE, Window("burst", 3, 10))
    used = [await state.count("k", windows) for _ in range(3)]
    assert [(one.used, one.refused) for one in used] == [(1, False), (2, False), (3, False)]
    assert 0 < used[0].reset_s <= 60
    refused = await state.count("k", windows)
    assert (refused.refused, refused.window.name, refused.used) == (True, "burst", 3)
    assert (await state.count("k", (MINUTE,))).used == 4, "what the burst refused was not counted in the minute"
    assert (await state.count("other", windows)).used == 1


async def test_many_at_once_never_exceed_a_limit(state: SharedState) -> None:
    counted = await asyncio.gather(*(state.count("k", (MINUTE,)) for _ in range(50)))
    assert sum(not one.refused for one in counted) == MINUTE.limit


async def test_requests_at_the_same_time_are_bounded_and_an_ended_one_makes_room(state: SharedState) -> None:
    two = {"purses": (), "concurrency": 2}
    first = await state.reserve(claim(1, **two))
    await state.reserve(claim(2, **two))
    third = await state.reserve(claim(3, **two))
    assert (third.refused, third.bound) == ("concurrency", 2)
    state.settle(first, 0, 0)
    assert (await state.reserve(claim(4, **two))).refused is None


async def test_tokens_count_the_prompt_at_once_and_the_answer_at_the_end(state: SharedState) -> None:
    limited = {"purses": (), "tokens_per_minute": 100, "tokens": 30}
    first = await state.reserve(claim(1, **limited))
    assert (first.refused, first.tokens_used) == (None, 30)
    state.settle(first, 0, 95)
    second = await state.reserve(claim(2, **limited))
    assert (second.refused, second.tokens_used) == (None, 125)
    third = await state.reserve(claim(3, **limited))
    assert (third.refused, third.bound) == ("tokens", 100)
    assert 0 < third.retry_after_s <= 60


# budgets


async def test_what_is_set_aside_counts_until_it_is_replaced_by_what_was_spent(state: SharedState) -> None:
    verdict = await state.reserve(claim(1))
    (during,) = await state.standings([PURSE], SystemClock().unix_ms())
    assert (during.spent_nanousd, during.reserved_nanousd) == (0, 10 * CENT)
    state.settle(verdict, 3 * CENT, 0)
    (after,) = await state.standings([PURSE], SystemClock().unix_ms())
    assert (after.spent_nanousd, after.reserved_nanousd, after.ends_ms) == (3 * CENT, 0, None)


async def test_what_a_replica_that_died_had_set_aside_is_settled_from_its_spool_once(shared: StateSettings) -> None:
    day = Purse("key", "key", "a", "day", hard_nanousd=NANO_PER_USD)
    async with connected(shared) as dead, connected(shared) as living:
        claims = [claim(number, purses=(PURSE, day), concurrency=3) for number in (1, 2, 3)]
        verdicts = [await dead.reserve(one) for one in claims]
        dead.settle(verdicts[2], 3 * CENT, 0)  # the last that it said
        await dead._pipe.drain()
        left = [spooled(claims[0], 0), spooled(claims[1], 2 * CENT), spooled(claims[2], 3 * CENT)]
        for record, entries in [*left, *left]:  # a spool may be replayed twice
            living.replayed(record, entries)
        standings = await living.standings([PURSE, day], claims[0].created_at_ms)
        assert [(one.spent_nanousd, one.reserved_nanousd) for one in standings] == [(5 * CENT, 0)] * 2
        again = [await living.reserve(claim(number, purses=(), concurrency=3)) for number in (4, 5, 6)]
        assert [one.refused for one in again] == [None] * 3, "their places are free"


async def test_an_empty_purse_refuses_and_names_itself(state: SharedState) -> None:
    day = Purse("key", "k", "a", "day", hard_nanousd=CENT)
    both = (PURSE, day)
    state.settle(await state.reserve(claim(1, purses=both)), CENT, 0)
    refused = await state.reserve(claim(2, purses=both))
    assert refused.refused == "budget"
    assert refused.by is not None
    assert (refused.by.purse, refused.by.spent_nanousd) == (day, CENT)
    assert refused.by.ends_ms is not None
    (whole, _) = await state.standings(both, SystemClock().unix_ms())
    assert whole.reserved_nanousd == 0, "of a refused claim nothing is set aside"


async def test_a_soft_budget_warns_and_lets_go_on(state: SharedState) -> None:
    soft = replace(PURSE, hard_nanousd=None, soft_nanousd=CENT)
    state.settle(await state.reserve(claim(1, purses=(soft,))), CENT, 0)
    verdict = await state.reserve(claim(2, purses=(soft,)))
    assert verdict.refused is None
    assert [standing.warns for standing in verdict.standings] == [True]


async def spend(state: SharedState, number: int, cost: int) -> int:
    """One request: what it cost, 0 when it was refused. Others run meanwhile."""
    verdict = await state.reserve(claim(number))
    if verdict.refused is not None:
        return 0
    await asyncio.sleep(0.001)
    state.settle(verdict, cost, 0)
    return cost


async def test_500_at_once_overrun_a_budget_by_less_than_one_reservation(state: SharedState) -> None:
    spent = sum(await asyncio.gather(*(spend(state, number, 10 * CENT) for number in range(500))))
    assert NANO_PER_USD <= spent < NANO_PER_USD + 10 * CENT
    (standing,) = await state.standings([PURSE], SystemClock().unix_ms())
    assert (standing.spent_nanousd, standing.reserved_nanousd) == (spent, 0)


async def test_500_at_three_replicas_overrun_a_budget_by_less_than_one_reservation(shared: StateSettings) -> None:
    async with connected(shared) as a, connected(shared) as b, connected(shared) as c:
        replicas = (a, b, c)
        spent = sum(await asyncio.gather(*(spend(replicas[number % 3], number, 7 * CENT) for number in range(500))))
        assert 10 * 7 * CENT <= spent < NANO_PER_USD + 10 * CENT
        for replica in replicas:
            await replica._pipe.drain()
        (standing,) = await a.standings([PURSE], SystemClock().unix_ms())
        assert (standing.spent_nanousd, standing.reserved_nanousd) == (spent, 0)


async def ledger_says(purse: Purse, since_ms: int) -> int:
    return 99 * CENT


@pytest.mark.parametrize("kind", STATES)
async def test_a_purse_begins_with_what_the_ledger_says(kind: str, shared: StateSettings) -> None:
    async def begins(state: SharedState) -> None:
        verdict = await state.reserve(claim(1, amount_nanousd=CENT))
        assert [one.spent_nanousd for one in verdict.standings] == [99 * CENT]
        state.settle(verdict, CENT, 0)
        assert (await state.reserve(claim(2))).refused == "budget"

    if kind == "memory":
        await begins(MemoryState(SystemClock(), BREAKER, ledger_says))
        return
    async with connected(shared, ledger_says) as state:
        await begins(state)


async def ledger_is_away(purse: Purse, since_ms: int) -> int:
    raise OSError("no database")


@pytest.mark.parametrize("kind", STATES)
async def test_without_its_ledger_a_purse_begins_at_nothing_and_is_kept_to(kind: str, shared: StateSettings) -> None:
    async def kept_to(state: SharedState) -> None:
        assert await spend(state, 1, NANO_PER_USD) == NANO_PER_USD
        assert await spend(state, 2, NANO_PER_USD) == 0

    if kind == "memory":
        await kept_to(MemoryState(SystemClock(), BREAKER, ledger_is_away))
        return
    async with connected(shared, ledger_is_away) as state:
        await kept_to(state)


# circuits


async def test_a_circuit_opens_rests_and_lets_one_probe_in(state: SharedState) -> None:
    fail(state)
    assert not state.admit("t").allowed
    admissions = []

    def asked() -> bool:
        admissions.append(state.admit("t"))
        return admissions[-1].allowed

    await eventually(asked)
    assert admissions[-1].probe > 0
    assert not state.admit("t").allowed, "the probe is one"
    state.report("t", None, probe=admissions[-1].probe)
    await eventually(lambda: state.breaker("t").phase == "closed")
    assert state.admit("t").allowed


async def test_a_success_forgets_failures_in_a_row(state: SharedState) -> None:
    fail(state, 2)
    state.report("t", None)
    fail(state, 2)
    await asyncio.sleep(0.02)
    assert state.admit("t").allowed


async def test_what_one_replica_opens_is_open_for_all_within_100_ms(shared: StateSettings) -> None:
    async with connected(shared) as a, connected(shared) as b:
        began = time.perf_counter()
        fail(a)
        await eventually(lambda: not b.admit("t").allowed)
        assert time.perf_counter() - began < 0.1
        assert b.breaker("t").reason == "upstream_error"
    async with connected(shared) as late:
        assert late.breaker("t").phase != "closed", "who comes later is told too"


async def test_failures_of_all_replicas_count_together(shared: StateSettings) -> None:
    async with connected(shared) as a, connected(shared) as b:
        fail(a, 2)
        await eventually(lambda: b.breaker("t").failures == 2)
        fail(b, 1)
        await eventually(lambda: not a.admit("t").allowed)


async def test_the_probe_belongs_to_one_replica(shared: StateSettings) -> None:
    async with connected(shared) as a, connected(shared) as b:
        fail(a)
        await eventually(lambda: not b.admit("t").allowed)
        probes: list[tuple[ValkeyState, int]] = []

        def asked() -> bool:
            probes.extend((one, x.probe) for one in (a, b) if (x := one.admit("t")).allowed)
            return bool(probes)

        await eventually(asked)
        await asyncio.sleep(0.1)
        assert not a.admit("t").allowed
        assert not b.admit("t").allowed
        ((prober, probe),) = probes
        prober.report("t", None, probe=probe)
        await eventually(lambda: a.admit("t").allowed and b.admit("t").allowed)


async def test_a_probe_nobody_comes_for_goes_to_another(shared: StateSettings) -> None:
    async with connected(shared) as a, connected(shared) as b:
        fail(a)
        await eventually(lambda: bool(a._circuits._tickets or b._circuits._tickets))
        other = b if a._circuits._tickets else a
        await eventually(lambda: other.admit("t").allowed, 10 * TICKET_S)


# Valkey slow or away


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Valkey]:
    with valkey(tmp_path) as server:
        yield server


async def timed(call: "asyncio.Future[object] | object") -> float:
    began = time.perf_counter()
    await call  # type: ignore[misc]  # any awaitable
    return time.perf_counter() - began


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_without_valkey_limits_are_this_process_s_own_and_it_comes_back(
    own_server: Valkey, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = StateSettings(own_server.url, 0.05)
    async with connected(settings) as state:
        held = await state.reserve(claim(1))
        assert held.shared
        own_server.freeze() if how == "frozen" else own_server.kill()
        took = await timed(state.count("k", (MINUTE,)))
        assert took < 1.0, "bounded by the time-out, not by Valkey"
        assert state.away is not None
        assert await timed(asyncio.gather(*(state.count("k", (MINUTE,)) for _ in range(100)))) < 0.1
        fail(state)
        assert not state.admit("t").allowed
        local = await state.reserve(claim(2))
        assert (local.shared, local.refused) == (False, None)
        state.settle(held, 4 * CENT, 0)
        state.settle(local, 5 * CENT, 0)
        assert [r.levelname for r in caplog.records].count("ERROR") == 1, "said once"
        own_server.thaw() if how == "frozen" else own_server.start()
        await eventually(lambda: state.away is None)
        await state._pipe.drain()
        (standing,) = await state.standings([PURSE], SystemClock().unix_ms())
        if how == "frozen":
            assert (standing.spent_nanousd, standing.reserved_nanousd) == (9 * CENT, 0), "both are booked, once"
        else:
            assert standing.spent_nanousd == 5 * CENT, "for a moment still this process's own: nobody waits"
            async with asyncio.timeout(5):
                while standing.spent_nanousd:  # then, Valkey having forgotten all, the ledger's, which knows nothing
                    (standing,) = await state.standings([PURSE], SystemClock().unix_ms())


async def test_where_it_is_strict_nothing_is_spent_of_a_hard_budget_while_valkey_is_away(own_server: Valkey) -> None:
    async with connected(StateSettings(own_server.url, 0.05, strict=True)) as state:
        held = await state.reserve(claim(1))
        own_server.freeze()
        with pytest.raises(Unavailable, match="try again") as refused:
            await state.reserve(claim(2))
        assert (refused.value.code, refused.value.retry_after_s) == ("state_unavailable", 1.0)
        soft = replace(PURSE, hard_nanousd=None)
        assert (await state.reserve(claim(3, purses=(soft,)))).refused is None
        state.settle(held, 4 * CENT, 0)
        own_server.thaw()
        await eventually(lambda: state.away is None)
        state.settle(await state.reserve(claim(4)), 0, 0)
        await state._pipe.drain()
        (standing,) = await state.standings([PURSE], SystemClock().unix_ms())
        assert (standing.spent_nanousd, standing.reserved_nanousd) == (4 * CENT, 0)


async def test_a_state_that_never_connects_works_by_itself(tmp_path: Path) -> None:
    state = ValkeyState(StateSettings(f"unix://{tmp_path}/none.sock"), SystemClock(), BREAKER)
    running = asyncio.create_task(state.run())
    try:
        assert not await state.ready(0.05)
        assert (await state.reserve(claim(1))).refused is None
        assert (await state.count("k", (MINUTE,))).used == 1
        await asyncio.sleep(0.05)
        assert state.away is not None
    finally:
        await state.close(0.1)
        running.cancel()
        await asyncio.wait([running])
