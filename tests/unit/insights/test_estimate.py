"""What each model does with each task type, from rows."""

import random
import time

import pytest
from msgspec.structs import replace

from llmwise.insights.estimate import ENOUGH, estimate

from .traffic import Truth, traffic

TRUTHS = {
    "code": {"dear": Truth(0.9, 9000, 900), "cheap": Truth(0.6, 1000, 400, success=0.8)},
    "math": {"dear": Truth(0.8, 8000), "cheap": Truth(0.7, 900)},
}


def test_the_truth_lies_in_the_intervals() -> None:
    found = estimate(traffic(TRUTHS, 1500))
    for task, models in TRUTHS.items():
        for model, truth in models.items():
            cell = found.cells[task, model]
            assert cell.quality is not None
            assert cell.cost is not None
            assert cell.success is not None
            assert cell.p50 is not None
            assert cell.enough
            assert cell.weighted
            assert truth.quality in cell.quality.interval
            assert cell.cost.value == pytest.approx(truth.cost, rel=0.05)
            assert truth.success in cell.success.interval
            assert cell.p50.value == pytest.approx(truth.latency_ms, rel=0.1)
    assert found.after["code", "cheap", "dear"].value > 0.9


def test_the_order_of_rows_changes_nothing() -> None:
    rows = traffic(TRUTHS, 200)
    mixed = rows[:]
    random.Random(1).shuffle(mixed)
    assert estimate(mixed).cells.keys() == estimate(rows).cells.keys()
    for key, cell in estimate(rows).cells.items():
        other = estimate(mixed).cells[key]
        assert other.n == cell.n
        assert other.decided == pytest.approx(cell.decided)
        assert other.p95 == cell.p95


def test_more_rows_make_intervals_shorter() -> None:
    def width(n: int) -> float:
        quality = estimate(traffic(TRUTHS, n)).cells["code", "cheap"].quality
        assert quality is not None
        return quality.interval.high - quality.interval.low

    assert width(3000) < width(750) < width(190)


def test_quality_is_drawn_towards_the_model_and_its_interval_is_not() -> None:
    cell = estimate(traffic(TRUTHS, 200)).cells["code", "dear"]
    assert cell.quality is not None
    assert cell.decided is not None
    assert 0.8 < cell.decided < cell.quality.value


def test_few_conversations_are_not_enough_however_many_turns_they_have() -> None:
    rows = [replace(row, conversation=f"{n % 10}") for n, row in enumerate(traffic(TRUTHS, 600))]
    assert all(cell.n_eff < ENOUGH and not cell.enough for cell in estimate(rows).cells.values())


def test_what_no_row_tells_is_unknown() -> None:
    rows = [replace(row, cost_nanousd=None) for row in traffic(TRUTHS, 100, judged=False)]
    rows.append(replace(rows[0], task_type=None))
    found = estimate(rows)
    cell = found.cells["code", "dear"]
    assert (cell.cost, cell.quality, cell.decided, cell.weighted) == (None, None, None, False)
    assert found.untyped == 1


def test_a_router_that_sends_hard_questions_away_does_not_flatter_the_model_that_is_left() -> None:
    """Cheap is right 9 in 10 times where it is easy and 3 in 10 where it is hard, and seldom gets a hard one."""
    rng = random.Random(2)
    row = next(row for row in traffic(TRUTHS, 50) if row.model == "cheap" and row.after is None)
    rows = []
    for at in range(4000):
        easy = rng.random() < 0.5
        chance = 0.9 if easy else 0.1
        if rng.random() < chance:
            quality = float(rng.random() < (0.9 if easy else 0.3))
            rows.append(replace(row, success=True, quality=quality, propensity=chance, conversation=str(at)))
    right = estimate(rows).cells[row.task_type or "", "cheap"].quality
    plain = estimate([replace(one, propensity=None) for one in rows]).cells[row.task_type or "", "cheap"].quality
    assert right is not None
    assert plain is not None
    assert 0.6 in right.interval
    assert plain.interval.low > 0.75


def test_a_single_missing_propensity_makes_the_cell_a_plain_mean() -> None:
    rows = traffic(TRUTHS, 200)
    at = next(n for n, row in enumerate(rows) if row.quality is not None and row.after is None)
    rows[at] = replace(rows[at], propensity=None)
    found = estimate(rows).cells
    assert not found[rows[at].task_type or "", rows[at].model].weighted


def test_fifty_thousand_rows_take_seconds() -> None:
    rows = traffic(TRUTHS, 25_000)
    start = time.perf_counter()
    estimate(rows)
    assert time.perf_counter() - start < 10
