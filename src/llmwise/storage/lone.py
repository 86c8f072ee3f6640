"""A request's only attempt, folded into the request's own row and out of it again.

Nearly every request has one attempt, and that says nearly what its request says: `fold` returns the six columns that
are missing (`tables.LONE`), or `None` when the pair can't be folded without loss, and then the attempt is a row of
`attempts` like those of a request that had several. Nothing is assumed: a fold that would not unfold to the same
attempt is none.
"""

from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Subquery, case, literal, null, select, union_all

from llmwise.domain.records import AttemptRecord, Outcome, RequestRecord
from llmwise.storage.tables import attempts, requests

Folded: TypeAlias = tuple[str, str | None, Outcome, int | None, int, int]
"""The values of the columns `tables.LONE`."""

NOT_FOLDED = (None,) * 6

_NO_CODE = ("complete", "client_gone")
"""Attempts with these outcomes have no code of their own, whatever their request's says."""


def fold(request: RequestRecord, attempt: AttemptRecord) -> Folded | None:
    folded = (
        attempt.sent_model,
        attempt.answered_model,
        attempt.outcome,
        attempt.upstream_status,
        attempt.started_at_ms,
        attempt.latency_ms,
    )
    return folded if attempt == unfold(request, folded) else None


def unfold(request: RequestRecord, folded: Folded) -> AttemptRecord:
    sent_model, answered_model, outcome, upstream_status, started_at_ms, latency_ms = folded
    return AttemptRecord(
        f"{request.id}.0",
        request.id,
        0,
        request.model or "",
        request.provider or "",
        sent_model,
        answered_model,
        outcome,
        None if outcome in _NO_CODE else request.code,
        upstream_status,
        started_at_ms,
        latency_ms,
        None if request.ttft_ms is None else request.ttft_ms - started_at_ms + request.created_at_ms,
        request.input_tokens,
        request.cache_read_tokens,
        request.cache_write_tokens,
        request.output_tokens,
        request.reasoning_tokens,
        request.usage_estimated,
        request.cost_nanousd,
        request.finish_reason,
        request.byok,
    )


def _every_attempt() -> Subquery:
    r = requests.c
    told_by_request: dict[str, ColumnElement[Any]] = {
        "id": r.id + literal(".0"),
        "request_id": r.id,
        "number": literal(0),
        "code": case((r.outcome.in_(_NO_CODE), null()), else_=r.code),
        "started_at_ms": r.attempt_started_at_ms,
        "latency_ms": r.attempt_latency_ms,
        "ttft_ms": r.ttft_ms - r.attempt_started_at_ms + r.created_at_ms,
    }
    columns = [told_by_request[name].label(name) if name in told_by_request else r[name] for name in attempts.c.keys()]  # noqa: SIM118
    lone = select(*columns, r.key_id, r.created_at_ms).where(r.outcome.is_not(None))
    rows = select(*attempts.c, r.key_id, r.created_at_ms).join_from(attempts, requests, attempts.c.request_id == r.id)
    return union_all(lone, rows).subquery("every_attempt")


every_attempt = _every_attempt()
"""To select from: the columns of `AttemptRecord`, and the request's `key_id` and `created_at_ms`. Conditions on these
two and on `request_id` reach the indexes of `requests`."""
