"""The engine's events as OpenAI's chunks, and a whole answer as its completion.

Which model answered, the route, cost and warnings ride in one extra object, `llmwise`, which official clients ignore;
in a stream it comes with the finish chunk.
"""

import re
from collections.abc import Sequence
from typing import Any

from msgspec.json import Decoder, Encoder

from llmwise.api.account import account, model_of, with_account
from llmwise.api.errors import openai_body
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import (
    Event,
    Finished,
    FinishReason,
    OpaquePart,
    ReasoningDelta,
    RefusalDelta,
    Routed,
    Started,
    TextDelta,
    ToolCallDelta,
    Verbatim,
)
from llmwise.domain.messages import Opaque, ToolCall
from llmwise.domain.records import AttemptRecord
from llmwise.orchestration.chat import Answer, joined
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
_json = Decoder().decode
_CREATED = re.compile(rb'"created": ?(\d+)')


class OpenAIStream:
    """Renders one run of the engine as chunks: the choice `index` of an answer that began at `created`, a Unix time,
    or when its own ledger did."""

    __slots__ = ("_created", "_finish", "_head", "_id", "_include_usage", "_index", "_ledger", "_model", "_started")

    def __init__(self, ledger: Ledger, *, include_usage: bool, index: int = 0, created: int | None = None) -> None:
        self._ledger = ledger
        self._id = "chatcmpl-" + ledger.id
        self._include_usage = include_usage
        self._model = ledger.plan.attempts[0].target.id
        self._index = index
        self._created = ledger.created_at_ms // 1000 if created is None else created
        self._started = False
        self._finish: Finished | None = None
        self._head = b""

    def render(self, events: Sequence[Event]) -> bytes:
        if len(events) == 1 and self._started:  # nearly every batch of a stream
            only = events[0]
            if type(only) is Verbatim:
                return only.data
            if type(only) is TextDelta:
                return self._text(only.text)
        out = []
        for event in events:
            match event:
                case Routed():
                    if event.status == "success":
                        self._model = event.model
                case Verbatim():
                    self._adopt(event)
                    out.append(event.data)
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
                case OpaquePart(kind="logprobs"):
                    out.append(self._begin() + self._chunk(wire.Delta(), _as_choice(event.json)))
                case OpaquePart(family="openai", kind="annotations"):
                    out.append(self._begin() + self._chunk(wire.Delta(annotations=_json(event.json))))
                case Finished():
                    # Held until the run has ended: a stream that says it is finished must not fail after that.
                    self._finish = event
                case _:
                    pass
        return b"".join(out)

    def end(self) -> bytes:
        assert self._finish is not None, "a run that succeeds has its provider's end"
        out = self.finished(self._ledger)
        if self._include_usage:
            final = self._ledger.final
            assert final is not None
            usage = self._finish.usage_frame or _encode(
                wire.Chunk(self._id, self._created, self._model, [], usage_of(final))
            )
            out += b"data: " + usage + b"\n\n"
        return out + DONE

    def fail(self, error: GatewayError) -> bytes:
        return b"data: " + openai_body(error, self._ledger.id) + b"\n\n" + DONE

    def finished(self, accounted: Ledger | None) -> bytes:
        """The chunk that ends the choice, with the account of this request."""
        assert self._finish is not None, "a run that succeeds has its provider's end"
        out = self._begin() + b"data: "
        if self._finish.frame is not None and accounted is not None:
            return out + with_account(self._finish.frame, accounted) + b"\n\n"
        fields: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": [wire.ChunkChoice(self._index, wire.Delta(), FINISH[self._finish.reason])],
        }
        if accounted is not None:
            fields["llmwise"] = account(accounted)
        return out + _encode(fields) + b"\n\n"

    def _adopt(self, event: Verbatim) -> None:
        """The provider's chunks have begun: what we add goes under their name."""
        if self._started:
            return
        self._started = True
        for said in event.said:
            if isinstance(said, Started):
                self._id, self._model = said.id or self._id, said.model or self._model
        created = _CREATED.search(event.data)
        self._created = int(created[1]) if created is not None else self._created
        self._make_head()

    def _begin(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        self._make_head()
        return self._chunk(wire.Delta(role="assistant", content=""))

    def _make_head(self) -> None:
        """Every text chunk is this head and its text: all that changes from one to the next."""
        head = _encode(wire.Chunk(self._id, self._created, self._model, []))
        before = head[: head.index(b'"choices":')]
        self._head = b'data: %b"choices":[{"index":%d,"delta":{"content":' % (before, self._index)

    def _text(self, text: str) -> bytes:
        return self._head + _encode(text) + b'},"finish_reason":null}]}\n\n'

    def _chunk(self, delta: wire.Delta, logprobs: dict[str, Any] | None = None) -> bytes:
        choice = wire.ChunkChoice(self._index, delta, None, logprobs)
        chunk = wire.Chunk(self._id, self._created, self._model, [choice])
        return b"data: " + _encode(chunk) + b"\n\n"


def completion(events: Sequence[Event], ledger: Ledger) -> bytes:
    """A whole answer: OpenAI's completion, the provider's own where it can be passed on, and the `llmwise` object."""
    for event in events:
        if type(event) is Verbatim:
            return with_account(event.data, ledger)
    return _encode(_completion(joined(events), ledger))


def _completion(result: Answer, ledger: Ledger) -> dict[str, Any]:
    final = ledger.final
    assert final is not None
    return {
        "id": "chatcmpl-" + ledger.id,
        "object": "chat.completion",
        "created": ledger.created_at_ms // 1000,
        "model": model_of(ledger),
        "choices": [choice(result)],
        "usage": usage_of(final),
        "llmwise": account(ledger),
    }


def choice(result: Answer, index: int = 0) -> wire.CompletionChoice:
    reasoning = "\n\n".join(block.text for block in result.reasoning if block.text)
    message = wire.CompletionMessage(
        content=result.text or (None if result.tool_calls or result.refusal else ""),
        refusal=result.refusal,
        tool_calls=[_call(call) for call in result.tool_calls] or None,
        reasoning_content=reasoning or None,
        annotations=[one for part in result.opaque if _annotates(part) for one in _json(part.json)] or None,
    )
    return wire.CompletionChoice(index, message, FINISH[result.finish.reason], _logprobs(result))


def _call(call: ToolCall) -> wire.ToolCall | wire.CustomToolCall:
    if call.custom:
        return wire.CustomToolCall(call.id, wire.CustomCall(call.name, call.arguments))
    return wire.ToolCall(call.id, wire.FunctionCall(call.name, call.arguments))


def _logprobs(result: Answer) -> dict[str, Any] | None:
    """Those of all pieces of the answer, which are in OpenAI's form whoever gave them."""
    pieces = [_as_choice(part.json) for part in result.opaque if part.kind == "logprobs"]
    if not pieces:
        return None
    return {name: [one for piece in pieces for one in piece.get(name) or ()] or None for name in ("content", "refusal")}


def _as_choice(logprobs: str) -> dict[str, Any]:
    """Logprobs as a choice has them; the Responses API has those of a text as a list."""
    said = _json(logprobs)
    return {"content": said, "refusal": None} if isinstance(said, list) else said


def _annotates(part: Opaque) -> bool:
    return part.family == "openai" and part.kind == "annotations"


def usage_of(final: AttemptRecord) -> wire.Usage:
    """OpenAI counts cached tokens inside the prompt's and reasoning inside the completion's."""
    prompt = final.input_tokens + final.cache_read_tokens + final.cache_write_tokens
    return wire.Usage(
        prompt_tokens=prompt,
        completion_tokens=final.output_tokens,
        total_tokens=prompt + final.output_tokens,
        prompt_tokens_details=wire.PromptTokensDetails(final.cache_read_tokens, final.cache_write_tokens or None),
        completion_tokens_details=wire.CompletionTokensDetails(reasoning_tokens=final.reasoning_tokens),
    )


def _fragment(delta: ToolCallDelta) -> wire.ToolCallDelta:
    if delta.custom:
        custom = wire.CustomDelta(delta.arguments, delta.name)
        return wire.ToolCallDelta(delta.index, None, delta.id, "custom" if delta.id is not None else None, custom)
    return wire.ToolCallDelta(
        delta.index,
        wire.FunctionDelta(delta.arguments, delta.name),
        delta.id,
        "function" if delta.id is not None else None,
    )
