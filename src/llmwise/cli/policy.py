"""`llmwise policy`: what the logs recommend, and which version is in force. All over the API of a running gateway."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from llmwise.cli.failing import fail
from llmwise.cli.remote import DEFAULT_URL, KeyOption, UrlOption, gateway
from llmwise.cli.tables import show as show_table

GoalOption = Annotated[str | None, typer.Option("--goal", help="balanced, latency, cost or reliability.")]
DaysOption = Annotated[int, typer.Option("--days", min=1, max=90, help="How far back to look.")]
WhyOption = Annotated[str, typer.Option("--why", help="Kept with the change.")]
RERUN_TIMEOUT_S = 3600.0
MEASURES = (("quality", 1, ".3f"), ("cost_nanousd", 1e9, ".6f"))
LABELS = {"quality": "quality", "cost_nanousd": "USD a request"}
Version = Annotated[str, typer.Argument(help="As `llmwise policy list` shows it.")]


def show(url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """The settings, and what is in force."""
    with gateway(url, key) as client:
        found = client.optimization_policy()
    out = Console(highlight=False)
    for name in ("enabled", "goal", "max_fallbacks", "models", "explore", "guard_points"):
        own = " (configuration)" if name in found["configured"] else ""
        out.print(f"{name:14} {found[name]}{own}")
    for goal, version in found["adopted"].items():
        out.print(f"in force       {version} for {goal}")
    if found["trial"]:
        trial = found["trial"]
        out.print(f"on trial       {trial['version']} ({trial['stage']})")
    if found["guard"]:
        until = datetime.fromtimestamp(found["guard"]["until_ms"] / 1000, UTC)
        out.print(f"under guard    {found['guard']['version']} until {until:%Y-%m-%d %H:%M} UTC")
    for task, model in found["avoid"]:
        out.print(f"left out       {model} on {task or 'all tasks'}: see `llmwise policy alerts`")


def report(goal: GoalOption = None, days: DaysOption = 30, url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """What the logs recommend; nothing is changed."""
    with gateway(url, key) as client:
        _report(client.optimization_report(goal=goal or client.optimization_policy()["goal"], days=days))


def propose(
    goal: GoalOption = None, days: DaysOption = 30, url: UrlOption = DEFAULT_URL, key: KeyOption = None
) -> None:
    """Make a version of what the logs recommend, to be tried or adopted."""
    with gateway(url, key) as client:
        made = client.optimization_evaluate(goal=goal, days=days)
    _report(made)
    print(f"proposed: {made['policy_version']}")


def list_(url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """The versions, newest first, and who changed what."""
    with gateway(url, key) as client:
        found = client.optimization_policies()
    table = Table("version", "goal", "state", "primary by task type", box=None, header_style="bold")
    for row in found["items"]:
        tasks = ", ".join(f"{task}: {model}" for task, model in row["tasks"].items())
        table.add_row(row["version"], row["goal"], row["state"], tasks or "not enough data")
    show_table(table)
    for event in found["events"]:
        print(f"{event['what']:12} {event['version'] or '':24} by {event['by']}  {event['why']}")


def adopt(
    version: Version,
    guard_days: Annotated[
        float, typer.Option("--guard-days", min=0, max=30, help="Give it back by itself if it turns out worse.")
    ] = 0.0,
    why: WhyOption = "",
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Put a version in force; all gateways on the database follow within seconds."""
    with gateway(url, key) as client:
        _in_force(client.optimization_adopt(version, why=why, guard_days=guard_days))


def give_back(
    goal: GoalOption = None, why: WhyOption = "", url: UrlOption = DEFAULT_URL, key: KeyOption = None
) -> None:
    """Return to the version before, or to none."""
    with gateway(url, key) as client:
        _in_force(client.optimization_return(goal=goal, why=why))


def try_(
    version: Version,
    canary: Annotated[
        bool, typer.Option("--canary", help="Decide for a share of conversations; else a shadow.")
    ] = False,
    share: Annotated[float, typer.Option("--share", min=0.01, max=0.5)] = 0.1,
    margin: Annotated[float, typer.Option("--margin", min=0.001, max=0.5, help="Worse by more: given up.")] = 0.05,
    wait: Annotated[bool, typer.Option("--wait", help="Do not adopt it by itself when it has passed.")] = False,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Try a version as a shadow or a canary."""
    stage = "canary" if canary else "shadow"
    with gateway(url, key) as client:
        client.optimization_try(version, stage=stage, share=share, margin=margin, adopt_when_passed=not wait)
    print(f"{version} is on trial as a {stage}")


def trial(url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """What the trial says so far."""
    with gateway(url, key) as client:
        found = client.optimization_trial()
    result = found["result"]
    print(f"{found['trial']['version']} ({found['trial']['stage']}): {result['verdict']}")
    print(f"{result['requests']} requests, {result['differs']} of them decided otherwise")
    for one in result["measures"]:
        low, high = one["interval"]["low"], one["interval"]["high"]
        print(
            f"{one['name']:10} canary {one['canary']:.3f} ({one['canary_n']}), control {one['control']:.3f} "
            f"({one['control_n']}), difference {low:+.3f} to {high:+.3f}: {one['verdict']}"
        )


def end(url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """End the trial."""
    with gateway(url, key) as client:
        _in_force(client.optimization_end_trial())


def replay(
    version: Annotated[str | None, typer.Argument(help="A version; by default the one in force.")] = None,
    days: DaysOption = 30,
    sample: Annotated[int, typer.Option("--sample", min=20, max=300, help="So many are shown.")] = 100,
    rerun: Annotated[int | None, typer.Option("--rerun", min=1, max=2000, help="Really ask so many again.")] = None,
    max_cost: Annotated[float | None, typer.Option("--max-cost", help="For at most so many USD.")] = None,
    judge: Annotated[str | None, typer.Option("--judge", help="The model that grades what is asked again.")] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Ask these in place of the policy's choice; repeatable.")
    ] = None,
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Past requests through the planner under a policy; with --rerun a sample is really asked again, and graded."""
    if rerun is not None:
        if max_cost is None or judge is None:
            fail("--rerun costs money and needs a grader: give --max-cost USD and --judge MODEL")
        with gateway(url, key) as client:
            _rerun(
                client.with_options(timeout=RERUN_TIMEOUT_S).optimization_rerun(
                    max_usd=max_cost, judge=judge, days=days, sample_size=rerun, models=model, policy=version
                )
            )
        return
    if max_cost is not None or judge is not None or model:
        fail("--max-cost, --judge and --model belong to --rerun N: a replay asks nobody")
    with gateway(url, key) as client:
        found = client.optimization_replay(days=days, sample_size=sample, policy=version)
    print(f"{found['replayed']} of {found['sampled']} requests planned anew, {found['changed']} go elsewhere")
    if found["saved_share"] is not None:
        print(f"${found['cost']:.6f} -> ${found['replayed_cost']:.6f}: {found['saved_share']:.1%} less")
    _compared(
        found["estimate"], f"by the logs: only of the {found['estimate']['supported']:.0%} of the requests that back it"
    )
    for text in found["notes"]:
        print(text)


def alerts(url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """Models that became slower, dearer or worse."""
    with gateway(url, key) as client:
        found = client.optimization_alerts(limit=50)
    table = Table("metric", "model", "task type", "usually", "seen", "state", box=None, header_style="bold")
    for row in found["items"]:
        state = "lasts" if row["ended_at_ms"] is None else "over"
        table.add_row(row["metric"], row["model"], row["task_type"], f"{row['usual']:.4g}", f"{row['seen']:.4g}", state)
    show_table(table)


def _report(made: Any) -> None:
    print(f"{made['requests']} requests of {made['days']} days, for {made['goal']}")
    table = Table("task type", "today", "primary", "then", "n", box=None, header_style="bold")
    for task in made["tasks"]:
        primary = task["primary"] if task["enough"] else "not enough data"
        table.add_row(task["task_type"], task["today"], primary, ", ".join(task["chain"]), f"{task['n_eff']:.0f}")
    show_table(table)
    for task in made["tasks"]:
        for reason in task["reasons"]:
            print(f"{task['task_type']}: {reason['text']}")
    for text in made["notes"]:
        print(text)


def _rerun(found: Any) -> None:
    spent = f"for ${found['spent']:.6f} of ${found['max_usd']:g}"
    stay = f", {found['unchanged']} stay as they are" if found["unchanged"] else ""
    print(f"{found['asked']} of {found['changed']} questions asked again {spent}{stay}")
    if found["incomplete"]:
        print(f"{found['incomplete']} without an answer or a verdict")
    _compared(found, "of those asked again")
    if found["overall"]:
        for name, unit, form in MEASURES:
            low, high = (found["overall"][name]["interval"][end] / unit for end in ("low", "high"))
            change = found["overall"][name]["value"] / unit
            print(f"{LABELS[name]}: {change:+{form}} ({low:+{form}} to {high:+{form}}), over all {found['sampled']}")
    if found["proposal"]:
        print(found["proposal"]["why"])
        print(f"proposed: {found['proposal']['version']}")
    for text in found["notes"]:
        print(text)
    print(f"in the history as {found['conversation_id']}")


def _compared(found: Any, how: str) -> None:
    """Quality and cost of a request, as they were and would be, with the interval of the change."""
    for name, unit, form in MEASURES:
        one = found[name]
        if one:
            was, would_be = (one[key]["value"] / unit for key in ("was", "would_be"))
            low, high = (one["change"]["interval"][end] / unit for end in ("low", "high"))
            print(f"{LABELS[name]}: {was:{form}} -> {would_be:{form}} ({low:+{form}} to {high:+{form}}), {how}")


def _in_force(found: Any) -> None:
    told = ", ".join(f"{version} for {goal}" for goal, version in found["adopted"].items())
    print(f"in force: {told or 'none'}")
