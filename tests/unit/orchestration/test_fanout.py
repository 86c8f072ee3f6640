"""Several runs at once: nobody ends another, a slow reader holds all back, and nothing is left behind."""

import asyncio
from contextlib import aclosing

import pytest

from llmwise.domain.errors import GatewayError, InternalError, UnsupportedInput, UpstreamTimeout
from llmwise.domain.events import TextDelta
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Exchange
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration import fanout as module
from llmwise.orchestration.fanout import Batch, Ended, Item, Source, fanout
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import Settings

from .engines import ANSWER, Engine, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(20)]


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def sources(engine: Engine, models: str = "abc") -> list[Source]:
    return [Source(engine.ledger(model, chain=False)) for model in models]


async def read(engine: Engine, given: list[Source]) -> list[Item]:
    async with fanout(engine.mesh, given) as items:
        return [item async for item in items]


def text_of(items: list[Item], source: int) -> str:
    return "".join(
        event.text
        for item in items
        if isinstance(item, Batch) and item.source == source
        for event in item.events
        if isinstance(event, TextDelta)
    )


def errors_of(items: list[Item]) -> dict[int, GatewayError | None]:
    ended = [item for item in items if isinstance(item, Ended)]
    assert len({item.source for item in ended}) == len(ended), "a source ends once"
    return {item.source: item.error for item in ended}


def at_work() -> list["asyncio.Task[object]"]:
    """The tasks that drive a source."""
    return [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "_drive"]


async def test_every_source_is_heard_to_its_end() -> None:
    engine = Engine()
    given = sources(engine)
    items = await read(engine, given)
    assert [text_of(items, index) for index in range(3)] == [ANSWER] * 3
    assert errors_of(items) == {0: None, 1: None, 2: None}
    assert [record.status for record, _ in engine.kept.settled] == [200] * 3
    assert not at_work()


async def test_nothing_of_a_source_follows_its_end_and_by_then_its_ledger_is_closed() -> None:
    engine = Engine()
    given = sources(engine)
    over = set()
    async with fanout(engine.mesh, given) as items:
        async for item in items:
            assert item.source not in over
            if isinstance(item, Ended):
                over.add(item.source)
                assert given[item.source].ledger.record is not None


async def test_one_that_fails_ends_alone() -> None:
    engine = Engine([faults.Cut(model="a", after=1), faults.HangFirstEvent(model="b")])
    items = await read(engine, sources(engine))
    errors = errors_of(items)
    assert errors[0] is not None
    assert errors[0].code == "upstream_cut"
    assert isinstance(errors[1], UpstreamTimeout), "its own deadline"
    assert errors[2] is None
    assert text_of(items, 2) == ANSWER


class Defective:
    """A provider with a defect."""

    name = "a"
    family: Family = "openai"

    async def send(self, request: ChatRequest, target: ModelCard) -> Exchange:
        raise ZeroDivisionError

    async def aclose(self) -> None: ...


async def test_a_defect_in_one_is_its_own_failure(caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(providers={"a": Defective()})
    errors = errors_of(await read(engine, sources(engine)))
    assert isinstance(errors[0], InternalError)
    assert "ZeroDivisionError" in caplog.text
    assert (errors[1], errors[2]) == (None, None)


async def test_a_source_that_was_refused_asks_no_provider() -> None:
    engine = Engine()
    first, second = sources(engine, "ab")
    items = await read(engine, [Source(first.ledger, UnsupportedInput("it is blind")), second])
    assert isinstance(errors_of(items)[0], UnsupportedInput)
    assert engine.reached == {"b": 1}
    assert first.ledger.record is not None
    assert first.ledger.record.code == "unsupported_input"


async def test_a_slow_reader_holds_the_sources_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two batches, three sources of a thousand pieces each come to rest until somebody reads."""
    monkeypatch.setattr(module, "WAITING", 2)
    engine = Engine(settings=Settings(tokens=1000))
    given = sources(engine)
    async with fanout(engine.mesh, given) as items, aclosing(items):
        await anext(items)
        await until(lambda: sum("put" in _waits_in(task) for task in at_work()) == 3)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not engine.kept.settled, "nobody ran ahead to its end"
        rest = [item async for item in items]
    assert list(errors_of(rest).values()) == [None] * 3
    assert all(len(text_of(rest, index).split()) > 900 for index in range(3))


def _waits_in(task: "asyncio.Task[object]") -> set[str]:
    coroutine = task.get_coro()
    names = set()
    while (inner := getattr(coroutine, "cr_await", None)) is not None:
        names.add(getattr(inner, "__name__", ""))
        coroutine = inner
    return names


async def test_a_reader_that_leaves_ends_every_call() -> None:
    engine = Engine([faults.Stall(model="c")], settings=Settings(tokens=500))
    given = sources(engine)
    async with fanout(engine.mesh, given) as items, aclosing(items):
        while len(engine.reached) < 3:
            await anext(items)
    assert [source.ledger.record.status for source in given if source.ledger.record] == [499] * 3
    assert {attempt.outcome for _, attempts in engine.kept.settled for attempt in attempts} == {"client_gone"}
    assert engine.nothing_is_open()
    assert not at_work()


async def test_a_reader_that_is_cancelled_ends_every_call() -> None:
    engine = Engine([faults.Hang()])
    given = sources(engine)
    reader = asyncio.create_task(read(engine, given))
    await until(lambda: len(engine.reached) == 3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert [record.code for record, _ in engine.kept.settled] == ["client_gone"] * 3
    assert engine.nothing_is_open()
    assert not at_work()


async def test_sources_that_never_began_are_closed_too() -> None:
    engine = Engine()
    given = sources(engine)
    async with fanout(engine.mesh, given):
        pass
    assert engine.reached == {}
    assert [record.code for record, _ in engine.kept.settled] == ["client_gone"] * 3


async def test_the_reader_s_own_error_comes_out_as_it_is() -> None:
    engine = Engine()
    mine = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with fanout(engine.mesh, sources(engine)):
            raise mine
    assert caught.value is mine
    assert not at_work()
