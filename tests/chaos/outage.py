"""Take the database away under load, for long, and look at the gateway's memory.

    python -m tests.chaos.outage --minutes 10 --rate 300

PostgreSQL is killed, and started again after so many minutes. Every few seconds: resident memory of the gateway (one
process), what it has answered, what waits for the database. Then it catches up, and the books are looked at (`books`).
"""

import argparse
import asyncio
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from tests.servers import PostgreSQL, postgresql

from . import books
from .gateways import until
from .rig import rig

WARM_S = 30.0
"""Under load before the database goes: connections, caches and the allocator have had their fill."""

CATCHES_UP_WITHIN_S = 600.0

MOST_GROWTH_BYTES = 50 << 20


class Sample(Struct, frozen=True):
    """`at_s` is since the database went."""

    at_s: float
    resident_bytes: int
    answered: int
    waiting: int
    spool_bytes: int


async def away(
    folder: Path, server: PostgreSQL, *, minutes: float, rate: float, callers: int = 32, every_s: float = 10.0
) -> tuple[list[Sample], str]:
    """The samples from the moment before it goes to the last before it is back, and a line on the books."""
    async with rig(folder, server.url("gateway")) as gateway:
        await gateway.start()
        load = gateway.load(callers, rate)
        samples: list[Sample] = []

        async def look(began: float) -> None:
            ready = (await asyncio.to_thread(gateway.get, "/readyz")).json()
            spool = await asyncio.to_thread(_spool_bytes, folder)
            answered = len(load.heard.answered)
            at_s = time.monotonic() - began
            samples.append(Sample(at_s, gateway.resident_bytes(), answered, ready["records_waiting"], spool))
            print(row(samples[-1]), flush=True)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await asyncio.sleep(min(WARM_S, 60 * minutes))
            began = time.monotonic()
            await look(began)
            os.kill(server.pid, signal.SIGKILL)
            while time.monotonic() - began < 60 * minutes:
                await asyncio.sleep(every_s)
                await look(began)
            await asyncio.to_thread(server.start)
            load.stop()
        assert (load.heard.broken, load.heard.refused) == ([], [])
        back = time.monotonic()
        await until(lambda: gateway.get("/readyz").json()["records_waiting"] == 0, CATCHES_UP_WITHIN_S)
        caught_up_s = time.monotonic() - back
        resident = gateway.resident_bytes()
        assert "llmwise_records_lost_total 0.0" in gateway.get("/metrics").text
        await gateway.terminate()
        said = await asyncio.to_thread(books.check, gateway, load)
        return samples, f"caught up in {caught_up_s:.0f} s, then {resident / 2**20:.1f} MiB resident; {said}"


def growth_bytes(samples: Sequence[Sample]) -> int:
    """From before the database went to the most that was seen without it."""
    return max(sample.resident_bytes for sample in samples) - samples[0].resident_bytes


def _spool_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.spool"))


def row(sample: Sample) -> str:
    return (
        f"{sample.at_s:6.0f} s {sample.resident_bytes / 2**20:8.1f} MiB {sample.answered:9} answered "
        f"{sample.waiting:9} waiting {sample.spool_bytes / 2**20:8.1f} MiB of spool"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="without a database")
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second, all callers together")
    parser.add_argument("--callers", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, postgresql() as server:
        samples, said = asyncio.run(
            away(Path(folder), server, minutes=options.minutes, rate=options.rate, callers=options.callers)
        )
    first, last = samples[0], samples[-1]
    rate = (last.answered - first.answered) / (last.at_s - first.at_s)
    grown = growth_bytes(samples)
    print(f"{options.minutes:g} minutes without PostgreSQL at {rate:.0f} requests/s: {grown / 2**20:+.1f} MiB; {said}")
    if grown >= MOST_GROWTH_BYTES:
        raise SystemExit("memory grew by more than it may")


if __name__ == "__main__":
    main()
