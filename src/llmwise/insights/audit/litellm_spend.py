"""LiteLLM's spend logs: rows of its table `LiteLLM_SpendLogs`, as `/spend/logs` answers them (a JSON array), as JSON
lines, or as CSV from the database.

Schema: https://github.com/BerriAI/litellm, schema.prisma (read 2026-11-22). `prompt_tokens` holds the cached tokens;
how many there were is in `metadata.usage_object` of later versions. `spend` is in USD, 0 also for a model without a
known price. `completionStartTime` equals `endTime` for an answer that was not streamed. `messages` is empty unless
`store_prompts_in_spend_logs` was on.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from llmwise.domain.usage import TokenUsage
from llmwise.insights.audit.drafts import Malformed, RequestDraft, count, moment, paid, part
from llmwise.insights.audit.messages import needs_in, prompt_of

SOURCE = "litellm"


class Details(Struct):
    cached_tokens: Any = None
    cache_creation_tokens: Any = None


class UsageObject(Struct):
    prompt_tokens_details: Details | None = None
    cache_read_input_tokens: Any = None
    cache_creation_input_tokens: Any = None


class Metadata(Struct):
    usage_object: UsageObject | None = None
    status: str | None = None


class Row(Struct):
    """A row, as JSON. Columns that say nothing about cost or task are not read."""

    request_id: str
    started: str | float = field(name="startTime")
    call_type: str | None = None
    spend: Any = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    ended: str | float | None = field(name="endTime", default=None)
    first_token: str | float | None = field(name="completionStartTime", default=None)
    model: str | None = None
    model_id: str | None = None
    custom_llm_provider: str | None = None
    cache_hit: str | bool | None = None
    metadata: Metadata | str | None = None
    messages: Any = None
    proxy_server_request: Any = None
    status: str | None = None
    session_id: str | None = None


NO_DETAILS = Details()
NOTHING = Metadata()

_metadata = msgspec.json.Decoder(Metadata)


def row(value: Row) -> Iterator[RequestDraft]:
    """The draft of a row."""
    if not value.request_id:
        raise Malformed("request_id: is empty")
    starts = moment(value.started, "startTime")
    ends = None if value.ended is None or value.ended == "" else moment(value.ended, "endTime")
    first = value.first_token
    first_ms = None if first is None or first == "" else moment(first, "completionStartTime")
    known = _known(value.metadata)
    fresh = count(value.prompt_tokens, "prompt_tokens")
    read = write = 0
    if (usage := known.usage_object) is not None:
        details = usage.prompt_tokens_details or NO_DETAILS
        read = count(usage.cache_read_input_tokens or details.cached_tokens, "cached_tokens")
        write = count(usage.cache_creation_input_tokens or details.cache_creation_tokens, "cache_creation_tokens")
        fresh = part(part(fresh, read, "cached_tokens"), write, "cache_creation_tokens")
    tokens = TokenUsage(
        input=fresh, cache_read=read, cache_write_5m=write, output=count(value.completion_tokens, "completion_tokens")
    )
    failed = (value.status or known.status) == "failure"
    spend = paid(value.spend, "spend")
    if spend == 0 and tokens.total and str(value.cache_hit).lower() != "true" and not failed:
        spend = None  # LiteLLM writes 0 for a price that it does not know
    asked = value.messages or value.proxy_server_request
    yield RequestDraft(
        SOURCE,
        value.request_id,
        starts,
        value.model or None,
        tokens,
        external_id=value.request_id,
        provider=value.custom_llm_provider or None,
        failed=failed,
        cost_nanousd=spend,
        latency_ms=None if ends is None else max(ends - starts, 0),
        ttft_ms=max(first_ms - starts, 0) if first_ms is not None and ends is not None and first_ms < ends else None,
        prompt=prompt_of(asked) if asked else None,
        needs=needs_in(asked) if asked else None,
        conversation_id=value.session_id or None,
    )


def csv_row(given: Mapping[str, str]) -> Iterator[RequestDraft]:
    """The draft of a row of a CSV export; empty is null."""
    told = {name: given[name] or None for name in Row.__struct_encode_fields__ if name in given}
    if not told.get("request_id"):
        raise Malformed("request_id: is empty")
    if not told.get("startTime"):
        raise Malformed("startTime: is empty")
    return row(msgspec.convert(told, Row))


def _known(metadata: Metadata | str | None) -> Metadata:
    if isinstance(metadata, Metadata):
        return metadata
    if not metadata or not metadata.startswith("{"):
        return NOTHING
    try:
        return _metadata.decode(metadata)
    except msgspec.MsgspecError:
        return NOTHING  # what is in it besides the usage is anybody's
