"""Past requests under another policy, on traffic whose truth is known."""

import random

import pytest
from msgspec.structs import replace

from llmwise.catalog import load
from llmwise.catalog.rows import ModelSettings
from llmwise.insights.dataset import Judged, Row
from llmwise.insights.replay import Replanned, Replay, replanned, replay
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


def replayed(rows: list[Row], choice: dict[str, str]) -> Replay:
    """As if the planner had chosen so."""
    first = [row for row in rows if row.after is None]
    return replay(Replanned(row, choice.get(row.task_type or "", "dear"), None, "v") for row in first)


def test_the_truth_lies_in_the_intervals_and_the_saving_is_the_known_one() -> None:
    found = replayed(traffic(TRUTHS, 4000), {"chat": "cheap"})
    assert found.quality is not None
    assert found.cost_nanousd is not None
    assert 0.9 in found.quality.would_be.interval
    assert 5000 in found.cost_nanousd.would_be.interval
    assert found.cost_nanousd.would_be.value == pytest.approx(5000, rel=0.05)
    assert found.supported == 1.0


def test_a_bad_move_shows() -> None:
    quality = replayed(traffic(TRUTHS, 4000), {"code": "cheap"}).quality
    assert quality is not None
    assert 0.75 in quality.would_be.interval
    assert quality.would_be.interval.high < 0.9


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(150):
        quality = replayed(traffic(TRUTHS, 300, seed), {"code": "cheap", "chat": "cheap"}).quality
        assert quality is not None
        held += 0.75 in quality.would_be.interval
    assert 0.90 <= held / 150 <= 0.99


def test_rows_without_a_chance_and_a_model_that_was_never_tried_are_not_guessed_at() -> None:
    rows = traffic(TRUTHS, 100)
    blind = replayed([replace(row, propensity=None) for row in rows], {"chat": "cheap"})
    assert (blind.supported, blind.quality, blind.cost_nanousd) == (0.0, None, None)
    assert replayed(rows, {"chat": "fast"}).supported == 0.5


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
    told = replay(found)
    assert (told.requests, told.planned) == (5, 1)
    assert told.moves == {"dear -> cheap": 1}
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
    told = replay(replanned(records, planner(), lambda _: world, "cost", judged.__getitem__))
    assert told.quality is not None
    assert told.cost_nanousd is not None
    assert 0.6 in told.quality.would_be.interval
    assert told.cost_nanousd.would_be.value == pytest.approx(1000, rel=0.001)
    assert told.quality.was.value == pytest.approx(0.81, abs=0.03)
    assert told.supported == 1.0
