"""One question to one plan: as a stream of events, or joined into one answer."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing

from msgspec import Struct

from llmwise.domain.events import (
    Event,
    Finished,
    OpaquePart,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Traced,
    spelled_out,
)
from llmwise.domain.messages import Opaque, Reasoning, ToolCall
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.continuity import Engine
from llmwise.orchestration.settlement import Ledger


class Answer(Struct, frozen=True):
    """A whole answer. Usage, cost and times are in the ledger's record."""

    text: str
    reasoning: tuple[Reasoning, ...]
    refusal: str | None
    tool_calls: tuple[ToolCall, ...]
    opaque: tuple[Opaque, ...]
    finish: Finished
    answered_model: str | None
    trace: Traced | None


async def answer(mesh: Engine, request: ChatRequest, ledger: Ledger) -> Answer:
    """Run the plan to its end. Raises the `GatewayError` that ended it."""
    async with aclosing(mesh.run(request, ledger)) as batches:
        return await join(batches)


async def join(batches: AsyncIterator[Sequence[Event]]) -> Answer:
    """Collect a stream of events into one answer."""
    events: list[Event] = []
    async for batch in batches:
        events += batch
    return joined(events)


def joined(events: Iterable[Event]) -> Answer:
    """All events of a run as one answer; parts keep the order of their first fragment."""
    text: list[str] = []
    refusal: list[str] = []
    blocks: dict[int, Reasoning] = {}
    calls: dict[int, ToolCall] = {}
    opaque: list[Opaque] = []
    finish: Finished | None = None
    model: str | None = None
    trace: Traced | None = None
    for event in spelled_out(events):
        # By class, commonest first: a `match` over nine classes costs as much as decoding the answer did.
        kind = type(event)
        if kind is TextDelta:
            text.append(event.text)  # type: ignore[union-attr]  # told apart by `kind`, here and below
        elif isinstance(event, ToolCallDelta):
            calls[event.index] = _extend_call(calls.get(event.index), event)
        elif isinstance(event, Started):
            model = event.model or model
        elif isinstance(event, Finished):
            finish = event
        elif isinstance(event, ReasoningDelta):
            blocks[event.block] = _extend_reasoning(blocks.get(event.block, Reasoning()), event)
        elif isinstance(event, RefusalDelta):
            refusal.append(event.text)
        elif isinstance(event, OpaquePart):
            opaque.append(Opaque(event.family, event.kind, event.json))
        elif isinstance(event, Traced):
            trace = event
    assert finish is not None, "an answer that ends without an error has its provider's end"
    return Answer(
        text="".join(text),
        reasoning=tuple(blocks.values()),
        refusal="".join(refusal) or None,
        tool_calls=tuple(calls[index] for index in sorted(calls)),
        opaque=tuple(opaque),
        finish=finish,
        answered_model=model,
        trace=trace,
    )


def _extend_call(call: ToolCall | None, delta: ToolCallDelta) -> ToolCall:
    if call is None:
        return ToolCall(delta.id or "", delta.name or "", delta.arguments, delta.signature, delta.custom)
    arguments = call.arguments + delta.arguments
    signature = delta.signature or call.signature
    return ToolCall(delta.id or call.id, delta.name or call.name, arguments, signature, call.custom)


def _extend_reasoning(block: Reasoning, delta: ReasoningDelta) -> Reasoning:
    return Reasoning(
        block.text + delta.text,
        delta.signature if block.signature is None else block.signature + (delta.signature or ""),
        delta.redacted or block.redacted,
        block.family,
    )
