"""What an administrator has decided about policies: settings, versions in force, the one on trial. One document,
changed in one transaction each time, with an event for every change; all processes read it again every few seconds.

    proposed -> shadow -> canary -> adopted (under guard) -> given back        any may be skipped but the first
"""

from collections.abc import Callable, Mapping
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.json import Decoder, encode
from msgspec.structs import replace

from llmwise.domain.errors import Conflict, NotFound
from llmwise.domain.requests import Goal
from llmwise.insights.policy import Policy, learned
from llmwise.routing.auto import AutoSettings
from llmwise.routing.learned import MOST_EXPLORED, Learned
from llmwise.routing.rollout import Guarded, OnTrial, Rollout, Stage
from llmwise.storage.store import Store

DAY_MS = 86_400_000
KEPT = 50
"""Adoptions remembered, to return to."""

Share = Annotated[float, Meta(gt=0, le=0.5)]
Margin = Annotated[float, Meta(gt=0, le=0.5)]


class PolicySettings(Struct, frozen=True):
    """What a policy may do. `None`: as the configuration's `[auto]` says.

    enabled        false: Auto decides as if there were no policies
    goal           of requests that don't say theirs
    max_fallbacks  so many models are tried after the chosen one; 0 attaches no chain
    models         only these are candidates
    explore        share of conversations in which other good models are tried
    guard_points   by so much quality may be worse than today's, 0..1
    """

    enabled: bool = True
    goal: Goal | None = None
    max_fallbacks: Annotated[int, Meta(ge=0, le=8)] | None = None
    models: tuple[str, ...] | None = None
    explore: Annotated[float, Meta(ge=0, le=MOST_EXPLORED)] = 0.0
    guard_points: Annotated[float, Meta(ge=0, le=1)] = 0.02


class Adoption(Struct, frozen=True):
    """From `at_ms` on a goal had this version in force; `None`: none."""

    goal: Goal
    version: str | None
    at_ms: int


class TrialState(Struct, frozen=True):
    """`adopt_when_passed`: a canary that passes is adopted by itself. `margin`: it may be worse by this, 0..1."""

    version: str
    goal: Goal
    stage: Stage
    share: float
    margin: float
    adopt_when_passed: bool
    began_at_ms: int


class Guard(Struct, frozen=True):
    """An adoption that is still watched: until `until_ms` a part of the conversations stays with `before`, and if the
    new version is surely worse than these by more than `margin`, it is given back."""

    version: str
    goal: Goal
    before: str | None
    margin: float
    began_at_ms: int
    until_ms: int


class Control(Struct, frozen=True):
    """`avoid` are the (task type or `None`, model) that do badly just now."""

    settings: PolicySettings = PolicySettings()
    adopted: dict[Goal, str] = {}
    adoptions: tuple[Adoption, ...] = ()
    trial: TrialState | None = None
    guard: Guard | None = None
    avoid: tuple[tuple[str | None, str], ...] = ()
    updated_at_ms: int = 0


_control = Decoder(Control).decode
_policy = Decoder(Policy).decode


def control_of(body: str | None) -> Control:
    return Control() if body is None else _control(body)


def policy_of(body: str) -> Policy:
    return _policy(body)


def adopt(
    control: Control, goal: Goal, version: str, now_ms: int, *, guard_days: float = 0.0, margin: float = 0.05
) -> Control:
    """Raises `Conflict` when it is in force already. A trial for the same goal ends, since what it was compared with is
    no more in force, and so does any guard. With `guard_days` a new one begins, and any trial ends: two comparisons at
    once would be none."""
    if control.adopted.get(goal) == version:
        raise Conflict(f"{version} is in force for {goal} already", code="already_adopted")
    guard, trial = None, _unless(control.trial, goal)
    if guard_days > 0:
        trial = None
        guard = Guard(version, goal, control.adopted.get(goal), margin, now_ms, now_ms + round(guard_days * DAY_MS))
    return replace(
        control,
        guard=guard,
        adopted={**control.adopted, goal: version},
        adoptions=(*control.adoptions, Adoption(goal, version, now_ms))[-KEPT:],
        trial=trial,
    )


def give_back(control: Control, goal: Goal, now_ms: int) -> Control:
    """The version before comes back in force, or none. Raises `Conflict` when none is in force. A trial and a guard for
    the goal end."""
    if goal not in control.adopted:
        raise Conflict(f"no policy is in force for {goal}: there is nothing to return from", code="nothing_adopted")
    of_goal = [one for one in control.adoptions if one.goal == goal][:-1]
    before = of_goal[-1].version if of_goal else None
    adopted = {name: version for name, version in control.adopted.items() if name != goal}
    if before is not None:
        adopted[goal] = before
    others = tuple(one for one in control.adoptions if one.goal != goal)
    guard = None if control.guard is not None and control.guard.goal == goal else control.guard
    return replace(
        control, adopted=adopted, adoptions=(*others, *of_goal), guard=guard, trial=_unless(control.trial, goal)
    )


def _unless(trial: TrialState | None, goal: Goal) -> TrialState | None:
    return None if trial is not None and trial.goal == goal else trial


def begin(control: Control, trial: TrialState) -> Control:
    """Raises `Conflict` while another version is on trial. The same one may go on to another stage. A guard ends: two
    comparisons at once would be none."""
    if control.trial is not None and control.trial.version != trial.version:
        text = f"{control.trial.version} is on trial: end it first (DELETE /api/v1/optimization/trial)"
        raise Conflict(text, code="trial_running")
    if control.adopted.get(trial.goal) == trial.version:
        raise Conflict(f"{trial.version} is in force for {trial.goal} already", code="already_adopted")
    return replace(control, trial=trial, guard=None)


def end(control: Control) -> Control:
    """Raises `NotFound` without a trial."""
    if control.trial is None:
        raise NotFound("no policy is on trial", code="no_trial")
    return replace(control, trial=None)


def settings_of(control: Control, auto: AutoSettings) -> AutoSettings:
    """The configuration's, with what an administrator has set in its place."""
    settings = control.settings
    return replace(
        auto,
        goal=settings.goal or auto.goal,
        max_fallbacks=auto.max_fallbacks if settings.max_fallbacks is None else settings.max_fallbacks,
        models=auto.models if settings.models is None else [*settings.models],
    )


def version_in_force(control: Control, goal: Goal) -> str | None:
    return control.adopted.get(goal) if control.settings.enabled else None


class Steering:
    """What steers Auto in this process: `rollout`, made anew by `refresh`. `auto` are the configuration's settings."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._policies: dict[str, Policy] = {}
        self.control = Control()
        self.rollout = Rollout()

    async def refresh(self, auto: AutoSettings) -> None:
        """Read what is decided. Cheap while nothing has changed: one row."""
        found = await self._store.document("control", "policy")
        self.control = control_of(None if found is None else found.body)
        wanted = {*self.control.adopted.values()}
        if self.control.trial is not None:
            wanted.add(self.control.trial.version)
        if self.control.guard is not None and self.control.guard.before is not None:
            wanted.add(self.control.guard.before)
        for version in wanted - self._policies.keys():
            document = await self._store.document("policy", version)
            if document is not None:
                self._policies[version] = policy_of(document.body)
        self.rollout = rollout_of(self.control, self._policies, auto)

    def in_force(self, goal: Goal) -> Policy | None:
        """The adopted policy of a goal, whole."""
        version = version_in_force(self.control, goal)
        return None if version is None else self._policies.get(version)

    async def change(self, change: Callable[[Control], Control], auto: AutoSettings, now_ms: int) -> Control:
        """Change what is decided, for all processes. Raises what `change` raises, and then nothing is changed."""

        def to(body: str | None) -> str:
            return encode(replace(change(control_of(body)), updated_at_ms=now_ms)).decode()

        await self._store.change_document("control", "policy", now_ms, to)
        await self.refresh(auto)
        return self.control


def rollout_of(control: Control, policies: Mapping[str, Policy], auto: AutoSettings) -> Rollout:
    """A version that is not in the database (any more) is not in force. `auto` is resolved: its names are ids."""
    settings, override = control.settings, settings_of(control, auto)
    avoid = frozenset(control.avoid)
    if not settings.enabled:
        return Rollout(auto=override, avoid=avoid)

    def table(version: str, explore: float) -> Learned | None:
        policy = policies.get(version)
        return None if policy is None else learned(policy, explore)

    adopted = {goal: found for goal, version in control.adopted.items() if (found := table(version, settings.explore))}
    trial, of = None, control.trial
    if of is not None and (found := table(of.version, 0.0)) is not None:
        trial = OnTrial(found, of.stage, of.share if of.stage == "canary" else 0.0)
    guarded, by = None, control.guard
    if by is not None and by.goal in adopted:
        before = None if by.before is None else table(by.before, settings.explore)
        guarded = Guarded(by.version, by.goal, before)
    return Rollout(adopted, trial, guarded, avoid, override)
