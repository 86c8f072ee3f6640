"""Anthropic's own reports: the Admin API's usage and cost reports, and the Console's CSV exports of the same.

API: https://platform.claude.com/docs/en/api/admin-api/usage-cost/get-messages-usage-report and .../get-cost-report
(read 2026-11-22): pages of buckets of results. The token counts are disjoint. A cost's `amount` is a string in cents.
Neither report counts requests. The Console's usage CSV has a row for each day, model and key with the same disjoint
counts; its cost CSV one for each token type, in USD.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from llmwise.domain.usage import TokenUsage
from llmwise.insights.audit.drafts import DAY_MS, Malformed, UsageDraft, count, moment, money

SOURCE = "anthropic"
CENTS = 100
HALF_TIERS = ("batch",)
"""Billed at half the list price. https://platform.claude.com/docs/en/build-with-claude/batch-processing (read
2026-11-22)"""
CSV_DIMS = ("workspace", "api_key", "usage_type", "context_window", "token_type", "cost_type", "inference_geo", "speed")


class CacheCreation(Struct):
    ephemeral_5m_input_tokens: Any = None
    ephemeral_1h_input_tokens: Any = None


class Result(Struct):
    """A result of either report."""

    uncached_input_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_creation: CacheCreation | None = None
    output_tokens: Any = None
    model: str | None = None
    workspace_id: str | None = None
    api_key_id: str | None = None
    account_id: str | None = None
    service_account_id: str | None = None
    service_tier: str | None = None
    context_window: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    amount: str | float | None = None
    currency: str | None = None
    cost_type: str | None = None
    description: str | None = None
    token_type: str | None = None


class Bucket(Struct):
    starting_at: str
    ending_at: str | None = None
    results: list[Result] = []


class Page(Struct):
    data: list[Bucket]


DIMS = (
    "workspace_id", "api_key_id", "account_id", "service_account_id", "service_tier", "context_window",
    "inference_geo", "speed", "cost_type", "description", "token_type",
)  # fmt: skip


def page(value: Page) -> Iterator[UsageDraft | Malformed]:
    """The drafts of a page."""
    for at, bucket in enumerate(value.data, 1):
        try:
            starts = moment(bucket.starting_at, "starting_at")
            ends = starts + DAY_MS if bucket.ending_at is None else moment(bucket.ending_at, "ending_at")
        except Malformed as error:
            yield error.at(f"bucket {at}")
            continue
        for number, result in enumerate(bucket.results, 1):
            try:
                yield _result(result, starts, ends)
            except Malformed as error:
                yield error.at(f"bucket {at}, result {number}")


def _result(result: Result, starts: int, ends: int) -> UsageDraft:
    dims = {name: getattr(result, name) for name in DIMS}
    if result.amount is not None:
        _usd(result.currency)
        cost = money(result.amount, "amount", unit=CENTS) or 0
        return UsageDraft(SOURCE, "cost", starts, ends, result.model, dims, None, TokenUsage(), cost)
    written = result.cache_creation or CacheCreation()
    tokens = TokenUsage(
        input=count(result.uncached_input_tokens, "uncached_input_tokens"),
        cache_read=count(result.cache_read_input_tokens, "cache_read_input_tokens"),
        cache_write_5m=count(written.ephemeral_5m_input_tokens, "ephemeral_5m_input_tokens"),
        cache_write_1h=count(written.ephemeral_1h_input_tokens, "ephemeral_1h_input_tokens"),
        output=count(result.output_tokens, "output_tokens"),
    )
    half = result.service_tier in HALF_TIERS
    return UsageDraft(SOURCE, "tokens", starts, ends, result.model, dims, None, tokens, half=half)


def csv_row(row: Mapping[str, str]) -> Iterator[UsageDraft]:
    """A row of the Console's usage export or of its cost export."""
    starts = moment(row.get("usage_date_utc"), "usage_date_utc")
    dims = {name: row.get(name) or None for name in CSV_DIMS}
    if "cost_usd" in row:
        cost = money(row["cost_usd"], "cost_usd") or 0
        model = row.get("model") or None
        yield UsageDraft(SOURCE, "cost", starts, starts + DAY_MS, model, dims, None, TokenUsage(), cost)
        return
    tokens = TokenUsage(
        input=count(row.get(_CSV + "no_cache"), _CSV + "no_cache"),
        cache_read=count(row.get(_CSV + "cache_read"), _CSV + "cache_read"),
        cache_write_5m=count(row.get(_CSV + "cache_write_5m"), _CSV + "cache_write_5m"),
        cache_write_1h=count(row.get(_CSV + "cache_write_1h"), _CSV + "cache_write_1h"),
        output=count(row.get("usage_output_tokens"), "usage_output_tokens"),
    )
    model = row.get("model_version") or None
    half = dims["usage_type"] in HALF_TIERS
    yield UsageDraft(SOURCE, "tokens", starts, starts + DAY_MS, model, dims, None, tokens, half=half)


_CSV = "usage_input_tokens_"


def _usd(currency: str | None) -> None:
    if currency and currency.lower() != "usd":
        raise Malformed(f"currency = {currency[:10]!r}: only USD is understood")
