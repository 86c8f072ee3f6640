"""What routing decided, and why: the targets to try in order, and the ones left out with their reasons."""

from msgspec import Struct

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


class AutoDecision(Struct, frozen=True):
    """How `model="auto"` was decided. `strategy` is `heuristic_routing` or `historical_optimization`.

    `confidence` is the classifier's, 0..1; `signals` are what it saw; `reasons` read as sentences.
    """

    strategy: str
    goal: Goal
    task_type: str
    confidence: float
    difficulty: float
    signals: tuple[str, ...]
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...]


class Plan(Struct, frozen=True):
    """Targets in order. `chain` says whether the caller sees route and trace events (a chain was asked for, or Auto
    attached one)."""

    attempts: tuple[PlannedAttempt, ...]
    dropped: tuple[Dropped, ...] = ()
    chain: bool = False
    strategy: Strategy = "rate-limit"
    auto: AutoDecision | None = None
