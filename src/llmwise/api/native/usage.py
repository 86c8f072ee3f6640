"""What was asked and what it cost: /history, /usage. A key sees its own requests, an administrator everybody's."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

from llmwise.api.frame import Call
from llmwise.domain.errors import NotFound
from llmwise.domain.money import to_credits, to_usd
from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.orchestration.settlement import Payer, payer_of
from llmwise.storage import ledger
from llmwise.storage.rows import ModelUsage, Tally

Limit = Annotated[int, Meta(ge=1, le=200)]
Offset = Annotated[int, Meta(ge=0, le=1_000_000)]
Days = Annotated[int, Meta(ge=1, le=365)]
Mode = Literal["chat", "compare", "blend", "judge", "embedding"]


class HistoryQuery(Struct, forbid_unknown_fields=True):
    limit: Limit = 20
    offset: Offset = 0
    mode: Mode | None = None
    search: Annotated[str, Meta(max_length=200)] | None = None


class RecentQuery(Struct, forbid_unknown_fields=True):
    limit: Limit = 20
    offset: Offset = 0
    days: Days = 30
    mode: Mode | None = None


class SummaryQuery(Struct, forbid_unknown_fields=True):
    days: Days = 7


class HistoryItem(Struct):
    """A settled request. Money in USD and credits, times in ms, `created_at_ms` in Unix time; `null` is "not known".
    `prompt` is the user's last message."""

    id: str
    created_at_ms: int
    mode: str
    dialect: str
    stream: bool
    requested_model: str
    model: str | None
    provider: str | None
    status_code: int
    code: str | None
    finish_reason: str | None
    attempts: int
    latency_ms: int
    ttft_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    usage_estimated: bool
    cost: float | None
    credits_charged: float | None
    task_type: str | None
    confidence: float | None
    auto_strategy: str | None
    optimization_goal: str | None
    conversation_id: str | None
    prompt: str | None
    answer: str | None
    byok: bool


class AttemptItem(Struct):
    """`paid_by` is who bears what it cost, by the table of `docs/explanation/attempt-engine.md`."""

    number: int
    model: str
    provider: str
    sent_model: str
    answered_model: str | None
    outcome: str
    code: str | None
    upstream_status: int | None
    latency_ms: int
    ttft_ms: int | None
    prompt_tokens: int
    completion_tokens: int
    usage_estimated: bool
    cost: float | None
    paid_by: Payer
    byok: bool


class HistoryDetail(HistoryItem):
    """A settled request with its attempts, the steps of its route and its warnings."""

    attempt_list: list[AttemptItem]
    route: Raw
    warnings: Raw


class History(Struct):
    """`total` counts up to 10,000 beyond `offset`, and a search looks through the newest 20,000 requests (a whole id is
    found however old): where either bound may have cut something off, `total_exact` is false, and `total` is "at
    least"."""

    total: int
    total_exact: bool
    items: list[HistoryItem]
    limit: int
    offset: int


async def history(call: Call) -> History:
    """GET /api/v1/history. Reads its own writes: what was answered before is in it."""
    query: HistoryQuery = call.query
    await call.services.writer.flush()
    total, records = await call.services.store.history(
        _whose(call), limit=query.limit, offset=query.offset, mode=query.mode, search=query.search
    )
    exact = ledger.is_exact(total, query.offset, query.search)
    return History(total, exact, await _items(call, records), query.limit, query.offset)


async def history_item(call: Call) -> HistoryDetail:
    """GET /api/v1/history/{request_id}."""
    await call.services.writer.flush()
    request_id = call.path["request_id"]
    found = await call.services.store.request(request_id)
    whose = _whose(call)
    if found is None or (whose is not None and found.request.key_id != whose):
        raise NotFound(f"no request {request_id[:64]!r} of this key; /history lists those there are")
    record = found.request
    charges = await call.services.store.charged([record.id])
    return HistoryDetail(
        **_fields(record, charges.get(record.id, 0)),
        attempt_list=[_attempt(attempt, found.request.code) for attempt in found.attempts],
        route=Raw(record.route or "[]"),
        warnings=Raw(record.warnings or "[]"),
    )


async def recent(call: Call) -> list[HistoryItem]:
    """GET /api/v1/usage/recent: a bare array, newest first; without the texts."""
    query: RecentQuery = call.query
    await call.services.writer.flush()
    records = await call.services.store.usage_recent(
        _whose(call),
        query.days,
        call.services.clock.unix_ms(),
        limit=query.limit,
        offset=query.offset,
        mode=query.mode,
    )
    return await _items(call, records)


class UsageRow(Struct):
    """Sums. `cost` adds what is known, and is `null` when nothing is; `unpriced` counts what has no known price, and is
    not free."""

    name: str | None
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost: float | None
    unpriced: int
    provider: str | None = None
    latency_ms: int | None = None


class Summary(Struct):
    """Usage over `days`. `total_cost` is what it cost, `total_credits` what was charged: the sum of the history's
    `credits_charged`. Latencies are quantiles of the requests that succeeded, in ms."""

    days: int
    total_requests: int
    total_errors: int
    total_prompt_tokens: int
    total_completion_tokens: int
    total_tokens: int
    total_cost: float
    total_credits: float
    unpriced_requests: int
    latency_p50_ms: int | None
    latency_p95_ms: int | None
    ttft_p50_ms: int | None
    ttft_p95_ms: int | None
    by_model: list[UsageRow]
    by_day: list[UsageRow]
    by_task_type: list[UsageRow]


async def summary(call: Call) -> Summary:
    """GET /api/v1/usage/summary."""
    query: SummaryQuery = call.query
    await call.services.writer.flush()
    usage = await call.services.store.usage_summary(_whose(call), query.days, call.services.clock.unix_ms())
    total = usage.total
    prompt = total.input_tokens + total.cache_read_tokens + total.cache_write_tokens
    return Summary(
        days=query.days,
        total_requests=total.requests,
        total_errors=total.errors,
        total_prompt_tokens=prompt,
        total_completion_tokens=total.output_tokens,
        total_tokens=prompt + total.output_tokens,
        total_cost=to_usd(total.cost_nanousd),
        total_credits=to_credits(usage.charged_nanousd),
        unpriced_requests=total.unpriced_requests,
        latency_p50_ms=usage.latency.p50_ms,
        latency_p95_ms=usage.latency.p95_ms,
        ttft_p50_ms=usage.ttft.p50_ms,
        ttft_p95_ms=usage.ttft.p95_ms,
        by_model=[_model_row(row) for row in usage.by_model],
        by_day=[_row(row.day, row.tally) for row in usage.by_day],
        by_task_type=[_row(row.task_type, row.tally) for row in usage.by_task_type],
    )


def _whose(call: Call) -> str | None:
    assert call.key is not None
    return None if call.key.admin else call.key.id


def _known(cost_nanousd: int, unpriced: int, count: int) -> float | None:
    """A sum of costs of which none is known is not zero."""
    return None if unpriced == count and count else to_usd(cost_nanousd)


def _row(name: str | None, tally: Tally) -> UsageRow:
    return UsageRow(
        name=name,
        requests=tally.requests,
        errors=tally.errors,
        prompt_tokens=tally.input_tokens + tally.cache_read_tokens + tally.cache_write_tokens,
        completion_tokens=tally.output_tokens,
        cached_tokens=tally.cache_read_tokens,
        reasoning_tokens=tally.reasoning_tokens,
        cost=_known(tally.cost_nanousd, tally.unpriced_requests, tally.requests),
        unpriced=tally.unpriced_requests,
    )


def _model_row(usage: ModelUsage) -> UsageRow:
    return UsageRow(
        name=usage.model,
        requests=usage.attempts,
        errors=usage.errors,
        prompt_tokens=usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        completion_tokens=usage.output_tokens,
        cached_tokens=usage.cache_read_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost=_known(usage.cost_nanousd, usage.unpriced_attempts, usage.attempts),
        unpriced=usage.unpriced_attempts,
        provider=usage.provider,
        latency_ms=usage.latency_ms,
    )


async def _items(call: Call, records: Sequence[RequestRecord]) -> list[HistoryItem]:
    charges = await call.services.store.charged([record.id for record in records])
    return [HistoryItem(**_fields(record, charges.get(record.id, 0))) for record in records]


def _fields(record: RequestRecord, charged_nanousd: int) -> dict[str, Any]:
    return {
        "id": record.id,
        "created_at_ms": record.created_at_ms,
        "mode": record.mode,
        "dialect": record.dialect,
        "stream": record.stream,
        "requested_model": record.requested_model,
        "model": record.model,
        "provider": record.provider,
        "status_code": record.status,
        "code": record.code,
        "finish_reason": record.finish_reason,
        "attempts": record.attempts,
        "latency_ms": record.latency_ms,
        "ttft_ms": record.ttft_ms,
        "prompt_tokens": record.input_tokens + record.cache_read_tokens + record.cache_write_tokens,
        "completion_tokens": record.output_tokens,
        "cached_tokens": record.cache_read_tokens,
        "reasoning_tokens": record.reasoning_tokens,
        "usage_estimated": record.usage_estimated,
        "cost": None if record.cost_nanousd is None else to_usd(record.cost_nanousd),
        "credits_charged": None if record.cost_nanousd is None else to_credits(charged_nanousd),
        "task_type": record.task_type,
        "confidence": record.confidence,
        "auto_strategy": record.auto_strategy,
        "optimization_goal": record.goal,
        "conversation_id": record.conversation_id,
        "prompt": record.prompt,
        "answer": record.answer,
        "byok": record.byok,
    }


def _attempt(attempt: AttemptRecord, code: str | None) -> AttemptItem:
    return AttemptItem(
        number=attempt.number,
        model=attempt.model,
        provider=attempt.provider,
        sent_model=attempt.sent_model,
        answered_model=attempt.answered_model,
        outcome=attempt.outcome,
        code=attempt.code,
        upstream_status=attempt.upstream_status,
        latency_ms=attempt.latency_ms,
        ttft_ms=attempt.ttft_ms,
        prompt_tokens=attempt.input_tokens + attempt.cache_read_tokens + attempt.cache_write_tokens,
        completion_tokens=attempt.output_tokens,
        usage_estimated=attempt.usage_estimated,
        cost=None if attempt.cost_nanousd is None else to_usd(attempt.cost_nanousd),
        paid_by=payer_of(attempt, code),
        byok=attempt.byok,
    )
