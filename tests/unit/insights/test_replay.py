"""Past requests under another policy, on traffic whose truth is known."""

import random

import pytest
from msgspec.structs import replace

from llmwise.catalog import load
from llmwise.catalog.rows import ModelSettings
from llmwise.insights.dataset import Judged
from llmwise.insights.replay import Replanned, replanned, replay, replay_planned
from llmwise.routing.auto import AutoSettings
from llmwise.routing.learned import Learned, LearnedTask
from llmwise.routing.planner import Planner, View
from llmwise.storage.rows import SettledRequest
from tests.unit.storage.samples import attempt
from tests.unit.storage.samples import request as settled

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


CARDS = ("dear", "cheap")


def planner() -> Planner:
    models = [
        ModelSettings(id=name, provider="p", context_window=9000, input_price=1, output_price=1) for name in CARDS
    ]
    return Planner(load(models, {"p": "local"}, unix_ms=0), AutoSettings(default="dear"))


def policy(**tasks: str) -> Learned:
    return Learned("cost-1", "cost", {task: LearnedTask(model, (), (), 100) for task, model in tasks.items()})


def asked(number: int, model: str, prompt: str | None, **changes: object) -> SettledRequest:
    record = replace(
        settled(number),
        id=f"req_{number}",
        model=model,
        prompt=prompt,
        input_tokens=12,
        cache_read_tokens=0,
        cache_write_tokens=0,
        task_type="code",
        conversation_id=None,
        **changes,
    )
    tried = replace(
        attempt(record), model=model, outcome="complete", cost_nanousd=9000 if model == "dear" else 1000, latency_ms=5
    )
    return SettledRequest(record, (tried,))


CODE = "Write a Python function that returns the sum of a list of numbers."


def test_past_questions_go_through_the_planner_itself_and_what_cannot_is_counted() -> None:
    records = [
        asked(1, "dear", CODE),
        asked(2, "dear", None),
        asked(3, "dear", "x" * 32_768),
        replace(asked(4, "dear", CODE), request=replace(asked(4, "dear", CODE).request, input_tokens=700)),
        asked(5, "dear", CODE, mode="compare"),
    ]
    world = View({}, lambda _: 0, 0.0, learned={"cost": policy(code="cheap")})
    found = list(replanned(records, planner(), lambda _: world, "cost"))
    first = found[0]
    assert isinstance(first, Replanned)
    assert (first.row.model, first.model, first.policy_version) == ("dear", "cheap", "cost-1")
    assert found[1:] == ["no_text", "cut_text", "more_context", "not_chat"]
    told = replay_planned(found)
    assert (told.requests, told.planned) == (5, 1)
    assert told.moves == {("dear", "cheap"): 1}
    assert (told.supported, told.quality) == (0.0, None)  # nothing was left to chance: nothing is estimated


def test_a_key_that_may_not_use_the_model_is_left_out_not_guessed() -> None:
    world = View({}, lambda _: 0, 0.0, allowed={"nobody"})
    assert list(replanned([asked(1, "dear", CODE)], planner(), lambda _: world, "cost")) == ["no_model"]


def test_the_planners_choices_are_valued_by_what_was_left_to_chance() -> None:
    rng = random.Random(3)
    records, judged = [], {}
    for number in range(3000):
        model = "cheap" if rng.random() < 0.3 else "dear"
        records.append(asked(number, model, CODE))
        chance = 0.3 if model == "cheap" else 0.7
        judged[f"req_{number}"] = Judged(float(rng.random() < (0.6 if model == "cheap" else 0.9)), chance)
    world = View({}, lambda _: 0, 0.0, learned={"cost": policy(code="cheap")})
    told = replay_planned(replanned(records, planner(), lambda _: world, "cost", judged.__getitem__))
    assert told.quality is not None
    assert told.cost_nanousd is not None
    assert 0.6 in told.quality.would_be.interval
    assert told.cost_nanousd.would_be.value == pytest.approx(1000, rel=0.001)
    assert told.quality.was.value == pytest.approx(0.81, abs=0.03)
    assert told.supported == 1.0
