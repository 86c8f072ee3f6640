"""POST /api/v1/feedback: what a user thought of an answer. And what is known of a past request's decision."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from llmwise.api.frame import Call
from llmwise.api.learning import NO_NUL, new_id
from llmwise.domain.errors import NotFound, Unprocessable
from llmwise.domain.money import to_usd
from llmwise.domain.plan import AutoDecision, Checks, Dropped
from llmwise.insights.quality import told_of
from llmwise.insights.shadow import insight_of
from llmwise.storage.insights import Signal
from llmwise.storage.rows import SettledRequest


class FeedbackBody(Struct, forbid_unknown_fields=True):
    """One of `score`, `thumbs`, `regenerate` or a `comment`; a comment may stand beside any. Nothing is ever changed:
    of several the last one counts."""

    request_id: Annotated[str, Meta(min_length=1, max_length=64)]
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    thumbs: Literal["up", "down"] | None = None
    regenerate: Literal[True] | None = None
    comment: Annotated[str, Meta(min_length=1, max_length=4000, pattern=NO_NUL)] | None = None


class FeedbackAnswer(Struct):
    """`value` is what it counts as, 0..1; `null` for a mere comment. `kept_comment` is false where no text is kept."""

    id: str
    request_id: str
    value: float | None
    kept_comment: bool


async def feedback(call: Call) -> FeedbackAnswer:
    """POST /api/v1/feedback."""
    body: FeedbackBody = call.body
    given = [name for name in ("score", "thumbs", "regenerate") if getattr(body, name) is not None]
    if len(given) > 1:
        raise Unprocessable(f"{given[1]}: {given[0]} is given already; say one of them", param=given[1])
    if not given and body.comment is None:
        raise Unprocessable("score: give a score, thumbs, regenerate or a comment", param="score")
    found = await _own(call, body.request_id)
    assert call.key is not None
    services = call.services
    principal = await services.authenticator.principal(call.key)
    keep = services.handling(principal).keep_text
    name = given[0] if given else "comment"
    value = {
        "score": body.score,
        "thumbs": float(body.thumbs == "up"),
        "regenerate": 0.0,
        "comment": None,
    }[name]
    now_ms = services.clock.unix_ms()
    signal = Signal(
        new_id("fb", now_ms),
        found.request.id,
        now_ms,
        "user",
        name,  # type: ignore[arg-type]  # one of the four words above
        value,
        None,
        call.key.id,
        body.comment if keep else None,
    )
    await services.store.add_signals([signal])
    return FeedbackAnswer(signal.id, found.request.id, value, keep and body.comment is not None)


class SignalRow(Struct):
    source: str
    name: str
    value: float | None
    version: str | None
    at_ms: int


class PastDecision(Struct):
    """What was decided for a request then, and what came of it, from its record. `decision` is Auto's, with all its
    candidates; `null` when the model was named. `quality` 0..1 is what the optimizer takes it for."""

    request_id: str
    created_at_ms: int
    requested_model: str
    resolved_model: str | None
    status_code: int
    cost: float | None
    latency_ms: int
    decision: AutoDecision | None
    planned: list[str]
    excluded: list[Dropped]
    attempts: list[str]
    checks: Checks | None
    signals: list[SignalRow]
    quality: float | None
    reasons: list[str]


async def explain_past(call: Call) -> PastDecision:
    """GET /api/v1/route/explain/{request_id}."""
    found = await _own(call, call.path["request_id"])
    record, insight = found.request, insight_of(found.request.insight)
    signals = await call.services.store.signals_of(record.id)
    told = told_of(signals).get(record.id)
    if told is None and insight.checks is not None and insight.checks.passed is not None:
        told = float(insight.checks.passed)
    auto = insight.auto
    reasons = list(auto.reasons) if auto is not None else [f"The model {record.requested_model} was named."]
    if auto is not None and auto.policy_version is not None:
        reasons.append(f"Decided by policy {auto.policy_version}.")
    if auto is not None and auto.trial is not None:
        trial = auto.trial
        reasons.append(f"On trial: {trial.version} ({trial.arm}) would have asked {trial.would}.")
    return PastDecision(
        request_id=record.id,
        created_at_ms=record.created_at_ms,
        requested_model=record.requested_model,
        resolved_model=record.model,
        status_code=record.status,
        cost=None if record.cost_nanousd is None else to_usd(record.cost_nanousd),
        latency_ms=record.latency_ms,
        decision=auto,
        planned=[*insight.planned],
        excluded=[*insight.dropped],
        attempts=[f"{a.model}: {a.outcome}{f' ({a.code})' if a.code else ''}" for a in found.attempts],
        checks=insight.checks,
        signals=[SignalRow(s.source, s.name, s.value, s.version, s.created_at_ms) for s in signals],
        quality=told,
        reasons=reasons,
    )


async def _own(call: Call, request_id: str) -> SettledRequest:
    """Raises `NotFound` also for another key's."""
    assert call.key is not None
    await call.services.writer.flush()
    found = await call.services.store.request(request_id)
    if found is None or (not call.key.admin and found.request.key_id != call.key.id):
        raise NotFound(f"no request {request_id[:64]!r} of this key; /history lists those there are")
    return found
