"""The circuit with real processes: `llmwise serve` before two `llmwise mock`, one of which is killed under load."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from .gateways import UNLIMITED, asked, events_of

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

STARTS_WITHIN_S = 40.0
WORKERS = 6
CONFIG = """\
[storage]
url = "sqlite:///llmwise.db"
[breaker]
open_s = 0.6
[providers.first]
kind = "openai"
base_url = "{first}/v1"
[providers.second]
kind = "anthropic"
base_url = "{second}/v1"
[[models]]
id = "first"
provider = "first"
[[models]]
id = "second"
provider = "second"
"""


@asynccontextmanager
async def running(*arguments: str, says: str) -> AsyncIterator[tuple[Process, str, str]]:
    """An `llmwise` command, the address that it says it listens on, and all that it printed before."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmwise", *arguments, stdout=PIPE, stderr=sys.stderr, env=kept
    )
    assert process.stdout is not None
    try:
        printed = ""
        async with asyncio.timeout(STARTS_WITHIN_S):
            while says not in printed:
                line = await process.stdout.readline()
                assert line, f"it ended: {printed}"
                printed += line.decode()
        address = next(word for word in printed.split() if word.startswith("http://"))
        yield process, address, printed
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(20):
            await process.communicate()


def mock(port: int = 0) -> Any:
    return running("mock", "--port", str(port), says="listening on")


class Load:
    """Callers that ask a chain again and again, streamed and whole in turn."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        self.answered: Counter[str] = Counter()
        self.broken: list[dict[str, Any]] = []
        self.failed: list[str] = []

    async def ask(self, *, stream: bool) -> None:
        response = await self._client.post("/api/v1/chat", json=asked("first", "second", stream=stream))
        if response.status_code != 200:
            self.failed.append(response.text)
        elif not stream:
            self.answered[response.json()["model"]] += 1
        else:
            events = events_of(response.content)
            if events[-1]["event"] == "done":
                self.answered[events[-1]["resolved_model"]] += 1
            elif any(event.get("delta") for event in events):
                self.broken.append(events[-1])
            else:
                self.failed.append(json.dumps(events))

    async def _work(self) -> None:
        stream = True
        while True:
            await self.ask(stream=stream)
            stream = not stream

    async def see(self, model: str, more: int, within_s: float = 30.0) -> None:
        """Until `more` further answers came from `model`."""
        wanted = self.answered[model] + more
        async with asyncio.timeout(within_s):
            while self.answered[model] < wanted:
                assert not self.failed, self.failed[0]
                for worker in self._workers:
                    assert not worker.done(), worker.result()
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        for worker in self._workers:
            worker.cancel()
        ends = await asyncio.gather(*self._workers, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


async def ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(STARTS_WITHIN_S):
        while True:
            with suppress(httpx.TransportError):
                if (await client.get("/healthz")).status_code == 200:
                    return
            await asyncio.sleep(0.02)


async def targets(client: httpx.AsyncClient) -> str:
    return (await client.get("/api/v1/health/targets")).text


async def test_no_caller_gets_a_failed_answer_while_one_provider_dies_and_comes_back(tmp_path: Path) -> None:
    async with mock() as (dying, first, _), mock() as (_, second, _):
        config = tmp_path / "llmwise.toml"
        config.write_text(CONFIG.format(first=first, second=second) + UNLIMITED)
        serve = running("serve", "--config", str(config), "--port", "0", says="llmwise serves on")
        async with serve as (_, url, printed):
            key = next(word for word in printed.split() if word.startswith("mm_sk_"))
            headers = {"authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
                await ready(client)
                load = Load(client)
                try:
                    await load.see("first", 40)
                    assert load.answered["second"] == 0
                    dying.kill()
                    await dying.wait()
                    await load.see("second", 60)
                    await until_open(client)
                    dead = load.answered["first"]
                    await load.see("second", 60)
                    assert load.answered["first"] == dead
                    async with mock(int(first.rpartition(":")[2])):
                        await load.see("first", 40)
                        assert '"open"' not in await targets(client)
                finally:
                    await load.stop()
                assert not load.failed
                # Half an answer is no fallback's to finish: only streams that were under way at the kill may break.
                assert len(load.broken) <= WORKERS
                assert {event["code"] for event in load.broken} <= {"upstream_cut"}


async def until_open(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while '"open"' not in await targets(client):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
