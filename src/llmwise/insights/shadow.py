"""A policy on trial against the one in force: what would differ (shadow), and whether it is as good (canary).

The canary's test may be looked at after every request: an asymptotic confidence sequence of the difference between the
two arms' means holds at all times at once, not at one chosen beforehand (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas:
https://arxiv.org/abs/2103.06476, eq. 2.2 there):

    d +- s * sqrt(2 (t rho^2 + 1) / (t^2 rho^2) * log(sqrt(t rho^2 + 1) / alpha))

d = mean(canary) - mean(control), t = n1 + n0 conversations, s^2 = t (v1 / n1 + v0 / n0), rho chosen to be tightest near
`TIGHTEST` conversations. Worse by more than the margin on any measure: returned. Within it on all of them: passed.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.json import Decoder

from llmwise.domain.plan import Insight
from llmwise.insights.intervals import Interval
from llmwise.storage.rows import SettledRequest

ALPHA = 0.05
LEAST = 50
"""Conversations in each arm before anything is said: the sequence is asymptotic."""
TIGHTEST = 500

_decode = Decoder(Insight).decode

Verdict: TypeAlias = Literal["running", "passed", "inferior"]


class Arm(Struct, frozen=True):
    """Sums over conversations, each of which counts once with its mean."""

    n: int
    total: float
    squares: float

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """With one success and one failure added: where nothing has varied yet, zero would be certainty."""
        n, total, squares = self.n + 2, self.total + 1, self.squares + 1
        return max(squares / n - (total / n) ** 2, 0.0) * n / (n - 1)


class Measure(Struct, frozen=True):
    """`difference` is the canary's mean less the control's; `interval` holds it at every look."""

    name: str
    canary: float
    control: float
    canary_n: int
    control_n: int
    difference: float
    interval: Interval
    verdict: Verdict


class Result(Struct, frozen=True):
    """What a trial says so far. `requests` were decided while it ran, `differs` of them otherwise by the policy on
    trial. `moves` counts (model asked, model it would have asked). Costs are means per request, nano-USD."""

    verdict: Verdict
    requests: int
    differs: int
    moves: Mapping[str, int]
    measures: tuple[Measure, ...]
    canary_cost: float | None
    control_cost: float | None


def judge(settled: Iterable[SettledRequest], version: str, margin: float, quality: Mapping[str, float]) -> Result:
    """Of the requests that ran under the trial of `version`. `quality` is what is known of requests by id, 0..1."""
    answered: dict[str, dict[str, list[float]]] = {"canary": defaultdict(list), "control": defaultdict(list)}
    scored: dict[str, dict[str, list[float]]] = {"canary": defaultdict(list), "control": defaultdict(list)}
    costs: dict[str, list[int]] = defaultdict(list)
    moves: dict[str, int] = defaultdict(int)
    requests = 0
    for one in settled:
        record = one.request
        auto = insight_of(record.insight).auto
        if auto is None or auto.trial is None or auto.trial.version != version:
            continue
        requests += 1
        first = one.attempts[0].model if one.attempts else record.model
        if first != auto.trial.would:
            moves[f"{first} -> {auto.trial.would}"] += 1
        arm, conversation = auto.trial.arm, record.conversation_id or record.id
        if record.cost_nanousd is not None:
            costs[arm].append(record.cost_nanousd)
        if arm == "shadow" or record.status in (400, 401, 402, 403, 404, 413, 422, 499):
            continue  # the caller's doing says nothing of a policy
        answered[arm][conversation].append(float(record.status < 400))
        if record.id in quality:
            scored[arm][conversation].append(quality[record.id])
    measures = [compare("answered", _arm(answered["canary"]), _arm(answered["control"]), margin)]
    good = compare("quality", _arm(scored["canary"]), _arm(scored["control"]), margin)
    if good.canary_n and good.control_n:
        measures.append(good)
    return Result(
        _verdict(measures),
        requests,
        sum(moves.values()),
        dict(sorted(moves.items(), key=lambda move: -move[1])),
        tuple(measures),
        _mean(costs["canary"]),
        _mean(costs["control"]),
    )


def compare(name: str, canary: Arm, control: Arm, margin: float) -> Measure:
    """Whether the canary's mean is worse by more than `margin`; below `LEAST` in an arm it is `running`."""
    d, reach = canary.mean - control.mean, math.inf
    if canary.n and control.n:
        t = canary.n + control.n
        s = math.sqrt(t * (canary.variance / canary.n + control.variance / control.n))
        reach = s * radius(t)
    verdict: Verdict = "running"
    if min(canary.n, control.n) >= LEAST:
        verdict = "inferior" if d + reach < -margin else "passed" if d - reach > -margin else "running"
    return Measure(
        name,
        canary.mean,
        control.mean,
        canary.n,
        control.n,
        d,
        Interval(max(d - reach, -1), min(d + reach, 1)),
        verdict,
    )


def radius(t: int, alpha: float = ALPHA) -> float:
    """Half the width of the sequence for a standard deviation of one, after `t`."""
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / TIGHTEST
    return math.sqrt(2 * (t * rho2 + 1) / (t * t * rho2) * math.log(math.sqrt(t * rho2 + 1) / alpha))


def insight_of(text: str | None) -> Insight:
    """What a record keeps of its decision; an empty one where there is none."""
    return Insight() if text is None else _decode(text)


def _arm(conversations: Mapping[str, list[float]]) -> Arm:
    means = [sum(values) / len(values) for values in conversations.values()]
    return Arm(len(means), sum(means), sum(mean * mean for mean in means))


def _verdict(measures: list[Measure]) -> Verdict:
    if any(measure.verdict == "inferior" for measure in measures):
        return "inferior"
    return "passed" if all(measure.verdict == "passed" for measure in measures) else "running"


def _mean(values: list[int]) -> float | None:
    return sum(values) / len(values) if values else None
