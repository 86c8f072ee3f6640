"""Rate limits per key: so many requests a minute for each kind of work, and a burst on top of it."""

from functools import lru_cache
from math import ceil
from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.api.auth import Principal
from llmwise.domain.errors import RateLimited
from llmwise.state.port import SharedState, Window

Work: TypeAlias = Literal["chat", "compare", "blend", "judge", "other"]

WINDOW_S = 60
BURST_WINDOW_S = 10


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[limits]`: requests per key; over all replicas that share a `[state]`, else in each worker. A key may have
    limits of its own.

    enabled     false counts nothing
    chat        in 60 s, to /api/v1/chat and /v1/chat/completions
    compare     in 60 s, to /api/v1/compare; however many models one names
    blend       in 60 s, to /api/v1/blend; however many models one asks
    judge       in 60 s, to /api/v1/judge; however many models one asks
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


class CreditSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[credits]`: what callers are charged.

    margin      times what the provider asks; 1 passes the cost on, 0 charges nothing
    """

    margin: float = 1.0


class Standing(Struct, frozen=True, gc=False):
    """Where a key stands after this request: what the `X-RateLimit-*` headers say. `reset_s` counts from now."""

    limit: int
    remaining: int
    reset_s: int


class RateLimiter:
    """What a key may ask for, by the configuration and its own settings; the counting is the shared state's."""

    def __init__(self, settings: LimitSettings, state: SharedState) -> None:
        self.settings = settings
        self._state = state
        self._windows = lru_cache(maxsize=1024)(self._windows_of)

    async def count(self, principal: Principal, work: Work) -> Standing:
        """Book one request. Raises `RateLimited`, and then it is not booked."""
        access = principal.access
        windows = self._windows(work, access.requests_per_minute, access.burst)
        if not self.settings.enabled:
            return Standing(windows[0].limit, windows[0].limit, WINDOW_S)
        counted = await self._state.count(principal.key.id, windows)
        window, reset_s = counted.window, int(counted.reset_s) + 1
        if not counted.refused:
            return Standing(window.limit, window.limit - counted.used, reset_s)
        what = f"{work} requests" if window.seconds == WINDOW_S else "requests"
        raise RateLimited(
            f"more than {window.limit} {what} in {window.seconds} s with this key; try again in {reset_s} s",
            retry_after_s=reset_s,
            limit=window.limit,
        )

    def _windows_of(self, work: Work, requests_per_minute: int | None, burst: int | None) -> tuple[Window, Window]:
        own = requests_per_minute if work != "other" else None
        limit: int = own if own is not None else getattr(self.settings, work)
        most = burst if burst is not None else self.settings.burst
        return Window(work, limit, WINDOW_S), Window("burst", most, BURST_WINDOW_S)


def limited(kind: Literal["tokens", "concurrency"], bound: int, retry_after_s: float) -> RateLimited:
    """The refusal of a request that was counted at the door and stopped behind it."""
    reset_s = max(1, ceil(retry_after_s))
    if kind == "concurrency":
        text = f"more than {bound} requests at the same time with this key; wait for one to end"
        return RateLimited(text, retry_after_s=reset_s, limit=bound, code="concurrency_limited")
    text = f"more than {bound} tokens in {WINDOW_S} s with this key; try again in {reset_s} s"
    return RateLimited(text, retry_after_s=reset_s, limit=bound, code="token_limited")
