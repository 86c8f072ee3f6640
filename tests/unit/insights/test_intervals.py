"""Means, rates and quantiles with their intervals: exact where a formula is known, and true as often as they claim."""

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmwise.insights.intervals import BOUNDLESS, Interval, mean, nearest_rank, quantile, quantile_z, student, wilson


def test_wilson_is_the_published_interval() -> None:
    """Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        found = wilson(successes, n, 1.959964)
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert wilson(29, 29, 1.96).high == 1.0
    assert wilson(0, 0, 1.96) == Interval(0.0, 1.0)


def test_student_s_quantile_is_the_tabled_one() -> None:
    for freedom, t in ((5, 2.5706), (10, 2.2281), (30, 2.0423), (120, 1.9799)):
        assert student(quantile_z(0.95), freedom) == pytest.approx(t, rel=0.01)


def test_comparisons_make_an_interval_wider_and_one_side_narrower() -> None:
    assert quantile_z(0.95) == pytest.approx(1.96, abs=1e-3)
    assert quantile_z(0.95, 5) == pytest.approx(2.576, abs=1e-3)
    assert quantile_z(0.95, sides=1) == pytest.approx(1.645, abs=1e-3)


def test_equal_weights_give_the_plain_mean_and_its_textbook_error() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    found = mean(values)
    assert found is not None
    assert found.value == 4.0
    assert found.se == pytest.approx(statistics.stdev(values) / 2)
    assert found.n == 4
    assert found.n_eff == pytest.approx(4)


def test_nothing_gives_nothing_and_one_conversation_gives_no_bound() -> None:
    assert mean([]) is None
    assert quantile([], 0.5) is None
    single = mean([3.0, 4.0], None, ["a", "a"])
    assert single is not None
    assert single.interval == Interval(-BOUNDLESS, BOUNDLESS)


def test_a_conversation_counts_once_however_often_it_is_repeated() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    once = mean(values, None, range(5))
    tripled = mean(values * 3, None, [*range(5)] * 3)
    assert once is not None
    assert tripled is not None
    assert tripled.value == pytest.approx(once.value)
    assert tripled.se == pytest.approx(once.se)
    assert tripled.n_eff == pytest.approx(once.n_eff) == 5


def test_the_closed_form_agrees_with_a_bootstrap_over_conversations() -> None:
    rng = random.Random(1)
    turns = [(g, rng.gauss(level, 1), rng.choice((1.0, 4.0))) for g in range(80) for level in [rng.gauss(0, 2)]
             for _ in range(rng.randint(1, 5))]  # fmt: skip
    found = mean([x for _, x, _ in turns], [w for *_, w in turns], [g for g, *_ in turns])
    assert found is not None
    groups: dict[int, list[tuple[float, float]]] = {}
    for g, x, w in turns:
        groups.setdefault(g, []).append((x, w))
    means = []
    for _ in range(1000):
        drawn = [pair for g in rng.choices(range(80), k=80) for pair in groups[g]]
        means.append(sum(w * x for x, w in drawn) / sum(w for _, w in drawn))
    assert found.se == pytest.approx(statistics.stdev(means), rel=0.1)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.5, 50), st.integers(0, 5)), min_size=2, max_size=40), st.randoms()
)
def test_the_order_of_rows_does_not_matter(rows: list[tuple[float, float, int]], rng: random.Random) -> None:
    mixed = rows[:]
    rng.shuffle(mixed)
    a, b = (mean([x for x, *_ in r], [w for _, w, _ in r], [g for *_, g in r], unit=True) for r in (rows, mixed))
    assert a is not None
    assert b is not None
    assert a.value == pytest.approx(b.value)
    assert a.n_eff == pytest.approx(b.n_eff)
    assert (a.interval.low, a.interval.high) == pytest.approx((b.interval.low, b.interval.high), abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 19), st.integers(2, 8))
def test_a_unit_interval_stays_within_and_shrinks_with_n(hits: int, factor: int) -> None:
    values = [1.0] * hits + [0.0] * (20 - hits)
    few, many = mean(values, unit=True), mean(values * factor, unit=True)
    assert few is not None
    assert many is not None
    assert 0 <= few.interval.low <= few.value <= few.interval.high <= 1
    assert many.interval.high - many.interval.low < few.interval.high - few.interval.low


def test_all_right_is_not_certainty() -> None:
    found = mean([1.0] * 60, [1.0, 3.0] * 30, unit=True)
    assert found is not None
    assert found.interval.high == 1.0
    assert 0.9 < found.interval.low < 0.97


def test_quantiles_are_nearest_ranks_and_their_intervals_are_values() -> None:
    values = [float(x) for x in range(1, 101)]
    assert nearest_rank(values, 0.95) == 95
    assert nearest_rank(values, 0.0) == 1
    found = quantile(values, 0.5)
    assert found is not None
    assert found.value == 50
    assert found.interval.low == pytest.approx(40, abs=1)
    assert found.interval.high == pytest.approx(60, abs=1)


def test_quantile_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = random.Random(7)
    truth = {0.5: math.exp(0), 0.95: math.exp(1.6448536)}
    for q, value in truth.items():
        held = 0
        for _ in range(400):
            found = quantile([rng.lognormvariate(0, 1) for _ in range(150)], q)
            assert found is not None
            held += value in found.interval
        assert 0.92 <= held / 400 <= 0.985, q


def test_weighted_intervals_hold_the_truth_where_plain_ones_do_not() -> None:
    """Easy questions (0.9 right) come often, hard ones (0.5) seldom; the truth is half and half."""
    rng = random.Random(3)
    held = plain = 0
    for _ in range(400):
        values, weights = [], []
        for _ in range(300):
            easy = rng.random() < 0.5
            chance = 0.8 if easy else 0.2
            if rng.random() < chance:
                values.append(float(rng.random() < (0.9 if easy else 0.5)))
                weights.append(1 / chance)
        weighted, unweighted = mean(values, weights, unit=True), mean(values, unit=True)
        assert weighted is not None
        assert unweighted is not None
        held += 0.7 in weighted.interval
        plain += 0.7 in unweighted.interval
    assert 0.92 <= held / 400 <= 0.98
    assert plain / 400 < 0.3
