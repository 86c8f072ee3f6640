"""GET /api/v1/models, and what the gateway knows of its targets."""

import math

from msgspec import Struct

from llmwise.api.frame import Call
from llmwise.api.intake import planned
from llmwise.api.native.translate import to_request
from llmwise.api.services import Services
from llmwise.domain.models import ModelCard
from llmwise.domain.money import NANO_PER_USD, to_usd
from llmwise.domain.plan import AutoDecision, Plan
from llmwise.routing.chains import Chain
from llmwise.routing.health import UNSEEN


class ModelRow(Struct):
    """A model on offer. Prices in USD per million tokens; `null` is "not known", which is not free. `chain` are the
    models behind the name of a configured chain, `null` for a model."""

    id: str
    name: str
    provider: str
    vision: bool
    is_free: bool
    tier: str
    context_window: int
    max_output: int | None
    input_price: float | None
    output_price: float | None
    cache_read_price: float | None
    capabilities: dict[str, bool]
    aliases: list[str]
    demonstration: bool
    chain: list[str] | None = None


async def list_models(call: Call) -> list[ModelRow]:
    planner = call.services.planner
    models = [_row(card) for card in call.services.catalog.models if card.kind == "chat"]
    return [*models, *map(_row, planner.composed.values()), *map(_chain_row, planner.chains.values())]


def _chain_row(chain: Chain) -> ModelRow:
    row = _row(chain.card)
    row.chain = [card.id for card in chain.targets]
    return row


def _row(card: ModelCard) -> ModelRow:
    rate, can = card.rate, card.capabilities
    read = None if rate is None else rate.input if rate.cache_read is None else rate.cache_read
    return ModelRow(
        id=card.id,
        name=card.name or card.id,
        provider=card.provider,
        vision=can.vision,
        is_free=rate is not None and rate.input == rate.output == 0,
        tier=card.tier,
        context_window=card.context_window,
        max_output=card.max_output,
        input_price=None if rate is None else rate.input / NANO_PER_USD,
        output_price=None if rate is None else rate.output / NANO_PER_USD,
        cache_read_price=None if read is None else read / NANO_PER_USD,
        capabilities={name: getattr(can, name) for name in type(can).__struct_fields__},
        aliases=list(card.aliases),
        demonstration=card.demonstration,
    )


class CandidateRow(Struct):
    """A candidate as Auto saw it, in the order to try. Cost in USD for this request, `null` where no price is known."""

    model: str
    cost: float | None
    latency_ms: float | None
    quality: float
    score: float
    reason: str


class ExcludedRow(Struct):
    """A candidate left out, with a stable `reason`."""

    model: str
    reason: str
    detail: str


class PlannedRow(Struct):
    model: str
    provider: str
    reason: str
    circuit: str


class Explanation(Struct):
    """The decision that `POST /chat` would take now. No model is called."""

    requested_model: str
    resolved_model: str
    strategy: str
    auto_strategy: str | None
    optimization_goal: str | None
    task_type: str
    confidence: float
    difficulty: float
    signals: list[str]
    reasons: list[str]
    plan: list[PlannedRow]
    candidates: list[CandidateRow]
    excluded: list[ExcludedRow]


async def explain(call: Call) -> Explanation:
    """POST /api/v1/route/explain."""
    services = call.services
    assert call.key is not None
    request, plan = await planned(services, call.key, call.request.headers.raw, to_request(call.body))
    auto: AutoDecision | None = plan.auto
    seen = services.planner.classify(request)
    return Explanation(
        requested_model=request.model,
        resolved_model=plan.attempts[0].target.id,
        strategy=plan.strategy,
        auto_strategy=auto.strategy if auto is not None else None,
        optimization_goal=auto.goal if auto is not None else request.goal,
        task_type=str(seen.task_type),
        confidence=seen.confidence,
        difficulty=seen.difficulty,
        signals=list(seen.signals),
        reasons=list(auto.reasons) if auto is not None else [_named(services, request.model, plan)],
        plan=[
            PlannedRow(a.target.id, a.target.provider, a.reason, services.state.breaker(a.target.id).phase)
            for a in plan.attempts
        ],
        candidates=[
            CandidateRow(
                c.model,
                None if c.cost_nanousd is None else to_usd(c.cost_nanousd),
                c.latency_ms,
                c.quality,
                c.score,
                c.reason,
            )
            for c in (auto.candidates if auto is not None else ())
        ],
        excluded=[ExcludedRow(d.model, d.reason, d.detail) for d in plan.dropped],
    )


def _named(services: Services, model: str, plan: Plan) -> str:
    chain = services.planner.chain(model)
    if chain is None:
        return "The model was named; nothing was left to choose."
    names = ", ".join(card.id for card in chain.targets)
    return f"The chain {chain.name} was named: {names}, in the order of {plan.strategy}."


class TargetRow(Struct):
    """A target's circuit and health since the start. `retry_in_s` says when an open circuit is tried again."""

    model: str
    provider: str
    circuit: str
    consecutive_failures: int
    retry_in_s: int | None
    reason: str | None
    successes: int
    failures: int
    failure_rate: float | None
    ttft_ms: float | None


class Targets(Struct):
    targets: list[TargetRow]


async def targets(call: Call) -> Targets:
    """GET /api/v1/health/targets."""
    services = call.services
    health, now = services.state.health(), services.clock.monotonic()
    rows = []
    for card in services.catalog.models:
        breaker, seen = services.state.breaker(card.id), health.get(card.id, UNSEEN)
        rows.append(
            TargetRow(
                model=card.id,
                provider=card.provider,
                circuit=breaker.phase,
                consecutive_failures=breaker.failures,
                retry_in_s=None if breaker.phase == "closed" else max(0, math.ceil(breaker.until - now)),
                reason=breaker.reason,
                successes=seen.successes,
                failures=seen.failures,
                failure_rate=seen.failure_rate,
                ttft_ms=seen.ttft_ms,
            )
        )
    return Targets(rows)
