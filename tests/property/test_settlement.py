"""The law of the account: whatever providers and callers do, each request is settled once and its sums agree."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from llmwise.catalog.cost import cost
from llmwise.clock import SystemClock
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import Event, Finished, TextDelta
from llmwise.domain.ids import RequestId
from llmwise.domain.messages import Family, Message, Text
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.records import Admission, AttemptRecord, LedgerEntry, RequestRecord
from llmwise.domain.requests import ChatRequest
from llmwise.domain.usage import TokenUsage
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.settlement import TERMS, Ledger
from llmwise.providers.scripted import Script, ScriptedProvider
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import AnyRule, Settings, Usage
from llmwise.routing.breaker import BreakerSettings
from llmwise.state.memory import MemoryState

QUICK = TimeoutSettings(first_event_s=0.012, idle_s=0.012, total_s=2, answer_s=0.012)
PRICE = Rate(input=3_000_000_000, output=15_000_000_000, cache_read=300_000_000)
FREE = Rate(input=0, output=0)

after = st.sampled_from([0, 0, 1, 2, 5])
rules: st.SearchStrategy[AnyRule] = st.one_of(
    st.builds(faults.Normal, usage=st.builds(Usage, input=st.integers(0, 50), cache_read=st.integers(0, 50))),
    st.just(faults.NoUsage()),
    st.just(faults.NoTerminal()),
    st.builds(faults.RateLimit, retry_after=st.sampled_from([None, 0.0, 0.001])),
    st.builds(faults.Status, status=st.sampled_from([400, 401, 404, 422, 500, 503])),
    st.sampled_from([faults.Overloaded(), faults.ContextTooLong(), faults.Refuse(), faults.WrongContentType()]),
    st.sampled_from([faults.Hang(), faults.HangFirstEvent()]),
    st.builds(faults.Cut, after=after),
    st.builds(faults.Stall, after=after),
    st.builds(faults.Malformed, after=after),
    st.builds(faults.ErrorIn200, after=after),
    st.builds(faults.Oversized, after=after, bytes=st.just(100)),
)


class Case(Struct, frozen=True):
    """A chain, what each of its targets does at first and later, and when the caller of each request leaves (after so
    many batches; `None`: never)."""

    rules: list[tuple[AnyRule, AnyRule]]
    families: list[Family]
    rates: list[Rate | None]
    stream: bool
    chain: bool
    leaves_after: list[int | None]


cases = st.integers(1, 3).flatmap(
    lambda n: st.builds(
        Case,
        rules=st.lists(st.tuples(rules, rules), min_size=n, max_size=n),
        families=st.lists(st.sampled_from(["openai", "anthropic", "gemini"]), min_size=n, max_size=n),
        rates=st.lists(st.sampled_from([PRICE, FREE, None]), min_size=n, max_size=n),
        stream=st.booleans(),
        chain=st.booleans(),
        leaves_after=st.lists(st.none() | st.integers(1, 8), min_size=1, max_size=6),
    )
)


class Kept:
    """A recorder that keeps what it is given."""

    def __init__(self) -> None:
        self.settled: list[tuple[RequestRecord, tuple[AttemptRecord, ...]]] = []

    def admit(self, admission: Admission) -> None:
        pass

    def record(
        self, request: RequestRecord, attempts: Sequence[AttemptRecord], entries: Sequence[LedgerEntry] = ()
    ) -> None:
        self.settled.append((request, tuple(attempts)))


def script(first: AnyRule, later: AnyRule) -> Script:
    """Two requests of the first kind can open the circuit; the probe meets the second."""
    return Script(defaults=Settings(text="one two three four five six"), rules=(replace(first, nth="1-2"), later))


@settings(max_examples=300, deadline=None)
@given(cases)
def test_every_run_yields_one_record_one_attempt_for_each_call_and_sums_that_agree(case: Case) -> None:
    asyncio.run(play(case))


async def play(case: Case) -> None:
    providers = [
        ScriptedProvider(str(index), script(*rules), family)
        for index, (rules, family) in enumerate(zip(case.rules, case.families, strict=True))
    ]
    cards = [ModelCard(p.name, p.name, p.name, rate=rate) for p, rate in zip(providers, case.rates, strict=True)]
    state = MemoryState(SystemClock(), BreakerSettings(failures=2, open_s=0.0))
    mesh = Mesh({p.name: p for p in providers}, state, QUICK)
    kept = Kept()
    for number, leaves_after in enumerate(case.leaves_after, start=1):
        reached = sum(len(p.received) for p in providers)
        ledger = Ledger(
            id=RequestId(f"req_{number}"),
            key_id="key",
            request=ChatRequest("0", (Message("user", (Text("What is up?"),)),), stream=case.stream),
            plan=Plan(tuple(PlannedAttempt(card, "") for card in cards), chain=case.chain),
            dialect="native",
            rate_of=lambda card, unix_ms: card.rate,
            clock=SystemClock(),
            recorder=kept,
        )
        events, error, left = await one(mesh, ledger, leaves_after)
        assert len(kept.settled) == number
        record, attempts = kept.settled[-1]
        check_sums(case, record, attempts)
        calls = sum(len(p.received) for p in providers) - reached
        assert sum(attempt.outcome != "skipped" for attempt in attempts) == calls
        assert not any(p.open for p in providers), "an exchange is left open"
        assert not any(state.breaker(card.id).phase == "half_open" for card in cards), "a probe never reported back"
        check_end(record, attempts, events, error, left)


async def one(mesh: Mesh, ledger: Ledger, leaves_after: int | None) -> tuple[list[Event], GatewayError | None, bool]:
    """The events that came, the error, and whether the caller left before the end."""
    events: list[Event] = []
    try:
        async with aclosing(mesh.run(ledger.request, ledger)) as batches:
            for _ in count() if leaves_after is None else range(leaves_after):
                events += await anext(batches)
    except GatewayError as error:
        return events, error, False
    except StopAsyncIteration:
        return events, None, False
    return events, None, True


def check_sums(case: Case, record: RequestRecord, attempts: Sequence[AttemptRecord]) -> None:
    assert record.attempts == len(attempts)
    assert [attempt.number for attempt in attempts] == list(range(len(attempts)))
    for name in ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"):
        assert getattr(record, name) == sum(getattr(attempt, name) for attempt in attempts), name
    assert record.usage_estimated == any(attempt.usage_estimated for attempt in attempts)
    known, unknown = 0, False
    for attempt in attempts:
        rate = case.rates[int(attempt.model)]
        tokens = TokenUsage(attempt.input_tokens, attempt.cache_read_tokens, output=attempt.output_tokens)
        used = tokens.total > 0 or attempt.outcome == "complete"
        if used:
            assert attempt.cost_nanousd == cost(tokens, rate), "priced by its own model, not at all without a price"
        else:
            assert not attempt.cost_nanousd
        if attempt.outcome == "timeout" and attempt.ttft_ms is not None:
            assert used, "the provider was at work"
        if attempt.usage_estimated:
            assert TERMS[attempt.outcome].estimate != "never"
        unknown |= rate is None and used
        known += attempt.cost_nanousd or 0
    assert record.cost_nanousd == (None if unknown else known)


def check_end(
    record: RequestRecord,
    attempts: Sequence[AttemptRecord],
    events: Sequence[Event],
    error: GatewayError | None,
    left: bool,
) -> None:
    if left:
        assert (record.status, record.code) == (499, "client_gone")
        assert all(attempt.outcome != "complete" for attempt in attempts[:-1])
    elif error is not None:
        assert (record.status, record.code) == (error.status, error.code)
        assert all(attempt.outcome != "complete" for attempt in attempts)
    else:
        assert (record.status, record.code) == (200, None)
        assert [attempt.outcome == "complete" for attempt in attempts] == [False] * (len(attempts) - 1) + [True]
        assert sum(isinstance(event, Finished) for event in events) == 1
        assert record.answer == "".join(event.text for event in events if isinstance(event, TextDelta))
    if any(isinstance(event, TextDelta) for event in events):
        assert attempts[-1].ttft_ms is not None
    assert all(attempt.ttft_ms is None for attempt in attempts[:-1]), "only the last attempt can have committed"
