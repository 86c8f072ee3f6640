"""Is a model slower, dearer or worse than it was? Noticed, and again when it is well.

Each (task type, model) has four streams: failures, the logarithm of latency, the logarithm of cost, quality. A stream
learns what is usual from its first `LEARN` values, and then adds up how much each value speaks for a change
(a likelihood ratio, never below zero: CUSUM). At `ALARM` it is an alert:

    failures     log of p1/p0 or (1 - p1)/(1 - p0), with p0 as usual and p1 = max(3 p0, p0 + 0.15)
    the others   z - 1/2, with z = deviations from the usual towards the bad, at most `CLIP`: a shift of one deviation

With the usual known, such a sum reaches `ALARM` = ln(1,000,000) by mere chance once in a million values or more rarely
(Lorden 1971, https://doi.org/10.1214/aoms/1177693055); `tests/unit/insights/test_alerts.py` counts. It ends by the
opposite sum at `WELL` = ln(1,000). What is usual follows slowly (`MEMORY`) while nothing is wrong.

Of latency a stream hears at most one value in `APART_MS`. Requests of the same moment share its fate (a pause, a burst,
a restart): at hundreds a second they would be many witnesses for one thing, and alerts would come and go by the second.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable
from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.insights.dataset import Row

LEARN = 100
MEMORY = 1000
"""What is usual is the mean of about so many of the last values while nothing was wrong."""

APART_MS = 1000

SHOWN = 6
"""Values that an alert's `seen` is the mean of: the alarm takes at least so many."""
ALARM = math.log(1_000_000)
WELL = math.log(1_000)
CLIP = 3.0

Metric: TypeAlias = Literal["errors", "latency", "cost", "quality"]
METRICS: tuple[Metric, ...] = ("errors", "latency", "cost", "quality")

FLOOR: dict[Metric, float] = {"errors": 0.0, "latency": 0.15, "cost": 0.15, "quality": 0.1}
"""The least deviation that is believed: a stream that was constant has none, and any noise would be a catastrophe. In
logarithms 0.15 is 16%."""


class Alert(Struct, frozen=True):
    """`usual` and `seen` in the metric's unit: a rate, ms, nano-USD, 0..1. `seen` is the mean of what raised it.
    `ended_at_ms` is `None` while it lasts."""

    id: str
    task_type: str
    model: str
    metric: Metric
    usual: float
    seen: float
    began_at_ms: int
    ended_at_ms: int | None = None


class Stream:
    """One metric of one model on one task type: a fold over its values, in their order."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.n = 0
        self.mean = 0.0
        self.variance = 0.0
        self.sum = 0.0
        self.well = 0.0
        self.ill = 0.0  # the mean of what raised the alarm
        self.alarmed = False
        self.heard_ms = -APART_MS
        self._last: deque[float] = deque(maxlen=SHOWN)

    def add(self, value: float) -> Literal["alarm", "well"] | None:
        """One more value; what it changes."""
        self._last.append(value)
        if self.n < LEARN:
            self._learn(value)
            return None
        worse = self._worse(value)
        if self.alarmed:
            self.well = max(0.0, self.well - worse)
            if self.well < WELL:
                return None
            self.alarmed, self.sum = False, 0.0
            return "well"
        self.sum = max(0.0, self.sum + worse)
        if self.sum >= ALARM:
            self.alarmed, self.well, self.ill = True, 0.0, sum(self._last) / len(self._last)
            return "alarm"
        if self.sum < ALARM / 2:
            self._learn(value)
        return None

    @property
    def usual(self) -> float:
        return self._shown(self.mean)

    @property
    def seen(self) -> float:
        """Mean of the last `SHOWN` values, in logarithms where the stream is."""
        return self._shown(sum(self._last) / len(self._last)) if self._last else self.usual

    def _learn(self, value: float) -> None:
        """All values alike at first, the last `MEMORY` or so later on."""
        self.n = min(self.n + 1, MEMORY)
        step = value - self.mean
        self.mean += step / self.n
        self.variance = (1 - 1 / self.n) * (self.variance + step * step / self.n)

    def _worse(self, value: float) -> float:
        """The logarithm of how much likelier the value is after a change for the worse than without one."""
        if self.metric == "errors":
            usual = (self.mean * self.n + 0.5) / (self.n + 1)
            changed = max(3 * usual, usual + 0.15)
            if self.alarmed:  # is it well again, or still as ill as when it was noticed?
                changed = max(changed, self.ill)
            changed = min(changed, 0.95)
            if usual >= changed:
                return 0.0  # nearly all fail already
            return math.log(changed / usual) if value else math.log((1 - changed) / (1 - usual))
        deviation = max(math.sqrt(self.variance), FLOOR[self.metric])
        z = (value - self.mean) / deviation
        if self.metric == "quality":
            z = -z
        return min(max(z, -CLIP), CLIP) - 0.5

    def _shown(self, value: float) -> float:
        return math.exp(value) if self.metric in ("latency", "cost") else value


class Watch:
    """All streams. Rebuilt from the records of the last days by whoever begins to watch: the same rows in the same
    order give the same alerts."""

    def __init__(self) -> None:
        self._streams: dict[tuple[str, str, Metric], Stream] = {}
        self.open: dict[tuple[str, str, Metric], Alert] = {}

    def add(self, row: Row, metrics: Collection[Metric] = METRICS) -> list[Alert]:
        """The alerts that a row begins or ends. Rows without a task type are watched together, as `any`. `metrics` are
        what of the row is new."""
        task = row.task_type or "any"
        changed = []
        for metric, value in _values(row):
            if metric not in metrics:
                continue
            key = (task, row.model, metric)
            stream = self._streams.get(key)
            if stream is None:
                stream = self._streams[key] = Stream(metric)
            if metric == "latency":
                if abs(row.created_at_ms - stream.heard_ms) < APART_MS:
                    continue
                stream.heard_ms = row.created_at_ms
            what = stream.add(value)
            if what == "alarm" and key not in self.open:
                at = row.created_at_ms
                name = f"{metric}:{task}:{row.model}:{at}"
                self.open[key] = Alert(name, task, row.model, metric, stream.usual, stream.seen, at)
                changed.append(self.open[key])
            elif what == "well" and key in self.open:
                old = self.open.pop(key)
                changed.append(
                    Alert(old.id, task, row.model, metric, old.usual, old.seen, old.began_at_ms, row.created_at_ms)
                )
        return changed

    @property
    def avoid(self) -> frozenset[tuple[str | None, str]]:
        """Whom Auto leaves out: (task type, model), as `routing.planner.View` has it."""
        return frozenset((None if task == "any" else task, model) for task, model, _ in self.open)


def _values(row: Row) -> Iterable[tuple[Metric, float]]:
    if row.success is None:
        return
    yield "errors", float(not row.success)
    if row.success:
        yield "latency", math.log(max(row.latency_ms, 1))
        if row.cost_nanousd:
            yield "cost", math.log(row.cost_nanousd)
        if row.quality is not None:
            yield "quality", row.quality
