"""CPU of what each request pays for its record: `python -m bench.record_cost [--rows 20000] [--postgresql]`.

The spool's admission and settlement, which are on the request's way; the insert into SQLite, which is not, with a lone
attempt folded into its request's row and, for comparison, in a row of its own. Three runs of each, in turn; the least.
With `--postgresql` the insert into a PostgreSQL that is started for it: the gateway's part, and the server's own.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from msgspec.structs import replace

from bench.records import records
from llmwise.domain.records import Admission, AttemptRecord, RequestRecord
from llmwise.storage import ledger, postgres
from llmwise.storage.database import Database
from llmwise.storage.spool import Spool

Pairs = Sequence[tuple[RequestRecord, AttemptRecord]]


def spooled_us(pairs: Pairs) -> float:
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool.claim(Path(folder))
        started = time.process_time()
        for of, attempt in pairs:
            spool.admit(Admission(of.id, of.key_id, None, of.created_at_ms, "chat", "openai", True, "auto", 0))
            spool.settle((of, (attempt,), ()))
        spent = time.process_time() - started
        spool.close(everything_stored=False)
    return spent / len(pairs) * 1e6


def stored_us(pairs: Pairs) -> float:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(f"sqlite:///{folder}/records.db")
        database.migrate()
        started = time.process_time()
        for first in range(0, len(pairs), 512):
            batch = pairs[first : first + 512]
            database.append(ledger.insert, [of for of, _ in batch], [attempt for _, attempt in batch])
        spent = time.process_time() - started
        database.close()
    return spent / len(pairs) * 1e6


def in_postgresql(pairs: Pairs) -> tuple[float, float, float]:
    """CPU µs a record in this process and in the server's, and seconds a record."""
    from tests.servers import postgresql

    with postgresql() as server:
        database = Database.open(server.url())
        database.migrate()
        for day in {of.created_at_ms // postgres.DAY_MS for of, _ in pairs}:
            database.write(postgres.make, day)
        own, theirs, began = time.process_time(), cpu_s(server.pid), time.perf_counter()
        for first in range(0, len(pairs), 512):
            batch = pairs[first : first + 512]
            database.append(ledger.insert, [of for of, _ in batch], [attempt for _, attempt in batch])
        took_s = time.perf_counter() - began
        spent, spent_there = time.process_time() - own, cpu_s(server.pid) - theirs
        database.close()
    return spent / len(pairs) * 1e6, spent_there / len(pairs) * 1e6, took_s / len(pairs)


def cpu_s(pid: int) -> float:
    """Of a server and the processes that it has now."""
    server = psutil.Process(pid)
    spent: list[float] = [sum(one.cpu_times()[:2]) for one in (server, *server.children())]
    return sum(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--postgresql", action="store_true")
    options = parser.parse_args()
    rows = options.rows
    requests = [one for batch, _ in records(rows, 1_795_000_000_000) for one in batch if one.attempts == 1]
    attempts = {one.request_id: one for _, batch in records(rows, 1_795_000_000_000) for one in batch}
    lone = [(of, attempts[of.id]) for of in requests]
    if options.postgresql:
        here, there, in_s = min(in_postgresql(lone) for _ in range(3))
        print(f"PostgreSQL: {here:.1f} µs CPU a record here, {there:.1f} in the server; {1 / in_s:,.0f} records/s")
        return
    apart = [(of, replace(attempt, finish_reason="other")) for of, attempt in lone]  # says what its request does not
    runs = [(spooled_us(lone), stored_us(lone), stored_us(apart)) for _ in range(3)]
    for name, least in zip(
        ("spool", "one row", "a row for the attempt too"), map(min, zip(*runs, strict=True)), strict=True
    ):
        print(f"{name:<28}{least:>8.1f} µs CPU a record")


if __name__ == "__main__":
    main()
