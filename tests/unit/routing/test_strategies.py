"""In which order a chain is tried."""

import pytest

from llmwise.domain.models import ModelCard
from llmwise.domain.requests import Strategy
from llmwise.routing.health import Health
from llmwise.routing.strategies import order

CHAIN = [ModelCard(name, "p", name) for name in ("a", "b", "c", "d")]


def ordered(
    strategy: Strategy,
    *,
    health: dict[str, Health] | None = None,
    cost: dict[str, int | None] | None = None,
    turn: int = 0,
    now: float = 100.0,
) -> str:
    cards = order(CHAIN, strategy, health=health or {}, cost_nanousd=cost or {}, turn=turn, now=now)
    return "".join(card.id for card in cards)


ALL: tuple[Strategy, ...] = ("rate-limit", "latency", "cost", "round-robin")


@pytest.mark.parametrize("strategy", ALL)
def test_without_any_knowledge_the_callers_order_stands(strategy: Strategy) -> None:
    assert ordered(strategy) == "abcd"


@pytest.mark.parametrize("strategy", ALL)
def test_ties_keep_the_callers_order(strategy: Strategy) -> None:
    same = {name: Health(successes=3, ttft_ms=40.0, limited_until=200.0) for name in "abcd"}
    assert ordered(strategy, health=same, cost=dict.fromkeys("abcd", 7)) == "abcd"


def test_rate_limit_puts_targets_that_asked_for_a_pause_last_until_it_is_over() -> None:
    health = {"a": Health(limited_until=130.0), "c": Health(limited_until=100.5)}
    assert ordered("rate-limit", health=health, now=100.0) == "bdac"
    assert ordered("rate-limit", health=health, now=100.5) == "bcda"
    assert ordered("rate-limit", health=health, now=130.0) == "abcd"


def test_latency_puts_the_fastest_first_token_first_and_the_never_measured_behind_the_measured() -> None:
    health = {"b": Health(ttft_ms=300.0), "c": Health(ttft_ms=80.0), "d": Health(failures=1)}
    assert ordered("latency", health=health) == "cbad"


def test_cost_puts_the_cheapest_first_a_free_model_before_all_and_an_unpriced_one_last() -> None:
    assert ordered("cost", cost={"a": 500, "b": None, "c": 0, "d": 20}) == "cdab"


def test_round_robin_rotates_by_one_with_each_use() -> None:
    assert [ordered("round-robin", turn=turn) for turn in range(5)] == ["abcd", "bcda", "cdab", "dabc", "abcd"]


@pytest.mark.parametrize("strategy", ALL)
def test_no_target_is_lost_or_doubled_and_the_given_chain_stays_as_it_was(strategy: Strategy) -> None:
    before = list(CHAIN)
    health = {"b": Health(ttft_ms=1.0, limited_until=500.0)}
    assert sorted(ordered(strategy, health=health, cost={"c": 1}, turn=7)) == list("abcd")
    assert before == CHAIN


@pytest.mark.parametrize("strategy", ALL)
def test_a_chain_of_one_stays_a_chain_of_one(strategy: Strategy) -> None:
    only = order(CHAIN[:1], strategy, health={}, cost_nanousd={}, turn=3, now=0.0)
    assert only == CHAIN[:1]
