"""Kill the gateway under load, start it again, and look at the books.

    python -m tests.chaos.durability --rate 500 --seconds 60 --rounds 10          # `make chaos`, half an hour
    python -m tests.chaos.durability ... --postgresql                             # and its other half

A real `llmwise serve` in a process of its own, on a port that stays the same; a scripted provider that reports the same
usage for every answer; callers on bare sockets that note what they heard (`load`). Whatever was killed, and when:

    every request that was answered has one record, complete, with the provider's tokens to the token
    every request that reached the provider has a record
    nobody is charged twice: at most one settlement for each request
    nothing is left on the spool
"""

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import func, select

from llmwise.providers.scripted.script import Script, Settings, Usage
from llmwise.providers.scripted.server import ScriptedServer
from llmwise.storage.database import Database
from llmwise.storage.store import OfflineKeys
from llmwise.storage.tables import ledger, requests
from tests.servers import PostgreSQL, postgresql

from .gateways import ANSWER, UNLIMITED
from .load import Load

INPUT_TOKENS, OUTPUT_TOKENS = 11, 7
MODEL = "openai-1"
STARTS_WITHIN_S = 40.0

CONFIGURATION = """
[storage]
url = "{url}"
[server]
drain_s = {drain_s}
{limits}
[providers.openai-1]
kind = "openai"
base_url = "{mock}/v1"
[[models]]
id = "openai-1"
provider = "openai-1"
upstream = "openai-1"
input_price = 1.0
output_price = 2.0
"""


def script(text: str = ANSWER, **changes: Any) -> Script:
    return Script(
        defaults=Settings(text=text, usage=Usage(input=INPUT_TOKENS, output=OUTPUT_TOKENS), **changes),
    )


@dataclass
class Rig:
    """A gateway that is killed and started again. `exits` are the statuses that its processes ended with."""

    folder: Path
    database: str
    provider: ScriptedServer
    port: int
    key: str
    workers: int = 1
    environ: Mapping[str, str] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    async def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-m", "llmwise", "serve", "--config", str(self.folder / "llmwise.toml")]
        command += ["--port", str(self.port), "--workers", str(self.workers)]
        with (self.folder / "log.txt").open("ab") as log:
            environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **self.environ}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=self.folder)  # noqa: ASYNC220  # waited for in threads
        async with asyncio.timeout(STARTS_WITHIN_S), httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert self.process.poll() is None, self.log
                try:
                    await client.get(f"http://127.0.0.1:{self.port}/healthz")
                    return
                except httpx.TransportError:
                    await asyncio.sleep(0.02)

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.exits.append(await asyncio.to_thread(self.process.wait, 20))

    async def terminate(self, within_s: float = 30) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.exits.append(await asyncio.to_thread(self.process.wait, within_s))

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers={"authorization": f"Bearer {self.key}"})

    def load(self, callers: int = 16, rate: float | None = None) -> Load:
        return Load(self.port, self.key, MODEL, callers, rate)

    def check_books(self, *loads: Load) -> str:
        """Hold what the callers heard, what the provider did and what the database says against each other. The
        gateway has ended. Returns a line for people."""
        answered = [id for load in loads for id in load.heard.answered]
        assert len({*answered}) == len(answered)
        database = Database.open(self.database)
        rows = database.read(
            lambda c: c.execute(
                select(
                    requests.c.id, requests.c.status, requests.c.code, requests.c.input_tokens, requests.c.output_tokens
                )
            ).fetchall()
        )
        settled_twice = database.read(
            lambda c: c.execute(
                select(ledger.c.request_id)
                .where(ledger.c.kind == "settle")
                .group_by(ledger.c.request_id)
                .having(func.count() > 1)
            ).fetchall()
        )
        database.close()
        complete = {id: (tokens_in, tokens_out) for id, status, _, tokens_in, tokens_out in rows if status == 200}
        missing = [id for id in answered if id not in complete]
        assert not missing, (
            f"{len(missing)} of {len(answered)} answered requests have no complete record: {missing[:3]}"
        )
        wrong = [id for id, tokens in complete.items() if tokens != (INPUT_TOKENS, OUTPUT_TOKENS)]
        assert not wrong, f"not the provider's tokens: {wrong[:3]}"
        reached = self.provider.journal.total
        assert len(complete) <= reached <= len(rows), (len(complete), reached, len(rows))
        assert not settled_twice, settled_twice[:3]
        left = [*Path(self.folder).rglob("*.spool")]
        assert not left, left
        interrupted = sum(code == "interrupted" for _, _, code, _, _ in rows)
        return (
            f"{len(answered)} answered, {len(rows)} records ({len(complete)} complete, {interrupted} interrupted), "
            f"{reached} reached the provider; no answer without its record, no record twice"
        )


@asynccontextmanager
async def rig(
    folder: Path, database: str | None = None, *, workers: int = 1, drain_s: float = 20.0, latency_ms: float = 0
) -> AsyncIterator[Rig]:
    """A provider, and a gateway that has not been started yet; killed at the end if it runs then."""
    url = database or f"sqlite:///{folder / 'llmwise.db'}"
    async with ScriptedServer(script(latency_ms=latency_ms)) as provider:
        (folder / "llmwise.toml").write_text(
            CONFIGURATION.format(url=url, drain_s=drain_s, limits=UNLIMITED, mock=provider.url)
        )
        with OfflineKeys.open(url) as keys:
            key = keys.create("chaos", True, time.time_ns() // 1_000_000)[1]
        made = Rig(folder, url, provider, free_port(), key, workers)
        try:
            yield made
        finally:
            if made.process is not None and made.process.poll() is None:
                await made.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


async def killed_again_and_again(
    folder: Path,
    *,
    rounds: int,
    seconds: float,
    rate: float | None = None,
    callers: int = 16,
    server: PostgreSQL | None = None,
) -> str:
    """Load for `seconds` a round; kill -9 in its middle, start again at once; at last SIGTERM, still under load. With
    a `server` the gateway keeps its records there, and that is killed first, and is away for a tenth of the round."""
    async with rig(folder, None if server is None else server.url("gateway")) as gateway:
        await gateway.start()
        load = gateway.load(callers, rate)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            for _ in range(rounds):
                await asyncio.sleep(seconds / 2)
                if server is not None:
                    os.kill(server.pid, signal.SIGKILL)
                    await asyncio.sleep(seconds / 10)
                    await asyncio.to_thread(server.start)
                await gateway.kill()
                await gateway.start()
                await asyncio.sleep(seconds / 2)
            await gateway.terminate()
            load.stop()
        # What the last process could not write, and the folders of the dead, are the next one's to replay.
        await gateway.start()
        await gateway.terminate()
        assert gateway.exits == [-signal.SIGKILL] * rounds + [0, 0], gateway.exits
        assert not load.heard.refused, (load.heard.refused[:3], gateway.log[-3000:])
        return gateway.check_books(load)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load in a round")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second, all callers together")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--postgresql", action="store_true", help="keep the records there, and kill that too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, postgresql() if options.postgresql else nullcontext() as server:
        said = asyncio.run(
            killed_again_and_again(
                Path(folder),
                rounds=options.rounds,
                seconds=options.seconds,
                rate=options.rate,
                callers=options.callers,
                server=server,
            )
        )
    killed = "gateway and PostgreSQL" if options.postgresql else "gateway"
    print(f"{options.rounds} x kill -9 of {killed} at {options.rate:g} requests/s: {said}")


if __name__ == "__main__":
    main()
