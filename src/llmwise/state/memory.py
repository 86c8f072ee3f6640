"""Shared state of a single process: plain dicts, no locks (one event loop, no await between read and write)."""

import asyncio
from collections.abc import Mapping, Sequence

from llmwise.domain.errors import BreakerEffect
from llmwise.domain.ports import Clock
from llmwise.domain.records import LedgerEntry, RequestRecord
from llmwise.routing import breaker, health
from llmwise.routing.breaker import ALLOWED, CLOSED, Admission, Breaker, BreakerSettings
from llmwise.routing.health import UNSEEN, Health
from llmwise.state.counters import LocalCounters
from llmwise.state.port import (
    TOKENS_WINDOW_S,
    Claim,
    Counted,
    Purse,
    Spent,
    Standing,
    Verdict,
    Window,
    nothing_spent,
    unknown_budget,
)
from llmwise.state.purses import LocalPurses


class MemoryState:
    """`SharedState` of a process that shares with nobody. `strict` as in `StateSettings`."""

    away: str | None = None

    def __init__(
        self, clock: Clock, settings: BreakerSettings, spent: Spent = nothing_spent, *, strict: bool = False
    ) -> None:
        self.settings = settings
        self.counters = LocalCounters()
        self.purses = LocalPurses(spent)
        self._clock = clock
        self._strict = strict
        self._breakers: dict[str, Breaker] = {}
        self._health: dict[str, Health] = {}
        self._turns: dict[tuple[str, ...], int] = {}

    def admit(self, target: str) -> Admission:
        """Ask whether a request may go to `target` now; may make it the circuit's one probe."""
        state = self._breakers.get(target)
        if state is None or state.phase == "closed":
            return ALLOWED
        self._breakers[target], admission = breaker.admit(state, self.settings, self._clock.monotonic())
        return admission

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
        """What an attempt at `target` ended in; `effect` is `None` for a success."""
        now = self._clock.monotonic()
        state = self._breakers.get(target, CLOSED)
        after = breaker.step(
            state,
            effect or "success",
            self.settings,
            now,
            probe=probe,
            retry_after_s=retry_after_s,
            reason=reason,
        )
        if after is not state:
            self._breakers[target] = after
        if effect != "none":
            pause_s = self.settings.open_s if retry_after_s is None else retry_after_s
            self._health[target] = health.observe(
                self._health.get(target, UNSEEN),
                failed=effect is not None,
                ttft_ms=ttft_ms,
                latency_ms=latency_ms,
                limited_until=now + min(pause_s, self.settings.max_pause_s) if limited else 0.0,
            )

    def health(self) -> Mapping[str, Health]:
        """Everything seen so far; read it, don't keep it."""
        return self._health

    def breaker(self, target: str) -> Breaker:
        """The circuit as it stands; a pause that has run out still shows as `open` until someone asks to be let in."""
        return self._breakers.get(target, CLOSED)

    def follow(self, target: str, state: Breaker) -> None:
        """Take over what others say of a circuit."""
        self._breakers[target] = state

    def unhealed(self) -> list[tuple[str, Breaker]]:
        """The circuits that are not closed."""
        return [(target, state) for target, state in self._breakers.items() if state.phase != "closed"]

    def turn(self, chain: tuple[str, ...]) -> int:
        """0, 1, 2, ... for each use of the same chain: what round-robin counts by."""
        turn = self._turns.get(chain, 0)
        if len(self._turns) > 10_000:  # chains are the callers' words: bounded
            self._turns.clear()
        self._turns[chain] = turn + 1
        return turn

    async def count(self, subject: str, windows: Sequence[Window]) -> Counted:
        return self.counters.count(subject, windows, self._clock.monotonic())

    async def reserve(self, claim: Claim) -> Verdict:
        purses, counters = self.purses, self.counters
        if claim.purses and not purses.ready(claim.purses, claim.created_at_ms):
            await purses.open(claim.purses, claim.created_at_ms)
        if self._strict and purses.unread(claim.purses):
            raise unknown_budget()
        if claim.concurrency is not None and counters.running(claim.key_id) >= claim.concurrency:
            return Verdict(claim, "concurrency", bound=claim.concurrency, retry_after_s=1.0)
        used = 0
        if claim.tokens_per_minute is not None:
            now = self._clock.monotonic()
            used = counters.tokens(claim.key_id, now)
            if used >= claim.tokens_per_minute:
                wait_s = TOKENS_WINDOW_S - now % TOKENS_WINDOW_S
                return Verdict(claim, "tokens", bound=claim.tokens_per_minute, retry_after_s=wait_s, tokens_used=used)
        standings = tuple([purses.standing(purse) for purse in claim.purses])
        for standing in standings:
            if standing.exhausted:
                return Verdict(claim, "budget", standings, standing)
        if claim.purses:
            purses.hold(claim)
        if claim.tokens_per_minute is not None:
            counters.add_tokens(claim.key_id, claim.tokens, now)
        if claim.concurrency is not None:
            counters.begin(claim)
        return Verdict(claim, None, standings, tokens_used=used + claim.tokens)

    def settle(self, verdict: Verdict, charged_nanousd: int, tokens: int) -> None:
        claim = verdict.claim
        self.purses.settle(claim, charged_nanousd)
        if claim.tokens_per_minute is not None:
            self.counters.add_tokens(claim.key_id, tokens - claim.tokens, self._clock.monotonic())
        if claim.concurrency is not None:
            self.counters.end(claim)

    def replayed(self, record: RequestRecord, entries: Sequence[LedgerEntry]) -> None:
        return  # what a process keeps in memory died with it

    async def standings(self, purses: Sequence[Purse], now_ms: int) -> tuple[Standing, ...]:
        await self.purses.open(purses, now_ms)
        return tuple([self.purses.standing(purse) for purse in purses])

    async def ready(self, within_s: float) -> bool:
        return True

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def close(self, within_s: float) -> None:
        return
