"""What spool, ledger and limits add to a request's CPU: `python -m bench.hot_path [--rounds 5] [--seconds 4]`.

Two gateways, each a process of its own, on one scripted provider, asked in turn, whole answers and streams one after
the other:

    bare     the key is checked and the metrics are kept, and that is all: no limits, no budgets, no records
    full     rate limits, tokens a minute and concurrency; budgets of key and account a day and a month; each request
             admitted and settled on the spool and in the ledger, and written to SQLite

CPU is the process's own, by the kernel's clock: of the event loop's thread, which is the request's way, and of all
threads, which is the database too. The median of the rounds; every round asks both.
"""

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import uvicorn

from llmwise.api.server import Gateway
from llmwise.app import open_runtime
from llmwise.cli.serve import settle_garbage, uvicorn_config
from llmwise.config import load
from llmwise.domain.access import Access, Budget
from llmwise.domain.money import NANO_PER_USD
from llmwise.providers.scripted.server import ScriptedServer
from llmwise.storage.store import OfflineKeys, Store
from tests.chaos.load import Load
from tests.chaos.rig import MODEL, free_port, script

LARGE = 1_000_000_000
CALLERS = 16

CONFIGURATION = """
[limits]
enabled = {limits}
chat = {large}
burst = {large}
[providers.openai-1]
kind = "openai"
base_url = "{provider}/v1"
[[models]]
id = "openai-1"
provider = "openai-1"
upstream = "openai-1"
input_price = 1.0
output_price = 2.0
"""


def serve(folder: Path, port: int, bare: bool) -> None:
    """One gateway, in this process, until it is told to stop."""
    config = load(folder / "llmwise.toml")

    async def lifespan(gateway: Gateway) -> AsyncIterator[None]:
        runtime = await open_runtime(config)
        services = await runtime.configure(config)
        gateway.services = msgspec.structs.replace(services, recorder=services.metrics) if bare else services
        yield
        await runtime.stop(10)

    settle_garbage()
    with socket.create_server(("127.0.0.1", port)) as listening:
        uvicorn.Server(uvicorn_config(config, Gateway(lifespan))).run(sockets=[listening])


class Served:
    """A gateway in a child process, and what it has spent."""

    def __init__(self, folder: Path, provider: str, bare: bool) -> None:
        folder.mkdir()
        limits = str(not bare).lower()
        (folder / "llmwise.toml").write_text(CONFIGURATION.format(limits=limits, large=LARGE, provider=provider))
        self.port = free_port()
        self.key = asyncio.run(_key(f"sqlite:///{folder / 'llmwise.db'}", bare))
        command = [sys.executable, "-m", "bench.hot_path", "--serve", "bare" if bare else "full"]
        self._process = subprocess.Popen([*command, "--folder", str(folder), "--port", str(self.port)])
        self._pid = self._process.pid

    def ready(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/healthz", trust_env=False)
                return
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the gateway does not start"
                time.sleep(0.05)

    async def ask(self, seconds: float) -> tuple[float, float]:
        """CPU microseconds a request: of the loop's thread, and of all."""
        loop_s, all_s = self._cpu()
        load = Load(self.port, self.key, MODEL, CALLERS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await asyncio.sleep(seconds)
            load.stop()
        async with httpx.AsyncClient(trust_env=False) as client:
            while (await client.get(f"http://127.0.0.1:{self.port}/readyz")).json()["records_waiting"]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        assert not load.heard.refused, load.heard.refused[:2]
        loop_after, all_after = self._cpu()
        asked = len(load.heard.answered)
        return (loop_after - loop_s) / asked * 1e6, (all_after - all_s) / asked * 1e6

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _cpu(self) -> tuple[float, float]:
        """Seconds of its first thread, which is the loop's, and of all, ended ones too (`clock_getcpuclockid(3)`)."""
        first = Path(f"/proc/{self._pid}/task/{self._pid}/schedstat").read_text().split()[0]
        return int(first) / 1e9, time.clock_gettime((~self._pid << 3) | 2)


async def _key(url: str, bare: bool) -> str:
    budgets = tuple(Budget(period, LARGE * NANO_PER_USD // 1000) for period in ("day", "month"))
    access = Access() if bare else Access(budgets=budgets, tokens_per_minute=LARGE, concurrency=LARGE)
    now_ms = time.time_ns() // 1_000_000
    with OfflineKeys.open(url) as keys:
        key = keys.create("bench", False, now_ms, msgspec.json.encode(access).decode())[1]
    if not bare:
        store = Store.open(url)
        await store.change_account("default", now_ms, lambda old: msgspec.structs.replace(old, budgets=budgets))
        await store.close()
    return key


async def measured(bare: Served, full: Served, rounds: int, seconds: float) -> None:
    for one in (bare, full):
        await one.ask(1.0)  # warm
    found: dict[str, list[tuple[float, float]]] = {"bare": [], "full": []}
    for number in range(rounds):
        order = [("bare", bare), ("full", full)]
        for name, one in order if number % 2 == 0 else reversed(order):
            found[name].append(await one.ask(seconds))
    for index, what in enumerate(("the loop's thread", "all threads, with the database")):
        without, whole = (statistics.median(one[index] for one in found[name]) for name in ("bare", "full"))
        ratios = [f[index] / b[index] - 1 for b, f in zip(found["bare"], found["full"], strict=True)]
        print(
            f"{what:<32} bare {without:6.1f} µs, full {whole:6.1f} µs: {statistics.median(ratios):+.0%} "
            f"({min(ratios):+.0%} to {max(ratios):+.0%} in {rounds} rounds)"
        )


async def provided(folder: Path, rounds: int, seconds: float) -> None:
    async with ScriptedServer(script()) as provider:
        bare = await asyncio.to_thread(Served, folder / "bare", provider.url, True)
        full = await asyncio.to_thread(Served, folder / "full", provider.url, False)
        try:
            await asyncio.to_thread(bare.ready)
            await asyncio.to_thread(full.ready)
            await measured(bare, full, rounds, seconds)
        finally:
            await asyncio.to_thread(bare.end)
            await asyncio.to_thread(full.end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each gateway in a round")
    parser.add_argument("--serve", choices=["bare", "full"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.folder, options.port, options.serve == "bare")
        return
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(provided(Path(folder), options.rounds, options.seconds))


if __name__ == "__main__":
    main()
