"""How a panel is told of: each source whole and in chunks, several side by side, and what the whole of them cost."""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET, Struct
from msgspec.json import encode

from llmwise.api.admission import credits_charged, credits_remaining
from llmwise.api.errors import native_fields
from llmwise.api.native.events import COMPAT_DONE, DONE, compat_frame, frame, last_chunk, tool_call
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import Event, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta, Verbatim, Warned
from llmwise.domain.money import to_credits, to_usd
from llmwise.domain.records import Mode
from llmwise.orchestration.estimates import Estimate
from llmwise.orchestration.fanout import Batch
from llmwise.orchestration.panel import Said
from llmwise.orchestration.settlement import Ledger, refunded
from llmwise.wire import native


def estimate_answer(estimate: Estimate, id: str, mode: Mode, warned: Sequence[Warned]) -> native.EstimateAnswer:
    """The answer to `dry_run`."""
    likely = estimate.likely_nanousd
    calls = [
        native.CallCost(
            one.call.role,
            one.call.card.id,
            one.call.certain,
            usd(one.least_nanousd),
            usd(one.likely_nanousd),
        )
        for one in estimate.calls
    ]
    return native.EstimateAnswer(
        id,
        mode,
        True,
        usd(estimate.least_nanousd),
        usd(likely),
        credits(likely),
        calls,
        warnings(warned),
    )


def source_result(said: Said) -> native.SourceResult:
    """A source that has ended."""
    return native.SourceResult(**source_fields(said))


def source_fields(said: Said) -> dict[str, Any]:
    record, error = said.ledger.record, said.error
    assert record is not None, "a source that has ended is closed"
    return {
        "model": said.model,
        "status": "complete" if error is None else "failed",
        "layer": said.layer,
        "content": said.text,
        "latency_ms": record.latency_ms,
        "ttft_ms": record.ttft_ms,
        "prompt_tokens": record.input_tokens + record.cache_read_tokens + record.cache_write_tokens,
        "completion_tokens": record.output_tokens,
        "cost": usd(record.cost_nanousd),
        "finish_reason": said.finish.reason if said.finish is not None and error is None else None,
        "provider": record.provider or said.ledger.plan.attempts[0].target.provider,
        "resolved_model": record.model or said.model,
        "error": UNSET if error is None else error.message,
        "code": UNSET if error is None else error.code,
        "status_code": UNSET if error is None else error.status,
    }


class SourceChunks:
    """Renders one source of many as plain chunks. State: the text's length, and what is the same in every chunk."""

    __slots__ = ("_frame", "_head", "_ledger", "_length", "_model")

    def __init__(self, ledger: Ledger, model: str, *, compat: bool) -> None:
        self._ledger = ledger
        self._model = model
        self._frame: Callable[[Struct | dict[str, Any]], bytes] = compat_frame if compat else frame
        self._length = 0
        self._head = b"" if compat else b'data: {"model":%b,"delta":' % encode(model)

    def batch(self, events: Sequence[Event]) -> bytes:
        if len(events) == 1 and self._head and type(events[0]) is TextDelta:  # nearly every batch of a stream
            return self._text(events[0].text)
        return b"".join([self._event(event) for event in events])

    def ended(self, error: GatewayError | None) -> bytes:
        if error is None:
            return self._frame(last_chunk(self._ledger, self._model, self._length))
        return self._frame(
            native.FailedChunk(
                self._model,
                "",
                True,
                self._ledger.elapsed_ms(),
                self._length,
                error.message,
                error.code,
                error.status,
                error.provider,
                error.retry_after_s,
            )
        )

    def _text(self, text: str) -> bytes:
        """`_chunk` of a text, put together of what is the same in every chunk and what is not."""
        delta = encode(text)
        if b"\xe2\x80" in delta or b"\xc2\x85" in delta:
            return self._frame(self._chunk(text))
        self._length += len(text)
        elapsed_ms = self._ledger.elapsed_ms()
        return b'%b%b,"done":false,"latency_ms":%d,"content_length":%d}\n\n' % (
            self._head,
            delta,
            elapsed_ms,
            self._length,
        )

    def _event(self, event: Event) -> bytes:
        match event:
            case TextDelta() | RefusalDelta():
                return self._frame(self._chunk(event.text))
            case ReasoningDelta(text=text) if text:
                chunk = self._chunk("")
                chunk.reasoning = text
                return self._frame(chunk)
            case ToolCallDelta():
                chunk = self._chunk("")
                chunk.tool_calls = [tool_call(event)]
                return self._frame(chunk)
            case Verbatim(said=said):
                return self.batch(said)
            case _:
                return b""

    def _chunk(self, delta: str) -> native.PlainChunk:
        self._length += len(delta)
        return native.PlainChunk(self._model, delta, False, self._ledger.elapsed_ms(), self._length)


class SideBySide:
    """Renders several sources at once. State: each one's chunks, and the failures that are kept back until some source
    has said something: if all fail, that is to be an error with a status."""

    __slots__ = ("_account", "_begun", "_compat", "_done", "_held", "_models", "_sources", "frame")

    def __init__(self, account: Ledger, models: Sequence[str], *, compat: bool) -> None:
        self._account = account
        self._models = models
        self._compat = compat
        self.frame: Callable[[Struct | dict[str, Any]], bytes] = compat_frame if compat else frame
        self._done = COMPAT_DONE if compat else DONE
        self._begun = False
        self._held: list[bytes] = []
        self._sources: dict[int, SourceChunks] = {}

    def render(self, item: Batch | Said, /) -> bytes:
        number = item.source if isinstance(item, Batch) else item.number
        source = self._sources.get(number)
        if source is None:
            source = SourceChunks(self._account.branches[number], self._models[number], compat=self._compat)
            self._sources[number] = source
        said = source.batch(item.events) if isinstance(item, Batch) else source.ended(item.error)
        if self._begun or not said:
            return said
        if isinstance(item, Said) and item.error is not None:
            self._held.append(said)
            return b""
        self._begun = True
        return b"".join([*self._held, said])

    def end(self) -> bytes:
        done = native.CompareDoneEvent(event="done", byok=byok(self._account), **account_fields(self._account))
        return self.frame(done) + self._done

    def fail(self, error: GatewayError) -> bytes:
        return failed_event(self._account, error, self.frame) + self._done


def failed_event(account: Ledger, error: GatewayError, framed: Callable[[Struct | dict[str, Any]], bytes]) -> bytes:
    return framed({"event": "error", **native_fields(error, account.id), "refunded": refunded(account, error)})


def account_fields(account: Ledger) -> dict[str, Any]:
    """What every answer and every last event says of the whole."""
    record = account.record
    assert record is not None, "the record is made before the end is told"
    return {
        "id": record.id,
        "latency_ms": record.latency_ms,
        "cost": usd(record.cost_nanousd),
        "credits_charged": credits_charged(account),
        "credits_remaining": credits_remaining(account),
        "conversation_id": record.conversation_id,
        "semantic_memory_used": account.recalled.hits > 0,
        "semantic_memory_hits": account.recalled.hits,
        "warnings": warnings(account.all_warnings()),
    }


def byok(account: Ledger) -> bool:
    """Whether a provider was asked by the caller's own key."""
    return account.record is not None and account.record.byok


def usd(cost_nanousd: int | None) -> float | None:
    return None if cost_nanousd is None else to_usd(cost_nanousd)


def credits(cost_nanousd: int | None) -> float | None:
    return None if cost_nanousd is None else to_credits(cost_nanousd)


def warnings(warned: Sequence[Warned]) -> list[native.Warning]:
    return [native.Warning(one.code, one.field, one.message) for one in warned]
