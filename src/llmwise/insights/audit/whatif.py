"""What routing would save: the same requests, priced under Auto.

Each request goes through Auto's own decision (`routing.auto.decide`) with the class that it was given, the tokens that
it had and the models on offer, under the policy that is in force if there is one; nothing is sent. Beside it stand two
controls, because a saving alone proves nothing:

    random         the same models in the same shares, but drawn by lot: what a mix saves without looking at the task
    best single    the one model that costs least among those expected to be no worse than Auto's choices

Both sides are priced at list prices, so that a discount is no saving. The quality is what the policy in force has
measured of each model on each class of this traffic; where it has not, a prior (the catalog's `quality`, one number a
model). Intervals are of the requests as a sample of such requests (`intervals.mean`,
weighted by what they cost, conversations as the unit); they say nothing of the assumptions.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from llmwise.catalog.cost import cost
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.requests import Goal
from llmwise.domain.usage import TokenUsage
from llmwise.insights.audit.prices import Prices
from llmwise.insights.dataset import is_own
from llmwise.insights.intervals import BOUNDLESS, Interval, mean
from llmwise.insights.policy import Policy, learned
from llmwise.routing.auto import GUIDE_MAP, QUALITY_BAR, AutoSettings, decide
from llmwise.routing.classifier import Classification, classify, look
from llmwise.routing.learned import Learned, lot
from llmwise.routing.needs import Needs, lacks
from llmwise.storage.audit import Sampled

MOST_SAMPLED = 4_000
ENOUGH = 50
"""Requests below which no saving is told."""
UNKNOWN_DIFFICULTY = 0.5
LONGER, SHORTER = 1.5, 0.5


class Scenario(Struct, frozen=True):
    """`cost_nanousd` of the requests compared; `saving` is a share of what they cost today, with its 95% interval.
    `quality` 0..1 is expected, `below_bar` the share of requests on a model under the bar of their class. `models`:
    share of requests by model."""

    name: str
    cost_nanousd: int
    saving: float
    interval: Interval | None
    quality: float | None
    below_bar: float | None
    models: dict[str, float]


class Moved(Struct, frozen=True):
    """So many of the requests compared, of one task type, would go from one model to another."""

    task_type: str
    model: str
    to: str
    requests: int
    saving_nanousd: int


class Elsewhere(Struct, frozen=True):
    """All tokens at one model's list price."""

    model: str
    cost_nanousd: int
    saving: float


class WhatIf(Struct, frozen=True):
    """`basis`: `requests` (each was routed), `tokens` (only sums are known: no saving by routing is told, only what all
    tokens would cost at one model), or `none`. `compared` of about `total` requests were looked at; `left_out` says why
    others of the sample were not. `answer_length`: Auto's saving if the answers of the other models are half as long,
    or half as long again. `policy` is the version that decided, `measured` the share of the requests whose qualities
    it has measured by class. `limits`: where the data do not allow a saving, or do not tell."""

    basis: str
    verdict: str
    assumptions: tuple[str, ...]
    limits: tuple[str, ...] = ()
    policy: str | None = None
    measured: float = 0.0
    total: int = 0
    compared: int = 0
    left_out: dict[str, int] = {}
    scenarios: tuple[Scenario, ...] = ()
    answer_length: Interval | None = None
    moved: tuple[Moved, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()


class _Case(Struct, frozen=True):
    request: Sampled
    now: ModelCard
    paid: int
    tokens: TokenUsage
    needs: Needs
    seen: Classification
    able: tuple[ModelCard, ...]


Measured: TypeAlias = Mapping[str, Mapping[str, float]]
"""Task type -> model -> quality 0..1."""


def what_if(
    total: int, sample: Sequence[Sampled], prices: Prices, settings: AutoSettings, policy: Policy | None = None
) -> WhatIf | None:
    """`None` where no request has a task type, a known model and a price. `policy` is the one in force."""
    cards, offered = candidates(prices, settings, {r.model for r in sample if r.model is not None})
    rates = {
        card.id: prices.rate(card.id, card.vendor, max((r.created_at_ms for r in sample), default=0)) for card in cards
    }
    cards = [card for card in cards if rates[card.id] is not None]
    cases, left_out = _cases(sample, prices, cards)
    if not cases or not cards:
        return None
    rules = None if policy is None or policy.goal != settings.goal else learned(policy)
    chosen = [_route(case, settings, rules) for case in cases]
    shares = {model: n / len(cases) for model, n in Counter(card.id for card in chosen).items()}
    measured = {} if policy is None else _measured(policy, cases, {*shares})
    known = sum(case.seen.task_type in measured for case in cases) / len(cases)
    today = _scenario("today", cases, [{c.now.id: 1.0} for c in cases], rates, prices, measured)
    auto = _scenario("auto", cases, [{card.id: 1.0} for card in chosen], rates, prices, measured)
    random = _scenario("random", cases, [shares] * len(cases), rates, prices, measured)
    single = _best_single(cases, cards, rates, prices, auto.quality or 0.0, measured)
    assumptions = _assumptions(prices, settings.goal, offered, rules, known)
    shown = (today, auto, random, *([] if single is None else [single]))
    enough = len(cases) >= ENOUGH and auto.interval is not None
    return WhatIf(
        basis="requests",
        verdict=_verdict(auto, random, single) if enough else _too_few(len(cases)),
        assumptions=assumptions,
        limits=_limits(cases, chosen, today, auto, known) if enough else (),
        policy=None if rules is None else rules.version,
        measured=known,
        total=total,
        compared=len(cases),
        left_out=left_out,
        scenarios=shown if enough else (today,),
        answer_length=_by_length(cases, chosen, rates) if enough else None,
        moved=_moved(cases, chosen, rates) if enough else (),
    )


def from_tokens(tokens: Mapping[str, TokenUsage], prices: Prices, settings: AutoSettings, at_ms: int) -> WhatIf:
    """What sums of tokens by model can tell: the same tokens at one model. Which requests are simple they can't."""
    everything = sum(tokens.values(), TokenUsage())
    listed = sum(prices.cost(name, None, at_ms, used) or 0 for name, used in tokens.items())
    cards, offered = candidates(prices, settings, set(tokens))
    elsewhere = []
    for card in cards:
        rate = prices.rate(card.id, card.vendor, at_ms)
        at_it = cost(everything, None if rate is None else replace(rate, threshold=None))
        if at_it is not None and listed:
            elsewhere.append(Elsewhere(card.id, at_it, 1 - at_it / listed))
    elsewhere.sort(key=lambda one: (one.cost_nanousd, one.model))
    if not listed:
        return WhatIf("none", "can't tell: there are no tokens with a known price", ())
    text = (
        "can't tell what routing would save: these exports have no prompts, so nobody knows which requests are simple. "
        "Import a request log with prompts, or send the traffic through the gateway. The same tokens at one model:"
    )
    return WhatIf(
        "tokens", text, (*_assumptions(prices, settings.goal, offered)[1:4],), elsewhere=tuple(elsewhere[:12])
    )


def candidates(prices: Prices, settings: AutoSettings, used: set[str]) -> tuple[list[ModelCard], bool]:
    """Whom Auto may choose: the chat models on offer, and whether there are any; without, the guide's models and those
    in use."""
    offered = [card for card in prices.catalog.models if card.kind == "chat" and not card.demonstration]
    if settings.models:
        offered = [card for card in offered if card.id in prices.catalog.ids_of(settings.models)]
    if offered:
        return offered, True
    names = [*dict.fromkeys(GUIDE_MAP.values()), *sorted(used)]
    found = [card for name in names if (card := prices.card(name)) is not None and card.kind == "chat"]
    return list({card.id: card for card in found}.values()), False


def _cases(sample: Sequence[Sampled], prices: Prices, cards: Sequence[ModelCard]) -> tuple[list[_Case], dict[str, int]]:
    cases: list[_Case] = []
    left_out: Counter[str] = Counter()
    for request in sample:
        now = None if request.model is None else prices.card(request.model)
        seen = _seen(request)
        tokens = TokenUsage(
            input=request.input_tokens,
            cache_read=request.cache_read_tokens,
            cache_write_5m=request.cache_write_tokens,
            output=request.output_tokens,
        )
        paid = prices.cost(request.model, None, request.created_at_ms, tokens)
        needed = (request.needs or "").split()
        needs = Needs(
            prompt_tokens=tokens.prompt,
            output_tokens=tokens.output,
            vision="vision" in needed,
            tools="tools" in needed,
            json_schema="json_schema" in needed,
            json_object="json_object" in needed,
        )
        able = tuple(card for card in cards if lacks(card, needs) is None)
        if is_own(request.conversation):
            left_out["that the gateway asked itself"] += 1
        elif seen is None:
            left_out["without a task type"] += 1
        elif now is None or paid is None:
            left_out["answered by a model without a known price"] += 1
        elif not tokens.total:
            left_out["without tokens"] += 1
        elif not able:
            left_out["that no model on offer can take"] += 1
        else:
            cases.append(_Case(request, now, paid, tokens, needs, seen, able))
    return cases, dict(left_out)


def _seen(request: Sampled) -> Classification | None:
    if request.prompt:
        return classify(request.prompt)
    if request.task_type is None or request.task_type not in QUALITY_BAR:
        return None
    difficulty = UNKNOWN_DIFFICULTY if request.difficulty is None else request.difficulty
    return Classification(request.task_type, 1.0 if request.confidence is None else request.confidence, difficulty)


def _route(case: _Case, settings: AutoSettings, rules: Learned | None) -> ModelCard:
    """A policy that looks at the question needs its text; where none was kept its table by class decides."""
    text = case.request.prompt
    draw = 1.0 if rules is None else lot(rules.version, case.request.conversation)
    looked = look(text) if text and rules is not None else None
    ranked, _ = decide(case.able, case.seen, case.needs, settings.goal, settings, {}, rules, draw, looked)
    return ranked[0]


def _measured(policy: Policy, cases: Sequence[_Case], chosen: set[str]) -> Measured:
    """By class, where all of `chosen` and today's models are measured: measurements and priors are of two scales."""
    found: dict[str, dict[str, float]] = {
        name: {option.model: option.quality.value for option in task.options if option.quality is not None}
        for name, task in policy.tasks.items()
    }
    if policy.bounded is not None:
        table = policy.bounded.priced.values.table
        found = {name: {model: one.quality for model, one in row.items()} for name, row in table.items()}
    today: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        today[case.seen.task_type].add(case.now.id)
    return {name: row for name, row in found.items() if chosen | today[name] <= row.keys()}


def _scenario(
    name: str,
    cases: Sequence[_Case],
    choices: Sequence[Mapping[str, float]],
    rates: Mapping[str, Rate | None],
    prices: Prices,
    measured: Measured,
) -> Scenario:
    """`choices`: for each case the models that answer it, by probability."""
    spent = 0.0
    savings: list[float] = []
    weights: list[float] = []
    conversations: list[str] = []
    quality = below = 0.0
    models: Counter[str] = Counter()
    for case, choice in zip(cases, choices, strict=True):
        found = measured.get(case.seen.task_type, {})
        best = max((found.get(card.id, 0.0) if found else card.quality for card in case.able), default=1.0)
        would = 0.0
        for model, chance in choice.items():
            card = case.now if model == case.now.id else prices.card(model)
            assert card is not None, "candidates and today's models are known"
            price = case.paid if model == case.now.id else cost(case.tokens, rates[model]) or 0
            would += chance * price
            good = found.get(model, 0.0) if found else card.quality
            quality += chance * good
            below += chance * (good < QUALITY_BAR[case.seen.task_type] * best - 1e-9)
            models[model] += chance  # type: ignore[assignment]  # shares, not counts
        spent += would
        if case.paid > 0:
            savings.append(1 - would / case.paid)
            weights.append(float(case.paid))
            conversations.append(case.request.conversation)
    estimate = mean(savings, weights, conversations) if name != "today" else None
    told = estimate is not None and estimate.se < BOUNDLESS  # of one conversation alone nothing is known of others
    return Scenario(
        name,
        round(spent),
        0.0 if estimate is None else estimate.value,
        estimate.interval if estimate is not None and told else None,
        quality / len(cases),
        below / len(cases),
        {model: share / len(cases) for model, share in models.most_common(12)},
    )


def _best_single(
    cases: Sequence[_Case],
    cards: Sequence[ModelCard],
    rates: Mapping[str, Rate | None],
    prices: Prices,
    quality: float,
    measured: Measured,
) -> Scenario | None:
    found = [_scenario("best single", cases, [{card.id: 1.0}] * len(cases), rates, prices, measured) for card in cards]
    good = [one for one in found if (one.quality or 0.0) >= quality - 1e-9]
    return min(good, key=lambda scenario: scenario.cost_nanousd, default=None)


def _by_length(cases: Sequence[_Case], chosen: Sequence[ModelCard], rates: Mapping[str, Rate | None]) -> Interval:
    ends = []
    paid = sum(case.paid for case in cases) or 1
    for factor in (LONGER, SHORTER):
        spent = 0
        for case, card in zip(cases, chosen, strict=True):
            if card.id == case.now.id:
                spent += case.paid
            else:
                tokens = replace(case.tokens, output=round(case.tokens.output * factor))
                spent += cost(tokens, rates[card.id]) or 0
        ends.append(1 - spent / paid)
    return Interval(*sorted(ends))


def _moved(cases: Sequence[_Case], chosen: Sequence[ModelCard], rates: Mapping[str, Rate | None]) -> tuple[Moved, ...]:
    sums: dict[tuple[str, str, str], list[int]] = {}
    for case, card in zip(cases, chosen, strict=True):
        if card.id != case.now.id:
            one = sums.setdefault((case.seen.task_type, case.now.id, card.id), [0, 0])
            one[0] += 1
            one[1] += case.paid - (cost(case.tokens, rates[card.id]) or 0)
    found = [Moved(*key, requests, saving) for key, (requests, saving) in sums.items()]
    return tuple(sorted(found, key=lambda one: -abs(one.saving_nanousd))[:12])


KEPT = 0.98
"""Of today's quality: less is said aloud."""


def _limits(
    cases: Sequence[_Case], chosen: Sequence[ModelCard], today: Scenario, auto: Scenario, known: float
) -> tuple[str, ...]:
    found = []
    moved = {case.seen.task_type for case, card in zip(cases, chosen, strict=True) if card.id != case.now.id}
    stays = Counter(case.seen.task_type for case in cases if case.seen.task_type not in moved)
    if stays:
        told = ", ".join(f"{task} ({count:,})" for task, count in stays.most_common())
        found.append(f"Nothing is saved on {told}: nobody cheaper on offer is expected to be good enough.")
    if not known:
        found.append(
            "Whether quality would stay is not in these data: nothing says how good the answers were. "
            "`llmwise policy replay --rerun N` asks a sample again, grades it, and bounds what may be saved."
        )
    elif today.quality and auto.quality is not None and auto.quality < KEPT * today.quality:
        found.append(f"Quality would be {auto.quality / today.quality:.1%} of today's, less than {KEPT:.0%}.")
    return tuple(found)


def _too_few(cases: int) -> str:
    if cases < ENOUGH:
        return f"not enough data: {cases} requests of {ENOUGH}"
    return f"not enough data: {cases} requests that cost nothing, or are all of one conversation"


def _verdict(auto: Scenario, random: Scenario, single: Scenario | None) -> str:
    assert auto.interval is not None, "only today has none"
    if auto.interval.low <= 0:
        return (
            f"no saving by routing to be seen: Auto's choices would cost {-auto.saving:+.0%} "
            f"(95% interval of the saving {auto.interval.low:.0%} to {auto.interval.high:.0%})"
        )
    between = f"{auto.interval.low:.0%} to {auto.interval.high:.0%}"
    text = f"Auto would save {auto.saving:.0%} ({between}) of these requests' cost"
    text += f"; the same models drawn by lot {random.saving:.0%}"
    if single is not None:
        text += f", {next(iter(single.models))} for everything {single.saving:.0%}"
    if random.saving >= auto.interval.low or (single is not None and single.saving >= auto.interval.low):
        text += ". A control does as well: the saving is that of cheaper models, not yet of choosing by task"
    return text


def _assumptions(
    prices: Prices, goal: Goal, offered: bool, rules: Learned | None = None, known: float = 0.0
) -> tuple[str, ...]:
    whose = "the models on offer" if offered else "the guide's models and those in use (the configuration offers none)"
    how = f"Auto with the goal {goal!r} chooses for each request by its class, among {whose}"
    if rules is not None:
        how = f"Auto with the goal {goal!r} decides by the policy in force, {rules.version}, among {whose}"
        if rules.priced is not None:
            how += "; that looks at the question, and where no text was kept its table by class stands in"
    prior = (
        "Quality is the catalog's prior, one number a model, not measured on this traffic: that routing by class keeps "
        "more of it than the same models by lot only outcomes can show. Test before you switch."
    )
    if known:
        prior = (
            f"Quality is what the policy's evidence says of each model on each class, for {known:.0%} of the requests"
            + (f"; for the others it is {prior[len('Quality is ') :]}" if known < 1 else ".")
        )
    return (
        f"{how}.",
        f"List prices on both sides ({prices.catalog.prices_source}).",
        "The other model needs as many tokens for the question and for its answer.",
        "What was read from a cache would be read from the other model's too: conversations stay with their model.",
        prior,
    )
