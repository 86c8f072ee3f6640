"""The writer with a spool: what is answered is on the disk, whatever becomes of the process or the database."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llmwise.domain.records import AttemptRecord, EntryKind, LedgerEntry, RequestRecord
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.spool import Spool
from llmwise.storage.writer import Writer, WriterSettings

from .samples import ManualClock, attempt, request
from .test_spool import admission, flip, segments

pytestmark = pytest.mark.anyio

SMALL = WriterSettings(batch=4, window=8, bound=10, linger_s=0.001, first_retry_s=0.001, longest_retry_s=0.01)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Shelf:
    """A database that may be away. `stored` are the ids in the order of their coming, each once."""

    def __init__(self) -> None:
        self.away = False
        self.stored: dict[str, str | None] = {}
        self.entries: dict[str, LedgerEntry] = {}

    async def insert(
        self,
        requests: Sequence[RequestRecord],
        attempts: Sequence[AttemptRecord],
        entries: Sequence[LedgerEntry] = (),
    ) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise StorageUnavailable("postgresql://x", "away", "wait")
        for record in requests:
            self.stored.setdefault(record.id, record.code)
        self.entries.update({entry.id: entry for entry in entries})


@asynccontextmanager
async def running(writer: Writer, drain_s: float = 10) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(writer.run())
    yield task
    await writer.drain(drain_s)
    await asyncio.gather(task, return_exceptions=True)


def serve(writer: Writer, numbers: range) -> list[str]:
    """Admit and settle these requests; their ids."""
    for number in numbers:
        writer.admit(admission(number, reserved_nanousd=100))
        of = request(number)
        entry = LedgerEntry(f"{of.id}/settle", "acc_1", of.key_id, of.id, "settle", -1, of.created_at_ms, None)
        writer.record(of, [attempt(of)], [entry])
    return [request(number).id for number in numbers]


async def test_what_was_settled_is_stored_with_its_entries_and_the_spool_is_empty_after(tmp_path: Path) -> None:
    shelf, spool = Shelf(), Spool.claim(tmp_path)
    writer = Writer(shelf, ManualClock(), SMALL, spool)
    async with running(writer):
        ids = serve(writer, range(30))
        assert await writer.flush()
    assert list(shelf.stored) == ids
    assert len(shelf.entries) == 30
    assert segments(spool.folder) == []


async def test_while_the_database_is_away_the_spool_holds_what_memory_need_not(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.away = True
    spool = Spool.claim(tmp_path, segment_bytes=20_000)
    writer = Writer(shelf, ManualClock(), SMALL, spool)
    async with running(writer):
        await asyncio.sleep(0)
        ids = serve(writer, range(1000))
        health = writer.health()
        assert (health.waiting, health.dropped) == (1000, 0)
        assert len(writer._waiting) <= SMALL.window
        shelf.away = False
        assert await writer.flush(20)
    assert sorted(shelf.stored) == ids
    assert segments(spool.folder) == []


async def test_the_heap_does_not_grow_with_what_waits_on_the_spool(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.away = True
    writer = Writer(shelf, ManualClock(), SMALL, Spool.claim(tmp_path))
    async with running(writer, drain_s=0.05):
        serve(writer, range(200))
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        serve(writer, range(200, 5200))
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
    assert grown < 100_000


async def test_what_a_killed_process_left_is_replayed_and_what_it_cut_short_is_interrupted(tmp_path: Path) -> None:
    killed = Writer(Shelf(), ManualClock(), SMALL, dead := Spool.claim(tmp_path))
    ids = serve(killed, range(20))
    killed.admit(admission(77, reserved_nanousd=500))
    dead.close(everything_stored=False)  # as its end would: the lock is gone

    shelf, told = Shelf(), dict[str, list[EntryKind]]()

    def tell(record: RequestRecord, entries: Sequence[LedgerEntry]) -> None:
        told[record.id] = [entry.kind for entry in entries]

    spool = Spool.claim(tmp_path)
    writer = Writer(shelf, ManualClock(), SMALL, spool, tell)
    async with running(writer):
        mine = serve(writer, range(20, 25))
    assert {id: code for id, code in shelf.stored.items() if code} == {admission(77).id: "interrupted"}
    assert {*shelf.stored} == {*ids, *mine, admission(77).id}
    assert {*told} == {*ids, admission(77).id}, "of its own it has told by itself"
    assert told[admission(77).id] == ["reserve", "refund"]
    assert sum(entry.amount_nanousd for entry in shelf.entries.values()) == -25
    assert segments(spool.folder) == []


async def test_a_living_process_takes_over_the_folder_of_one_that_dies_beside_it(tmp_path: Path) -> None:
    other = Writer(Shelf(), ManualClock(), SMALL, dying := Spool.claim(tmp_path))
    shelf = Shelf()
    settings = WriterSettings(linger_s=0.001, adopt_s=0.01)
    writer = Writer(shelf, ManualClock(), settings, Spool.claim(tmp_path))
    async with running(writer):
        ids = serve(other, range(3))
        await asyncio.sleep(0.05)
        assert shelf.stored == {}  # it lives
        dying.close(everything_stored=False)
        async with asyncio.timeout(10):
            while len(shelf.stored) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert list(shelf.stored) == ids
    assert segments(dying.folder) == []


async def test_it_takes_it_over_while_requests_keep_coming(tmp_path: Path) -> None:
    other = Writer(Shelf(), ManualClock(), SMALL, dying := Spool.claim(tmp_path))
    shelf = Shelf()
    writer = Writer(shelf, ManualClock(), WriterSettings(linger_s=0.001, adopt_s=0.1), Spool.claim(tmp_path))
    async with running(writer):
        serve(writer, range(9, 10))
        assert await writer.flush()  # it has looked around at its start, and the other lives
        left = serve(other, range(3))
        dying.close(everything_stored=False)
        async with asyncio.timeout(10):
            for number in range(10, 1000):  # a request comes more often than `adopt_s`
                serve(writer, range(number, number + 1))
                await asyncio.sleep(0.02)
                if {*left} <= {*shelf.stored}:
                    break
    assert {*left} <= {*shelf.stored}


async def test_what_a_dead_process_left_damaged_is_counted(tmp_path: Path) -> None:
    killed = Writer(Shelf(), ManualClock(), SMALL, dead := Spool.claim(tmp_path))
    ids = serve(killed, range(8))
    flip(dead, frame=3, byte=20)
    dead.close(everything_stored=False)
    shelf = Shelf()
    writer = Writer(shelf, ManualClock(), SMALL, Spool.claim(tmp_path))
    async with running(writer):
        pass
    assert shelf.stored == dict.fromkeys([ids[0], *ids[2:]]), "nothing interrupted: it may have been answered"
    assert writer.health().dropped == 1


async def test_a_segment_stays_until_the_database_has_what_it_holds(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.away = True
    spool = Spool.claim(tmp_path, segment_bytes=500)
    writer = Writer(shelf, ManualClock(), SMALL, spool)
    task = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    ids = serve(writer, range(20))
    assert len(segments(spool.folder)) > 10
    async with asyncio.timeout(10):
        while writer.health().error is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    spool.close(everything_stored=False)  # as a kill would: nothing is drained
    shelf.away = False
    async with running(Writer(shelf, ManualClock(), SMALL, Spool.claim(tmp_path))):
        pass
    assert shelf.stored == dict.fromkeys(ids)


async def test_with_a_full_disk_records_go_through_memory_to_the_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf()
    writer = Writer(shelf, ManualClock(), SMALL, Spool.claim(tmp_path))

    def full(fd: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llmwise.storage.spool.os.write", full)
    async with running(writer):
        ids = serve(writer, range(5))
        assert writer.health().spool_error == "No space left on device"
        assert await writer.flush()
        assert list(shelf.stored) == ids
        shelf.away = True
        serve(writer, range(5, 25))  # no disk, no database: `bound` is what memory takes
        assert writer.health().dropped == 20 - SMALL.bound
        shelf.away = False
    assert len(shelf.stored) == 5 + SMALL.bound


async def test_what_is_not_written_at_the_end_stays_on_the_spool(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.away = True
    spool = Spool.claim(tmp_path)
    writer = Writer(shelf, ManualClock(), SMALL, spool)
    async with running(writer, drain_s=0.05):
        ids = serve(writer, range(20))
    shelf.away = False
    async with running(Writer(shelf, ManualClock(), SMALL, Spool.claim(tmp_path))):
        pass
    assert list(shelf.stored) == ids
