#!/usr/bin/env python3
"""Measure what Auto learns from outcomes and from logs, and whether its intervals are true.

    python bench/learning.py [--train DIR] [--data DIR] [--set NAME] [--json] [--splits N]

DIR holds outcomes/SET.jsonl (what each model of a set made of a prompt: score 0..1, cost in USD), as bench/data does,
or is that outcomes folder itself. A row without a task is one of an unknown task.
Learned only from `--train`, judged on `--data`; ids are not used. Prompts that both hold are judged on in halves:
what is learned for one half (by a hash of the prompt) has not seen it. So both may be one folder. The set is
`routerbench_subset` where it is there (eleven models), else the one with the most models. Standard library, msgspec
and Rich; about a minute.

**pool**: all outcomes known. `insights/values.py` learns what to expect of each model; a router takes the model with
the most quality - price * cost; `saving_95` and `saving_98` are those of bench/routing.py: what the cheapest mix of its
settings that reaches 95% or 98% of the best single model's score saves of that model's cost. Its controls:

    best single     the model with the best score: saves nothing, by definition
    mix             mixes of single models that don't look at the prompt, chosen after the fact
    random          each prompt to a model at random: what it saves, and its share of the best quality (see logs)
    class           the classifier's verdict and a table per class
    task            the same with the benchmark's own name of the task
    oracle          knows what each model will make of each prompt

The setting of a frontier is chosen after the fact, for the router and its controls alike. What one gets who chooses it
beforehand, by the cheapest setting that reached the share on the prompts learned from (cross-fitted), is printed too.

**logs**: `LOGGED` records, each of one model drawn uniformly for one prompt of --train, over `RESAMPLES` draws.
`saving` is the mean of what `insights/offpolicy.recommend` then saves on --data against the best single model, and
`risk` the share of draws in which it falls below .93 of that model's quality. Its control is the point estimate: the
same policies without the bound. `--splits N` repeats pool and logs (20 draws each) over N ways to halve --data, and
prints means, spread and the worst: one way to halve a thousand prompts says little.

**coverage**: logs of --data, drawn by a router that knows which prompts are hard and sends them to the dear models
(propensities logged, conversations of one to three turns). The share of nominal 95% intervals, of quality per class and
model with enough evidence and of five policies' values, that hold the truth: the means over --data. Nothing is learned
here but the policies, from --train. Its control is the plain mean with a plain interval.
"""

import argparse
import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as Grid
from routing import PRICES, saving
from routing_train import DATA, Expected, Outcome, fold_of
from sets import choose_set, sets_of

from llmwise.insights import offpolicy, values
from llmwise.insights.intervals import mean
from llmwise.insights.offpolicy import Logged, Scored
from llmwise.routing.classifier import classify
from llmwise.routing.values import Expected as Cell
from llmwise.routing.values import Values, best_value, expect_seen

SHARES: Final = (0.95, 0.98)
LOGGED: Final = 3000
RESAMPLES: Final = 200
FLOOR: Final = 0.93
AIM: Final = 0.94
"""What the bound keeps to: a little more than is judged by, because what comes is not quite what was logged."""
BOUND: Final = offpolicy.BOUND_LEVEL
POINT: Final = 0.5
CONFOUNDED: Final = 6000
REPLICATIONS: Final = 60
ENOUGH: Final = 50
LEAST: Final = 0.02
SPLIT_RESAMPLES: Final = 20
STEEP: Final = 2.0
"""How strongly the confounded router sends hard prompts to dear models."""
SEED: Final = 20261122


class Question(NamedTuple):
    """A prompt with outcomes, looked at once."""

    text: str
    task: str
    label: str
    seen: values.Seen


def look(row: Outcome) -> Question:
    outcomes = {model: Cell(answer.score, answer.cost) for model, answer in row.models.items()}
    seen = values.look(values.Example(row.prompt, outcomes))
    return Question(row.prompt, classify(row.prompt).task_type, row.task, seen)


class Study(NamedTuple):
    """What may be learned from, and what is judged on."""

    train: list[Question]
    data: list[Question]


def studies(train: Sequence[Outcome], data: Sequence[Outcome]) -> list[Study]:
    """One study; two, by halves, if most prompts are in both. A few that are in both are not learned from."""
    known = {row.prompt for row in data}
    learned, judged = [look(row) for row in train], [look(row) for row in data]
    shared = sum(row.prompt in known for row in train)
    if shared <= len(train) / 2:
        return [Study([q for q, row in zip(learned, train, strict=True) if row.prompt not in known], judged)]
    return halved(learned, judged, "")


def check(name: str, some: Sequence[Study]) -> None:
    """Ends the program where there is nothing to learn, or nothing to save."""
    if not all(study.train and study.data for study in some):
        sys.exit(f"{name}: too few prompts that are not in both folders")
    for study in some:
        learned, judged = singles(study.train), singles(study.data)
        best = judged[best_single(judged)]
        if not best.cost or not best.score:
            sys.exit(
                f"{name}: the best model costs nothing, or nothing that it says is right: there is nothing to save"
            )
        if not any(one.cost for one in learned.values()) or not any(one.score for one in learned.values()):
            sys.exit(f"{name} of --train: no model costs anything, or none is ever right: there is nothing to learn")


def halved(learned: Sequence[Question], judged: Sequence[Question], salt: str) -> list[Study]:
    """Each half judged by what was learned from the other; `salt` makes other halves."""

    def half(question: Question) -> int:
        return fold_of(salt + question.text, 2)

    return [Study([q for q in learned if half(q) != at], [q for q in judged if half(q) == at]) for at in (0, 1)]


def singles(questions: Sequence[Question]) -> dict[str, Expected]:
    return {
        model: Expected(
            statistics.fmean(q.seen.outcomes[model].quality for q in questions),
            statistics.fmean(q.seen.outcomes[model].cost for q in questions),
        )
        for model in sorted(questions[0].seen.outcomes)
    }


def best_single(alone: Mapping[str, Expected]) -> str:
    return max(alone, key=lambda model: (alone[model].score, -alone[model].cost))


# --- pool ---


def frontier(questions: Sequence[Question], expected: Sequence[Mapping[str, Cell]]) -> list[Expected]:
    """Mean score and cost at each price."""
    dearest = max(one.cost for one in singles(questions).values())
    points = []
    for price in PRICES:
        took = [
            q.seen.outcomes[min(e, key=lambda m: e[m].cost) if price == math.inf else best_value(e, price / dearest)]
            for q, e in zip(questions, expected, strict=True)
        ]
        points.append(Expected(statistics.fmean(a.quality for a in took), statistics.fmean(a.cost for a in took)))
    return points


def by_values(learned: Values, questions: Sequence[Question]) -> list[Mapping[str, Cell]]:
    return [expect_seen(learned, q.seen.chances, q.seen.shape) for q in questions]


def by_table(
    train: Sequence[Question], questions: Sequence[Question], key: Callable[[Question], str]
) -> list[Mapping[str, Cell]]:
    rows = [
        Logged(key(q), model, seen.quality, seen.cost, 1.0, at)
        for at, q in enumerate(train)
        for model, seen in q.seen.outcomes.items()
    ]
    table = {
        task: {model: Cell(cell.reward, cell.cost) for model, cell in cells.items()}
        for task, cells in offpolicy.learn(rows).items()
    }
    fallback = {model: Cell(one.score, one.cost) for model, one in singles(train).items()}
    return [table.get(key(q), fallback) for q in questions]


def pool(study: Study, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """Who routes -> what it saves at each share of the best quality."""
    alone = singles(questions)
    best = alone[best_single(alone)]
    routers = {
        "values": by_values(values.learn([q.seen for q in study.train], "bench"), questions),
        "class": by_table(study.train, questions, lambda q: q.task),
        "task": by_table(study.train, questions, lambda q: q.label),
        "oracle": [q.seen.outcomes for q in questions],
    }
    points = {name: frontier(questions, expected) for name, expected in routers.items()}
    points |= {"mix": list(alone.values()), "best single": [best]}
    return {
        name: {f"saving_{share * 100:.0f}": saving(some, best, share) for share in SHARES}
        for name, some in points.items()
    }


def beforehand(study: Study, share: float) -> "Chosen":
    """With the price chosen on the prompts learned from: quality and saving on the judged ones."""
    halves = [[q for q in study.train if fold_of(q.text, 4) // 2 == half] for half in (0, 1)]
    points = []
    for half in (0, 1):
        learned = values.learn([q.seen for q in halves[1 - half]], "bench")
        points.append(frontier(halves[half], by_values(learned, halves[half])))
    tried = [Expected((a.score + b.score) / 2, (a.cost + b.cost) / 2) for a, b in zip(*points, strict=True)]
    alone = singles(study.train)
    wanted = share * alone[best_single(alone)].score
    setting = min((at for at, p in enumerate(tried) if p.score >= wanted), key=lambda at: tried[at].cost, default=0)
    taken = frontier(study.data, by_values(values.learn([q.seen for q in study.train], "bench"), study.data))[setting]
    judged = singles(study.data)
    best = judged[best_single(judged)]
    return Chosen(taken.score / best.score, 1 - taken.cost / best.cost)


# --- logs ---


class Chosen(NamedTuple):
    """What a recommendation comes to on the judged prompts: share of the best single model's quality and of its cost
    saved."""

    quality: float
    saving: float


def uniform_logs(train: Sequence[Question], n: int, rng: random.Random) -> list[Logged]:
    models = sorted(train[0].seen.outcomes)
    rows = []
    for at in range(n):
        question, model = rng.choice(train), rng.choice(models)
        seen = question.seen.outcomes[model]
        rows.append(Logged(question.task, model, seen.quality, seen.cost, 1 / len(models), at))
    return rows


class Judge:
    """Means per class and model over the judged prompts: a policy per class is judged by a few sums."""

    def __init__(self, questions: Sequence[Question]) -> None:
        alone = singles(questions)
        self.best = alone[best_single(alone)]
        self.counts = Counter(q.task for q in questions)
        self.cells = {task: singles([q for q in questions if q.task == task]) for task in self.counts}

    def mean(self, choice: Mapping[str, str], reference: str) -> Expected:
        whole = sum(self.counts.values())
        took = [(n, self.cells[task][choice.get(task, reference)]) for task, n in self.counts.items()]
        return Expected(sum(n * e.score for n, e in took) / whole, sum(n * e.cost for n, e in took) / whole)

    def of(self, choice: Mapping[str, str], share: float, reference: str) -> Chosen:
        new, old = self.mean(choice, reference), self.mean({}, reference)
        quality = share * new.score + (1 - share) * old.score
        return Chosen(quality / self.best.score, 1 - (share * new.cost + (1 - share) * old.cost) / self.best.cost)


def from_logs(study: Study, resamples: int, level: float, tick: Callable[[], None], rng: random.Random) -> list[Chosen]:
    judge = Judge(study.data)
    chosen = []
    for _ in range(resamples):
        advice = offpolicy.recommend(uniform_logs(study.train, LOGGED, rng), floor=AIM, points=0.0, level=level)
        chosen.append(judge.of(advice.choice, advice.share, advice.reference))
        tick()
    return chosen


# --- coverage ---


class Covered(NamedTuple):
    """Whether each interval held the truth."""

    cells: list[bool]
    policies: list[bool]
    plain: list[bool]


def confounded_logs(questions: Sequence[Question], n: int, rng: random.Random) -> list[Logged]:
    """The harder a prompt (the fewer models get it right), the likelier the dear models; never below `LEAST`."""
    alone = singles(questions)
    dear = sorted(alone, key=lambda m: alone[m].cost)
    tilt = {model: 2 * at / (len(dear) - 1) - 1 for at, model in enumerate(dear)}
    rows: list[Logged] = []
    conversation = 0
    while len(rows) < n:
        question = rng.choice(questions)
        hard = 1 - 2 * statistics.fmean(seen.quality for seen in question.seen.outcomes.values())
        powers = [math.exp(STEEP * hard * tilt[model]) for model in dear]
        chances = [LEAST + (1 - LEAST * len(dear)) * power / sum(powers) for power in powers]
        at = rng.choices(range(len(dear)), chances)[0]
        seen = question.seen.outcomes[dear[at]]
        conversation += 1
        rows += [Logged(question.task, dear[at], seen.quality, seen.cost, chances[at], conversation)] * rng.randint(
            1, 3
        )
    return rows


def coverage(study: Study, replications: int, tick: Callable[[], None], rng: random.Random) -> Covered:
    judge = Judge(study.data)
    table = {
        task: {model: offpolicy.Cell(one.score, one.cost) for model, one in Judge(study.train).cells[task].items()}
        for task in {q.task for q in study.train}
    }
    dearest = max(one.cost for one in singles(study.train).values())
    choices = [offpolicy.priced(table, price / dearest) for price in (0.0, 0.05, 0.2, 1.0, 10.0)]
    reference = best_single(singles(study.train))
    covered = Covered([], [], [])
    for _ in range(replications):
        rows = confounded_logs(study.data, CONFOUNDED, rng)
        cells: dict[tuple[str, str], list[Logged]] = {}
        for row in rows:
            cells.setdefault((row.task, row.model), []).append(row)
        for (task, model), some in cells.items():
            truth = judge.cells[task][model].score
            rewards = [row.reward for row in some]
            estimate = mean(rewards, [offpolicy.weight(row) for row in some], [r.conversation for r in some], unit=True)
            plain = mean(rewards)
            assert estimate is not None
            assert plain is not None
            if estimate.n_eff >= ENOUGH:
                covered.cells.append(truth in estimate.interval)
                covered.plain.append(truth in plain.interval)
        scored = Scored(rows)
        for choice in choices:
            value = scored.value(choice, reference)
            assert value is not None
            covered.policies.append(judge.mean(choice, reference).score in value.interval)
        tick()
    return covered


# --- reports ---


def share_of(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else math.nan


def average(dicts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        name: {key: statistics.fmean(one[name][key] for one in dicts) for key in dicts[0][name]} for name in dicts[0]
    }


class Report(NamedTuple):
    pool: dict[str, dict[str, float]]
    logs: list[Chosen]
    point: list[Chosen]
    beforehand: list[list[Chosen]]
    random: Chosen
    covered: Covered

    def json(self) -> bytes:
        return msgspec.json.encode({
            "pool": self.pool["values"],
            "logs": {"saving": statistics.fmean(c.saving for c in self.logs), "risk": risk(self.logs)},
            "coverage": share_of(self.covered.cells + self.covered.policies),
        })  # fmt: skip


def risk(chosen: Sequence[Chosen]) -> float:
    return share_of([one.quality < FLOOR for one in chosen])


def measure(some: Sequence[Study], resamples: int, replications: int, controls: bool) -> Report:
    """Without `controls` those that take time are left out: the point estimates and the prices set beforehand."""
    each, turns = resamples // len(some), max(1, replications // len(some))
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        logs, point, covered = [], [], Covered([], [], [])
        bar = progress.add_task("resamples", total=((1 + controls) * each + turns) * len(some))
        tick = lambda: progress.advance(bar)  # noqa: E731
        for at, study in enumerate(some):
            logs += from_logs(study, each, BOUND, tick, random.Random(SEED + at))
            if controls:
                point += from_logs(study, each, POINT, tick, random.Random(SEED + at))
            one = coverage(study, turns, tick, random.Random(SEED + at))
            covered = Covered(*(old + new for old, new in zip(covered, one, strict=True)))
    pools = average([pool(study, study.data) for study in some])
    alone = [singles(study.data) for study in some]
    blind = [
        Chosen(
            statistics.fmean(e.score for e in one.values()) / one[best_single(one)].score,
            1 - statistics.fmean(e.cost for e in one.values()) / one[best_single(one)].cost,
        )
        for one in alone
    ]
    uniform = Chosen(statistics.fmean(c.quality for c in blind), statistics.fmean(c.saving for c in blind))
    ahead = [[beforehand(study, share) for study in some] for share in SHARES if controls]
    return Report(pools, logs, point, ahead, uniform, covered)


def show(report: Report, name: str, some: Sequence[Study], console: Console) -> None:
    sizes = ", ".join(f"{len(study.train)} -> {len(study.data)}" for study in some)
    console.print(f"{name}: prompts learned from -> judged on: {sizes}; {len(some[0].data[0].seen.outcomes)} models\n")
    grid = Grid("pool", "saved at 95%", "saved at 98%")
    for router in ("values", "class", "task", "oracle", "mix", "best single"):
        grid.add_row(router, *(f"{report.pool[router][f'saving_{share * 100:.0f}']:.1%}" for share in SHARES))
    console.print(grid)
    grid = Grid("values, set beforehand", "saved", "share of the best quality")
    for share, ahead in zip(SHARES, report.beforehand, strict=True):
        saved_then, quality = statistics.fmean(c.saving for c in ahead), statistics.fmean(c.quality for c in ahead)
        grid.add_row(f"aimed at {share:.0%}", f"{saved_then:.1%}", f"{quality:.3f}")
    console.print(grid)
    grid = Grid(f"from {LOGGED} logged records", "saved", "5% least", "quality", f"risk (below {FLOOR})")
    for label, some_chosen in (
        ("lower bound", report.logs),
        ("point estimate", report.point),
        ("random", [report.random]),
    ):
        saved = sorted(c.saving for c in some_chosen)
        grid.add_row(
            label,
            f"{statistics.fmean(saved):.1%}",
            f"{saved[len(saved) // 20]:.1%}",
            f"{statistics.fmean(c.quality for c in some_chosen):.3f}",
            f"{risk(some_chosen):.1%}",
        )
    console.print(grid)
    grid = Grid("95% intervals", "hold the truth", "intervals")
    for label, flags in (
        ("class and model, weighted", report.covered.cells),
        ("policies, doubly robust", report.covered.policies),
        ("class and model, plain", report.covered.plain),
    ):
        grid.add_row(label, f"{share_of(flags):.1%}", str(len(flags)))
    console.print(grid)


def show_splits(rows: Sequence[Outcome], name: str, splits: int, console: Console) -> None:
    """Means, spread and the worst over ways to halve the prompts, both ways each."""
    questions = [look(row) for row in rows]
    saved: dict[str, list[float]] = {}
    chosen: list[list[Chosen]] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for split in progress.track(range(splits), description="splits"):
            halves = halved(questions, questions, f"split {split} ")
            check(name, halves)
            for at, study in enumerate(halves):
                for router, one in pool(study, study.data).items():
                    for key, value in one.items():
                        saved.setdefault(f"{router}, {key}", []).append(value)
                rng = random.Random(SEED + 2 * split + at)
                chosen.append(from_logs(study, SPLIT_RESAMPLES, BOUND, lambda: None, rng))
    saved["logs, saving"] = [statistics.fmean(c.saving for c in some) for some in chosen]
    saved["logs, risk"] = [risk(some) for some in chosen]
    grid = Grid(f"{name}, {splits} splits", "mean", "sd", "least", "most")
    for label, values_of in saved.items():
        row = statistics.fmean(values_of), statistics.pstdev(values_of), min(values_of), max(values_of)
        grid.add_row(label, *(f"{value:.1%}" for value in row))
    console.print(grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, default=DATA, metavar="DIR", help="learn from this (default: bench/data)")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="judge on this (default: bench/data)")
    parser.add_argument("--set", metavar="NAME", help="outcomes/NAME.jsonl (default: the eleven models, or the most)")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, metavar="N", help="draws of logs")
    parser.add_argument("--replications", type=int, default=REPLICATIONS, metavar="N", help="draws for the coverage")
    parser.add_argument("--splits", type=int, default=0, metavar="N", help="halve --data in N ways; means and spread")
    parser.add_argument("--json", action="store_true", help="one JSON object of fractions")
    options = parser.parse_args()
    name, train, data = choose_set(sets_of(options.train), sets_of(options.data), options.set)
    if options.splits:
        show_splits(data, name, options.splits, Console())
        return
    some = studies(train, data)
    check(name, some)
    report = measure(some, options.resamples, options.replications, not options.json)
    if options.json:
        print(report.json().decode())
    else:
        show(report, name, some, Console())


if __name__ == "__main__":
    main()
