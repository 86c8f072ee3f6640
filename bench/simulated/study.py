"""The month itself: one model for everything, an audit, past questions asked again, a policy bounded and adopted, and
a second month measured live."""

import math
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from msgspec import Struct

from llmwise.api.asking import asker
from llmwise.api.learning import keep
from llmwise.domain.requests import Goal
from llmwise.insights import control
from llmwise.insights.bounded import FLOOR, LEVEL, PRICES, Asked, Bounded, bound
from llmwise.insights.dataset import Judged, rows_of
from llmwise.insights.estimate import estimate
from llmwise.insights.intervals import Estimate, Interval, mean, nearest_rank, quantile_z
from llmwise.insights.policy import joined, learned, recommend
from llmwise.insights.replay import Replanned, replanned
from llmwise.insights.rerun import Past, Rerun, rerun, sample
from llmwise.insights.values import Example, learn, look
from llmwise.routing import classifier
from llmwise.routing.learned import Learned, lot
from llmwise.routing.planner import View
from llmwise.routing.priced import Priced, rank
from llmwise.routing.values import Expected, best_value, expect_seen
from llmwise.storage.insights import Signal
from llmwise.storage.rows import SettledRequest
from simulated.team import Team, draws, shortest_mix
from simulated.world import AT_ONCE, DAY_MS, FASTER, FIRST_MS, World

DAYS = 30
GOAL = 0.4
"""Of the first month's bill is to be saved."""
KEPT = 4
"""Candidates that stay after the first look."""
PEEKED = 10
"""One in so many of the month's requests, but `PEEKED_LEAST` at least, is asked of every candidate: the first look."""
PEEKED_LEAST = 60
PEEKED_AT = (0.05, 0.1, 0.2, 0.4)
"""Prices of quality, in qualities per cost of today's model."""


class Plan(Struct, frozen=True):
    """How a month is run. `requests` in each month; at most `rerun` questions are asked again, for at most `spend` of
    the first month's bill. `floor` of today's quality is promised, of all that the team asks: a month has chance of its
    own. `apart`: the second month asks none of the first one's questions."""

    requests: int = 10_000
    rerun: int = 10_000
    spend: float = 0.5
    floor: float = FLOOR
    seed: int = 0
    apart: bool = False


class Month(Struct, frozen=True):
    """What went over the gateway in a month. Money in USD, quality 0..1, latencies in ms as they would have been."""

    requests: int
    cost: float
    quality: Estimate
    mean_cost: Estimate
    p50_ms: float
    p95_ms: float
    models: dict[str, float]
    tasks: dict[str, float]


class Report(Struct, frozen=True):
    """`predicted` and `measured` are what is saved of the cost, as fractions; `quality_share` is the second month's
    quality as a share of the first's, and `kept` its interval. `true_*` say the same of the second month's very
    questions, had today's model answered them: the data know that; `expected_*` of all of the team's questions, without
    a month's chance. `replayed` is the planner's choice on the questions asked again. `within`: the prediction lies in
    the measured interval, which has only the months' chance; `agrees`: they differ by no more than the prediction's and
    the months' chance together. `allowed`: what such a policy saves at the floor, if it knows all outcomes
    beforehand. `goal`: 40% or more saved, measured, at 98% of the same questions' quality or better."""

    team: str
    today: str
    plan: Plan
    candidates: list[str]
    kept_candidates: list[str]
    before: Month
    after: Month
    rerun_cost: float
    rerun_questions: int
    bounded: Bounded
    replayed: tuple[float, float]
    replay_left_out: dict[str, int]
    predicted: Estimate
    measured: Interval
    saved: float
    kept: Interval
    quality_share: float
    true_saved: float
    true_quality_share: float
    expected_saved: float
    expected_quality_share: float
    control: tuple[str, float]
    allowed: float
    within: bool
    agrees: bool
    goal: bool


async def live(world: World, plan: Plan) -> Report:
    """Both months, in order."""
    team = world.team
    halves = _halves(team, plan.seed) if plan.apart else (None, None)
    first = draws(team, plan.requests, 2 * plan.seed, halves[0])
    await world.ask(first, team.today, FIRST_MS, DAYS)
    records, before = await measured(world, FIRST_MS)

    rng = random.Random(plan.seed)
    peeked = max(PEEKED_LEAST, plan.requests // PEEKED)
    past, _ = sample(records, plan.rerun + peeked, rng)
    limit = round(plan.spend * before.cost * 1e9)
    peek = await asked_again(world, past[:peeked], team.candidates, limit)
    chosen = worth_asking(peek.asked, team.today)
    again = await asked_again(world, past[peeked:], chosen, limit - peek.spent_nanousd)
    asked = [_by_question(one, plan.apart) for one in again.asked]
    found = bound(asked, team.today, f"month-{plan.seed}", floor=plan.floor)

    rows = [row for one in records for row in rows_of(one.request, one.attempts, judged(team, one))]
    policy = joined(recommend(estimate(rows), "cost", {}, world.now.unix_ms(), points=0.02), found)
    replayed = replay(world, records, {one.conversation: one for one in again.asked}, learned(policy).priced)
    await keep(world.services, policy)
    adopt = partial(control.adopt, goal="cost", version=policy.version, now_ms=world.now.unix_ms())
    await world.services.steering.change(adopt, world.services.planner.settings, world.now.unix_ms())

    second = draws(team, plan.requests, 2 * plan.seed + 1, halves[1])
    start_ms = FIRST_MS + (DAYS + 1) * DAY_MS
    await world.ask(second, "auto", start_ms, DAYS)
    _, after = await measured(world, start_ms)

    saved, saved_in = _share(before.mean_cost, after.mean_cost)
    kept, kept_in = _share(before.quality, after.quality)
    as_before = [team.made[question][team.today] for question in second]
    saved_in = Interval(1 - saved_in.high, 1 - saved_in.low)
    quality = after.quality.value / statistics.fmean(one.quality for one in as_before)
    expected = over_all(team, found.priced)
    return Report(
        team=team.name,
        today=team.today,
        plan=plan,
        candidates=team.candidates,
        kept_candidates=chosen,
        before=before,
        after=after,
        rerun_cost=(peek.spent_nanousd + again.spent_nanousd) / 1e9,
        rerun_questions=len(again.asked),
        bounded=found,
        replayed=replayed[0],
        replay_left_out=replayed[1],
        predicted=found.saving,
        measured=saved_in,
        saved=1 - saved,
        kept=kept_in,
        quality_share=kept,
        true_saved=1 - after.cost / math.fsum(one.cost for one in as_before),
        true_quality_share=quality,
        expected_saved=expected[0],
        expected_quality_share=expected[1],
        control=shortest_mix(team, plan.floor),
        allowed=allowed(team, plan.floor),
        within=found.saving.value in saved_in,
        agrees=abs(1 - saved - found.saving.value)
        <= math.hypot((saved_in.high - saved_in.low) / 2, quantile_z(LEVEL) * found.saving.se),
        goal=1 - saved >= GOAL and quality >= plan.floor,
    )


async def measured(world: World, since_ms: int) -> tuple[list[SettledRequest], Month]:
    """What the records say of a month. How good each answer was is told to the store as a user would."""
    until_ms = since_ms + DAYS * DAY_MS
    records = [one async for one in world.services.store.stream(since_ms, until_ms, texts=True) if not _is_rerun(one)]
    said = [
        Signal(
            f"sig_{one.request.id}",
            one.request.id,
            one.request.created_at_ms,
            "user",
            "score",
            _quality(world.team, one),
        )
        for one in records
    ]
    for at in range(0, len(said), 1000):
        await world.services.store.add_signals(said[at : at + 1000])
    qualities = [signal.value or 0.0 for signal in said]
    costs = [(one.request.cost_nanousd or 0) / 1e9 for one in records]
    times = sorted(one.request.latency_ms * FASTER for one in records)
    spent: dict[str, float] = defaultdict(float)
    for one, cost in zip(records, costs, strict=True):
        spent[one.request.task_type or "not classified"] += cost
    counts = Counter(one.request.model or "" for one in records)
    quality, mean_cost = mean(qualities), mean(costs)
    assert quality is not None
    assert mean_cost is not None
    return records, Month(
        len(records),
        math.fsum(costs),
        quality,
        mean_cost,
        nearest_rank(times, 0.5),
        nearest_rank(times, 0.95),
        {model: n / len(records) for model, n in counts.most_common()},
        dict(spent),
    )


async def asked_again(world: World, past: Sequence[Past], models: Sequence[str], limit: int) -> Rerun:
    """Through the gateway's own engine, graded by what the data say."""
    services, team = world.services, world.team
    principal = await services.authenticator.authenticate(world.key.encode())

    async def grade(question: str, answers: Mapping[str, str]) -> tuple[Mapping[str, float], int]:
        return {model: team.made[question][model].quality for model in answers}, 0

    most = {model: round(1e9 * max(made[model].cost for made in team.made.values())) for model in models}
    ask = asker(services, principal, RERUN)
    return await rerun(past, lambda _: models, ask, grade, lambda m, _: most[m], limit, parallel=AT_ONCE)


RERUN = "rerun"


def _is_rerun(one: SettledRequest) -> bool:
    return one.request.conversation_id == RERUN


def worth_asking(asked: Sequence[Asked], today: str) -> list[str]:
    """The candidates that policies of several prices would use most, by a first look, and then those with the most
    quality for their cost; others are not asked again."""
    values = learn([one.seen for one in asked], "peek")
    unit = statistics.fmean(one.seen.outcomes[today].cost for one in asked)
    expected = [expect_seen(values, one.seen.chances, one.seen.shape) for one in asked]
    uses = Counter(best_value(one, price / unit) for price in PEEKED_AT for one in expected)

    def by_use(model: str) -> tuple[int, float]:
        gains = [one[model].quality - PEEKED_AT[1] / unit * one[model].cost for one in expected]
        return uses[model], statistics.fmean(gains)

    return sorted((model for model in values.loads if model != today), key=by_use, reverse=True)[:KEPT]


def judged(team: Team, one: SettledRequest) -> Judged:
    return Judged(_quality(team, one), 1.0, False)


def replay(
    world: World, records: Sequence[SettledRequest], known: Mapping[str, Asked], priced: Priced | None
) -> tuple[tuple[float, float], dict[str, int]]:
    """The first month through the planner with the policy in it, judged on the questions whose other answers are known:
    what is saved of their cost, and the share of their quality that is kept."""
    table: dict[Goal, Learned] = {"cost": Learned("replay", "cost", {}, 0.0, priced)}
    view = lambda request: View({}, lambda _: 0, 0.0, learned=table, draw=lot("draw", request.conversation_id or ""))  # noqa: E731
    left_out: Counter[str] = Counter()
    costs, qualities = [0.0, 0.0], [0.0, 0.0]
    for found, one in zip(replanned(records, world.services.planner, view, "cost"), records, strict=True):
        asked = known.get(one.request.conversation_id or one.request.id)
        if not isinstance(found, Replanned):
            left_out[found] += 1
        elif asked is None or found.model not in asked.seen.outcomes:
            left_out["answer not known"] += 1
        else:
            for at, model in enumerate((world.team.today, found.model)):
                costs[at] += asked.seen.outcomes[model].cost
                qualities[at] += asked.seen.outcomes[model].quality
    return (1 - costs[1] / (costs[0] or 1), qualities[1] / (qualities[0] or 1)), dict(left_out)


def over_all(team: Team, priced: Priced) -> tuple[float, float]:
    """What the policy saves of today's cost, and its share of today's quality, on every question that the team has."""
    cost = quality = cost_today = quality_today = 0.0
    for question, made in team.made.items():
        ranked = rank(priced, classifier.look(question), team.models)
        assert ranked is not None, "the policy's models are the team's"
        for model, share in ((ranked.bold, priced.share), (ranked.careful, 1 - priced.share)):
            cost += share * made[model].cost
            quality += share * made[model].quality
        cost_today += made[team.today].cost
        quality_today += made[team.today].quality
    return 1 - cost / cost_today, quality / quality_today


def allowed(team: Team, floor: float) -> float:
    """What a policy of this kind saves at `floor` of today's quality when it is learned from every outcome of every
    question, and its prices and their mix are set afterwards. What a month's evidence carries is less, as a rule."""
    made = {q: {m: Expected(one.quality, one.cost) for m, one in models.items()} for q, models in team.made.items()}
    values = learn([look(Example(question, outcomes)) for question, outcomes in made.items()], "hindsight")
    unit = statistics.fmean(one[team.today].cost for one in made.values())
    whole = [over_all(team, Priced(values, team.today, price / unit, None, 1.0)) for price in PRICES]
    good = [(0.0, 1.0), *(one for one in whole if one[1] >= floor)]
    mixes = [
        saved + (quality - floor) / (quality - less) * (more - saved)
        for saved, quality in good
        for more, less in whole
        if less < floor
    ]
    return max(*(saved for saved, _ in good), *mixes)


def _quality(team: Team, one: SettledRequest) -> float:
    assert one.request.prompt is not None
    assert one.request.model is not None
    return team.made[one.request.prompt][one.request.model].quality


def _share(before: Estimate, after: Estimate) -> tuple[float, Interval]:
    """after / before, two months that know nothing of each other."""
    share = after.value / before.value
    se = share * math.hypot(after.se / after.value, before.se / before.value)
    z = quantile_z(LEVEL)
    return share, Interval(share - z * se, share + z * se)


def _halves(team: Team, seed: int) -> tuple[list[str], list[str]]:
    questions = list(team.questions)
    random.Random(f"halves {seed}").shuffle(questions)
    return questions[: len(questions) // 2], questions[len(questions) // 2 :]


def _by_question(one: Asked, apart: bool) -> Asked:
    """Where the next month brings new questions, the same question asked again is no new evidence."""
    if not apart:
        return one
    return msgspec.structs.replace(one, conversation=repr((one.seen.chances, one.seen.shape)))
