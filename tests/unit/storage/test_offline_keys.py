"""The command line's keys, on the file of a server that is writing to it."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmwise.domain.errors import NotFound
from llmwise.storage import archive
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.keys import SHOWN_CHARACTERS, hash_key
from llmwise.storage.store import OfflineKeys, Store
from llmwise.storage.writer import Writer, WriterSettings

from .samples import NOW_MS, ManualClock, attempt
from .samples import request as settled


def test_keys_are_made_listed_and_revoked_without_a_server(tmp_path: Path) -> None:
    with OfflineKeys.open(f"sqlite:///{tmp_path / 'a.db'}") as keys:
        row, raw = keys.create("laptop", admin=True, now_ms=NOW_MS)
        assert row.hash == hash_key(raw)
        assert [key.name for key in keys.list()] == ["laptop"]
        assert keys.revoke("laptop", NOW_MS + 1).revoked_at_ms == NOW_MS + 1
        assert keys.create_first("administrator", NOW_MS) is None, "a revoked one was one"
        with pytest.raises(NotFound):
            keys.revoke("desktop", NOW_MS)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_of_many_that_start_at_once_one_makes_the_first_key(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    sqlite = database == "sqlite"
    url = f"sqlite:///{tmp_path / 'a.db'}" if sqlite else request.getfixturevalue("postgres_url")
    together = threading.Barrier(8)

    def start(number: int) -> str | None:
        with OfflineKeys.open(url) as keys:
            together.wait(20)
            return keys.create_first("administrator", NOW_MS)

    with ThreadPoolExecutor(8) as threads:
        made = [raw for raw in threads.map(start, range(8)) if raw is not None]
    with OfflineKeys.open(url) as keys:
        assert [key.prefix for key in keys.list()] == [raw[:SHOWN_CHARACTERS] for raw in made]
    assert len(made) == 1


def test_a_database_that_cannot_be_opened_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("?" * 4096)
    with pytest.raises(StorageUnavailable, match="not a database"):
        OfflineKeys.open(f"sqlite:///{tmp_path / 'a.db'}")


CREATE_KEYS = """
import sys
from llmwise.storage.store import OfflineKeys
for number in range(20):
    with OfflineKeys.open(sys.argv[1]) as keys:
        keys.create(f"key {number}", False, number)
    print(number, flush=True)
"""


def test_another_process_creates_keys_while_the_server_writes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"

    async def serve() -> tuple[int, int, int]:
        store = Store.open(url)
        await store.migrate()
        writer = Writer(store, ManualClock(), WriterSettings(batch=16, linger_s=0.0, bound=10_000_000))
        recorded = 0
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(writer.run())
            cli = await asyncio.create_subprocess_exec(sys.executable, "-c", CREATE_KEYS, url, stdout=subprocess.PIPE)
            assert cli.stdout is not None
            ended = tasks.create_task(cli.stdout.read())
            while not ended.done():
                record = settled(recorded)
                writer.record(record, [attempt(record)])
                recorded += 1
                await asyncio.sleep(0)
            assert await cli.wait() == 0
            assert await writer.drain(30) == 0
        stored, keys = (await store.read(archive.counts))["requests"], len(await store.list_keys())
        await store.close()
        return recorded, stored, keys

    recorded, stored, keys = asyncio.run(serve())
    assert (stored, keys) == (recorded, 20)
    assert recorded > 100
