"""Rate limits per key: so many requests a minute for each kind of work, and a burst on top of it."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.domain.errors import RateLimited

Work: TypeAlias = Literal["chat", "compare", "blend", "judge", "other"]

WINDOW_S = 60
BURST_WINDOW_S = 10


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[limits]`: requests per key, in each worker.

    enabled     false counts nothing
    chat        in 60 s, to /api/v1/chat and /v1/chat/completions
    compare     in 60 s, to /api/v1/compare; however many models one names
    blend       in 60 s; the endpoint is not built yet
    judge       in 60 s; the endpoint is not built yet
    other       in 60 s, to everything else that needs a key
    burst       in 10 s, over all kinds
    """

    enabled: bool = True
    chat: int = 90
    compare: int = 45
    blend: int = 30
    judge: int = 30
    other: int = 180
    burst: int = 90


class Standing(Struct, frozen=True, gc=False):
    """Where a key stands after this request: what the `X-RateLimit-*` headers say. `reset_s` counts from now."""

    limit: int
    remaining: int
    reset_s: int


class RateLimiter:
    """Fixed windows in memory. `count` is one dict operation a window; an old window goes when a new one begins."""

    def __init__(self, settings: LimitSettings, monotonic: Callable[[], float]) -> None:
        self.settings = settings
        self._monotonic = monotonic
        self._limits: dict[Work, int] = {
            "chat": settings.chat,
            "compare": settings.compare,
            "blend": settings.blend,
            "judge": settings.judge,
            "other": settings.other,
        }
        self._window = self._burst_window = -1
        self._counts: dict[tuple[str, Work], int] = {}
        self._bursts: dict[str, int] = {}

    def count(self, key_id: str, work: Work) -> Standing:
        """Book one request. Raises `RateLimited`, and then it is not booked."""
        limit = self._limits[work]
        now = self._monotonic()
        if not self.settings.enabled:
            return Standing(limit, limit, WINDOW_S)
        window, burst_window = int(now // WINDOW_S), int(now // BURST_WINDOW_S)
        if window != self._window:
            self._window, self._counts = window, {}
        if burst_window != self._burst_window:
            self._burst_window, self._bursts = burst_window, {}
        used = self._counts.get((key_id, work), 0)
        burst = self._bursts.get(key_id, 0)
        reset_s = int((window + 1) * WINDOW_S - now) + 1
        if used >= limit:
            raise RateLimited(
                f"more than {limit} {work} requests in {WINDOW_S} s with this key; try again in {reset_s} s",
                retry_after_s=reset_s,
                limit=limit,
            )
        most = self.settings.burst
        if burst >= most:
            wait_s = int((burst_window + 1) * BURST_WINDOW_S - now) + 1
            raise RateLimited(
                f"more than {most} requests in {BURST_WINDOW_S} s with this key; try again in {wait_s} s",
                retry_after_s=wait_s,
                limit=most,
            )
        self._counts[key_id, work] = used + 1
        self._bursts[key_id] = burst + 1
        return Standing(limit, limit - used - 1, reset_s)
