"""A gateway's parts without its socket, on a clock that a test moves: the real store, planner and rounds, and traffic
whose truth is known."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from llmwise.api.rounds import Rounds
from llmwise.api.services import Services
from llmwise.app import open_runtime
from llmwise.config import parse
from llmwise.domain.ids import request_id
from llmwise.domain.messages import Message, Text
from llmwise.domain.plan import Checks, Insight, Plan
from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.domain.requests import ChatRequest
from llmwise.insights.settings import AlertSettings, QualitySettings
from llmwise.routing.planner import View
from llmwise.routing.rollout import plan as rolled_out

BEGIN_MS = 1_790_000_000_000
MINUTE_MS = 60_000
QUESTION = "Write a Python function that adds two numbers and returns the result.\n```python\ndef add(a, b):\n```"
MODELS = ("alpha", "beta", "gamma")

CONFIG = """
[storage]
url = "sqlite:///llmwise.db"

[auto]
max_fallbacks = 0
""" + "".join(
    f"""
[providers.of-{name}]
kind = "scripted"

[[models]]
id = "{name}"
provider = "of-{name}"
quality = 0.9
input_price = {price}
output_price = {price}
"""
    for name, price in zip(MODELS, (1.0, 2.0, 3.0), strict=True)
)


class Moved:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_ms = BEGIN_MS

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def unix_ms(self) -> int:
        return self.now_ms


class Behaviour(Struct, frozen=True):
    """How a model does: median latency, cost of an answer, chances that it answers and that its form is right."""

    latency_ms: float = 800.0
    cost_nanousd: float = 20_000.0
    answers: float = 0.99
    right: float = 0.97


class World:
    """`truth` says how a model does at a minute of the day. `asked` are the first models by the minute."""

    def __init__(
        self, services: Services, rounds: Rounds, clock: Moved, truth: Callable[[str, int], Behaviour]
    ) -> None:
        self.services, self.rounds, self.clock = services, rounds, clock
        self._truth = truth
        self._random = random.Random(11)
        self.minute = 0
        self.asked: dict[int, list[str]] = {}

    async def go_on(self, minutes: int, requests: int) -> None:
        """So many minutes with so many conversations each, of one question, then a round."""
        settled = []
        for _ in range(minutes):
            settled += [self._one() for _ in range(requests)]
            self.minute += 1
            self.clock.now_ms += MINUTE_MS
        await self.services.store.insert([request for request, _ in settled], [attempt for _, attempt in settled])
        await self.rounds.refresh()
        await self.rounds.round()
        await self.rounds.refresh()

    def _one(self) -> tuple[RequestRecord, AttemptRecord]:
        at = self.clock.now_ms + self._random.randrange(MINUTE_MS // 2)
        id = request_id(at, self._random.getrandbits(80))
        plan = self.plan(id)
        model = plan.attempts[0].target.id
        self.asked.setdefault(self.minute, []).append(model)
        does, dice = self._truth(model, self.minute), self._random
        answered, right = dice.random() < does.answers, dice.random() < does.right
        latency = round(does.latency_ms * dice.lognormvariate(0, 0.35))
        cost = round(does.cost_nanousd * dice.lognormvariate(0, 0.5)) if answered else 0
        insight = Insight(plan.auto, checks=Checks(json=right) if answered else None)
        shared = (latency, latency // 2, 30, 0, 0, 60, 0, False, cost)
        assert plan.auto is not None
        request = RequestRecord(
            id, "k", at, "chat", "native", False, "auto", model, f"of-{model}", 200 if answered else 502, None,
            "stop" if answered else None, 1, *shared, plan.auto.task_type, 0.9, plan.auto.strategy, plan.auto.goal,
            None, None, None, None, None, encode(insight).decode(),
        )  # fmt: skip
        attempt = AttemptRecord(
            f"{id}.0", id, 0, model, f"of-{model}", model, model, "complete" if answered else "provider_error", None,
            None, at, *shared, "stop" if answered else None,
        )  # fmt: skip
        return request, attempt

    def plan(self, token: str) -> Plan:
        """As `api.intake` does it."""
        services = self.services
        view = services.steered(self.view(), token)
        request = ChatRequest("auto", (Message("user", (Text(QUESTION),)),))
        return rolled_out(services.planner, request, view, services.steering.rollout, token)

    def view(self) -> View:
        state = self.services.state
        return View(state.health(), state.turn, self.clock.monotonic())

    def share(self, model: str, since: int, until: int) -> float:
        """Of the first models asked in these minutes."""
        asked = [one for minute in range(since, until) for one in self.asked[minute]]
        return asked.count(model) / len(asked)


@asynccontextmanager
async def world(folder: Path, truth: Callable[[str, int], Behaviour]) -> AsyncIterator[World]:
    config = parse(CONFIG, source=str(folder / "llmwise.toml"), environ={})
    runtime = await open_runtime(config)
    clock = Moved()
    try:
        services = replace(await runtime.configure(config), clock=clock)
        rounds = Rounds(lambda: services, "test", AlertSettings(), QualitySettings())
        await rounds.refresh()
        yield World(services, rounds, clock, truth)
    finally:
        await runtime.stop(5.0)
