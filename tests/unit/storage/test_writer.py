"""The writer's laws, on a real SQLite file wherever the database is what matters."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from llmwise.domain.records import AttemptRecord, LedgerEntry, RequestRecord
from llmwise.storage import database
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.store import Store
from llmwise.storage.writer import Inserts, Writer, WriterSettings

from .samples import NOW_MS, ManualClock, attempt, request

pytestmark = pytest.mark.anyio

EAGER = WriterSettings(linger_s=0.001, first_retry_s=0.001, longest_retry_s=0.01)
PATIENT = WriterSettings(linger_s=3600, batch=4)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'a.db'}")
    await opened.migrate()
    yield opened
    await opened.close()


class Scripted:
    """A store that keeps its batches, and does before each what the script says: `raise`, or wait."""

    def __init__(self, *steps: Callable[[], Awaitable[None]] | Exception) -> None:
        self.batches: list[list[str]] = []
        self.calls = 0
        self._steps = list(steps)

    async def insert(
        self,
        requests: Sequence[RequestRecord],
        attempts: Sequence[AttemptRecord],
        entries: Sequence[LedgerEntry] = (),
    ) -> None:
        self.calls += 1
        step = self._steps.pop(0) if self._steps else None
        if isinstance(step, Exception):
            raise step
        if step is not None:
            await step()
        if any(record.prompt == "poison" for record in requests):
            raise ValueError("that prompt: poison")
        assert {one.request_id for one in attempts} == {record.id for record in requests}
        self.batches.append([record.id for record in requests])

    @property
    def stored(self) -> list[str]:
        return [identity for batch in self.batches for identity in batch]


AWAY = StorageUnavailable("sqlite:///a.db", "locked", "wait")


@asynccontextmanager
async def running(
    store: Inserts, settings: WriterSettings = EAGER, clock: ManualClock | None = None
) -> AsyncIterator[Writer]:
    writer = Writer(store, clock or ManualClock(), settings)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
        await writer.drain(30)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def put(writer: Writer, numbers: range) -> list[str]:
    """Record requests with an attempt each; their ids."""
    records = [request(number) for number in numbers]
    for record in records:
        writer.record(record, [attempt(record)])
    return [record.id for record in records]


async def until_failing(writer: Writer) -> None:
    while writer.health().error is None:  # noqa: ASYNC110  # health has no event to wait for
        await asyncio.sleep(0.001)


async def test_what_was_recorded_is_read_back_after_a_flush(store: Store) -> None:
    async with running(store) as writer:
        record = request(1)
        writer.record(record, (attempt(record, 0, outcome="cut"), attempt(record, 1)))
        assert await writer.flush()
        found = await store.request(record.id)
    assert found is not None
    assert found.request == record
    assert [one.outcome for one in found.attempts] == ["cut", "complete"]


async def test_a_flush_waits_for_no_linger_and_for_nothing_that_came_later() -> None:
    scripted = Scripted()
    async with running(scripted, PATIENT) as writer:
        assert await writer.flush()  # nothing waits
        put(writer, range(2))
        assert await writer.flush()
        assert len(scripted.stored) == 2
        put(writer, range(2, 3))
        assert await writer.flush()
        assert len(scripted.stored) == 3


async def test_a_flush_during_a_write_waits_for_the_next_batch_too() -> None:
    gate = asyncio.Event()
    started = asyncio.Event()

    async def held() -> None:
        started.set()
        await gate.wait()

    scripted = Scripted(held)
    async with running(scripted, PATIENT) as writer:
        put(writer, range(4))
        await started.wait()
        put(writer, range(4, 6))
        flush = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        assert not flush.done()
        gate.set()
        assert await flush
        assert len(scripted.stored) == 6


async def test_a_flush_says_so_when_the_time_runs_out() -> None:
    gate = asyncio.Event()

    async def held() -> None:
        await gate.wait()

    async with running(Scripted(held)) as writer:
        put(writer, range(1))
        assert not await writer.flush(timeout_s=0.01)
        gate.set()
        assert await writer.flush()


async def test_a_full_batch_is_written_without_lingering_and_none_is_larger() -> None:
    written = asyncio.Event()

    async def note() -> None:
        written.set()

    scripted = Scripted(note)
    async with running(scripted, PATIENT) as writer:
        await asyncio.sleep(0)
        put(writer, range(10))
        await written.wait()
        await writer.flush()
    assert [len(batch) for batch in scripted.batches] == [4, 4, 2]


async def test_a_batch_that_fills_while_it_lingers_is_written_at_once() -> None:
    written = asyncio.Event()

    async def note() -> None:
        written.set()

    async with running(Scripted(note), PATIENT) as writer:
        put(writer, range(3))
        for _ in range(10):  # into the linger
            await asyncio.sleep(0)
        assert not written.is_set()
        put(writer, range(3, 4))
        await written.wait()


async def test_a_lone_record_is_written_after_the_linger() -> None:
    written = asyncio.Event()

    async def note() -> None:
        written.set()

    async with running(Scripted(note), WriterSettings(linger_s=0.001)) as writer:
        put(writer, range(1))
        await written.wait()


async def test_draining_writes_everything_and_ends_the_task(store: Store) -> None:
    writer = Writer(store, ManualClock(), WriterSettings(linger_s=3600, batch=100))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        put(writer, range(1234))
        assert await writer.drain(30) == 0
    assert (await store.history(None))[0] == 1234
    assert writer.health().waiting == 0


async def test_draining_an_idle_writer_ends_at_once() -> None:
    async with running(Scripted()) as writer:
        await asyncio.sleep(0)
        assert await writer.drain(30) == 0


async def test_a_drain_that_runs_out_of_time_counts_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async def for_ever() -> None:
        await asyncio.Event().wait()

    writer = Writer(Scripted(for_ever), ManualClock(), WriterSettings(batch=2, linger_s=0))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        put(writer, range(5))
        assert await writer.drain(0.05) == 5
    assert "5 settled requests not written" in caplog.text


async def test_after_the_end_a_record_is_counted_as_dropped() -> None:
    async with running(Scripted()) as writer:
        await writer.drain(30)
        put(writer, range(3))
        assert writer.health().dropped == 3


async def test_when_full_the_newest_are_dropped_counted_and_said_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    scripted = Scripted()
    writer = Writer(scripted, clock, WriterSettings(bound=10))
    kept = put(writer, range(15))[:10]
    assert (writer.health().waiting, writer.health().dropped) == (10, 5)
    assert len(caplog.records) == 1
    clock.now_s = 1.0
    put(writer, range(15, 18))
    assert [record.getMessage() for record in caplog.records] == [
        "no room: 10 requests wait, 1 dropped so far",
        "no room: 10 requests wait, 6 dropped so far",
    ]
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run())
        await writer.drain(30)
    assert scripted.stored == kept


async def test_while_the_database_is_away_records_wait_and_health_says_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    clock = ManualClock()
    seen = asyncio.Event()
    back = asyncio.Event()

    async def away_until_back() -> None:
        seen.set()
        await back.wait()
        raise AWAY

    scripted = Scripted(AWAY, AWAY, away_until_back)
    async with running(scripted, clock=clock) as writer:
        recorded = put(writer, range(3))
        await seen.wait()
        health = writer.health()
        assert (health.waiting, health.written, health.failing_since_ms) == (3, 0, NOW_MS)
        assert health.error == str(AWAY)
        back.set()
        assert await writer.flush()
        health = writer.health()
        assert (health.waiting, health.written, health.dropped) == (0, 3, 0)
        assert (health.failing_since_ms, health.error) == (None, None)
    assert (scripted.stored, scripted.calls) == (recorded, 4)
    assert [r.getMessage() for r in caplog.records] == [
        f"3 settled requests wait for the database: {AWAY}",  # the clock stood still: said once
        "the database takes writes again",
    ]


async def test_a_locked_database_loses_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.01)
    store = Store.open(f"sqlite:///{tmp_path / 'a.db'}")
    await store.migrate()
    recorded: list[str] = []
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        async with running(store, WriterSettings(batch=50, linger_s=0, first_retry_s=0.001)) as writer:
            for round_ in range(3):
                other.execute("BEGIN IMMEDIATE")
                recorded += put(writer, range(100 * round_, 100 * round_ + 100))
                await until_failing(writer)
                assert "locked by another program" in str(writer.health().error)
                other.execute("ROLLBACK")
                assert await writer.flush(30)
        total, page = await store.history(None, limit=1000)
    await store.close()
    assert (total, [record.id for record in reversed(page)]) == (300, recorded)
    assert writer.health().written == 300


async def test_a_write_that_succeeded_but_was_not_heard_of_is_not_doubled(store: Store) -> None:
    class Deaf:
        """Writes, then says that it could not: the answer was lost on the way."""

        heard = False

        async def insert(
            self,
            requests: Sequence[RequestRecord],
            attempts: Sequence[AttemptRecord],
            entries: Sequence[LedgerEntry] = (),
        ) -> None:
            await store.insert(requests, attempts, entries)
            if not self.heard:
                self.heard = True
                raise AWAY

    async with running(Deaf()) as writer:
        put(writer, range(5))
        assert await writer.flush()
    summary = await store.usage_summary(None, 1, NOW_MS)
    assert (summary.total.requests, [m.attempts for m in summary.by_model]) == (5, [5])


async def test_a_row_that_cannot_be_stored_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    scripted = Scripted()
    async with running(scripted, WriterSettings(linger_s=3600)) as writer:
        before = put(writer, range(3))
        poison = request(3, prompt="poison")
        writer.record(poison, [attempt(poison)])
        after = put(writer, range(4, 6))
        assert await writer.flush()
        health = writer.health()
    assert scripted.stored == before + after
    assert (health.written, health.dropped, health.waiting) == (5, 1, 0)
    assert f"request {poison.id} can't be stored: ValueError" in caplog.text
    assert "poison" not in caplog.text


async def test_a_table_that_is_gone_is_the_databases_fault_and_not_the_rows(store: Store, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        async with running(store) as writer:
            other.execute("ALTER TABLE attempts RENAME TO elsewhere")
            put(writer, range(3))
            await until_failing(writer)
            assert "no such table: attempts" in str(writer.health().error)
            other.execute("ALTER TABLE elsewhere RENAME TO attempts")
            assert await writer.flush(30)
            assert (writer.health().written, writer.health().dropped) == (3, 0)


async def test_text_that_is_no_unicode_is_such_a_row(store: Store) -> None:
    async with running(store) as writer:
        broken = request(0, answer="half a pair: \ud83d")
        writer.record(broken, [attempt(broken)])
        recorded = put(writer, range(1, 3))
        assert await writer.flush()
        page = (await store.history(None))[1]
    assert [record.id for record in reversed(page)] == recorded
    assert writer.health().dropped == 1


async def test_an_idle_writer_does_nothing() -> None:
    scripted = Scripted()
    async with running(scripted) as writer:
        put(writer, range(1))
        await writer.flush()
        calls = scripted.calls
        for _ in range(50):
            await asyncio.sleep(0)
        assert scripted.calls == calls == 1
