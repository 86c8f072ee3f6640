"""Recorded traffic under another policy: through the planner, and, when asked, really asked again within a limit.

replay   whom the planner would ask now, and what the logs say of that; no model is called
rerun    a sample is sent again, graded by a judge beside the answers of then, and billed to the caller's account
"""

import asyncio
from random import Random
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from llmwise.api.asking import asker
from llmwise.api.frame import Call, parse_query
from llmwise.api.learning import NO_NUL, Logs, estimated, keep, logs, new_id, proposed, reference_of
from llmwise.api.native.policies import version_of
from llmwise.api.rerunning import pairwise, priciest
from llmwise.catalog.cost import estimate
from llmwise.domain.errors import Unprocessable
from llmwise.domain.models import ModelCard
from llmwise.domain.money import from_usd, to_usd
from llmwise.domain.requests import ChatRequest, Goal
from llmwise.insights import rerun as reruns
from llmwise.insights.bounded import Asked, NothingToLearn, bound
from llmwise.insights.intervals import Estimate
from llmwise.insights.policy import joined, learned
from llmwise.insights.quality import judged_by
from llmwise.insights.replay import Compared, Replanned, Replay, Why, compared, replanned, replay
from llmwise.insights.rerun import Rerun
from llmwise.insights.suites import MAX_MODELS
from llmwise.routing.learned import Learned, lot
from llmwise.routing.planner import View
from llmwise.storage.rows import SettledRequest

MOST_REPLAYED = 20_000
"""The newest so many go through the planner: some seconds' work in a thread."""

Days = Annotated[int, Meta(ge=1, le=90)]
Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=NO_NUL)]


class ReplayQuery(Struct, forbid_unknown_fields=True):
    """`policy` is a version; absent: the one in force for Auto's goal."""

    days: Days = 30
    sample_size: Annotated[int, Meta(ge=20, le=300)] = 100
    policy: Name | None = None


class ReplayRow(Struct):
    """A past request as it would be planned now. Costs in USD: what it cost, and what its tokens would cost there."""

    request_id: str
    task_type: str | None
    was: str | None
    would_be: str
    auto_strategy: str | None
    cost: float | None
    replayed_cost: float | None


class ReplayAnswer(Struct):
    """`replayed` of `sampled` requests could be planned anew; `changed` go elsewhere; `without_text` of the others had
    no text kept. Costs are sums over those with both known. `estimate` is off-policy, from all the logs of these days:
    quality and cost as they were and would have been, with intervals, of the share of requests that it calls
    `supported`: their choice was left to chance, and the new model seen there so."""

    days: int
    sample_size: int
    sampled: int
    replayed: int
    changed: int
    without_text: int
    cost: float
    replayed_cost: float
    saved_share: float | None
    policy_version: str | None
    estimate: Replay
    items: list[ReplayRow]
    notes: list[str]


class RerunBody(Struct, forbid_unknown_fields=True):
    """Ask `sample_size` past questions anew, for at most `max_usd` in all, grading included. Whom: with `models` each
    of them, every question, and a policy for cost is bounded on the answers and kept as a version; without, whom
    `policy` (absent: the one in force) would ask. `judge` grades, better of another vendor than the judged.
    `max_tokens` of each answer."""

    max_usd: Annotated[float, Meta(gt=0, le=1000)]
    judge: Name
    days: Days = 30
    sample_size: Annotated[int, Meta(ge=1, le=2000)] = 100
    models: Annotated[list[Name], Meta(min_length=1, max_length=MAX_MODELS)] | None = None
    policy: Name | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=32_000)] = 2048


class Proposal(Struct):
    """The policy that the answers carry, as a version to be tried or adopted. `saving` is a share of the cost."""

    version: str
    saving: Estimate
    quality_change: Estimate
    why: str


class Overall(Struct):
    """The change of quality and of cost per question, over all that was sampled."""

    quality: Estimate
    cost_nanousd: Estimate


class RerunAnswer(Struct):
    """`asked` of `sampled` questions have an answer and a grade of everybody; `unchanged` stay with the model of then
    and are not asked; of `incomplete` ones somebody failed or the judge gave no verdict; `unasked` had no room under
    `max_usd`; `left_out` can't be asked again. `changed`, all but the unchanged, go to another model than then.
    `spent` in USD is what was booked for it. `quality` (0..1) and `cost_nanousd` compare the policy with what was,
    question by question, over those asked; `overall` is the change over all of the sample, where the unchanged change
    by nothing. `null` where nothing that changes was graded. The requests are in the history as `conversation_id`."""

    days: int
    sampled: int
    asked: int
    unchanged: int
    changed: int
    incomplete: int
    unasked: int
    left_out: dict[str, int]
    spent: float
    max_usd: float
    conversation_id: str
    policy_version: str | None
    quality: Compared | None
    cost_nanousd: Compared | None
    overall: Overall | None
    proposal: Proposal | None
    notes: list[str]


async def replay_now(call: Call) -> ReplayAnswer:
    """POST /api/v1/optimization/replay: its arguments in the body or in the query."""
    asked: ReplayQuery = call.body or parse_query(ReplayQuery, call.request)  # type: ignore[assignment]  # of the type
    assert call.key is not None
    goal, policy = await _policy(call, asked.policy)
    whose = None if call.key.admin else call.key.id
    found = await logs(call.services, asked.days, limit=MOST_REPLAYED, texts=True, key_id=whose)
    planned = await _planned(call, found, goal, policy)
    told = await asyncio.to_thread(replay, planned)
    numbers = sorted(Random(asked.days).sample(range(len(planned)), min(asked.sample_size, len(planned))))
    rows = [_row(call, found.settled[at], one) for at in numbers if isinstance(one := planned[at], Replanned)]
    both = [(row.cost, row.replayed_cost) for row in rows if row.cost is not None and row.replayed_cost is not None]
    was, would_be = sum(cost for cost, _ in both), sum(cost for _, cost in both)
    notes = ["Tokens are as they were: another model may answer at another length."]
    if policy is None:
        notes.append(f"No policy is in force for {goal}: this is what Auto's heuristics would do.")
    if told.cost_nanousd is None:
        notes.append("No estimate: no choice was left to chance (`explore`). A rerun asks a sample again.")
    without_text = sum(planned[at] == "no_text" for at in numbers)
    if without_text:
        notes.append(f"{without_text} requests have no text kept and can't be classified anew.")
    return ReplayAnswer(
        days=asked.days,
        sample_size=asked.sample_size,
        sampled=len(numbers),
        replayed=len(rows),
        changed=sum(row.was != row.would_be for row in rows),
        without_text=without_text,
        cost=was,
        replayed_cost=would_be,
        saved_share=1 - would_be / was if was else None,
        policy_version=None if policy is None else policy.version,
        estimate=told,
        items=rows,
        notes=notes,
    )


async def rerun_now(call: Call) -> RerunAnswer:
    """POST /api/v1/optimization/rerun, for administrators: when it answers, it is over. Cancelled, what was asked until
    then is booked."""
    body: RerunBody = call.body
    services = call.services
    assert call.key is not None
    judge = services.catalog.resolve(body.judge)
    found = await logs(services, body.days, limit=MOST_REPLAYED, texts=True)
    policy, whom = await _whom(call, body, found)
    past, left_out = reruns.sample([one for one in found.settled if one.request.id in whom], body.sample_size, Random())
    cards = [services.catalog.resolve(name) for name in sorted({name for one in past for name in whom[one.id]})]
    _priced([judge, *cards])
    principal = await services.authenticator.principal(call.key)
    tag = f"llmwise-rerun-{new_id('rer', services.clock.unix_ms())}"
    ask = asker(services, principal, tag)
    done = await reruns.rerun(
        past,
        lambda one: whom[one.id],
        ask,
        pairwise(ask, judge),
        lambda model, one: priciest(services.catalog.resolve(model), judge, one, body.max_tokens),
        from_usd(body.max_usd),
        max_tokens=body.max_tokens,
    )
    notes = []
    if own := [card.id for card in cards if card.vendor == judge.vendor]:
        notes.append(f"{judge.id} judges {', '.join(own)} of its own vendor: judges are kind to their like.")
    if done.unasked:
        notes.append(f"max_usd = {body.max_usd:g} left no room for {done.unasked} questions: long ones fit less often.")
    proposal = None
    if body.models is not None:
        try:
            proposal = await _proposal(call, found, done)
        except NothingToLearn as error:
            notes.append(f"No policy is proposed: {error}.")
    outcomes = [[*one.seen.outcomes.values()] for one in done.asked] if body.models is None else []
    conversations = [one.conversation for one in done.asked][: len(outcomes)]
    quality = compared([o[0].quality for o in outcomes], [o[-1].quality for o in outcomes], conversations, unit=True)
    cost = compared([o[0].cost for o in outcomes], [o[-1].cost for o in outcomes], conversations)
    changed, overall = len(past) - done.unchanged, None
    if quality is not None and cost is not None:
        overall = Overall(*(reruns.over_all(one.change, changed, len(past)) for one in (quality, cost)))
    elif body.models is None and changed:
        notes.append(f"No estimate: of {changed} questions that would go elsewhere none was asked and graded.")
    return RerunAnswer(
        days=body.days,
        sampled=len(past),
        asked=len(done.asked),
        unchanged=done.unchanged,
        changed=changed,
        incomplete=done.incomplete,
        unasked=done.unasked,
        left_out={str(why): count for why, count in left_out.items()},
        spent=to_usd(done.spent_nanousd),
        max_usd=body.max_usd,
        conversation_id=tag,
        policy_version=None if policy is None else policy.version,
        quality=quality,
        cost_nanousd=cost,
        overall=overall,
        proposal=proposal,
        notes=notes,
    )


async def _policy(call: Call, version: str | None) -> tuple[Goal, Learned | None]:
    """A version, or what is in force for Auto's goal, without its exploring: chance is not what is asked about."""
    services = call.services
    await services.steering.refresh(services.planner.settings)
    if version is not None:
        policy = await version_of(services, version)
        return policy.goal, learned(policy)
    goal = services.steering.control.settings.goal or services.planner.settings.goal
    adopted = services.steering.rollout.adopted.get(goal)
    return goal, None if adopted is None else replace(adopted, explore=0.0)


async def _whom(call: Call, body: RerunBody, found: Logs) -> tuple[Learned | None, dict[str, list[str]]]:
    """The policy that chooses, if one does, and whom to ask each request again, by its id; without those that nobody
    could take now."""
    if body.models is not None:
        if body.policy is not None:
            raise Unprocessable("policy: has no say where `models` are named; leave one of them out", param="policy")
        named = [call.services.catalog.resolve(name).id for name in body.models]
        return None, {one.request.id: named for one in found.settled}
    goal, policy = await _policy(call, body.policy)
    planned = zip(found.settled, await _planned(call, found, goal, policy), strict=True)
    return policy, {
        one.request.id: [now.model] if isinstance(now, Replanned) else [] for one, now in planned if now != "no_model"
    }


async def _planned(call: Call, found: Logs, goal: Goal, policy: Learned | None) -> list[Replanned | Why]:
    services = call.services
    assert call.key is not None
    base = services.view(call.key)

    def view(request: ChatRequest) -> View:
        token = request.conversation_id or ""
        world = services.steered(base, token)
        others = {of: one for of, one in world.learned.items() if of != goal}
        return replace(world, learned=others if policy is None else {**others, goal: policy}, draw=lot("draw", token))

    judged = judged_by(found.settled, found.signals)
    return await asyncio.to_thread(lambda: [*replanned(found.settled, services.planner, view, goal, judged)])


def _row(call: Call, one: SettledRequest, now: Replanned) -> ReplayRow:
    record, catalog = one.request, call.services.catalog
    tokens = record.input_tokens + record.cache_read_tokens + record.cache_write_tokens
    there = estimate(
        tokens, record.output_tokens, catalog.rate(catalog.resolve(now.model), call.services.clock.unix_ms())
    )
    return ReplayRow(
        record.id,
        now.row.task_type,
        record.model,
        now.model,
        now.strategy,
        None if record.cost_nanousd is None else to_usd(record.cost_nanousd),
        None if there is None else to_usd(there),
    )


def _priced(cards: list[ModelCard]) -> None:
    for card in cards:
        if card.rate is None:
            text = f"{card.id} has no known price, and max_usd could not hold: give it one in [[models]]"
            raise Unprocessable(text, code="no_price", param="models")


async def _proposal(call: Call, found: Logs, done: Rerun) -> Proposal | None:
    """The boldest policy for cost that the answers carry, kept as a version; `None` without answers."""
    services = call.services
    if not done.asked:
        return None
    asked: list[Asked] = [*done.asked]
    today = reference_of(asked)
    points = services.steering.control.settings.guard_points
    name = new_id("rerun", services.clock.unix_ms())
    bounded = await asyncio.to_thread(lambda: bound(asked, today, name, floor=1.0, points=points))
    version = joined(proposed(services, await estimated(found), "cost"), bounded)
    await keep(services, version)
    return Proposal(version.version, bounded.saving, bounded.change, bounded.why)
