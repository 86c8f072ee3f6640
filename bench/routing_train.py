#!/usr/bin/env python3
"""Learn from bench/data what Auto's classifier weighs, and the tables of models that its benchmark routes by.

    python bench/routing_train.py        writes src/llmwise/routing/weights.json and bench/data/tables.json: 40 s,
                                         the same files each time

Standard library and msgspec only. Two models over the same features: the task type, a multinomial logistic regression
on labelled prompts, and the difficulty, a logistic regression on what models really got wrong. Both minimise

    sum over examples of  weight * cross entropy  +  1/(2 C) * sum over features of |w|^2 / value^2

by stochastic gradient descent (the penalty is applied once per pass; the last passes are averaged). A word has a higher
`value` than a group or a mark, so it is penalised less: groups carry what is general, words what is particular.

A source of prompts counts with the square root of its size once it has more than `SOURCE_CAP` prompts: what a model
learns from one benchmark's manner of speaking doesn't help with another's.

A table says for each task type and level of difficulty what to expect of each model. The difficulty of the prompts that
it is learned from is that of weights learned without them (cross-fitting): weights know their own prompts too well, and
a table learned from that would trust small models with whatever looks easy.
"""

import argparse
import math
import random
import statistics
import sys
from codecs import BOM_UTF8
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from llmwise.routing.classifier import TASK_TYPES, Classification, Classifier, Level, Weights, level  # noqa: E402
from llmwise.routing.features import features  # noqa: E402

DATA: Final = ROOT / "bench" / "data"
TABLES: Final = DATA / "tables.json"
WEIGHTS: Final = ROOT / "src" / "llmwise" / "routing" / "weights.json"
VERSION: Final = "2026-11-22"

WRITTEN: Final = "written"
"""The source of the prompts that were written for training. Each counts in full, and none is ever measured with."""
SOURCE_CAP: Final = 60
TASK_CAP: Final = 300
WORD_VALUE: Final = 1.4
TASK_C: Final = 0.4
DIFFICULTY_C: Final = 0.05
PASSES: Final = 10
AVERAGED: Final = 4
RATE: Final = 0.05
LEAST_EXAMPLES: Final = 2
SCALE: Final = 100
LEAST_UNITS: Final = 8
"""Features whose every weight is below this (in 1/SCALE) are left out: half of them, for a tenth of a point."""
FOLDS: Final = 5
PSEUDO_ROWS: Final = 20
"""A cell of a table is drawn towards its class and its level by as many rows of their expectation."""
LEVELS: Final[tuple[Level, ...]] = ("easy", "medium", "hard")

SMALL_MODELS: Final = frozenset({
    "gemma-2-9b-it", "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.3", "qwen2.5-7b-instruct",
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
})  # fmt: skip
"""Difficulty is their failing: the cheapest tier of these outcomes, less the models that miss the answers' format."""

UNMEASURED: Final = {
    "conversation": 0.10,
    "simple_query_classification": 0.25,
    "translation_multilingual": 0.20,
    "summarization": 0.20,
    "creative": 0.30,
    "long_form_writing": 0.35,
    "code": 0.40,
    "reasoning_analysis": 0.45,
    "math": 0.50,
}
"""Difficulty by class where no outcome was measured: set by hand, counted at `UNMEASURED_WEIGHT`. Without them a
greeting would get the difficulty of an exam, since the outcomes are nearly all exams."""
UNMEASURED_WEIGHT: Final = 0.5
ARENA_HARD: Final = 0.7
"""The same for arena-hard's coding and mathematics, selected for being hard."""


class Prompt(msgspec.Struct, frozen=True):
    """A labelled prompt, as in classification/*.jsonl."""

    prompt: str
    label: str
    source: str
    acceptable: list[str] = []
    redistribute: bool = True
    orig_label: str = ""

    def accepts(self, task: str) -> bool:
        return task == self.label or task in self.acceptable


UNTOLD: Final = "unknown"
"""The task of an outcome that names none."""


class Answer(msgspec.Struct, frozen=True):
    """What a model made of a prompt: `score` 0..1, `cost` in USD."""

    score: Annotated[float, Meta(ge=0, le=1)]
    cost: Annotated[float, Meta(ge=0)]


class Outcome(msgspec.Struct, frozen=True):
    """A prompt and what each model made of it, as in outcomes/SET.jsonl. `task` is the benchmark's own name of it."""

    prompt: str
    models: dict[str, Answer]
    task: str = UNTOLD
    source: str = ""


class Example(NamedTuple):
    names: Sequence[str]
    target: Sequence[float]
    """The share of each class; sums to 1."""
    weight: float


class Linear(NamedTuple):
    bias: list[float]
    rows: dict[str, list[float]]


_PROMPTS = msgspec.json.Decoder(Prompt)
_OUTCOMES = msgspec.json.Decoder(Outcome)


def read_prompts(folder: Path) -> list[Prompt]:
    return [
        _PROMPTS.decode(line)
        for file in sorted((folder / "classification").glob("*.jsonl"))
        for line in file.read_bytes().splitlines()
    ]


def read_outcomes(folder: Path) -> dict[str, list[Outcome]]:
    """By the names of their files, which lie in `folder` itself where it has no outcomes/. Raises `ValueError` naming
    the line that is none."""
    inner = folder / "outcomes"
    return {file.stem: _outcomes(file) for file in sorted((inner if inner.is_dir() else folder).glob("*.jsonl"))}


def _outcomes(file: Path) -> list[Outcome]:
    rows = []
    for number, line in enumerate(file.read_bytes().removeprefix(BOM_UTF8).splitlines(), 1):
        if line.strip():
            try:
                rows.append(_OUTCOMES.decode(line))
            except ValueError as error:  # msgspec's errors are
                raise ValueError(f"{file}, line {number}: {error}") from error
    return rows


class Expected(msgspec.Struct, frozen=True):
    """Of a model on a kind of prompt: mean score 0..1, mean cost in USD."""

    score: float
    cost: float


Table: TypeAlias = dict[str, dict[str, dict[str, Expected]]]
"""Task type -> level -> model -> what to expect of it."""


class Mean(msgspec.Struct, frozen=True):
    """An entry of means.json: the means per model of a benchmark, and the task type it stands for."""

    task: str
    task_type: str
    rows: int
    models: dict[str, Expected]


class Training(NamedTuple):
    """What may be learned from."""

    prompts: list[Prompt]
    sets: dict[str, list[Outcome]]
    means: dict[str, list[Mean]]

    @classmethod
    def read(cls, folder: Path) -> "Training":
        """All of a folder; of this repository's own, only what may be redistributed, should anything else get there."""
        prompts = [prompt for prompt in read_prompts(folder) if prompt.redistribute or folder != DATA]
        means = folder / "means.json"
        return cls(prompts, read_outcomes(folder), _MEANS.decode(means.read_bytes()) if means.exists() else {})

    def without(self, fold: int, folds: int) -> "Training":
        """Less the prompts of one fold, by hash. Those written for training are a sample of nothing and stay."""
        prompts = [p for p in self.prompts if p.source == WRITTEN or fold_of(p.prompt, folds) != fold]
        sets = {name: [o for o in rows if fold_of(o.prompt, folds) != fold] for name, rows in self.sets.items()}
        return Training(prompts, sets, self.means)


_MEANS = msgspec.json.Decoder(dict[str, list[Mean]])


def learn(training: Training, temperature: float, note: str = "") -> tuple[Weights, dict[str, Table]]:
    """The weights, and a table for each group of models."""
    tasks = fit(task_examples(training.prompts), TASK_C)
    outcomes = [outcome for rows in training.sets.values() for outcome in rows]
    seen: dict[str, Classification] = {}
    for fold in range(FOLDS):
        hard = fit(
            difficulty_examples((o for o in outcomes if fold_of(o.prompt, FOLDS) != fold), training.prompts),
            DIFFICULTY_C,
        )
        classifier = Classifier(weights_of(tasks, hard, temperature))
        seen |= {o.prompt: classifier.classify(o.prompt) for o in outcomes if fold_of(o.prompt, FOLDS) == fold}
    tables = {name: table_of_rows(rows, seen) for name, rows in by_models(training.sets).items()}
    step = fall_of_odds(tables.values())
    tables |= {name: table_of_means(means, step) for name, means in training.means.items()}
    hard = fit(difficulty_examples(outcomes, training.prompts), DIFFICULTY_C)
    return weights_of(tasks, hard, temperature, note), tables


def learn_tasks(prompts: Sequence[Prompt], temperature: float) -> Weights:
    """Without the difficulty, for measuring the classes alone."""
    return weights_of(fit(task_examples(prompts), TASK_C), Linear([0.0, 0.0], {}), temperature)


def weights_of(tasks: "Linear", hard: "Linear", temperature: float, note: str = "") -> Weights:
    rows = {}
    for name in sorted(tasks.rows.keys() | hard.rows.keys()):
        row = _units([*tasks.rows.get(name, [0.0] * len(TASK_TYPES)), _odds(hard.rows.get(name, [0.0, 0.0]))])
        if max(map(abs, row)) >= LEAST_UNITS:
            rows[name] = row
    return Weights(VERSION, note, list(TASK_TYPES), SCALE, temperature, _units([*tasks.bias, _odds(hard.bias)]), rows)


# --- examples ---


def task_examples(prompts: Sequence[Prompt]) -> list[Example]:
    size = Counter(prompt.source for prompt in prompts)
    return [
        Example(
            names_of(prompt.prompt),
            [float(task == prompt.label) for task in TASK_TYPES],
            1.0 if prompt.source == WRITTEN else min(1.0, SOURCE_CAP / size[prompt.source]) ** 0.5,
        )
        for prompt in prompts
    ]


def difficulty_examples(outcomes: Iterable[Outcome], prompts: Iterable[Prompt]) -> list[Example]:
    """The classes are wrong and right."""
    outcomes = list(outcomes)
    size = Counter((outcome.source, outcome.task) for outcome in outcomes)
    examples = []
    for outcome in outcomes:
        scores = [answer.score for model, answer in outcome.models.items() if model in SMALL_MODELS]
        if scores:
            right = sum(scores) / len(scores)
            weight = min(1.0, TASK_CAP / size[outcome.source, outcome.task]) ** 0.5
            examples.append(Example(names_of(outcome.prompt), (1.0 - right, right), weight))
    for prompt in prompts:
        wrong = ARENA_HARD if prompt.orig_label.startswith("hard_prompt/") else UNMEASURED[prompt.label]
        examples.append(Example(names_of(prompt.prompt), (wrong, 1.0 - wrong), UNMEASURED_WEIGHT))
    return examples


def fit(examples: Sequence[Example], c: float) -> Linear:
    """Multinomial logistic regression; deterministic."""
    classes = len(examples[0].target)
    seen = Counter(name for example in examples for name in example.names)
    rows = {name: [0.0] * classes for name, count in seen.items() if count >= LEAST_EXAMPLES}
    bias = [0.0] * classes
    prepared = []
    for example in examples:
        known = [name for name in example.names if name in rows]
        marks = [rows[name] for name in known if name[0] in "#@"]
        words = [rows[name] for name in known if name[0] not in "#@"]
        prepared.append((marks, words, example.target, example.weight))
    order = random.Random(VERSION)
    mean = {name: [0.0] * classes for name in rows}
    for turn in range(PASSES):
        rate = RATE / (1 + turn / 2)
        order.shuffle(prepared)
        for marks, words, target, weight in prepared:
            for index, probability in enumerate(
                softmax([sum(column) for column in zip(bias, *marks, *words, strict=True)])
            ):
                error = probability - target[index]
                if abs(error) > 0.005:  # most classes are settled for most examples: a third of the time
                    step = rate * weight * error
                    bias[index] -= step / 10
                    for row in marks:
                        row[index] -= step
                    step *= WORD_VALUE**2
                    for row in words:
                        row[index] -= step
        shrink = 1 / (1 + rate / c)
        for name, row in rows.items():
            row[:] = [value * shrink for value in row]
            if turn >= PASSES - AVERAGED:
                mean[name] = [total + value / AVERAGED for total, value in zip(mean[name], row, strict=True)]
    return Linear(bias, mean)


def fit_temperature(prompts: Sequence[Prompt], folds: int = 5) -> float:
    """The temperature at which the confidence is the chance that the class is acceptable, on prompts of sources that
    were not learned from: it minimises the squared error of the confidence against that."""
    told: list[tuple[list[float], bool]] = []
    family = {prompt.source: prompt.source.partition(":")[0] for prompt in prompts}
    for fold in range(folds):
        out = {source for source, name in family.items() if source != WRITTEN and fold_of(name, folds) == fold}
        model = fit(task_examples([prompt for prompt in prompts if prompt.source not in out]), TASK_C)
        for prompt in prompts:
            if prompt.source in out:
                sums = score(model, names_of(prompt.prompt))
                told.append((sums, prompt.accepts(TASK_TYPES[sums.index(max(sums))])))

    def error(temperature: float) -> float:
        return sum((max(softmax([value / temperature for value in sums])) - right) ** 2 for sums, right in told)

    return min((step / 20 for step in range(10, 61)), key=error)


def by_models(sets: Mapping[str, Sequence[Outcome]]) -> dict[str, list[Outcome]]:
    """Sets of the same models are one: what a model is good at doesn't depend on the benchmark that asked."""
    names: dict[frozenset[str], list[str]] = defaultdict(list)
    for name, rows in sets.items():
        names[frozenset(rows[0].models)].append(name)
    return {"+".join(group): [row for name in group for row in sets[name]] for group in names.values()}


def table_of_rows(rows: Sequence[Outcome], seen: Mapping[str, Classification]) -> Table:
    """Means per cell, drawn by `PSEUDO_ROWS` towards class + level - overall, and these towards overall."""
    cells: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for row in rows:
        task, at = seen[row.prompt].task_type, level(seen[row.prompt].difficulty)
        for cell in ((task, at), (task, ""), ("", at), ("", "")):
            cells[cell].append(row)

    def mean(cell: tuple[str, str], model: str, prior: float, of: Callable[[Answer], float]) -> float:
        values = [of(row.models[model]) for row in cells.get(cell, ())]
        return (sum(values) + PSEUDO_ROWS * prior) / (len(values) + PSEUDO_ROWS)

    def expected(task: str, at: Level, model: str, of: Callable[[Answer], float]) -> float:
        overall = statistics.fmean(of(row.models[model]) for row in rows)
        around = mean((task, ""), model, overall, of) + mean(("", at), model, overall, of) - overall
        return mean((task, at), model, around, of)

    def cost(answer: Answer) -> float:
        return answer.cost

    def points(answer: Answer) -> float:
        return answer.score

    models = sorted(rows[0].models)
    return {
        task: {
            at: {m: _expected(expected(task, at, m, points), expected(task, at, m, cost)) for m in models}
            for at in LEVELS
        }
        for task in TASK_TYPES
    }


def table_of_means(means: Sequence[Mean], step: float) -> Table:
    """A class has its benchmark's means; one without a benchmark those of all. From level to level the log odds of a
    right answer fall by `step`, for every model."""
    rows = sum(mean.rows for mean in means)
    overall = {
        model: Expected(
            sum(mean.rows * mean.models[model].score for mean in means) / rows,
            sum(mean.rows * mean.models[model].cost for mean in means) / rows,
        )
        for model in sorted(means[0].models)
    }
    known = {mean.task_type: mean.models for mean in means}
    return {
        task: {
            at: {
                model: _expected(logistic(log_odds(e.score) + (1 - LEVELS.index(at)) * step), e.cost)
                for model, e in known.get(task, overall).items()
            }
            for at in LEVELS
        }
        for task in TASK_TYPES
    }


def fall_of_odds(tables: Iterable[Table]) -> float:
    """By how much the log odds of a right answer fall from one level to the next: the mean over learned tables."""
    falls = [
        (log_odds(at["easy"][model].score) - log_odds(at["hard"][model].score)) / 2
        for table in tables
        for at in table.values()
        for model in at["easy"]
    ]
    return statistics.fmean(falls) if falls else 0.0


def log_odds(p: float) -> float:
    p = min(max(p, 0.01), 0.99)
    return math.log(p / (1 - p))


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _expected(points: float, cost: float) -> Expected:
    return Expected(round(points, 4), float(f"{cost:.3g}"))


# --- fitting ---


def fold_of(text: str, folds: int) -> int:
    return int.from_bytes(sha256(text.encode()).digest()[:8]) % folds


def names_of(text: str) -> list[str]:
    """Sorted, so that sums of floats come out the same each time. Remembered: folds use them again and again."""
    if text not in _NAMES:
        _NAMES[text] = sorted(features(text).names)
    return _NAMES[text]


_NAMES: dict[str, list[str]] = {}


def score(model: Linear, names: Iterable[str]) -> list[float]:
    return [
        sum(column)
        for column in zip(model.bias, *[model.rows[name] for name in names if name in model.rows], strict=True)
    ]


def softmax(sums: Sequence[float]) -> list[float]:
    top = max(sums)
    powers = [math.exp(value - top) for value in sums]
    total = sum(powers)
    return [power / total for power in powers]


def _odds(row: Sequence[float]) -> float:
    wrong, right = row
    return wrong - right


def _units(row: Iterable[float]) -> list[int]:
    return [round(value * SCALE) for value in row]


def encode(weights: Weights) -> bytes:
    """JSON with one feature a line, so that a change of the weights can be read."""
    head = msgspec.to_builtins(weights)
    rows = head.pop("features")
    lines = [f"{msgspec.json.encode(name).decode()}:{msgspec.json.encode(row).decode()}" for name, row in rows.items()]
    opening = msgspec.json.encode(head).decode().removesuffix("}")
    return (opening + ',"features":{\n' + ",\n".join(lines) + "\n}}\n").encode()


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    training = Training.read(DATA)
    outcomes = sum(map(len, training.sets.values()))
    note = (
        f"Learned by bench/routing_train.py from {len(training.prompts)} labelled prompts and {outcomes} prompts with "
        f"outcomes ({', '.join(training.sets)}) in bench/data; sources and licences in its README."
    )
    weights, tables = learn(training, fit_temperature(training.prompts), note)
    WEIGHTS.write_bytes(encode(weights))
    TABLES.write_bytes(msgspec.json.format(msgspec.json.encode(tables), indent=1) + b"\n")
    size = WEIGHTS.stat().st_size // 1024
    print(f"{WEIGHTS}: {len(weights.features)} features, temperature {weights.temperature}, {size} kB")
    print(f"{TABLES}: {', '.join(tables)}")


if __name__ == "__main__":
    main()
