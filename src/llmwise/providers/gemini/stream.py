"""Gemini's answers to events: a pure state machine, fed by a stream or by one whole body.

A stream is a sequence of whole responses, each with new parts, and has no terminal frame: the answer is complete when
some chunk gave a finish reason and the body ended. `Finished` waits for that end, because a finish reason is not
always on the last chunk (Gemini 1.5 put one on each), and a function call may still follow that turns `STOP` into
`tool_calls`. A stream without any finish reason was cut.

Function calls come whole, one part each, mostly without an id: ids are minted from the answer's own id and the call's
number, so they are the same on each reading and differ between the turns of a conversation.
"""

from hashlib import sha256

from msgspec import DecodeError, Raw, UnsetType
from msgspec.json import Decoder, encode

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
    Warned,
)
from llmwise.domain.usage import TokenUsage
from llmwise.providers.failures import from_event
from llmwise.providers.frames import FrameStream
from llmwise.wire import gemini as wire

FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "ESCALATION": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
"""https://ai.google.dev/api/generate-content#FinishReason and the discovery document of Vertex AI (2026-11-22).
`MALFORMED_FUNCTION_CALL`, `UNEXPECTED_TOOL_CALL`, `OTHER` and the like are left to `unknown` on purpose: the model did
not do what it set out to, so neither `stop` nor `tool_calls` would be true; the warning says what happened."""

_NOTHING = (b"", b"{}", b"null")
_RESPONSE = Decoder(wire.GenerateContentResponse)
_PART = Decoder(wire.AnsweredPart)
_FIELDS = Decoder(dict[str, Raw])


def decoder() -> FrameStream:
    """A decoder for one streamed answer."""
    return FrameStream(_Reading())


def decode(body: bytes) -> list[AttemptEvent]:
    """A whole answer as the events of a stream. Raises `UpstreamInvalid`, or the error that the body reports."""
    reading = _Reading()
    events: list[AttemptEvent] = []
    try:
        reading.frame(body, events)
    except UnicodeDecodeError as error:
        raise UpstreamInvalid(f"the answer can't be read: {error}") from error
    if not reading.finished:
        raise UpstreamInvalid("the answer has no finish reason")
    reading.end(events)
    return events


class _Reading:
    """One answer. `_sources` are what grounds it, by the field of the candidate: the last of each kind counts.
    `_seed` makes the ids of its calls; `_thought` tells whether the last part was a thought, which the
    next one would continue."""

    def __init__(self) -> None:
        self._started = False
        self._seed = ""
        self._calls = 0
        self._thoughts = 0
        self._thought = False
        self._reason: str | None = None
        self._message: str | None = None
        self._blocked = False
        self._sources: dict[str, str] = {}

    @property
    def finished(self) -> bool:
        return self._reason is not None

    def frame(self, data: bytes, events: list[AttemptEvent]) -> bool:
        try:
            response = _RESPONSE.decode(data)
        except DecodeError as error:
            raise UpstreamInvalid(f"a frame of the answer can't be read: {error}") from error
        if response.error is not None:
            raise from_event(data)
        if not self._started:
            self._started = True
            self._seed = response.response_id or data.decode("utf-8", "replace")
            events.append(Started(response.response_id, response.model_version))
        for candidate in response.candidates or ():
            if candidate.index == 0:
                self._candidate(candidate, events)
        if response.prompt_feedback is not None and response.prompt_feedback.block_reason is not None:
            self._reason = response.prompt_feedback.block_reason
            self._message = response.prompt_feedback.block_reason_message
            self._blocked = True
        if response.usage_metadata is not None:
            usage = _account(response.usage_metadata)
            if usage is not None:
                events.append(UsageReport(usage))
        return False  # nobody asks the gateway in this format

    def end(self, events: list[AttemptEvent]) -> None:
        if self._reason is None:
            raise UpstreamCut("the stream ended without a finish reason")
        events += [OpaquePart("gemini", kind, text) for kind, text in self._sources.items()]
        reason = "content_filter" if self._blocked else FINISH_REASONS.get(self._reason, "unknown")
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        if reason == "unknown":
            said = f"Gemini stopped for {self._reason}" + (f": {self._message}" if self._message else "")
            events.append(Warned("unknown_finish_reason", "finish_reason", said))
        events.append(Finished(reason, self._reason))

    def _candidate(self, candidate: wire.Candidate, events: list[AttemptEvent]) -> None:
        if candidate.content is not None and candidate.content.parts:
            try:
                for raw in candidate.content.parts:
                    self._part(raw, events)
            except DecodeError as error:
                raise UpstreamInvalid(f"a part of the answer can't be read: {error}") from error
        if candidate.logprobs_result is not None and candidate.logprobs_result.chosen_candidates:
            events.append(OpaquePart("openai", "logprobs", _logprobs(candidate.logprobs_result)))
        for kind, raw in (
            ("groundingMetadata", candidate.grounding_metadata),
            ("citationMetadata", candidate.citation_metadata),
            ("urlContextMetadata", candidate.url_context_metadata),
        ):
            if bytes(raw) not in _NOTHING:
                self._sources[kind] = bytes(raw).decode()
        if candidate.finish_reason is not None:
            self._reason = candidate.finish_reason
            self._message = candidate.finish_message

    def _part(self, raw: Raw, events: list[AttemptEvent]) -> None:
        part = _PART.decode(raw)
        signature = part.thought_signature
        if part.text is not None:
            if part.thought:
                self._thinking(part.text, signature, events)
                return
            if part.text:
                self._thought = False
                events.append(TextDelta(part.text))
            if signature is not None:
                self._sign(signature, events)
        elif part.function_call is not None:
            self._call(part.function_call, signature, events)
        else:
            self._opaque(raw, signature, events)

    def _thinking(self, text: str, signature: str | None, events: list[AttemptEvent]) -> None:
        if not self._thought:
            self._thoughts += 1
            self._thought = True
        if text or signature is not None:
            events.append(ReasoningDelta(text, signature, block=self._thoughts - 1))
        if signature is not None:
            self._thought = False

    def _sign(self, signature: str, events: list[AttemptEvent]) -> None:
        """A signature on text has no thought of its own: it is a block that holds nothing else."""
        events.append(ReasoningDelta(signature=signature, block=self._thoughts))
        self._thoughts += 1
        self._thought = False

    def _call(self, call: wire.FunctionCall, signature: str | None, events: list[AttemptEvent]) -> None:
        self._thought = False
        number = self._calls
        self._calls += 1
        given = call.id if isinstance(call.id, str) and call.id else None
        arguments = "{}" if isinstance(call.args, UnsetType) else bytes(call.args).decode()
        events.append(ToolCallDelta(number, given or _minted(self._seed, number), call.name, arguments, signature))

    def _opaque(self, raw: Raw, signature: str | None, events: list[AttemptEvent]) -> None:
        kind = next((key for key in _FIELDS.decode(raw) if key not in ("thought", "thoughtSignature")), None)
        if kind is not None:
            self._thought = False
            events.append(OpaquePart("gemini", kind, bytes(raw).decode()))
        elif signature is not None:
            self._sign(signature, events)


def _minted(seed: str, number: int) -> str:
    return f"call_{number}_{sha256(seed.encode()).hexdigest()[:16]}"


def _account(usage: wire.UsageMetadata) -> TokenUsage | None:
    """Disjoint buckets: the prompt without what was cached, and with the results of server-side tools; the answer with
    its thinking. `None` when nothing was counted, which is not zero."""
    if usage.prompt_token_count is None and usage.candidates_token_count is None:
        return None
    cached = usage.cached_content_token_count or 0
    thoughts = usage.thoughts_token_count or 0
    return TokenUsage.reported(
        input=max(0, (usage.prompt_token_count or 0) - cached) + (usage.tool_use_prompt_token_count or 0),
        cache_read=cached,
        output=(usage.candidates_token_count or 0) + thoughts,
        reasoning=thoughts,
    )


def _logprobs(result: wire.LogprobsResult) -> str:
    """In OpenAI's form, the only dialect that shows them."""
    tops = result.top_candidates or []
    content = []
    for index, chosen in enumerate(result.chosen_candidates or ()):
        near = tops[index].candidates or [] if index < len(tops) else []
        content.append({**_logprob(chosen), "top_logprobs": [_logprob(one) for one in near]})
    return encode({"content": content, "refusal": None}).decode()


def _logprob(one: wire.LogprobCandidate) -> dict[str, object]:
    return {"token": one.token, "logprob": one.log_probability, "bytes": list(one.token.encode())}
