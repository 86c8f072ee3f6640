"""The short form of `make chaos`: a gateway, its database or its shared state is killed under load. Whatever happens,
every answer has its record and its settlement, and none is there twice (see `books`)."""

import asyncio
from pathlib import Path

import pytest

from tests.servers import postgresql
from tests.valkeys import valkey

from . import books
from .durability import killed_again_and_again
from .gateways import until
from .rig import rig

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_gateway_that_is_killed_under_load_loses_no_record_and_no_settlement(tmp_path: Path) -> None:
    said, _ = await killed_again_and_again(tmp_path, rounds=2, seconds=1.0)
    assert "no answer without its record and settlement" in said


async def test_a_worker_that_is_killed_under_load_is_replaced_and_its_records_are_kept(tmp_path: Path) -> None:
    async with rig(tmp_path, workers=2) as gateway:
        await gateway.start()
        load = gateway.load(callers=8)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await until(lambda: len(load.heard.answered) > 100, 30)
            gateway.kill_a_worker()
            so_far = len(load.heard.answered)
            await until(lambda: len(load.heard.answered) > so_far + 200, 30)
            load.stop()
        await gateway.terminate()
        await gateway.start()  # which takes over what the dead left
        await gateway.terminate()
        assert not load.heard.refused, load.heard.refused[:3]
        books.check(gateway, load)


async def test_gateway_postgresql_and_valkey_killed_in_one_round_leave_the_books_right(tmp_path: Path) -> None:
    with postgresql() as server, valkey(tmp_path) as state:
        said, _ = await killed_again_and_again(tmp_path, rounds=1, seconds=3.0, rate=200, server=server, state=state)
    assert "none twice" in said
