"""What is in force: adopting, returning, trying; and what a process makes of it."""

import pytest

from llmwise.domain.errors import Conflict, NotFound
from llmwise.insights.control import Control, PolicySettings, TrialState, adopt, begin, end, give_back, rollout_of
from llmwise.insights.policy import Policy, TaskPolicy
from llmwise.routing.auto import AutoSettings

TRIAL = TrialState("b", "cost", "canary", 0.1, 0.05, True, 0)


def policy(version: str) -> Policy:
    return Policy(version, "cost", 0, 0.02, 0.95, {"code": TaskPolicy("code", True, "m", "m", (), 99, 99.0, (), ())})


def test_returning_goes_back_version_by_version_and_then_to_none() -> None:
    control = adopt(adopt(adopt(Control(), "cost", "a", 1), "latency", "x", 2), "cost", "b", 3)
    control = give_back(control, "cost", 4)
    assert control.adopted == {"cost": "a", "latency": "x"}
    control = give_back(control, "cost", 5)
    assert control.adopted == {"latency": "x"}
    with pytest.raises(Conflict, match="nothing to return from"):
        give_back(control, "cost", 6)


def test_what_changes_under_a_trial_ends_it() -> None:
    control = begin(adopt(Control(), "cost", "a", 1), TRIAL)
    assert adopt(control, "cost", "b", 2).trial is None
    guarded = adopt(control, "cost", "c", 2, guard_days=7)
    assert (guarded.trial, guarded.guard is not None) == (None, True)
    assert give_back(control, "cost", 2).trial is None
    assert adopt(control, "latency", "x", 2).trial == TRIAL
    assert give_back(adopt(control, "latency", "x", 2), "latency", 3).trial == TRIAL
    assert adopt(control, "latency", "x", 2, guard_days=7).trial is None, "two comparisons at once would be none"


def test_one_trial_at_a_time() -> None:
    control = begin(Control(), TRIAL)
    with pytest.raises(Conflict, match="b is on trial"):
        begin(control, TrialState("c", "cost", "shadow", 0.1, 0.05, True, 0))
    assert begin(control, TRIAL) == control
    with pytest.raises(NotFound):
        end(end(control))


def test_what_is_switched_off_or_missing_does_not_steer() -> None:
    control = begin(adopt(Control(), "cost", "a", 1), TRIAL)
    known = {"a": policy("a"), "b": policy("b")}
    both = rollout_of(control, known, AutoSettings())
    assert (set(both.adopted), both.trial is not None) == ({"cost"}, True)
    assert rollout_of(control, {}, AutoSettings()).adopted == {}
    off = rollout_of(Control(PolicySettings(enabled=False, goal="latency"), control.adopted), known, AutoSettings())
    assert (off.adopted, off.auto) == ({}, AutoSettings(goal="latency"))
