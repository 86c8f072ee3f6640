"""A gateway that is killed and started again: a real `llmwise serve` on a port that stays the same, and a scripted
provider that reports the same usage for every answer and counts what each question asked of it."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil  # type: ignore[import-untyped]

from llmwise.domain.access import Access, Budget
from llmwise.domain.money import NANO_PER_USD
from llmwise.providers.scripted.journal import Entry, Journal
from llmwise.providers.scripted.script import Script, Settings, Usage
from llmwise.providers.scripted.server import ScriptedServer
from llmwise.storage.store import OfflineKeys

from .gateways import ANSWER, UNLIMITED
from .load import QUESTION, Load

INPUT_TOKENS, OUTPUT_TOKENS = 11, 7
COST_NANOUSD = INPUT_TOKENS * 1000 + OUTPUT_TOKENS * 2000
MODEL = "openai-1"
STARTS_WITHIN_S = 120.0
BUDGET_USD = 1_000_000
"""Out of reach: so that each request reserves and settles, and none is refused."""

CONFIGURATION = """
[storage]
url = "{url}"
spool = "{spool}"
[server]
drain_s = {drain_s}
[state]
url = "{state}"
timeout_s = 5.0
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

NUMBERED = re.compile(QUESTION.replace("%08d", r"(\d{8})"))


def script(text: str = ANSWER, **changes: Any) -> Script:
    return Script(
        defaults=Settings(text=text, usage=Usage(input=INPUT_TOKENS, output=OUTPUT_TOKENS), **changes),
    )


class Counts(Journal):
    """A journal that also counts how often each numbered question came."""

    def __init__(self) -> None:
        super().__init__()
        self.by_number: Counter[int] = Counter()

    def add(self, entry: Entry) -> None:
        super().add(entry)
        asked = NUMBERED.search(bytes(entry.body or b"").decode())
        if asked is not None:
            self.by_number[int(asked[1])] += 1


@dataclass
class Rig:
    """The gateway of a `folder`. `exits` are the statuses that its processes ended with."""

    folder: Path
    database: str
    provider: ScriptedServer
    counts: Counts
    port: int
    key: str
    workers: int = 1
    environ: Mapping[str, str] = field(default_factory=dict)
    exits: list[int] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    async def start(self) -> None:
        """Start, and wait until it answers."""
        command = [sys.executable, "-m", "llmwise", "serve", "--config", str(self.folder / "llmwise.toml")]
        command += ["--port", str(self.port), "--workers", str(self.workers)]
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        with (self.folder / "log.txt").open("ab") as log:
            environ = {**inherited, "HOME": str(self.folder), **self.environ}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=self.folder)  # noqa: ASYNC220  # waited for in threads
        async with asyncio.timeout(STARTS_WITHIN_S), httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert self.process.poll() is None, self.log[-3000:]
                try:
                    await client.get(f"http://127.0.0.1:{self.port}/healthz")
                    return
                except httpx.TransportError:
                    await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """It and its workers: SIGKILL for all."""
        assert self.process is not None
        workers = self.serving()
        self.process.kill()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        self.exits.append(await asyncio.to_thread(self.process.wait, 20))

    async def terminate(self, within_s: float = 30) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.exits.append(await asyncio.to_thread(self.process.wait, within_s))

    def kill_a_worker(self) -> None:
        """One of several; its parent starts another."""
        os.kill(self.serving()[0], signal.SIGKILL)

    def serving(self) -> list[int]:
        """The processes of the workers, where there are several."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        living = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        return [child.pid for child in living if "spawn_main" in " ".join(child.cmdline())]

    def resident_bytes(self) -> int:
        """Of a gateway that is one process."""
        assert self.process is not None
        resident: int = psutil.Process(self.process.pid).memory_info().rss
        return resident

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers={"authorization": f"Bearer {self.key}"})

    def storage(self) -> str:
        """What `/readyz` says of it."""
        ready = self.get("/readyz")
        assert ready.status_code == 200, ready.text
        said: str = ready.json()["storage"]
        return said

    def load(self, callers: int = 16, rate: float | None = None, streams: Sequence[bool] = (False, True)) -> Load:
        return Load(self.port, self.key, MODEL, callers, rate, self.numbers, streams)


@asynccontextmanager
async def rig(
    folder: Path,
    database: str | None = None,
    *,
    state: str = "memory://",
    workers: int = 1,
    drain_s: float = 20.0,
    latency_ms: float = 0,
) -> AsyncIterator[Rig]:
    """A provider, and a gateway that has not been started yet; killed at the end if it runs then."""
    url = database or f"sqlite:///{folder / 'llmwise.db'}"
    async with ScriptedServer(script(latency_ms=latency_ms)) as provider:
        counts = provider.journal = Counts()
        configure(folder, url, state, provider, drain_s)
        made = Rig(folder, url, provider, counts, free_port(), key(url), workers)
        try:
            yield made
        finally:
            if made.process is not None and made.process.poll() is None:
                await made.kill()


def configure(folder: Path, url: str, state: str, provider: ScriptedServer, drain_s: float = 20.0) -> None:
    """Write the gateway's configuration into its folder."""
    text = CONFIGURATION.format(
        url=url, spool=folder / "spool", state=state, drain_s=drain_s, limits=UNLIMITED, mock=provider.url
    )
    (folder / "llmwise.toml").write_text(text)


def key(database: str, **access: Any) -> str:
    """One with a budget, so that the ledger has to keep it."""
    settings = Access(**{"budgets": (Budget("total", BUDGET_USD * NANO_PER_USD),), **access})
    with OfflineKeys.open(database) as keys:
        return keys.create("chaos", True, time.time_ns() // 1_000_000, msgspec.json.encode(settings).decode())[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
