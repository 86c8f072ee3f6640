"""Shared state of several processes and machines: in Valkey (or Redis), each change one atomic script.

    circuits   a copy here, kept by pub/sub: asked without waiting. Reports go behind; the half-open probe belongs to
               the one replica that claimed it
    limits     one round trip a request, many requests in one
    budgets    the same; settlements go behind, and are kept while Valkey is away

When Valkey is slow or away this process goes by limits of its own, says so once, and comes back by itself. Its own
budgets begin with what the ledger says; with `strict` hard ones refuse instead.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec
from redis.asyncio import Redis

from llmwise.domain.access import Period
from llmwise.domain.errors import BreakerEffect
from llmwise.domain.ports import Clock
from llmwise.domain.records import LedgerEntry, RequestRecord
from llmwise.routing.breaker import Admission, Breaker, BreakerSettings
from llmwise.routing.health import Health
from llmwise.state.circuits import PROBING_S, SharedCircuits
from llmwise.state.memory import MemoryState
from llmwise.state.pipe import FAILURES, Pipe, bounded
from llmwise.state.port import (
    LEASE_S,
    OPENING_S,
    UNREADABLE_S,
    Claim,
    Counted,
    Purse,
    Refused,
    Spent,
    Standing,
    StateSettings,
    Verdict,
    Window,
    nothing_spent,
    unknown_budget,
)
from llmwise.state.windows import Span, span

log = logging.getLogger(__name__)

RETRY_S = 0.25
LISTEN_S = 0.25
"""How often the connection is looked after when nothing is published."""

SETTLING_S = 0.5
"""After Valkey comes back, purses it has forgotten are opened only when the other replicas have had this time to write
what they spent meanwhile to the ledger."""

PERIODS: tuple[Period, ...] = get_args(Period)

NOT_YET = "not connected yet"

SCHEMES = {"valkey": "redis", "valkeys": "rediss", "redis": "redis", "rediss": "rediss", "unix": "unix"}

STATUS: tuple[Refused | None, ...] = (None, None, "concurrency", "tokens", "budget")


class ValkeyState:
    """`SharedState` of all who name the same server and prefix."""

    def __init__(
        self, shared: StateSettings, clock: Clock, settings: BreakerSettings, spent: Spent = nothing_spent
    ) -> None:
        """Nothing is contacted before `run`."""
        self._clock = clock
        self._spent = spent
        self._shared = shared
        self._prefix = shared.prefix
        self._local = MemoryState(clock, settings, spent)
        scheme, _, rest = shared.url.partition("://")
        self._client: Redis = Redis.from_url(
            f"{SCHEMES[scheme]}://{rest}", socket_connect_timeout=max(shared.timeout_s, 0.5), retry=None
        )
        self._pipe = Pipe(self._client, shared.timeout_s, self._gone)
        self._circuits = SharedCircuits(self._local, self._pipe, clock, shared.prefix)
        self.away: str | None = NOT_YET
        self._connected = asyncio.Event()
        self._returned = 0.0
        self._unreadable_until = 0.0
        self._opening: dict[str, asyncio.Future[int]] = {}
        self._running: asyncio.Task[None] | None = None

    @property
    def settings(self) -> BreakerSettings:
        return self._local.settings

    @settings.setter
    def settings(self, settings: BreakerSettings) -> None:
        self._local.settings = settings

    # circuits: from this process's copy

    def admit(self, target: str) -> Admission:
        if self.away is not None:
            return self._local.admit(target)
        return self._circuits.admit(target)

    def report(
        self,
        target: str,
        effect: BreakerEffect | None,
        *,
        probe: int = 0,
        ttft_ms: float | None = None,
        latency_ms: float | None = None,
        retry_after_s: float | None = None,
        limited: bool = False,
        reason: str | None = None,
    ) -> None:
        before = self._local.breaker(target)
        self._local.report(
            target,
            effect,
            probe=probe,
            ttft_ms=ttft_ms,
            latency_ms=latency_ms,
            retry_after_s=retry_after_s,
            limited=limited,
            reason=reason,
        )
        if self.away is not None or (effect in (None, "none") and before.phase == "closed" and not before.failures):
            return
        self._circuits.tell(target, effect, self.settings, probe=probe, retry_after_s=retry_after_s, reason=reason)

    def health(self) -> Mapping[str, Health]:
        """As this process sees it: what is near one machine may be far from another."""
        return self._local.health()

    def breaker(self, target: str) -> Breaker:
        return self._local.breaker(target)

    def turn(self, chain: tuple[str, ...]) -> int:
        return self._local.turn(chain)

    # limits and budgets: in one round trip, or by this process's own

    async def count(self, subject: str, windows: Sequence[Window]) -> Counted:
        if self.away is None:
            arguments = [part for w in windows for part in (w.name, w.limit, w.seconds * 1000)]
            reply = await self._pipe.ask("count", f"{self._prefix}count:{subject}:", *arguments)
            if reply is not None:
                refused, used, left_ms = reply
                return Counted(windows[max(refused - 1, 0)], used, left_ms / 1000, refused > 0)
        return await self._local.count(subject, windows)

    async def reserve(self, claim: Claim) -> Verdict:
        if self.away is not None:
            return await self._alone(claim)
        try:
            verdict = await self._reserve(claim) or await self._alone(claim)
        except BaseException:  # refused, or the caller has left: a slow Valkey may set it aside all the same
            self._end(claim)
            raise
        if verdict.refused is not None and not verdict.shared:
            self._end(claim)
        return verdict

    async def _alone(self, claim: Claim) -> Verdict:
        if self._shared.strict and any(purse.hard_nanousd is not None for purse in claim.purses):
            raise unknown_budget()
        return await self._local.reserve(claim)

    def settle(self, verdict: Verdict, charged_nanousd: int, tokens: int) -> None:
        claim = verdict.claim
        if not verdict.shared:
            self._local.settle(verdict, charged_nanousd, tokens)
        lapsed = self._clock.unix_ms() - claim.created_at_ms > LEASE_S * 1000
        self._end(
            claim,
            charged_nanousd,
            tokens - claim.tokens,
            counted=claim.tokens_per_minute is not None and verdict.shared,
            own=not verdict.shared or lapsed,
        )

    def _end(
        self, claim: Claim, charged_nanousd: int = 0, more_tokens: int = 0, *, counted: bool = False, own: bool = False
    ) -> None:
        """`own`: the charge is booked whether or not Valkey knows of the claim."""
        self._pipe.tell(
            "settle",
            self._prefix,
            claim.id,
            claim.key_id,
            claim.amount_nanousd,
            charged_nanousd,
            more_tokens,
            int(counted),
            int(claim.concurrency is not None),
            int(own),
            *(_name(purse, span(purse.period, claim.created_at_ms)) for purse in claim.purses),
        )

    def replayed(self, record: RequestRecord, entries: Sequence[LedgerEntry]) -> None:
        moved = {entry.kind: entry.amount_nanousd for entry in entries}
        names: list[str] = []
        if entries:  # which budgets bounded it is not known any more; where it holds nothing, nothing is booked
            account_id = entries[0].account_id
            for period in PERIODS:
                since = span(period, record.created_at_ms)
                names.append(_name(Purse("key", record.key_id, account_id, period), since))
                names.append(_name(Purse("account", account_id, account_id, period), since))
        self._pipe.tell(
            "settle",
            self._prefix,
            record.id,
            record.key_id,
            -moved.get("reserve", 0),
            -moved.get("settle", 0),
            0,
            0,
            1,
            0,
            *names,
        )

    async def standings(self, purses: Sequence[Purse], now_ms: int) -> tuple[Standing, ...]:
        if self.away is None:
            looks = tuple(msgspec.structs.replace(purse, hard_nanousd=None) for purse in purses)
            verdict = await self._reserve(Claim("", "", now_ms, looks))
            if verdict is not None:
                return tuple(
                    msgspec.structs.replace(standing, purse=purse)
                    for standing, purse in zip(verdict.standings, purses, strict=True)
                )
        return await self._local.standings(purses, now_ms)

    async def _reserve(self, claim: Claim) -> Verdict | None:
        """`None`: there was no answer."""
        spans = [span(purse.period, claim.created_at_ms) for purse in claim.purses]
        spent = [-1] * len(spans)
        for _ in range(2):
            arguments: list[str | int] = []
            for purse, period, known in zip(claim.purses, spans, spent, strict=True):
                hard = -1 if purse.hard_nanousd is None else purse.hard_nanousd
                arguments += (_name(purse, period), hard, known, -1 if period.end_ms is None else period.end_ms)
            reply = await self._pipe.ask(
                "reserve",
                self._prefix,
                claim.id,
                claim.key_id,
                claim.amount_nanousd,
                claim.tokens,
                -1 if claim.tokens_per_minute is None else claim.tokens_per_minute,
                -1 if claim.concurrency is None else claim.concurrency,
                int(LEASE_S * 1000),
                *arguments,
            )
            if reply is None:
                return None
            if reply[0] != 1:
                return _verdict(claim, spans, reply)
            now = self._clock.monotonic()
            if now < self._unreadable_until:
                return None
            if now < self._returned + SETTLING_S:
                if self._local.purses.ready(claim.purses, claim.created_at_ms):
                    return None  # in use while it was away: so it stays until then, and nobody waits
                await asyncio.sleep(self._returned + SETTLING_S - now)
            try:
                for index, (purse, period) in enumerate(zip(claim.purses, spans, strict=True)):
                    if reply[4 + 2 * index] < 0:
                        spent[index] = await self._spent_so_far(purse, period)
            except Exception as error:
                now = self._clock.monotonic()
                if now >= self._unreadable_until:  # the first of those that waited says so
                    log.error("what was spent can't be read, budgets are this process's own: %s", error)
                self._unreadable_until = now + UNREADABLE_S
                return None
        return None

    async def _spent_so_far(self, purse: Purse, period: Span) -> int:
        """What the ledger says. All who come meanwhile wait for one answer: 500 at once that asked each for itself had
        none in time, and went by three replicas' own budgets."""
        name = _name(purse, period)
        asking = self._opening.get(name)
        if asking is None:
            asking = self._opening[name] = asyncio.ensure_future(self._spent(purse, period.start_ms))
            asking.add_done_callback(lambda _: self._opening.pop(name, None))
        async with asyncio.timeout(OPENING_S):
            return await asyncio.shield(asking)

    # keeping up

    async def run(self) -> None:
        self._running = asyncio.current_task()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pipe.run(), name="state-pipe")
            tasks.create_task(self._probing(), name="state-probing")
            while True:
                try:
                    async with self._client.pubsub() as published:
                        await bounded(published.subscribe(self._circuits.channel), self._shared.timeout_s)
                        await self._pipe.resume()
                        await self._circuits.snapshot(self._client, self._shared.timeout_s)
                        self._back()
                        await self._listen(published)
                except FAILURES as error:
                    self._gone(error)
                await asyncio.sleep(RETRY_S)

    async def ready(self, within_s: float) -> bool:
        """Whether Valkey answers; waits for it to."""
        try:
            async with asyncio.timeout(within_s):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    async def close(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self._pipe.drain()
        except TimeoutError:
            log.error("the shared state was not told everything within %g s", within_s)
        self._pipe.suspend()
        if self._running is not None:  # before the client: what listens to it would connect again
            self._running.cancel()
            await asyncio.wait([self._running])
        await self._client.aclose()

    def _gone(self, error: Exception) -> None:
        self._pipe.suspend()
        self._connected.clear()
        if self.away is None or self.away is NOT_YET:
            log.error("the shared state does not answer, limits and budgets are this process's own: %s", error)
            self._local.purses.forget()
        self.away = str(error) or type(error).__name__

    def _back(self) -> None:
        if self.away != NOT_YET:
            log.warning("the shared state answers again")
        self._returned = self._clock.monotonic()
        self.away = None
        self._connected.set()

    async def _listen(self, published: Any) -> None:
        """Follow what the others publish, until the connection breaks or somebody found it broken."""
        quiet = self._clock.monotonic()
        while self.away is None:
            message = await published.get_message(ignore_subscribe_messages=True, timeout=LISTEN_S)
            if message is not None:
                self._circuits.heard(message["data"])
            elif self._clock.monotonic() - quiet > 4 * LISTEN_S:
                await bounded(self._client.ping(), self._shared.timeout_s)
                quiet = self._clock.monotonic()

    async def _probing(self) -> None:
        while True:
            await self._connected.wait()
            await asyncio.sleep(PROBING_S)
            if self.away is None:
                self._circuits.probe()


def _name(purse: Purse, period: Span) -> str:
    return f"{purse.id}:{period.start_ms}"


def _verdict(claim: Claim, spans: Sequence[Span], reply: Sequence[int]) -> Verdict:
    status, number, wait_ms, tokens = reply[:4]
    standings = tuple(
        Standing(purse, reply[4 + 2 * index], reply[5 + 2 * index], period.start_ms, period.end_ms)
        for index, (purse, period) in enumerate(zip(claim.purses, spans, strict=True))
    )
    bound = {2: claim.concurrency, 3: claim.tokens_per_minute}.get(status) or 0
    by = standings[number - 1] if number else None
    return Verdict(claim, STATUS[status], standings, by, bound, wait_ms / 1000, tokens, shared=True)
