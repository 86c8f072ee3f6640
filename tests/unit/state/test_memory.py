"""Circuits and health of one process, by a clock that the test moves."""

import asyncio

import pytest

from llmwise.domain.errors import Unavailable
from llmwise.routing.breaker import ALLOWED, BreakerSettings
from llmwise.state.memory import MemoryState
from llmwise.state.port import UNREADABLE_S, Claim, Purse, Verdict


class ManualClock:
    """Seconds that only the test adds to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def unix_ms(self) -> int:
        return int(self.now * 1000)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def state(clock: ManualClock) -> MemoryState:
    return MemoryState(clock, BreakerSettings())


def open_circuit(state: MemoryState, target: str = "a") -> None:
    for _ in range(3):
        state.report(target, "failure", reason="upstream_error")


def test_a_target_never_seen_is_let_in(state: MemoryState) -> None:
    assert state.admit("a") == ALLOWED


def test_the_circuits_of_two_targets_are_independent(state: MemoryState) -> None:
    open_circuit(state, "a")
    assert not state.admit("a").allowed
    assert state.admit("b").allowed


def test_of_fifty_concurrent_askers_after_the_pause_exactly_one_is_let_in(
    state: MemoryState, clock: ManualClock
) -> None:
    open_circuit(state)
    clock.now += 30.0

    async def ask() -> bool:
        await asyncio.sleep(0)
        return state.admit("a").allowed

    async def all_ask() -> list[bool]:
        return await asyncio.gather(*(ask() for _ in range(50)))

    assert sum(asyncio.run(all_ask())) == 1


def test_an_open_circuit_shows_its_state_and_reason(state: MemoryState) -> None:
    assert state.breaker("a").phase == "closed"
    open_circuit(state)
    assert (state.breaker("a").phase, state.breaker("a").reason) == ("open", "upstream_error")


def test_success_and_failure_are_counted_and_the_callers_faults_are_not(state: MemoryState) -> None:
    state.report("a", None, ttft_ms=100.0, latency_ms=300.0)
    state.report("a", "failure", latency_ms=50.0)
    state.report("a", "none", latency_ms=1.0)
    health = state.health()["a"]
    assert (health.successes, health.failures) == (1, 1)
    assert (health.ttft_ms, health.failure_ms) == (100.0, 50.0)
    assert health.failure_rate == pytest.approx(0.2)


def test_a_failure_before_the_first_token_leaves_the_mean_of_first_tokens_alone(state: MemoryState) -> None:
    state.report("a", None, ttft_ms=100.0, latency_ms=300.0)
    state.report("a", "failure", ttft_ms=None, latency_ms=90_000.0)
    state.report("a", None, ttft_ms=200.0, latency_ms=300.0)
    assert state.health()["a"].ttft_ms == pytest.approx(120.0)


@pytest.mark.parametrize(("retry_after_s", "pause_s"), [(12.0, 12.0), (None, 30.0)])
def test_a_rate_limit_is_remembered_until_the_provider_wants_to_be_asked_again(
    state: MemoryState, clock: ManualClock, retry_after_s: float | None, pause_s: float
) -> None:
    state.report("a", "failure", retry_after_s=retry_after_s, limited=True)
    assert state.health()["a"].limited_until == clock.now + pause_s


def test_a_rate_limit_that_may_be_retried_at_once_asks_for_no_pause(state: MemoryState, clock: ManualClock) -> None:
    state.report("a", "failure", retry_after_s=0.0, limited=True)
    assert state.health()["a"].limited_until <= clock.now


def test_a_rate_limit_is_remembered_no_longer_than_the_longest_pause(state: MemoryState, clock: ManualClock) -> None:
    state.report("a", "failure", retry_after_s=1e9, limited=True)
    assert state.health()["a"].limited_until == clock.now + BreakerSettings().max_pause_s


def test_new_settings_hold_for_circuits_that_are_there_already(state: MemoryState, clock: ManualClock) -> None:
    state.report("a", "failure")
    state.settings = BreakerSettings(failures=2, open_s=5.0)
    state.report("a", "failure")
    assert state.breaker("a").phase == "open"
    clock.now += 5.0
    assert state.admit("a").allowed


def test_turns_count_each_chain_by_itself(state: MemoryState) -> None:
    assert [state.turn(("a", "b")), state.turn(("a", "b")), state.turn(("b", "a")), state.turn(("a", "b"))] == [
        0,
        1,
        0,
        2,
    ]


def test_the_memory_of_turns_is_bounded_whatever_chains_callers_invent(state: MemoryState) -> None:
    for number in range(25_000):
        state.turn((f"m{number}",))
    assert len(state._turns) <= 10_002


@pytest.mark.anyio
async def test_while_the_ledger_cannot_be_read_a_purse_goes_on_by_what_it_knows(clock: ManualClock) -> None:
    known: list[int] = []

    async def spent(purse: Purse, since_ms: int) -> int:
        return known[0]  # that can't be read while there is nothing

    state = MemoryState(clock, BreakerSettings(), spent)
    purse = Purse("key", "k", "a", "total", hard_nanousd=100)

    async def ask(number: int) -> Verdict:
        return await state.reserve(Claim(f"req_{number}", "k", clock.unix_ms(), (purse,), 40))

    state.settle(await ask(1), 40, 0)
    under_way = await ask(2)
    clock.now += UNREADABLE_S + 1  # asked again, in vain
    assert (await ask(3)).refused is None
    assert (await ask(4)).refused == "budget", "40 are spent and 80 set aside"
    known.append(90)
    clock.now += UNREADABLE_S + 1
    assert (await ask(5)).refused == "budget"
    state.settle(under_way, 10, 0)
    (standing,) = await state.standings([purse], clock.unix_ms())
    assert (standing.spent_nanousd, standing.reserved_nanousd, standing.ends_ms) == (100, 40, None)


@pytest.mark.anyio
async def test_what_other_processes_spend_from_a_purse_is_heard_of_while_it_is_used(clock: ManualClock) -> None:
    """Two workers of one gateway, without a shared state: the ledger is what they have in common."""
    ledger: list[int] = []

    async def spent(purse: Purse, since_ms: int) -> int:
        return sum(ledger)

    workers = [MemoryState(clock, BreakerSettings(), spent) for _ in range(2)]
    purse = Purse("key", "k", "a", "total", hard_nanousd=100)
    refused = 0
    for number in range(60):
        worker = workers[number % 2]
        verdict = await worker.reserve(Claim(f"req_{number}", "k", clock.unix_ms(), (purse,), 10))
        if verdict.refused is None:
            worker.settle(verdict, 10, 0)
            ledger.append(10)
        refused += verdict.refused == "budget"
        clock.now += 1.5
        await asyncio.sleep(0)  # the ledger answers
        await asyncio.sleep(0)
    assert 100 <= sum(ledger) <= 120
    assert refused == 60 - len(ledger)


@pytest.mark.anyio
async def test_a_strict_process_spends_of_no_hard_budget_that_it_can_t_read(clock: ManualClock) -> None:
    ledger: list[int] = []

    async def spent(purse: Purse, since_ms: int) -> int:
        return ledger[0]  # that can't be read while there is nothing

    state = MemoryState(clock, BreakerSettings(), spent, strict=True)
    hard, soft = Purse("key", "k", "a", "day", hard_nanousd=100), Purse("key", "k", "a", "month", soft_nanousd=1)

    async def ask(number: int, *purses: Purse) -> Verdict:
        return await state.reserve(Claim(f"req_{number}", "k", clock.unix_ms(), purses, 40))

    with pytest.raises(Unavailable) as caught:
        await ask(1, hard, soft)
    assert caught.value.code == "state_unavailable"
    assert (await ask(2, soft)).refused is None
    ledger.append(70)
    clock.now += UNREADABLE_S + 1
    verdict = await ask(3, hard)
    assert [one.spent_nanousd for one in verdict.standings] == [70]
    ledger.clear()  # what is open goes on by itself
    state.settle(verdict, 40, 0)
    assert (await ask(4, hard)).refused == "budget"
