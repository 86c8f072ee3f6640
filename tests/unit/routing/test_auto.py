"""Which model Auto takes, for classes that the test gives."""

from collections.abc import Mapping
from typing import Any

import pytest

from llmwise.catalog import load
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import AutoDecision
from llmwise.domain.requests import Goal
from llmwise.routing.auto import GUIDE_MAP, QUALITY_BAR, AutoSettings, decide
from llmwise.routing.classifier import Classification
from llmwise.routing.health import Health
from llmwise.routing.needs import Needs

NEEDS = Needs(prompt_tokens=1000, output_tokens=1000)
USD = 1_000_000_000


def card(name: str, price: int | None, quality: float, **fields: Any) -> ModelCard:
    """`price` in USD per million tokens, in and out."""
    rate = None if price is None else Rate(price * USD, price * USD)
    return ModelCard(name, f"of-{name}", name, rate=rate, quality=quality, **fields)


CHEAP, MIDDLE, DEAR = card("cheap", 1, 0.5), card("middle", 5, 0.8), card("dear", 20, 1.0)
ALL = [DEAR, CHEAP, MIDDLE]


def chosen(
    candidates: list[ModelCard],
    task: str = "conversation",
    confidence: float = 0.9,
    difficulty: float = 0.2,
    goal: Goal = "balanced",
    settings: AutoSettings | None = None,
    health: Mapping[str, Health] | None = None,
) -> tuple[list[str], AutoDecision]:
    seen = Classification(task, confidence, difficulty)
    ranked, decision = decide(candidates, seen, NEEDS, goal, settings or AutoSettings(), health or {})
    return [one.id for one in ranked], decision


def test_the_guide_s_models_get_the_tasks_that_the_guide_gives_them() -> None:
    vendors = {name: name for name in ("openai", "anthropic", "gemini", "deepseek")}
    catalog = load(providers=vendors, unix_ms=0)
    candidates = [catalog.resolve(name) for name in sorted(set(GUIDE_MAP.values()))]
    for task, model in GUIDE_MAP.items():
        (first, *_), decision = chosen(candidates, task)
        assert first == model
        assert decision.candidates[0].reason == f"the guide's model for {task}"


def test_every_class_has_its_place_in_the_map_and_its_bar() -> None:
    assert set(GUIDE_MAP) == set(QUALITY_BAR)
    assert all(0 < bar <= 1 for bar in QUALITY_BAR.values())


@pytest.mark.parametrize(
    ("task", "order"),
    [
        ("summarization", ["middle", "dear", "cheap"]),
        ("code", ["middle", "dear", "cheap"]),
        ("math", ["dear", "middle", "cheap"]),
        ("reasoning_analysis", ["dear", "middle", "cheap"]),
    ],
)
def test_with_other_models_the_cheapest_that_is_good_enough_comes_first(task: str, order: list[str]) -> None:
    ranked, decision = chosen(ALL, task)
    assert ranked == order
    assert decision.candidates[0].reason == "the cheapest that is good enough"
    assert "under the bar" in decision.candidates[-1].reason


def test_an_unsure_class_is_no_reason_to_save() -> None:
    assert chosen(ALL, "summarization", confidence=0.2)[0][0] == "dear"
    assert chosen(ALL, "summarization", confidence=0.2, settings=AutoSettings(min_confidence=0.1))[0][0] == "middle"


def test_an_unsure_class_goes_to_the_default_where_there_is_one() -> None:
    settings = AutoSettings(default="cheap")
    ranked, decision = chosen(ALL, confidence=0.2, settings=settings)
    assert ranked[0] == "cheap"
    assert "default" in decision.candidates[0].reason
    assert chosen(ALL, confidence=0.9, settings=settings)[0][0] == "middle"


def test_a_hard_question_is_held_to_the_bar_of_reasoning() -> None:
    assert chosen(ALL, "summarization", difficulty=0.9)[0][0] == "dear"
    guide = [card(name, 1, 0.9) for name in ("gemini-3-flash", "gpt-5.2")]
    assert chosen(guide, "summarization", difficulty=0.9)[0][0] == "gpt-5.2"


def test_the_configuration_s_map_goes_before_the_guide_s() -> None:
    guide = [card(name, 1, 0.9) for name in ("deepseek-v3", "gpt-5.2")]
    settings = AutoSettings(map={"code": "gpt-5.2"})
    ranked, decision = chosen(guide, "code", settings=settings)
    assert ranked == ["gpt-5.2", "deepseek-v3"]
    assert decision.candidates[0].reason == "the configuration maps code to it"


def test_a_mapped_model_that_is_no_candidate_is_passed_over() -> None:
    assert chosen([CHEAP, DEAR], "code", settings=AutoSettings(map={"code": "middle"}))[0][0] == "dear"


def test_for_the_cost_the_guide_s_model_has_to_be_the_cheapest_too() -> None:
    guide = [card("gpt-5.2", 20, 1.0), card("other", 1, 0.99)]
    assert chosen(guide, "math")[0][0] == "gpt-5.2"
    assert chosen(guide, "math", goal="cost")[0][0] == "other"


def test_latency_goes_by_what_was_measured_among_those_good_enough() -> None:
    health = {"dear": Health(ttft_ms=200), "middle": Health(ttft_ms=900), "cheap": Health(ttft_ms=1)}
    assert chosen(ALL, "code", goal="latency", health=health)[0] == ["dear", "middle", "cheap"]
    untried = {"dear": Health(ttft_ms=3000)}
    assert chosen(ALL, "code", goal="latency", health=untried)[0][0] == "middle", "an untried one is given a chance"


def test_reliability_goes_by_the_fewest_failures() -> None:
    health = {"middle": Health(failure_rate=0.5), "dear": Health(failure_rate=0.01)}
    ranked, decision = chosen(ALL, "code", goal="reliability", health=health)
    assert ranked[0] == "dear"
    assert decision.goal == "reliability"


def test_failures_make_a_model_dearer() -> None:
    near = [card("flaky", 10, 1.0), card("steady", 12, 1.0)]
    assert chosen(near, "code")[0][0] == "flaky"
    assert chosen(near, "code", health={"flaky": Health(failure_rate=0.5)})[0][0] == "steady"


def test_no_price_is_not_a_low_price() -> None:
    ranked, decision = chosen([card("unpriced", None, 1.0), DEAR], "code")
    assert ranked == ["dear", "unpriced"]
    assert decision.candidates[1].cost_nanousd is None
    assert "no known price" in decision.candidates[1].reason
    assert chosen([card("free", 0, 1.0), DEAR], "code")[0][0] == "free"


def test_a_demonstration_model_answers_only_when_nothing_else_is_there() -> None:
    toy = card("toy", 0, 1.0, demonstration=True)
    assert chosen([toy, CHEAP], "math")[0] == ["cheap", "toy"]
    ranked, decision = chosen([toy], "math")
    assert ranked == ["toy"]
    assert "demonstration" in decision.reasons[-1]


def test_every_candidate_has_its_reason_cost_and_quality() -> None:
    _, decision = chosen(ALL, "code", goal="cost")
    assert decision.strategy == "heuristic_routing"
    assert [one.model for one in decision.candidates] == ["middle", "dear", "cheap"]
    assert [one.cost_nanousd for one in decision.candidates] == [10_000_000, 40_000_000, 2_000_000]
    assert all(one.reason for one in decision.candidates)
    assert "costs 4.0 times as much" in decision.candidates[1].reason
    assert "code" in decision.reasons[0]
    assert decision.reasons[-1].startswith("middle: ")


def test_the_same_values_give_the_same_decision() -> None:
    assert chosen(ALL, "code") == chosen(ALL, "code")
