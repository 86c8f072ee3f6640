"""The engine's events as the items of a response, each step of their making an event of the stream.

The law of the stream, whatever order the events came in:

    (output_item.added (content_part.added delta* ... done content_part.done)* output_item.done)*

Items are numbered by their place in the output, events by `sequence_number`. A message or a thought is over when
something else begins. A call stays open until its arguments are a whole JSON object, which nothing can be added to,
because other providers' calls may interleave.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from msgspec import UNSET, DecodeError, Raw, Struct, field
from msgspec.json import Decoder

from llmwise.domain.events import Event, OpaquePart, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta, Warned
from llmwise.domain.messages import Family
from llmwise.wire import responses as wire
from llmwise.wire.proofs import Proof, wrap

ANNOTATION: Final = "annotation"
LOGPROBS: Final = "logprobs"
ITEM: Final = "item"
"""Kinds of opaque parts of the family `responses` that are no items of their own (`providers.responses.stream`)."""

_OBJECT: Final = Decoder(dict[str, Raw])
_FIELDS: Final = Decoder(dict[str, Any])
_LOGPROBS: Final = Decoder(list[Raw] | dict[str, list[Raw] | None])


class _Part(Struct):
    """A part of a message: `output_text`, or a refusal."""

    is_refusal: bool
    pieces: list[str] = field(default_factory=list)
    annotations: list[Raw] = field(default_factory=list)
    logprobs: list[Raw] = field(default_factory=list)

    def content(self, *, empty: bool = False) -> wire.Content:
        text = "" if empty else "".join(self.pieces)
        if self.is_refusal:
            return wire.Refusal(text)
        return wire.OutputText(text) if empty else wire.OutputText(text, self.annotations, self.logprobs)


class _Message(Struct):
    id: str
    index: int
    parts: list[_Part] = field(default_factory=list)
    phase: str | None = None

    def item(self, status: wire.Status) -> wire.OutputMessage:
        content = [] if status == "in_progress" else [part.content() for part in self.parts]
        return wire.OutputMessage(self.id, status, content, phase=UNSET if self.phase is None else self.phase)


class _Call(Struct):
    """`fields` are a namespace and a caller, where the provider said them."""

    id: str
    index: int
    call_id: str
    name: str
    pieces: list[str] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    def item(self, status: wire.Status) -> wire.FunctionCall:
        caller = self.fields.get("caller")
        return wire.FunctionCall(
            self.id,
            status,
            self.call_id,
            self.name,
            "" if status == "in_progress" else self.arguments,
            self.fields.get("namespace", UNSET),
            UNSET if caller is None else caller,
        )


class _Thought(Struct):
    id: str
    index: int
    block: int
    pieces: list[str] = field(default_factory=list)
    signature: str | None = None
    redacted: str | None = None

    def item(self, family: Family) -> wire.ReasoningItem:
        summary = [wire.SummaryText("".join(self.pieces))] if self.pieces else []
        return wire.ReasoningItem(self.id, summary, wrap(Proof(family, self.signature, self.redacted)))


_Open: TypeAlias = _Message | _Thought


class Output:
    """One response in the making. `items` are the ones that are over, by their index. Invariant: at most one of
    `_open` and the calls takes what comes next."""

    def __init__(self, name: str) -> None:
        """`name` makes the items' ids, which nobody else's are."""
        self.family: Family = "responses"
        self.items: dict[int, wire.Item] = {}
        self.warnings: list[Warned] = []
        self.sequence = 0
        self._name = name
        self._count = 0
        self._open: _Open | None = None
        self._calls: dict[int, _Call] = {}
        self._over: set[int] = set()

    def number(self) -> int:
        """The next event's."""
        self.sequence += 1
        return self.sequence - 1

    @property
    def text_head(self) -> tuple[str, int, int] | None:
        """Where more text goes, if a text is open: the item's id, its index and the part's."""
        message = self._open
        if not isinstance(message, _Message) or not message.parts:
            return None
        last = message.parts[-1]
        if last.is_refusal or last.annotations or last.logprobs:
            return None
        return message.id, message.index, len(message.parts) - 1

    def more_text(self, text: str) -> int:
        """Take a piece for the open text; the number of its event."""
        assert isinstance(self._open, _Message)
        self._open.parts[-1].pieces.append(text)
        return self.number()

    def take(self, event: Event) -> Iterator[wire.Event]:
        """What one event with content says."""
        match event:
            case TextDelta(text=text) if text:
                yield from self._say(text, is_refusal=False)
            case RefusalDelta(text=text) if text:
                yield from self._say(text, is_refusal=True)
            case ReasoningDelta():
                yield from self._think(event)
            case ToolCallDelta():
                yield from self._call(event)
            case OpaquePart(family="responses") | OpaquePart(kind="logprobs"):
                yield from self._opaque(event)
            case OpaquePart():
                why = f"a part of the answer that only {event.family}'s own format has a place for"
                self.warnings.append(Warned("dropped", event.kind, why))
            case _:
                pass

    def end(self, status: wire.Status = "completed") -> Iterator[wire.Event]:
        """The answer is over: what is open is closed, with `status` if it is a message."""
        yield from self._close(status)
        for number in sorted(self._calls):
            yield from self._close_call(number)

    # --- text ---------------------------------------------------------------------------------------------------------

    def _say(self, text: str, *, is_refusal: bool) -> Iterator[wire.Event]:
        message = self._open
        if not isinstance(message, _Message):
            yield from self._close()
            message = self._open = _Message(*self._place("msg"))
            yield self._added(message.index, message.item("in_progress"))
        last = message.parts[-1] if message.parts else None
        if last is None or last.is_refusal != is_refusal or last.annotations:
            if last is not None:
                yield from self._close_part(message)
            last = _Part(is_refusal)
            message.parts.append(last)
            yield wire.PartAdded(**self._at_part(message), part=last.content(empty=True))
        last.pieces.append(text)
        make = wire.RefusalDelta if is_refusal else wire.TextDelta
        yield make(**self._at_part(message), delta=text)

    def _close_part(self, message: _Message) -> Iterator[wire.Event]:
        part = message.parts[-1]
        if part.is_refusal:
            yield wire.RefusalDone(**self._at_part(message), refusal="".join(part.pieces))
        else:
            yield wire.TextDone(**self._at_part(message), text="".join(part.pieces), logprobs=part.logprobs)
        yield wire.PartDone(**self._at_part(message), part=part.content())

    def _at_part(self, message: _Message) -> dict[str, Any]:
        return self._at(message) | {"content_index": len(message.parts) - 1}

    # --- thinking -----------------------------------------------------------------------------------------------------

    def _think(self, event: ReasoningDelta) -> Iterator[wire.Event]:
        thought = self._open
        if not isinstance(thought, _Thought) or thought.block != event.block:
            yield from self._close()
            thought = self._open = _Thought(*self._place("rs"), event.block)
            yield self._added(thought.index, wire.ReasoningItem(thought.id, []))
        if event.text:
            if not thought.pieces:
                yield wire.SummaryPartAdded(**self._at(thought), summary_index=0, part=wire.SummaryText(""))
            thought.pieces.append(event.text)
            yield wire.SummaryDelta(**self._at(thought), summary_index=0, delta=event.text)
        if event.signature is not None:
            thought.signature = (thought.signature or "") + event.signature
        thought.redacted = event.redacted or thought.redacted

    # --- calls --------------------------------------------------------------------------------------------------------

    def _call(self, event: ToolCallDelta) -> Iterator[wire.Event]:
        if event.index in self._over:
            return
        call = self._calls.get(event.index)
        if call is None:
            yield from self._close()
            item_id, index = self._place("fc")
            call = _Call(item_id, index, event.id or f"call_{self._name}_{event.index}", event.name or "")
            self._calls[event.index] = call
            yield self._added(index, call.item("in_progress"))
        if event.arguments:
            call.pieces.append(event.arguments)
            yield wire.ArgumentsDelta(**self._at(call), delta=event.arguments)

    def _close_call(self, number: int) -> Iterator[wire.Event]:
        call = self._calls.pop(number)
        self._over.add(number)
        yield wire.ArgumentsDone(**self._at(call), name=call.name, arguments=call.arguments)
        yield self._done(call.index, call.item("completed"))

    # --- what only this API has ---------------------------------------------------------------------------------------

    def _opaque(self, event: OpaquePart) -> Iterator[wire.Event]:
        if event.kind == ITEM:
            yield from self._besides(_FIELDS.decode(event.json))
        elif event.kind in (ANNOTATION, LOGPROBS):
            message = self._open
            if isinstance(message, _Message) and not (part := message.parts[-1]).is_refusal:
                if event.kind == LOGPROBS:
                    part.logprobs += _logprobs(event.json)
                    return
                part.annotations.append(raw := Raw(event.json.encode()))
                place = self._at_part(message) | {"annotation_index": len(part.annotations) - 1}
                yield wire.AnnotationAdded(**place, annotation=raw)
        else:
            yield from self._close()
            raw = Raw(event.json.encode())
            _, index = self._place("")
            yield self._added(index, raw)
            yield self._done(index, raw)

    def _besides(self, fields: dict[str, Any]) -> Iterator[wire.Event]:
        """More of the message or call before it, which is over with it."""
        if isinstance(self._open, _Message):
            self._open.phase = fields.get("phase")
            yield from self._close()
            return
        for number, call in [*self._calls.items()]:
            if call.call_id == fields.get("call_id"):
                call.fields = fields
                yield from self._close_call(number)

    # --- the frame of an item -----------------------------------------------------------------------------------------

    def _close(self, status: wire.Status = "completed") -> Iterator[wire.Event]:
        """Close what is over when something else begins."""
        opened, self._open = self._open, None
        match opened:
            case _Message():
                yield from self._close_part(opened)
                yield self._done(opened.index, opened.item(status))
            case _Thought():
                if opened.pieces:
                    place = self._at(opened)
                    text = "".join(opened.pieces)
                    yield wire.SummaryDone(**place, summary_index=0, text=text)
                    place = self._at(opened)
                    yield wire.SummaryPartDone(**place, summary_index=0, part=wire.SummaryText(text))
                yield self._done(opened.index, opened.item(self.family))
            case None:
                for number in [number for number, call in self._calls.items() if _is_whole(call)]:
                    yield from self._close_call(number)

    def _place(self, kind: str) -> tuple[str, int]:
        index = self._count
        self._count += 1
        return f"{kind}_{self._name}_{index}", index

    def _at(self, item: _Message | _Thought | _Call) -> dict[str, Any]:
        return {"sequence_number": self.number(), "item_id": item.id, "output_index": item.index}

    def _added(self, index: int, item: wire.Item) -> wire.Event:
        return wire.ItemAdded(sequence_number=self.number(), output_index=index, item=item)

    def _done(self, index: int, item: wire.Item) -> wire.Event:
        self.items[index] = item
        return wire.ItemDone(sequence_number=self.number(), output_index=index, item=item)


def _logprobs(json: str) -> list[Raw]:
    """Those of a text. Chat Completions has them under `content`, and everybody says them in one of the two forms."""
    said = _LOGPROBS.decode(json)
    return said if isinstance(said, list) else said.get("content") or []


def _is_whole(call: _Call) -> bool:
    """Whether the arguments are a JSON object. Looked at only when they end like one."""
    if not call.pieces or not call.pieces[-1].rstrip().endswith("}"):
        return False
    try:
        _OBJECT.decode(call.arguments)
    except (DecodeError, RecursionError):
        return False
    return True
