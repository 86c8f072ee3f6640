"""`llmwise suite`: test suites on a running gateway, for people and for CI: a run that fails ends with exit code 1."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from llmwise.cli.failing import fail
from llmwise.cli.remote import DEFAULT_URL, KeyOption, UrlOption, gateway
from llmwise.cli.tables import show as show_table

Suite = Annotated[str, typer.Argument(help="A suite's id, as `llmwise suite list` shows it.")]


def list_(url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """The suites, newest first."""
    with gateway(url, key) as client:
        found = client.optimization_test_suites(limit=200)
    table = Table("id", "name", "models", "cases", "version", box=None, header_style="bold")
    for row in found["items"]:
        models = ", ".join(row["models"])
        table.add_row(row["id"], row["name"], models, str(len(row["cases"])), str(row["version"]))
    show_table(table)


def templates(url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """Suites to begin with."""
    with gateway(url, key) as client:
        for row in client.optimization_test_templates()["items"]:
            print(f"{row['id']:16} {row['description']}")


def create(
    file: Annotated[Path, typer.Argument(help="A suite as JSON: name, models, cases.", exists=True, dir_okay=False)],
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """Make a suite of a JSON file."""
    try:
        body = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        fail(f"{file}: not JSON: {error}")
    with gateway(url, key) as client:
        print(client.optimization_create_test_suite(body)["id"])


def run(suite: Suite, url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """Run a suite; exit code 1 when a model stays below its threshold."""
    with gateway(url, key) as client:
        found = client.with_options(timeout=3600, max_retries=0).optimization_run_test_suite(suite)
    table = Table("model", "passed", "errors", "mean", "cost", box=None, header_style="bold")
    for row in found["models"]:
        mean = "" if row["mean_latency_ms"] is None else f"{row['mean_latency_ms']} ms"
        table.add_row(row["model"], f"{row['passed']}/{row['cases']}", str(row["errors"]), mean, f"${row['cost']:.6f}")
    show_table(table)
    for row in found["results"]:
        if not row["passed"]:
            why = row["error"] or "; ".join(
                one["detail"] or one["type"] for one in row["outcomes"] if not one["passed"]
            )
            print(f"{row['case']} on {row['model']}: {why}")
    print(f"{found['id']}: {found['status']}{': ' + found['note'] if found['note'] else ''}")
    if found["status"] != "passed":
        raise typer.Exit(1)


def runs(url: UrlOption = DEFAULT_URL, key: KeyOption = None) -> None:
    """The runs, newest first."""
    with gateway(url, key) as client:
        found = client.optimization_test_runs(limit=50)
    table = Table("id", "suite", "status", "models", box=None, header_style="bold")
    for row in found["items"]:
        rates = ", ".join(f"{model['model']} {model['pass_rate']:.0%}" for model in row["models"])
        table.add_row(row["id"], row["suite_name"], row["status"], rates)
    show_table(table)


def csv(
    run_id: Annotated[str, typer.Argument(help="A run's id, as `llmwise suite runs` shows it.")],
    url: UrlOption = DEFAULT_URL,
    key: KeyOption = None,
) -> None:
    """A run's results as CSV on standard output."""
    with gateway(url, key) as client:
        sys.stdout.write(client.optimization_test_run_csv(run_id))
