"""Drift: how soon it is noticed, how seldom it is imagined, and that it ends."""

import math
import random

import pytest
from msgspec.structs import replace

from llmwise.insights.alerts import LEARN, METRICS, Metric, Stream, Watch
from llmwise.insights.dataset import Row

from .traffic import Truth, traffic

GOOD: dict[Metric, Truth] = dict.fromkeys(METRICS, Truth(0.9, 1000, 500, 0.97))
BAD: dict[Metric, Truth] = {
    "errors": Truth(0.9, 1000, 500, 0.5),
    "latency": Truth(0.9, 1000, 2000, 0.97),
    "cost": Truth(0.9, 4000, 500, 0.97),
    "quality": Truth(0.2, 1000, 500, 0.97),
}


def of(truth: Truth, n: int, seed: int, apart_ms: int = 2000) -> list[Row]:
    rows = [row for row in traffic({"code": {"dear": truth}}, n, seed) if row.after is None][:n]
    return [replace(row, created_at_ms=number * apart_ms) for number, row in enumerate(rows)]


@pytest.mark.parametrize("metric", METRICS)
def test_a_change_for_the_worse_is_noticed_within_fifty_answers_and_over_within_a_hundred(metric: Metric) -> None:
    for seed in range(20):
        watch = Watch()
        for row in of(GOOD[metric], 500, seed):
            assert watch.add(row) == []
        began = [n for n, row in enumerate(of(BAD[metric], 200, seed)) for alert in watch.add(row)]
        assert [alert.metric for alert in watch.open.values()] == [metric]
        assert began[0] < 50
        assert watch.avoid == {("code", "dear")}
        ended = [n for n, row in enumerate(of(GOOD[metric], 300, seed + 1)) for alert in watch.add(row)]
        assert ended[0] < 100
        assert watch.open == {}


def test_what_an_alert_shows_is_what_was_usual_and_what_is_seen() -> None:
    watch = Watch()
    for row in of(GOOD["latency"], 500, 1):
        watch.add(row)
    (alert,) = [alert for row in of(BAD["latency"], 60, 1) for alert in watch.add(row)]
    assert alert.usual == pytest.approx(500, rel=0.1)
    assert alert.seen == pytest.approx(2000, rel=0.25)


def test_a_moment_that_is_slow_for_hundreds_at_once_is_no_alert() -> None:
    watch = Watch()
    for row in of(GOOD["latency"], 500, 1):
        watch.add(row)
    assert [watch.add(row) for row in of(BAD["latency"], 500, 1, apart_ms=2)] == [[]] * 500


def test_a_change_for_the_better_is_no_alert() -> None:
    watch = Watch()
    for row in [*of(Truth(0.5, 4000, 2000, 0.8), 500, 1), *of(Truth(0.95, 500, 200, 0.99), 500, 2)]:
        assert watch.add(row) == []


def test_in_very_many_values_of_nothing_there_are_few_alarms() -> None:
    """Ten streams of each kind, a hundred thousand values in all of each but the last; what is usual was learned from
    `LEARN` values alone. The rule promises one in a million where the usual is known."""
    rng = random.Random(5)
    makers = {
        "errors": lambda: float(rng.random() < 0.03),
        "latency": lambda: rng.gauss(6, 0.4),
        "cost": lambda: rng.gauss(8, 0.9),
        "quality": lambda: rng.betavariate(8, 2),
    }
    alarms = 0
    for metric in METRICS:
        for _ in range(10):
            stream = Stream(metric)
            alarms += sum(stream.add(makers[metric]()) == "alarm" for _ in range(10_000))
    assert alarms <= 2


def test_a_stream_that_was_constant_does_not_take_noise_for_a_catastrophe() -> None:
    stream = Stream("latency")
    for _ in range(LEARN):
        stream.add(math.log(100))
    assert [stream.add(math.log(104)) for _ in range(1000)] == [None] * 1000
    assert "alarm" in [stream.add(math.log(200)) for _ in range(20)]


def test_too_few_values_say_nothing() -> None:
    stream = Stream("errors")
    assert [stream.add(1.0) for _ in range(LEARN)] == [None] * LEARN


def test_the_same_rows_give_the_same_alerts() -> None:
    rows = [*of(GOOD["cost"], 300, 3), *of(BAD["cost"], 100, 3)]
    told = []
    for _ in range(2):
        watch = Watch()
        told.append([alert for row in rows for alert in watch.add(row)])
    assert told[0] == told[1] != []
