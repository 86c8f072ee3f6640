"""Shared state of a single process: plain dicts, no locks (one event loop, no await between read and write)."""

from collections.abc import Mapping

from llmwise.domain.errors import BreakerEffect
from llmwise.domain.ports import Clock
from llmwise.routing import breaker, health
from llmwise.routing.breaker import ALLOWED, CLOSED, Admission, Breaker, BreakerSettings
from llmwise.routing.health import UNSEEN, Health


class MemoryState:
    """Circuits and health by target id."""

    def __init__(self, clock: Clock, settings: BreakerSettings) -> None:
        self.settings = settings
        self._clock = clock
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

    def turn(self, chain: tuple[str, ...]) -> int:
        """0, 1, 2, ... for each use of the same chain: what round-robin counts by."""
        turn = self._turns.get(chain, 0)
        if len(self._turns) > 10_000:  # chains are the callers' words: bounded
            self._turns.clear()
        self._turns[chain] = turn + 1
        return turn
