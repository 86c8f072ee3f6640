"""The policy that estimates suggest, its guard and its reasons."""

import msgspec
import pytest

from llmwise.domain.requests import Goal
from llmwise.insights.estimate import estimate
from llmwise.insights.policy import Policy, TaskPolicy, learned, recommend

from .traffic import Truth, traffic

SAME = {
    "chat": {
        "dear": Truth(0.90, 9000, 900),
        "cheap": Truth(0.92, 1000, 700, success=0.90),
        "fast": Truth(0.93, 4000, 200),
        "twin": Truth(0.90, 9500, 950),
    }
}


def policy(goal: Goal, truths: dict[str, dict[str, Truth]] = SAME, n: int = 30_000, *, judged: bool = True) -> Policy:
    return recommend(estimate(traffic(truths, n, seed=1, judged=judged)), goal, {}, 0)


def codes(task: TaskPolicy, model: str | None = None) -> set[str]:
    return {reason.code for reason in task.reasons if model is None or reason.model == model}


@pytest.mark.parametrize(("goal", "primary"), [("cost", "cheap"), ("latency", "fast")])
def test_each_goal_gets_what_it_asks_for(goal: Goal, primary: str) -> None:
    task = policy(goal).tasks["chat"]
    assert (task.today, task.primary) == ("dear", primary)
    assert "recommended" in codes(task, primary)


def test_reliability_takes_no_model_that_often_fails() -> None:
    assert policy("reliability").tasks["chat"].primary != "cheap"


def test_the_next_hop_is_at_another_provider() -> None:
    task = policy("cost", {"chat": {m: Truth(0.93, c) for m, c in (("dear", 9000), ("twin", 900), ("fast", 5000))}})
    chat = task.tasks["chat"]
    assert chat.primary == "twin"
    assert chat.chain[0] == "fast"


@pytest.mark.parametrize("seed", range(20))
def test_the_guard_is_not_broken_in_truth(seed: int) -> None:
    """A model five points worse, and one just beyond what is allowed, at a tenth of the price."""
    truths = {
        "a": {"dear": Truth(0.90, 9000), "cheap": Truth(0.85, 900)},
        "b": {"dear": Truth(0.80, 9000), "cheap": Truth(0.775, 900)},
    }
    found = recommend(estimate(traffic(truths, 3000, seed)), "cost", {}, 0)
    for task in found.tasks.values():
        assert task.primary == "dear"
        assert "below_guard" in codes(task, "cheap")


def test_too_little_evidence_recommends_nothing_and_says_so() -> None:
    task = policy("cost", n=60).tasks["chat"]
    assert (task.enough, task.primary, task.chain) == (False, task.today, ())
    assert codes(task) == {"not_enough_data"}
    assert "of the 50 needed" in task.reasons[0].text


def test_without_a_signal_of_quality_the_guard_is_on_success() -> None:
    task = policy("cost", judged=False).tasks["chat"]
    assert "guard_on_success" in codes(task)
    assert "below_guard" in codes(task, "cheap")  # it fails eight points more often
    assert task.primary == "fast"


def test_a_dominated_model_is_not_on_the_pareto_front() -> None:
    options = {option.model: option for option in policy("balanced").tasks["chat"].options}
    assert options["fast"].pareto
    assert options["cheap"].pareto
    assert not options["twin"].pareto


def test_a_policy_survives_its_json_and_its_version_names_its_content() -> None:
    one, two = policy("cost"), policy("latency")
    assert msgspec.json.decode(msgspec.json.encode(one), type=Policy) == one
    assert one.version == policy("cost").version != two.version


def test_auto_gets_only_what_has_enough_evidence() -> None:
    truths = SAME | {"rare": {"dear": Truth(0.9, 9000)}}
    rows = traffic(SAME, 30_000, seed=1) + traffic({"rare": truths["rare"]}, 20)
    table = learned(recommend(estimate(rows), "cost", {}, 0), explore=0.04)
    assert set(table.tasks) == {"chat"}
    assert table.tasks["chat"].primary == table.tasks["chat"].explorable[0] == "cheap"
    with pytest.raises(ValueError, match="explore"):
        learned(policy("cost"), explore=0.5)
