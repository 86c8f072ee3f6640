#!/usr/bin/env python3
"""A simulated month, and the one after: does the policy save what it said, at the quality it promised?

    python bench/month.py [--data DIR] [--set NAME] [--seeds N,N,...] [--requests N] [--json]

A team asks one expensive model everything. The audit says what that costs; a sample of its questions is asked again of
cheaper models, with a limit on the money; a policy is made of that, bounded, replayed through the planner and adopted;
the month after is measured. All of it goes through the real gateway over HTTP: a scripted provider answers with the
tokens that the data give each model for each question, at the models' own prices, and how good the answer is comes from
the data too. DIR holds outcomes/SET.jsonl (bench/data by default). A few minutes a seed.

    saved       by cost per request, this month against the last one, with the interval of the two months' chance
    predicted   by the policy when it was adopted; it should lie in the interval of what is then measured
    quality     mean score; its share of the last month's. The goal: 40% or more saved at 98% or better of the same
    same        on the second month's very questions, had today's model answered them: the data know that
    control     the best mix of today's model and one other, blind to the question and chosen after the fact
    allowed     what such a policy saves at 98% if it knows every outcome beforehand: where the data say no

Several seeds are several teams' luck: a line for each, and one for all of them. With --json an object for each.
`--apart` asks the second month only questions that the first one did not have.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from rich.console import Console
from rich.table import Table
from simulated.study import GOAL, Plan, Report, live
from simulated.team import team_of
from simulated.world import world

DATA = Path(__file__).parent / "data"


async def run(folder: Path, name: str | None, plan: Plan) -> Report:
    team = team_of(folder, name)
    with tempfile.TemporaryDirectory(prefix="llmwise-month-") as at:
        async with world(team, Path(at)) as its:
            return await live(its, plan)


def show(report: Report, console: Console) -> None:
    plan, was, now = report.plan, report.before, report.after
    console.print(f"{report.team}: {was.requests:,} requests a month, all to {report.today}; seed {plan.seed}")
    console.print(
        f"Asked again: {report.rerun_questions:,} questions of {', '.join(report.kept_candidates)} (out of "
        f"{len(report.candidates)} cheaper ones), for ${report.rerun_cost:.2f}"
    )
    console.print(report.bounded.why)
    grid = Table("", "before", "after", box=None, header_style="bold")
    grid.add_row("spend", f"${was.cost:.2f}", f"${now.cost:.2f}")
    grid.add_row("quality", _within(was.quality), _within(now.quality))
    grid.add_row("p50, p95", f"{was.p50_ms:,.0f}, {was.p95_ms:,.0f} ms", f"{now.p50_ms:,.0f}, {now.p95_ms:,.0f} ms")
    grid.add_row("models", _shares(was.models), _shares(now.models))
    console.print(grid)
    grid = Table("", "", "", box=None, show_header=False)
    grid.add_row("predicted saving", f"{report.predicted.value:.1%}", _interval(report.predicted.interval))
    grid.add_row("replayed", f"{report.replayed[0]:.1%}", f"at {report.replayed[1]:.1%} of the quality")
    grid.add_row("measured saving", f"{report.saved:.1%}", _interval(report.measured))
    grid.add_row("measured quality", f"{report.quality_share:.1%}", _interval(report.kept))
    grid.add_row("same questions", f"{report.true_saved:.1%}", f"at {report.true_quality_share:.1%} of the quality")
    expected = f"at {report.expected_quality_share:.1%} of the quality"
    grid.add_row("all questions", f"{report.expected_saved:.1%}", expected)
    grid.add_row("control", f"{report.control[1]:.1%}", f"a mix with {report.control[0]}, chosen afterwards")
    console.print(grid)
    grid = Table("task", "share", "to", "saved", "quality", box=None, header_style="bold")
    for shift in report.bounded.tasks:
        saved = "" if shift.saving is None else f"{shift.saving.value:.0%}"
        quality = "" if shift.quality_change is None else f"{shift.quality_change.value:+.3f}"
        grid.add_row(shift.task_type, f"{shift.share:.0%}", _shares(shift.models), saved, quality)
    console.print(grid)
    held = "lies" if report.within else "does NOT lie"
    chance = "" if report.within else f"; by the chance of both they {'agree' if report.agrees else 'DIFFER'}"
    console.print(f"The prediction {held} in the measured interval{chance}. {verdict(report)}")


def verdict(report: Report) -> str:
    """Whether the goal is reached, and if not, whether the data or the evidence are to blame."""
    floor = f"{report.plan.floor:.0%}"
    if report.goal:
        return f"The goal (40% at {floor}) is reached."
    if report.true_quality_share < report.plan.floor:
        why = f"quality fell below {floor} of the same questions'"
    elif report.allowed < GOAL:
        why = f"the data do not allow it: with every outcome known {report.allowed:.0%} could be saved"
    else:
        why = f"the evidence does not carry it (with every outcome known {report.allowed:.0%} could be saved)"
    return f"The goal (40% at {floor}) is not reached: {why}."


def line(report: Report) -> list[str]:
    """A seed's row among others."""
    return [
        str(report.plan.seed),
        f"{report.predicted.value:.1%}",
        f"{report.saved:.1%} ({_interval(report.measured)})",
        "inside" if report.within else "agrees" if report.agrees else "DIFFERS",
        f"{report.true_quality_share:.1%}",
        f"{report.expected_saved:.1%} at {report.expected_quality_share:.1%}",
        f"{report.control[1]:.1%}",
        f"{report.allowed:.1%}",
    ]


def summary(reports: Sequence[Report]) -> str:
    saved, kept = [one.saved for one in reports], [one.true_quality_share for one in reports]
    return (
        f"{len(reports)} seeds: the prediction inside of the measured interval in {sum(r.within for r in reports)}, "
        f"within the chance of both in {sum(r.agrees for r in reports)}; "
        f"saved {min(saved):.1%} to {max(saved):.1%}, mean {statistics.fmean(saved):.1%}; "
        f"quality {min(kept):.1%} to {max(kept):.1%}, mean {statistics.fmean(kept):.1%}; "
        f"goal reached in {sum(r.goal for r in reports)}"
    )


def _within(estimate: object) -> str:
    return f"{estimate.value:.3f} ({estimate.interval.low:.3f} to {estimate.interval.high:.3f})"  # type: ignore[attr-defined]


def _interval(interval: object) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%}"  # type: ignore[attr-defined]


def _shares(models: dict[str, float]) -> str:
    return ", ".join(f"{model} {share:.0%}" for model, share in [*models.items()][:3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR")
    parser.add_argument("--set", metavar="NAME", help="outcomes/NAME.jsonl (default: the eleven models, or the most)")
    parser.add_argument("--seeds", type=_seeds, default=[0], metavar="N,N,...")
    parser.add_argument("--requests", type=int, default=10_000, help="in each of the two months")
    parser.add_argument("--rerun", type=int, default=10_000, help="at most so many questions are asked again")
    parser.add_argument("--spend", type=float, default=0.5, help="for at most this share of the first month's bill")
    parser.add_argument("--apart", action="store_true", help="the second month asks other questions than the first")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder, console = options.data.resolve(), Console()
    reports = []
    grid = Table("seed", "predicted", "measured", "", "quality", "all questions", "control", "allowed", box=None)
    for seed in options.seeds:
        plan = Plan(options.requests, options.rerun, options.spend, seed=seed, apart=options.apart)
        reports.append(report := asyncio.run(run(folder, options.set, plan)))
        if options.json:
            print(msgspec.json.encode(report).decode(), flush=True)
        elif len(options.seeds) == 1:
            show(report, console)
        else:
            print(*line(report), sep="  ", file=sys.stderr, flush=True)
            grid.add_row(*line(report))
    if len(reports) > 1 and not options.json:
        console.print(f"{reports[0].team}, today {reports[0].today}", grid)
        console.print(summary(reports), *(f"seed {one.plan.seed}: {verdict(one)}" for one in reports), sep="\n")


def _seeds(text: str) -> list[int]:
    return [int(seed) for seed in text.split(",")]


if __name__ == "__main__":
    main()
