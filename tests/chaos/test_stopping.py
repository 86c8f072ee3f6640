"""A gateway that is told to stop under load: no answer fails for it, no record is lost, and it stops in time."""

import asyncio
import sqlite3
import time
from pathlib import Path

import httpx
import pytest

from llmwise.providers.scripted.script import Script, Settings

from . import books
from .gateways import until
from .rig import MODEL, rig

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("workers", [1, 2])
async def test_told_to_stop_under_load_it_breaks_no_answer_and_loses_no_record(tmp_path: Path, workers: int) -> None:
    async with rig(tmp_path, latency_ms=50, workers=workers, drain_s=10) as gateway:
        await gateway.start()
        load = gateway.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await until(lambda: len(load.heard.answered) > 100, 30)
            told = time.monotonic()
            await gateway.terminate(within_s=20)
            took_s = time.monotonic() - told
            load.stop()
        assert gateway.exits == [0]
        assert (load.heard.broken, load.heard.refused) == ([], [])
        assert took_s < 10
        books.check(gateway, load)


@pytest.mark.parametrize("workers", [1, 2])
async def test_while_the_last_answers_end_new_callers_are_refused_at_once(tmp_path: Path, workers: int) -> None:
    async with rig(tmp_path, latency_ms=6000, workers=workers, drain_s=10) as gateway:
        await gateway.start()
        url, headers = f"http://127.0.0.1:{gateway.port}", {"authorization": f"Bearer {gateway.key}"}
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Slowly."}]}
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client, asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(client.post(f"{url}/v1/chat/completions", json=body, headers=headers))
            await until(lambda: bool(gateway.provider.requests), 10)
            stopping = tasks.create_task(gateway.terminate(within_s=20))

            async def refused() -> bool:
                try:
                    async with httpx.AsyncClient(timeout=2, trust_env=False) as other:
                        await other.get(f"{url}/healthz")
                except httpx.ConnectError:
                    return True
                except httpx.ReadError:  # it was among the last to be let in
                    return False
                return False

            while not await refused():
                assert not slow.done(), "connections were taken to the end"
                await asyncio.sleep(0.05)
            assert not slow.done()
            assert (await slow).status_code == 200
            await stopping
        assert gateway.exits == [0]


async def test_a_stream_that_outlasts_the_drain_ends_with_an_error_and_is_booked_as_such(tmp_path: Path) -> None:
    async with rig(tmp_path, drain_s=1.0) as gateway:
        gateway.provider.set_script(Script(defaults=Settings(text="word " * 1000, tokens_per_second=20)))
        await gateway.start()
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Go on."}], "stream": True}
        url, headers = f"http://127.0.0.1:{gateway.port}/api/v1/chat", {"authorization": f"Bearer {gateway.key}"}
        async with (
            httpx.AsyncClient(timeout=20, trust_env=False) as client,
            client.stream("POST", url, json=body, headers=headers) as response,
        ):
            heard = ""
            async for text in response.aiter_text():
                if not heard:
                    stopping = asyncio.create_task(gateway.terminate(within_s=15))
                heard += text
        await stopping
        assert gateway.exits == [0]
        assert '"code":"shutting_down"' in heard, heard[-500:]
        with sqlite3.connect(tmp_path / "llmwise.db") as database:
            rows = database.execute("SELECT status, code, outcome, usage_estimated, output_tokens > 0 FROM requests")
            assert rows.fetchall() == [(503, "shutting_down", "cut", 1, 1)]
        database.close()
