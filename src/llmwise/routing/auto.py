"""Auto: which model for which task, without asking one.

In this order: hard filters; the class of the question and how sure we are of it; what the logs have taught, where they
hold enough evidence for the class; the guide's map where its model is there; for any other catalog the cheapest model
that is good enough for the class; unsure, the default. Every loser gets its reason.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmwise.catalog.cost import estimate
from llmwise.domain.models import ModelCard
from llmwise.domain.plan import AutoDecision, Candidate
from llmwise.domain.requests import Goal
from llmwise.routing.classifier import Classification, Looked
from llmwise.routing.health import UNSEEN, Health
from llmwise.routing.learned import Learned, Taken, take, take_priced
from llmwise.routing.needs import Needs

GUIDE_MAP: Mapping[str, str] = {
    "reasoning_analysis": "gpt-5.2",
    "math": "gpt-5.2",
    "long_form_writing": "claude-sonnet-4.5",
    "creative": "claude-sonnet-4.5",
    "simple_query_classification": "gemini-3-flash",
    "conversation": "gemini-3-flash",
    "summarization": "gemini-3-flash",
    "translation_multilingual": "gemini-3-flash",
    "code": "deepseek-v3",
}
"""The migration guide's table (2026-02-13), with the task types that it does not name put beside their nearest:
mathematics with reasoning, summaries and small talk with the simple queries ("simple classification, translation, and
summarization queries do not need GPT-5.2")."""

QUALITY_BAR: Mapping[str, float] = {
    "simple_query_classification": 0.55,
    "conversation": 0.55,
    "translation_multilingual": 0.60,
    "summarization": 0.60,
    "creative": 0.75,
    "long_form_writing": 0.75,
    "code": 0.75,
    "math": 0.85,
    "reasoning_analysis": 0.85,
}
"""How good a model must be for a class, as a share of the best candidate's quality. A prior, to be replaced by what the
logs show (LEARNING: on eleven models a table per class saves 71% at 95% of the best quality)."""

UNSURE_BAR = 0.9
"""Below `AutoSettings.min_confidence` the class means little: nearly the best quality, at the least cost."""

LOW_BAR = 0.60
"""Classes up to this bar go to the cheapest models, where a hard question would suffer."""

HARD = 0.8
"""From this difficulty on a question is held to the bar of `reasoning_analysis` whatever its class. The difficulty is
the chance that a small model gets it wrong; plain trivia reach 0.7, and a cheap model of today knows them."""

FIRST_TOKEN_UNKNOWN_MS = 1500.0
"""Stands in for a first-token time never measured, so that an untried model is neither best nor worst."""


class AutoSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[auto]`: what `model="auto"` means.

    goal                what to weigh candidates by when the request does not say
    default             the model for questions whose class is unsure; absent: one is chosen by quality and price
    min_confidence      below this a class is unsure
    max_fallbacks       so many models are tried after the chosen one
    map                 task type to model: goes before the built-in map
    models              narrows the candidates to these; empty: all on offer
    """

    goal: Goal = "balanced"
    default: str | None = None
    min_confidence: float = 0.5
    max_fallbacks: int = 2
    map: dict[str, str] = {}
    models: list[str] = []


def decide(
    candidates: Sequence[ModelCard],
    classification: Classification,
    needs: Needs,
    goal: Goal,
    settings: AutoSettings,
    health: Mapping[str, Health],
    learned: Learned | None = None,
    draw: float = 1.0,
    looked: Looked | None = None,
) -> tuple[list[ModelCard], AutoDecision]:
    """The candidates in the order to try, best first, and the account of it. `candidates` have passed the filters and
    are not empty. `learned` is the adopted policy's table; `draw`, uniform in 0..1 and one for a conversation, decides
    whether it explores (1: never). `looked` is the question, for a policy that looks at it; else its table decides."""
    task, confidence = str(classification.task_type), classification.confidence
    unsure = confidence < settings.min_confidence
    hard = classification.difficulty >= HARD
    best = max(card.quality for card in candidates)
    share = max(
        QUALITY_BAR[task],
        UNSURE_BAR if unsure else 0.0,
        QUALITY_BAR["reasoning_analysis"] if hard else 0.0,
    )
    bar = share * best
    costs = {c.id: estimate(needs.prompt_tokens, needs.output_tokens, c.rate) for c in candidates}
    ranked = sorted(candidates, key=lambda c: _rank(c, costs[c.id], bar, goal, health.get(c.id, UNSEEN)))

    taken = None
    # What is learned of a class is its average: a hard question of an easy class, or one of no sure class, is not that.
    if learned is not None and learned.goal == goal and task not in settings.map:
        able = {card.id for card in candidates if not card.demonstration}
        explore = 0.0 if hard else learned.explore
        if learned.priced is not None and looked is not None:  # bounded on all questions, those included
            taken = take_priced(learned.priced, looked, able, explore, draw)
        elif not unsure and not _too_hard(task, hard=hard) and task in learned.tasks:
            taken = take(learned.tasks[task], able, explore, draw)
    preferred, why = _preferred(task, goal, settings, unsure=unsure, hard=hard)
    chosen = next((card for card in ranked if card.id == preferred), None)
    if taken is not None and learned is not None:
        places = {model: place for place, model in enumerate(taken.order)}
        ranked.sort(key=lambda card: places.get(card.id, len(places)))
        chosen, reason = ranked[0], _taught(learned, task, taken)
    elif chosen is not None:
        ranked.remove(chosen)
        ranked.insert(0, chosen)
        reason = why
    else:
        chosen = ranked[0]
        reason = _reason(chosen, bar, goal)
    reasons = [
        f"The question looks like {task} (confidence {confidence:.2f}, difficulty {classification.difficulty:.2f}).",
        *(["That is too unsure to save on: held to nearly the best quality."] if unsure else []),
        *(["It looks hard: held to the bar of reasoning."] if hard and not unsure else []),
        f"{chosen.id}: {reason}.",
    ]
    decision = AutoDecision(
        strategy="heuristic_routing" if taken is None else "historical_optimization",
        goal=goal,
        task_type=task,
        confidence=confidence,
        difficulty=classification.difficulty,
        signals=classification.signals,
        reasons=tuple(reasons),
        candidates=tuple(
            Candidate(
                model=card.id,
                score=round(card.quality - bar, 4),
                cost_nanousd=costs[card.id],
                latency_ms=health.get(card.id, UNSEEN).ttft_ms,
                quality=card.quality,
                reason=reason if card is chosen else _why_not(card, chosen, bar, costs),
            )
            for card in ranked
        ),
        policy_version=learned.version if taken is not None and learned is not None else None,
        propensity=None if taken is None else taken.propensity,
        explored=taken is not None and taken.explored,
    )
    return ranked, decision


def _taught(learned: Learned, task: str, taken: Taken) -> str:
    if taken.explored:
        return f"explored by policy {learned.version}, a chance of {taken.propensity:.3f}"
    if learned.priced is not None:
        questions = learned.priced.values.prompts
        return f"policy {learned.version}, learned from {questions} questions and bounded on all of them"
    evidence = learned.tasks[task].n_eff
    return f"policy {learned.version} for {task}, learned from logs (effective evidence {evidence:.0f} conversations)"


def _too_hard(task: str, *, hard: bool) -> bool:
    return hard and QUALITY_BAR[task] <= LOW_BAR


def _preferred(task: str, goal: Goal, settings: AutoSettings, *, unsure: bool, hard: bool) -> tuple[str | None, str]:
    if unsure and settings.default:
        return settings.default, "the default for questions whose class is unsure"
    if task in settings.map:
        return settings.map[task], f"the configuration maps {task} to it"
    if goal == "balanced" and not unsure:
        if _too_hard(task, hard=hard):
            return GUIDE_MAP["reasoning_analysis"], "the guide's model for complex questions"
        return GUIDE_MAP[task], f"the guide's model for {task}"
    return None, ""


def _rank(card: ModelCard, cost: int | None, bar: float, goal: Goal, health: Health) -> tuple[float, ...]:
    """Sorts ascending. A model under the bar comes after all above it, the best of those first; a demonstration model
    comes last of all; a model without a price is never taken for cheap."""
    price = float("inf") if cost is None else float(cost)
    under = card.quality < bar
    base = (float(card.demonstration), float(under), -card.quality if under else 0.0)
    failing = health.failure_rate or 0.0
    match goal:
        case "latency":
            return (*base, _first_token_ms(health), price)
        case "reliability":
            return (*base, round(failing, 2), -card.quality, price)
        case "cost" | "balanced":
            # A target that fails half the time costs a retry every other time.
            return (*base, price * (1 + failing), -card.quality)


def _first_token_ms(health: Health) -> float:
    return FIRST_TOKEN_UNKNOWN_MS if health.ttft_ms is None else health.ttft_ms


def _reason(card: ModelCard, bar: float, goal: Goal) -> str:
    if card.quality < bar:
        return "none is good enough for the class, this is the best there is"
    if card.demonstration:
        return "the only model there is; a demonstration model"
    return {
        "balanced": "the cheapest that is good enough",
        "cost": "the cheapest that is good enough",
        "latency": "the fastest first token of those good enough",
        "reliability": "the fewest failures of those good enough",
    }[goal]


def _why_not(card: ModelCard, chosen: ModelCard, bar: float, costs: Mapping[str, int | None]) -> str:
    cost, least = costs[card.id], costs[chosen.id]
    if card.demonstration:
        return "a demonstration model: only when nothing else is there"
    if card.quality < bar:
        return f"expected quality {card.quality:.2f} is under the bar of {bar:.2f}"
    if cost is None:
        return "no known price, so never taken for the cheapest"
    if least is not None and cost > least:
        return f"costs {cost / least:.1f} times as much" if least else "costs more than nothing"
    return "good enough, but not first for this goal"
