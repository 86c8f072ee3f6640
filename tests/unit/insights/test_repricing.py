"""What moved prices change: for each model, for the bill, and for the policies in force."""

from datetime import date
from typing import Any

import pytest
from msgspec.structs import replace

from llmwise.catalog import load
from llmwise.catalog.lookup import Catalog
from llmwise.catalog.rows import ModelSettings
from llmwise.insights.bounded import bound
from llmwise.insights.estimate import estimate
from llmwise.insights.policy import joined, recommend
from llmwise.insights.repricing import bill, changes, retiring, standing, tokens_of
from llmwise.storage.rows import ModelUsage

from .test_bounded import questions
from .traffic import Truth, traffic

USED = ModelUsage("dear", "p", 10, 0, 1_000_000, 0, 0, 100_000, 0, 0, 0, 900)


def catalog(**prices: tuple[float, float] | None) -> Catalog:
    models = [
        ModelSettings(id=name, provider="p", context_window=9000, **_prices(price)) for name, price in prices.items()
    ]
    return load(models, {"p": "local"}, unix_ms=0)


def _prices(price: tuple[float, float] | None) -> dict[str, Any]:
    return {} if price is None else {"input_price": price[0], "output_price": price[1]}


def test_up_down_mixed_new_and_gone_are_told_apart_and_what_stays_is_not_told() -> None:
    old = catalog(a=(1, 1), b=(1, 1), c=(1, 1), d=None, e=(1, 1), f=(1, 1))
    new = catalog(a=(2, 1), b=(1, 0.5), c=(2, 0.5), d=(1, 1), e=None, f=(1, 1))
    found = {one.model: one for one in changes(old, new, [], 0)}
    assert {model: one.moved for model, one in found.items()} == {
        "a": "up",
        "b": "down",
        "c": "mixed",
        "d": "new",
        "e": "gone",
    }
    assert found["a"].times == pytest.approx(1.75)  # three questions' tokens to one of answer
    assert found["d"].times is None
    assert found["e"].times is None


def test_the_bill_moves_by_what_was_used() -> None:
    old, new = catalog(dear=(10, 30), cheap=(1, 1)), catalog(dear=(10, 60), cheap=(1, 1))
    (one,) = changes(old, new, [USED], 0)
    assert one.used
    assert one.times == pytest.approx(16 / 13)
    assert bill(old, new, [USED, replace(USED, model="unknown")], 0) == (13_000_000_000, 16_000_000_000)
    assert bill(old, catalog(cheap=(1, 1)), [USED], 0) == (0, 0)
    assert tokens_of([USED, USED])["dear"].input == 2_000_000


def test_a_policy_for_cost_follows_the_prices_and_one_for_latency_does_not() -> None:
    truths = {"code": {"dear": Truth(0.9, 9000), "cheap": Truth(0.9, 2000), "fast": Truth(0.9, 3000, 100)}}
    found = estimate(traffic(truths, 3000))
    policy = recommend(found, "cost", {"code": "dear"}, 0, points=0.1)
    assert policy.tasks["code"].primary == "cheap"
    before = catalog(dear=(9, 9), cheap=(2, 2), fast=(3, 3))
    moved = changes(before, catalog(dear=(9, 9), cheap=(4, 4), fast=(3, 3)), [], 0)
    (effect,) = standing(policy, moved).effects
    assert (effect.task_type, effect.now, effect.then) == ("code", "cheap", "fast")
    assert effect.saved == pytest.approx(0.25, abs=0.05)
    assert standing(policy, changes(before, catalog(dear=(9, 9), cheap=(2.5, 2.5), fast=(3, 3)), [], 0)).effects == ()
    assert standing(recommend(found, "latency", {"code": "dear"}, 0), moved).effects == ()


def test_a_bounded_policy_goes_by_its_table_and_says_who_has_no_price_any_more() -> None:
    truths = {"code": {"dear": Truth(0.9, 9000)}}
    policy = joined(recommend(estimate(traffic(truths, 200)), "cost", {}, 0), bound(questions(3000), "dear", "v"))
    before = catalog(dear=(100, 100), cheap=(5, 5))
    found = standing(policy, changes(before, catalog(dear=(100, 100), cheap=(500, 500)), [], 0))
    assert {effect.now for effect in found.effects} == {"cheap"}
    assert {effect.then for effect in found.effects} == {"dear"}
    assert "conversation" in {effect.task_type for effect in found.effects}
    gone = standing(policy, changes(before, catalog(dear=(100, 100), cheap=None), [], 0))
    assert (gone.effects, gone.stale) == ((), ("cheap",))


def test_models_that_are_switched_off_within_a_year_are_named_soonest_first() -> None:
    offered = load((), {"openai": "openai"}, unix_ms=0)
    known = offered.retirements
    assert known, "the built-in catalog knows some"
    first = min(known.values())
    day_ms = 86_400_000
    eve_ms = (first - date(1970, 1, 1)).days * day_ms - day_ms
    found = retiring(offered, eve_ms, within_days=2)
    assert found
    assert all(day == first for _, day in found)
    assert retiring(offered, eve_ms - 40 * day_ms, within_days=2) == []
