"""An engine on scripted providers in this process, with a clock that the test moves and a recorder that keeps all."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

from llmwise.domain.errors import GatewayError
from llmwise.domain.events import Event, Routed, TextDelta, Traced
from llmwise.domain.ids import RequestId
from llmwise.domain.messages import Message, Text
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.ports import Provider
from llmwise.domain.records import Admission, AttemptRecord, LedgerEntry, RequestRecord
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.settlement import Ledger
from llmwise.providers.scripted import Script, ScriptedProvider
from llmwise.providers.scripted.script import AnyRule, Settings
from llmwise.routing.breaker import BreakerSettings
from llmwise.state.memory import MemoryState

QUICK = TimeoutSettings(connect_s=1, first_event_s=0.05, idle_s=0.05, total_s=5, answer_s=0.05)
PRICE = Rate(input=1_000_000_000, output=2_000_000_000)
ANSWER = "one two three four"


class ManualClock:
    """Seconds that only the test adds to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def unix_ms(self) -> int:
        return int(self.now * 1000)


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


class Run:
    """What one request came to."""

    def __init__(self, events: list[Event], error: GatewayError | None, ledger: Ledger) -> None:
        self.events = events
        self.error = error
        self.ledger = ledger

    @property
    def route(self) -> list[tuple[str, str]]:
        return [(event.model, event.status) for event in self.events if isinstance(event, Routed)]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))

    @property
    def traces(self) -> list[Traced]:
        return [event for event in self.events if isinstance(event, Traced)]


class Engine:
    """Models `a`, `b`, `c`, each at a provider of its own name unless `providers` brings others."""

    def __init__(
        self,
        rules: Sequence[AnyRule] = (),
        *,
        timeouts: TimeoutSettings = QUICK,
        breaker: BreakerSettings | None = None,
        providers: Mapping[str, Provider] | None = None,
        settings: Settings | None = None,
        rate: Rate | None = PRICE,
    ) -> None:
        self.clock = ManualClock()
        self.state = MemoryState(self.clock, breaker or BreakerSettings())
        self.scripted = {name: ScriptedProvider(name) for name in "abc"}
        self.settings = settings or Settings(text=ANSWER)
        self.rate = rate
        self.kept = Kept()
        self.timeouts = timeouts
        self.mesh = Mesh({**self.scripted, **(providers or {})}, self.state, timeouts)
        self.play(*rules)
        self._requests = 0

    def play(self, *rules: AnyRule) -> None:
        """From the next request on; a rule's model is the provider's name."""
        for provider in self.scripted.values():
            provider.set_script(Script(defaults=self.settings, rules=tuple(rules)))

    @property
    def reached(self) -> dict[str, int]:
        """How many requests came to each provider, without those that none came to."""
        return {name: len(p.received) for name, p in self.scripted.items() if p.received}

    def ledger(self, models: str = "ab", *, stream: bool = True, chain: bool = True) -> Ledger:
        cards = [ModelCard(name, name, name, rate=self.rate) for name in models]
        request = ChatRequest(models[0], (Message("user", (Text("What is up?"),)),), stream=stream)
        plan = Plan(tuple(PlannedAttempt(card, "requested") for card in cards), chain=chain)
        self._requests += 1
        return Ledger(
            id=RequestId(f"req_{self._requests}"),
            key_id="key_test",
            request=request,
            plan=plan,
            dialect="native",
            rate_of=lambda card, unix_ms: card.rate,
            clock=self.clock,
            recorder=self.kept,
        )

    async def run(self, models: str = "ab", *, stream: bool = True, chain: bool = True) -> Run:
        ledger = self.ledger(models, stream=stream, chain=chain)
        events: list[Event] = []
        error = None
        try:
            async with aclosing(self.mesh.run(ledger.request, ledger)) as batches:
                async for batch in batches:
                    events += batch
        except GatewayError as failure:
            error = failure
        return Run(events, error, ledger)

    def nothing_is_open(self) -> bool:
        return not any(provider.open for provider in self.scripted.values())


async def until(holds: Callable[[], bool], turns: int = 100_000) -> None:
    """Let the other tasks go on until it holds."""
    for _ in range(turns):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")
