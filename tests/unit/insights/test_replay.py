"""Past requests under another policy, on traffic whose truth is known."""

import pytest
from msgspec.structs import replace

from llmwise.insights.replay import replay

from .traffic import Truth, traffic

TRUTHS = {
    "code": {"dear": Truth(0.9, 9000, success=1.0), "cheap": Truth(0.6, 1000, success=1.0)},
    "chat": {"dear": Truth(0.9, 9000, success=1.0), "cheap": Truth(0.9, 1000, success=1.0)},
}


def test_the_truth_lies_in_the_intervals_and_the_saving_is_the_known_one() -> None:
    found = replay(traffic(TRUTHS, 4000), {"chat": "cheap"}, "dear")
    assert found.quality is not None
    assert found.cost_nanousd is not None
    assert 0.0 in found.quality.change.interval
    assert found.cost_nanousd.change.value == pytest.approx(-4000, rel=0.05)
    assert -4000 in found.cost_nanousd.change.interval
    assert (found.left_out, found.supported) == (0, 1.0)


def test_a_bad_move_shows() -> None:
    quality = replay(traffic(TRUTHS, 4000), {"code": "cheap"}, "dear").quality
    assert quality is not None
    assert quality.change.interval.high < 0
    assert -0.15 in quality.change.interval


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(150):
        quality = replay(traffic(TRUTHS, 300, seed), {"code": "cheap", "chat": "cheap"}, "dear").quality
        assert quality is not None
        held += -0.15 in quality.change.interval
    assert 0.90 <= held / 150 <= 0.99


def test_rows_without_a_chance_are_left_out_and_an_unseen_model_is_not_guessed_at() -> None:
    rows = traffic(TRUTHS, 100)
    blind = replay([replace(row, propensity=None) for row in rows], {"chat": "cheap"}, "dear")
    assert (blind.left_out, blind.supported, blind.quality, blind.cost_nanousd) == (200, 0.0, None, None)
    unseen = replay(rows, {"chat": "fast"}, "dear")
    assert unseen.supported == 0.5
    assert unseen.cost_nanousd is not None
    assert unseen.cost_nanousd.change.value == 0.0
    assert replay(rows, {}, "unknown").quality is None
