"""From the store to estimates, policies and replays: what the optimizer's endpoints and rounds share."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from llmwise.api.services import Services
from llmwise.domain.requests import Goal
from llmwise.insights.bounded import Asked, NothingToLearn, asked_of, bound
from llmwise.insights.dataset import Judged, Row, is_own, rows
from llmwise.insights.estimate import ENOUGH, Estimates, estimate
from llmwise.insights.offpolicy import LEAST_PROPENSITY
from llmwise.insights.policy import GUARD_POINTS, MAJORITY, Policy, joined, recommend, today_of
from llmwise.insights.quality import judged_by, qualities, told_of
from llmwise.insights.shadow import insight_of
from llmwise.routing.classifier import classify
from llmwise.storage.insights import Document, Signal
from llmwise.storage.rows import SettledRequest

MOST_BOUNDED = 20_000
"""Questions that a whole policy is bounded on: half a minute's work in a thread."""

MOST_REQUESTS = 100_000
"""The newest so many are learned from: a minute's work, and more than any interval needs."""

DAY_MS = 86_400_000

NO_NUL = "^[^\\x00]*$"
"""Of names and comments: PostgreSQL's text has no NUL, and nobody means one."""


class Logs(Struct, frozen=True):
    """Settled single answers of some days, oldest first, and what was said of them."""

    settled: Sequence[SettledRequest]
    signals: Sequence[Signal]

    def rows(self) -> list[Row]:
        return list(rows(((one.request, one.attempts) for one in self.settled), judged_by(self.settled, self.signals)))

    def quality(self) -> dict[str, float]:
        """Known qualities by request."""
        return qualities(self.settled, self.signals)


async def logs(
    services: Services, days: float, *, limit: int = MOST_REQUESTS, texts: bool = False, key_id: str | None = None
) -> Logs:
    """What callers asked in the last days, read after all that is waiting was written. A request whose model was named
    has its task type from its text, where that is kept."""
    await services.writer.flush()
    now_ms = services.clock.unix_ms()
    since_ms = now_ms - round(days * DAY_MS)
    settled = await services.store.settled_between(since_ms, now_ms + 1, limit, texts=texts, key_id=key_id)
    signals = await services.store.signals_since(since_ms)
    asked = [one for one in settled if not is_own(one.request.conversation_id)]
    return Logs(await asyncio.to_thread(typed, asked), signals)


def typed(settled: Sequence[SettledRequest]) -> list[SettledRequest]:
    """Classified where nobody has, as far as the text is there."""
    return [
        replace(one, request=replace(one.request, task_type=classify(one.request.prompt).task_type))
        if one.request.task_type is None and one.request.prompt
        else one
        for one in settled
    ]


async def estimated(found: Logs) -> Estimates:
    return await asyncio.to_thread(lambda: estimate(found.rows()))


def proposed(services: Services, estimates: Estimates, goal: Goal, *, use_policy: bool = True) -> Policy:
    """The policy that the estimates speak for. With `use_policy` the administrator's settings hold: which models may be
    used, by how much quality may fall, and that what is in force is today's."""
    control = services.steering.control
    settings = control.settings
    today: Mapping[str, str] = {}
    points = GUARD_POINTS
    if use_policy:
        points = settings.guard_points
        if settings.models is not None:
            kept = {key: cell for key, cell in estimates.cells.items() if cell.model in settings.models}
            now = today_of(estimates)
            # Today's model is compared with, also where it may not be used any more.
            kept |= {(task, model): estimates.cells[task, model] for task, model in now.items()}
            estimates = replace(estimates, cells=kept)
        adopted = services.steering.rollout.adopted.get(goal)
        if adopted is not None:
            today = {task: row.primary for task, row in adopted.tasks.items() if (task, row.primary) in estimates.cells}
    return recommend(estimates, goal, today, services.clock.unix_ms(), points=points)


async def whole(services: Services, days: float, policy: Policy) -> Policy:
    """`policy` bounded on all traffic that was left to chance (`insights.bounded`), where it is one for cost and there
    is enough of that; else as it is. Texts are read a page at a time."""
    if policy.goal != "cost":
        return policy
    now_ms = services.clock.unix_ms()
    since_ms = now_ms - round(days * DAY_MS)
    told = told_of(await services.store.signals_since(since_ms))
    asked: list[Asked] = []
    async for one in services.store.stream(since_ms, now_ms + 1, texts=True):
        decision = insight_of(one.request.insight).auto
        judged = Judged(told.get(one.request.id), None if decision is None else decision.propensity)
        found = asked_of(one.request, one.attempts, judged)
        if found is not None:
            asked.append(found)
        if len(asked) >= MOST_BOUNDED:
            break
    if not asked:
        return policy
    today = reference_of(asked)
    points = services.steering.control.settings.guard_points
    try:
        bounded = await asyncio.to_thread(
            lambda: bound(asked, today, f"{policy.version}-values", floor=1.0, points=points)
        )
    except NothingToLearn:
        return policy
    return joined(policy, bounded)


def reference_of(asked: Sequence[Asked]) -> str:
    """Whom a policy for all of `asked` is compared with: the model that answered most of them, if that is `MAJORITY`.
    Where today is a mix, the best of those with enough answers: whoever is as good as that is no worse than the mix."""
    firsts = Counter(next(iter(one.seen.outcomes)) for one in asked)
    most, count = max(firsts.items(), key=lambda item: (item[1], item[0]))
    if count >= MAJORITY * len(asked):
        return most
    known: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in asked:
        for model, outcome in one.seen.outcomes.items():
            known[model].append((1 / max(one.chances[model], LEAST_PROPENSITY), outcome.quality))
    means = {
        model: sum(weight * quality for weight, quality in known[model]) / sum(weight for weight, _ in known[model])
        for model in firsts
        if len(known[model]) >= ENOUGH
    }
    return max(means, key=lambda model: (means[model], model)) if means else most


async def keep(services: Services, policy: Policy) -> None:
    """A version, to be adopted later. The same content is the same version, kept once."""
    body = encode(policy).decode()
    now_ms = services.clock.unix_ms()
    await services.store.change_document("policy", policy.version, now_ms, lambda old: old or body)


async def note(services: Services, what: str, *, goal: str, version: str | None, by: str, why: str) -> None:
    """An event: who changed what is in force, and why."""
    now_ms = services.clock.unix_ms()
    id = new_id("evt", now_ms)
    body = encode({"id": id, "at_ms": now_ms, "what": what, "goal": goal, "version": version, "by": by, "why": why})
    await services.store.put_document(Document("event", id, now_ms, now_ms, body.decode()))


def new_id(prefix: str, now_ms: int) -> str:
    """Sorts by its time."""
    return f"{prefix}_{now_ms:012x}{random.getrandbits(48):012x}"
