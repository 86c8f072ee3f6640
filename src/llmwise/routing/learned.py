"""What the logs have taught, as Auto uses it: a model and a chain per task type, and a little exploration.

A value, made of a policy (`insights/policy.py`) elsewhere: nothing here knows how it was learned. Exploring is off by
default. It takes `explore` of the traffic, in equal parts for models that passed the policy's guard, so many that none
gets less than `LEAST_PROPENSITY` of it: rows that were less likely than that weigh too much to learn from. The chance
with which a model was taken is told with every decision; without it no later estimate is right.
"""

from collections.abc import Collection, Mapping
from hashlib import sha256

from msgspec import Struct

from llmwise.domain.requests import Goal
from llmwise.routing.classifier import Looked
from llmwise.routing.priced import Priced, rank

LEAST_PROPENSITY = 0.02
MOST_EXPLORED = 0.1


class LearnedTask(Struct, frozen=True, forbid_unknown_fields=True):
    """`primary` first, then `chain`; `explorable`, best first, are the others that may be tried. Names of the catalog.
    `n_eff` is the evidence: effective conversations of the primary."""

    primary: str
    chain: tuple[str, ...] = ()
    explorable: tuple[str, ...] = ()
    n_eff: float = 0.0


class Learned(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy's table for one goal. `tasks` has only those with enough evidence. `explore` is in 0..0.1; raises
    `ValueError` otherwise. Where there is a `priced` policy it goes before the table."""

    version: str
    goal: Goal
    tasks: Mapping[str, LearnedTask]
    explore: float = 0.0
    priced: Priced | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.explore <= MOST_EXPLORED:
            raise ValueError(f"explore = {self.explore}: from 0 (off) to {MOST_EXPLORED}")


class Taken(Struct, frozen=True):
    """The models to try, in order. `propensity` is the chance with which the first of them came first."""

    order: tuple[str, ...]
    propensity: float
    explored: bool


def lot(version: str, conversation: str) -> float:
    """A conversation's draw, uniform in 0..1 over conversations: the same on every machine and turn, and another one
    under another policy, so that it is not always the same conversations that are explored with."""
    return int.from_bytes(sha256(f"{version}/{conversation}".encode()).digest()[:6]) / (1 << 48)


def take(task: LearnedTask, able: Collection[str], explore: float, draw: float) -> Taken | None:
    """Whom to ask, out of those `able`. `draw` is uniform in 0..1 and the same for a whole conversation: a conversation
    does not change its model by lot. `None` if the policy names nobody who is able."""
    named = [model for model in dict.fromkeys((task.primary, *task.chain)) if model in able]
    if not named:
        return None
    arms = [model for model in dict.fromkeys(task.explorable) if model in able and model != named[0]]
    arms = arms[: int(explore / LEAST_PROPENSITY + 1e-9)]
    if not arms:
        return Taken(tuple(named), 1.0, False)
    if draw >= explore:
        return Taken(tuple(named), 1.0 - explore, False)
    arm = arms[min(int(draw / explore * len(arms)), len(arms) - 1)]
    return Taken((arm, *(model for model in named if model != arm)), explore / len(arms), True)


def take_priced(priced: Priced, looked: Looked, able: Collection[str], explore: float, draw: float) -> Taken | None:
    """`take` for a policy that looks at the question itself."""
    ranked = rank(priced, looked, able)
    if ranked is None:
        return None
    arms = [model for model in ranked.order if model not in (ranked.bold, ranked.careful)]
    arms = arms[: int(explore / LEAST_PROPENSITY + 1e-9)]
    explore = explore if arms else 0.0
    if draw < explore:
        chosen = arms[min(int(draw / explore * len(arms)), len(arms) - 1)]
        chance = explore / len(arms)
    else:
        chosen = ranked.bold if draw - explore < (1 - explore) * priced.share else ranked.careful
        parts = ((ranked.bold, priced.share), (ranked.careful, 1 - priced.share))
        chance = (1 - explore) * sum(part for model, part in parts if model == chosen)
    return Taken(tuple(dict.fromkeys((chosen, *ranked.order))), chance, draw < explore)
