"""What another policy would have earned, and the policy that is recommended, on traffic whose truth is known."""

import random
import time

import pytest

from llmwise.insights.offpolicy import Logged, Scored, fold_of, learn, priced, recommend

TRUTH = {
    "code": {"cheap": 0.60, "dear": 0.90},
    "chat": {"cheap": 0.89, "dear": 0.90},
}
COST = {"cheap": 1.0, "dear": 10.0}


def logs(n: int, seed: int, dear: float = 0.5, turns: int = 1) -> list[Logged]:
    rng = random.Random(seed)
    rows = []
    for at in range(n):
        task = rng.choice(["code", "chat"])
        model = "dear" if rng.random() < dear else "cheap"
        chance = dear if model == "dear" else 1 - dear
        reward = float(rng.random() < TRUTH[task][model])
        rows += [Logged(task, model, reward, COST[model], chance, at)] * turns
    return rows


def quality(choice: dict[str, str], share: float, reference: str) -> float:
    return sum(share * TRUTH[t][choice.get(t, reference)] + (1 - share) * TRUTH[t][reference] for t in TRUTH) / len(
        TRUTH
    )


def test_a_policy_s_value_is_held_by_its_interval_under_skewed_logs() -> None:
    truth = (0.60 + 0.90) / 2
    held = 0
    for seed in range(200):
        value = Scored(logs(400, seed, dear=0.85, turns=2)).value({"code": "cheap", "chat": "dear"}, "dear")
        assert value is not None
        held += truth in value.interval
    assert 0.90 <= held / 200 <= 0.985


def test_the_easy_task_moves_and_the_hard_one_stays() -> None:
    advice = recommend(logs(20_000, 1))
    assert advice.reference == "dear"
    assert advice.choice == {"code": "dear", "chat": "cheap"}
    assert advice.saving == pytest.approx(advice.share * 0.45, abs=0.02)
    assert advice.margin >= 0


def test_the_guard_holds_for_the_truth_whatever_the_logs_say() -> None:
    allowed = quality({}, 0.0, "dear") - 0.02
    for seed in range(60):
        advice = recommend(logs(1000, seed), points=0.02)
        assert quality(advice.choice, advice.share, advice.reference) >= allowed - 1e-9, seed


def test_more_rows_save_more() -> None:
    few = [recommend(logs(500, seed), points=0.05).saving for seed in range(10)]
    many = [recommend(logs(8000, seed), points=0.05).saving for seed in range(10)]
    assert sum(many) > sum(few)


def test_too_few_rows_move_nothing() -> None:
    advice = recommend(logs(40, 2))
    assert (advice.choice, advice.share, advice.saving) == ({}, 0.0, 0.0)


def test_a_table_is_drawn_towards_the_model_s_mean_and_the_order_of_rows_is_nothing() -> None:
    rows = [Logged("a", "m", 1.0, 1.0, 0.5, 1), *[Logged("b", "m", 0.0, 1.0, 0.5, 2 + n) for n in range(99)]]
    table = learn(rows)
    assert 0.0 < table["a"]["m"].reward < 0.2
    backwards = learn(rows[::-1])
    assert backwards["a"]["m"].reward == pytest.approx(table["a"]["m"].reward)


def test_prices_turn_a_table_into_policies() -> None:
    table = learn(logs(5000, 4))
    assert priced(table, 0.0) == {"code": "dear", "chat": priced(table, 0.0)["chat"]}
    assert priced(table, 1.0) == {"code": "cheap", "chat": "cheap"}


def test_turns_of_a_conversation_fall_into_one_fold() -> None:
    assert {fold_of(f"c{n}") for n in range(100)} == {0, 1, 2, 3, 4}
    assert fold_of("c1") == fold_of("c1")


def test_a_reference_that_was_never_logged_is_refused() -> None:
    with pytest.raises(KeyError):
        recommend(logs(100, 5), reference="unknown")


def test_a_hundred_thousand_rows_take_seconds() -> None:
    start = time.perf_counter()
    Scored(logs(100_000, 6)).value({"chat": "cheap"}, "dear")
    assert time.perf_counter() - start < 15
