"""The laws of the circuit, for any history of attempts that overlap and end in any order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from llmwise.routing.breaker import CLOSED, Breaker, BreakerSettings, Effect, admit, step

SETTINGS = BreakerSettings(failures=3, open_s=30.0, hard_down_s=300.0, max_pause_s=900.0, probe_s=60.0)

effects = st.sampled_from(["success", "failure", "hard_down", "none"])
pauses = st.none() | st.floats(0, 5000)
waits = st.sampled_from([0.0, 0.5, 5.0, 29.0, 30.0, 61.0, 400.0])

moves = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), waits),
        st.tuples(st.just("end"), waits, st.integers(0, 30), effects, pauses),
    ),
    max_size=60,
)
"""Ask for a place, or end one of the attempts under way (chosen by the number), some seconds after the move before."""


@settings(max_examples=400, deadline=None)
@given(moves)
def test_at_most_one_probe_is_out_and_an_open_circuit_admits_nobody_before_its_time(history: list[tuple]) -> None:  # type: ignore[type-arg]  # a union of shapes
    state: Breaker = CLOSED
    now = 0.0
    under_way: list[int] = []  # the probe number of each attempt
    probe_until: dict[int, float] = {}  # probes that are out and not given up
    for move in history:
        now += move[1]
        probe_until = {number: until for number, until in probe_until.items() if now < until}
        before = state
        if move[0] == "ask":
            state, admission = admit(state, SETTINGS, now)
            if before.phase == "closed":
                assert admission.allowed
                assert admission.probe == 0
                assert state == before
            elif now < before.until:
                assert not admission.allowed
                assert admission.retry_in_s == before.until - now
                assert state == before
            else:
                assert admission.allowed
                assert admission.probe > before.probe, "a probe's number is never used again"
                assert not probe_until, "a second probe while one is out"
                probe_until[admission.probe] = now + SETTINGS.probe_s
            if admission.allowed:
                under_way.append(admission.probe)
            continue
        if not under_way:
            continue
        _, _, which, effect, retry_after_s = move
        probe = under_way.pop(which % len(under_way))
        probe_until.pop(probe, None)
        state = step(before, effect, SETTINGS, now, probe=probe, retry_after_s=retry_after_s)
        check_step(before, state, effect, now, probe, retry_after_s)
        if state.phase == "closed":
            probe_until.clear()  # one that is still out is a late answer now


def check_step(
    before: Breaker, after: Breaker, effect: Effect, now: float, probe: int, retry_after_s: float | None
) -> None:
    if before.phase == "closed":
        if effect == "none":
            assert after == before, "the caller's faults never count"
        elif effect == "success":
            assert (after.phase, after.failures) == ("closed", 0)
        else:
            opens = effect == "hard_down" or before.failures + 1 >= SETTINGS.failures
            assert after.failures == before.failures + 1
            assert after.phase == ("open" if opens else "closed")
    elif not probe:
        assert after == before, "an attempt from before the circuit opened moves nothing"
    elif effect == "success":
        assert (after.phase, after.failures) == ("closed", 0)
    elif probe != before.probe:
        assert after == before, "a probe that was given up can only bring good news"
    else:
        assert after.phase == "open"
    if after.phase == "open" and after != before and effect != "none":
        pause = SETTINGS.hard_down_s if effect == "hard_down" else SETTINGS.open_s
        asked_for = min(retry_after_s or 0.0, SETTINGS.max_pause_s)
        assert after.until >= now + max(pause, asked_for), "never shorter than the pause, nor than what was asked for"
        assert after.until <= now + max(SETTINGS.hard_down_s, SETTINGS.max_pause_s)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["success", "none"]), max_size=40))
def test_without_a_failure_it_stays_closed(history: list[Effect]) -> None:
    state = CLOSED
    for effect in history:
        state = step(state, effect, SETTINGS, 1.0)
    assert state == CLOSED


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["failure", "none"]), max_size=40), st.integers(1, 8))
def test_it_opens_with_exactly_the_nth_failure_in_a_row_whatever_callers_do_wrong_in_between(
    history: list[Effect], failures: int
) -> None:
    limits = BreakerSettings(failures=failures)
    state = CLOSED
    seen = 0
    for effect in history:
        state = step(state, effect, limits, 1.0)
        seen += effect == "failure"
        assert (state.phase == "open") == (seen >= failures)
