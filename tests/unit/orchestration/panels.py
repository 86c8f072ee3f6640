"""Panels on providers in this process: models whose answers are a function of what they are asked."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from llmwise.domain.errors import GatewayError
from llmwise.domain.events import AttemptEvent, Finished, TextDelta, UsageReport
from llmwise.domain.messages import Family, Message, Text
from llmwise.domain.models import Capabilities, ModelCard, Rate
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.ports import Provider
from llmwise.domain.requests import ChatRequest
from llmwise.domain.usage import TokenUsage
from llmwise.orchestration.blend import Blend
from llmwise.orchestration.bounds import UNBOUNDED, Bounds
from llmwise.orchestration.compare import Comparison
from llmwise.orchestration.judge import Judgement
from llmwise.orchestration.panel import Question, piped, plainly
from llmwise.orchestration.prompts import BUILT_IN
from llmwise.orchestration.recipe import Recipe, Strategy, question_of, writers_of

from .engines import PRICE, Engine

QUESTION = "What is the capital of Australia?"
Reply = Callable[[ChatRequest], str | GatewayError]


class Replying:
    """A provider that answers by a function. `asked` are the requests that came."""

    family: Family = "openai"

    def __init__(self, name: str, reply: Reply | str) -> None:
        self.name = name
        self.asked: list[ChatRequest] = []
        self._reply: Reply = reply if callable(reply) else lambda request: reply

    async def send(self, request: ChatRequest, target: ModelCard) -> "_Reply":
        self.asked.append(request)
        said = self._reply(request)
        if isinstance(said, GatewayError):
            raise said
        return _Reply(said)

    async def aclose(self) -> None: ...


class _Reply:
    def __init__(self, text: str) -> None:
        usage = UsageReport(TokenUsage(input=100, output=10))
        self._batches: list[tuple[AttemptEvent, ...]] = [(TextDelta(text),), (usage, Finished("stop"))]

    async def receive(self) -> Sequence[AttemptEvent]:
        return self._batches.pop(0) if self._batches else ()

    async def aclose(self) -> None: ...


def card(name: str, quality: float = 0.5, **fields: Any) -> ModelCard:
    return ModelCard(name, name, name, rate=PRICE, quality=quality, **fields)


def asking(*, stream: bool = False, text: str = QUESTION, **fields: Any) -> ChatRequest:
    return ChatRequest("a", (Message("user", (Text(text),)),), stream=stream, **fields)


class Endless:
    """A provider whose answers have no end. `read` counts the batches that the gateway has taken of them all."""

    name = "endless"
    family: Family = "openai"

    def __init__(self) -> None:
        self.read = 0

    async def send(self, request: ChatRequest, target: ModelCard) -> "Endless":
        return self

    async def receive(self) -> Sequence[AttemptEvent]:
        self.read += 1
        await asyncio.sleep(0)
        return (TextDelta("more "),)

    async def aclose(self) -> None: ...


class Panels(Engine):
    """`replies` are what models say; a model that isn't in it is the scripted one of its name."""

    def __init__(
        self,
        *rules: Any,
        replies: Mapping[str, Reply | str] | None = None,
        providers: Mapping[str, Provider] | None = None,
        **options: Any,
    ) -> None:
        self.replying = {name: Replying(name, reply) for name, reply in (replies or {}).items()}
        super().__init__(rules, providers={**self.replying, **(providers or {})}, **options)
        self.items: list[Any] = []

    def blend(
        self,
        strategy: Strategy = "consensus",
        models: str = "abc",
        *,
        quality: Mapping[str, float] | None = None,
        synthesizer: str | None = None,
        bounds: Bounds = UNBOUNDED,
        request: ChatRequest | None = None,
        **recipe: Any,
    ) -> Blend:
        request = request or asking()
        cards = [card(name, (quality or {}).get(name, 0.5)) for name in models]
        named = card(synthesizer) if synthesizer else cards[-1] if strategy == "chain" else None
        sources = tuple(question_of(Plan((PlannedAttempt(one, "requested"),)), request) for one in cards)
        made = Recipe(strategy, sources, writers_of(request, cards, named), **recipe)
        return Blend(made, request, self.account("blend"), BUILT_IN, bounds)

    def comparison(
        self,
        models: str = "abc",
        *,
        bounds: Bounds = UNBOUNDED,
        refused: Mapping[str, GatewayError] | None = None,
        rates: Mapping[str, Rate | None] | None = None,
    ) -> Comparison:
        request, account = asking(stream=True), self.account("compare")
        account.request = replace(request, model=", ".join(models))
        questions = [
            Question(
                Plan((PlannedAttempt(ModelCard(name, name, name, rate=(rates or {}).get(name, PRICE)), "requested"),)),
                replace(request, model=name),
                (refused or {}).get(name),
            )
            for name in models
        ]
        return Comparison(questions, request, account, bounds)

    def judgement(
        self,
        contestants: str = "ab",
        judge: ModelCard | None = None,
        *,
        criteria: Sequence[str] = (),
        bounds: Bounds = UNBOUNDED,
        stream: bool = False,
        text: str = QUESTION,
    ) -> Judgement:
        request = asking(stream=stream, text=text)
        questions = [
            Question(Plan((PlannedAttempt(card(name), "requested"),)), plainly(request, name)) for name in contestants
        ]
        judge = judge or card("judge", capabilities=Capabilities(vision=True))
        return Judgement(questions, judge, criteria, request, self.account("judge"), BUILT_IN, bounds)

    def account(self, mode: Any) -> Any:
        ledger = self.ledger("a")
        ledger.mode = mode
        return ledger

    async def play_out(self, panel: Any) -> GatewayError | None:
        """Run it to its end; `items` are what it yielded. The error that ended it, if one did."""
        self.items = []
        try:
            async for item in piped(partial(panel.run, self.mesh)):
                self.items.append(item)
        except GatewayError as error:
            return error
        return None

    @property
    def said(self) -> str:
        """The text that was handed on."""
        batches = [item for item in self.items if isinstance(item, list | tuple)]
        return "".join(event.text for batch in batches for event in batch if isinstance(event, TextDelta))

    @property
    def record(self) -> Any:
        """The one record that was made."""
        ((record, _),) = self.kept.settled
        return record


def nothing_runs() -> bool:
    """No task of the panel or of its sources is left."""
    coroutines = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()]
    return not any("drive" in name for name in coroutines)


def codes(panel: Any) -> list[str]:
    return [warned.code for warned in panel.account.warnings]
