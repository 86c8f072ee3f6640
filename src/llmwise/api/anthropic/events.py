"""The engine's events as Anthropic's stream, and the same stream put together as a whole message.

The law of the stream, whatever order the events came in:

    message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop

Blocks are numbered from 0 and one is open at a time. Other providers' tool calls may interleave: then what can't be
said yet waits. A call is over when its arguments are a whole JSON object, which nothing can be added to; so calls that
come one after another are passed on as they come, and only fragments out of turn are held.

Which model answered, the route, cost and warnings ride in one extra object, `llmwise`, which official clients ignore;
in a stream it comes with `message_delta`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct
from msgspec.json import Decoder, Encoder

from llmwise.api.account import account, model_of, with_account
from llmwise.api.errors import anthropic_body
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import (
    Event,
    Finished,
    FinishReason,
    OpaquePart,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
    Verbatim,
    Warned,
)
from llmwise.domain.messages import Family
from llmwise.domain.records import AttemptRecord
from llmwise.domain.usage import TokenUsage
from llmwise.orchestration.settlement import Ledger
from llmwise.wire import anthropic as wire

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
"""Anthropic's own keep-alive."""

STOP_REASONS: Mapping[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "unknown": "end_turn",
}
"""Anthropic's words. An unknown end is said as `end_turn`, which every client takes, and warned of."""

OWN_REASONS = frozenset({"pause_turn", "model_context_window_exceeded"})
"""Ends that only Anthropic's models have: said in their own word."""

CITATION = "citation"
"""The kind of an opaque part that belongs to the text before it."""

_encode = Encoder().encode
_OBJECT = Decoder(dict[str, Raw])

Step: TypeAlias = "Opened | wire.Delta | Closed"


class Opened(Struct, frozen=True, gc=False):
    """A block begins, as its JSON says it."""

    block: bytes


class Closed(Struct, frozen=True, gc=False):
    """The open block is over."""


class _Call(Struct):
    """A tool call that waits for its turn: its fragments so far."""

    deltas: list[ToolCallDelta]


class Blocks:
    """Events to steps of the grammar. Invariant: `_kind` names the open block; what waits is in the order of its first
    piece, calls with all their fragments."""

    def __init__(self, message_id: str) -> None:
        self.warnings: list[Warned] = []
        self.family: Family = "anthropic"
        self._id = message_id
        self._kind = ""
        self._thought = -1
        self._cited = False
        self._call = -1
        self._arguments: list[str] = []
        self._over: set[int] = set()
        self._waiting: list[_Call | list[Event]] = []
        self._calls: dict[int, _Call] = {}

    @property
    def in_text(self) -> bool:
        """Whether a text block is open that takes more text."""
        return self._kind == "text" and not self._cited

    def take(self, event: Event) -> Iterator[Step]:
        """What one event with content says now; nothing when it has to wait."""
        if isinstance(event, ToolCallDelta):
            if event.index == self._call:
                if event.arguments:
                    self._arguments.append(event.arguments)
                    yield wire.InputJSONDelta(event.arguments)
                return
            if event.index in self._over:
                return
        if self._kind == "tool_use" and not self._whole():
            self._wait(event)
        elif self._waiting:
            yield from self._drain()
            yield from self.take(event)  # which may belong to the call that is open now, or have to wait for it
        else:
            yield from self._say(event)

    def end(self) -> Iterator[Step]:
        """The answer is over: what waits is said, and the last block closed."""
        while self._waiting:
            yield from self._close()
            yield from self._drain()
        yield from self._close()

    def _wait(self, event: Event) -> None:
        if isinstance(event, ToolCallDelta):
            call = self._calls.get(event.index)
            if call is not None:
                call.deltas.append(event)
                return
            call = self._calls[event.index] = _Call([event])
            self._waiting.append(call)
        elif self._waiting and isinstance(last := self._waiting[-1], list):
            last.append(event)
        else:
            self._waiting.append([event])

    def _drain(self) -> Iterator[Step]:
        """Say what waits, up to a call that is not whole yet."""
        while self._waiting and (self._kind != "tool_use" or self._whole()):
            held = self._waiting.pop(0)
            if isinstance(held, _Call):
                del self._calls[held.deltas[0].index]
            for event in held.deltas if isinstance(held, _Call) else held:
                yield from self._say(event)

    def _say(self, event: Event) -> Iterator[Step]:
        match event:
            case TextDelta(text=text) | RefusalDelta(text=text) if text:
                if not self.in_text:
                    yield from self._open("text", {"type": "text", "text": ""})
                yield wire.TextDelta(text)
            case ReasoningDelta():
                yield from self._think(event)
            case ToolCallDelta():
                if event.index != self._call:
                    fields = {
                        "id": event.id or f"toolu_{self._id}_{event.index}",
                        "name": event.name or "",
                        "input": {},
                    }
                    yield from self._open("tool_use", {"type": "tool_use", **fields})
                    self._call = event.index
                if event.arguments:
                    self._arguments.append(event.arguments)
                    yield wire.InputJSONDelta(event.arguments)
            case OpaquePart(family="anthropic"):
                if event.kind != CITATION:
                    yield from self._close()
                    yield Opened(event.json.encode())
                    yield Closed()
                elif self._kind == "text":
                    self._cited = True
                    yield wire.CitationsDelta(Raw(event.json.encode()))
            case _:
                pass

    def _think(self, event: ReasoningDelta) -> Iterator[Step]:
        """Proofs are Anthropic's own only from Anthropic's family: another's would be refused when it comes back."""
        own = self.family == "anthropic"
        if event.redacted is not None:
            if own:
                yield from self._open("redacted", {"type": "redacted_thinking", "data": event.redacted})
            return
        signature = event.signature if own else None
        if not event.text and not signature:
            return
        if self._kind != "thinking" or self._thought != event.block:
            yield from self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            self._thought = event.block
        if event.text:
            yield wire.ThinkingDelta(event.text)
        if signature:
            yield wire.SignatureDelta(signature)

    def _open(self, kind: str, block: Mapping[str, Any]) -> Iterator[Step]:
        yield from self._close()
        self._kind = kind
        yield Opened(_encode(block))

    def _close(self) -> Iterator[Step]:
        if not self._kind:
            return
        if self._kind == "tool_use":
            if not self._whole() and "".join(self._arguments).strip():
                why = "the model's arguments are no JSON object"
                self.warnings.append(Warned("noted", f"tool_calls[{self._call}]", why))
            self._over.add(self._call)
            self._call, self._arguments = -1, []
        self._kind, self._cited = "", False
        yield Closed()

    def _whole(self) -> bool:
        """Whether the open call's arguments are a JSON object. Looked at only when they end like one."""
        if not self._arguments or not self._arguments[-1].rstrip().endswith("}"):
            return False
        return is_object("".join(self._arguments))


class AnthropicStream:
    """Renders one run of the engine as Anthropic's events."""

    __slots__ = (
        "_blocks",
        "_families",
        "_finish",
        "_index",
        "_ledger",
        "_refused",
        "_started",
        "_text_head",
    )

    def __init__(self, ledger: Ledger, families: Mapping[str, Family]) -> None:
        """`families` says by a target's id what its provider speaks."""
        self._ledger = ledger
        self._families = families
        self._blocks = Blocks(ledger.id)
        self._index = 0
        self._started = False
        self._finish: Finished | None = None
        self._refused = False
        self._text_head = b""

    def render(self, events: Sequence[Event]) -> bytes:
        if len(events) == 1:  # nearly every batch of a stream
            only = events[0]
            if type(only) is Verbatim:
                self._started = True
                return only.data
            if type(only) is TextDelta and self._blocks.in_text:
                return self._text_head + _encode(only.text) + b"}}\n\n" if only.text else b""
        out = []
        for event in events:
            match event:
                case Verbatim():
                    self._started = True
                    out.append(event.data)
                case Started():
                    out.append(self._begin(events))
                case Finished():
                    # Held until the run has ended: a stream that says it is finished must not fail after that.
                    self._finish = event
                case TextDelta() | ReasoningDelta() | RefusalDelta() | ToolCallDelta() | OpaquePart():
                    self._refused = self._refused or isinstance(event, RefusalDelta)
                    out.append(self._begin(events))
                    out += [self._step(step) for step in self._blocks.take(event)]
                case _:
                    pass
        return b"".join(out)

    def end(self) -> bytes:
        assert self._finish is not None, "a run that succeeds has its provider's end"
        final = self._ledger.final
        assert final is not None
        out = [self._begin(()), *(self._step(step) for step in self._blocks.end())]
        self._ledger.warnings += self._blocks.warnings
        reason, sequence = stop_of(self._finish, refused=self._refused)
        if self._finish.frame is not None:
            last = with_account(self._finish.frame, self._ledger)
        else:
            last = _encode(
                {
                    "type": "message_delta",
                    "delta": wire.StopDelta(reason, sequence),
                    "usage": usage_of(final),
                    "llmwise": account(self._ledger),
                }
            )
        out += [_frame("message_delta", last), _frame("message_stop", b'{"type":"message_stop"}')]
        return b"".join(out)

    def fail(self, error: GatewayError) -> bytes:
        return _frame("error", anthropic_body(error, self._ledger.id))

    def _begin(self, events: Sequence[Event]) -> bytes:
        """`message_start`, once. Its usage is what the provider has said by then; `message_delta` has the account."""
        if self._started:
            return b""
        self._started = True
        ledger = self._ledger
        answered = (step.model for step in reversed(ledger.steps) if step.status == "success")
        model = next(answered, ledger.plan.attempts[0].target.id)
        self._blocks.family = self._families.get(model, "openai")
        usage = next((event.usage for event in events if isinstance(event, UsageReport)), TokenUsage())
        said = wire.Usage(usage.input, usage.output, usage.cache_write_5m + usage.cache_write_1h, usage.cache_read)
        start = wire.MessageStart(wire.Message(message_id(ledger), model, usage=said))
        return _frame("message_start", _encode(start))

    def _step(self, step: Step) -> bytes:
        if isinstance(step, Opened):
            head = b'"index":%d,"delta":{"type":"text_delta","text":' % self._index
            self._text_head = b'event: content_block_delta\ndata: {"type":"content_block_delta",' + head
            return _frame("content_block_start", _encode(wire.ContentBlockStart(self._index, Raw(step.block))))
        if isinstance(step, Closed):
            self._index += 1
            return _frame("content_block_stop", _encode(wire.ContentBlockStop(self._index - 1)))
        return _frame("content_block_delta", _encode(wire.ContentBlockDelta(self._index, step)))


def message(events: Sequence[Event], ledger: Ledger, families: Mapping[str, Family]) -> bytes:
    """A whole answer: Anthropic's message, the provider's own where it can be passed on, and the `llmwise` object."""
    for event in events:
        if isinstance(event, Verbatim):
            return with_account(event.data, ledger)
    return _encode(_message(events, ledger, families))


def _message(events: Sequence[Event], ledger: Ledger, families: Mapping[str, Family]) -> dict[str, Any]:
    final = ledger.final
    assert final is not None
    blocks = Blocks(ledger.id)
    blocks.family = families.get(final.model, "openai")
    whole = Whole()
    for event in events:
        for step in blocks.take(event):
            whole.add(step)
    for step in blocks.end():
        whole.add(step)
    ledger.warnings += blocks.warnings
    finish = next(event for event in events if isinstance(event, Finished))
    reason, sequence = stop_of(finish, refused=any(isinstance(event, RefusalDelta) for event in events))
    return {
        "id": message_id(ledger),
        "type": "message",
        "role": "assistant",
        "model": model_of(ledger),
        "content": whole.content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage_of(final),
        "llmwise": account(ledger),
    }


class Whole:
    """Puts steps together: the content of a message that was not streamed."""

    def __init__(self) -> None:
        self.content: list[dict[str, Any]] = []
        self._pieces: list[wire.Delta] = []

    def add(self, step: Step) -> None:
        if isinstance(step, Opened):
            self.content.append(msgspec.json.decode(step.block))
            self._pieces = []
        elif isinstance(step, Closed):
            self._fill(self.content[-1])
        else:
            self._pieces.append(step)

    def _fill(self, block: dict[str, Any]) -> None:
        pieces = self._pieces
        self._pieces = []
        match block["type"]:
            case "text":
                block["text"] += "".join(piece.text for piece in pieces if isinstance(piece, wire.TextDelta))
                if cited := [piece.citation for piece in pieces if isinstance(piece, wire.CitationsDelta)]:
                    block["citations"] = cited
            case "thinking":
                block["thinking"] += "".join(p.thinking for p in pieces if isinstance(p, wire.ThinkingDelta))
                block["signature"] += "".join(p.signature for p in pieces if isinstance(p, wire.SignatureDelta))
            case "tool_use":
                block["input"] = input_of("".join(p.partial_json for p in pieces if isinstance(p, wire.InputJSONDelta)))


def input_of(arguments: str) -> Any:
    """A tool call's `input`, which is always an object: what is none is kept as text under `invalid_json`, so that no
    tool runs without what the model had said."""
    if not arguments.strip():
        return {}
    return Raw(arguments.encode()) if is_object(arguments) else {"invalid_json": arguments}


def is_object(text: str) -> bool:
    try:
        _OBJECT.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def stop_of(finish: Finished, *, refused: bool) -> tuple[str, str | None]:
    """The stop reason, and the sequence that stopped it."""
    if finish.raw in OWN_REASONS:
        return finish.raw, None
    if finish.reason == "stop" and refused:
        return "refusal", None
    if finish.reason == "stop" and finish.stop_sequence is not None:
        return "stop_sequence", finish.stop_sequence
    return STOP_REASONS[finish.reason], None


def usage_of(final: AttemptRecord) -> wire.Usage:
    """Anthropic counts cache reads and writes beside the input's, and thinking inside the output's."""
    return wire.Usage(
        input_tokens=final.input_tokens,
        output_tokens=final.output_tokens,
        cache_creation_input_tokens=final.cache_write_tokens,
        cache_read_input_tokens=final.cache_read_tokens,
        output_tokens_details=wire.OutputTokensDetails(final.reasoning_tokens) if final.reasoning_tokens else None,
    )


def message_id(ledger: Ledger) -> str:
    return "msg_" + ledger.id


def _frame(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
