"""Rows -> what each model does with each task type: cost, latency, success, quality, with intervals.

Quality is weighted by 1 / propensity where one was logged for every row, and drawn towards the model's mean over all
tasks for deciding; its interval is of the undrawn estimate, because drawing buys a smaller error with a bias that no
interval shows. Where propensities are missing the plain mean is taken and `weighted` says so: it is right only if
who answered did not depend on how hard the question was. `bench/learning.py` measures how often these intervals hold
the truth.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from llmwise.insights.dataset import Row
from llmwise.insights.intervals import LEVEL, Estimate, Interval, mean, quantile, quantile_z, shrunk, student, wilson
from llmwise.insights.offpolicy import LEAST_PROPENSITY, PSEUDO_ROWS

ENOUGH = 50.0
"""Effective conversations below which a cell says "not enough data", and nothing is recommended by it."""


class Cell(Struct, frozen=True):
    """A model on a task type. `n` first attempts, worth `n_eff` independent ones. `None`: nothing known.

    cost        nano-USD per attempt, failed ones included
    p50, p95    latency of successful attempts, ms
    success     rate of first attempts, with Wilson's interval
    quality     0..1; `decided` is it drawn towards the model's mean, which is what a policy compares
    weighted    whether quality is corrected for who was chosen for what
    """

    task_type: str
    model: str
    provider: str
    n: int
    n_eff: float
    cost: Estimate | None
    p50: Estimate | None
    p95: Estimate | None
    success: Estimate | None
    quality: Estimate | None
    decided: float | None
    weighted: bool

    @property
    def enough(self) -> bool:
        return self.n_eff >= ENOUGH


class Estimates(Struct, frozen=True):
    """`cells` by (task type, model). `after` is the success of a model on a task type right after another failed, by
    (task type, failed model, model). Intervals hold at `level`, all `comparisons` of a task at once."""

    cells: Mapping[tuple[str, str], Cell]
    after: Mapping[tuple[str, str, str], Estimate]
    level: float
    rows: int
    untyped: int

    @property
    def task_types(self) -> list[str]:
        return sorted({task for task, _ in self.cells})

    def of(self, task_type: str) -> list[Cell]:
        return [cell for (task, _), cell in sorted(self.cells.items()) if task == task_type]


def estimate(rows: Iterable[Row], *, level: float = LEVEL) -> Estimates:
    """All cells of `rows`, in one pass and then one per cell. Rows without a task type are counted in `untyped`; the
    order of rows does not matter."""
    firsts: dict[tuple[str, str], list[Row]] = defaultdict(list)
    seconds: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    count = untyped = 0
    for row in rows:
        count += 1
        if row.task_type is None:
            untyped += 1
        elif row.after is None:
            firsts[row.task_type, row.model].append(row)
        else:
            seconds[row.task_type, row.after, row.model].append(row)
    models: dict[str, int] = defaultdict(int)
    for task, _ in firsts:
        models[task] += 1
    cells = {key: _cell(*key, some, level, models[key[0]]) for key, some in sorted(firsts.items())}
    after = {key: found for key, some in sorted(seconds.items()) if (found := _success(some, level, 1)) is not None}
    return Estimates(_drawn(cells), after, level, count, untyped)


def _cell(task: str, model: str, rows: Sequence[Row], level: float, comparisons: int) -> Cell:
    conversations = [row.conversation for row in rows]
    costs = [(float(row.cost_nanousd), row.conversation) for row in rows if row.cost_nanousd is not None]
    times = [(float(row.latency_ms), row.conversation) for row in rows if row.success]
    judged = [row for row in rows if row.quality is not None]
    weighted = bool(judged) and all(row.propensity is not None for row in judged)
    weights = [1 / max(row.propensity or 1.0, LEAST_PROPENSITY) for row in judged] if weighted else None
    quality = mean(
        [row.quality or 0.0 for row in judged],
        weights,
        [row.conversation for row in judged],
        level=level,
        comparisons=comparisons,
        unit=True,
    )
    latency, latency_of = [time for time, _ in times], [conversation for _, conversation in times]
    counted = mean([1.0] * len(rows), None, conversations)
    assert counted is not None, "a cell has rows"
    return Cell(
        task_type=task,
        model=model,
        provider=max(rows, key=lambda row: (row.created_at_ms, row.provider)).provider,
        n=len(rows),
        n_eff=counted.n_eff,
        cost=mean([c for c, _ in costs], None, [c for _, c in costs], level=level, comparisons=comparisons),
        p50=quantile(latency, 0.50, latency_of, level=level, comparisons=comparisons),
        p95=quantile(latency, 0.95, latency_of, level=level, comparisons=comparisons),
        success=_success(rows, level, comparisons),
        quality=quality,
        decided=None if quality is None else quality.value,
        weighted=weighted,
    )


def _success(rows: Sequence[Row], level: float, comparisons: int) -> Estimate | None:
    """Wilson's interval on the number of conversations' worth: for rows that stand alone it is the plain one."""
    known = [row for row in rows if row.success is not None]
    found = mean([float(bool(row.success)) for row in known], None, [row.conversation for row in known], level=level)
    if found is None:
        return None
    z = student(quantile_z(level, comparisons), max(found.n_eff - 1, 2.0))
    interval: Interval = wilson(found.value * found.n_eff, found.n_eff, z)
    return replace(found, interval=interval)


def _drawn(cells: Mapping[tuple[str, str], Cell]) -> dict[tuple[str, str], Cell]:
    """Each quality drawn towards its model's mean over all tasks, by `PSEUDO_ROWS`."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for cell in cells.values():
        if cell.quality is not None:
            sums[cell.model][0] += cell.quality.n_eff
            sums[cell.model][1] += cell.quality.n_eff * cell.quality.value
    drawn = {}
    for key, cell in cells.items():
        if cell.quality is not None:
            n, total = sums[cell.model]
            decided = shrunk(cell.quality.value, cell.quality.n_eff, total / n, PSEUDO_ROWS)
            cell = replace(cell, decided=decided)
        drawn[key] = cell
    return drawn
