"""Anthropic's answers to events: a pure state machine, fed by a stream or by one whole body.

The wire's grammar: message_start, (block_start, delta*, block_stop)*, message_delta, message_stop, with pings anywhere.
Tool calls and thinking are numbered as they open. A block that only Anthropic understands (server tools, MCP, ...) is
put together again and passed on whole; citations follow the text that they belong to. `message_delta` brings the stop
reason, but only `message_stop` ends the answer.
https://platform.claude.com/docs/en/build-with-claude/streaming (2026-11-22).
"""

from typing import Literal

from msgspec import UNSET, DecodeError, Raw, Struct, ValidationError, field
from msgspec.json import Decoder, Encoder

from llmwise.domain.errors import UpstreamCut, UpstreamInvalid
from llmwise.domain.events import (
    AttemptEvent,
    Finished,
    FinishReason,
    OpaquePart,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
    Verbatim,
    Warned,
)
from llmwise.domain.usage import TokenUsage
from llmwise.providers.anthropic.turns import CITATION
from llmwise.providers.failures import from_event
from llmwise.providers.frames import FrameStream
from llmwise.wire import anthropic as wire

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons (2026-11-22). `pause_turn` is left to
`unknown` on purpose: the answer is not complete, and only its own dialect can go on with it."""

_EVENT = Decoder(wire.StreamEvent)
_TYPED_DELTA = Decoder(wire.TypedDelta)
_TYPED = Decoder(wire.Typed)
_MESSAGE = Decoder(wire.Message)
_OBJECT = Decoder(dict[str, Raw])
_ANY = Decoder()
_TEXT = Decoder(wire.TextBlock)
_THINKING = Decoder(wire.ThinkingBlock)
_REDACTED = Decoder(wire.RedactedThinkingBlock)
_TOOL_USE = Decoder(wire.ToolUseBlock)
_ENCODER = Encoder()
_EVENT_TYPES = frozenset(
    (
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "ping",
        "error",
    )
)
_DELTA_TYPES = frozenset(("text_delta", "input_json_delta", "thinking_delta", "signature_delta", "citations_delta"))


def decoder(*, verbatim: bool = False) -> FrameStream:
    """A decoder for one streamed answer."""
    return FrameStream(_Reading(keep_last=verbatim), verbatim=verbatim)


def decode(body: bytes, *, verbatim: bool = False) -> list[AttemptEvent]:
    """A whole answer as the events of a stream. Raises `UpstreamInvalid`, or the error that the body reports."""
    try:
        return _whole(body, verbatim)
    except (DecodeError, UnicodeDecodeError) as error:
        raise UpstreamInvalid(f"the answer is not a message: {error}") from error


def _whole(body: bytes, verbatim: bool) -> list[AttemptEvent]:
    message = _MESSAGE.decode(body)
    if message.type == "error":
        raise from_event(body)
    reading = _Reading()
    events: list[AttemptEvent] = [Started(message.id or None, message.model or None)]
    for index, block in enumerate(message.content):
        reading.open(index, block, events)
        reading.close(index, events)
    reading.report(message.usage, events)
    reading.stop = wire.StopDelta(message.stop_reason, message.stop_sequence)
    reading.terminate(events)
    whole = _is_signed(message) and message.stop_reason is not None and message.usage.output_tokens is not None
    return [Verbatim(body, tuple(events))] if verbatim and whole and message.llmwise is UNSET else events


def _is_signed(message: wire.Message) -> bool:
    """Whether a message has what every one has by the documentation."""
    return bool(message.id and message.model) and message.usage.input_tokens is not None


class _OpenBlock(Struct):
    """A block whose end has not come. `number` counts its kind from 0; `start` is its first form."""

    kind: Literal["text", "thinking", "tool_use", "opaque"]
    number: int
    start: Raw
    pieces: list[str] = field(default_factory=list)
    citations: list[Raw] = field(default_factory=list)


class _Reading:
    """One answer. Invariant: `_open` holds the blocks between their start and stop (the wire has one at a time; more
    would do no harm), and the counters say how many of each kind were ever opened."""

    def __init__(self, *, keep_last: bool = False) -> None:
        self._keep_last = keep_last
        self.stop: wire.StopDelta | None = None
        self._open: dict[int, _OpenBlock] = {}
        self._tools = 0
        self._thoughts = 0
        self._usage = TokenUsage()
        self._last: bytes | None = None
        self._is_documented = False  # what every stream begins with, this one did
        self._over = False

    def frame(self, data: bytes, events: list[AttemptEvent]) -> bool:
        if self._over:
            return False
        try:
            event = _EVENT.decode(data)
        except DecodeError as error:
            _excuse(data, error, events)
            return self._is_documented
        match event:
            case wire.ContentBlockDelta():
                self._delta(event.index, event.delta, events)
            case wire.ContentBlockStart():
                self.open(event.index, event.content_block, events)
            case wire.ContentBlockStop():
                self.close(event.index, events)
            case wire.MessageStart(message=message):
                events.append(Started(message.id or None, message.model or None))
                self._is_documented = _is_signed(message)
                self.report(message.usage, events)
            case wire.MessageDelta():
                self.stop = event.delta
                if self._keep_last and self._is_documented and event.usage is not None:
                    self._last = data.replace(b"\n", b" ")  # it is written again, as one line
                if event.usage is not None:
                    self.report(event.usage, events)
                return False  # kept: an answer that says it is finished must not fail after that
            case wire.MessageStop():
                self.terminate(events)
                return False
            case wire.ErrorEvent():
                raise from_event(data)
            case wire.Ping():
                pass
        return self._is_documented

    def end(self, events: list[AttemptEvent]) -> None:
        if not self._over:
            raise UpstreamCut("the stream ended without message_stop")

    def open(self, index: int, block: Raw, events: list[AttemptEvent]) -> None:
        """A block begins, or comes whole: what it holds already is passed on."""
        try:
            kind = _TYPED.decode(block).type
            match kind:
                case "text":
                    self._open[index] = _OpenBlock("text", 0, block)
                    self._text(self._open[index], _TEXT.decode(block), events)
                case "thinking":
                    thinking = _THINKING.decode(block)
                    self._open[index] = _OpenBlock("thinking", self._thoughts, block)
                    if thinking.thinking or thinking.signature:
                        signature = thinking.signature or None
                        events.append(ReasoningDelta(thinking.thinking, signature, block=self._thoughts))
                    self._thoughts += 1
                case "redacted_thinking":
                    events.append(ReasoningDelta(redacted=_REDACTED.decode(block).data, block=self._thoughts))
                    self._thoughts += 1
                case "tool_use":
                    self._call(index, block, events)
                case _:
                    self._open[index] = _OpenBlock("opaque", 0, block)
        except DecodeError as error:
            raise UpstreamInvalid(f"a content block is not what it says: {error}") from error

    def close(self, index: int, events: list[AttemptEvent]) -> None:
        """A block ends. A tool call without a piece of input has the one that it began with, mostly none."""
        block = self._open.pop(index, None)
        if block is None:
            return
        match block.kind:
            case "tool_use":
                if not block.pieces:
                    arguments = bytes(_TOOL_USE.decode(block.start).input).decode()
                    events.append(ToolCallDelta(block.number, arguments=arguments))
            case "text":
                events.extend(OpaquePart("anthropic", CITATION, bytes(raw).decode()) for raw in block.citations)
            case "opaque":
                events.append(_opaque(block))
            case "thinking":
                pass

    def report(self, usage: wire.Usage, events: list[AttemptEvent]) -> None:
        if usage.input_tokens is None and usage.output_tokens is None:
            return  # not reported, which is not zero
        self._usage = _account(usage, self._usage)
        events.append(UsageReport(self._usage))

    def terminate(self, events: list[AttemptEvent]) -> None:
        raw = self.stop.stop_reason if self.stop is not None else None
        reason = STOP_REASONS.get(raw or "", "unknown")
        if reason == "unknown":
            events.append(Warned("unknown_finish_reason", "finish_reason", f"Anthropic stopped for {raw!r}"))
        events.append(Finished(reason, raw, self.stop.stop_sequence if self.stop is not None else None, self._last))
        self._over = True

    def _delta(self, index: int, delta: wire.Delta, events: list[AttemptEvent]) -> None:
        if type(delta) is wire.TextDelta:
            if delta.text:
                events.append(TextDelta(delta.text))
            return
        block = self._open.get(index)
        if block is None:
            raise UpstreamInvalid(f"a delta for block {index}, which is not open")
        match delta:
            case wire.InputJSONDelta(partial_json=piece):
                if piece:
                    block.pieces.append(piece)
                    if block.kind == "tool_use":
                        events.append(ToolCallDelta(block.number, arguments=piece))
            case wire.ThinkingDelta(thinking=text):
                if text:
                    events.append(ReasoningDelta(text, block=block.number))
            case wire.SignatureDelta(signature=signature):
                events.append(ReasoningDelta(signature=signature, block=block.number))
            case wire.CitationsDelta(citation=citation):
                block.citations.append(citation.copy())

    def _text(self, open_block: _OpenBlock, block: wire.TextBlock, events: list[AttemptEvent]) -> None:
        if block.text:
            events.append(TextDelta(block.text))
        if isinstance(block.citations, list):
            open_block.citations.extend(block.citations)

    def _call(self, index: int, raw: Raw, events: list[AttemptEvent]) -> None:
        block = _TOOL_USE.decode(raw)
        self._open[index] = _OpenBlock("tool_use", self._tools, raw)
        events.append(ToolCallDelta(self._tools, block.id, block.name))
        self._tools += 1
        if isinstance(block.caller, wire.Caller) and block.caller.type != "direct":
            why = f"the call was made by {block.caller.type}, which is not kept"
            events.append(Warned("noted", "tool_call.caller", why))


def _opaque(block: _OpenBlock) -> OpaquePart:
    kind = _TYPED.decode(block.start).type
    json = bytes(block.start)
    if block.pieces:
        whole = _OBJECT.decode(block.start)
        pieces = "".join(block.pieces)
        whole["input"] = Raw(pieces.encode() if _is_json(pieces) else _ENCODER.encode(pieces))
        json = _ENCODER.encode(whole)
    return OpaquePart("anthropic", kind, json.decode())


def _is_json(text: str) -> bool:
    try:
        _ANY.decode(text)
    except DecodeError:
        return False
    return True


def _account(usage: wire.Usage, before: TokenUsage) -> TokenUsage:
    """`usage` over `before`: what it leaves out stays. Cache writes come as a sum, and mostly with a breakdown by time
    to live; a sum alone grows the bucket that is in use, 5 minutes by default."""
    write_5m, write_1h = before.cache_write_5m, before.cache_write_1h
    if usage.cache_creation is not None:
        write_5m = usage.cache_creation.ephemeral_5m_input_tokens
        write_1h = usage.cache_creation.ephemeral_1h_input_tokens
    written = usage.cache_creation_input_tokens
    if written is not None and written != write_5m + write_1h:
        if write_1h and not write_5m:
            write_1h = written
        else:
            write_5m = max(0, written - write_1h)
    details = usage.output_tokens_details
    return TokenUsage.reported(
        input=before.input if usage.input_tokens is None else usage.input_tokens,
        cache_read=before.cache_read if usage.cache_read_input_tokens is None else usage.cache_read_input_tokens,
        cache_write_5m=write_5m,
        cache_write_1h=write_1h,
        output=before.output if usage.output_tokens is None else usage.output_tokens,
        reasoning=before.reasoning if details is None else details.thinking_tokens,
    )


def _excuse(data: bytes, error: DecodeError, events: list[AttemptEvent]) -> None:
    """An event or delta of a type that is new to us is passed over; anything else that can't be read is an error."""
    typed = _typed(data) if isinstance(error, ValidationError) else None
    if typed is not None and typed.type not in _EVENT_TYPES:
        return
    delta = typed.delta if typed is not None and typed.type == "content_block_delta" else None
    if delta is None or delta.type in _DELTA_TYPES:
        raise UpstreamInvalid(f"a frame of the stream can't be read: {error}") from error
    events.append(Warned("noted", delta.type, "a part of the answer that is new to us was left out"))


def _typed(data: bytes) -> wire.TypedDelta | None:
    try:
        return _TYPED_DELTA.decode(data)
    except DecodeError:
        return None
