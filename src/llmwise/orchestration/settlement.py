"""The account of a request: every attempt settled exactly once, whatever its end, and then the request itself.

What an end costs when the provider reported no usage, and who bears it:

    outcome         tokens when none were reported   borne by
    complete        estimated                        the caller
    client_gone     estimated, from what was sent    the caller: it left, or had no time for the rest (`impatient`)
    cut             estimated, from what came        the gateway's operator: the caller has half an answer
    timeout         estimated, from what came, if    the operator: the provider said nothing (more) for too long
                    anything did
    provider_error  none                             nobody
    rejected        none                             nobody
    skipped         none                             nobody

Of a request to several models that all failed the caller bears nothing, and the operator what it would have.

Reported usage is always booked: the provider will bill it. What was reported of an answer that broke off is made up to
what came of it. An answer that the gateway itself breaks off, because it ends or because a time is up, is `cut`: the
provider was at work on it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from llmwise.catalog.cost import cost, estimate_tokens
from llmwise.domain.access import ProviderKey
from llmwise.domain.errors import DeadlineExceeded, GatewayError, ShuttingDown, UpstreamCut, UpstreamTimeout
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
from llmwise.domain.plan import Insight, Plan
from llmwise.domain.ports import Clock, Recorder, Reservation
from llmwise.domain.records import Admission, AttemptRecord, LedgerEntry, Mode, Outcome, RequestRecord
from llmwise.domain.requests import ChatRequest, Dialect, Request
from llmwise.domain.usage import TokenUsage
from llmwise.orchestration.checks import checks
from llmwise.orchestration.handling import NOTHING_RECALLED, PLAIN, Handling, Recall

Payer: TypeAlias = Literal["caller", "operator", "nobody"]

CLIENT_GONE_STATUS = 499
"""What the record says when the caller left before the end (nginx's convention)."""

MAX_KEPT_CHARS = 32_768
"""Of a prompt's and an answer's text, this much is kept in the history."""

ALL_FAILED = "all_failed"
"""The code of a request to several models that none answered."""

NOTHING = TokenUsage()


RateOf: TypeAlias = Callable[[ModelCard, int], Rate | None]
"""A model's price at a time (Unix ms): some change by date, DeepSeek's by the hour."""

FREE = Rate(0, 0)


class Terms(Struct, frozen=True):
    """How one outcome is settled: when is unreported usage estimated (`begun`: once some of the answer has come), and
    who bears the cost."""

    estimate: Literal["always", "begun", "never"]
    payer: Payer


TERMS: Mapping[Outcome, Terms] = {
    "complete": Terms(estimate="always", payer="caller"),
    "client_gone": Terms(estimate="always", payer="caller"),
    "cut": Terms(estimate="always", payer="operator"),
    "timeout": Terms(estimate="begun", payer="operator"),
    "provider_error": Terms(estimate="never", payer="nobody"),
    "rejected": Terms(estimate="never", payer="nobody"),
    "skipped": Terms(estimate="never", payer="nobody"),
}


def outcome_of(error: GatewayError, *, impatient: bool = False) -> Outcome:
    """How an attempt that failed with `error` ended. `impatient`: the time was the caller's own, and what had come by
    then is in its hands."""
    if impatient and isinstance(error, DeadlineExceeded):
        return "client_gone"
    if isinstance(error, UpstreamCut | ShuttingDown | DeadlineExceeded):
        return "cut"
    if isinstance(error, UpstreamTimeout):
        return "timeout"
    return "rejected" if error.caller_fault else "provider_error"


class Attempt:
    """One attempt under way: what its events have said so far. Settled exactly once."""

    __slots__ = (
        "answered_model",
        "calls",
        "card",
        "finish",
        "number",
        "own_key",
        "pieces",
        "probe",
        "refused",
        "sent",
        "started",
        "started_at_ms",
        "tool_chars",
        "ttft_ms",
        "usage",
    )

    def __init__(
        self,
        card: ModelCard,
        number: int,
        probe: int,
        started: float,
        started_at_ms: int,
        own_key: ProviderKey | None = None,
    ) -> None:
        self.card = card
        self.own_key = own_key
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
        self.calls: list[ToolCallDelta] = []
        self.refused = False
        self.tool_chars = 0

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return bool(self.pieces or self.calls or self.tool_chars)

    @property
    def written(self) -> int:
        """About how many tokens of the answer have come."""
        return estimate_tokens("".join(self.pieces)) + self.tool_chars // 4

    def observe(self, event: AttemptEvent) -> None:
        """Take note of an event that passes."""
        kind = type(event)
        if kind is TextDelta or kind is RefusalDelta:
            self.pieces.append(event.text)  # type: ignore[union-attr]  # told apart by `kind`, which is faster
            self.refused |= kind is RefusalDelta
        elif isinstance(event, UsageReport):
            self.usage = event.usage
        elif isinstance(event, Finished):
            self.finish = event
        elif isinstance(event, Started):
            self.answered_model = event.model
        elif isinstance(event, ToolCallDelta):
            self.tool_chars += len(event.arguments)
            self.calls.append(event)
        elif isinstance(event, ReasoningDelta):
            self.tool_chars += len(event.text)


class Ledger:
    """The account of one request. `admit` begins it, `open` starts an attempt, `settle` ends it, `close` ends the
    request and hands its records over, with what `reservation` books; a second `settle` of an attempt or a second
    `close` is a defect and raises.

    A request that is several runs of the engine has one ledger for each, its `branches`: their attempts are its own
    when it is closed. `until` is an instant on the loop's clock (seconds) by which a run has to end; `None`: the
    engine's own deadline alone; `impatient`: the caller set it. `said` is the answer's text where that isn't the last
    attempt's."""

    def __init__(
        self,
        *,
        id: RequestId,
        key_id: str,
        request: Request,
        plan: Plan,
        dialect: Dialect,
        rate_of: RateOf,
        clock: Clock,
        recorder: Recorder,
        mode: Mode = "chat",
        handling: Handling = PLAIN,
        reservation: Reservation | None = None,
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
        self.branches: list[Ledger] = []
        self.until: float | None = None
        self.impatient = False
        self.said: str | None = None
        self._recorder = recorder
        self.handling = handling
        self.recalled = NOTHING_RECALLED
        self.reservation = reservation
        self._settled: list[AttemptRecord] = []
        self._open: Attempt | None = None
        self._last: Attempt | None = None

    def told(self, recalled: Recall) -> None:
        """Note what the semantic memory did to the request."""
        self.recalled = recalled
        self.warnings += recalled.warnings

    def rate(self, card: ModelCard) -> Rate | None:
        """What a model costs this request now: nothing where the account's own key asks it."""
        return FREE if card.provider in self.handling.own_keys else self.rate_of(card, self.clock.unix_ms())

    def begin(self) -> None:
        """Count its time from now: it had to wait for its turn."""
        self.started, self.created_at_ms = self.clock.monotonic(), self.clock.unix_ms()

    def elapsed_ms(self) -> int:
        """Whole milliseconds since the request began."""
        return int((self.clock.monotonic() - self.started) * 1000)

    def admit(self) -> None:
        """Say that the request begins, so that it is not forgotten should the process die."""
        reservation = self.reservation
        self._recorder.admit(
            Admission(
                self.id,
                self.key_id,
                None if reservation is None else reservation.account_id,
                self.created_at_ms,
                self.mode,
                self.dialect,
                self.request.stream,
                self.request.model,
                0 if reservation is None else reservation.reserved_nanousd,
            )
        )

    def branch(self, plan: Plan, request: Request) -> "Ledger":
        """The ledger of one of the runs that this request is made of. It is closed like any other, and makes no record
        of its own."""
        branch = Ledger(
            id=self.id,
            key_id=self.key_id,
            request=request,
            plan=plan,
            dialect=self.dialect,
            rate_of=self.rate_of,
            clock=self.clock,
            recorder=_NOWHERE,
            mode=self.mode,
            handling=self.handling,
        )
        self.branches.append(branch)
        return branch

    @property
    def attempts(self) -> list[AttemptRecord]:
        """What is settled so far: this ledger's own attempts and its branches', in the order in which these were made,
        numbered through."""
        if not self.branches:
            return self._settled
        every = [*self._settled, *(attempt for branch in self.branches for attempt in branch.attempts)]
        return [replace(a, id=attempt_id(self.id, number), number=number) for number, a in enumerate(every)]

    def all_warnings(self) -> list[Warned]:
        """Its own, then each branch's, led by the branch's model."""
        return self.warnings + [
            replace(warned, message=f"{branch.plan.attempts[0].target.id}: {warned.message}")
            for branch in self.branches
            for warned in branch.all_warnings()
        ]

    def open(self, card: ModelCard, probe: int) -> Attempt:
        assert self._open is None, "an attempt is still open"
        now = self.clock.monotonic()
        own_key = self.handling.own_keys.get(card.provider)
        self._open = Attempt(card, len(self._settled), probe, now, self.clock.unix_ms(), own_key)
        return self._open

    def settle(self, attempt: Attempt, outcome: Outcome, error: GatewayError | None = None) -> AttemptRecord:
        """Book the attempt's end. The final attempt, complete or not, is the one whose model the record names."""
        assert self._open is attempt, "an attempt is settled once"
        self._open = None
        usage, when = attempt.usage, TERMS[outcome].estimate
        estimates = when == "always" or (when == "begun" and attempt.begun)
        if usage is None:
            usage = self._estimate(attempt) if estimates else NOTHING
        elif attempt.finish is None and estimates:
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
            0
            if usage is NOTHING or attempt.own_key is not None
            else cost(usage, self.rate_of(card, attempt.started_at_ms)),
            finish.reason if finish is not None else None,
            attempt.own_key is not None,
        )
        self._settled.append(record)
        self._last = attempt
        self.final = record
        return record

    def close(self, status: int, code: str | None = None) -> RequestRecord:
        """End the request with the HTTP status that its caller got, and hand the records over."""
        assert self.record is None, "a request is closed once"
        assert self._open is None, "an attempt is still open"
        settled, final, auto = self.attempts, self.final, self.plan.auto
        one = settled[0] if len(settled) == 1 else None
        costs = [a.cost_nanousd for a in settled if a.outcome == "complete" or _used(a)]
        request, steps, warnings = self.request, self.steps, self.warnings
        answer = [] if self._last is None else self._last.pieces
        if self.branches:
            steps = [*steps, *(step for branch in self.branches for step in branch.steps)]
            warnings = self.all_warnings()
        handling = self.handling
        if not handling.keep_text or handling.redact is not None:  # providers' messages may quote the question
            steps = [replace(step, error=handling.kept(step.error)) for step in steps]
            warnings = [replace(w, message=handling.kept(w.message) or "") for w in warnings]
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
            self._first_ms(settled),
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
            encode(steps).decode() if len(steps) > 1 else None,
            encode(warnings).decode() if warnings else None,
            handling.kept(_last_words(request)),
            handling.kept((self.said if self.said is not None else "".join(answer))[:MAX_KEPT_CHARS]),
            self._insight(answer),
            any(a.byok for a in settled),
        )
        reservation = self.reservation
        self._recorder.record(
            self.record, settled, () if reservation is None else reservation.settle(self.record, settled)
        )
        return self.record

    def _insight(self, answer: Sequence[str]) -> str | None:
        last, plan, found = self._last, self.plan, None
        if last is not None and not self.branches:
            request = self.request
            wanted = isinstance(request, ChatRequest) and (request.response_format is not None or request.tools)
            ended = last.finish.reason if last.finish is not None else None
            if wanted or last.refused or ended in ("length", "content_filter"):
                found = checks(request, "".join(answer), last.calls, last.finish, refused=last.refused)
        if plan.auto is not None:
            # Signals quote single words of the question.
            auto = plan.auto if self.handling.keep_text else replace(plan.auto, signals=())
            planned = tuple([attempt.target.id for attempt in plan.attempts])
            return encode(Insight(auto, planned, plan.dropped, found)).decode()
        return None if found is None else encode(Insight(checks=found)).decode()

    def _first_ms(self, settled: Sequence[AttemptRecord]) -> int | None:
        """From the request to the final attempt's first content; where none is the final one, to the first of all."""
        of = settled if self.final is None else (self.final,)
        begun = [a.started_at_ms - self.created_at_ms + a.ttft_ms for a in of if a.ttft_ms is not None]
        return min(begun, default=None)

    def _estimate(self, attempt: Attempt) -> TokenUsage:
        prompt = sum(estimate_tokens(message.text) + 4 for message in self.request.messages)
        return TokenUsage(input=prompt, output=attempt.written, estimated=True)


def payer_of(attempt: AttemptRecord, code: str | None) -> Payer:
    """Who bears an attempt, by `TERMS`. `code` is its request's end: when all of several models failed, the caller
    bears nothing, whatever they cost."""
    payer = TERMS[attempt.outcome].payer
    return "operator" if payer == "caller" and code == ALL_FAILED else payer


def owed_nanousd(attempts: Sequence[AttemptRecord], code: str | None) -> int:
    """What the caller bears of these; `code` as in `payer_of`."""
    return sum([a.cost_nanousd for a in attempts if a.cost_nanousd and payer_of(a, code) == "caller"])


def refunded(ledger: Ledger, error: GatewayError) -> bool:
    """Whether the caller bears nothing of what was done for a request that ends with this error."""
    return not owed_nanousd(ledger.attempts, error.code)


class _Nowhere:
    """The recorder of a branch: it is recorded with the whole."""

    def admit(self, admission: Admission) -> None: ...

    def record(
        self, request: RequestRecord, attempts: Sequence[AttemptRecord], entries: Sequence[LedgerEntry] = ()
    ) -> None: ...


_NOWHERE = _Nowhere()


def _at_least(usage: TokenUsage, written: int) -> TokenUsage:
    """What a provider reported before an answer broke off (Anthropic: the prompt, and one token) may lag behind what
    came of the answer."""
    return usage if usage.output >= written else replace(usage, output=written, estimated=True)


def _used(attempt: AttemptRecord) -> bool:
    return bool(
        attempt.input_tokens or attempt.cache_read_tokens or attempt.cache_write_tokens or attempt.output_tokens
    )


def _last_words(request: Request) -> str | None:
    """What the history shows of the question: the last message of the user."""
    for message in reversed(request.messages):
        if message.role == "user":
            return message.text[:MAX_KEPT_CHARS]
    return None
