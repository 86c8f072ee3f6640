"""A database that is away, or takes no writes, under load: answers go on, memory stays, and no record is lost."""

import asyncio
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.servers import postgresql

from . import books
from .gateways import until
from .outage import MOST_GROWTH_BYTES, away, growth_bytes
from .rig import rig

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_while_sqlite_is_locked_answers_go_on_and_memory_does_not_grow(tmp_path: Path) -> None:
    async with rig(tmp_path) as gateway:
        await gateway.start()
        load = gateway.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await until(lambda: len(load.heard.answered) > 100, 30)
            locker = sqlite3.connect(tmp_path / "llmwise.db", isolation_level=None, timeout=30)
            locker.execute("BEGIN IMMEDIATE")
            before, so_far = gateway.resident_bytes(), len(load.heard.answered)
            await until(lambda: gateway.storage() == "spooled", 20)
            assert len(load.heard.answered) > so_far + 200
            grown = gateway.resident_bytes() - before
            locker.execute("ROLLBACK")
            locker.close()
            await until(lambda: gateway.storage() == "ok", 20)
            load.stop()
        assert "llmwise_records_lost_total 0.0" in gateway.get("/metrics").text
        await gateway.terminate()
        assert (load.heard.broken, load.heard.refused) == ([], [])
        assert grown < MOST_GROWTH_BYTES
        books.check(gateway, load)


async def test_a_postgresql_that_is_killed_under_load_costs_no_answer_and_no_record(tmp_path: Path) -> None:
    with postgresql() as server:
        async with rig(tmp_path, server.url("gateway")) as gateway:
            await gateway.start()
            load = gateway.load()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run())
                await until(lambda: len(load.heard.answered) > 100, 30)
                os.kill(server.pid, signal.SIGKILL)
                await until(lambda: gateway.storage() == "spooled", 20)
                so_far = len(load.heard.answered)
                await until(lambda: len(load.heard.answered) > so_far + 200, 20)
                await asyncio.to_thread(server.start)
                await until(lambda: gateway.storage() == "ok", 30)
                load.stop()
            await gateway.terminate()
            assert (load.heard.broken, load.heard.refused) == ([], [])
            books.check(gateway, load)


async def test_the_long_form_of_an_outage_measures_memory_and_holds_the_books_together(tmp_path: Path) -> None:
    with postgresql() as server:
        samples, said = await away(tmp_path, server, minutes=0.05, rate=100, callers=8, every_s=1.0)
    assert len(samples) >= 3
    assert growth_bytes(samples) < MOST_GROWTH_BYTES
    assert "none twice" in said
