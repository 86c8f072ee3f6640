"""The law of several runs at once: whatever they and their reader do, every source ends once, is settled once, says
what it would have said alone, and leaves nothing open."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from llmwise.clock import SystemClock
from llmwise.domain.events import TextDelta
from llmwise.domain.ids import RequestId
from llmwise.domain.messages import Message, Text
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.records import Admission, AttemptRecord, LedgerEntry, RequestRecord
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.bounds import UNBOUNDED
from llmwise.orchestration.compare import Comparison
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.orchestration.fanout import Batch
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.panel import Question, piped
from llmwise.orchestration.settlement import Ledger
from llmwise.providers.scripted import Script, ScriptedProvider
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import AnyRule, Settings
from llmwise.routing.breaker import BreakerSettings
from llmwise.state.memory import MemoryState

QUICK = TimeoutSettings(first_event_s=0.012, idle_s=0.012, total_s=2, answer_s=0.012)
PRICE = Rate(input=3_000_000_000, output=15_000_000_000)
TEXT = "one two three four five six"

rules: st.SearchStrategy[AnyRule] = st.one_of(
    st.just(faults.Normal()),
    st.just(faults.NoUsage()),
    st.just(faults.NoTerminal()),
    st.builds(faults.Status, status=st.sampled_from([400, 401, 503])),
    st.sampled_from([faults.Refuse(), faults.Hang(), faults.HangFirstEvent()]),
    st.builds(faults.Cut, after=st.integers(0, 5)),
    st.builds(faults.Stall, after=st.integers(0, 5)),
)


class Case(Struct, frozen=True):
    """What each source does; after how many items the reader leaves (`None`: never), and whether it is cancelled then
    or just goes; how many turns of the loop it takes over each item."""

    rules: list[AnyRule]
    stream: bool
    leaves_after: int | None
    cancelled: bool
    pause: int


cases = st.builds(
    Case,
    rules=st.lists(rules, min_size=2, max_size=9),
    stream=st.booleans(),
    leaves_after=st.none() | st.integers(1, 20),
    cancelled=st.booleans(),
    pause=st.integers(0, 4),
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


@settings(max_examples=120, deadline=None)
@given(cases)
def test_every_source_ends_once_and_the_account_is_whole(case: Case) -> None:
    asyncio.run(play(case))


async def play(case: Case) -> None:
    providers = [
        ScriptedProvider(str(index), Script(defaults=Settings(text=TEXT), rules=(rule,)))
        for index, rule in enumerate(case.rules)
    ]
    mesh = Mesh({p.name: p for p in providers}, MemoryState(SystemClock(), BreakerSettings()), QUICK)
    kept = Kept()
    request = ChatRequest("0", (Message("user", (Text("What is up?"),)),), stream=case.stream)
    cards = [ModelCard(p.name, p.name, p.name, rate=PRICE) for p in providers]
    asked = [Question(Plan((PlannedAttempt(card, "requested"),)), replace(request, model=card.id)) for card in cards]
    account = Ledger(
        id=RequestId("req_1"),
        key_id="key",
        request=request,
        plan=asked[0].plan,
        dialect="native",
        rate_of=lambda card, unix_ms: card.rate,
        clock=SystemClock(),
        recorder=kept,
        mode="compare",
    )
    run = Comparison(asked, request, account, UNBOUNDED)
    texts = [""] * len(providers)
    ended: list[int] = []

    async def read() -> None:
        async with aclosing(piped(partial(run.run, mesh))) as items:
            async for item in items:
                source = item.source if isinstance(item, Batch) else item.number
                assert source not in ended, "nothing follows the end"
                if isinstance(item, Batch):
                    texts[source] += "".join(e.text for e in item.events if isinstance(e, TextDelta))
                else:
                    ended.append(source)
                for _ in range(case.pause):
                    await asyncio.sleep(0)
                seen.append(source)
                if len(seen) == case.leaves_after:
                    return await leave()
        return None

    async def leave() -> None:
        if case.cancelled:
            asyncio.current_task().cancel()  # type: ignore[union-attr]  # it runs in a task
            await asyncio.sleep(0)

    seen: list[int] = []
    (outcome,) = await asyncio.gather(asyncio.create_task(read()), return_exceptions=True)
    left = len(seen) == case.leaves_after
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task is left"
    assert not any(p.open for p in providers), "an exchange is left open"

    ((record, attempts),) = kept.settled
    assert all(ledger.record is not None for ledger in account.branches)
    assert [attempt.number for attempt in attempts] == list(range(len(attempts))) == list(range(record.attempts))
    assert record.output_tokens == sum(attempt.output_tokens for attempt in attempts)
    assert record.cost_nanousd == sum(attempt.cost_nanousd or 0 for attempt in attempts)
    calls = sum(len(p.received) for p in providers)
    assert sum(attempt.outcome != "skipped" for attempt in attempts) == calls
    if not left:
        assert sorted(ended) == list(range(len(providers)))
        whole = [one.number for one in run.said if one.error is None]
        assert all(texts[index] == TEXT for index in whole)
        assert (record.status == 200) == bool(whole)
        assert (outcome is None) == bool(whole)
    for index, ledger in enumerate(account.branches):
        if ledger.record is not None and ledger.record.status == 200 and index in ended:
            assert texts[index] == TEXT
