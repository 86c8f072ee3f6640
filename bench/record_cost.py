"""CPU of what each request pays for its record: `python -m bench.record_cost [--rows 20000]`.

The spool's admission and settlement, which are on the request's way; the insert into SQLite, which is not, with a lone
attempt folded into its request's row and, for comparison, in a row of its own. Three runs of each, in turn; the least.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from bench.records import BATCH, records
from llmwise.domain.records import Admission, AttemptRecord, RequestRecord
from llmwise.storage import ledger
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4 * BATCH)
    rows = parser.parse_args().rows
    requests = [one for batch, _ in records(rows, 1_795_000_000_000) for one in batch if one.attempts == 1]
    attempts = {one.request_id: one for _, batch in records(rows, 1_795_000_000_000) for one in batch}
    lone = [(of, attempts[of.id]) for of in requests]
    apart = [(of, replace(attempt, finish_reason="other")) for of, attempt in lone]  # says what its request does not
    runs = [(spooled_us(lone), stored_us(lone), stored_us(apart)) for _ in range(3)]
    for name, least in zip(
        ("spool", "one row", "a row for the attempt too"), map(min, zip(*runs, strict=True)), strict=True
    ):
        print(f"{name:<28}{least:>8.1f} µs CPU a record")


if __name__ == "__main__":
    main()
