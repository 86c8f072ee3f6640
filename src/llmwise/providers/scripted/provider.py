"""The scripted provider inside the process: the `Provider` port without a network.

It raises what the HTTP adapters would raise for the same fault, keeps the same order of events as its family does, and
knows at any time which exchanges are still open, so that a test can assert that none is left.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Literal, NoReturn, TypeAlias

from llmwise.domain.errors import GatewayError, UpstreamCut
from llmwise.domain.events import (
    AttemptEvent,
    Embedded,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from llmwise.domain.messages import Family, Text, ToolResult
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Exchange
from llmwise.domain.requests import ChatRequest, EmbeddingRequest, Request
from llmwise.domain.usage import TokenUsage
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.answers import (
    EMBEDDING_DIMENSIONS,
    SIGNATURE,
    Answer,
    Question,
    argument_pieces,
    compose,
    pieces,
    roughly_tokens,
    vector,
)
from llmwise.providers.scripted.dialect import encoded
from llmwise.providers.scripted.refusals import AmidAnswer, BeforeAnswer, error_amid, error_before
from llmwise.providers.scripted.responses import reasoning_item
from llmwise.providers.scripted.script import Cue, Playback, Script

Sleep: TypeAlias = Callable[[float], Awaitable[object]]
Outcome: TypeAlias = Literal["sending", "refused", "open", "finished", "failed", "closed"]

KEPT_RECEIVED = 1000


class Received:
    """One request that reached the provider, as it stands now. `outcome` is `sending` until `send` returns or raises
    (`refused`), then `open` until the end of the answer (`finished`), an error in it (`failed`) or its closing or
    cancellation before that (`closed`, also for a cancelled `send`)."""

    __slots__ = ("fault", "model", "nth", "outcome", "request", "stream")

    def __init__(self, request: Request, model: str, nth: int, fault: str) -> None:
        self.request = request
        self.model = model
        self.nth = nth
        self.fault = fault
        self.stream = request.stream
        self.outcome: Outcome = "sending"

    def __repr__(self) -> str:
        return f"<{self.model} #{self.nth} {self.fault} {self.outcome}>"


class ScriptedProvider:
    """Answers by `script`; counts requests by the model's name *sent* (`ModelCard.upstream`).

    `sleep` takes seconds; a test passes its own to move time by hand. `received` keeps the last `KEPT_RECEIVED`.
    """

    def __init__(
        self,
        name: str,
        script: Script | None = None,
        family: Family = "openai",
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._name = name
        self._family: Family = family
        self._playback = Playback(script)
        self._sleep = sleep
        self._open: set[Received] = set()
        self.received: deque[Received] = deque(maxlen=KEPT_RECEIVED)

    @property
    def name(self) -> str:
        return self._name

    @property
    def family(self) -> Family:
        return self._family

    @property
    def open(self) -> frozenset[Received]:
        """The requests whose answer is neither over nor given up."""
        return frozenset(self._open)

    def set_script(self, script: Script) -> None:
        """From the next request on; each model's requests are counted anew."""
        self._playback.start(script)

    async def send(self, request: ChatRequest, target: ModelCard) -> Exchange:
        return await self._ask(request, target.upstream)

    async def embed(self, request: EmbeddingRequest, target: ModelCard) -> Exchange:
        return await self._ask(request, target.upstream)

    async def aclose(self) -> None:
        for received in tuple(self._open):
            self.settle(received, "closed")

    async def pause(self, seconds: float) -> None:
        if seconds > 0:
            await self._sleep(seconds)

    def settle(self, received: Received, outcome: Outcome) -> None:
        """The request is over. Only the first call counts."""
        if received in self._open:
            self._open.remove(received)
            received.outcome = outcome

    async def _ask(self, request: Request, model: str) -> Exchange:
        cue = self._playback.next(model)
        received = Received(request, model, cue.nth, cue.rule.fault)
        self.received.append(received)
        self._open.add(received)
        try:
            return await self._answered(request, model, cue, received)
        except GatewayError:
            self.settle(received, "refused")
            raise
        except asyncio.CancelledError:
            self.settle(received, "closed")
            raise

    async def _answered(self, request: Request, model: str, cue: Cue, received: Received) -> Exchange:
        settings, rule = cue.settings, cue.rule
        await self.pause((settings.latency_ms or 0) / 1000)
        if isinstance(rule, faults.Hang):
            await _forever()
        if isinstance(rule, BeforeAnswer):
            raise error_before(rule, self._family, self._name)
        if isinstance(request, EmbeddingRequest):
            received.outcome = "open"
            return _ScriptedExchange(self, received, cue, [(True, _vectors(request, model))])
        answer = compose(question_of(request, model), cue)
        batches = list(_batches(answer, self._family))
        if not request.stream:
            pace = settings.tokens_per_second
            spoken = 0 if answer.usage is None else answer.usage.output
            await self.pause((settings.first_event_ms or 0) / 1000 + (spoken / pace if pace else 0))
            batches = [(True, [event for _, batch in batches for event in batch])]
        received.outcome = "open"
        return _ScriptedExchange(self, received, cue, batches)


_Batch: TypeAlias = tuple[bool, list[AttemptEvent]]
"""Whether it holds content, and the events."""


class _ScriptedExchange:
    """Plays the batches. `_given` counts all that were given out, `_content` those with content."""

    def __init__(self, provider: ScriptedProvider, received: Received, cue: Cue, batches: list[_Batch]) -> None:
        self._provider = provider
        self._received = received
        self._rule = cue.rule
        self._settings = cue.settings
        self._batches = iter(batches)
        self._given = 0
        self._content = 0

    async def receive(self) -> Sequence[AttemptEvent]:
        match self._received.outcome:
            case "open":
                pass
            case "finished":
                return []
            case _:
                raise UpstreamCut("the exchange was closed (scripted)", provider=self._provider.name)
        try:
            batch = await self._next()
        except GatewayError:
            self._provider.settle(self._received, "failed")
            raise
        except asyncio.CancelledError:
            self._provider.settle(self._received, "closed")
            raise
        if not batch:
            self._provider.settle(self._received, "finished")
        return batch

    async def aclose(self) -> None:
        self._provider.settle(self._received, "closed")

    async def _next(self) -> Sequence[AttemptEvent]:
        if isinstance(self._rule, faults.HangFirstEvent):
            await _forever()
        after = _after(self._rule)
        if after is not None and (self._content >= after or not self._received.stream):
            await self._fault()
        has_content, batch = next(self._batches, (False, []))
        if self._received.stream:
            await self._provider.pause(self._gap_s(has_content))
        ends = not batch or any(type(event) is Finished for event in batch)
        if ends and after is not None:
            await self._fault()
        if ends and isinstance(self._rule, faults.NoTerminal):
            await self._fault()
        self._given += 1
        self._content += has_content
        return batch

    def _gap_s(self, has_content: bool) -> float:
        """How long the next batch of a stream lets wait."""
        settings, rule = self._settings, self._rule
        seconds = 0.0
        if self._given == 0:
            seconds += (settings.first_event_ms or 0) / 1000
            if isinstance(rule, faults.Keepalive):
                seconds += rule.count * rule.gap_ms / 1000
        elif has_content and self._content and settings.tokens_per_second:
            seconds += 1 / settings.tokens_per_second
        if isinstance(rule, faults.Trickle):
            seconds += rule.gap_ms / 1000
        return seconds

    async def _fault(self) -> NoReturn:
        if isinstance(self._rule, AmidAnswer):
            provider = self._provider
            raise error_amid(self._rule, provider.family, provider.name, stream=self._received.stream)
        await _forever()


def _after(rule: faults.AnyRule) -> int | None:
    """Content batches before the fault, `None` for a rule without one amid the answer."""
    match rule:
        case faults.Cut() | faults.Stall() | faults.Malformed() | faults.ErrorIn200() | faults.Oversized():
            return rule.after
        case _:
            return None


def question_of(request: ChatRequest, model: str) -> Question:
    """What of a request the answer depends on."""
    last = request.messages[-1] if request.messages else None
    asked = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
    return Question(
        model=model,
        stream=request.stream,
        asked=asked,
        input_tokens=sum(
            roughly_tokens(part.text)
            for message in request.messages
            for part in message.parts
            if isinstance(part, Text)
        ),
        tools=request.tools,
        tool_choice=request.tool_choice,
        tool_result=last is not None and any(isinstance(part, ToolResult) for part in last.parts),
        response_format=request.response_format,
        max_tokens=request.sampling.max_tokens,
        stop=request.sampling.stop,
    )


def _batches(answer: Answer, family: Family) -> Iterator[_Batch]:
    """The answer as its family tells it: OpenAI reports usage after the end, Anthropic the prompt's at the start,
    Gemini whole arguments at once."""
    first: list[AttemptEvent] = [Started(answer.id, answer.model)]
    report = [] if answer.usage is None else [UsageReport(answer.usage)]
    if family == "anthropic" and answer.usage is not None:
        usage = answer.usage
        first.append(
            UsageReport(TokenUsage(usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, 1))
        )
    yield False, first
    for piece in pieces(answer.reasoning):
        yield True, [ReasoningDelta(piece)]
    if answer.reasoning and family == "anthropic":
        yield True, [ReasoningDelta(signature=SIGNATURE)]
    if answer.reasoning and family == "responses":
        yield False, [ReasoningDelta(signature=encoded(reasoning_item(answer)).decode())]
    for piece in pieces(answer.text):
        yield True, [TextDelta(piece)]
    for index, call in enumerate(answer.calls):
        if family == "gemini":
            yield True, [ToolCallDelta(index, call.id, call.name, call.arguments)]
            continue
        yield True, [ToolCallDelta(index, call.id, call.name)]
        for piece in argument_pieces(call.arguments):
            yield True, [ToolCallDelta(index, arguments=piece)]
    end = Finished(answer.finish, raw=None, stop_sequence=answer.stop_sequence)
    if family == "openai":
        yield False, [end]
        if report:
            yield False, [*report]
    else:
        yield False, [*report, end]


def _vectors(request: EmbeddingRequest, model: str) -> list[AttemptEvent]:
    vectors = [vector(str(given), request.dimensions or EMBEDDING_DIMENSIONS) for given in request.inputs]
    tokens = sum(roughly_tokens(given) if isinstance(given, str) else len(given) for given in request.inputs)
    return [Started(model=model), Embedded(tuple(vectors)), UsageReport(TokenUsage(input=tokens)), Finished("stop")]


async def _forever() -> NoReturn:
    """Until cancelled."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable")
