"""Budgets of one process: what each purse has spent and set aside, in plain integers.

A purse is opened when it is first used in a period, with what the ledger says was spent in it; from then on it counts
for itself. Between the look at a purse and the reservation nothing is awaited, so that no two requests see the same
last cent. Every `AGAIN_S` of its use the ledger is asked again, behind the requests: other processes on the same ledger
may spend from the same purse.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from llmwise.state.port import OPENING_S, UNREADABLE_S, Claim, Purse, Spent, Standing
from llmwise.state.windows import span

log = logging.getLogger(__name__)

AGAIN_S = 2.0
LEAST_PAUSE = 200
"""A ledger that takes long to sum up is asked less often: after so many times what the last answer took."""


class _Open:
    """An open purse. From `again_ms` on the ledger is to be asked what others have spent; `None`: it is being asked.
    `read`: it has said what was spent before."""

    __slots__ = ("again_ms", "ends_ms", "read", "reserved", "spent", "start_ms")

    def __init__(self, start_ms: int, ends_ms: int | None, spent: int) -> None:
        self.start_ms = start_ms
        self.ends_ms = ends_ms
        self.again_ms: float | None = None
        self.read = False
        self.spent = spent
        self.reserved = 0


class LocalPurses:
    """By purse id; of each only the current period, and the one before while requests of it are under way."""

    def __init__(self, spent: Spent) -> None:
        self._spent = spent
        self._open: dict[str, _Open] = {}
        self._opening: dict[str, asyncio.Task[int | None]] = {}
        self._again: set[asyncio.Task[int | None]] = set()
        self._held: dict[str, tuple[_Open, ...]] = {}

    def ready(self, purses: Sequence[Purse], now_ms: int) -> bool:
        """Whether all of them are open."""
        for purse in purses:
            entry = self._open.get(purse.id)
            if entry is None or (entry.ends_ms is not None and now_ms >= entry.ends_ms):
                return False
        return True

    async def open(self, purses: Sequence[Purse], now_ms: int) -> None:
        """Ask the ledger about those that are not. While it can't be read a purse goes by what it knows, at first that
        nothing was spent; the ledger is asked again after `UNREADABLE_S`."""
        for purse in purses:
            if self.ready((purse,), now_ms):
                continue
            period = span(purse.period, now_ms)
            entry = self._open.get(purse.id)
            if entry is None or entry.start_ms != period.start_ms:
                entry = _Open(period.start_ms, period.end_ms, 0)
            known = entry.spent
            spent = await self._ask(purse, period.start_ms)
            if self.ready((purse,), now_ms):  # another request was quicker
                continue
            self._open[purse.id] = entry
            if spent is None:
                entry.ends_ms = now_ms + int(UNREADABLE_S * 1000)
            else:
                entry.spent += spent - known  # with what was settled while the ledger was asked
                entry.ends_ms = period.end_ms
                entry.again_ms = now_ms + AGAIN_S * 1000
                entry.read = True

    def unread(self, purses: Sequence[Purse]) -> bool:
        """Whether one of these, which are open, refuses by what this process alone has spent."""
        return any(purse.hard_nanousd is not None and not self._open[purse.id].read for purse in purses)

    def standing(self, purse: Purse) -> Standing:
        entry = self._open[purse.id]
        return Standing(purse, entry.spent, entry.reserved, entry.start_ms, entry.ends_ms)

    def hold(self, claim: Claim) -> None:
        """Set the claim's amount aside in each of its purses, which are open."""
        entries = tuple([self._open[purse.id] for purse in claim.purses])
        now_ms = claim.created_at_ms
        for purse, entry in zip(claim.purses, entries, strict=True):
            entry.reserved += claim.amount_nanousd
            if entry.again_ms is not None and now_ms >= entry.again_ms:
                self._ask_again(purse, entry, now_ms)
        self._held[claim.id] = entries

    def settle(self, claim: Claim, charged_nanousd: int) -> None:
        for entry in self._held.pop(claim.id, ()):
            entry.reserved -= claim.amount_nanousd
            entry.spent += charged_nanousd

    def forget(self) -> None:
        """Ask the ledger again from now on."""
        self._open = {}

    def _ask_again(self, purse: Purse, entry: _Open, now_ms: int) -> None:
        entry.again_ms = None
        known, asked = entry.spent, time.monotonic()

        def heard(asking: "asyncio.Task[int | None]") -> None:
            spent = None if asking.cancelled() else asking.result()
            if spent is not None:
                entry.spent += max(0, spent - known)
            took_s = time.monotonic() - asked
            entry.again_ms = now_ms + 1000 * (took_s + max(AGAIN_S, LEAST_PAUSE * took_s))

        asking = asyncio.ensure_future(self._asked(purse, entry.start_ms))
        self._again.add(asking)
        asking.add_done_callback(self._again.discard)
        asking.add_done_callback(heard)

    async def _ask(self, purse: Purse, since_ms: int) -> int | None:
        """All who come meanwhile wait for one answer."""
        name = f"{purse.id}:{since_ms}"
        asking = self._opening.get(name)
        if asking is None:
            asking = asyncio.ensure_future(self._asked(purse, since_ms))
            self._opening[name] = asking
            asking.add_done_callback(lambda _: self._opening.pop(name, None))
        return await asyncio.shield(asking)

    async def _asked(self, purse: Purse, since_ms: int) -> int | None:
        try:
            async with asyncio.timeout(OPENING_S):
                return await self._spent(purse, since_ms)
        except Exception as error:
            problem = "no answer in time" if isinstance(error, TimeoutError) else error
            log.error("what %s has spent can't be read, taken for what is known here: %s", purse.id, problem)
            return None
