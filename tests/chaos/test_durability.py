"""The short form of `make chaos`: a gateway is killed, told to stop, or loses its database, under load. Whatever
happens, every answer has its record, and no record is there twice (see `durability`)."""

import asyncio
import os
import signal
import sqlite3
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from llmwise.providers.scripted.script import Script, Settings
from tests.servers import postgresql

from .durability import MODEL, Rig, killed_again_and_again, rig
from .gateways import until

pytestmark = pytest.mark.anyio

MOST_GROWTH_BYTES = 50 << 20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_gateway_that_is_killed_under_load_loses_no_record(tmp_path: Path) -> None:
    said = await killed_again_and_again(tmp_path, rounds=2, seconds=1.0)
    assert "no answer without its record" in said


async def test_a_worker_that_is_killed_under_load_is_replaced_and_its_records_are_kept(tmp_path: Path) -> None:
    async with rig(tmp_path, workers=2) as gateway:
        await gateway.start()
        load = gateway.load(callers=8)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await until(lambda: len(load.heard.answered) > 100, 30)
            os.kill(serving_processes(gateway)[0], signal.SIGKILL)
            so_far = len(load.heard.answered)
            await until(lambda: len(load.heard.answered) > so_far + 200, 30)
            load.stop()
        await gateway.terminate()
        await gateway.start()  # which takes over what the dead left
        await gateway.terminate()
        assert not load.heard.refused, load.heard.refused[:3]
        gateway.check_books(load)


async def test_told_to_stop_under_load_it_breaks_no_answer_and_loses_no_record(tmp_path: Path) -> None:
    async with rig(tmp_path, latency_ms=50) as gateway:
        await gateway.start()
        load = gateway.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await until(lambda: len(load.heard.answered) > 100, 30)
            await gateway.terminate(within_s=20)
            load.stop()
        assert gateway.exits == [0]
        assert (load.heard.broken, load.heard.refused) == ([], [])
        gateway.check_books(load)


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


async def test_while_sqlite_is_locked_answers_go_on_and_memory_does_not_grow(tmp_path: Path) -> None:
    async with rig(tmp_path) as gateway:
        await gateway.start()
        load = gateway.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await until(lambda: len(load.heard.answered) > 100, 30)
            locker = sqlite3.connect(tmp_path / "llmwise.db", isolation_level=None, timeout=30)
            locker.execute("BEGIN IMMEDIATE")
            before, so_far = resident_bytes(gateway), len(load.heard.answered)
            await until(lambda: "the spool holds" in storage_of(gateway), 20)
            assert len(load.heard.answered) > so_far + 200
            grown = resident_bytes(gateway) - before
            locker.execute("ROLLBACK")
            locker.close()
            await until(lambda: storage_of(gateway) == "ok", 20)
            load.stop()
        assert "llmwise_records_lost_total 0.0" in gateway.get("/metrics").text
        await gateway.terminate()
        assert (load.heard.broken, load.heard.refused) == ([], [])
        assert grown < MOST_GROWTH_BYTES
        gateway.check_books(load)


async def test_a_postgresql_that_is_killed_under_load_costs_no_answer_and_no_record(tmp_path: Path) -> None:
    with postgresql() as server:
        async with rig(tmp_path, server.url("gateway")) as gateway:
            await gateway.start()
            load = gateway.load()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run())
                await until(lambda: len(load.heard.answered) > 100, 30)
                os.kill(server.pid, signal.SIGKILL)
                await until(lambda: "the spool holds" in storage_of(gateway), 20)
                so_far = len(load.heard.answered)
                await until(lambda: len(load.heard.answered) > so_far + 200, 20)
                await asyncio.to_thread(server.start)
                await until(lambda: storage_of(gateway) == "ok", 30)
                load.stop()
            await gateway.terminate()
            assert (load.heard.broken, load.heard.refused) == ([], [])
            gateway.check_books(load)


def storage_of(gateway: Rig) -> str:
    ready = gateway.get("/readyz")
    assert ready.status_code == 200, ready.text
    said: str = ready.json()["storage"]
    return said


def serving_processes(gateway: Rig) -> list[int]:
    assert gateway.process is not None
    children = psutil.Process(gateway.process.pid).children(recursive=True)
    return [child.pid for child in children if "spawn_main" in " ".join(child.cmdline())]


def resident_bytes(gateway: Rig) -> int:
    assert gateway.process is not None
    resident: int = psutil.Process(gateway.process.pid).memory_info().rss
    return resident
