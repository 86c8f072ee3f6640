"""Learn `routing/values.py` from questions and what models made of them.

1. The table: means per (task type, model), where a question counts for each type by its probability, drawn by
   `PSEUDO_ROWS` towards the model's mean.
2. Ease: a ridge regression of what the table left over, averaged over the models that were asked, on the shape of the
   question. One number per question and not one per question and model: with hundreds of questions a regression for
   each model learns noise.
3. Loads: by how much each model's leftover follows the ease, relative to the average model.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from msgspec import Struct

from llmwise.insights.intervals import shrunk
from llmwise.routing.classifier import TASK_TYPES, probabilities
from llmwise.routing.values import Expected, Values, expect_seen, shape_of

PSEUDO_ROWS = 20.0
PENALTY = 50.0
"""Of the squared weights, in questions. Between 50 and 300 it hardly matters."""
LOAD_PSEUDO = 100.0
"""A load is drawn towards 1 by as many questions of average ease."""
STEPS = 60
TOLERANCE = 1e-8


class Example(Struct, frozen=True):
    """A question and what came of it: model -> quality 0..1 and cost. Not every model need have been asked."""

    text: str
    outcomes: Mapping[str, Expected]


class Seen(Struct, frozen=True):
    """An example as the table sees it."""

    chances: tuple[float, ...]
    shape: list[str]
    outcomes: Mapping[str, Expected]


def look(example: Example) -> Seen:
    return Seen(probabilities(example.text), shape_of(example.text), example.outcomes)


def learn(examples: Sequence[Seen], version: str, *, penalty: float = PENALTY) -> Values:
    """Raises `ValueError` without examples."""
    if not examples:
        raise ValueError("nothing to learn from: no question with an outcome")
    table = _table(examples)
    models = sorted(table[TASK_TYPES[0]])
    flat = Values(version, len(examples), sum(len(e.outcomes) for e in examples), table, {}, dict.fromkeys(models, 1.0))
    left = []
    for example in examples:
        expected = expect_seen(flat, example.chances, ())
        left.append({m: seen.quality - expected[m].quality for m, seen in example.outcomes.items()})
    target = [math.fsum(one.values()) / len(one) if one else 0.0 for one in left]
    ease = _ridge([example.shape for example in examples], target, penalty)
    return Values(version, flat.prompts, flat.rows, table, ease, _loads(models, left, target))


def _table(examples: Sequence[Seen]) -> dict[str, dict[str, Expected]]:
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for example in examples:
        for model, seen in example.outcomes.items():
            for task, chance in (("", 1.0), *zip(TASK_TYPES, example.chances, strict=True)):
                one = sums[task, model]
                one[0] += chance
                one[1] += chance * seen.quality
                one[2] += chance * seen.cost
    overall = {m: Expected(q / n, c / n) for (task, m), (n, q, c) in sums.items() if not task}

    def cell(task: str, model: str) -> Expected:
        n, quality, cost = sums[task, model]
        prior = overall[model]
        if not n:
            return prior
        return Expected(
            shrunk(quality / n, n, prior.quality, PSEUDO_ROWS), shrunk(cost / n, n, prior.cost, PSEUDO_ROWS)
        )

    return {task: {model: cell(task, model) for model in sorted(overall)} for task in TASK_TYPES}


def _loads(models: Sequence[str], left: Sequence[Mapping[str, float]], target: Sequence[float]) -> dict[str, float]:
    spread = math.fsum(y * y for y in target) / len(target)
    if spread == 0:
        return dict.fromkeys(models, 1.0)
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for one, y in zip(left, target, strict=True):
        for model, rest in one.items():
            sums[model][0] += rest * y / spread
            sums[model][1] += y * y / spread
    return {m: (sums[m][0] + LOAD_PSEUDO) / (sums[m][1] + LOAD_PSEUDO) for m in models}


def _ridge(shapes: Sequence[Sequence[str]], target: Sequence[float], penalty: float) -> dict[str, float]:
    """Weights w that minimise sum (w . shape - target)^2 + penalty |w|^2, by conjugate gradients; the shapes are sets
    of names. Deterministic; a few dozen passes."""
    names = sorted({name for shape in shapes for name in shape})
    index = {name: at for at, name in enumerate(names)}
    rows = [[index[name] for name in shape] for shape in shapes]

    def back(values: Sequence[float]) -> list[float]:
        out = [0.0] * len(names)
        for row, value in zip(rows, values, strict=True):
            for at in row:
                out[at] += value
        return out

    w = [0.0] * len(names)
    rest = back(target)
    direction, size = rest, math.fsum(x * x for x in rest)
    stop = size * TOLERANCE
    for _ in range(STEPS):
        if size <= stop:
            break
        turned = back([sum([direction[at] for at in row]) for row in rows])
        turned = [a + penalty * b for a, b in zip(turned, direction, strict=True)]
        step = size / math.fsum(a * b for a, b in zip(direction, turned, strict=True))
        w = [a + step * b for a, b in zip(w, direction, strict=True)]
        rest = [a - step * b for a, b in zip(rest, turned, strict=True)]
        before, size = size, math.fsum(x * x for x in rest)
        direction = [a + size / before * b for a, b in zip(rest, direction, strict=True)]
    return {name: round(value, 5) for name, value in zip(names, w, strict=True) if abs(value) >= 1e-4}
