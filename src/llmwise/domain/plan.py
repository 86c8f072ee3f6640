"""What routing decided, and why: the targets to try in order, and the ones left out with their reasons."""

from typing import Literal

from msgspec import Struct

from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.requests import Goal, Strategy


class PlannedAttempt(Struct, frozen=True):
    """A target and why it stands where it stands (`requested`, `fallback`, `cheapest that can`...)."""

    target: ModelCard
    reason: str


class Dropped(Struct, frozen=True):
    """A candidate left out. `reason` is stable (`no_vision`, `context_window`...), `detail` is for people."""

    model: str
    reason: str
    detail: str


class Candidate(Struct, frozen=True):
    """A candidate as Auto saw it: expected cost in nano-USD, first-token time in ms (`None`: never measured),
    expected quality 0..1 and the score that ordered it."""

    model: str
    score: float
    cost_nanousd: int | None
    latency_ms: float | None
    quality: float
    reason: str


class Trial(Struct, frozen=True):
    """A policy on trial and a request's part in it: `canary` was decided by it, `control` and `shadow` were not.
    `would` is the model that it would have asked first."""

    version: str
    arm: Literal["shadow", "control", "canary"]
    would: str


class AutoDecision(Struct, frozen=True):
    """How `model="auto"` was decided. `strategy` is `heuristic_routing` or `historical_optimization`.

    `confidence` is the classifier's, 0..1; `signals` are what it saw; `reasons` read as sentences. A learned decision
    names its policy and the chance with which its first model was taken, and whether by lot (`explored`). Elsewhere
    `propensity` is `None`: nothing was left to chance, and nothing can be learned from the choice alone.
    """

    strategy: str
    goal: Goal
    task_type: str
    confidence: float
    difficulty: float
    signals: tuple[str, ...]
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    policy_version: str | None = None
    propensity: float | None = None
    explored: bool = False
    trial: Trial | None = None


PORTABLE: frozenset[Family] = frozenset(("anthropic", "gemini"))
"""The families whose proofs of thinking hold wherever their models are served. OpenAI's formats are many vendors', and
each accepts its own only."""


class Origin(Struct, frozen=True):
    """Who made the tool calls that a request brings the results of: the model, or, where only its proofs are left, its
    family."""

    model: str | None
    family: Family


class Plan(Struct, frozen=True):
    """Targets in order. `chain` says whether the caller sees route and trace events (a chain was asked for, or Auto
    attached one). `composed`: the one target is no provider's but a blend or a cascade (`orchestration.compose`)."""

    attempts: tuple[PlannedAttempt, ...]
    dropped: tuple[Dropped, ...] = ()
    chain: bool = False
    strategy: Strategy = "rate-limit"
    auto: AutoDecision | None = None
    composed: bool = False


class Checks(Struct, frozen=True, omit_defaults=True):
    """What an answer's form says of it, where it was asked for: `json` of a JSON format (and its schema), `tools` of
    calls against the tools offered. `None`: not asked, or no call made."""

    json: bool | None = None
    tools: bool | None = None
    refused: bool = False
    truncated: bool = False

    @property
    def passed(self) -> bool | None:
        """Of what was asked for; `None`: nothing was."""
        asked = [one for one in (self.json, self.tools) if one is not None]
        return all(asked) if asked else None


class Insight(Struct, frozen=True, omit_defaults=True):
    """What a record keeps to explain and to learn from: how Auto decided, the models planned in their order, the ones
    left out, and the checks of the answer. No text of the caller's is in it."""

    auto: AutoDecision | None = None
    planned: tuple[str, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    checks: Checks | None = None
