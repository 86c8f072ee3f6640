"""The native stream: events as JSON, in the shape of one model or of a chain, and framed for the published clients.

    plain   chunk+ chunk(done) done [DONE]
    chain   route* chunk+ chunk(done) trace done [DONE]
    failed  ... error [DONE]; a chain's `trace` comes before it

The published TypeScript client (npm `llmwise` 0.1.2) cuts the stream at the two characters backslash and n. A `compat`
stream therefore holds them on a line of their own after each event and nowhere else: standard parsers skip that line.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Encoder

from llmwise.api.admission import credits_charged
from llmwise.api.errors import native_fields
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import (
    Event,
    ReasoningDelta,
    RefusalDelta,
    Routed,
    TextDelta,
    ToolCallDelta,
    Traced,
)
from llmwise.domain.money import to_usd
from llmwise.domain.plan import AutoDecision
from llmwise.orchestration.settlement import Ledger, refunded
from llmwise.wire import native

DONE = b"data: [DONE]\n\n"
COMPAT_MARK = b"\\n\n"
COMPAT_DONE = DONE + COMPAT_MARK
COMPAT_KEEP_ALIVE = b": keep-alive\n\n" + COMPAT_MARK

_encode = Encoder().encode
_ESCAPES = {b"\\n": rb"\u000a", b"\\\\": rb"\u005c"}


def frame(event: Struct | dict[str, Any]) -> bytes:
    text = _encode(event)
    if b"\xe2\x80" in text or b"\xc2\x85" in text:
        text = _escape_line_ends(text)
    return b"data: " + text + b"\n\n"


def compat_frame(event: Struct | dict[str, Any]) -> bytes:
    """The same JSON without the characters backslash-n in it, and the mark after it."""
    text = re.sub(rb"\\.", lambda match: _ESCAPES.get(match[0], match[0]), _escape_line_ends(_encode(event)))
    return b"data: " + text + b"\n\n" + COMPAT_MARK


def _escape_line_ends(text: bytes) -> bytes:
    """Unicode's own line ends, written as escapes: the published Python client (0.1.2) reads lines by httpx, which cuts
    there too, and then it drops the event."""
    for raw, escape in ((b"\xc2\x85", rb"\u0085"), (b"\xe2\x80\xa8", rb"\u2028"), (b"\xe2\x80\xa9", rb"\u2029")):
        text = text.replace(raw, escape)
    return text


class NativeStream:
    """Renders one run of the engine. State: the text's length, and the model that answers."""

    __slots__ = ("_chain", "_done", "_frame", "_head", "_ledger", "_length", "_model", "_remaining", "_said_last")

    def __init__(self, ledger: Ledger, *, compat: bool, credits_remaining: Callable[[], float | None]) -> None:
        self._ledger = ledger
        self._chain = ledger.plan.chain
        self._frame = compat_frame if compat else frame
        self._done = COMPAT_DONE if compat else DONE
        self._model = ledger.plan.attempts[0].target.id
        self._length = 0
        self._head = b""  # of a text chunk; only framed plainly, and once the model is known
        self._said_last = False
        self._remaining = credits_remaining

    def render(self, events: Sequence[Event]) -> bytes:
        if len(events) == 1 and self._head and type(events[0]) is TextDelta:  # nearly every batch of a stream
            return self._text(events[0].text)
        out = []
        for event in events:
            match event:
                case TextDelta() | RefusalDelta():
                    out.append(self._chunk(event.text))
                case Routed():
                    out.append(self._frame(self._route(event)))
                case ReasoningDelta(text=text) if text:
                    out.append(self._chunk("", reasoning=text))
                case ToolCallDelta():
                    out.append(self._chunk("", tool_calls=[tool_call(event)]))
                case Traced():
                    if event.terminal_error is None:
                        out.append(self._last())
                    out.append(self._frame(self._trace(event)))
                case _:
                    pass
        return b"".join(out)

    def end(self) -> bytes:
        last = b"" if self._said_last else self._last()
        return last + self._frame(self._done_event()) + self._done

    def fail(self, error: GatewayError) -> bytes:
        fields = {"event": "error", **native_fields(error, self._ledger.id), "refunded": refunded(self._ledger, error)}
        return self._frame(fields) + self._done

    def _text(self, text: str) -> bytes:
        """`_chunk` of a text, put together of what is the same in every chunk and what is not."""
        self._length += len(text)
        delta = _encode(text)
        if b"\xe2\x80" in delta or b"\xc2\x85" in delta:
            delta = _escape_line_ends(delta)
        if self._chain:
            return b"%b%b}\n\n" % (self._head, delta)
        return b'%b%b,"done":false,"latency_ms":%d,"content_length":%d}\n\n' % (
            self._head,
            delta,
            self._ledger.elapsed_ms(),
            self._length,
        )

    def _chunk(
        self, delta: str, reasoning: str | UnsetType = UNSET, tool_calls: list[dict[str, Any]] | UnsetType = UNSET
    ) -> bytes:
        self._length += len(delta)
        if not self._head and self._frame is frame:
            event = b'"event":"chunk",' if self._chain else b""
            self._head = b'data: {%b"model":%b,"delta":' % (event, _encode(self._model))
        if self._chain:
            return self._frame(native.ChainChunk("chunk", self._model, delta, reasoning, tool_calls))
        return self._frame(
            native.PlainChunk(self._model, delta, False, self._ledger.elapsed_ms(), self._length, reasoning, tool_calls)
        )

    def _route(self, step: Routed) -> native.RouteEvent:
        if step.status == "success":
            self._model = step.model
        return native.RouteEvent(
            "route", step.model, step.status, step.reason, step.error, step.status_code, step.latency_ms
        )

    def _trace(self, trace: Traced) -> native.TraceEvent:
        return native.TraceEvent(
            "trace",
            trace.final_model,
            trace.attempts,
            trace_steps(trace.steps),
            trace.saved_ms,
            trace.terminal_error if trace.terminal_error is not None else UNSET,
        )

    def _last(self) -> bytes:
        self._said_last = True
        return self._frame(last_chunk(self._ledger, self._model, self._length, event="chunk" if self._chain else UNSET))

    def _done_event(self) -> native.DoneEvent:
        record = self._ledger.record
        assert record is not None, "the ledger is closed before the stream ends"
        auto = self._ledger.plan.auto
        return native.DoneEvent(
            event="done",
            id=record.id,
            credits_charged=credits_charged(self._ledger),
            credits_remaining=self._remaining(),
            finish_reason=record.finish_reason or "unknown",
            byok=record.byok,
            conversation_id=record.conversation_id,
            resolved_model=record.model or self._model,
            auto_strategy=record.auto_strategy,
            optimization_goal=record.goal,
            cost=None if record.cost_nanousd is None else to_usd(record.cost_nanousd),
            provider=record.provider or "",
            cached_tokens=record.cache_read_tokens,
            reasoning_tokens=record.reasoning_tokens,
            usage_estimated=record.usage_estimated,
            auto=auto_of(auto),
            warnings=warnings_of(self._ledger),
            semantic_memory_used=self._ledger.recalled.hits > 0,
            semantic_memory_hits=self._ledger.recalled.hits,
        )


def last_chunk(ledger: Ledger, model: str, length: int, *, event: str | UnsetType = UNSET) -> native.LastChunk:
    """The chunk that closes a text of `length` characters, with its account."""
    final = ledger.final
    assert final is not None, "an answer has an attempt"
    writing_ms = final.latency_ms - (final.ttft_ms or 0)
    prompt = final.input_tokens + final.cache_read_tokens + final.cache_write_tokens
    return native.LastChunk(
        model,
        "",
        True,
        ledger.elapsed_ms(),
        length,
        final.ttft_ms,
        prompt,
        final.output_tokens,
        final.output_tokens,
        round(final.output_tokens * 1000 / writing_ms, 1) if writing_ms > 0 else None,
        None if final.cost_nanousd is None else to_usd(final.cost_nanousd),
        final.finish_reason or "unknown",
        event,
    )


def trace_steps(steps: Sequence[Routed]) -> list[native.Step]:
    return [native.Step(s.model, s.status, s.reason, s.error, s.status_code, s.latency_ms) for s in steps]


def auto_of(auto: AutoDecision | None) -> native.Auto | None:
    return None if auto is None else native.Auto(auto.task_type, auto.confidence, list(auto.reasons))


def warnings_of(ledger: Ledger) -> list[native.Warning]:
    return [native.Warning(w.code, w.field, w.message) for w in ledger.warnings]


def tool_call(delta: ToolCallDelta) -> dict[str, Any]:
    """OpenAI's shape of a fragment: id and name with the first one only."""
    call: dict[str, Any] = {"index": delta.index, "function": {"arguments": delta.arguments}}
    if delta.id is not None:
        call |= {"id": delta.id, "type": "function"}
    if delta.name is not None:
        call["function"]["name"] = delta.name
    return call
