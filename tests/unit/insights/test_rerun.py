"""Past questions asked again: which, how many, for how much, and what they teach."""

import asyncio
import random
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from llmwise.api.rerunning import pairwise
from llmwise.domain.models import ModelCard, Rate
from llmwise.insights.bounded import bound
from llmwise.insights.intervals import mean
from llmwise.insights.replay import compared
from llmwise.insights.rerun import Grade, Past, over_all, rerun, sample
from llmwise.insights.suites import Asked
from llmwise.storage.rows import SettledRequest
from tests.unit.storage.samples import request as settled

pytestmark = pytest.mark.anyio

COST = {"cheap": 10, "middle": 40}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def past(count: int) -> list[Past]:
    return [Past(f"req_{n}", f"req_{n}", f"What is {n} and {n}?", "dear", "it is", 100) for n in range(count)]


class Engine:
    """Answers at once, remembers who was asked what and how many were under way."""

    def __init__(self, fails: str | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.under_way = self.most = 0
        self.fails = fails

    async def ask(self, model: str, system: str | None, question: str, max_tokens: int | None) -> Asked:
        self.asked.append((model, question))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return Asked("req_x", f"{model} says", "down: it is" if model == self.fails else None, COST.get(model, 0), 5)


async def graded(question: str, answers: Mapping[str, str]) -> tuple[Mapping[str, float], int]:
    return {model: 0.9 if model == "dear" else 0.8 for model in answers}, 5


async def test_every_model_answers_every_question_and_what_is_known_can_be_bounded() -> None:
    engine = Engine()
    found = await rerun(
        past(80), lambda _: ["cheap", "middle", "dear"], engine.ask, graded, lambda *_: 50, 10**9, parallel=3
    )
    assert (len(found.asked), found.incomplete, found.unasked) == (80, 0, 0)
    assert found.spent_nanousd == 80 * (10 + 40 + 5)
    assert {model for model, _ in engine.asked} == {"cheap", "middle"}  # what is known is not asked for again
    assert engine.most == 3
    one = found.asked[0]
    assert {model: (seen.quality, seen.cost) for model, seen in one.seen.outcomes.items()} == {
        "dear": (0.9, 100.0),
        "cheap": (0.8, 10.0),
        "middle": (0.8, 40.0),
    }
    assert bound(found.asked, "dear", "v", floor=0.85).saving.value == pytest.approx(0.9)


@pytest.mark.parametrize("parallel", [1, 8])
async def test_the_limit_is_never_passed_and_what_has_no_room_is_counted(parallel: int) -> None:
    engine = Engine()
    found = await rerun(
        past(50), lambda _: ["cheap", "middle"], engine.ask, graded, lambda *_: 40, 1000, parallel=parallel
    )
    assert found.spent_nanousd <= 1000
    # 55 each, and the last one begun must have had room for 80.
    assert len(found.asked) == 17
    assert found.unasked == 33


async def test_a_model_that_fails_costs_the_question_its_place() -> None:
    found = await rerun(past(5), lambda _: ["cheap", "middle"], Engine("middle").ask, graded, lambda *_: 50, 10**9)
    assert (found.asked, found.incomplete) == ((), 5)
    assert found.spent_nanousd == 5 * 50

    async def refuses(question: str, answers: Mapping[str, str]) -> tuple[Mapping[str, float], int]:
        return {}, 5

    found = await rerun(past(5), lambda _: ["cheap"], Engine().ask, refuses, lambda *_: 50, 10**9)
    assert (found.asked, found.incomplete, found.spent_nanousd) == ((), 5, 75)


def test_a_sample_has_no_question_whose_kept_text_is_not_what_was_asked() -> None:
    plain = replace(
        settled(1), prompt="Why is the sky blue?", input_tokens=8, cache_read_tokens=0, cache_write_tokens=0
    )
    others = {
        "no_text": replace(plain, prompt=None),
        "more_context": replace(plain, input_tokens=900),
        "cut_text": replace(plain, prompt="x" * 32_768, input_tokens=8000),
        "not_chat": replace(plain, mode="compare"),
        "no_model": replace(plain, model=None),
    }
    records = [SettledRequest(record, ()) for record in (plain, *others.values())]
    found, left_out = sample(records, 10, random.Random(1))
    assert [one.question for one in found] == ["Why is the sky blue?"]
    assert left_out == dict.fromkeys(others, 1)
    assert len(sample([records[0]] * 30, 10, random.Random(1))[0]) == 10


async def test_what_stays_as_it_is_is_neither_asked_nor_graded_nor_in_the_estimate() -> None:
    """Nine in ten stay; the limit leaves room for five of the ten others, which lose a tenth of quality each."""
    engine = Engine()
    found = await rerun(
        past(100), lambda one: ["cheap" if int(one.id[4:]) % 10 == 0 else "dear"], engine.ask, graded, lambda *_: 15, 75
    )
    assert (len(found.asked), found.unchanged, found.unasked) == (5, 90, 5)
    assert {model for model, _ in engine.asked} == {"cheap"}
    outcomes = [[*one.seen.outcomes.values()] for one in found.asked]
    assert {(old.quality, new.quality) for old, new in outcomes} == {(0.9, 0.8)}


def test_a_change_of_a_few_counts_by_their_share_and_both_are_uncertain() -> None:
    rng = random.Random(5)
    covered = 0
    for _ in range(400):
        changes = [rng.gauss(-0.3, 0.2) if rng.random() < 0.25 else None for _ in range(200)]
        moved = [change for change in changes if change is not None]
        part = mean(moved[: len(moved) // 2])  # the limit left room for a half
        assert part is not None
        covered += -0.075 in over_all(part, len(moved), 200).interval
    assert 0.92 <= covered / 400 <= 0.98
    one = mean([-0.3])
    assert one is not None
    assert over_all(one, 10, 100).interval.low < -1e9, "one question says nothing of others"


def test_a_few_that_all_stayed_as_good_are_no_certainty() -> None:
    five = compared([0.8] * 5, [0.8] * 5, range(5), unit=True)
    assert five is not None
    assert five.change.value == pytest.approx(0)
    assert five.change.interval.low < -0.3
    assert five.change.interval.high > 0.3


class Judge:
    """Prefers what stands first, by two points, as models do; beyond that it knows who is good."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.says: str | None = None

    async def ask(self, model: str, system: str | None, question: str, max_tokens: int | None) -> Asked:
        first_is_good = question.index("a good answer") < question.index("a bad answer")
        self.orders.append("good first" if first_is_good else "bad first")
        a, b = (8, 2) if first_is_good else (4, 6)
        text = f'{{"scores": [{{"answer": "A", "score": {a}}}, {{"answer": "B", "score": {b}}}], "overall": ""}}'
        assert system
        return Asked("req_x", self.says or text, None, 3, 5)


CARD = ModelCard("judge", "elsewhere", "judge", rate=Rate(1, 1))


async def test_a_judge_reads_each_pair_in_both_orders_so_that_its_liking_of_the_first_cancels() -> None:
    judge = Judge()
    grade: Grade = pairwise(judge.ask, CARD)
    qualities, cost = await grade("Why?", {"dear": "a good answer", "cheap": "a bad answer"})
    assert qualities == pytest.approx({"dear": 0.7, "cheap": 0.3})
    assert (judge.orders, cost) == (["good first", "bad first"], 6)


async def test_the_same_answers_are_as_good_as_each_other_and_no_verdict_grades_nobody() -> None:
    judge = Judge()
    grade = pairwise(judge.ask, CARD)
    judge.says = '{"scores": [{"answer": "A", "score": 8}, {"answer": "B", "score": 3}], "overall": ""}'
    same = {"dear": "it is so: a good answer, a bad answer", "cheap": "it  is so: a good answer, a bad answer"}
    qualities, _ = await grade("Why?", same)
    assert qualities == pytest.approx({"dear": 0.55, "cheap": 0.55}), "read, and not made up"
    judge.says = "I would rather not."
    assert await grade("Why?", {"dear": "a good answer", "cheap": "a bad answer"}) == ({}, 3)
