"""The circuit breaker of one target, as a step function: (state, what happened, now) -> state.

    closed --3 consecutive failures--> open --30 s--> half-open: one probe --success--> closed
                                         ^                              '--failure--> open again

The caller's faults never count. A provider's Retry-After lengthens the pause and never shortens it. A refused key
(`hard_down`) opens at once and for long: only an operator can mend it.
Time is the monotonic clock's seconds, passed in.
"""

from typing import Literal, TypeAlias

from msgspec import Struct, structs

Phase: TypeAlias = Literal["closed", "open", "half_open"]
Effect: TypeAlias = Literal["success", "failure", "hard_down", "none"]


class BreakerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[breaker]`: each target's circuit. Seconds.

    failures        so many in a row open the circuit
    open_s          for so long
    hard_down_s     for so long when the provider refuses our key, at the first failure
    max_pause_s     a longer Retry-After is cut to this
    probe_s         a probe that never reports back is given up after this
    """

    failures: int = 3
    open_s: float = 30.0
    hard_down_s: float = 300.0
    max_pause_s: float = 900.0
    probe_s: float = 60.0


class Breaker(Struct, frozen=True):
    """The state of one target's circuit. `failures` counts in a row; `until` is when a pause, or a probe's time, ends
    (while closed: the end of the longest pause that a failure in the row asked for); `probe` numbers the probes, so
    that a late answer of an old one changes nothing."""

    phase: Phase = "closed"
    failures: int = 0
    until: float = 0.0
    probe: int = 0
    reason: str | None = None


CLOSED = Breaker()


class Admission(Struct, frozen=True):
    """May a request go to the target? `probe` is the number of the probe that it would be, or 0.
    `retry_in_s` says when to ask again, when it may not."""

    allowed: bool
    probe: int = 0
    retry_in_s: float = 0.0


ALLOWED = Admission(allowed=True)


def admit(state: Breaker, settings: BreakerSettings, now: float) -> tuple[Breaker, Admission]:
    """Ask for a place. After the pause the first to ask becomes the one probe; the others go on waiting."""
    if state.phase == "closed":
        return state, ALLOWED
    if now < state.until:
        return state, Admission(allowed=False, retry_in_s=state.until - now)
    probe = state.probe + 1
    probing = structs.replace(state, phase="half_open", until=now + settings.probe_s, probe=probe)
    return probing, Admission(allowed=True, probe=probe)


def step(
    state: Breaker,
    effect: Effect,
    settings: BreakerSettings,
    now: float,
    *,
    probe: int = 0,
    retry_after_s: float | None = None,
    reason: str | None = None,
) -> Breaker:
    """What an attempt's end means. `probe` is the attempt's `Admission.probe`.

    An attempt admitted before the circuit opened may end after: its success does not close what others opened, and its
    failure does not lengthen the pause. The success of a probe that was given up still closes.
    """
    if state.phase != "closed" and not (probe and (probe == state.probe or effect == "success")):
        return state
    if effect == "none":
        # A probe that says nothing about the provider gives its place to the next.
        return structs.replace(state, phase="open", until=now) if state.phase == "half_open" else state
    if effect == "success":
        return state if state.phase == "closed" and not state.failures else Breaker(probe=state.probe)
    failures = state.failures + 1
    until = now + min(retry_after_s or 0.0, settings.max_pause_s)
    if state.phase == "closed":
        until = max(until, state.until)  # a longer pause, asked for by an earlier failure in the row
        if effect == "failure" and failures < settings.failures:
            return Breaker("closed", failures, until, state.probe, reason)
    pause_s = settings.hard_down_s if effect == "hard_down" else settings.open_s
    return Breaker("open", failures, max(until, now + pause_s), state.probe, reason)
