#!/usr/bin/env python3
"""Measure Auto's classifier, and what routing by it saves.

    python bench/routing.py --data DIR [--json] [--train DIR] [--folds N] [--loso]

DIR holds classification/*.jsonl (labelled prompts) and outcomes/SET.jsonl (what each model of a set made of a prompt:
score 0..1, cost in USD); bench/data is one. Nothing is learned from DIR: weights and tables are the committed ones, or
learned from `--train DIR`. Standard library and msgspec only; 10 s.

    --folds N   prompts that DIR shares with the training data make the plain figures too good. Learns N times anew,
                each time without the prompts (by hash) that it is measured with: weights, difficulty, tables (1 min)
    --loso      leave one source out: each source by weights learned without it, as all new traffic is (2 min)

**Classification.** Strict: the label. Lenient: any acceptable label. Macro-F1: the mean over the classes of
2 tp / (2 tp + fp + fn).

**Outcomes.** A router sees a prompt's task type and level of difficulty, and takes from its table the model with the
most `quality - price * cost`. Sweeping the price up from 0 gives pairs of mean cost and mean score; a mix of two
settings (a coin per prompt) reaches every point between two pairs.

    saving_q    1 - (cost of the cheapest mix whose score is q times the best single model's) / (that model's cost);
                0 where no mix reaches it, for then one stays with that model
    random      the same for mixes of single models that don't look at the prompt, chosen after the fact: the control
    APGR        weak: the cheapest model; strong: the one with the best score. Send the share s of prompts for which the
                table expects most of the strong one (ties: the harder first) to it, the rest to the weak.
                PGR(s) = (score(s) - score(0)) / (score(1) - score(0)); APGR is its mean over s in 0..1; by chance 0.5.
                RouteLLM's (https://arxiv.org/abs/2406.18665, 2024), over all s instead of ten

The table of a set is the learned one of the same models (tables.json), else one that knows their prices only and takes
the dearer for the better.
"""

import argparse
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from routing_train import (
    DATA,
    LEVELS,
    TABLES,
    WEIGHTS,
    WRITTEN,
    Expected,
    Outcome,
    Prompt,
    Table,
    Training,
    fit_temperature,
    fold_of,
    learn,
    learn_tasks,
    logistic,
    read_outcomes,
    read_prompts,
)

from llmwise.routing.classifier import TASK_TYPES, Classification, Classifier, Weights, level

PRICES: Final = (0.0, *(10 ** (step / 8) for step in range(-32, 17)), math.inf)
"""Of quality, in scores per cost of the dearest model."""
THRESHOLDS: Final = (0.3, 0.5, 0.7, 0.9)
LONG_CHARS: Final = 20_000
REPEATS: Final = 5


class Routed(NamedTuple):
    outcome: Outcome
    seen: Classification
    expected: Mapping[str, Expected]
    fold: int
    """Expectations of different folds are those of different tables and don't compare."""


class Told(NamedTuple):
    prompt: Prompt
    seen: Classification

    @property
    def strict(self) -> bool:
        return self.seen.task_type == self.prompt.label

    @property
    def lenient(self) -> bool:
        return self.prompt.accepts(self.seen.task_type)


# --- classification ---


def tell(classifier: Classifier, prompts: Iterable[Prompt]) -> list[Told]:
    return [Told(prompt, classifier.classify(prompt.prompt)) for prompt in prompts]


def share(flags: Iterable[bool]) -> float:
    flags = list(flags)
    return sum(flags) / len(flags) if flags else math.nan


def by_class(told: Sequence[Told]) -> dict[str, tuple[int, float, float, float]]:
    """Task type -> (how many, precision, recall, F1); those that neither occur nor are told are left out."""
    table: dict[str, tuple[int, float, float, float]] = {}
    for task in TASK_TYPES:
        labelled = sum(one.prompt.label == task for one in told)
        taken = sum(one.seen.task_type == task for one in told)
        right = sum(one.strict for one in told if one.prompt.label == task)
        if labelled + taken:
            precision, recall = right / taken if taken else 0.0, right / labelled if labelled else 0.0
            table[task] = (labelled, precision, recall, 2 * right / (labelled + taken))
    return table


def macro_f1(told: Sequence[Told]) -> float:
    return statistics.fmean(f1 for *_, f1 in by_class(told).values())


def leave_one_source_out(training: Training, prompts: Sequence[Prompt], temperature: float) -> list[Told]:
    """A source that is not in the training data needs no leaving out."""
    known = {prompt.source for prompt in training.prompts}
    told = tell(Classifier(learn_tasks(training.prompts, temperature)), [p for p in prompts if p.source not in known])
    for source in sorted({prompt.source for prompt in prompts} & known - {WRITTEN}):
        rest = [prompt for prompt in training.prompts if prompt.source != source]
        classifier = Classifier(learn_tasks(rest, temperature))
        told += tell(classifier, [prompt for prompt in prompts if prompt.source == source])
        print(f"\r{source:40}", end="", file=sys.stderr)
    print(f"\r{'':40}\r", end="", file=sys.stderr)
    return told


def microseconds(classifier: Classifier, prompts: Sequence[Prompt]) -> tuple[float, float, float]:
    """(median, p99, for a prompt of 20,000 characters). The best of `REPEATS` calls each: what the call costs, not what
    else the machine does."""
    texts = [prompt.prompt for prompt in prompts]
    joined = "\n\n".join(texts)
    long = (joined * (LONG_CHARS // max(1, len(joined)) + 1))[:LONG_CHARS]
    times = sorted(_best_us(classifier, text) for text in texts)
    return statistics.median(times), times[len(times) * 99 // 100], _best_us(classifier, long)


def _best_us(classifier: Classifier, text: str) -> float:
    best = math.inf
    for _ in range(REPEATS):
        start = time.perf_counter()
        classifier.classify(text)
        best = min(best, time.perf_counter() - start)
    return best * 1e6


# --- what routing by a table saves ---


def route(rows: Iterable[Outcome], classifier: Classifier, table: Table, fold: int = 0) -> list[Routed]:
    routed = []
    for row in rows:
        seen = classifier.classify(row.prompt)
        routed.append(Routed(row, seen, table[seen.task_type][level(seen.difficulty)], fold))
    return routed


def table_for(rows: Sequence[Outcome], learned: Iterable[Table]) -> Table:
    """The learned table of the same models; else one that knows prices only."""
    models = rows[0].models.keys()
    known = (table for table in learned if table[TASK_TYPES[0]][LEVELS[0]].keys() == models)
    return next(known, None) or table_of_prices(singles(rows))


def table_of_prices(means: Mapping[str, Expected]) -> Table:
    """Only the costs of `means` are used. The dearer a model, the better it is taken to be, and the more so the harder
    the prompt."""
    ranked = sorted((mean.cost, model) for model, mean in means.items())
    return {
        task: {
            at: {m: Expected(logistic(rank - 2 * LEVELS.index(at)), cost) for rank, (cost, m) in enumerate(ranked)}
            for at in LEVELS
        }
        for task in TASK_TYPES
    }


def singles(rows: Sequence[Outcome]) -> dict[str, Expected]:
    return {
        model: Expected(
            statistics.fmean(row.models[model].score for row in rows),
            statistics.fmean(row.models[model].cost for row in rows),
        )
        for model in sorted(rows[0].models)
    }


def sweep(routed: Sequence[Routed]) -> list[Expected]:
    """What comes out at each of `PRICES`."""
    dearest = max(e.cost for e in singles([one.outcome for one in routed]).values())
    points = []
    for price in PRICES:
        answers = [one.outcome.models[_pick(one.expected, price / dearest)] for one in routed]
        points.append(Expected(statistics.fmean(a.score for a in answers), statistics.fmean(a.cost for a in answers)))
    return points


def _pick(expected: Mapping[str, Expected], price: float) -> str:
    if price == math.inf:
        return min(expected, key=lambda model: expected[model].cost)
    return max(expected, key=lambda model: expected[model].score - price * expected[model].cost)


def saving(points: Sequence[Expected], best: Expected, share_of_best: float) -> float:
    wanted = share_of_best * best.score
    costs = [point.cost for point in points if point.score >= wanted]
    costs += [
        low.cost + (high.cost - low.cost) * (wanted - low.score) / (high.score - low.score)
        for low in points
        for high in points
        if low.score < wanted <= high.score
    ]
    return 1 - min(costs) / best.cost if costs else 0.0


def apgr(routed: Sequence[Routed]) -> float:
    """Of folds: their mean, by size. Not a number if nowhere the strong model is the better one."""
    folds: dict[int, list[Routed]] = defaultdict(list)
    for one in routed:
        folds[one.fold].append(one)
    areas = [(_apgr(rows), len(rows)) for rows in folds.values()]
    areas = [(area, size) for area, size in areas if not math.isnan(area)]
    return sum(area * size for area, size in areas) / sum(size for _, size in areas) if areas else math.nan


def _apgr(routed: Sequence[Routed]) -> float:
    means = singles([one.outcome for one in routed])
    strong = max(means, key=lambda model: (means[model].score, -means[model].cost))
    weak = min(means, key=lambda model: means[model].cost)
    gap = means[strong].score - means[weak].score
    if gap <= 0:
        return math.nan

    def gain(one: Routed) -> tuple[float, float]:
        return one.expected[strong].score - one.expected[weak].score, one.seen.difficulty

    recovered, total = 0.0, 0.0
    for one in sorted(routed, key=gain, reverse=True):
        step = (one.outcome.models[strong].score - one.outcome.models[weak].score) / gap / len(routed)
        total += recovered + step / 2  # the area under the step
        recovered += step
    return total / len(routed)


def savings(routed: Sequence[Routed]) -> dict[str, float]:
    alone = list(singles([one.outcome for one in routed]).values())
    best = max(alone, key=lambda e: (e.score, -e.cost))
    points = sweep(routed)
    return {
        "saving_95": saving(points, best, 0.95),
        "saving_98": saving(points, best, 0.98),
        "apgr": apgr(routed),
        "random_saving_95": saving(alone, best, 0.95),
        "random_saving_98": saving(alone, best, 0.98),
    }


# --- reports ---


def results(
    told: Sequence[Told], times: tuple[float, float, float], routed: Mapping[str, Sequence[Routed]]
) -> dict[str, object]:
    return {
        "strict": share(one.strict for one in told),
        "lenient": share(one.lenient for one in told),
        "macro_f1": macro_f1(told),
        "p50_us": times[0],
        "p99_us": times[1],
        "long_us": times[2],
        "outcomes": {name: savings(rows) for name, rows in routed.items()},
    }


def classes(told: Sequence[Told]) -> Iterator[str]:
    strict, lenient = share(one.strict for one in told), share(one.lenient for one in told)
    yield f"strict {strict:.3f}   lenient {lenient:.3f}   macro-F1 {macro_f1(told):.3f}"
    yield ""
    yield f"{'':30}{'prompts':>8}{'precision':>11}{'recall':>8}{'F1':>7}"
    for task, (count, precision, recall, f1) in by_class(told).items():
        yield f"{task:30}{count:8}{precision:11.3f}{recall:8.3f}{f1:7.3f}"
    yield ""
    yield f"{'confidence at least':30}{'prompts':>8}{'share':>11}{'strict':>8}{'lenient':>9}"
    for threshold in THRESHOLDS:
        sure = [one for one in told if one.seen.confidence >= threshold]
        strict, lenient = share(one.strict for one in sure), share(one.lenient for one in sure)
        yield f"{threshold:<30}{len(sure):8}{len(sure) / len(told):11.3f}{strict:8.3f}{lenient:9.3f}"


def money(routed: Mapping[str, Sequence[Routed]]) -> Iterator[str]:
    yield f"{'':36}   {'saved at 95%':>16}   {'saved at 98%':>16}"
    columns = f"   {'router':>8}{'random':>8}" * 2
    yield f"{'':20}{'prompts':>8}{'models':>8}{columns}    APGR   best single"
    for name, rows in routed.items():
        saved = savings(rows)
        alone = singles([one.outcome for one in rows])
        best = max(alone, key=lambda model: (alone[model].score, -alone[model].cost))
        yield (
            f"{name:20}{len(rows):8}{len(alone):8}   {saved['saving_95']:8.1%}{saved['random_saving_95']:8.1%}   "
            f"{saved['saving_98']:8.1%}{saved['random_saving_98']:8.1%}   {saved['apgr']:5.3f}   "
            f"{best} ({alone[best].score:.3f}, ${alone[best].cost:.2g})"
        )


def in_folds(
    training: Training, prompts: Sequence[Prompt], sets: Mapping[str, Sequence[Outcome]], folds: int, temperature: float
) -> tuple[list[Told], dict[str, list[Routed]]]:
    told: list[Told] = []
    routed: dict[str, list[Routed]] = defaultdict(list)
    for fold in range(folds):
        print(f"\rfold {fold + 1} of {folds}", end="", file=sys.stderr)
        weights, learned = learn(training.without(fold, folds), temperature)
        classifier = Classifier(weights)
        told += tell(classifier, [prompt for prompt in prompts if fold_of(prompt.prompt, folds) == fold])
        for name, rows in sets.items():
            held = [row for row in rows if fold_of(row.prompt, folds) == fold]
            routed[name] += route(held, classifier, table_for(rows, learned.values()), fold)
    print(f"\r{'':20}\r", end="", file=sys.stderr)
    return told, routed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="measure on this (default: bench/data)")
    parser.add_argument("--train", type=Path, metavar="DIR", help="learn from this instead of what is in the tree")
    parser.add_argument("--folds", type=int, default=0, metavar="N", help="cross-validate in so many folds")
    parser.add_argument("--loso", action="store_true", help="leave one source out")
    parser.add_argument("--json", action="store_true", help="one JSON object: fractions and microseconds")
    options = parser.parse_args()

    training = Training.read(options.train or DATA)
    if options.train:
        weights, learned = learn(training, fit_temperature(training.prompts))
    else:
        weights = msgspec.json.decode(WEIGHTS.read_bytes(), type=Weights)
        learned = msgspec.json.decode(TABLES.read_bytes(), type=dict[str, Table])
    prompts = [prompt for prompt in read_prompts(options.data) if prompt.source != WRITTEN]
    sets = read_outcomes(options.data)
    classifier = Classifier(weights)
    times = microseconds(classifier, prompts)
    if options.folds:
        told, routed = in_folds(training, prompts, sets, options.folds, weights.temperature)
    else:
        told = tell(classifier, prompts)
        routed = {name: route(rows, classifier, table_for(rows, learned.values())) for name, rows in sets.items()}
    unknown = leave_one_source_out(training, prompts, weights.temperature) if options.loso else []

    if options.json:
        report = results(told, times, routed)
        if unknown:
            report["loso_strict"] = share(one.strict for one in unknown)
            report["loso_lenient"] = share(one.lenient for one in unknown)
        print(msgspec.json.encode(report).decode())  # not a number becomes null
        return
    shared = {prompt.prompt for prompt in training.prompts} & {prompt.prompt for prompt in prompts}
    how = f"{options.folds} folds" if options.folds else f"weights of {weights.version}"
    print(f"{options.data}: {len(prompts)} prompts, {how}")
    if shared and not options.folds:
        print(f"{len(shared)} of them were learned from, which flatters what follows; --folds 5 doesn't")
    print("", *classes(told), "", sep="\n")
    median, p99, long = times
    print(f"microseconds per prompt: median {median:.0f}, p99 {p99:.0f}, {LONG_CHARS:,} characters {long:.0f}\n")
    if unknown:
        print("each source by weights learned without it:", *classes(unknown), "", sep="\n")
    print(*money(routed), sep="\n")


if __name__ == "__main__":
    main()
