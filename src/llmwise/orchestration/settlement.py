"""The account of a request: every attempt settled exactly once, whatever its end, and then the request itself.

What an end costs when the provider reported no usage, and who bears it:

    outcome         tokens when none were reported   borne by
    complete        estimated                        the caller
    client_gone     estimated, from what was sent    the caller
    cut             estimated, from what came        the gateway's operator: the caller has half an answer
    timeout         none                             the operator
    provider_error  none                             nobody
    rejected        none                             nobody
    skipped         none                             nobody

Reported usage is always booked: the provider will bill it. What was reported of an answer that broke off is made up to
what came of it.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from llmwise.catalog.cost import cost, estimate_tokens
from llmwise.domain.errors import DeadlineExceeded, GatewayError, UpstreamCut, UpstreamTimeout
from llmwise.domain.events import (
    AttemptEvent,
    Finished,
    ReasoningDelta,
    RefusalDelta,
    Routed,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
    Warned,
)
from llmwise.domain.ids import RequestId, attempt_id
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import Plan
from llmwise.domain.ports import Clock, Recorder
from llmwise.domain.records import AttemptRecord, Mode, Outcome, RequestRecord
from llmwise.domain.requests import ChatRequest, Dialect
from llmwise.domain.usage import TokenUsage

Payer: TypeAlias = Literal["caller", "operator", "nobody"]

CLIENT_GONE_STATUS = 499
"""What the record says when the caller left before the end (nginx's convention)."""

MAX_KEPT_CHARS = 32_768
"""Of a prompt's and an answer's text, this much is kept in the history."""

NOTHING = TokenUsage()


RateOf: TypeAlias = Callable[[ModelCard, int], Rate | None]
"""A model's price at a time (Unix ms): some change by date, DeepSeek's by the hour."""


class Terms(Struct, frozen=True):
    """How one outcome is settled: is unreported usage estimated, and who bears the cost."""

    estimate: bool
    payer: Payer


TERMS: Mapping[Outcome, Terms] = {
    "complete": Terms(estimate=True, payer="caller"),
    "client_gone": Terms(estimate=True, payer="caller"),
    "cut": Terms(estimate=True, payer="operator"),
    "timeout": Terms(estimate=False, payer="operator"),
    "provider_error": Terms(estimate=False, payer="nobody"),
    "rejected": Terms(estimate=False, payer="nobody"),
    "skipped": Terms(estimate=False, payer="nobody"),
}


def outcome_of(error: GatewayError) -> Outcome:
    """How an attempt that failed with `error` ended."""
    if isinstance(error, UpstreamCut):
        return "cut"
    if isinstance(error, UpstreamTimeout | DeadlineExceeded):
        return "timeout"
    return "rejected" if error.caller_fault else "provider_error"


class Attempt:
    """One attempt under way: what its events have said so far. Settled exactly once."""

    __slots__ = (
        "answered_model",
        "card",
        "finish",
        "number",
        "pieces",
        "probe",
        "sent",
        "started",
        "started_at_ms",
        "tool_chars",
        "ttft_ms",
        "usage",
    )

    def __init__(self, card: ModelCard, number: int, probe: int, started: float, started_at_ms: int) -> None:
        self.card = card
        self.number = number
        self.probe = probe
        self.started = started
        self.started_at_ms = started_at_ms
        self.answered_model: str | None = None
        self.sent = False  # the provider may have heard of it
        self.usage: TokenUsage | None = None
        self.ttft_ms: int | None = None
        self.finish: Finished | None = None
        self.pieces: list[str] = []
        self.tool_chars = 0

    @property
    def written(self) -> int:
        """About how many tokens of the answer have come."""
        return estimate_tokens("".join(self.pieces)) + self.tool_chars // 4

    def observe(self, event: AttemptEvent) -> None:
        """Take note of an event that passes."""
        kind = type(event)
        if kind is TextDelta or kind is RefusalDelta:
            self.pieces.append(event.text)  # type: ignore[union-attr]  # told apart by `kind`, which is faster
        elif isinstance(event, UsageReport):
            self.usage = event.usage
        elif isinstance(event, Finished):
            self.finish = event
        elif isinstance(event, Started):
            self.answered_model = event.model
        elif isinstance(event, ToolCallDelta):
            self.tool_chars += len(event.arguments)
        elif isinstance(event, ReasoningDelta):
            self.tool_chars += len(event.text)


class Ledger:
    """The account of one request. `open` starts an attempt, `settle` ends it, `close` ends the request and hands its
    records over; a second `settle` of an attempt or a second `close` is a defect and raises."""

    def __init__(
        self,
        *,
        id: RequestId,
        key_id: str,
        request: ChatRequest,
        plan: Plan,
        dialect: Dialect,
        rate_of: RateOf,
        clock: Clock,
        recorder: Recorder,
        mode: Mode = "chat",
        keep_text: bool = True,
    ) -> None:
        self.id = id
        self.key_id = key_id
        self.request = request
        self.plan = plan
        self.dialect = dialect
        self.rate_of = rate_of
        self.clock = clock
        self.mode = mode
        self.steps: list[Routed] = []
        self.warnings: list[Warned] = []
        self.started = clock.monotonic()
        self.created_at_ms = clock.unix_ms()
        self.final: AttemptRecord | None = None
        self.record: RequestRecord | None = None
        self._recorder = recorder
        self._keep_text = keep_text
        self._settled: list[AttemptRecord] = []
        self._open: Attempt | None = None
        self._answer: list[str] = []

    def elapsed_ms(self) -> int:
        """Whole milliseconds since the request began."""
        return int((self.clock.monotonic() - self.started) * 1000)

    def open(self, card: ModelCard, probe: int) -> Attempt:
        assert self._open is None, "an attempt is still open"
        now = self.clock.monotonic()
        self._open = Attempt(card, len(self._settled), probe, now, self.clock.unix_ms())
        return self._open

    def settle(self, attempt: Attempt, outcome: Outcome, error: GatewayError | None = None) -> AttemptRecord:
        """Book the attempt's end. The final attempt, complete or not, is the one whose model the record names."""
        assert self._open is attempt, "an attempt is settled once"
        self._open = None
        usage = attempt.usage
        if usage is None:
            usage = self._estimate(attempt) if TERMS[outcome].estimate else NOTHING
        elif attempt.finish is None and TERMS[outcome].estimate:
            usage = _at_least(usage, attempt.written)
        card = attempt.card
        finish = attempt.finish
        record = AttemptRecord(
            attempt_id(self.id, attempt.number),
            self.id,
            attempt.number,
            card.id,
            card.provider,
            card.upstream,
            attempt.answered_model,
            outcome,
            error.code if error is not None else None,
            error.upstream_status if error is not None else None,
            attempt.started_at_ms,
            int((self.clock.monotonic() - attempt.started) * 1000),
            attempt.ttft_ms,
            usage.input,
            usage.cache_read,
            usage.cache_write_5m + usage.cache_write_1h,
            usage.output,
            usage.reasoning,
            usage.estimated,
            0 if usage is NOTHING else cost(usage, self.rate_of(card, attempt.started_at_ms)),
            finish.reason if finish is not None else None,
        )
        self._settled.append(record)
        self._answer = attempt.pieces
        self.final = record
        return record

    def close(self, status: int, code: str | None = None) -> RequestRecord:
        """End the request with the HTTP status that its caller got, and hand the records over."""
        assert self.record is None, "a request is closed once"
        assert self._open is None, "an attempt is still open"
        settled, final, auto = self._settled, self.final, self.plan.auto
        one = settled[0] if len(settled) == 1 else None
        costs = [a.cost_nanousd for a in settled if a.outcome == "complete" or _used(a)]
        request = self.request
        self.record = RequestRecord(
            self.id,
            self.key_id,
            self.created_at_ms,
            self.mode,
            self.dialect,
            request.stream,
            request.model,
            final.model if final is not None else None,
            final.provider if final is not None else None,
            status,
            code,
            final.finish_reason if final is not None else None,
            len(settled),
            self.elapsed_ms(),
            final.started_at_ms - self.created_at_ms + final.ttft_ms
            if final is not None and final.ttft_ms is not None
            else None,
            one.input_tokens if one else sum(a.input_tokens for a in settled),
            one.cache_read_tokens if one else sum(a.cache_read_tokens for a in settled),
            one.cache_write_tokens if one else sum(a.cache_write_tokens for a in settled),
            one.output_tokens if one else sum(a.output_tokens for a in settled),
            one.reasoning_tokens if one else sum(a.reasoning_tokens for a in settled),
            one.usage_estimated if one else any(a.usage_estimated for a in settled),
            None if None in costs else sum(c for c in costs if c is not None),
            auto.task_type if auto is not None else None,
            auto.confidence if auto is not None else None,
            auto.strategy if auto is not None else None,
            auto.goal if auto is not None else request.goal,
            request.conversation_id,
            encode(self.steps).decode() if len(self.steps) > 1 else None,
            encode(self.warnings).decode() if self.warnings else None,
            _last_words(request) if self._keep_text else None,
            "".join(self._answer)[:MAX_KEPT_CHARS] if self._keep_text else None,
        )
        self._recorder.record(self.record, settled)
        return self.record

    def _estimate(self, attempt: Attempt) -> TokenUsage:
        prompt = sum(estimate_tokens(message.text) + 4 for message in self.request.messages)
        return TokenUsage(input=prompt, output=attempt.written, estimated=True)


def _at_least(usage: TokenUsage, written: int) -> TokenUsage:
    """What a provider reported before an answer broke off (Anthropic: the prompt, and one token) may lag behind what
    came of the answer."""
    return usage if usage.output >= written else replace(usage, output=written, estimated=True)


def _used(attempt: AttemptRecord) -> bool:
    return bool(
        attempt.input_tokens or attempt.cache_read_tokens or attempt.cache_write_tokens or attempt.output_tokens
    )


def _last_words(request: ChatRequest) -> str | None:
    """What the history shows of the question: the last message of the user."""
    for message in reversed(request.messages):
        if message.role == "user":
            return message.text[:MAX_KEPT_CHARS]
    return None
