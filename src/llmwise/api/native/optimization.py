"""What the logs say: /optimization/policy, report, evaluate, snapshots, alerts.

A key sees what its own requests say, an administrator everybody's. Settings of the policy are the gateway's, and an
administrator's to change.
"""

from collections import Counter, defaultdict
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import decode, encode
from msgspec.structs import asdict, replace

from llmwise.api.frame import Call
from llmwise.api.learning import Logs, estimated, keep, logs, new_id, note, proposed, whole
from llmwise.domain.money import to_usd
from llmwise.domain.requests import Goal
from llmwise.insights.alerts import Alert
from llmwise.insights.control import Control, Guard, PolicySettings, TrialState
from llmwise.insights.estimate import Estimates
from llmwise.insights.policy import Policy, TaskPolicy, today_of
from llmwise.insights.quality import Calibration, calibrate
from llmwise.routing.learned import MOST_EXPLORED
from llmwise.storage.insights import Document

Days = Annotated[int, Meta(ge=1, le=90)]
Limit = Annotated[int, Meta(ge=1, le=200)]


class PolicyAnswer(Struct):
    """The settings, and what is in force. `goal` and `max_fallbacks` hold where a request doesn't say; `configured`
    says which of them are the configuration's. `adopted`: goal -> version; `avoid`: who is left out for doing badly."""

    enabled: bool
    goal: Goal
    max_fallbacks: int
    models: list[str] | None
    explore: float
    guard_points: float
    configured: list[str]
    adopted: dict[str, str]
    trial: TrialState | None
    guard: Guard | None
    avoid: list[Any]
    updated_at_ms: int


class PolicyBody(Struct, forbid_unknown_fields=True):
    """What is left out stays; `null` gives a setting back to the configuration. The fields of the answer that can't be
    set are taken and not looked at, so that the answer can be sent back changed."""

    enabled: bool | UnsetType = UNSET
    goal: Goal | UnsetType | None = UNSET
    max_fallbacks: Annotated[int, Meta(ge=0, le=8)] | UnsetType | None = UNSET
    models: Annotated[list[str], Meta(min_length=1, max_length=200)] | UnsetType | None = UNSET
    explore: Annotated[float, Meta(ge=0, le=MOST_EXPLORED)] | UnsetType = UNSET
    guard_points: Annotated[float, Meta(ge=0, le=1)] | UnsetType = UNSET
    configured: Any = None
    adopted: Any = None
    trial: Any = None
    guard: Any = None
    avoid: Any = None
    updated_at_ms: Any = None


class ReportQuery(Struct, forbid_unknown_fields=True):
    goal: Goal = "balanced"
    days: Days = 30
    min_calls_per_model: Annotated[int, Meta(ge=1, le=1_000_000)] = 3
    use_policy: bool = True
    persist_snapshot: bool = False


class ModelRow(Struct):
    """A model over all task types: first attempts and fallbacks. Rates 0..1, USD, ms; `null` is "not known"."""

    model: str
    provider: str
    calls: int
    success_rate: float | None
    mean_cost: float | None
    mean_latency_ms: int | None
    quality: float | None
    judged: int


class Recommended(Struct):
    """Over all task types: the model that is primary for most of the traffic, and whom after it."""

    primary_model: str
    fallback_chain: list[str]


class Report(Struct):
    """What the logs speak for. `tasks` have it by task type with n, intervals, guard and reasons; `recommended` is
    `null` where no task type has enough. `untyped` attempts have no task type: neither Auto nor a kept text told."""

    goal: str
    days: int
    generated_at_ms: int
    requests: int
    attempts: int
    untyped: int
    enough: bool
    use_policy: bool
    policy_version: str
    guard_points: float
    recommended: Recommended | None
    tasks: list[TaskPolicy]
    models: list[ModelRow]
    judges: list[Calibration]
    notes: list[str]
    snapshot_id: str | None = None


class SnapshotsQuery(Struct, forbid_unknown_fields=True):
    goal: Goal | None = None
    limit: Limit = 20


class SnapshotList(Struct):
    total: int
    items: list[Report]


class AlertsQuery(Struct, forbid_unknown_fields=True):
    limit: Limit = 12


class AlertList(Struct):
    """Newest first. `open` counts those that last."""

    total: int
    open: int
    items: list[Alert]


class EvaluateBody(Struct, forbid_unknown_fields=True):
    """`goal` is by default the policy's."""

    goal: Goal | None = None
    days: Days = 30


async def policy(call: Call) -> PolicyAnswer:
    """GET /api/v1/optimization/policy."""
    await call.services.steering.refresh(call.services.planner.settings)
    return _policy(call, call.services.steering.control)


async def set_policy(call: Call) -> PolicyAnswer:
    """PUT /api/v1/optimization/policy, for administrators."""
    body: PolicyBody = call.body
    services = call.services
    assert call.key is not None
    given = {name: getattr(body, name) for name in PolicySettings.__struct_fields__}
    given = {name: value for name, value in given.items() if value is not UNSET}
    if given.get("models") is not None:
        given["models"] = tuple(services.catalog.resolve(name).id for name in given["models"])

    def change(control: Control) -> Control:
        return replace(control, settings=replace(control.settings, **given))

    control = await services.steering.change(change, services.planner.settings, services.clock.unix_ms())
    why = ", ".join(f"{name} = {value}" for name, value in given.items())
    await note(services, "settings", goal=control.settings.goal or "", version=None, by=call.key.name, why=why)
    return _policy(call, control)


async def report(call: Call) -> Report:
    """GET /api/v1/optimization/report."""
    query: ReportQuery = call.query
    found = await logs(call.services, query.days, key_id=_whose(call))
    made, _ = await _report(call, found, query)
    if query.persist_snapshot:
        await _snapshot(call, made)
    return made


async def evaluate(call: Call) -> Report:
    """POST /api/v1/optimization/evaluate: a report on everybody's requests, kept as a snapshot, and its policy as a
    version that can be adopted. For administrators."""
    body: EvaluateBody = call.body or EvaluateBody()
    services = call.services
    assert call.key is not None
    goal = body.goal or _goal(call)
    made, version = await _report(call, await logs(services, body.days), ReportQuery(goal=goal, days=body.days))
    version = await whole(services, body.days, version)
    made = replace(made, policy_version=version.version)
    await keep(services, version)
    await _snapshot(call, made)
    return made


async def snapshots(call: Call) -> SnapshotList:
    """GET /api/v1/optimization/snapshots, newest first."""
    query: SnapshotsQuery = call.query
    _, documents = await call.services.store.latest_documents("snapshot", 1000)
    found = [decode(document.body, type=_Kept) for document in documents]
    whose = _whose(call)
    mine = [one.report for one in found if (whose is None or one.key_id == whose)]
    wanted = [one for one in mine if query.goal in (None, one.goal)]
    return SnapshotList(len(wanted), wanted[: query.limit])


async def alerts(call: Call) -> AlertList:
    """GET /api/v1/optimization/alerts, for administrators: they speak of everybody's requests."""
    query: AlertsQuery = call.query
    total, documents = await call.services.store.latest_documents("alert", 1000)
    found = [decode(document.body, type=Alert) for document in documents]
    return AlertList(total, sum(one.ended_at_ms is None for one in found), found[: query.limit])


class _Kept(Struct):
    key_id: str
    report: Report


async def _report(call: Call, found: Logs, query: ReportQuery) -> tuple[Report, Policy]:
    services = call.services
    models = _models(found)
    calls: Counter[str] = Counter()
    for row in models:
        calls[row.model] += row.calls
    rare = {model for model, count in calls.items() if count < query.min_calls_per_model}
    estimates = _without(await estimated(found), rare)
    version = proposed(services, estimates, query.goal, use_policy=query.use_policy)
    tasks = [*version.tasks.values()]
    enough = [task for task in tasks if task.enough]
    notes = []
    if not enough:
        notes.append("Not enough data: no task type has 50 effective conversations with today's model.")
    if estimates.untyped:
        notes.append(f"{estimates.untyped} attempts have no task type: their text is not kept.")
    made = Report(
        goal=query.goal,
        days=query.days,
        generated_at_ms=services.clock.unix_ms(),
        requests=len(found.settled),
        attempts=estimates.rows,
        untyped=estimates.untyped,
        enough=bool(enough),
        use_policy=query.use_policy,
        policy_version=version.version,
        guard_points=version.guard_points,
        recommended=_recommended(enough),
        tasks=tasks,
        models=[row for row in models if row.model not in rare],
        judges=[*calibrate(found.signals).values()],
        notes=notes,
    )
    return made, version


def _without(estimates: Estimates, rare: set[str]) -> Estimates:
    """Without models of too few calls, and without the task types whose today's model is one of them: what the others
    do there could be compared with nothing."""
    today = today_of(estimates)
    kept = {key: cell for key, cell in estimates.cells.items() if not rare & {cell.model, today[cell.task_type]}}
    return replace(estimates, cells=kept)


async def _snapshot(call: Call, made: Report) -> None:
    assert call.key is not None
    made.snapshot_id = new_id("snp", made.generated_at_ms)
    body = encode(_Kept(call.key.id, made)).decode()
    at = made.generated_at_ms
    await call.services.store.put_document(Document("snapshot", made.snapshot_id, at, at, body))


def _recommended(tasks: list[TaskPolicy]) -> Recommended | None:
    if not tasks:
        return None
    weights: dict[str, float] = defaultdict(float)
    for task in tasks:
        weights[task.primary] += task.n
    primary = max(weights, key=lambda model: (weights[model], model))
    chain: dict[str, None] = {}
    for task in sorted(tasks, key=lambda task: -task.n):
        if task.primary == primary:
            chain |= dict.fromkeys(task.chain)
    return Recommended(primary, [*chain][:3])


def _models(found: Logs) -> list[ModelRow]:
    by: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in found.rows():
        by[row.model, row.provider].append(row)
    made = []
    for (model, provider), mine in sorted(by.items()):
        known = [row.success for row in mine if row.success is not None]
        costs = [row.cost_nanousd for row in mine if row.cost_nanousd is not None]
        times = [row.latency_ms for row in mine if row.success]
        good = [row.quality for row in mine if row.quality is not None]
        made.append(
            ModelRow(
                model,
                provider,
                len(mine),
                sum(known) / len(known) if known else None,
                to_usd(round(sum(costs) / len(costs))) if costs else None,
                round(sum(times) / len(times)) if times else None,
                sum(good) / len(good) if good else None,
                len(good),
            )
        )
    return sorted(made, key=lambda row: (-row.calls, row.model))


def _policy(call: Call, control: Control) -> PolicyAnswer:
    settings, auto = control.settings, call.services.planner.settings
    own = asdict(settings)
    return PolicyAnswer(
        enabled=settings.enabled,
        goal=settings.goal or auto.goal,
        max_fallbacks=auto.max_fallbacks if settings.max_fallbacks is None else settings.max_fallbacks,
        models=None if settings.models is None else [*settings.models],
        explore=settings.explore,
        guard_points=settings.guard_points,
        configured=[name for name in ("goal", "max_fallbacks", "models") if own[name] is None],
        adopted=dict(control.adopted.items()),
        trial=control.trial,
        guard=control.guard,
        avoid=[list(pair) for pair in control.avoid],
        updated_at_ms=control.updated_at_ms,
    )


def _goal(call: Call) -> Goal:
    return call.services.steering.control.settings.goal or call.services.planner.settings.goal


def _whose(call: Call) -> str | None:
    assert call.key is not None
    return None if call.key.admin else call.key.id
