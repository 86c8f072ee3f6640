"""Several runs of the engine at once, read as one stream. None of them ends another.

Each source is driven by a task of its own, from its begin to its end, because the engine's watch belongs to the task
that it waits in. What the sources yield goes through one bounded queue: a slow reader slows the sources down instead of
filling the memory.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TypeAlias

from msgspec import Struct

from llmwise.domain.errors import GatewayError, InternalError
from llmwise.domain.events import Event
from llmwise.orchestration.continuity import Engine
from llmwise.orchestration.settlement import CLIENT_GONE_STATUS, Ledger

log = logging.getLogger(__name__)

WAITING = 16
"""So many batches of all sources may wait for the reader; a source with one more waits itself."""


class Batch(Struct, frozen=True):
    """Events of the `source`-th source, in its own order."""

    source: int
    events: Sequence[Event]


class Ended(Struct, frozen=True):
    """The last item of a source, after its ledger is closed. `error` is what ended it, `None` a whole answer."""

    source: int
    error: GatewayError | None


Item: TypeAlias = Batch | Ended


class Source(Struct, frozen=True):
    """One run to come. A source that was `refused` before it could begin asks no provider; its ledger is closed so."""

    ledger: Ledger
    refused: GatewayError | None = None


@asynccontextmanager
async def fanout(mesh: Engine, sources: Sequence[Source]) -> AsyncIterator[AsyncGenerator[Item, None]]:
    """Run all sources for as long as the block lasts, which reads their items: `Batch`es, interleaved, and one `Ended`
    for each. Leaving the block early, also by cancellation, ends the upstream calls. Afterwards every ledger is closed:
    as `client_gone` where the source was still going.
    """
    items: asyncio.Queue[Item] = asyncio.Queue(WAITING)
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_drive(mesh, index, one, items)) for index, one in enumerate(sources)]
            try:
                yield _read(items, len(sources))
            except Exception as error:  # carried around the group, which would wrap it in another
                failure = error
            finally:
                for task in tasks:
                    task.cancel()
    finally:
        for source in sources:
            if source.ledger.record is None:  # cancelled before its first step
                source.ledger.close(CLIENT_GONE_STATUS, "client_gone")
    if failure is not None:
        raise failure


async def _read(items: "asyncio.Queue[Item]", going: int) -> AsyncGenerator[Item, None]:
    while going:
        item = await items.get()
        going -= type(item) is Ended
        yield item


async def _drive(mesh: Engine, index: int, source: Source, items: "asyncio.Queue[Item]") -> None:
    ledger = source.ledger
    error: GatewayError | None = None
    try:
        if source.refused is not None:
            ledger.close(source.refused.status, source.refused.code)
            raise source.refused
        async with aclosing(mesh.run(ledger.request, ledger)) as batches:
            async for events in batches:
                await items.put(Batch(index, events))
    except GatewayError as failed:
        error = failed
    except Exception as defect:
        log.exception("a defect in one of several runs")
        error = InternalError(f"a defect in the gateway ({type(defect).__name__}); its log says more")
    await items.put(Ended(index, error))
