"""Several runs of the engine that are one request: one account, one deadline, one budget, one record.

A comparison, a blend, a judgement and a cascade are panels. What they share is here: how many are asked at once, how
one is handed on, and how work that asks many becomes one stream for its reader. What they may take is in `bounds`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TypeAlias, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.errors import GatewayError, InternalError, UpstreamInvalid
from llmwise.domain.events import Event, Finished, RefusalDelta, TextDelta, ToolCallDelta
from llmwise.domain.plan import Plan
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.bounds import Bounded, Bounds
from llmwise.orchestration.fanout import WAITING, Batch, Source, fanout
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.settlement import CLIENT_GONE_STATUS, MAX_KEPT_CHARS, Ledger, refunded

T = TypeVar("T")

Emit: TypeAlias = Callable[[T], Awaitable[None]]
"""Hands an item to the reader; waits while the reader is behind."""


class Question(Struct, frozen=True):
    """One run to come: its plan, the request as this source is asked it, and why it can't be asked at all."""

    plan: Plan
    request: ChatRequest
    refused: GatewayError | None = None

    @property
    def model(self) -> str:
        return self.plan.attempts[0].target.id


class Said(Struct, frozen=True):
    """How the `number`-th source of a panel ended, from 0: its whole text, or the error that ended it. `layer` counts
    from 1."""

    number: int
    layer: int
    model: str
    text: str
    error: GatewayError | None
    ledger: Ledger
    finish: Finished | None = None


class Panel:
    """The runs of one request under way. `account` is the whole's ledger; each run is a branch of it. `layer` counts
    the times that some were asked."""

    def __init__(self, account: Ledger, mesh: Mesh, bounds: Bounds) -> None:
        self.account = account
        self.bounds = bounds
        self.said: list[Said] = []
        self.layer = 0
        self.failed: Said | None = None
        self._engine = Bounded(mesh, account, bounds)

    def affords(self, questions: Sequence[Question]) -> bool:
        """Whether all of these may still be asked."""
        return self._engine.affords([(question.plan, question.request) for question in questions])

    async def ask(
        self,
        questions: Sequence[Question],
        *,
        on_text: Emit[Batch] | None = None,
        on_end: Emit[Said] | None = None,
    ) -> list[Said]:
        """Ask all at once, and wait for all: one that fails ends no other. `Batch.source` and `Said.number` count
        through the panel. The answer is in the questions' order."""
        self.layer += 1
        first = len(self.said)
        ledgers = [self.account.branch(q.plan, q.request) for q in questions]
        pieces: list[list[str]] = [[] for _ in questions]
        answered = set[int]()
        finishes: list[Finished | None] = [None] * len(questions)
        ended: dict[int, Said] = {}
        sources = [Source(ledger, q.refused) for ledger, q in zip(ledgers, questions, strict=True)]
        async with fanout(self._engine, sources) as items, aclosing(items):
            async for item in items:
                source = item.source
                if isinstance(item, Batch):
                    for event in item.events:
                        if source not in answered and says(event):
                            answered.add(source)
                        if isinstance(event, TextDelta | RefusalDelta):
                            pieces[source].append(event.text)
                        elif isinstance(event, Finished):
                            finishes[source] = event
                    if on_text is not None:
                        await on_text(Batch(first + source, item.events))
                    continue
                model = questions[source].model
                error = self.bounds.explained(item.error, model)
                if error is None and source not in answered:
                    error = _empty(ledgers[source], model)
                text = "".join(pieces[source])
                said = Said(first + source, self.layer, model, text, error, ledgers[source], finishes[source])
                ended[source] = said
                if on_end is not None:
                    await on_end(said)
        found = [ended[source] for source in range(len(questions))]
        self.said += found
        return found

    async def relay(self, question: Question, emit: Emit[Sequence[Event]]) -> Said:
        """Ask one whose answer is the request's, and hand on its events as they come; the bound of a source is its
        bound too. Raises the `GatewayError` that ended it, and keeps how it ended as `failed`. The request's record
        names its model."""
        ledger = self.account.branch(question.plan, question.request)
        pieces: list[str] = []
        answered = False
        held: list[Sequence[Event]] = []
        finish: Finished | None = None
        try:
            async with aclosing(self._engine.run(question.request, ledger)) as batches:
                async for batch in batches:
                    for event in batch:
                        answered = answered or says(event)
                        if isinstance(event, TextDelta | RefusalDelta):
                            pieces.append(event.text)
                        elif isinstance(event, Finished):
                            finish = event
                    if not answered and any(isinstance(event, TextDelta | Finished) for event in batch):
                        held.append(batch)  # blank so far: an empty answer is none of the caller's stream
                        continue
                    for late in (*held, batch):
                        await emit(late)
                    held.clear()
            if not answered:
                raise _empty(ledger, question.model)
        except GatewayError as error:
            failed = self.bounds.explained(error, question.model) or error
            self.failed = self._ended(question.model, "".join(pieces), failed, ledger)
            if failed is error:
                raise
            raise failed from error
        finally:
            self.account.final = ledger.final
        text = self.account.said = "".join(pieces)
        assert ledger.final is not None
        return self._ended(ledger.final.model, text, None, ledger, finish)

    def _ended(
        self, model: str, text: str, error: GatewayError | None, ledger: Ledger, finish: Finished | None = None
    ) -> Said:
        """A relayed answer as one of the panel's, counted with them."""
        said = Said(len(self.said), self.layer + 1, model, text, error, ledger, finish)
        self.said.append(said)
        return said


def says(event: Event) -> bool:
    """Whether it says something: blank text and thoughts alone are no answer."""
    return isinstance(event, RefusalDelta | ToolCallDelta) or (
        isinstance(event, TextDelta) and bool(event.text.strip())
    )


def _empty(ledger: Ledger, model: str) -> GatewayError:
    """The model has answered, without text, refusal or call."""
    card = ledger.plan.attempts[0].target
    return UpstreamInvalid(f"{model} gave an empty answer", provider=card.provider, code="empty_answer")


@contextmanager
def kept(account: Ledger) -> Iterator[None]:
    """Admit the request, and close it with whatever ends the block."""
    status, code = InternalError.status, InternalError.code
    account.admit()
    try:
        yield
        status, code = 200, ""
    except GatewayError as error:
        status, code = error.status, error.code
        if "refunded" in error.details:
            error.details["refunded"] = refunded(account, error)
        raise
    except (asyncio.CancelledError, GeneratorExit):
        status, code = CLIENT_GONE_STATUS, "client_gone"
        raise
    finally:
        account.close(status, code or None)


class _End(Struct, frozen=True):
    failure: Exception | None


async def piped(work: Callable[[Emit[T]], Awaitable[None]]) -> AsyncGenerator[T, None]:
    """What `work` emits, as a stream that ends as it ends. The work has a task of its own, which ends with the
    generator; a reader that is behind makes it wait."""
    items: asyncio.Queue[T | _End] = asyncio.Queue(WAITING)

    async def drive() -> None:
        failure: Exception | None = None
        try:
            await work(items.put)
        except Exception as error:
            failure = error
        await items.put(_End(failure))

    task = asyncio.create_task(drive(), name="panel")
    try:
        while not isinstance(item := await items.get(), _End):
            yield item
        if item.failure is not None:
            raise item.failure
    finally:
        task.cancel()
        await asyncio.wait([task])


def side_by_side(ledgers: Sequence[Ledger]) -> str | None:
    """Every source's text below its model's name, for the history: each has an equal part of what is kept. `None` when
    no text is kept."""
    share = MAX_KEPT_CHARS // len(ledgers)
    texts = [
        f"## {ledger.plan.attempts[0].target.id}\n\n{ledger.record.answer}"[:share]
        for ledger in ledgers
        if ledger.record is not None and ledger.record.answer is not None
    ]
    return "\n\n".join(texts)[:MAX_KEPT_CHARS] if texts else None


def plainly(request: ChatRequest, model: str) -> ChatRequest:
    """The request as a source is asked it on the caller's behalf: no chain, no bytes passed through."""
    return replace(request, model=model, routing=None, passthrough=None, verbatim=False)
