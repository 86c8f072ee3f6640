"""The engine on scripted providers in this process: who is asked, what the caller sees, what the circuits learn."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress

import pytest
import uvloop

from llmwise.domain.errors import (
    CircuitOpen,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    Unavailable,
    UpstreamCut,
    UpstreamServerError,
    UpstreamTimeout,
)
from llmwise.domain.events import AttemptEvent, Finished, Started, TextDelta
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Exchange
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import Settings

from .engines import ANSWER, QUICK, Engine

pytestmark = pytest.mark.anyio

both_modes = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


RETRYABLE: list[faults.AnyRule] = [
    faults.RateLimit(model="a"),
    faults.RateLimit(model="a", retry_after=7),
    faults.Status(model="a", status=500),
    faults.Status(model="a", status=502),
    faults.Status(model="a", status=503),
    faults.Status(model="a", status=408),
    faults.Overloaded(model="a"),
    faults.Status(model="a", status=401),
    faults.Refuse(model="a"),
    faults.Hang(model="a"),
    faults.HangFirstEvent(model="a"),
    faults.Cut(model="a", after=0),
    faults.Stall(model="a", after=0),
    faults.Malformed(model="a", after=0),
    faults.ErrorIn200(model="a", after=0),
    faults.Oversized(model="a", after=0, bytes=1000),
    faults.WrongContentType(model="a"),
    faults.ContextTooLong(model="a"),
    faults.Status(model="a", status=404),
]


# --- who is asked -----------------------------------------------------------------------------------------------------


@both_modes
async def test_a_chains_first_answer_is_the_only_request(stream: bool) -> None:
    engine = Engine()
    run = await engine.run(stream=stream)
    assert (run.text, run.error) == (ANSWER, None)
    assert run.route == [("a", "trying"), ("a", "success")]
    assert engine.reached == {"a": 1}
    assert [(trace.final_model, trace.attempts, trace.terminal_error) for trace in run.traces] == [("a", 1, None)]
    assert run.events[-1] is run.traces[0]


@both_modes
async def test_without_a_chain_the_caller_sees_no_route(stream: bool) -> None:
    run = await Engine().run("a", stream=stream, chain=False)
    assert (run.text, run.route, run.traces) == (ANSWER, [], [])


@both_modes
@pytest.mark.parametrize("rule", RETRYABLE, ids=lambda rule: f"{rule.fault}-{getattr(rule, 'status', '')}")
async def test_before_the_first_content_a_retryable_failure_moves_on(rule: faults.AnyRule, stream: bool) -> None:
    engine = Engine([rule])
    run = await engine.run(stream=stream)
    assert (run.text, run.error) == (ANSWER, None)
    assert run.route == [("a", "trying"), ("a", "failed"), ("b", "trying"), ("b", "success")]
    assert engine.reached == {"a": 1, "b": 1}
    assert (run.traces[0].final_model, run.traces[0].attempts) == ("b", 2)
    assert engine.nothing_is_open()


@both_modes
async def test_the_callers_fault_ends_the_request_and_moves_no_circuit(stream: bool) -> None:
    engine = Engine([faults.Status(model="a", status=400)])
    for _ in range(5):
        run = await engine.run(stream=stream)
        assert isinstance(run.error, InvalidRequest)
        assert run.route == [("a", "trying"), ("a", "failed")]
    assert engine.reached == {"a": 5}
    assert engine.state.breaker("a").phase == "closed"
    assert engine.state.breaker("a").failures == 0


@both_modes
async def test_what_another_target_may_take_moves_on_without_a_penalty(stream: bool) -> None:
    engine = Engine([faults.ContextTooLong(model="a")])
    for _ in range(5):
        assert (await engine.run(stream=stream)).error is None
    assert engine.reached == {"a": 5, "b": 5}
    assert engine.state.breaker("a").failures == 0


@pytest.mark.parametrize(
    "rule",
    [
        faults.Cut(model="a", after=2),
        faults.Cut(model="a", after=2, reset=True),
        faults.Stall(model="a", after=2),
        faults.Malformed(model="a", after=2),
        faults.ErrorIn200(model="a", after=2),
        faults.Oversized(model="a", after=2, bytes=1000),
        faults.NoTerminal(model="a"),
    ],
    ids=lambda rule: rule.fault,
)
async def test_after_the_first_content_a_failure_ends_the_stream_and_no_other_model_goes_on_with_it(
    rule: faults.AnyRule,
) -> None:
    engine = Engine([rule])
    run = await engine.run()
    assert run.error is not None
    assert run.error.retryable
    assert run.text
    assert ANSWER.startswith(run.text)
    assert run.route == [("a", "trying"), ("a", "success"), ("a", "failed")]
    assert engine.reached == {"a": 1}
    trace = run.traces[0]
    assert (trace.final_model, trace.attempts, trace.terminal_error) == (None, 1, run.error.message)
    assert not any(isinstance(event, Finished) for event in run.events)
    assert engine.state.breaker("a").failures == 1


@pytest.mark.parametrize("chain", [True, False])
async def test_a_stream_without_its_providers_end_never_ends_cleanly(chain: bool) -> None:
    run = await Engine([faults.NoTerminal()]).run("a", chain=chain)
    assert isinstance(run.error, UpstreamCut)
    assert run.ledger.record is not None
    assert run.ledger.record.status == 502


@both_modes
async def test_when_the_whole_chain_fails_the_last_error_is_raised_after_the_trace(stream: bool) -> None:
    engine = Engine([faults.Status(model="a", status=500), faults.Hang(model="b"), faults.Overloaded(model="c")])
    run = await engine.run("abc", stream=stream)
    assert run.error is not None
    assert (run.error.status, run.error.code) == (529, "upstream_overloaded")
    assert [status for _, status in run.route] == ["trying", "failed"] * 3
    trace = run.traces[0]
    assert run.events[-1] is trace
    assert (trace.final_model, trace.attempts, trace.terminal_error) == (None, 3, run.error.message)


async def test_what_goes_wrong_after_the_providers_own_end_takes_nothing_from_the_answer() -> None:
    end = UpstreamServerError("too late")
    run = await Engine(providers={"a": Playing([[TextDelta("all")], [Finished("stop")], end])}).run("a")
    assert (run.text, run.error) == ("all", None)
    assert run.ledger.record is not None
    assert run.ledger.record.status == 200


async def test_events_before_the_first_content_are_held_until_the_attempt_commits() -> None:
    """The failed attempt's `Started` must not be shown as the answer's."""
    a = Playing([[Started("1", "model-a")], UpstreamCut("gone")])
    b = Playing([[Started("2", "model-b")], [TextDelta("hi"), Finished("stop")]])
    run = await Engine(providers={"a": a, "b": b}).run("ab")
    assert [event.model for event in run.events if isinstance(event, Started)] == ["model-b"]
    assert run.error is None


async def test_a_provider_that_is_not_configured_is_said_so() -> None:
    engine = Engine()
    run = await engine.run("x")
    assert isinstance(run.error, Unavailable)
    assert len(engine.kept.settled) == 1


# --- time -------------------------------------------------------------------------------------------------------------


async def test_one_total_bounds_a_stream_that_never_stops_talking() -> None:
    timeouts = TimeoutSettings(first_event_s=5, idle_s=5, total_s=0.15)
    engine = Engine(timeouts=timeouts, settings=Settings(text=ANSWER, tokens=10_000, tokens_per_second=100))
    begun = time.monotonic()
    run = await engine.run("a")
    assert time.monotonic() - begun < 2
    assert isinstance(run.error, DeadlineExceeded)
    assert run.text
    assert engine.nothing_is_open()


@both_modes
async def test_one_total_bounds_a_whole_chain_that_hangs(stream: bool) -> None:
    timeouts = TimeoutSettings(first_event_s=0.08, idle_s=5, total_s=0.2, answer_s=5)
    begun = time.monotonic()
    run = await Engine([faults.Hang()], timeouts=timeouts).run("abc", stream=stream)
    assert 0.15 <= time.monotonic() - begun < 2
    assert isinstance(run.error, DeadlineExceeded)
    assert len(run.traces) == 1


async def test_a_provider_that_hangs_leaves_a_whole_answers_fallback_its_time() -> None:
    timeouts = TimeoutSettings(total_s=0.4, answer_s=60)
    run = await Engine([faults.Hang(model="a")], timeouts=timeouts).run("ab", stream=False)
    assert (run.text, run.error) == (ANSWER, None)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (faults.Hang(), "first_event"),
        (faults.HangFirstEvent(), "first_event"),
        (faults.Stall(after=0), "first_event"),
        (faults.Stall(after=2), "idle"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.fault,
)
async def test_a_time_out_says_which_time_ran_out(rule: faults.AnyRule, reason: str) -> None:
    run = await Engine([rule]).run("a")
    assert isinstance(run.error, UpstreamTimeout)
    assert run.error.reason == reason
    assert f"0.05 s ([timeouts] {reason}_s)" in run.error.message


async def test_the_idle_time_counts_from_the_last_read_also_when_it_is_the_shorter_one() -> None:
    begun = time.monotonic()
    run = await Engine([faults.Stall(after=2)], timeouts=TimeoutSettings(first_event_s=5, idle_s=0.05)).run("a")
    assert isinstance(run.error, UpstreamTimeout)
    assert run.error.reason == "idle"
    assert time.monotonic() - begun < 2


async def test_a_long_answer_whose_pieces_keep_coming_is_not_idle() -> None:
    timeouts = TimeoutSettings(first_event_s=5, idle_s=0.1)
    run = await Engine(timeouts=timeouts, settings=Settings(tokens=15, tokens_per_second=50)).run("a")
    assert run.error is None


async def test_a_slow_reader_is_no_slow_provider() -> None:
    """The time that the caller takes between two batches is not held against the target."""
    engine = Engine(timeouts=TimeoutSettings(first_event_s=5, idle_s=0.03))
    ledger = engine.ledger("a")
    async with aclosing(engine.mesh.run(ledger.request, ledger)) as batches:
        async for _ in batches:
            await asyncio.sleep(0.05)
    assert ledger.record is not None
    assert ledger.record.status == 200


async def test_a_whole_answers_time_out_names_the_setting_that_bounds_it() -> None:
    run = await Engine([faults.Hang()]).run("a", stream=False)
    assert isinstance(run.error, UpstreamTimeout)
    assert "answer_s" in run.error.message


def test_the_end_of_the_total_is_told_from_a_slow_provider_on_every_event_loop() -> None:
    """uvloop's timers fire up to a millisecond early by its own clock; a provider must not be blamed for that."""

    async def run(total_s: float, stream: bool) -> GatewayError | None:
        engine = Engine([faults.Hang()], timeouts=TimeoutSettings(first_event_s=9, total_s=total_s, answer_s=9))
        result = await engine.run("a", stream=stream)
        assert engine.state.breaker("a").failures == 0
        return result.error

    async def runs() -> list[GatewayError | None]:
        totals_s = (0.003, 0.0071, 0.0113, 0.0204)
        return [await run(total_s, stream) for total_s in totals_s for stream in (True, False) for _ in range(8)]

    assert {type(error) for error in uvloop.run(runs())} == {DeadlineExceeded}


# --- the circuit ------------------------------------------------------------------------------------------------------


async def fail_thrice(engine: Engine) -> None:
    engine.play(faults.Status(model="a", status=500))
    for _ in range(3):
        await engine.run("ab")
    engine.play()


async def test_two_failures_leave_the_circuit_closed_and_the_third_opens_it() -> None:
    engine = Engine([faults.Status(model="a", status=500, nth="1-2")])
    for _ in range(2):
        await engine.run("ab")
    assert engine.state.breaker("a").phase == "closed"
    assert (await engine.run("ab")).route[-1] == ("a", "success")
    await fail_thrice(engine)
    assert engine.state.breaker("a").phase == "open"


async def test_an_open_circuit_is_skipped_for_thirty_seconds_without_a_request() -> None:
    engine = Engine()
    await fail_thrice(engine)
    asked = engine.reached["a"]
    for _ in range(4):
        run = await engine.run("ab")
        assert run.route == [("a", "skipped"), ("b", "trying"), ("b", "success")]
        engine.clock.now += 7.4
    assert engine.reached["a"] == asked
    engine.clock.now += 30 - 4 * 7.4
    assert (await engine.run("ab")).route == [("a", "trying"), ("a", "success")]


async def test_of_fifty_concurrent_requests_after_the_pause_exactly_one_probes() -> None:
    engine = Engine(timeouts=TimeoutSettings())
    await fail_thrice(engine)
    asked = engine.reached["a"]
    engine.clock.now += 30
    engine.settings = Settings(text=ANSWER, first_event_ms=50)
    engine.play()
    runs = await asyncio.gather(*(engine.run("ab") for _ in range(50)))
    assert engine.reached["a"] - asked == 1
    assert sorted(run.route[0] for run in runs) == [("a", "skipped")] * 49 + [("a", "trying")]
    assert all(run.error is None for run in runs)
    assert engine.state.breaker("a").phase == "closed"


async def test_a_failed_probe_opens_the_circuit_again() -> None:
    engine = Engine()
    await fail_thrice(engine)
    engine.clock.now += 30
    engine.play(faults.Status(model="a", status=500))
    assert (await engine.run("ab")).route[:2] == [("a", "trying"), ("a", "failed")]
    engine.clock.now += 29.9
    assert (await engine.run("ab")).route[0] == ("a", "skipped")
    engine.clock.now += 0.1
    assert (await engine.run("ab")).route[0] == ("a", "trying")


async def test_retry_after_lengthens_the_pause() -> None:
    engine = Engine([faults.RateLimit(model="a", retry_after=90)])
    for _ in range(3):
        await engine.run("ab")
    engine.clock.now += 89.9
    assert (await engine.run("ab")).route[0] == ("a", "skipped")
    engine.clock.now += 0.1
    assert (await engine.run("ab")).route[0] == ("a", "trying")


async def test_a_success_that_began_before_the_circuit_opened_does_not_close_it() -> None:
    engine = Engine(
        [faults.Normal(model="a", nth=1, first_event_ms=80), faults.Status(model="a", status=500)],
        timeouts=TimeoutSettings(),
    )
    slow = asyncio.create_task(engine.run("a"))
    await until_reached(engine, "a", 1)
    for _ in range(3):
        await engine.run("ab")
    assert engine.state.breaker("a").phase == "open"
    assert (await slow).error is None
    assert engine.state.breaker("a").phase == "open"


async def test_when_every_circuit_is_open_the_caller_hears_so_without_a_request() -> None:
    engine = Engine([faults.Status(status=500)])
    for _ in range(3):
        await engine.run("ab")
    asked = dict(engine.reached)
    engine.clock.now += 10
    run = await engine.run("ab")
    assert isinstance(run.error, CircuitOpen)
    assert (run.error.status, run.error.retry_after_s) == (503, 20.0)
    assert run.route == [("a", "skipped"), ("b", "skipped")]
    assert run.traces[0].attempts == 0
    assert engine.reached == asked
    assert engine.kept.settled[-1][1] == ()


async def test_a_refused_key_takes_its_target_out_at_once_and_for_long() -> None:
    engine = Engine([faults.Status(model="a", status=401)])
    await engine.run("ab")
    engine.clock.now += 299
    assert (await engine.run("ab")).route[0] == ("a", "skipped")


async def test_the_callers_fault_during_a_probe_gives_the_place_to_the_next() -> None:
    engine = Engine()
    await fail_thrice(engine)
    engine.clock.now += 30
    engine.play(faults.Status(model="a", status=400, nth=1))
    assert isinstance((await engine.run("ab")).error, InvalidRequest)
    assert (await engine.run("ab")).route == [("a", "trying"), ("a", "success")]


# --- a caller that leaves ---------------------------------------------------------------------------------------------


async def until_reached(engine: Engine, name: str, times: int) -> None:
    async with asyncio.timeout(5):
        while len(engine.scripted[name].received) < times:  # noqa: ASYNC110  # the provider has no event for it
            await asyncio.sleep(0.001)


LEAVING: Sequence[faults.AnyRule] = [
    faults.Hang(model="a"),
    faults.HangFirstEvent(model="a"),
    faults.Stall(model="a", after=0),
    faults.Stall(model="a", after=2),
]


@both_modes
@pytest.mark.parametrize("rule", LEAVING, ids=["no headers", "no event", "no content", "amid the answer"])
async def test_cancelling_at_any_moment_closes_the_exchange_and_settles_once(
    rule: faults.AnyRule, stream: bool
) -> None:
    engine = Engine([rule], timeouts=TimeoutSettings())
    task = asyncio.create_task(engine.run(stream=stream))
    await until_reached(engine, "a", 1)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.nothing_is_open()
    assert [received.outcome for received in engine.scripted["a"].received] == ["closed"]
    [(record, attempts)] = engine.kept.settled
    assert (record.status, record.code) == (499, "client_gone")
    assert [attempt.outcome for attempt in attempts] == ["client_gone"]
    assert engine.state.breaker("a").failures == 0
    assert "a" not in engine.state.health()


async def test_closing_the_run_after_any_batch_settles_it_once() -> None:
    whole = await Engine().run("ab")
    batches = len(whole.events)
    for stop_after in range(batches + 1):
        engine = Engine([faults.Status(model="a", status=500)])
        ledger = engine.ledger("ab")
        run = engine.mesh.run(ledger.request, ledger)
        with suppress(StopAsyncIteration):
            for _ in range(stop_after):
                await anext(run)
        await run.aclose()
        assert engine.nothing_is_open()
        assert len(engine.kept.settled) == (1 if stop_after else 0), "a run that never began has nothing to settle"


async def test_a_probe_whose_caller_leaves_gives_its_place_to_the_next() -> None:
    engine = Engine(timeouts=TimeoutSettings())
    await fail_thrice(engine)
    engine.clock.now += 30
    for stop_after in (1, 2):  # at `trying`, and amid the answer
        ledger = engine.ledger("ab")
        async with aclosing(engine.mesh.run(ledger.request, ledger)) as run:
            for _ in range(stop_after):
                await anext(run)
            assert engine.state.breaker("a").phase == "half_open"
    assert (await engine.run("ab")).route == [("a", "trying"), ("a", "success")]


async def test_a_caller_that_leaves_as_the_time_runs_out_is_settled_once() -> None:
    for wait_s in (0.019, 0.0195, 0.02, 0.0205, 0.021):
        engine = Engine([faults.Hang(model="a")], timeouts=TimeoutSettings(first_event_s=0.02))
        task = asyncio.create_task(engine.run("ab"))
        await asyncio.sleep(wait_s)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert len(engine.kept.settled) == 1
        assert engine.nothing_is_open()


# --- defects of others ------------------------------------------------------------------------------------------------


class Playing:
    """A provider that plays batches and errors, one a `receive`."""

    family: Family = "openai"

    def __init__(self, plays: Sequence[list[AttemptEvent] | BaseException], *, close: Exception | None = None) -> None:
        self.name = "a"
        self._plays = list(plays)
        self._close = close
        self.closed = 0

    async def send(self, request: ChatRequest, target: ModelCard) -> Exchange:
        return self

    async def receive(self) -> Sequence[AttemptEvent]:
        await asyncio.sleep(0)
        play = self._plays.pop(0) if self._plays else []
        if isinstance(play, BaseException):
            raise play
        return play

    async def aclose(self) -> None:
        self.closed += 1
        if self._close is not None:
            raise self._close


@pytest.mark.parametrize("batches", [0, 1])
async def test_a_defect_in_an_adapter_is_settled_and_raised_and_its_exchange_closed(batches: int) -> None:
    plays: list[list[AttemptEvent] | BaseException] = [[TextDelta("half")]] * batches
    provider = Playing([*plays, KeyError("a defect")])
    engine = Engine(providers={"a": provider})
    with pytest.raises(KeyError):
        await engine.run("a")
    assert provider.closed == 1
    [(record, attempts)] = engine.kept.settled
    assert (record.status, record.code) == (500, "internal_error")
    assert [attempt.outcome for attempt in attempts] == ["provider_error"]
    assert engine.state.breaker("a").failures == 0


async def test_an_exchange_that_fails_to_close_leaves_a_settled_request() -> None:
    provider = Playing([[TextDelta("all"), Finished("stop")]], close=RuntimeError("can't close"))
    engine = Engine(providers={"a": provider})
    with pytest.raises(RuntimeError, match="can't close"):
        await engine.run("a")
    [(_, attempts)] = engine.kept.settled
    assert [attempt.outcome for attempt in attempts] == ["complete"]


async def test_an_exchange_is_closed_after_every_end() -> None:
    for plays in ([[TextDelta("x"), Finished("stop")]], [UpstreamCut("cut")], [[TextDelta("x")], UpstreamCut("cut")]):
        provider = Playing(plays)  # type: ignore[arg-type]  # a list of either
        await Engine(providers={"a": provider}).run("a")
        assert provider.closed >= 1


def test_the_quick_times_are_quick() -> None:
    """Guards the suite's own run time."""
    assert max(QUICK.first_event_s, QUICK.idle_s, QUICK.answer_s or 0) <= 0.1
