"""A policy that looks at each question: who comes first, by which chance, and what Auto says of it."""

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from llmwise.catalog import load
from llmwise.catalog.rows import ModelSettings
from llmwise.domain.messages import Message, Text
from llmwise.domain.plan import Plan
from llmwise.domain.requests import ChatRequest
from llmwise.routing.auto import AutoSettings
from llmwise.routing.classifier import TASK_TYPES, classify, examine, look
from llmwise.routing.learned import Learned, lot, take_priced
from llmwise.routing.planner import Planner, View
from llmwise.routing.priced import Priced, rank
from llmwise.routing.values import Expected, Values, best_value, expect

QUESTION = "What is the capital of France?"
QUESTIONS = [
    QUESTION,
    "hm",
    "",
    "Prove that there are infinitely many primes p = 3 mod 4.",
    "Write a Python function that adds two numbers.\n```python\ndef add(a, b):\n```",
    "Translate 'see you tomorrow' into German, and summarise the article below in two sentences.",
]
MODELS = {"dear": Expected(0.9, 100.0), "middle": Expected(0.85, 20.0), "cheap": Expected(0.6, 1.0)}


def priced(**changes: Any) -> Priced:
    values = Values("v", 1000, 3000, dict.fromkeys(TASK_TYPES, MODELS), {}, dict.fromkeys(MODELS, 1.0))
    return replace(Priced(values, "dear", bold=0.05, careful=0.001, share=0.25), **changes)


def test_the_price_decides_who_is_first_and_the_reference_stands_behind() -> None:
    found = rank(priced(), look(QUESTION), MODELS)
    assert found is not None
    assert (found.bold, found.careful) == ("cheap", "middle")
    assert found.order == ("dear", "cheap", "middle")


def test_without_a_careful_price_the_rest_stays_with_the_reference() -> None:
    found = rank(priced(careful=None), look(QUESTION), MODELS)
    assert found is not None
    assert found.careful == "dear"
    assert priced(careful=None, share=0.0).stays
    assert not priced(careful=None).stays


def test_who_is_not_able_is_passed_over_and_nobody_able_is_none() -> None:
    found = rank(priced(), look(QUESTION), {"middle"})
    assert found is not None
    assert (found.bold, found.careful, found.order) == ("middle", "middle", ("middle",))
    assert rank(priced(), look(QUESTION), {"stranger"}) is None
    alone = rank(priced(reference="old"), look(QUESTION), {"old"})
    assert alone is not None
    assert alone.order == ("old",)


def test_it_decides_as_the_values_that_it_was_bounded_by() -> None:
    """What is worked out once, price by price, is what `best_value` says of `expect`, question by question."""
    rng = random.Random(7)

    def row() -> dict[str, Expected]:
        return {model: Expected(rng.random(), rng.choice([1.0, 5.0, 40.0])) for model in "abcdef"}

    table = {str(task): row() for task in TASK_TYPES}
    marks = sorted({name for text in QUESTIONS for name in look(text)[1] if name[0] in "#@"})
    ease = {mark: rng.uniform(-0.2, 0.2) for mark in marks[::2]}
    values = Values("v", 1, 1, table, ease, {model: rng.uniform(0, 2) for model in "abcdef"})
    for price in (0.0, 0.001, 0.01, 0.1):
        policy = Priced(values, "a", bold=price, careful=price / 3, share=0.5)
        for text in QUESTIONS:
            found, expected = rank(policy, look(text), "abcdef"), expect(values, text)
            assert found is not None
            assert (found.bold, found.careful) == (best_value(expected, price), best_value(expected, price / 3))


@pytest.mark.parametrize("text", QUESTIONS)
def test_examining_is_classifying_and_looking_at_once(text: str) -> None:
    assert examine(text) == (classify(text), look(text))


@pytest.mark.parametrize("explore", [0.0, 0.05, 0.1])
def test_the_told_chance_is_how_often_a_model_comes_first(explore: float) -> None:
    told: dict[str, float] = {}
    counts: Counter[str] = Counter()
    for number in range(6_000):
        taken = take_priced(priced(), look(QUESTION), MODELS, explore, lot("v", str(number)))
        assert taken is not None
        counts[taken.order[0]] += 1
        told[taken.order[0]] = taken.propensity
        assert taken.explored == (taken.order[0] == "dear")
    assert sum(told.values()) == pytest.approx(1.0)
    for model, chance in told.items():
        assert counts[model] / 6_000 == pytest.approx(chance, abs=0.025)


def test_what_both_prices_choose_alike_is_certain() -> None:
    taken = take_priced(priced(careful=0.05), look(QUESTION), MODELS, 0.0, 0.7)
    assert taken is not None
    assert (taken.order[0], taken.propensity, taken.explored) == ("cheap", 1.0, False)


def test_a_policy_outlives_its_storage() -> None:
    learned = Learned("cost-1", "cost", {}, 0.0, priced())
    assert msgspec.json.decode(msgspec.json.encode(learned), type=Learned) == learned


def planned(question: str, table: Learned, **settings: Any) -> Plan:
    models = [
        ModelSettings(id=name, provider="p", context_window=9000, input_price=1, output_price=1, quality=0.9)
        for name in (*MODELS, "stranger")
    ]
    planner = Planner(load(models, {"p": "local"}, unix_ms=0), AutoSettings(goal="cost", **settings))
    request = ChatRequest("auto", (Message("user", (Text(question),)),), conversation_id="c-1")
    return planner.plan(request, View({}, lambda _: 0, 0.0, learned={"cost": table}))


@pytest.mark.parametrize("question", [QUESTION, "hm", "", "Prove that there are infinitely many primes p = 3 mod 4."])
def test_auto_follows_it_for_every_question_unsure_and_hard_ones_too(question: str) -> None:
    plan = planned(question, Learned("cost-1", "cost", {}, 0.0, priced(share=1.0)))
    assert [one.target.id for one in plan.attempts] == ["cheap", "dear", "middle"]
    assert plan.auto is not None
    assert (plan.auto.strategy, plan.auto.policy_version) == ("historical_optimization", "cost-1")
    assert plan.auto.propensity == 1.0
    assert "bounded on all of them" in plan.auto.reasons[-1]


def test_a_configured_map_and_another_goal_go_before_it() -> None:
    table = Learned("cost-1", "cost", {}, 0.0, priced(share=1.0))
    mapped = planned(QUESTION, table, map={"simple_query_classification": "stranger"})
    assert mapped.attempts[0].target.id == "stranger"
    other = planned(QUESTION, Learned("l-1", "latency", {}, 0.0, priced(share=1.0)))
    assert other.auto is not None
    assert other.auto.policy_version is None
