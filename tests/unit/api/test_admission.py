"""What a request is charged, by how its attempts ended; and what is booked."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from llmwise.api.admission import DOCUMENT_TOKENS, MAX_OUTPUT_TOKENS, Hold, most_nanousd, prompt_tokens
from llmwise.domain.ids import RequestId
from llmwise.domain.messages import Document, Message, Text, ToolCall
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.records import AttemptRecord, Outcome, RequestRecord
from llmwise.domain.requests import ChatRequest, Sampling
from llmwise.orchestration.settlement import TERMS, Ledger
from llmwise.routing.breaker import BreakerSettings
from llmwise.state.memory import MemoryState
from llmwise.state.port import Claim, Purse
from llmwise.state.windows import span
from llmwise.telemetry.metrics import Metrics

NOW_MS = 1_795_000_000_000
DAY_MS = 86_400_000
PURSE = Purse("key", "key", "default", "total", hard_nanousd=1000)


class Clock:
    def monotonic(self) -> float:
        return 0.0

    def unix_ms(self) -> int:
        return NOW_MS


def record(cost: int | None) -> RequestRecord:
    values: dict[str, Any] = dict.fromkeys(RequestRecord.__struct_fields__)
    return RequestRecord(**values | {"id": "req_1", "created_at_ms": NOW_MS, "cost_nanousd": cost})


def attempt(outcome: Outcome, cost: int | None) -> AttemptRecord:
    values: dict[str, Any] = dict.fromkeys(AttemptRecord.__struct_fields__, 0)
    return AttemptRecord(**values | {"outcome": outcome, "cost_nanousd": cost, "output_tokens": 5})


def hold(state: MemoryState, margin: float = 1.0, reserved: int = 0) -> Hold:
    claim = Claim("req_1", "key", NOW_MS, (PURSE,), reserved)
    return Hold(state, "key", "default", claim, asyncio.run(state.reserve(claim)), margin)


@pytest.fixture
def state() -> MemoryState:
    return MemoryState(Clock(), BreakerSettings())


@pytest.mark.parametrize("outcome", [*TERMS])
def test_the_table_of_settlement_says_who_is_charged(state: MemoryState, outcome: Outcome) -> None:
    held = hold(state)
    entries = held.settle(record(40), [attempt(outcome, 40)])
    due = 40 if TERMS[outcome].payer == "caller" else 0
    assert held.charged_nanousd == due
    assert sum(entry.amount_nanousd for entry in entries) == -due
    assert state.purses.standing(PURSE).spent_nanousd == due


def test_only_the_attempts_that_the_caller_owes_are_added_up(state: MemoryState) -> None:
    held = hold(state)
    held.settle(record(75), [attempt("cut", 5), attempt("provider_error", 0), attempt("complete", 70)])
    assert held.charged_nanousd == 70


def test_what_has_no_price_is_not_charged(state: MemoryState) -> None:
    held = hold(state)
    assert held.settle(record(None), [attempt("complete", None)]) == ()
    assert held.charged_nanousd == 0


def test_each_step_is_an_entry_with_its_own_id_and_together_they_are_the_cost(state: MemoryState) -> None:
    held = hold(state, reserved=100)
    assert state.purses.standing(PURSE).reserved_nanousd == 100
    entries = held.settle(record(30), [attempt("complete", 30)])
    assert [(one.id, one.amount_nanousd) for one in entries] == [
        ("req_1/reserve", -100),
        ("req_1/settle", -30),
        ("req_1/refund", 100),
    ]
    assert {one.created_at_ms for one in entries} == {NOW_MS}
    assert state.purses.standing(PURSE).reserved_nanousd == 0
    assert held.remaining_nanousd() == 970


def test_a_margin_is_rounded_once(state: MemoryState) -> None:
    held = hold(state, margin=1.1)
    held.settle(record(35), [attempt("complete", 35)])
    assert held.charged_nanousd == 38, "38.5, halves to even"


def test_a_request_that_never_ran_gives_back_what_it_set_aside(state: MemoryState) -> None:
    held = hold(state, reserved=100)
    del held
    standing = state.purses.standing(PURSE)
    assert (standing.spent_nanousd, standing.reserved_nanousd) == (0, 0)


def test_periods_are_utc_and_weeks_begin_on_monday() -> None:
    day, week, month, ever = (span(period, NOW_MS) for period in ("day", "week", "month", "total"))
    assert (day.start_ms, day.end_ms) == (1_794_960_000_000, 1_795_046_400_000)
    assert (week.start_ms % (7 * DAY_MS) - 4 * DAY_MS) % (7 * DAY_MS) == 0, "1970 began on a Thursday"
    assert week.start_ms <= day.start_ms < (week.end_ms or 0)
    assert month.start_ms == 1_793_491_200_000
    assert (ever.start_ms, ever.end_ms) == (0, None)
    assert span("month", (month.end_ms or 0) - 1) == month


def test_a_purse_begins_anew_with_its_period(state: MemoryState) -> None:
    purse = replace(PURSE, period="day")
    claim = Claim("req_1", "key", NOW_MS, (purse,), 10)
    verdict = asyncio.run(state.reserve(claim))
    tomorrow = replace(claim, id="req_2", created_at_ms=NOW_MS + DAY_MS)
    later = asyncio.run(state.reserve(tomorrow))
    assert later.standings[0].reserved_nanousd == 0
    state.settle(verdict, 10, 0)
    standing = state.purses.standing(purse)
    assert (standing.spent_nanousd, standing.reserved_nanousd) == (0, 10), "yesterday's cost is not today's"


@pytest.mark.parametrize(
    ("max_tokens", "max_output", "output"),
    [(None, None, MAX_OUTPUT_TOKENS), (None, 100, 100), (50, 100, 50), (10_000, 100, 100), (10_000, None, 10_000)],
)
def test_no_more_is_set_aside_than_the_model_can_write(
    max_tokens: int | None, max_output: int | None, output: int
) -> None:
    request = ChatRequest("m", (Message("user", (Text("hi"),)),), sampling=Sampling(max_tokens=max_tokens))
    assert most_nanousd(ledger(request, max_output), 0) == output * 2


def test_a_document_is_set_aside_by_its_length() -> None:
    short = ChatRequest("m", (Message("user", (Text("Read this."),)),))
    sent = Document(data="A" * 1_000_000, media_type="application/pdf")
    named = Document(url="https://example.com/a.pdf")
    long = replace(short, messages=(Message("user", (Text("Read this."), sent, named)),))
    assert prompt_tokens(long) - prompt_tokens(short) == 100_000 + DOCUMENT_TOKENS


def test_what_an_answer_s_tools_were_called_with_is_a_part_of_the_prompt() -> None:
    short = ChatRequest("m", (Message("user", (Text("Go."),)), Message("assistant", (ToolCall("1", "f", "{}"),))))
    long = replace(short, messages=(short.messages[0], Message("assistant", (ToolCall("1", "f", "x" * 4000),))))
    assert prompt_tokens(long) - prompt_tokens(short) == 999


def ledger(request: ChatRequest, max_output: int | None) -> Ledger:
    card = ModelCard("m", "p", "m", max_output=max_output, rate=Rate(1_000_000, 2_000_000))
    return Ledger(
        id=RequestId("req_1"),
        key_id="key",
        request=request,
        plan=Plan((PlannedAttempt(card, "requested"),)),
        dialect="native",
        rate_of=lambda card, now_ms: card.rate,
        clock=Clock(),
        recorder=Metrics(),
    )
