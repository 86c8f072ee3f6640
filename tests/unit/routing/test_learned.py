"""Auto with a learned table: who answers, by which chance, and when the table has no say."""

from typing import Any

import pytest

from llmwise.catalog import load
from llmwise.domain.messages import Message, Text
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import AutoDecision, Origin, Plan
from llmwise.domain.requests import ChatRequest, Goal
from llmwise.routing.auto import AutoSettings, decide
from llmwise.routing.classifier import Classification
from llmwise.routing.learned import LEAST_PROPENSITY, Learned, LearnedTask, lot, take
from llmwise.routing.needs import Needs
from llmwise.routing.planner import Planner, View

TASK = LearnedTask("a", ("b",), ("a", "b", "c", "d", "e", "f"), 120.0)
CARDS = [ModelCard(name, f"of-{name}", name, rate=Rate(10**9, 10**9), quality=0.9) for name in "fedcba"]
CODE = Classification("code", 0.9, 0.2)
TABLE = Learned("cost-1", "cost", {"code": TASK, "conversation": TASK})


def decided(
    table: Learned | None = TABLE,
    seen: Classification = CODE,
    settings: AutoSettings | None = None,
    draw: float = 0.999,
    **fields: Any,
) -> tuple[list[str], AutoDecision]:
    ranked, decision = decide(
        fields.get("candidates", CARDS), seen, Needs(100, 100), "cost", settings or AutoSettings(), {}, table, draw
    )
    return [card.id for card in ranked], decision


def test_a_learned_task_goes_to_its_model_and_its_chain() -> None:
    order, decision = decided()
    assert order[:2] == ["a", "b"]
    assert sorted(order) == sorted("abcdef")
    assert (decision.strategy, decision.policy_version) == ("historical_optimization", "cost-1")
    assert (decision.propensity, decision.explored) == (1.0, False)
    assert "policy cost-1 for code" in decision.reasons[-1]


@pytest.mark.parametrize(
    ("table", "seen", "settings"),
    [
        (None, Classification("code", 0.9, 0.2), None),
        (TABLE, Classification("math", 0.9, 0.2), None),
        (TABLE, Classification("code", 0.3, 0.2), None),
        (TABLE, Classification("conversation", 0.9, 0.9), None),
        (TABLE, Classification("code", 0.9, 0.2), AutoSettings(map={"code": "f"})),
        (Learned("l-1", "latency", {"code": TASK}), Classification("code", 0.9, 0.2), None),
    ],
    ids=["no table", "no evidence", "unsure", "hard for its class", "configured", "another goal"],
)
def test_elsewhere_the_heuristics_decide(
    table: Learned | None, seen: Classification, settings: AutoSettings | None
) -> None:
    _, decision = decided(table, seen, settings)
    assert decision.strategy == "heuristic_routing"
    assert (decision.policy_version, decision.propensity, decision.explored) == (None, None, False)


def test_who_can_not_answer_is_passed_over() -> None:
    order, _ = decided(candidates=[card for card in CARDS if card.id != "a"])
    assert order[0] == "b"
    order, decision = decided(candidates=[card for card in CARDS if card.id not in "ab"])
    assert decision.strategy == "heuristic_routing"


def test_nothing_is_explored_unless_asked_for() -> None:
    for draw in (0.0, 0.5, 0.99):
        taken = take(TASK, set("abcdef"), 0.0, draw)
        assert taken is not None
        assert (taken.order, taken.propensity, taken.explored) == (("a", "b"), 1.0, False)


@pytest.mark.parametrize("explore", [0.01, 0.02, 0.05, 0.1])
def test_propensities_are_the_true_chances_and_none_is_tiny(explore: float) -> None:
    seen: dict[str, int] = {}
    told: dict[str, float] = {}
    draws = 10_000
    for at in range(draws):
        taken = take(TASK, set("abcdef"), explore, (at + 0.5) / draws)
        assert taken is not None
        seen[taken.order[0]] = seen.get(taken.order[0], 0) + 1
        told[taken.order[0]] = taken.propensity
        assert taken.explored == (taken.order[0] != "a")
    assert sum(told.values()) == pytest.approx(1)
    for model, chance in told.items():
        assert seen[model] / draws == pytest.approx(chance, abs=2e-4)
        assert chance >= LEAST_PROPENSITY


def test_an_explored_model_has_the_policy_behind_it() -> None:
    order, decision = decided(Learned("cost-1", "cost", {"code": TASK}, 0.1), draw=0.0)
    assert order[:2] == ["b", "a"]
    assert decision.explored
    assert decision.propensity == pytest.approx(0.02)


def test_hard_questions_are_not_explored_with() -> None:
    _, decision = decided(Learned("cost-1", "cost", {"code": TASK}, 0.1), Classification("code", 0.9, 0.9), draw=0.0)
    assert (decision.strategy, decision.explored, decision.propensity) == ("historical_optimization", False, 1.0)


def test_more_exploration_than_a_tenth_is_refused() -> None:
    with pytest.raises(ValueError, match=r"explore = 0\.2"):
        Learned("x", "cost", {}, 0.2)


def test_a_conversation_keeps_its_lot_and_lots_are_even() -> None:
    assert lot("v", "c") == lot("v", "c") != lot("w", "c")
    lots = [lot("v", str(n)) for n in range(4000)]
    assert all(0 <= one < 1 for one in lots)
    for tenth in range(10):
        assert sum(tenth <= one * 10 < tenth + 1 for one in lots) == pytest.approx(400, abs=80)


def test_a_planner_uses_the_table_of_the_goal_and_explores_by_conversation() -> None:
    catalog = load(providers={"openai": "openai", "anthropic": "anthropic"}, unix_ms=0)
    names = [card.id for card in catalog.models if card.kind == "chat"][:3]
    table = Learned("v1", "cost", {"code": LearnedTask(names[0], (), tuple(names))}, 0.1)
    planner = Planner(catalog, AutoSettings())
    question = Message("user", (Text("Write a Python function that sorts a list of numbers by their digits."),))

    def first(conversation: str | None, goal: Goal, draw: float = 1.0) -> Plan:
        request = ChatRequest("auto", (question,), goal=goal, conversation_id=conversation)
        return planner.plan(request, View({}, lambda _: 0, 0.0, learned={"cost": table}, draw=draw))

    plan = first(None, "cost")
    assert plan.auto is not None
    assert (plan.attempts[0].target.id, plan.auto.policy_version) == (names[0], "v1")
    other = first(None, "latency").auto
    assert other is not None
    assert other.policy_version is None
    lucky = next(f"c{n}" for n in range(1000) if lot("v1", f"c{n}") < 0.1)
    kept = View({}, lambda _: 0, 0.0, learned={"cost": table}, origin=Origin(names[2], "openai"))
    continued = planner.plan(ChatRequest("auto", (question,), goal="cost"), kept)
    assert continued.attempts[0].target.id == names[2]
    assert continued.auto is not None
    assert (continued.auto.policy_version, continued.auto.propensity) == (None, None)
    explored = first(lucky, "cost")
    assert explored.attempts[0].target.id in names[1:]
    assert explored == first(lucky, "cost", draw=0.5)
