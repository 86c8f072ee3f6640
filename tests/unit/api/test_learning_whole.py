"""From the store to a policy that is bounded on all traffic that was left to chance."""

import random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from llmwise.api.learning import reference_of, whole
from llmwise.domain.plan import AutoDecision, Insight
from llmwise.insights.bounded import Asked
from llmwise.insights.control import Control
from llmwise.insights.policy import Policy, learned
from llmwise.insights.values import Example, look
from llmwise.routing.values import Expected
from llmwise.storage.insights import Signal
from llmwise.storage.store import Store
from tests.unit.storage.samples import NOW_MS, attempt, request

pytestmark = pytest.mark.anyio

QUESTIONS = ("What is the capital of country {n}?", "Write a Python function that returns list number {n} sorted.")
POLICY = Policy("cost-1", "cost", 0, 0.02, 0.95, {})


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def explored(store: Store, count: int) -> None:
    """Half of the requests to each of two models, by lot, which are as good as each other."""
    rng = random.Random(7)
    records, attempts, signals = [], [], []
    for n in range(count):
        model = rng.choice(["dear", "cheap"])
        auto = AutoDecision("historical_optimization", "cost", "code", 0.9, 0.2, (), (), (), "cost-0", 0.5, False)
        record = replace(
            request(n),
            model=model,
            mode="chat",
            prompt=QUESTIONS[n % 2].format(n=n),
            input_tokens=12,
            cache_read_tokens=0,
            cache_write_tokens=0,
            conversation_id=None,
            attempts=1,
            insight=msgspec.json.encode(Insight(auto)).decode(),
        )
        cost = 9000 if model == "dear" else 1000
        records.append(record)
        attempts.append(replace(attempt(record), model=model, outcome="complete", cost_nanousd=cost))
        signals.append(Signal(f"s{n}", record.id, record.created_at_ms, "user", "score", float(rng.random() < 0.9)))
    await store.insert(records, attempts)
    await store.add_signals(signals)


def services(store: Store) -> Any:
    clock = SimpleNamespace(unix_ms=lambda: NOW_MS + 86_400_000)
    return SimpleNamespace(store=store, clock=clock, steering=SimpleNamespace(control=Control()))


async def test_explored_traffic_with_feedback_makes_a_policy_that_is_bounded_as_a_whole() -> None:
    store = Store.open("sqlite:///:memory:")
    await store.migrate()
    few = await whole(services(store), 30, POLICY)
    assert few is POLICY
    await explored(store, 4000)
    found = await whole(services(store), 30, POLICY)
    latency = replace(POLICY, goal="latency")
    assert await whole(services(store), 30, latency) is latency
    await store.close()

    assert found.bounded is not None
    assert found.bounded.n == 4000
    assert (found.bounded.floor, found.bounded.points) == (1.0, 0.02)
    assert found.version != POLICY.version
    priced = learned(found).priced
    assert priced is not None
    assert priced.reference in ("dear", "cheap")


def test_a_mix_is_compared_with_the_best_of_it_and_a_clear_majority_with_itself() -> None:
    def asked(model: str, quality: float, count: int) -> list[Asked]:
        seen = look(Example("Why?", {model: Expected(quality, 1.0)}))
        return [Asked(seen, {model: 1.0}, f"{model}{at}") for at in range(count)]

    mixed = asked("cheap", 0.6, 90) + asked("dear", 0.95, 80) + asked("fast", 0.9, 80) + asked("rare", 1.0, 5)
    assert reference_of(mixed) == "dear"
    assert reference_of(mixed + asked("cheap", 0.6, 400)) == "cheap"
