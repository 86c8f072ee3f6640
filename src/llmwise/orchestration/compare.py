"""One question to several models at once: a ledger for each, and one record of them all.

The history has one entry for a comparison, of mode `compare`. Its attempts are those of all models, numbered through in
the models' order, its sums are theirs, and its answer holds every model's text below the model's name. It names no
single model as the one that answered.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from llmwise.domain.errors import CircuitOpen, DeadlineExceeded, GatewayError, InternalError, Unavailable
from llmwise.domain.events import Warned
from llmwise.domain.ids import RequestId, attempt_id
from llmwise.domain.plan import Plan
from llmwise.domain.ports import Clock, Recorder
from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.domain.requests import ChatRequest, Dialect
from llmwise.orchestration.fanout import Ended, Item, Source, fanout
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.settlement import CLIENT_GONE_STATUS, MAX_KEPT_CHARS, Ledger, RateOf


class Contender(Struct, frozen=True):
    """One of the models: its plan, and why it can't be asked at all (it has no vision, say)."""

    plan: Plan
    refused: GatewayError | None = None

    @property
    def model(self) -> str:
        return self.plan.attempts[0].target.id


class Best(Struct, frozen=True):
    """Which model did best, among those that answered. `longest` is by tokens; `None`: there is none, or no price."""

    fastest: str | None
    longest: str | None
    cheapest: str | None


class Comparison:
    """One comparison under way. `ledgers` and `errors` are in the models' order; `record` is set when it has ended."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        *,
        id: RequestId,
        key_id: str,
        request: ChatRequest,
        dialect: Dialect,
        rate_of: RateOf,
        clock: Clock,
        recorder: Recorder,
        keep_text: bool = True,
    ) -> None:
        """`request` is the question; the model that it names doesn't matter."""
        self.models = [contender.model for contender in contenders]
        self.warnings: list[Warned] = []
        self.errors: list[GatewayError | None] = [None] * len(contenders)
        self.record: RequestRecord | None = None
        self._recorder = recorder
        self._kept = [_Kept() for _ in contenders]
        self.ledgers = [
            Ledger(
                id=id,
                key_id=key_id,
                request=replace(request, model=contender.model),
                plan=contender.plan,
                dialect=dialect,
                rate_of=rate_of,
                clock=clock,
                recorder=kept,
                mode="compare",
                keep_text=keep_text,
            )
            for contender, kept in zip(contenders, self._kept, strict=True)
        ]
        self._sources = [Source(*pair) for pair in zip(self.ledgers, (c.refused for c in contenders), strict=True)]

    @property
    def id(self) -> RequestId:
        return self.ledgers[0].id

    @asynccontextmanager
    async def run(self, mesh: Mesh) -> AsyncIterator[AsyncGenerator[Item, None]]:
        """Ask all models for as long as the block lasts, which reads what they say (see `fanout`). The items end with a
        `GatewayError` when every model failed. The record is handed over before the items end, or, when the caller
        leaves before that, at the end of the block."""
        status, code = InternalError.status, InternalError.code
        try:
            async with fanout(mesh, self._sources) as items:
                yield self._follow(items)
        except asyncio.CancelledError:
            status, code = CLIENT_GONE_STATUS, "client_gone"
            raise
        finally:
            if self.record is None:
                self._close(status, code)

    async def _follow(self, items: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Ended):
                    self.errors[item.source] = item.error
                yield item
        failures = [error for error in self.errors if error is not None]
        if len(failures) < len(self.ledgers):
            self._close(200, None)
            return
        error = all_failed(dict(zip(self.models, failures, strict=True)))
        self._close(error.status, error.code)
        raise error

    def best(self) -> Best:
        """Of the models that answered. Ties go to the one named first."""
        answered = [
            record
            for record, error in zip((ledger.record for ledger in self.ledgers), self.errors, strict=True)
            if record is not None and error is None
        ]
        priced = [record for record in answered if record.cost_nanousd is not None]
        return Best(
            _name(min(answered, key=lambda r: r.latency_ms, default=None)),
            _name(max(answered, key=lambda r: r.output_tokens, default=None)),
            _name(min(priced, key=lambda r: r.cost_nanousd or 0, default=None)),
        )

    def all_warnings(self) -> list[Warned]:
        """Those of the request, then each model's with its name."""
        return self.warnings + [
            replace(warned, message=f"{model}: {warned.message}")
            for model, ledger in zip(self.models, self.ledgers, strict=True)
            for warned in ledger.warnings
        ]

    def _close(self, status: int, code: str | None) -> None:
        records = [ledger.record for ledger in self.ledgers if ledger.record is not None]
        first = self.ledgers[0]
        every = [attempt for kept in self._kept for attempt in kept.attempts]
        attempts = [replace(a, id=attempt_id(self.id, number), number=number) for number, a in enumerate(every)]
        costs = [record.cost_nanousd for record in records]
        firsts = [record.ttft_ms for record in records if record.ttft_ms is not None]
        warnings = self.all_warnings()

        def total(of: Callable[[RequestRecord], int]) -> int:
            return sum(of(record) for record in records)

        self.record = replace(
            records[0],
            requested_model=", ".join(self.models),
            model=None,
            provider=None,
            status=status,
            code=code,
            finish_reason=None,
            attempts=len(attempts),
            latency_ms=first.elapsed_ms(),
            ttft_ms=min(firsts, default=None),
            input_tokens=total(lambda r: r.input_tokens),
            cache_read_tokens=total(lambda r: r.cache_read_tokens),
            cache_write_tokens=total(lambda r: r.cache_write_tokens),
            output_tokens=total(lambda r: r.output_tokens),
            reasoning_tokens=total(lambda r: r.reasoning_tokens),
            usage_estimated=any(record.usage_estimated for record in records),
            cost_nanousd=None if None in costs else sum(cost for cost in costs if cost is not None),
            route=encode([step for ledger in self.ledgers for step in ledger.steps]).decode(),
            warnings=encode(warnings).decode() if warnings else None,
            answer=_answers(self.models, records),
        )
        self._recorder.record(self.record, attempts)


class _Kept:
    """The recorder of one model's ledger: keeps its attempts for the record of all."""

    def __init__(self) -> None:
        self.attempts: Sequence[AttemptRecord] = ()

    def record(self, request: RequestRecord, attempts: Sequence[AttemptRecord]) -> None:
        self.attempts = attempts


def all_failed(failures: dict[str, GatewayError]) -> GatewayError:
    """What a comparison is answered with when no model answered: the class, and so the status, of the failure that says
    most, and all of them under `failures`. What the caller has to change says most, then what a provider said."""
    telling = min(failures.values(), key=_silence)
    return type(telling)(
        f"all {len(failures)} models failed; "
        + "; ".join(f"{model}: {error.message}" for model, error in failures.items()),
        code="all_failed",
        retry_after_s=telling.retry_after_s,
        reason=telling.code,
        failures={
            model: {"error": error.message, "code": error.code, "status_code": error.status}
            for model, error in failures.items()
        },
        refunded=True,
    )


def _silence(error: GatewayError) -> int:
    if error.caller_fault:
        return 0
    if error.upstream_status is not None:
        return 1
    if isinstance(error, CircuitOpen):
        return 4
    return 3 if isinstance(error, Unavailable | DeadlineExceeded | InternalError) else 2


def _name(record: RequestRecord | None) -> str | None:
    return record.model if record is not None else None


def _answers(models: Sequence[str], records: Sequence[RequestRecord]) -> str | None:
    """What the history shows: each model has an equal part of what is kept. `None` when no text is kept."""
    share = MAX_KEPT_CHARS // len(models)
    texts = [
        f"## {model}\n\n{record.answer}"[:share]
        for model, record in zip(models, records, strict=True)
        if record.answer is not None
    ]
    return "\n\n".join(texts)[:MAX_KEPT_CHARS] if texts else None
