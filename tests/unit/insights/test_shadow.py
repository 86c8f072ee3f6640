"""Trials: the sequential test may be looked at all the time, and errs as seldom as it says."""

import random
from collections.abc import Iterator

import pytest
from msgspec.json import encode

from llmwise.domain.plan import AutoDecision, Insight, Trial
from llmwise.insights.shadow import LEAST, Arm, compare, judge, radius
from llmwise.storage.rows import SettledRequest

from .traffic import attempt, request


def arms(rng: random.Random, canary: float, control: float, n: int) -> Iterator[tuple[Arm, Arm]]:
    """Growing arms of successes, a conversation at a time."""
    sums = [[0, 0], [0, 0]]
    for _ in range(n):
        for at, rate in enumerate((canary, control)):
            sums[at][0] += 1
            sums[at][1] += rng.random() < rate
        yield Arm(sums[0][0], sums[0][1], sums[0][1]), Arm(sums[1][0], sums[1][1], sums[1][1])


def decided(rng: random.Random, canary: float, control: float, n: int = 3000) -> str:
    for one, other in arms(rng, canary, control, n):
        found = compare("answered", one, other, 0.05).verdict
        if found != "running":
            return found
    return "running"


def test_a_canary_that_is_worse_by_more_than_the_margin_is_seldom_passed_however_often_one_looks() -> None:
    rng = random.Random(1)
    verdicts = [decided(rng, 0.90, 0.96, 1500) for _ in range(60)]
    assert verdicts.count("passed") <= 3


def test_a_canary_that_is_much_worse_is_returned_soon() -> None:
    rng = random.Random(2)
    assert {decided(rng, 0.5, 0.96, 400) for _ in range(40)} == {"inferior"}


def test_a_canary_that_is_as_good_passes_and_is_seldom_returned() -> None:
    rng = random.Random(3)
    verdicts = [decided(rng, 0.96, 0.96) for _ in range(30)]
    assert verdicts.count("inferior") <= 1
    assert verdicts.count("passed") >= 27


def test_below_the_least_number_nothing_is_said() -> None:
    assert compare("answered", Arm(LEAST - 1, 0, 0), Arm(1000, 1000, 1000), 0.05).verdict == "running"
    assert compare("answered", Arm(0, 0, 0), Arm(0, 0, 0), 0.05).verdict == "running"


def test_the_sequence_grows_tighter() -> None:
    widths = [radius(t) for t in (100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)


def trial(number: int, arm: str, status: int = 200, conversation: str | None = None) -> SettledRequest:
    mark = Trial("cost-1", arm, "cheap")  # type: ignore[arg-type]  # one of the arms
    auto = AutoDecision("heuristic_routing", "cost", "code", 0.9, 0.2, (), (), (), trial=mark)
    asked = "cheap" if arm == "canary" else "dear"
    record = request(
        id=f"r{number}", status=status, cost_nanousd=10 if arm == "canary" else 100,
        conversation_id=conversation, insight=encode(Insight(auto)).decode(),
    )  # fmt: skip
    return SettledRequest(record, (attempt(asked),))


def test_a_trial_counts_conversations_and_moves_and_costs() -> None:
    settled = [trial(n, "canary", conversation="one") for n in range(5)]
    settled += [trial(10 + n, "control") for n in range(4)] + [trial(20, "shadow")]
    found = judge(settled, "cost-1", 0.05, {"r0": 0.5, "r10": 1.0})
    (answered, quality) = found.measures
    assert (answered.canary_n, answered.control_n) == (1, 4)
    assert (quality.canary, quality.control) == (0.5, 1.0)
    assert (found.requests, found.differs, found.moves) == (10, 5, {"dear -> cheap": 5})
    assert (found.canary_cost, found.control_cost) == (10, 100)


def test_what_the_caller_did_wrong_says_nothing_of_a_policy() -> None:
    settled = [trial(n, "canary", status=422) for n in range(200)] + [trial(300 + n, "control") for n in range(200)]
    assert judge(settled, "cost-1", 0.05, {}).measures[0].canary_n == 0


@pytest.mark.parametrize("status", [502, 504])
def test_what_the_provider_did_wrong_does(status: int) -> None:
    settled = [trial(n, "canary", status=status) for n in range(200)] + [trial(300 + n, "control") for n in range(200)]
    assert judge(settled, "cost-1", 0.05, {}).verdict == "inferior"


def test_another_versions_requests_are_left_out() -> None:
    assert judge([trial(1, "canary")], "cost-2", 0.05, {}).requests == 0
