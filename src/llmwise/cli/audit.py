"""`llmwise audit`: what a team spends on models, from the exports of others and from the gateway, and what routing
would save."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from llmwise.app import catalog_of
from llmwise.cli.failing import ConfigOption, fail, user_errors
from llmwise.config import load
from llmwise.insights.audit import anthropic_usage, litellm_spend, openai_batch, openai_usage, requests_jsonl
from llmwise.insights.audit.files import Input, Unreadable
from llmwise.insights.audit.importer import Imported, Reading, basename, digest_of, in_order
from llmwise.insights.audit.openai_batch import Pairing
from llmwise.insights.audit.prices import Prices
from llmwise.insights.audit.whatif import MOST_SAMPLED
from llmwise.insights.control import control_of, policy_of, settings_of, version_in_force
from llmwise.insights.page import page
from llmwise.insights.report import report as make_report
from llmwise.storage import audit
from llmwise.storage.database import Database
from llmwise.storage.insights import document

SOURCES = tuple(one.SOURCE for one in (openai_usage, anthropic_usage, litellm_spend, openai_batch, requests_jsonl))
LONG_BYTES = 4_000_000
"""From this size on a progress bar is shown, on a terminal."""

FilesArgument = Annotated[
    list[Path], typer.Argument(help="Exports and logs; .gz is read as it is.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def import_(
    files: FilesArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    again: Annotated[bool, typer.Option("--again", help="Read files that were imported before.")] = False,
) -> None:
    """Read exports of usage, cost and requests into the database. Importing twice changes nothing.

    Understood are OpenAI's and Anthropic's usage and cost reports (JSON and CSV), LiteLLM's spend logs, OpenAI's batch
    files, and a plain request log (docs/howto/audit.md)."""
    now_ms = time.time_ns() // 1_000_000
    with user_errors():
        settings = load(config, secrets=False)
        prices = Prices(catalog_of(settings, now_ms), now_ms)
        database = Database.open(settings.storage.url)
        database.migrate()
    opened = []
    for path in files:
        try:
            opened.append(Input(basename(path), path.open("rb")))
        except OSError as error:
            fail(f"{path}: {error.strerror}")
        except Unreadable as error:
            fail(str(error))
    pairing = Pairing()
    try:  # all are recognised before any is written
        readings = [Reading(file, prices, pairing, now_ms) for file in in_order(opened)]
    except Unreadable as error:
        database.close()
        fail(f"{error}; nothing was imported" if len(opened) > 1 else str(error))
    results: list[Imported] = []
    with user_errors(), _progress(opened) as progress:
        for reading in readings:
            try:
                results.append(_import_one(database, reading, now_ms, again, progress))
            except Unreadable as error:
                database.close()
                _tell(results, as_json)
                fail(f"{error}; what was read of it before is imported, and comes again without harm")
    database.close()
    _tell(_with_unanswered(results, pairing), as_json)


def remove(
    source: Annotated[str, typer.Argument(help="openai, anthropic, litellm, openai-batch or requests.")],
    config: ConfigOption = None,
) -> None:
    """Forget what was imported of a source. The gateway's own traffic stays; files can be imported again."""
    if source not in SOURCES:
        fail(f"{source!r}: nothing is imported as that; there are {', '.join(SOURCES)}")
    with user_errors():
        database = Database.open(load(config, secrets=False).storage.url)
        database.migrate()
        count = database.write(audit.remove, source)
    database.close()
    typer.echo(f"{count:,} rows of {source} removed")


def _with_unanswered(results: list[Imported], pairing: Pairing) -> list[Imported]:
    """Said once, at the last file of a batch: answers may be in any of them."""
    batches = [at for at, result in enumerate(results) if result.format == openai_batch.SOURCE]
    if batches:
        results[batches[-1]] = msgspec.structs.replace(results[batches[-1]], unanswered=pairing.end())
    return results


def _tell(results: list[Imported], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode({"files": results}), indent=2).decode() + "\n")
        return
    for result in results:
        _say(result)


def report(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with plots to this file.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Only this one: gateway, openai, anthropic, litellm, requests ...")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, max=3660, help="Only the last so many days.")] = None,
) -> None:
    """What was spent, on which models and tasks, how fast it was, and what routing would save."""
    now_ms = time.time_ns() // 1_000_000
    since_ms = 0 if days is None else (now_ms // audit.DAY_MS - days + 1) * audit.DAY_MS
    with user_errors():
        settings = load(config, secrets=False)
        prices = Prices(catalog_of(settings, now_ms), now_ms)
        database = Database.open(settings.storage.url)
        database.migrate()
        known = database.read(audit.everything, since_ms, audit.END_OF_TIME_MS, MOST_SAMPLED)
        stored = database.read(document, "control", "policy")
        control = control_of(None if stored is None else stored.body)
        auto = settings_of(control, settings.auto)
        version = version_in_force(control, auto.goal)
        kept = None if version is None else database.read(document, "policy", version)
    database.close()
    found = make_report(known, prices, auto, source, None if kept is None else policy_of(kept.body))
    if html is not None:
        try:
            html.write_text(page(found, datetime.now(UTC)), "utf-8")
        except OSError as error:
            fail(f"can't write {html}: {error.strerror}")
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    elif html is not None:
        typer.echo(f"wrote {html}")
    else:
        from llmwise.cli.audit_tables import show_report

        show_report(found)


def _import_one(database: Database, reading: Reading, now_ms: int, again: bool, progress: Progress) -> Imported:
    file = reading.file
    digest = digest_of(file.raw)
    if reading.remembered and not again and database.read(audit.file, digest) is not None:
        return Imported(file.name, reading.format.name, reading.format.title, known=True)
    task = progress.add_task(file.name, total=file.size)
    for rows in reading.batches():
        reading.added(database.write(audit.add, rows))
        progress.update(task, completed=file.position)
    progress.update(task, completed=file.size)
    result = reading.result
    if reading.remembered:
        said = audit.ImportedFile(digest, file.name, result.format, now_ms, result.records, result.rejected)
        database.write(audit.add_file, said)
    return result


def _progress(files: list[Input]) -> Progress:
    console = Console(stderr=True)
    long = sum(file.size for file in files) >= LONG_BYTES
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not (long and console.is_terminal), transient=True)


def _say(result: Imported) -> None:
    if result.known:
        typer.echo(f"{result.name}: imported before, nothing to do (--again reads it anew)")
        return
    counts = f"{result.new:,} new, {result.replaced:,} replaced, {result.unchanged:,} unchanged"
    typer.echo(f"{result.name}: {result.title}: {result.records:,} records: {counts}")
    if result.priced_from_catalog:
        typer.echo(f"  {result.priced_from_catalog:,} have no cost in the export: priced from the catalog")
    if result.unpriced:
        typer.echo(f"  {result.unpriced:,} have no cost and no known price, which is not free")
    if result.unanswered:
        typer.echo(f"  {result.unanswered:,} questions of a batch without an answer among these files: left out")
    if result.alike:
        typer.echo(f"  {result.alike:,} without an id say just what another one says: counted once; give each an id")
    if result.rejected:
        typer.echo(f"  {result.rejected:,} {'entries' if result.unit == 'entry' else 'lines'} left out:")
        for rejection in result.rejections:
            typer.echo(f"    {result.unit} {rejection.line:,}: {rejection.reason}")
        if result.rejected > len(result.rejections):
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in result.reasons.items())
            typer.echo(f"    and {result.rejected - len(result.rejections):,} more; in all: {reasons}")
