"""The one who forgets: by age, and what the accounts with zero retention should never have left. Off the hot path, in
small batches with pauses, in one process of all that share the database (a lease)."""

import asyncio
import logging
import secrets
from collections.abc import Callable

from msgspec import Struct
from sqlalchemy import Connection

from llmwise.domain.ports import Clock
from llmwise.storage import retention
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.store import Store

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
ROUND_S = 600.0
"""Between two rounds; a text lives at most this much longer than it was allowed to."""

FIRST_S = 15.0
PAUSE_S = 0.05
"""Between two batches, so that the writer always comes between."""


class RetentionSettings(Struct, frozen=True):
    """Ages in days; `None`: never."""

    keep_text_days: int | None = None
    keep_records_days: int | None = None


class Keeper:
    """`run` must be running in somebody's task group."""

    def __init__(self, store: Store, clock: Clock, settings: RetentionSettings) -> None:
        self.settings = settings
        self._store = store
        self._clock = clock
        self._holder = secrets.token_hex(8)

    async def run(self) -> None:
        """A round every `ROUND_S`, until cancelled. Never raises for a database that is away."""
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                if await self._store.lease("retention", self._holder, self._clock.unix_ms(), int(2 * ROUND_S * 1000)):
                    await self.round()
            except StorageUnavailable as error:
                log.warning("retention waits, the database is away: %s", error.problem)
            await asyncio.sleep(ROUND_S)

    async def round(self) -> dict[str, int]:
        """Forget what is due; how many records each step touched."""
        now_ms, settings = self._clock.unix_ms(), self.settings
        done = {"silenced": 0, "texts": 0, "records": 0, "memories": 0}
        for account_id in await self._store.read(retention.silent_accounts):
            done["silenced"] += await self._all(lambda c, a=account_id: retention.forget_texts(c, a))  # type: ignore[misc]  # the default binds the loop's variable
        if settings.keep_text_days is not None:
            before_ms = now_ms - settings.keep_text_days * DAY_MS
            done["texts"] = await self._all(lambda c: retention.forget_texts_before(c, before_ms))
            done["memories"] = await self._store.write(retention.forget_memories_before, before_ms)
        if settings.keep_records_days is not None:
            oldest_ms = now_ms - settings.keep_records_days * DAY_MS
            done["records"] = await self._all(lambda c: retention.delete_records_before(c, oldest_ms))
            await self._store.write(retention.drop_empty_days, oldest_ms)
        if any(done.values()):
            log.info("retention: %s", done)
        return done

    async def _all(self, batch: Callable[[Connection], int]) -> int:
        count = 0
        while some := await self._store.write(batch):
            count += some
            await asyncio.sleep(PAUSE_S)
        return count
