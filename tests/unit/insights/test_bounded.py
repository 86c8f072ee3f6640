"""The policy that is adopted is the one that was bounded: on made-up questions whose truth is known."""

import random

import pytest
from msgspec.structs import replace

from llmwise.insights.bounded import Asked, Bounded, NothingToLearn, asked_of, bound
from llmwise.insights.dataset import Judged
from llmwise.insights.estimate import estimate
from llmwise.insights.policy import joined, learned, recommend
from llmwise.insights.values import Seen
from llmwise.routing.classifier import TASK_TYPES
from llmwise.routing.priced import Priced
from llmwise.routing.values import Expected, best_value, expect_seen
from tests.unit.storage.samples import attempt
from tests.unit.storage.samples import request as settled

from .traffic import Truth, traffic

QUALITY = {
    "code": {"dear": 0.9, "cheap": 0.5},
    "conversation": {"dear": 0.9, "cheap": 0.9},
    "math": {"dear": 0.8, "cheap": 0.7},
}
COST = {"dear": 100.0, "cheap": 5.0}


def questions(n: int, seed: int = 0, chance: float = 1.0) -> list[Asked]:
    """Each of a sure task type. With a `chance` of 1 both answers are known; else `cheap` answered so often, and `dear`
    the rest."""
    rng = random.Random(seed)
    asked = []
    for number in range(n):
        task = rng.choice([*QUALITY])
        known = [*COST] if chance == 1 else ["cheap" if rng.random() < chance else "dear"]
        outcomes = {m: Expected(float(rng.random() < QUALITY[task][m]), COST[m] * rng.uniform(0.5, 1.5)) for m in known}
        chances = {m: 1.0 if chance == 1 else chance if m == "cheap" else 1 - chance for m in known}
        shape = tuple(float(name == task) for name in TASK_TYPES)
        asked.append(Asked(Seen(shape, [], outcomes), chances, str(number)))
    return asked


def truth(priced: Priced) -> tuple[float, float]:
    """Mean quality as a share of the reference's, and the part of its cost that is saved."""
    quality = cost = before = 0.0
    for task, models in QUALITY.items():
        chances = [float(name == task) for name in TASK_TYPES]
        for price, part in ((priced.bold, priced.share), (priced.careful, 1 - priced.share)):
            model = priced.reference
            if price is not None:
                model = best_value(expect_seen(priced.values, chances, ()), price)
            quality += part * models[model]
            cost += part * COST[model]
        before += models["dear"]
    return quality / before, 1 - cost / (100 * len(QUALITY))


def test_what_is_as_good_is_moved_whole_and_what_is_worse_in_part_or_not() -> None:
    found = bound(questions(3000), "dear", "v")
    quality, saving = truth(found.priced)
    assert quality >= 0.98
    assert saving >= 0.31  # conversation alone is .317
    assert found.margin >= 0
    assert found.saving.value == pytest.approx(saving, abs=0.03)
    assert saving in found.saving.interval
    moved = {shift.task_type: shift.models for shift in found.tasks}
    assert moved["conversation"]["cheap"] == 1.0
    assert moved["code"]["dear"] == 1.0
    assert "Saves" in found.why


def test_it_falls_below_the_floor_as_seldom_as_its_level_says() -> None:
    found = [truth(bound(questions(300, seed), "dear", "v").priced)[0] for seed in range(80)]
    assert sum(quality < 0.98 for quality in found) / len(found) <= 0.1  # 5% and what 80 draws may add


def test_logged_choices_are_weighted_by_their_chance() -> None:
    found = bound(questions(6000, chance=0.3), "dear", "v")
    quality, saving = truth(found.priced)
    assert quality >= 0.98
    assert saving >= 0.25
    assert found.quality_was.value == pytest.approx(0.8667, abs=0.03)
    assert saving in found.saving.interval


def test_a_team_whose_model_is_the_best_by_far_stays_with_it() -> None:
    asked = [
        replace(one, seen=replace(one.seen, outcomes={"dear": Expected(1.0, 100.0), "cheap": Expected(0.0, 1.0)}))
        for one in questions(500)
    ]
    found = bound(asked, "dear", "v")
    assert truth(found.priced)[1] <= 0.03
    assert found.quality_is.value >= 0.98


def test_better_answers_for_more_money_are_no_saving() -> None:
    found = bound(questions(500), "cheap", "v", floor=1.0)
    assert found.priced.stays
    assert found.saving.value == pytest.approx(0.0, abs=1e-9)
    assert "Nothing is moved" in found.why


def test_too_little_to_learn_from_is_said() -> None:
    with pytest.raises(NothingToLearn, match="40 questions"):
        bound(questions(40), "dear", "v")
    with pytest.raises(NothingToLearn, match="stranger answered none"):
        bound(questions(60), "stranger", "v")
    same = [replace(one, conversation="one") for one in questions(60)]
    with pytest.raises(NothingToLearn, match="conversations"):
        bound(same, "dear", "v")


def test_a_joined_policy_carries_the_bound_to_what_auto_uses() -> None:
    truths = {"code": {"dear": Truth(0.9, 1000), "cheap": Truth(0.9, 1000)}}
    policy = recommend(estimate(traffic(truths, 300)), "cost", {}, 0)
    found: Bounded = bound(questions(500), "dear", "v")
    both = joined(policy, found)
    assert both.version != policy.version
    assert joined(policy, found).version == both.version
    assert learned(both).priced == found.priced
    assert learned(policy).priced is None
    with pytest.raises(ValueError, match="latency"):
        joined(replace(policy, goal="latency"), found)


def test_a_record_is_evidence_where_its_text_quality_cost_and_chance_are_known() -> None:
    record = replace(settled(1), prompt="Why is the sky blue?", input_tokens=8, cache_read_tokens=0)
    record = replace(record, cache_write_tokens=0, conversation_id="c-1")
    tried = replace(attempt(record), model="cheap", outcome="complete", cost_nanousd=50)
    found = asked_of(record, [tried], Judged(0.8, 0.05))
    assert found is not None
    assert (found.conversation, found.chances) == ("c-1", {"cheap": 0.05})
    assert found.seen.outcomes == {"cheap": Expected(0.8, 50.0)}
    failed = asked_of(record, [replace(tried, outcome="timeout")], Judged(None, 0.05))
    assert failed is not None
    assert failed.seen.outcomes["cheap"].quality == 0.0
    assert asked_of(record, [tried], Judged(0.8, None)) is None
    assert asked_of(record, [tried], Judged(None, 0.05)) is None
    assert asked_of(record, [replace(tried, cost_nanousd=None)], Judged(0.8, 0.05)) is None
    assert asked_of(replace(record, prompt=None), [tried], Judged(0.8, 0.05)) is None
    assert asked_of(record, [], Judged(0.8, 0.05)) is None
