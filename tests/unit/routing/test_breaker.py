"""The circuit by an injected clock: when it opens, for how long, who probes, and what never counts."""

import pytest

from llmwise.routing.breaker import CLOSED, Admission, Breaker, BreakerSettings, admit, step

SETTINGS = BreakerSettings(failures=3, open_s=30.0, hard_down_s=300.0, max_pause_s=900.0, probe_s=60.0)


def failed(state: Breaker, times: int, now: float, retry_after_s: float | None = None) -> Breaker:
    for _ in range(times):
        state = step(state, "failure", SETTINGS, now, retry_after_s=retry_after_s)
    return state


def asked(state: Breaker, now: float) -> tuple[Breaker, Admission]:
    return admit(state, SETTINGS, now)


def opened(now: float = 0.0) -> Breaker:
    return failed(CLOSED, 3, now)


def probing(now: float = 30.0) -> tuple[Breaker, Admission]:
    return asked(opened(), now)


def test_two_failures_leave_it_closed_and_the_third_opens_it() -> None:
    two = failed(CLOSED, 2, now=0)
    assert two.phase == "closed"
    assert asked(two, 0)[1].allowed
    three = failed(two, 1, now=0)
    assert three.phase == "open"
    assert not asked(three, 0)[1].allowed


def test_a_success_between_failures_starts_the_count_anew() -> None:
    state = step(failed(CLOSED, 2, now=0), "success", SETTINGS, 1)
    assert state == CLOSED
    assert failed(state, 2, now=2).phase == "closed"


@pytest.mark.parametrize("now", [0.0, 12.0, 29.999])
def test_an_open_circuit_lets_nobody_in_for_its_whole_pause_and_says_how_long_it_lasts(now: float) -> None:
    state, admission = asked(opened(), now)
    assert admission == Admission(allowed=False, probe=0, retry_in_s=30.0 - now)
    assert state == opened()


def test_of_fifty_that_ask_after_the_pause_exactly_one_probes() -> None:
    state = opened()
    admissions = []
    for _ in range(50):
        state, admission = asked(state, 30.0)
        admissions.append(admission)
    assert [admission.allowed for admission in admissions] == [True] + [False] * 49
    assert admissions[0].probe == 1
    assert state.phase == "half_open"


def test_the_probes_success_closes_the_circuit() -> None:
    state, probe = probing()
    state = step(state, "success", SETTINGS, 31.0, probe=probe.probe)
    assert (state.phase, state.failures) == ("closed", 0)
    assert asked(state, 31.0)[1].allowed


def test_the_probes_failure_opens_it_for_another_whole_pause() -> None:
    state, probe = probing()
    state = step(state, "failure", SETTINGS, 31.0, probe=probe.probe)
    assert state.phase == "open"
    assert not asked(state, 60.999)[1].allowed
    assert asked(state, 61.0)[1] == Admission(allowed=True, probe=2)


def test_a_probe_that_says_nothing_about_the_provider_gives_its_place_to_the_next() -> None:
    state, probe = probing()
    state = step(state, "none", SETTINGS, 31.0, probe=probe.probe)
    assert asked(state, 31.0)[1] == Admission(allowed=True, probe=2)


def test_a_probe_that_never_reports_back_is_given_up() -> None:
    state, _ = probing(30.0)
    assert not asked(state, 89.999)[1].allowed
    assert asked(state, 90.0)[1] == Admission(allowed=True, probe=2)


def test_the_late_failure_of_a_probe_that_was_given_up_changes_nothing_and_its_late_success_closes() -> None:
    state, first = probing(30.0)
    state, second = asked(state, 90.0)
    assert step(state, "failure", SETTINGS, 91.0, probe=first.probe) == state
    assert step(state, "none", SETTINGS, 91.0, probe=first.probe) == state
    assert step(state, "success", SETTINGS, 91.0, probe=first.probe).phase == "closed"
    assert step(state, "failure", SETTINGS, 91.0, probe=second.probe).phase == "open"


def test_a_success_admitted_before_the_circuit_opened_does_not_close_it() -> None:
    """Of many requests under way three fail and one, begun before, succeeds: the provider is failing all the same."""
    state = opened()
    assert step(state, "success", SETTINGS, 1.0) == state
    state, _ = asked(state, 30.0)
    assert step(state, "success", SETTINGS, 31.0) == state


def test_a_failure_admitted_before_the_circuit_opened_does_not_lengthen_its_pause() -> None:
    state = opened()
    assert step(state, "failure", SETTINGS, 20.0, retry_after_s=500.0) == state
    state, _ = asked(state, 30.0)
    assert step(state, "failure", SETTINGS, 31.0) == state


def test_retry_after_lengthens_the_pause() -> None:
    state = step(failed(CLOSED, 2, now=0), "failure", SETTINGS, 0, retry_after_s=120.0)
    assert not asked(state, 119.9)[1].allowed
    assert asked(state, 120.0)[1].allowed


@pytest.mark.parametrize("retry_after_s", [0.0, 5.0, 29.0])
def test_retry_after_never_shortens_the_pause(retry_after_s: float) -> None:
    state = failed(CLOSED, 3, now=0, retry_after_s=retry_after_s)
    assert not asked(state, 29.9)[1].allowed


def test_the_longest_retry_after_of_the_row_counts_whichever_failure_asked_for_it() -> None:
    state = step(CLOSED, "failure", SETTINGS, 0, retry_after_s=200.0)
    state = failed(state, 2, now=1)
    assert not asked(state, 199.9)[1].allowed
    assert asked(state, 200.0)[1].allowed


def test_a_retry_after_is_cut_to_the_longest_pause_allowed() -> None:
    state = failed(CLOSED, 3, now=0, retry_after_s=86_400.0)
    assert asked(state, 900.0)[1].allowed


def test_retry_after_lengthens_the_pause_after_a_failed_probe_too() -> None:
    state, probe = probing()
    state = step(state, "failure", SETTINGS, 31.0, probe=probe.probe, retry_after_s=100.0)
    assert not asked(state, 130.9)[1].allowed
    assert asked(state, 131.0)[1].allowed


def test_the_callers_faults_never_count() -> None:
    two = failed(CLOSED, 2, now=0)
    for state in (CLOSED, two, opened()):
        after = state
        for _ in range(10):
            after = step(after, "none", SETTINGS, 1.0)
        assert after == state


def test_a_refused_key_opens_at_once_and_for_long() -> None:
    state = step(CLOSED, "hard_down", SETTINGS, 0, reason="upstream_unauthorized")
    assert (state.phase, state.reason) == ("open", "upstream_unauthorized")
    assert not asked(state, 299.9)[1].allowed
    assert asked(state, 300.0)[1].allowed


def test_the_circuit_keeps_the_reason_of_the_failure_that_opened_it() -> None:
    state = step(failed(CLOSED, 2, now=0), "failure", SETTINGS, 0, reason="upstream_timeout")
    assert asked(state, 30.0)[0].reason == "upstream_timeout"
