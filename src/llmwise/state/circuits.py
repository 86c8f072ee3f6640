"""This process's copy of circuits that are shared: asked without waiting, kept up to date by what Valkey publishes.

A report goes behind, and comes back with the circuit as it stands then. When a pause has run out, each replica claims
the half-open probe; the one that gets it has a ticket for one request. Each state has a version: what comes late is
left out.
"""

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from llmwise.domain.errors import BreakerEffect
from llmwise.domain.ports import Clock
from llmwise.routing.breaker import Admission, Breaker, BreakerSettings, Phase
from llmwise.state.memory import MemoryState
from llmwise.state.pipe import Pipe, bounded

PROBING_S = 0.02
"""How often a circuit whose pause has run out is looked at."""

TICKET_S = 2.0
"""A probe that its replica has no request for goes to another after this."""


class _Circuit(Struct, frozen=True):
    """What `circuit.lua` says of a target."""

    t: str
    p: Phase
    f: int
    l: float  # noqa: E741  # milliseconds left
    n: int
    r: str
    v: int
    c: int = 0


_circuit = msgspec.json.Decoder(_Circuit, strict=False)


class _Kept(Struct, frozen=True):
    """What lies in the hash of circuits."""

    p: Phase
    f: int
    u: float
    n: int
    r: str
    v: int


_kept = msgspec.json.Decoder(_Kept, strict=False)


class SharedCircuits:
    """The copy itself lies in `local`, which goes on with it while Valkey is away."""

    def __init__(self, local: MemoryState, pipe: Pipe, clock: Clock, prefix: str) -> None:
        self._local = local
        self._pipe = pipe
        self._clock = clock
        self._prefix = prefix
        self._versions: dict[str, int] = {}
        self._tickets: dict[str, tuple[int, float]] = {}
        self._claiming: set[str] = set()

    @property
    def channel(self) -> str:
        """Where changes are published; also the hash that circuits are kept in."""
        return f"{self._prefix}circuits"

    def admit(self, target: str) -> Admission:
        state = self._local.breaker(target)
        if state.phase == "closed":
            return self._local.admit(target)
        ticket = self._tickets.pop(target, None)
        if ticket is not None:
            return Admission(allowed=True, probe=ticket[0])
        return Admission(allowed=False, retry_in_s=max(state.until - self._clock.monotonic(), PROBING_S))

    def tell(
        self,
        target: str,
        effect: BreakerEffect | None,
        breaker: BreakerSettings,
        *,
        probe: int = 0,
        retry_after_s: float | None = None,
        reason: str | None = None,
    ) -> None:
        """All others, of an attempt's end."""
        self._pipe.tell(
            "circuit",
            self._prefix,
            "report",
            target,
            effect or "success",
            probe,
            -1 if retry_after_s is None else int(retry_after_s * 1000),
            reason or "",
            breaker.failures,
            int(breaker.open_s * 1000),
            int(breaker.hard_down_s * 1000),
            int(breaker.max_pause_s * 1000),
            told=self.heard,
        )

    def heard(self, text: bytes) -> None:
        circuit = _circuit.decode(text)
        self._claiming.discard(circuit.t)
        if circuit.c:
            self._tickets[circuit.t] = (circuit.c, self._clock.monotonic() + TICKET_S)
        self._apply(circuit)

    async def snapshot(self, client: Redis, timeout_s: float) -> None:
        """All circuits as they stand there. What this process opened meanwhile stays open."""
        self._versions.clear()
        self._tickets.clear()
        self._claiming.clear()
        kept: dict[bytes, bytes] = await bounded(client.hgetall(self.channel), timeout_s)
        seconds, micros = await bounded(client.time(), timeout_s)
        now_ms = seconds * 1000 + micros / 1000
        for target, text in kept.items():
            state = _kept.decode(text)
            self._apply(_Circuit(target.decode(), state.p, state.f, state.u - now_ms, state.n, state.r, state.v))

    def probe(self) -> None:
        """Claim the probes of circuits whose pause has run out; give back those that no request came for."""
        now = self._clock.monotonic()
        for target, state in self._local.unhealed():
            ticket = self._tickets.get(target)
            if ticket is not None:
                if now > ticket[1]:
                    del self._tickets[target]
                    self.tell(target, "none", self._local.settings, probe=ticket[0])
            elif now >= state.until and target not in self._claiming:
                self._claiming.add(target)
                probe_ms = int(self._local.settings.probe_s * 1000)
                self._pipe.tell("circuit", self._prefix, "claim", target, probe_ms, told=self.heard)

    def _apply(self, circuit: _Circuit) -> None:
        if circuit.v < self._versions.get(circuit.t, -1):
            return
        self._versions[circuit.t] = circuit.v
        until = self._clock.monotonic() + circuit.l / 1000 if circuit.p != "closed" or circuit.f else 0.0
        self._local.follow(circuit.t, Breaker(circuit.p, circuit.f, until, circuit.n, circuit.r or None))
        if circuit.p == "closed":
            self._tickets.pop(circuit.t, None)
