"""Answers of the Responses API to events: a pure state machine, fed by a stream or by one whole body.

The wire's grammar: created, (item added, parts and their deltas, item done)*, completed | incomplete | failed. An item
says everything again when it is done; what its deltas have said already is not repeated, and what they left out is made
up for, so that a server that streams no deltas, or none of some kind, loses nothing. Only a terminal event ends the
answer.

What an item has besides its content rides in opaque parts of the family `responses`: `annotation` and `logprobs` belong
to the text before them, `item` (a message's phase, a call's namespace) to the message or call before it; every other
kind is a whole item that only this family has. The proof of a reasoning item is the item itself, as JSON.
"""

from typing import Any, Final

from msgspec import UNSET, DecodeError, Raw, Struct, field
from msgspec.json import Decoder
from msgspec.json import encode as encode_json

from llmwise.domain.errors import GatewayError, UpstreamCut, UpstreamInvalid
from llmwise.domain.events import (
    AttemptEvent,
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
from llmwise.domain.usage import TokenUsage
from llmwise.providers.failures import from_event
from llmwise.providers.frames import FrameStream
from llmwise.wire import responses as wire

ANNOTATION: Final = "annotation"
LOGPROBS: Final = "logprobs"
ITEM: Final = "item"

INCOMPLETE: Final[dict[str, FinishReason]] = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""https://platform.openai.com/docs/api-reference/responses/object#responses-object-incomplete_details (2026-11-22)."""

_SERVERS_FAULT: Final = frozenset({"server_error", "rate_limit_exceeded", "vector_store_timeout"})
"""Of the codes of ResponseErrorCode (OpenAPI description, August 2026); the others are about the request."""

_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


def decoder(*, verbatim: bool = False) -> FrameStream:
    """A decoder for one streamed answer."""
    return FrameStream(_Reading(keep_last=verbatim), verbatim=verbatim)


def decode(body: bytes, *, verbatim: bool = False) -> list[AttemptEvent]:
    """A whole answer as the events of a stream. Raises `UpstreamInvalid`, or the error that the body reports."""
    reading = _Reading()
    events: list[AttemptEvent] = []
    try:
        response = wire.RECEIVED.decode(body)
        if response.output is None and response.error is None:
            raise UpstreamInvalid("an answer without output")
        reading.start(response, events)
        reading.terminate(response, events)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamInvalid(f"the answer is not a response: {error}") from error
    return [Verbatim(body, tuple(events))] if verbatim and _is_documented(response) else events


def _is_documented(response: wire.ReceivedResponse) -> bool:
    """Whether a response that has ended has what every one has by the documentation."""
    known = response.object == "response" and response.id and response.model and response.usage is not None
    return bool(known) and response.status in ("completed", "incomplete") and response.llmwise is UNSET


class _Open(Struct):
    """An item that is on its way. `said` are the deltas of each part, by the part's kind and index;
    `number` is the call's or the thought's, from 0."""

    type: str
    number: int = 0
    said: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)


class _Reading:
    """One answer. Invariant: `_open` holds the items between added and done, by their index in the output."""

    def __init__(self, *, keep_last: bool = False) -> None:
        self._keep_last = keep_last
        self._last: bytes | None = None
        self._passes = False  # it began as a documented stream does
        self._open: dict[int, _Open] = {}
        self._started = False
        self._over = False
        self._items = 0
        self._calls = 0
        self._thoughts = 0

    def frame(self, data: bytes, events: list[AttemptEvent]) -> bool:
        if self._over or data == b"[DONE]":  # OpenRouter closes with it
            return False
        try:
            event = wire.RECEIVED_EVENT.decode(data)
            if not self._started and event.type == "response.created" and event.response is not None:
                begun = event.response
                self._passes = bool(begun.id and begun.model) and event.sequence_number is not None
            elif event.type in _TERMINAL and self._keep_last and self._passes and event.response is not None:
                self._last = data if _is_documented(event.response) else None
            self._event(event, data, events)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamInvalid(f"a frame of the stream can't be read: {error}") from error
        return self._passes and not self._over

    def end(self, events: list[AttemptEvent]) -> None:
        if not self._over:
            raise UpstreamCut("the stream ended without response.completed")

    def start(self, response: wire.ReceivedResponse, events: list[AttemptEvent]) -> None:
        if not self._started:
            self._started = True
            if response.id or response.model:
                events.append(Started(response.id or None, response.model or None))

    def terminate(self, response: wire.ReceivedResponse, events: list[AttemptEvent]) -> None:
        """The provider's own end. What was left open, or never streamed at all, is in the response's output."""
        if response.error is not None or response.status == "failed":
            raise failure(response.error)
        for index, raw in enumerate(response.output or ()):
            if self._items == 0 or index in self._open:
                self._done(index, raw, events, counts=False)
        if self._open:
            raise UpstreamInvalid("the response is over, and an item of it is not")
        if response.usage is not None:
            events.append(UsageReport(token_usage(response.usage)))
        reason: FinishReason = "unknown"
        raw_reason = response.status
        match response.status:
            case "completed":
                reason = "tool_calls" if self._calls else "stop"
            case "incomplete":
                raw_reason = response.incomplete_details.reason if response.incomplete_details is not None else None
                reason = INCOMPLETE.get(raw_reason or "", "unknown")
            case "queued" | "in_progress" | "cancelled" as status:
                raise UpstreamInvalid(f"the response is {status}, and no answer")
            case _:
                pass
        if reason == "unknown":
            events.append(Warned("unknown", "finish_reason", f"an unknown reason to stop: {str(raw_reason)[:40]!r}"))
        events.append(Finished(reason, raw_reason, None, self._last))
        self._over = True

    def _event(self, event: wire.ReceivedEvent, data: bytes, events: list[AttemptEvent]) -> None:
        kind = event.type
        match kind:
            case "response.output_text.delta":
                self._delta(event, "text", event.content_index, events)
                if event.logprobs:
                    events.append(OpaquePart("responses", LOGPROBS, encode_json(event.logprobs).decode()))
            case "response.function_call_arguments.delta":
                self._delta(event, "arguments", 0, events)
            case "response.reasoning_summary_text.delta":
                self._delta(event, "summary", event.summary_index, events)
            case "response.reasoning_text.delta":
                self._delta(event, "content", event.content_index, events)
            case "response.refusal.delta":
                self._delta(event, "refusal", event.content_index, events)
            case "response.created" | "response.in_progress" | "response.queued":
                if event.response is not None:
                    self.start(event.response, events)
            case "response.output_item.added":
                self._added(event.output_index, event.item, events)
            case "response.content_part.done":
                opened = self._open.get(event.output_index)
                if opened is not None and opened.type == "message" and event.part is not None:
                    self._part(opened, event.content_index, event.part, events)
            case "response.output_item.done":
                self._done(event.output_index, event.item, events)
            case "error":
                raise failure(event.error if event.error is not None else _FLAT.decode(data))
            case _ if kind in _TERMINAL:
                if event.response is None:
                    raise UpstreamInvalid(f"{kind} without a response")
                self.start(event.response, events)
                self.terminate(event.response, events)
            case _:
                if event.error is not None:
                    raise from_event(data)
                # Progress of built-in tools, ends of parts whose text is here already, and what is new to us: the
                # item comes whole when it is done.

    def _added(self, index: int, raw: Raw, events: list[AttemptEvent]) -> None:
        if index in self._open:
            raise UpstreamInvalid(f"a second item {index}")
        item = wire.RECEIVED_ITEM.decode(raw) if _kind(raw) in _LOOKED_INTO else None
        self._items += 1
        if item is None:
            self._open[index] = _Open(_kind(raw))
        elif item.type == "function_call":
            self._open_call(index, item, events)
        elif item.type == "reasoning":
            self._open[index] = _Open("reasoning", self._thoughts)
            self._thoughts += 1
        else:
            self._open[index] = _Open("message")

    def _open_call(self, index: int, item: wire.ReceivedItem, events: list[AttemptEvent]) -> _Open:
        if not item.name or not (item.call_id or item.id):
            raise UpstreamInvalid("a function call without a name or an id")
        opened = self._open[index] = _Open("function_call", self._calls)
        self._calls += 1
        events.append(ToolCallDelta(opened.number, item.call_id or item.id, item.name))
        return opened

    def _delta(self, event: wire.ReceivedEvent, kind: str, part: int, events: list[AttemptEvent]) -> None:
        if not isinstance(event.delta, str):
            raise UpstreamInvalid(f"{event.type} without text")
        opened = self._open.get(event.output_index)
        if opened is None:
            # Some servers open no item before its text; a call without a name can't be opened.
            if kind == "arguments":
                raise UpstreamInvalid(f"arguments of item {event.output_index}, which is not open")
            opened = self._open[event.output_index] = self._unannounced(kind)
        if event.delta:
            self._say(opened, kind, part, event.delta, events)

    def _unannounced(self, kind: str) -> _Open:
        self._items += 1
        if kind in ("text", "refusal"):
            return _Open("message")
        self._thoughts += 1
        return _Open("reasoning", self._thoughts - 1)

    def _say(self, opened: _Open, kind: str, part: int, text: str, events: list[AttemptEvent]) -> None:
        """Pass on more of a part. Parts of one thought are paragraphs of it."""
        pieces = opened.said.setdefault((kind, part), [])
        pieces.append(text)
        match kind:
            case "text":
                events.append(TextDelta(text))
            case "refusal":
                events.append(RefusalDelta(text))
            case "arguments":
                events.append(ToolCallDelta(opened.number, arguments=text))
            case _:
                gap = "\n\n" if len(pieces) == 1 and len(opened.said) > 1 else ""
                events.append(ReasoningDelta(gap + text, block=opened.number))

    def _rest(self, opened: _Open, kind: str, part: int, text: str | None, events: list[AttemptEvent]) -> None:
        """Pass on what of a part's `text` its deltas did not say."""
        said = "".join(opened.said.get((kind, part), ()))
        if text and text.startswith(said) and len(text) > len(said):
            self._say(opened, kind, part, text[len(said) :], events)

    def _part(self, opened: _Open, index: int, part: wire.ReceivedPart, events: list[AttemptEvent]) -> None:
        """A part of a message is over, told once by itself and once by its item."""
        if index in opened.closed:
            return
        opened.closed.add(index)
        streamed = ("text", index) in opened.said
        self._rest(opened, "text", index, part.text, events)
        self._rest(opened, "refusal", index, part.refusal, events)
        if part.logprobs and not streamed:
            events.append(OpaquePart("responses", LOGPROBS, encode_json(part.logprobs).decode()))
        events += [OpaquePart("responses", ANNOTATION, bytes(raw).decode()) for raw in part.annotations or ()]

    def _done(self, index: int, raw: Raw, events: list[AttemptEvent], *, counts: bool = True) -> None:
        """An item is over, or comes whole."""
        kind = _kind(raw)
        opened = self._open.pop(index, None)
        if opened is None:
            self._items += counts
        if kind not in _LOOKED_INTO:
            events.append(OpaquePart("responses", kind, bytes(raw).decode()))
            return
        item = wire.RECEIVED_ITEM.decode(raw)
        match kind:
            case "message":
                opened = opened or _Open("message")
                for i, part in enumerate(item.content or ()):
                    self._part(opened, i, part, events)
                if item.phase is not None:
                    _besides({"phase": item.phase}, events)
            case "function_call":
                if opened is None:
                    opened = self._open_call(index, item, events)
                    del self._open[index]
                self._rest(opened, "arguments", 0, item.arguments, events)
                if not opened.said:
                    events.append(ToolCallDelta(opened.number, arguments="{}"))
                own = {"namespace": item.namespace, "caller": item.caller if bytes(item.caller) else None}
                if own := {name: value for name, value in own.items() if value is not None}:
                    _besides({"call_id": item.call_id, **own}, events)
            case _:
                if opened is None:
                    opened = _Open("reasoning", self._thoughts)
                    self._thoughts += 1
                self._thought(opened, item, raw, events)

    def _thought(self, opened: _Open, item: wire.ReceivedItem, raw: Raw, events: list[AttemptEvent]) -> None:
        for kind, parts in (("summary", item.summary), ("content", item.content)):
            for i, part in enumerate(parts or ()):
                self._rest(opened, kind, i, part.text, events)
        proof = bytes(raw).decode()
        if opened.said:
            events.append(ReasoningDelta(signature=proof, block=opened.number))
        else:
            events.append(ReasoningDelta(redacted=proof, block=opened.number))


_LOOKED_INTO: Final = frozenset({"message", "function_call", "reasoning"})
_FLAT: Final = Decoder(dict[str, Any])
"""An `error` event has the error's members itself."""


def _kind(raw: Raw) -> str:
    kind = wire.KIND.decode(raw).type
    if kind is None:
        raise UpstreamInvalid("an item of the output without a type")
    return kind


def _besides(fields: dict[str, Any], events: list[AttemptEvent]) -> None:
    events.append(OpaquePart("responses", ITEM, encode_json(fields).decode()))


def failure(error: Any) -> GatewayError:
    """What the `error` of a failed response stands for, by the same table as every other one. Its codes are words of
    this API alone: what is not the server's fault is the request's."""
    fields = dict(error) if isinstance(error, dict) else {"message": str(error or "the response failed")}
    code = fields.get("code")
    if fields.get("type") in (None, "error"):
        blamed = isinstance(code, str) and code not in _SERVERS_FAULT
        fields["type"] = "invalid_request_error" if blamed else code or "server_error"
    return from_event(encode_json({"error": fields}))


def token_usage(usage: wire.Usage) -> TokenUsage:
    """Cached tokens and cache writes lie inside `input_tokens`, thinking inside `output_tokens`."""
    inside, thinking = usage.input_tokens_details, usage.output_tokens_details
    read = min(inside.cached_tokens if inside is not None else 0, usage.input_tokens)
    written = min(inside.cache_write_tokens if inside is not None else 0, usage.input_tokens - read)
    return TokenUsage.reported(
        input=usage.input_tokens - read - written,
        cache_read=read,
        cache_write_5m=written,
        output=usage.output_tokens,
        reasoning=min(thinking.reasoning_tokens if thinking is not None else 0, usage.output_tokens),
    )
