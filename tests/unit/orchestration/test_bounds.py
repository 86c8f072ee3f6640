"""What several runs of one request may take: turns under a cost, a time for each, and who pays when it is up."""

import asyncio

import pytest

from llmwise.clock import SystemClock
from llmwise.domain.access import ProviderKey
from llmwise.domain.messages import Image, Message
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.requests import ChatRequest, Sampling
from llmwise.orchestration.bounds import Bounds
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.orchestration.estimates import Call, estimated, expected
from llmwise.orchestration.handling import Handling
from llmwise.orchestration.settlement import owed_nanousd
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import Settings, Usage
from llmwise.routing.needs import needs_of

from .engines import ANSWER
from .panels import Panels, asking, card, codes, nothing_runs

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(20)]

DEAR = Settings(text=ANSWER, usage=Usage(input=100, output=10))  # 120,000 nano-USD an answer
MOST = 8_201_000  # the question is nine tokens, an answer of 4096 is reckoned with


async def test_without_a_bound_all_are_asked_at_once() -> None:
    panels = Panels(faults.Normal(latency_ms=30), settings=DEAR, timeouts=TimeoutSettings())
    most = await most_at_once(panels, Bounds())
    assert most == 3


@pytest.mark.parametrize(
    ("max_cost", "at_once", "asked"),
    [
        (3 * MOST, 3, 3),
        (2 * MOST, 2, 3),
        (MOST, 1, 3),
        (350_000, 1, 3),  # after two answers there is room for the prompt of a third
        (240_000, 1, 2),
        (100_000, 1, 1),
    ],
)
async def test_a_model_is_asked_when_there_is_room_beside_those_under_way(
    max_cost: int, at_once: int, asked: int
) -> None:
    panels = Panels(faults.Normal(latency_ms=30), settings=DEAR, timeouts=TimeoutSettings())
    assert await most_at_once(panels, Bounds(max_cost_nanousd=max_cost)) == at_once
    assert (panels.reached, panels.record.cost_nanousd) == (dict.fromkeys("abc"[:asked], 1), asked * 120_000)
    assert nothing_runs()


LONG = Usage(input=100, output=1000)  # 2,100,000 nano-USD an answer


async def test_longer_answers_than_usual_do_not_go_beyond_the_bound_together() -> None:
    """Eight of them would cost 16.8 thousandths of a dollar."""
    rules = [faults.Normal(nth=str(n), text=f"answer {n}", latency_ms=5, usage=LONG) for n in range(1, 9)]
    panels = Panels(*rules, timeouts=TimeoutSettings())
    blend = panels.blend("self_moa", "a", samples=8, bounds=Bounds(max_cost_nanousd=10_000_000))
    assert await panels.play_out(blend) is None
    assert codes(blend) == ["max_cost"], "there is no room for who would write"
    assert 4 * 2_100_000 <= panels.record.cost_nanousd <= 10_000_000 + 2_100_000


@pytest.mark.parametrize(
    ("max_tokens", "max_output", "most"), [(None, None, 4096), (None, 9000, 4096), (None, 100, 100), (9000, 100, 9000)]
)
def test_a_run_is_reckoned_with_the_most_it_can_write(
    max_tokens: int | None, max_output: int | None, most: int
) -> None:
    panels = Panels()
    plan = Plan((PlannedAttempt(card("a", max_output=max_output), "requested"),))
    request = asking(sampling=Sampling(max_tokens=max_tokens))
    assert expected(plan, request, panels.account("compare")) == (9_000 + 2_000, 9_000 + most * 2_000)


async def most_at_once(panels: Panels, bounds: Bounds) -> int:
    """Compare, and see how many were open at a time."""
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, sum(bool(provider.open) for provider in panels.scripted.values()))
            await asyncio.sleep(0.002)

    watching = asyncio.create_task(watch())
    assert await panels.play_out(panels.comparison(bounds=bounds)) is None
    watching.cancel()
    await asyncio.wait([watching])
    return most


async def test_what_was_not_asked_says_so_and_is_a_failure() -> None:
    panels = Panels(settings=DEAR)
    run = panels.comparison(bounds=Bounds(max_cost_nanousd=240_000))
    assert await panels.play_out(run) is None
    last = run.said[-1].error
    assert last is not None
    assert (last.code, last.status, last.details["param"]) == ("max_cost_spent", 400, "max_cost")
    panels = Panels(settings=DEAR)
    error = await panels.play_out(panels.comparison(bounds=Bounds(min_sources=3, max_cost_nanousd=240_000)))
    assert error is not None
    assert (error.code, error.details["refunded"]) == ("too_few_sources", False)


async def test_the_time_of_a_source_is_its_own_and_does_not_run_while_it_waits_for_its_turn() -> None:
    panels = Panels(faults.Normal(latency_ms=150), settings=DEAR, timeouts=TimeoutSettings())
    panels.clock = SystemClock()  # type: ignore[assignment]  # the real one, for the latencies
    run = panels.comparison(bounds=Bounds(source_timeout_s=0.4, max_cost_nanousd=400_000))
    assert await panels.play_out(run) is None
    assert [one.error for one in run.said] == [None] * 3, "one after the other they take 0.45 s"
    assert (run.said[-1].ledger.record or panels.record).latency_ms < 400


@pytest.mark.parametrize(
    ("rule", "own", "outcome", "paid"),
    [
        (faults.Normal(tokens=1000, tokens_per_second=50), True, "client_gone", True),
        (faults.Normal(tokens=1000, tokens_per_second=50), False, "cut", False),
        (faults.Hang(), True, "cut", False),
    ],
    ids=["the caller's time", "the configuration's time", "nothing came"],
)
async def test_an_answer_whose_time_is_up_is_booked_with_what_came(
    rule: faults.AnyRule, own: bool, outcome: str, paid: bool
) -> None:
    """The caller has what came, and chose to wait no longer: else a time that is up just before the end would make
    answers free."""
    panels = Panels(rule, timeouts=TimeoutSettings())
    run = panels.comparison(bounds=Bounds(source_timeout_s=0.2, own=own, max_cost_nanousd=None if own else 10**12))
    error = await panels.play_out(run)
    assert error is not None
    assert error.code == "all_failed"
    ((record, attempts),) = panels.kept.settled
    assert {attempt.outcome for attempt in attempts} == {outcome}
    assert all(attempt.usage_estimated and attempt.cost_nanousd for attempt in attempts), "the provider was at work"
    assert record.cost_nanousd == sum(attempt.cost_nanousd or 0 for attempt in attempts)
    assert bool(owed_nanousd(attempts, None)) == paid, "had another model answered"
    assert error.details["refunded"], "all failed: the caller bears nothing"


def test_the_least_counts_what_is_certain_and_of_that_what_no_provider_goes_below() -> None:
    """OpenAI counts 85 tokens for a picture in low detail; a prompt may be cached; two of three may never be asked."""
    panels = Panels()
    account = panels.account("judge")
    cached = Rate(input=1_000_000_000, output=2_000_000_000, cache_read=100_000_000)
    one = ModelCard("a", "a", "a", rate=cached)
    picture = Message("user", (Image(url="https://example.org/dot.png", detail="low"),))
    needs = needs_of(ChatRequest("a", (picture,)))
    calls = [Call("source", one), Call("judge", one, 2, certain=False)]
    found = estimated(calls, needs, account)
    assert 0 < (found.least_nanousd or 0) <= 85 * 100 + 2000
    assert found.likely_nanousd == sum(call.likely_nanousd or 0 for call in found.calls)


def test_what_the_account_s_own_key_asks_costs_it_nothing() -> None:
    panels = Panels()
    account = panels.account("compare")
    account.handling = Handling(own_keys={"a": ProviderKey("k", "a", "https://a.example", "sk-own")})
    found = estimated([Call("source", card("a"))], needs_of(asking()), account)
    assert (found.least_nanousd, found.likely_nanousd) == (0, 0)
