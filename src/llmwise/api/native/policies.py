"""Versions of policies: list, adopt, return, try as a shadow or a canary. Ours: the published clients know them not."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.json import decode

from llmwise.api.frame import Call
from llmwise.api.learning import note
from llmwise.api.services import Services
from llmwise.domain.errors import Conflict, NotFound, Unprocessable
from llmwise.domain.requests import Goal
from llmwise.insights import control as controls
from llmwise.insights.control import Adoption, Control, Guard, Margin, Share, TrialState, policy_of
from llmwise.insights.policy import Policy, learned
from llmwise.insights.quality import qualities
from llmwise.insights.shadow import Result, judge
from llmwise.routing.rollout import Stage

Limit = Annotated[int, Meta(ge=1, le=200)]
Why = Annotated[str, Meta(max_length=500)]
MOST_TRIED = 50_000


class ListQuery(Struct, forbid_unknown_fields=True):
    limit: Limit = 25


class VersionRow(Struct):
    """A version in short. `state`: in force for its goal (`adopted`), on trial, or neither (`proposed`)."""

    version: str
    goal: str
    state: Literal["adopted", "shadow", "canary", "proposed"]
    created_at_ms: int
    tasks: dict[str, str]
    not_enough: list[str]


class VersionList(Struct):
    """`adoptions` are what was in force since when, oldest first; `events` who changed what and why, newest first, for
    administrators (others get none)."""

    total: int
    items: list[VersionRow]
    adoptions: list[Adoption]
    events: list[Any]


class AdoptBody(Struct, forbid_unknown_fields=True):
    """With `guard_days` a tenth of the conversations stays for so long with what was in force before; if the new
    version is surely worse than these by more than `margin`, it is given back by itself."""

    why: Why = ""
    guard_days: Annotated[float, Meta(ge=0, le=30)] = 0.0
    margin: Margin = 0.05


class ReturnBody(Struct, forbid_unknown_fields=True):
    """`goal` is by default the only one with a version in force."""

    goal: Goal | None = None
    why: Why = ""


class TrialBody(Struct, forbid_unknown_fields=True):
    """`shadow` decides nothing; `canary` decides for a share of conversations. A canary that is worse by more than
    `margin` is given up by itself, one that is surely not is adopted if `adopt_when_passed`."""

    stage: Stage = "shadow"
    share: Share = 0.1
    margin: Margin = 0.05
    adopt_when_passed: bool = True
    why: Why = ""


class InForce(Struct):
    """After a change: goal -> version, the trial, and the guard on what was adopted."""

    adopted: dict[str, str]
    trial: TrialState | None
    guard: Guard | None
    updated_at_ms: int


class TrialAnswer(Struct):
    trial: TrialState
    result: Result


async def list_versions(call: Call) -> VersionList:
    """GET /api/v1/optimization/policies: what Auto may do. What the traffic of all says of it is an administrator's."""
    query: ListQuery = call.query
    services = call.services
    await services.steering.refresh(services.planner.settings)
    control = services.steering.control
    total, documents = await services.store.latest_documents("policy", query.limit)
    assert call.key is not None
    events = (await services.store.latest_documents("event", query.limit))[1] if call.key.admin else []
    items = [_row(policy_of(document.body), control) for document in documents]
    return VersionList(total, items, [*control.adoptions], [decode(event.body) for event in events])


async def one_version(call: Call) -> Policy:
    """GET /api/v1/optimization/policies/{version}: whole, with options, intervals and reasons, for
    administrators."""
    return await version_of(call.services, call.path["version"])


async def adopt(call: Call) -> InForce:
    """POST /api/v1/optimization/policies/{version}/adopt."""
    body: AdoptBody = call.body or AdoptBody()
    policy = await _usable(call)
    now_ms = call.services.clock.unix_ms()

    def change(control: Control) -> Control:
        return controls.adopt(
            control, policy.goal, policy.version, now_ms, guard_days=body.guard_days, margin=body.margin
        )

    control = await _change(call, change)
    await _note(call, "adopted", policy.goal, policy.version, body.why)
    return _in_force(control)


async def give_back(call: Call) -> InForce:
    """POST /api/v1/optimization/return: the version before comes back in force, or none."""
    body: ReturnBody = call.body or ReturnBody()
    services = call.services
    await services.steering.refresh(services.planner.settings)
    adopted = services.steering.control.adopted
    goal = body.goal
    if goal is None:
        if len(adopted) > 1:
            raise Unprocessable(f"goal: is required, there are policies for {', '.join(adopted)}", param="goal")
        goal = next(iter(adopted), None)
        if goal is None:
            raise Conflict("no policy is in force: there is nothing to return from", code="nothing_adopted")
    left, wanted = adopted.get(goal), goal
    now_ms = services.clock.unix_ms()
    control = await _change(call, lambda control: controls.give_back(control, wanted, now_ms))
    await _note(call, "given_back", goal, left, body.why)
    return _in_force(control)


async def begin_trial(call: Call) -> InForce:
    """POST /api/v1/optimization/policies/{version}/trial."""
    body: TrialBody = call.body or TrialBody()
    policy = await _usable(call)
    trial = TrialState(
        policy.version,
        policy.goal,
        body.stage,
        body.share,
        body.margin,
        body.adopt_when_passed,
        call.services.clock.unix_ms(),
    )
    control = await _change(call, lambda control: controls.begin(control, trial))
    await _note(call, body.stage, policy.goal, policy.version, body.why)
    return _in_force(control)


async def trial(call: Call) -> TrialAnswer:
    """GET /api/v1/optimization/trial: what it says so far, for administrators."""
    services = call.services
    await services.steering.refresh(services.planner.settings)
    running = services.steering.control.trial
    if running is None:
        raise NotFound("no policy is on trial", code="no_trial")
    await services.writer.flush()
    now_ms = services.clock.unix_ms()
    settled = await services.store.settled_between(running.began_at_ms, now_ms + 1, MOST_TRIED)
    signals = await services.store.signals_since(running.began_at_ms)
    return TrialAnswer(running, judge(settled, running.version, running.margin, qualities(settled, signals)))


async def end_trial(call: Call) -> InForce:
    """DELETE /api/v1/optimization/trial."""
    return _in_force(await _change(call, controls.end))


async def version_of(services: Services, version: str) -> Policy:
    """Raises `NotFound`."""
    document = await services.store.document("policy", version)
    if document is None:
        raise NotFound(f"no policy {version[:64]!r}; POST /optimization/evaluate proposes one", code="policy_not_found")
    return policy_of(document.body)


async def _usable(call: Call) -> Policy:
    """Raises `Conflict` for a policy that has learned nothing: in force it would change nothing."""
    policy = await version_of(call.services, call.path["version"])
    made = learned(policy)
    if not made.tasks and (made.priced is None or made.priced.stays):
        raise Conflict(f"{policy.version} has no task type with enough data", code="not_enough_data")
    return policy


async def _change(call: Call, change: Callable[[Control], Control]) -> Control:
    """Change what is decided, with an event for the trial that it ends, if it ends one."""
    services = call.services
    running = services.steering.control.trial
    control = await services.steering.change(change, services.planner.settings, services.clock.unix_ms())
    if running is not None and control.trial is None:
        await _note(call, "ended", running.goal, running.version, "")
    return control


async def _note(call: Call, what: str, goal: str, version: str | None, why: str) -> None:
    assert call.key is not None
    await note(call.services, what, goal=goal, version=version, by=call.key.name, why=why)


def _in_force(control: Control) -> InForce:
    return InForce(dict(control.adopted.items()), control.trial, control.guard, control.updated_at_ms)


def _row(policy: Policy, control: Control) -> VersionRow:
    state: Any = "proposed"
    if control.adopted.get(policy.goal) == policy.version:
        state = "adopted"
    elif control.trial is not None and control.trial.version == policy.version:
        state = control.trial.stage
    return VersionRow(
        policy.version,
        policy.goal,
        state,
        policy.created_at_ms,
        {task.task_type: task.primary for task in policy.tasks.values() if task.enough},
        [task.task_type for task in policy.tasks.values() if not task.enough],
    )
