"""The engine's events as OpenAI's chunks, and a whole answer as its completion.

Which model answered, the route, cost and warnings ride in one extra object, `llmwise`, which official clients ignore;
in a stream it comes with the finish chunk.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.json import Encoder

from llmwise.api.account import account
from llmwise.api.errors import openai_body
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import (
    Event,
    Finished,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    Routed,
    Started,
    TextDelta,
    ToolCallDelta,
)
from llmwise.domain.records import AttemptRecord
from llmwise.orchestration.chat import Answer
from llmwise.orchestration.settlement import Ledger
from llmwise.wire import openai as wire

DONE = b"data: [DONE]\n\n"

FINISH: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "unknown": "stop",
}
"""OpenAI's words. An unknown end is said as `stop`, the only word that strict clients take, and warned of."""

_encode = Encoder().encode


class OpenAIStream:
    """Renders one run of the engine as chunks."""

    __slots__ = ("_created", "_finish", "_head", "_include_usage", "_ledger", "_model", "_started")

    def __init__(self, ledger: Ledger, *, include_usage: bool) -> None:
        self._ledger = ledger
        self._include_usage = include_usage
        self._model = ledger.plan.attempts[0].target.id
        self._created = ledger.created_at_ms // 1000
        self._started = False
        self._finish: Finished | None = None
        self._head = b""

    def render(self, events: Sequence[Event]) -> bytes:
        if len(events) == 1 and self._started and type(events[0]) is TextDelta:  # nearly every batch of a stream
            return self._text(events[0].text)
        out = []
        for event in events:
            match event:
                case Routed():
                    if event.status == "success":
                        self._model = event.model
                case Started():
                    out.append(self._begin())
                case TextDelta():
                    out.append(self._begin() + self._text(event.text))
                case ReasoningDelta(text=text) if text:
                    out.append(self._begin() + self._chunk(wire.Delta(reasoning_content=text)))
                case RefusalDelta():
                    out.append(self._begin() + self._chunk(wire.Delta(refusal=event.text)))
                case ToolCallDelta():
                    out.append(self._begin() + self._chunk(wire.Delta(tool_calls=[_fragment(event)])))
                case Finished():
                    # Held until the run has ended: a stream that says it is finished must not fail after that.
                    self._finish = event
                case _:
                    pass
        return b"".join(out)

    def end(self) -> bytes:
        assert self._finish is not None, "a run that succeeds has its provider's end"
        finish = FINISH[self._finish.reason]
        fields: dict[str, Any] = {
            "id": self._id(),
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": [wire.ChunkChoice(0, wire.Delta(), finish)],
            "llmwise": account(self._ledger),
        }
        out = self._begin() + b"data: " + _encode(fields) + b"\n\n"
        if self._include_usage:
            final = self._ledger.final
            assert final is not None
            usage = wire.Chunk(self._id(), self._created, self._model, [], usage_of(final))
            out += b"data: " + _encode(usage) + b"\n\n"
        return out + DONE

    def fail(self, error: GatewayError) -> bytes:
        return b"data: " + openai_body(error, self._ledger.id) + b"\n\n" + DONE

    def _id(self) -> str:
        return "chatcmpl-" + self._ledger.id

    def _begin(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        head = _encode(wire.Chunk(self._id(), self._created, self._model, []))
        # Every text chunk is this head and its text: all that changes from one to the next.
        self._head = b"data: " + head[: head.index(b'"choices":')] + b'"choices":[{"index":0,"delta":{"content":'
        return self._chunk(wire.Delta(role="assistant", content=""))

    def _text(self, text: str) -> bytes:
        return self._head + _encode(text) + b'},"finish_reason":null}]}\n\n'

    def _chunk(self, delta: wire.Delta) -> bytes:
        chunk = wire.Chunk(self._id(), self._created, self._model, [wire.ChunkChoice(0, delta, None)])
        return b"data: " + _encode(chunk) + b"\n\n"


def completion(result: Answer, ledger: Ledger) -> dict[str, Any]:
    """A whole answer: OpenAI's completion and the `llmwise` object."""
    final = ledger.final
    assert final is not None
    reasoning = "\n\n".join(block.text for block in result.reasoning if block.text)
    message = wire.CompletionMessage(
        content=result.text or (None if result.tool_calls or result.refusal else ""),
        refusal=result.refusal,
        tool_calls=[wire.ToolCall(call.id, wire.FunctionCall(call.name, call.arguments)) for call in result.tool_calls]
        or None,
        reasoning_content=reasoning or None,
    )
    return {
        "id": "chatcmpl-" + ledger.id,
        "object": "chat.completion",
        "created": ledger.created_at_ms // 1000,
        "model": final.model,
        "choices": [wire.CompletionChoice(0, message, FINISH[result.finish.reason], None)],
        "usage": usage_of(final),
        "llmwise": account(ledger),
    }


def usage_of(final: AttemptRecord) -> wire.Usage:
    """OpenAI counts cached tokens inside the prompt's and reasoning inside the completion's."""
    prompt = final.input_tokens + final.cache_read_tokens + final.cache_write_tokens
    return wire.Usage(
        prompt_tokens=prompt,
        completion_tokens=final.output_tokens,
        total_tokens=prompt + final.output_tokens,
        prompt_tokens_details=wire.PromptTokensDetails(cached_tokens=final.cache_read_tokens),
        completion_tokens_details=wire.CompletionTokensDetails(reasoning_tokens=final.reasoning_tokens),
    )


def _fragment(delta: ToolCallDelta) -> wire.ToolCallDelta:
    return wire.ToolCallDelta(
        delta.index,
        wire.FunctionDelta(delta.arguments, delta.name),
        delta.id,
        "function" if delta.id is not None else None,
    )
