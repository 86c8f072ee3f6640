"""What is kept of a request: exactly these columns. Append-only; a record is written once, when all is settled."""

from typing import Literal, TypeAlias

from msgspec import Struct

Outcome: TypeAlias = Literal["complete", "provider_error", "rejected", "cut", "timeout", "client_gone", "skipped"]
"""How an attempt ended. `rejected` is the caller's fault; `skipped` never reached the provider."""

Mode: TypeAlias = Literal["chat", "compare", "blend", "judge", "embedding"]

EntryKind: TypeAlias = Literal["reserve", "settle", "refund", "grant", "purchase", "adjust"]
"""Why credit moved. `reserve` sets aside and `refund` gives back, `settle` pays for an answer; `grant`, `purchase` and
`adjust` are an administrator's."""


class Admission(Struct, frozen=True, array_like=True, gc=False):
    """A request that was let in and has not ended. After a crash it is what is known of it: it becomes a record with
    the code `interrupted`, and its reservation is given back. `account_id` is `None` when nobody pays."""

    id: str
    key_id: str
    account_id: str | None
    created_at_ms: int
    mode: Mode
    dialect: str
    stream: bool
    requested_model: str
    reserved_nanousd: int


class LedgerEntry(Struct, frozen=True, array_like=True, gc=False):
    """Credit that moved, once and for ever. `amount_nanousd` is signed: what takes from the account is negative, and a
    balance is the sum of its entries. `id` makes a replay harmless: the same movement always has the same id (for a
    request's, `REQUEST_ID/KIND`). `key_id` and `request_id` are `None` for an administrator's entries."""

    id: str
    account_id: str
    key_id: str | None
    request_id: str | None
    kind: EntryKind
    amount_nanousd: int
    created_at_ms: int
    note: str | None


class AttemptRecord(Struct, frozen=True, array_like=True, gc=False):
    """One attempt, settled. Money in nano-USD, times in ms from the attempt's start; `None` is "not known".
    `cost_nanousd` is `None` for a model without a price, which is not free. `byok`: asked by the account's own key
    of the provider, which bills the account itself; it costs nothing here."""

    id: str
    request_id: str
    number: int
    model: str
    provider: str
    sent_model: str
    answered_model: str | None
    outcome: Outcome
    code: str | None
    upstream_status: int | None
    started_at_ms: int
    latency_ms: int
    ttft_ms: int | None
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    usage_estimated: bool
    cost_nanousd: int | None
    finish_reason: str | None
    byok: bool = False


class RequestRecord(Struct, frozen=True, array_like=True, gc=False):
    """One request, settled: sums over its attempts. `created_at_ms` is Unix time. `status` is the HTTP status that the
    caller got, or would have got had the headers not been out. `warnings`, `route` and
    `insight` (`domain.plan.Insight`) are JSON text. `byok`: some attempt was."""

    id: str
    key_id: str
    created_at_ms: int
    mode: Mode
    dialect: str
    stream: bool
    requested_model: str
    model: str | None
    provider: str | None
    status: int
    code: str | None
    finish_reason: str | None
    attempts: int
    latency_ms: int
    ttft_ms: int | None
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    usage_estimated: bool
    cost_nanousd: int | None
    task_type: str | None
    confidence: float | None
    auto_strategy: str | None
    goal: str | None
    conversation_id: str | None
    route: str | None
    warnings: str | None
    prompt: str | None
    answer: str | None
    insight: str | None = None
    byok: bool = False
