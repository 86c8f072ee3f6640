"""The policy that estimates suggest, its guard and its reasons."""

import msgspec
import pytest
from msgspec.structs import replace

from llmwise.domain.requests import Goal
from llmwise.insights.dataset import Row
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


MIXED = {
    "chat": {"dear": Truth(0.95, 9000), "cheap": Truth(0.60, 300), "fast": Truth(0.94, 2000), "twin": Truth(0.95, 9)}
}


def by_name(shares: dict[str, int], judged: bool = True) -> list[Row]:
    """So many requests to each by name: no chance, no propensity."""
    rows = []
    for model, count in shares.items():
        alone = {"chat": {model: MIXED["chat"][model]}}
        rows += [
            replace(row, propensity=None, conversation=f"{model}{at}")
            for at, row in enumerate(traffic(alone, 2 * count, seed=1, today=model, judged=judged))
            if row.after is None
        ][:count]
    return rows


@pytest.mark.parametrize("told", [{}, {"chat": "cheap"}], ids=["most asked", "in force"])
def test_where_today_is_a_mix_nothing_becomes_as_bad_as_its_worst(told: dict[str, str]) -> None:
    rows = by_name({"cheap": 260, "dear": 250, "fast": 250})
    task = recommend(estimate(rows), "cost", told, 0, points=0.05).tasks["chat"]
    assert (task.today, task.enough, task.primary) == ("cheap", True, "fast")
    assert {"mix", "below_guard"} <= codes(task)
    mixed = next(reason.text for reason in task.reasons if reason.code == "mix")
    assert mixed.startswith("Today is a mix (cheap 34%, dear 33%, fast 33%): its mean quality is 0.8")
    assert "cheap: quality surely" in str(task.reasons)
    assert "cheap" not in task.chain
    few = recommend(estimate(by_name({"cheap": 260, "fast": 200, "dear": 30})), "cost", {}, 0, points=0.0)
    assert few.tasks["chat"].primary != "cheap"
    alone = recommend(estimate(by_name({"cheap": 500, "fast": 60, "dear": 30})), "cost", {}, 0).tasks["chat"]
    assert (alone.primary, "mix" in codes(alone)) == ("cheap", False), "a clear majority is what today is"


def test_nothing_is_recommended_where_only_who_is_worse_than_the_mix_has_enough_data() -> None:
    rows = by_name({"cheap": 150, "dear": 45, "fast": 45, "twin": 45})
    task = recommend(estimate(rows), "cost", {}, 0).tasks["chat"]
    assert (task.enough, task.today, task.primary, task.chain) == (False, "cheap", "cheap", ())
    assert {"not_enough_data", "mix", "below_guard"} <= codes(task)


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
