"""Our own plain log format: one JSON object a line, one line a request. `docs/howto/audit.md` shows it; `SCHEMA` is
its JSON Schema. Unknown fields are refused by name, as everywhere in what is ours."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from llmwise.domain.usage import TokenUsage
from llmwise.insights.audit.drafts import MOST_TOKENS, Malformed, RequestDraft, moment, paid, part
from llmwise.insights.audit.messages import clipped, needs_in, prompt_of
from llmwise.routing.classifier import TASK_TYPES

SOURCE = "requests"

Tokens = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
Milliseconds = Annotated[int, Meta(ge=0, le=86_400_000)]


class Line(Struct, forbid_unknown_fields=True):
    """One request.

    id                  yours; the same id and time again is the same request
    created_at          ISO 8601 (without an offset: UTC), or Unix seconds
    model               the model that answered, as its provider calls it
    provider            who served it
    input_tokens        all tokens of the prompt, cached ones included
    cached_tokens       those of them that were read from the provider's cache
    cache_write_tokens  those of them that were written to it
    output_tokens       all tokens of the answer, thinking included
    cost_usd            what was paid; absent: priced from the catalog
    latency_ms          until the answer was whole
    ttft_ms             until its first token
    status              HTTP status; from 400 on it counts as failed
    task_type           one of our task types, if you know better than our classifier
    prompt              the question, or
    messages            the conversation: classified on import and not kept
    conversation_id     requests of one conversation count as one draw in intervals
    """

    created_at: str | float
    model: Annotated[str, Meta(min_length=1, max_length=200)]
    input_tokens: Tokens
    output_tokens: Tokens
    id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    provider: str | None = None
    cached_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    cost_usd: float | None = None
    latency_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    status: int = 200
    task_type: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    conversation_id: str | None = None


SCHEMA = msgspec.json.schema(Line)


def line(value: Line) -> Iterator[RequestDraft]:
    """The draft of a line. One without an id is known by all that it says."""
    if value.task_type is not None and value.task_type not in TASK_TYPES:
        raise Malformed(f"task_type = {value.task_type[:40]!r}: must be one of {', '.join(TASK_TYPES)}")
    at = moment(value.created_at, "created_at")
    fresh = part(value.input_tokens, value.cached_tokens, "cached_tokens")
    fresh = part(fresh, value.cache_write_tokens, "cache_write_tokens")
    yield RequestDraft(
        SOURCE,
        value.id or msgspec.json.encode(value).decode(),
        at,
        value.model,
        TokenUsage(
            input=fresh,
            cache_read=value.cached_tokens,
            cache_write_5m=value.cache_write_tokens,
            output=value.output_tokens,
        ),
        external_id=value.id,
        provider=value.provider,
        failed=value.status >= 400,
        cost_nanousd=paid(value.cost_usd, "cost_usd"),
        latency_ms=value.latency_ms,
        ttft_ms=value.ttft_ms,
        prompt=prompt_of(value.messages) if value.prompt is None else clipped(value.prompt),
        task_type=value.task_type,
        needs=needs_in(value.messages),
        conversation_id=value.conversation_id,
    )


def csv_row(given: Mapping[str, str]) -> Iterator[RequestDraft]:
    """The same fields as columns."""
    told = {name: value for name, value in given.items() if value != "" and name != "messages"}
    return line(msgspec.convert(told, Line, strict=False))
