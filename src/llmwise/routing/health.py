"""What a target did lately, as a value: enough to order a chain by latency and to show on a page."""

from msgspec import Struct

SMOOTHING = 0.2
"""Weight of the newest observation in the moving averages: the last dozen decide."""


class Health(Struct, frozen=True, gc=False):
    """Counts since the start, and exponentially weighted means. `ttft_ms` (first content, ms) and `failure_rate`
    (0..1) are `None` until something was seen; `failure_ms` is what a failure took, ms. `limited_until` is
    the monotonic time until which the provider asked to be left alone (429)."""

    successes: int = 0
    failures: int = 0
    ttft_ms: float | None = None
    failure_rate: float | None = None
    failure_ms: float | None = None
    limited_until: float = 0.0


UNSEEN = Health()


def observe(
    health: Health, *, failed: bool, ttft_ms: float | None, latency_ms: float | None = None, limited_until: float = 0.0
) -> Health:
    """`health` after one more attempt of `latency_ms` in all; `ttft_ms` is `None` when no content came."""
    return Health(
        health.successes + (not failed),
        health.failures + failed,
        health.ttft_ms if ttft_ms is None else _mean(health.ttft_ms, ttft_ms),
        _mean(health.failure_rate, float(failed)),
        _mean(health.failure_ms, latency_ms) if failed and latency_ms is not None else health.failure_ms,
        max(health.limited_until, limited_until),
    )


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
