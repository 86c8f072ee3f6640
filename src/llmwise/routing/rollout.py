"""Which policy decides this request: the adopted one, or the one on trial; and who is left out for doing badly.

    shadow    the adopted policy decides; the one on trial decides too, and the difference is kept in the record
    canary    a share of conversations is decided by the one on trial (`canary`), the others are its `control`
    guard     the adopted policy decides, but for `HELD` of the conversations, which stay with what was before it

Lots are drawn by conversation: a conversation sees one policy, on every machine. A model that does badly is still asked
in `PROBED` of the conversations, or nobody would notice that it is well again.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.plan import Plan, Trial
from llmwise.domain.requests import AUTO, ChatRequest, Goal
from llmwise.routing.auto import AutoSettings
from llmwise.routing.learned import Learned, lot
from llmwise.routing.planner import Planner, View

PROBED = 0.05
HELD = 0.1

Stage: TypeAlias = Literal["shadow", "canary"]


class OnTrial(Struct, frozen=True):
    """`share` of the conversations, 0..1, is the canary's; a shadow has none."""

    learned: Learned
    stage: Stage
    share: float


class Guarded(Struct, frozen=True):
    """The adopted policy of a goal, by its version, still compared with what was in force `before` it (`None`: no
    policy)."""

    version: str
    goal: Goal
    before: Learned | None


class Rollout(Struct, frozen=True):
    """What steers Auto now. `adopted` by goal; `avoid` as in `View`; `auto` goes before the configuration. While one is
    on `trial` nothing is guarded."""

    adopted: Mapping[Goal, Learned] = {}
    trial: OnTrial | None = None
    guarded: Guarded | None = None
    avoid: frozenset[tuple[str | None, str]] = frozenset()
    auto: AutoSettings | None = None


NOTHING = Rollout()


def steered(view: View, rollout: Rollout, token: str) -> View:
    """`view` under what is adopted. `token` stands for the conversation, or for the request where there is none."""
    probes = bool(rollout.avoid) and lot("probe", token) < PROBED
    return replace(
        view,
        learned=rollout.adopted,
        draw=lot("draw", token),
        auto=rollout.auto,
        avoid=() if probes else rollout.avoid,
    )


def plan(planner: Planner, request: ChatRequest, view: View, rollout: Rollout, token: str) -> Plan:
    """As `Planner.plan`, with the policy on trial or under guard. `view` is steered already."""
    trial, guarded = rollout.trial, rollout.guarded
    if request.model != AUTO or (trial is None and guarded is None):
        return planner.plan(request, view)
    goal = request.goal or (view.auto or planner.settings).goal
    if trial is None:
        assert guarded is not None
        return _guarded(planner, request, view, guarded, token) if guarded.goal == goal else planner.plan(request, view)
    if goal != trial.learned.goal:
        return planner.plan(request, view)
    tried = replace(view, learned={**view.learned, trial.learned.goal: trial.learned})
    by_trial = planner.plan(request, tried)
    version, would = trial.learned.version, by_trial.attempts[0].target.id
    if trial.stage == "shadow":
        return _marked(planner.plan(request, view), Trial(version, "shadow", would))
    if lot(f"canary/{version}", token) < trial.share:
        return _marked(by_trial, Trial(version, "canary", would))
    return _marked(planner.plan(request, view), Trial(version, "control", would))


def _guarded(planner: Planner, request: ChatRequest, view: View, guarded: Guarded, token: str) -> Plan:
    by_adopted = planner.plan(request, view)
    would = by_adopted.attempts[0].target.id
    if lot(f"guard/{guarded.version}", token) >= HELD:
        return _marked(by_adopted, Trial(guarded.version, "canary", would))
    others = {goal: learned for goal, learned in view.learned.items() if goal != guarded.goal}
    held = others if guarded.before is None else {**others, guarded.goal: guarded.before}
    return _marked(planner.plan(request, replace(view, learned=held)), Trial(guarded.version, "control", would))


def _marked(plan: Plan, trial: Trial) -> Plan:
    return plan if plan.auto is None else replace(plan, auto=replace(plan.auto, trial=trial))
