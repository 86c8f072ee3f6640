"""Kill the gateway, its database and its shared state under load, again and again, and look at the books.

    python -m tests.chaos.durability --rate 550 --seconds 60 --rounds 10       # `make chaos`: SQLite, one process
    python -m tests.chaos.durability ... --workers 2 --postgresql --valkey     # and its other half

What must hold, and is looked at after every round and at the end, is in `books`. A round's rate is of all its seconds,
also those in which nobody answers.
"""

import argparse
import asyncio
import os
import signal
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.servers import PostgreSQL, postgresql
from tests.valkeys import Valkey, valkey

from . import books
from .rig import rig

LEAST_OF_RATE = 0.9
"""Of the rate asked for, what the middle one of the rounds must have reached."""


async def killed_again_and_again(
    folder: Path,
    *,
    rounds: int,
    seconds: float,
    rate: float | None = None,
    callers: int = 16,
    workers: int = 1,
    server: PostgreSQL | None = None,
    state: Valkey | None = None,
    verbose: bool = False,
) -> tuple[str, list[float]]:
    """Load for `seconds` a round; kill -9 in its middle, start again at once; at last SIGTERM, still under load.

    With a `server` the gateway keeps its records there; it is killed before the gateway is, and is away for a tenth
    of the round. So is the shared `state`. Of several workers one is killed, in every other round all of them and
    their parent. Returns a line on the books, and of each round how many answers came a second, its kills included."""
    database = None if server is None else server.url("gateway")
    async with rig(folder, database, state=state.url if state else "memory://", workers=workers) as gateway:
        kills = 0
        rates: list[float] = []
        await gateway.start()
        load = gateway.load(callers, rate)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            checked, began = 0, time.monotonic()
            for number in range(1, rounds + 1):
                await asyncio.sleep(seconds / 2)
                if server is not None:
                    os.kill(server.pid, signal.SIGKILL)
                if state is not None:
                    await asyncio.to_thread(state.kill)
                await asyncio.sleep(seconds / 10 if server or state else 0)
                if server is not None:
                    await asyncio.to_thread(server.start)
                if workers > 1 and number % 2:
                    gateway.kill_a_worker()
                else:
                    await gateway.kill()
                    kills += 1
                    await gateway.start()
                if state is not None:
                    await asyncio.to_thread(state.start)
                await asyncio.sleep(seconds / 2)
                heard, now = load.heard, time.monotonic()
                answered = heard.answered[checked:]
                checked += len(answered)
                rates.append(len(answered) / (now - began))
                began = now
                if verbose:
                    print(
                        f"round {number}: {len(answered)} answered, {rates[-1]:.0f} a second; the longest silence "
                        f"{heard.silence_s:.1f} s; so far {len(heard.broken)} broken off, {heard.unheard} unheard",
                        flush=True,
                    )
                heard.silence_s = 0.0
                await books.check_under_way(gateway, answered)
            await gateway.terminate()
            load.stop()
        # What the last process could not write, and the folders of the dead, are the next one's to replay.
        await gateway.start()
        await gateway.terminate()
        assert gateway.exits == [-signal.SIGKILL] * kills + [0, 0], gateway.exits
        assert not load.heard.refused, (load.heard.refused[:3], gateway.log[-3000:])
        return books.check(gateway, load), rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load in a round")
    parser.add_argument("--rate", type=float, help="requests a second, all callers together, or fail; else the most")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1, help="of several, every other round kills one of them only")
    parser.add_argument("--postgresql", action="store_true", help="keep the records there, and kill that too")
    parser.add_argument("--valkey", action="store_true", help="share the state there, and kill that too")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        server = stack.enter_context(postgresql()) if options.postgresql else None
        state = stack.enter_context(valkey(Path(folder))) if options.valkey else None
        said, rates = asyncio.run(
            killed_again_and_again(
                Path(folder),
                rounds=options.rounds,
                seconds=options.seconds,
                rate=options.rate,
                callers=options.callers,
                workers=options.workers,
                server=server,
                state=state,
                verbose=True,
            )
        )
    killed = ["gateway" if options.workers == 1 else f"gateway of {options.workers} workers"]
    killed += ["PostgreSQL"] * options.postgresql + ["Valkey"] * options.valkey
    rate = statistics.median(rates)
    print(f"{options.rounds} x kill -9 of {', '.join(killed)} at {rate:.0f} requests/s: {said}")
    if options.rate and rate < LEAST_OF_RATE * options.rate:
        raise SystemExit(
            f"the books are right, but of {options.rate:g} requests/s only {rate:.0f} came: a busy machine?"
        )


if __name__ == "__main__":
    main()
