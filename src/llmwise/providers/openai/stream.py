"""Answers of the OpenAI format to events: a pure state machine, the same for a stream and for a whole answer.

Laws: the events don't depend on how the bytes were cut. They keep the grammar of `domain.events`. Nothing is lost
without a `Warned`, and a failure comes after the events that came before it.

What ends an answer. The reason to stop may come before the last text (some vendors repeat it in every chunk), twice
(OpenRouter) or before an error, so `Finished` waits for `[DONE]` or the end of the body. A reason without `[DONE]` is a
complete answer: several servers leave `[DONE]` out. `[DONE]` without a reason is one too, with the reason unknown,
because the sender says itself that it is through; without any content it is not, and another attempt loses nothing. A
body that ends with neither is cut.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from msgspec import UNSET, DecodeError
from msgspec.json import decode as decode_json
from msgspec.json import encode as encode_json
from msgspec.structs import replace

from llmwise.domain.errors import UpstreamCut, UpstreamInvalid
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
from llmwise.providers.frames import Answer, FrameStream
from llmwise.wire.openai import (
    RECEIVED,
    ContentPart,
    ReasoningDetail,
    Received,
    ReceivedChoice,
    ReceivedMessage,
    ReceivedToolCall,
    Usage,
)

FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "model_length": "length",  # Mistral: the context is full
    "model_context_window_exceeded": "length",  # Z.ai
    "sensitive": "content_filter",  # Z.ai
    "eos": "stop",  # Together
    "end_turn": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
}
"""Words of https://platform.openai.com/docs/api-reference/chat/object, https://docs.mistral.ai/api,
https://docs.z.ai/api-reference/llm/chat-completion and https://docs.together.ai (2026-11-22)."""

DOCUMENTED_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})

BROKEN_OFF: Final = frozenset({"error", "network_error", "insufficient_system_resource", "abort"})
"""Reasons that are failures: OpenRouter and Mistral, Z.ai, DeepSeek (https://api-docs.deepseek.com/api/create-chat-
completion), vLLM (2026-11-22)."""


def decode(body: bytes, *, verbatim: bool = False) -> list[AttemptEvent]:
    """A whole answer. Raises `UpstreamInvalid`, or what an error inside a 200 stands for."""
    answer = _Answer()
    events: list[AttemptEvent] = []
    received = answer.read(body, events)
    if not received.choices:
        raise UpstreamInvalid("an answer without choices")
    answer.close(events)
    if not verbatim or not _is_completion(received):
        return events
    return [Verbatim(body if received.choices[0].logprobs is not UNSET else _mended(body), tuple(events))]


def decoder(*, verbatim: bool = False) -> FrameStream:
    """A decoder for one streamed answer."""
    return _TextStream(_Answer(keep_last=verbatim), verbatim=verbatim)


_CONTENT: Final = re.compile(rb'^data: [^\n]*?"content": ?"([^"\\\n]+)"')


class _TextStream(FrameStream):
    """Reads most frames without parsing them.

    The chunks of one answer differ in their text and in nothing else. So the bytes around the text of a chunk that was
    parsed and said nothing but that text are kept, and a read that is these bytes around another plain text says
    nothing else either. Plain is text without a quote, a backslash or a line's end. Anything else is parsed.
    """

    def __init__(self, answer: Answer, *, verbatim: bool) -> None:
        super().__init__(answer, verbatim=verbatim)
        self._passes = verbatim
        self._before = b""
        self._after = b""

    def feed(self, data: bytes) -> list[AttemptEvent]:
        before, after = self._before, self._after
        if before and self.failure is None and data.startswith(before) and data.endswith(after):
            text = data[len(before) : -len(after)]
            plain = len(data) > len(before) + len(after) and not (b'"' in text or b"\\" in text or b"\n" in text)
            if plain and self._sse.between_frames:
                try:
                    delta = TextDelta(text.decode())
                    return [Verbatim(data, (delta,))] if self._passes else [delta]
                except UnicodeDecodeError:
                    pass  # parsed, it fails as it should
        fresh = self._sse.between_frames
        events = super().feed(data)
        if fresh and len(events) == 1 and self.failure is None:
            said: Sequence[AttemptEvent] = events
            if self._passes:
                said = events[0].said if type(events[0]) is Verbatim else ()
            if len(said) == 1 and type(event := said[0]) is TextDelta:
                found = _CONTENT.match(data)
                if found is not None and found[1].decode() == event.text and _is_one_frame(data):
                    self._before, self._after = data[: found.start(1)], data[found.end(1) :]
        return events


def _is_one_frame(data: bytes) -> bool:
    return data.endswith(b"\n\n") and data.find(b"\n") == len(data) - 2


class _Call:
    """A tool call in the making. It gets its `index` when its name is known: until then its fragments are held."""

    __slots__ = ("custom", "given_id", "has_arguments", "held", "index")

    def __init__(self) -> None:
        self.index: int | None = None
        self.given_id: str | None = None
        self.held = ""
        self.has_arguments = False
        self.custom = False


class _Answer:
    """What has been said so far. `_calls` finds a call by the vendor's index, `_order` has them as they came."""

    def __init__(self, *, keep_last: bool = False) -> None:
        self._keep_last = keep_last
        self._raw_reason: str | None = None
        self._finish_frame: bytes | None = None
        self._usage_frame: bytes | None = None
        self._is_documented = False  # what every chunk must have, the first one had
        self._started = False
        self._spoke = False
        self._closed = False
        self._calls: dict[int, _Call] = {}
        self._order: list[_Call] = []
        self._opened = 0
        self._blocks: dict[tuple[str, int | None], int] = {}
        self._proved: set[int] = set()
        self._warned: set[str] = set()
        self._seed = b""

    def frame(self, data: bytes, events: list[AttemptEvent]) -> bool:
        if self._closed:
            return False  # nothing counts after [DONE]
        if data != b"[DONE]":
            if not data:
                return False
            received = self.read(data, events)
            return self._keep_last and self._passes(received, data, events)
        if not self._spoke and self._raw_reason is None:
            raise UpstreamCut("the stream ended before it began")
        self.close(events)
        return False

    def end(self, events: list[AttemptEvent]) -> None:
        if self._closed:
            return
        if self._raw_reason is None:
            raise UpstreamCut("the stream ended without a reason to stop")
        self.close(events)

    def read(self, data: bytes, events: list[AttemptEvent]) -> Received:
        """Append the events of a chunk or of a whole answer."""
        try:
            received = RECEIVED.decode(data)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UpstreamInvalid(f"not a chat completion: {error}") from error
        if not self._started:
            self._start(received, data, events)
        choices = received.choices
        if received.error is not None or (choices is None and received.object == "error"):
            raise from_event(data)
        if choices:
            for choice in choices:
                if choice.index:
                    self._warn("n", "only the first of several answers is passed on", events)
                else:
                    self._choice(choice, events)
        if received.usage is not None:
            _report(received.usage, events)
        elif received.x_groq is not None:
            if received.x_groq.error is not None:
                raise from_event(encode_json({"error": {"message": received.x_groq.error}}))
            if received.x_groq.usage is not None:
                _report(received.x_groq.usage, events)
        return received

    def _passes(self, received: Received, data: bytes, events: list[AttemptEvent]) -> bool:
        """Whether a chunk can go on as it is. The last ones are kept: an answer that says it is finished must not fail
        after that, and usage is only for who asked for it."""
        choices = received.choices
        if not self._is_documented or choices is None:
            return False
        if not choices:
            if received.usage is not None:
                self._usage_frame = data.replace(b"\n", b" ")  # it is written again, as one line
            return False
        choice = choices[0]
        if len(choices) > 1 or choice.index != 0 or choice.delta is None or received.usage is not None:
            return False
        if choice.finish_reason:
            if not events and choice.finish_reason in DOCUMENTED_REASONS:
                self._finish_frame = data.replace(b"\n", b" ")
            return False
        return type(choice.delta.content) is not list and all(map(self._is_ours, choice.delta.tool_calls or ()))

    def _is_ours(self, fragment: ReceivedToolCall) -> bool:
        """Whether the fragment's index and id are the ones that we give the call."""
        call = self._calls.get(fragment.index) if fragment.index is not None else None
        return call is not None and call.index == fragment.index and call.given_id is not None

    def close(self, events: list[AttemptEvent]) -> None:
        """The end, as the provider declared it."""
        self._closed = True
        for call in self._order:
            if call.index is None:
                raise UpstreamInvalid("a tool call without a name")
            if not call.has_arguments and not call.custom:
                events.append(ToolCallDelta(call.index, arguments="{}"))
        raw = self._raw_reason
        reason = "unknown" if raw is None else FINISH_REASONS.get(raw, "unknown")
        if reason == "unknown":
            said = "no reason to stop" if raw is None else f"an unknown reason to stop: {raw[:40]!r}"
            self._warn("finish_reason", f"the provider gave {said}", events, code="unknown")
        elif reason == "stop" and self._order:
            reason = "tool_calls"  # what OpenAI says after a forced call, and some vendors after every one
        events.append(Finished(reason, raw, None, self._finish_frame, self._usage_frame))

    def _start(self, received: Received, data: bytes, events: list[AttemptEvent]) -> None:
        self._started = True
        self._seed = data
        self._is_documented = _is_chunk(received)
        if received.id or received.model:
            events.append(Started(received.id or None, received.model or None))

    def _choice(self, choice: ReceivedChoice, events: list[AttemptEvent]) -> None:
        if choice.error is not None:
            raise from_event(encode_json({"error": choice.error}))
        message = choice.delta or choice.message
        if message is not None:
            before = len(events)
            content = message.content
            if message.reasoning_content or message.reasoning or message.reasoning_details:
                self._reasoning(message, events)
            if content:
                if type(content) is str:
                    events.append(TextDelta(content))
                elif type(content) is list:
                    self._parts(content, events)
            if message.refusal:
                events.append(RefusalDelta(message.refusal))
            if message.tool_calls:
                for fragment in message.tool_calls:
                    self._fragment(fragment, events)
            if message.annotations or message.audio or message.images or message.executed_tools:
                for kind in ("annotations", "audio", "images", "executed_tools"):
                    _opaque(kind, getattr(message, kind), events)
            if len(events) > before:
                self._spoke = True
        if choice.logprobs:
            _opaque("logprobs", choice.logprobs, events)
        if choice.finish_reason:
            if choice.finish_reason in BROKEN_OFF:
                reason = {"message": f"the answer was broken off: {choice.finish_reason}", "type": "server_error"}
                raise from_event(encode_json({"error": reason}))
            self._raw_reason = choice.finish_reason
        if choice.usage is not None:
            _report(choice.usage, events)

    def _parts(self, parts: list[ContentPart], events: list[AttemptEvent]) -> None:
        """Content as a list: Mistral's thinking and text."""
        for part in parts:
            if part.type == "thinking":
                chunks = part.thinking
                text = chunks if isinstance(chunks, str) else "".join(chunk.text or "" for chunk in chunks or ())
                if text:
                    events.append(ReasoningDelta(text))
            elif part.text:
                events.append(TextDelta(part.text))
            elif part.refusal:
                events.append(RefusalDelta(part.refusal))
            elif part.type not in ("text", "refusal"):
                self._warn(f"content.{part.type}", "a part of the answer that has no place here", events)

    def _reasoning(self, message: ReceivedMessage, events: list[AttemptEvent]) -> None:
        """`reasoning` repeats the text of `reasoning_details`, and `reasoning_content` that of `reasoning`: each word
        is passed on once."""
        before = len(events)
        for detail in message.reasoning_details or ():
            self._detail(detail, events)
        if not any(type(event) is ReasoningDelta and event.text for event in events[before:]):
            text = message.reasoning_content or message.reasoning
            if text:
                events.insert(before, ReasoningDelta(text, block=self._block("", None)))

    def _detail(self, detail: ReasoningDetail, events: list[AttemptEvent]) -> None:
        """A piece of `reasoning_details`. What has to go back with it, id, format and signature, is its proof: the
        detail itself, as JSON, without the text."""
        block = self._block(detail.type, detail.index)
        text = detail.text or detail.summary
        if text:
            events.append(ReasoningDelta(text, block=block))
        if detail.data:
            events.append(ReasoningDelta(redacted=_proof(detail), block=block))
        elif detail.signature or (detail.summary and block not in self._proved):
            self._proved.add(block)
            events.append(ReasoningDelta(signature=_proof(detail), block=block))

    def _block(self, kind: str, index: int | None) -> int:
        return self._blocks.setdefault((kind, index), len(self._blocks))

    def _fragment(self, fragment: ReceivedToolCall, events: list[AttemptEvent]) -> None:
        function = fragment.function
        name = function.name if function is not None else None
        arguments = function.arguments if function is not None else None
        if arguments is None:
            arguments = ""
        elif isinstance(arguments, dict):
            arguments = encode_json(arguments).decode()
        custom = fragment.custom
        if custom is not None:
            name, arguments = custom.name, custom.input or ""
        call = self._call(fragment, name)
        call.custom = call.custom or custom is not None
        if arguments:
            call.has_arguments = True
        if call.index is not None:
            if arguments:
                events.append(ToolCallDelta(call.index, arguments=arguments, custom=call.custom))
            return
        call.given_id = call.given_id or fragment.id or None
        call.held += arguments
        if name:
            call.index = self._opened
            self._opened += 1
            given_id = call.given_id or self._mint(call.index)
            events.append(ToolCallDelta(call.index, given_id, name, call.held, custom=call.custom))

    def _call(self, fragment: ReceivedToolCall, name: str | None) -> _Call:
        """The call that a fragment belongs to. The index says it; without one the id; without both a name opens a call
        and anything else continues the last. An id that changes together with a name is another call, whatever the
        index: Gemini's compatible endpoint numbers parallel calls 0, 0, 0. An id that changes alone is not (vLLM
        minted one for each fragment: https://github.com/vllm-project/vllm/issues/9019, 2026-11-22)."""
        key = fragment.index
        if key is None:
            for call in self._order:
                if fragment.id and call.given_id == fragment.id:
                    return call
            if self._order and not fragment.id and not name:
                return self._order[-1]
            key = -1 - len(self._order)
        known = self._calls.get(key)
        if known is not None and not (
            fragment.id and name and known.index is not None and fragment.id != known.given_id
        ):
            return known
        call = self._calls[key] = _Call()
        self._order.append(call)
        return call

    def _mint(self, index: int) -> str:
        """An id where the vendor gives none. Made from the answer's first bytes, so that it is the same however the
        stream was cut, and another one in the next answer."""
        return "call_" + blake2b(self._seed + b"%d" % index, digest_size=12).hexdigest()

    def _warn(self, field: str, message: str, events: list[AttemptEvent], code: str = "dropped") -> None:
        if field not in self._warned:
            self._warned.add(field)
            events.append(Warned(code, field, message))


def _is_chunk(received: Received) -> bool:
    return received.object == "chat.completion.chunk" and _is_signed(received)


def _is_signed(received: Received) -> bool:
    return bool(received.id and received.model) and type(received.created) is int


def _is_completion(received: Received) -> bool:
    """Whether a whole answer has what the documentation says that it always has, and one choice. `logprobs` may be
    missing: OpenAI leaves it out itself since GPT-5."""
    choices = received.choices or []
    return (
        received.object == "chat.completion"
        and _is_signed(received)
        and received.llmwise is UNSET  # another gateway's account would stand beside ours
        and len(choices) == 1
        and choices[0].finish_reason in DOCUMENTED_REASONS
        and choices[0].message is not None
        and choices[0].message.refusal is not UNSET
        and type(choices[0].message.content) is not list
        and all(call.id for call in choices[0].message.tool_calls or ())
    )


def _mended(body: bytes) -> bytes:
    completion = decode_json(body)
    completion["choices"][0]["logprobs"] = None
    return encode_json(completion)


def _proof(detail: ReasoningDetail) -> str:
    return encode_json(replace(detail, text=None, summary=None)).decode()


def _opaque(kind: str, value: Any, events: list[AttemptEvent]) -> None:
    if value:
        events.append(OpaquePart("openai", kind, encode_json(value).decode()))


def _report(usage: Usage, events: list[AttemptEvent]) -> None:
    tokens = token_usage(usage)
    if tokens is not None:
        events.append(UsageReport(tokens))


def token_usage(usage: Usage) -> TokenUsage | None:
    """The buckets of a report; `None` if it reports nothing.

    Cached tokens and cache writes lie inside `prompt_tokens`. Where they overlap (OpenRouter counts what Gemini writes
    and at once reads in both) a read is a read. xAI counts thinking beside `completion_tokens`, all others inside: the
    total says which (https://docs.x.ai/docs/guides/reasoning, 2026-11-22).
    """
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if prompt is None and completion is None:
        return None
    prompt = prompt or 0
    completion = completion or 0
    details = usage.prompt_tokens_details
    cached = details.cached_tokens if details is not None else None
    for other in (usage.prompt_cache_hit_tokens, usage.num_cached_tokens, usage.cached_tokens):
        cached = other if cached is None else cached
    read = min(cached or 0, prompt)
    written = min((details.cache_write_tokens if details is not None else None) or 0, prompt - read)
    thinking = usage.completion_tokens_details
    reasoning = (thinking.reasoning_tokens if thinking is not None else None) or 0
    if reasoning and usage.total_tokens == prompt + completion + reasoning:
        completion += reasoning
    return TokenUsage.reported(
        input=prompt - read - written,
        cache_read=read,
        cache_write_5m=written,
        output=completion,
        reasoning=min(reasoning, completion),
    )
