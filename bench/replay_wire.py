"""Play recorded exchanges with providers back through a gateway, and compare what it says with what was recorded.

    python bench/replay_wire.py --data DIR [--json] [--sample N] [--provider NAME] [--dialect NAME]

`DIR/exchanges.jsonl` holds the exchanges (`replay.recorded`), `DIR/../specs/openai.json` OpenAI's description of its
API. A real gateway runs in this process; upstream and caller are real sockets, except where a stream is cut.

Answers: each recorded answer is served as its provider's, and asked for in each dialect: at once (`whole`), as a
stream, and, where it was recorded as one, as a stream that came byte by byte (`bytes`) and cut at random (`random`).
Text, tool calls, reasoning, the reason to stop and every count of tokens have to come out as recorded; a difference has
to be in the answer's warnings.

Requests: each request recorded at OpenAI or Anthropic is put as its client put it, with each family behind. What
reaches the provider is valid by OpenAI's description, the Anthropic SDK's types or `google-genai`'s, and nothing that
the client said is lost without a warning. To the very model that it was recorded with (`itself`), nothing is changed.

Exit code 1 if anything failed. Needs `pip install 'llmwise[gateway,dev]'`.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.progress import track
from rich.table import Table

for needed in ("anthropic", "google.genai", "jsonschema_rs"):
    try:
        import_module(needed)
    except ImportError:
        sys.exit(f"{needed} is missing: pip install 'llmwise[gateway,dev]'")
sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.replay import answers, requests, vectors  # noqa: E402  # the path comes first, here and below
from bench.replay.answers import Verdict  # noqa: E402
from bench.replay.gateway import Replay, Target, offered, serving  # noqa: E402
from bench.replay.recorded import Exchange, Format, read, specification  # noqa: E402
from bench.replay.schemas import OpenAI  # noqa: E402

STREAMED = ("whole", "stream", "bytes", "random")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="where exchanges.jsonl lies")
    parser.add_argument("--json", action="store_true", help="every verdict as a line of JSON, and no table")
    parser.add_argument("--sample", type=int, metavar="N", help="only N exchanges, spread over all")
    parser.add_argument("--provider", help="only the exchanges with this one")
    parser.add_argument("--dialect", choices=[*answers.PATHS], help="only answers in, and requests of, this one")
    given = parser.parse_args()
    exchanges = [e for e in read(given.data) if given.provider in (None, e.provider)]
    if given.sample is not None and given.sample < len(exchanges):
        exchanges = exchanges[:: len(exchanges) // max(1, given.sample)][: given.sample]
    if not exchanges:
        parser.error("no exchange is left")
    description = specification(given.data)
    if description is None:
        print("no specs/openai.json beside the data: nothing is validated against it", file=sys.stderr)
    began = time.monotonic()
    verdicts, skipped = asyncio.run(replay(exchanges, given.dialect, OpenAI(description) if description else None))
    if given.json:
        for verdict in verdicts:
            print(json.dumps({field: getattr(verdict, field) for field in verdict.__struct_fields__}))
    else:
        show(verdicts, skipped, exchanges, time.monotonic() - began)
    return 1 if any(verdict.wrong for verdict in verdicts) else 0


async def replay(
    exchanges: Sequence[Exchange], dialect: str | None, openai: OpenAI | None
) -> tuple[list[Verdict], Counter[str]]:
    """The verdicts of all exchanges, and how many exchanges were left out, by the reason."""
    served = offered()
    dialects = [name for name in answers.PATHS if dialect in (None, name) and name in served]
    families: list[Format] = [family for family in get_args(Format) if family in requests.BEHIND and family in served]
    schemas = requests.Schemas(openai)
    skipped: Counter[str] = Counter()
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory() as folder:
        async with serving(Path(folder), targets(exchanges, families, served)) as gateway:
            for exchange in track(exchanges, "replaying", console=Console(stderr=True), transient=True):
                if exchange.format is None or exchange.format not in served:
                    skipped[f"{exchange.place}: the gateway does not offer it"] += 1
                    continue
                verdicts += await _one(gateway, exchange, dialects, families, schemas)
    return verdicts, skipped


async def _one(
    gateway: Replay, exchange: Exchange, dialects: Sequence[str], families: Sequence[Format], schemas: requests.Schemas
) -> list[Verdict]:
    if exchange.format == "embeddings":
        return [verdict async for verdict in vectors.replay(gateway, exchange)]
    found = [verdict async for verdict in answers.replay(gateway, exchange, dialects, schemas.openai)]
    if exchange.format in dialects:
        found += [verdict async for verdict in requests.replay(gateway, exchange, families, schemas)]
    return found


def targets(exchanges: Sequence[Exchange], families: Sequence[Format], served: frozenset[str]) -> list[Target]:
    """The models that the exchanges need, each once."""
    found: set[Target] = set()
    for exchange in exchanges:
        if exchange.format is None or exchange.format not in served:
            continue
        found |= {answers.target(exchange, cut=cut) for cut in (False, True)}
        if exchange.format != "embeddings":
            found |= {target for _, target in requests.targets(exchange, families)}
    return sorted(found, key=lambda target: (target.provider, target.cut, target.upstream))


def show(verdicts: Sequence[Verdict], skipped: Counter[str], exchanges: Sequence[Exchange], took_s: float) -> None:
    """The tables, then each failure, then the counts."""
    console = Console()
    wide = Console(width=max(console.width, 150))
    asked = [verdict for verdict in verdicts if verdict.column.startswith("to ")]
    answered = [verdict for verdict in verdicts if not verdict.column.startswith("to ")]
    for title, part in (("Answers, by the dialect that they are asked for in", answered), ("Requests", asked)):
        if part:
            wide.print(table(title, part))
    for text, count in sorted(skipped.items()):
        console.print(f"left out: {count} × {text}")
    failed = [verdict for verdict in verdicts if verdict.wrong]
    same: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for verdict in failed:
        same[verdict.exchange, verdict.row, verdict.wrong].append(verdict.column)
    for (id, row, wrong), columns in same.items():
        print(f"FAILED {id} {row} [{', '.join(columns)}]")
        for text in wrong:
            print(f"    {text[:400]}")
    lossy = sum(1 for verdict in verdicts if verdict.lost and not verdict.wrong)
    passed = len(verdicts) - lossy - len(failed)
    print(
        f"{len(exchanges)} exchanges, {len(verdicts)} cases: {passed} passed, {lossy} with a loss that is reported, "
        f"{len(failed)} failed, {took_s:.0f} s"
    )


def table(title: str, verdicts: Sequence[Verdict]) -> Table:
    """Passed / lossy and reported / failed, for each row and column that has any."""
    cells: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    columns: dict[str, None] = {}
    for verdict in verdicts:
        columns[verdict.column] = None
        outcome = "failed" if verdict.wrong else "lossy" if verdict.lost else "passed"
        cells[verdict.row][verdict.column][outcome] += 1
    drawn = Table(title=f"{title}: passed / lossy and reported / failed", title_justify="left")
    drawn.add_column("")
    for column in columns:
        drawn.add_column(column.replace(" ", "\n", 1), justify="right")
    for row in sorted(cells):
        drawn.add_row(row, *(_cell(cells[row].get(column)) for column in columns))
    return drawn


def _cell(counts: Counter[str] | None) -> str:
    if counts is None:
        return ""
    failed = counts["failed"]
    text = f"{counts['passed']}/{counts['lossy']}/{failed}"
    return f"[red]{text}[/red]" if failed else text


if __name__ == "__main__":
    sys.exit(main())
