"""OpenAI's own reports: the organization usage and costs API, and the dashboard's CSV exports of the same.

API: https://platform.openai.com/docs/api-reference/usage (schema of the published OpenAPI document, read 2026-11-22):
pages of buckets of results. `input_tokens` holds the cached and the cache-write tokens. CSV, one row for each result
with the same names (an export of October 2025; counts are written `10.0`; a bucket without usage is a row with times
alone); the cost export has `amount_value`, `amount_currency` and `line_item`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from llmwise.domain.usage import TokenUsage
from llmwise.insights.audit.drafts import DAY_MS, Malformed, UsageDraft, count, moment, money, part

SOURCE = "openai"
DIMS = ("project_id", "user_id", "api_key_id", "batch", "service_tier", "line_item")
HALF_TIERS = ("batch", "flex")
"""Billed at half the list price. https://platform.openai.com/docs/guides/batch and .../flex-processing (read
2026-11-22)"""


class Amount(Struct):
    value: float | str | None = None
    currency: str | None = None


class Result(Struct):
    """A result of either API. Counts are absent where they do not apply."""

    object: str
    input_tokens: Any = None
    output_tokens: Any = None
    input_cached_tokens: Any = None
    input_cache_write_tokens: Any = None
    num_model_requests: Any = None
    model: str | None = None
    project_id: str | None = None
    user_id: str | None = None
    api_key_id: str | None = None
    batch: bool | None = None
    service_tier: str | None = None
    amount: Amount | None = None
    line_item: str | None = None


class Bucket(Struct):
    start_time: int
    end_time: int | None = None
    results: list[Result] = []
    result: list[Result] = []  # so named in examples of the reference


class Page(Struct):
    data: list[Bucket]


def page(value: Page) -> Iterator[UsageDraft | Malformed]:
    """The drafts of a page. Results without tokens (images, speech, storage) come as `Malformed`, which says so."""
    for at, bucket in enumerate(value.data, 1):
        try:
            starts = moment(bucket.start_time, "start_time")
            ends = starts + DAY_MS if bucket.end_time is None else moment(bucket.end_time, "end_time")
        except Malformed as error:
            yield error.at(f"bucket {at}")
            continue
        for number, result in enumerate(bucket.results or bucket.result, 1):
            try:
                yield _result(result, starts, ends)
            except Malformed as error:
                yield error.at(f"bucket {at}, result {number}")


def _result(result: Result, starts: int, ends: int) -> UsageDraft:
    batch = None if result.batch is None else str(result.batch).lower()
    dims = {
        "project_id": result.project_id,
        "user_id": result.user_id,
        "api_key_id": result.api_key_id,
        "batch": batch,
        "service_tier": result.service_tier,
        "line_item": result.line_item,
    }
    if result.object == "organization.costs.result":
        amount = result.amount or Amount()
        return _cost(amount.value, amount.currency, dims, starts, ends)
    if result.object not in ("organization.usage.completions.result", "organization.usage.embeddings.result"):
        what = result.object.removeprefix("organization.usage.").removesuffix(".result")
        raise Malformed(f"usage of {what[:40]} has no tokens: left out")
    return _usage(
        result.model,
        dims,
        starts,
        ends,
        {name: getattr(result, name) for name in COUNTS},
    )


COUNTS = (
    "input_tokens",
    "input_cached_tokens",
    "input_cache_write_tokens",
    "output_tokens",
    "num_model_requests",
)


def _usage(
    model: str | None, dims: Mapping[str, str | None], starts: int, ends: int, given: Mapping[str, Any]
) -> UsageDraft:
    whole, read, write, output, requests = (count(given.get(name), name) for name in COUNTS)
    fresh = part(part(whole, read, "input_cached_tokens"), write, "input_cache_write_tokens")
    return UsageDraft(
        SOURCE,
        "tokens",
        starts,
        ends,
        model,
        dims,
        requests,
        TokenUsage(input=fresh, cache_read=read, cache_write_5m=write, output=output),
        half=dims["batch"] == "true" or dims["service_tier"] in HALF_TIERS,
    )


def _cost(value: Any, currency: str | None, dims: Mapping[str, str | None], starts: int, ends: int) -> UsageDraft:
    if currency and currency.lower() != "usd":
        raise Malformed(f"amount_currency = {currency[:10]!r}: only usd is understood")
    item = dims["line_item"]
    model = None if not item else item.split(", ")[0]
    return UsageDraft(
        SOURCE, "cost", starts, ends, model, dims, None, TokenUsage(), money(value, "amount_value") or 0
    )  # fmt: skip


def csv_row(row: Mapping[str, str]) -> Iterator[UsageDraft]:
    """A row of the activity export or of the cost export."""
    starts = moment(row.get("start_time") or row.get("start_time_iso"), "start_time")
    end = row.get("end_time") or row.get("end_time_iso")
    ends = moment(end, "end_time") if end else starts + DAY_MS
    dims = {name: row.get(name) or None for name in DIMS}
    if dims["batch"] is not None:
        dims["batch"] = str(dims["batch"]).lower()
    if "amount_value" in row:
        if row["amount_value"]:
            yield _cost(row["amount_value"], row.get("amount_currency"), dims, starts, ends)
    elif any(row.get(name) for name in COUNTS):
        yield _usage(row.get("model") or None, dims, starts, ends, row)
