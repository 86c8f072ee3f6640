"""Rate limits by a clock that the test moves."""

import asyncio

import pytest

from llmwise.api.auth import Principal, principal_of
from llmwise.api.limits import LimitSettings, RateLimiter, Standing, Work
from llmwise.domain.errors import RateLimited
from llmwise.domain.ids import KeyId
from llmwise.routing.breaker import BreakerSettings
from llmwise.state.memory import MemoryState
from llmwise.storage.rows import KeyRow


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def unix_ms(self) -> int:
        return int(self.now * 1000)


class Limits:
    """A limiter on a state of its own, called without a loop."""

    def __init__(self, settings: LimitSettings, clock: Clock) -> None:
        self.state = MemoryState(clock, BreakerSettings())
        self._limiter = RateLimiter(settings, self.state)

    def count(self, key: str, work: Work, settings: str | None = None) -> Standing:
        return asyncio.run(self._limiter.count(caller(key, settings), work))


def caller(key: str, settings: str | None) -> Principal:
    return principal_of(KeyRow(KeyId(key), key, key, "mm_sk_", False, 0, None, settings), None)


def test_a_standing_counts_down_within_the_window_and_begins_anew_with_the_next() -> None:
    clock = Clock(120.0)
    limiter = Limits(LimitSettings(chat=2), clock)
    assert limiter.count("a", "chat") == Standing(limit=2, remaining=1, reset_s=61)
    clock.now = 150.5
    assert limiter.count("a", "chat") == Standing(limit=2, remaining=0, reset_s=30)
    clock.now = 179.9
    with pytest.raises(RateLimited) as caught:
        limiter.count("a", "chat")
    assert (caught.value.retry_after_s, caught.value.details["limit"]) == (1, 2)
    clock.now = 180.0
    assert limiter.count("a", "chat").remaining == 1


def test_keys_and_kinds_of_work_are_counted_apart() -> None:
    limiter = Limits(LimitSettings(chat=1, other=1), Clock())
    for key in ("a", "b"):
        for work in ("chat", "other"):
            assert limiter.count(key, work).remaining == 0


def test_a_burst_is_over_all_kinds_and_ends_with_its_ten_seconds() -> None:
    clock = Clock(7.0)
    limiter = Limits(LimitSettings(chat=100, other=100, burst=2), clock)
    limiter.count("a", "chat")
    limiter.count("a", "other")
    with pytest.raises(RateLimited, match=r"more than 2 requests in 10 s") as caught:
        limiter.count("a", "chat")
    assert caught.value.retry_after_s == 4
    assert limiter.count("b", "chat").remaining == 99
    clock.now = 10.0
    assert limiter.count("a", "chat").remaining == 98


def test_a_refused_request_is_not_counted() -> None:
    clock = Clock()
    limiter = Limits(LimitSettings(chat=5, burst=1), clock)
    limiter.count("a", "chat")
    for _ in range(10):
        with pytest.raises(RateLimited):
            limiter.count("a", "chat")
    clock.now = 10.0
    assert limiter.count("a", "chat").remaining == 3


def test_a_key_s_own_limits_take_the_place_of_the_configured_ones() -> None:
    clock = Clock()
    limiter = Limits(LimitSettings(chat=1, other=1, burst=1), clock)
    own = '{"requests_per_minute": 3, "burst": 2}'
    assert [limiter.count("a", "chat", own).remaining for _ in range(2)] == [2, 1]
    with pytest.raises(RateLimited, match="more than 2 requests in 10 s"):
        limiter.count("a", "chat", own)
    clock.now = 10.0
    assert limiter.count("a", "other", own).limit == 1, "what calls no model keeps the configured limit"


def test_old_windows_are_forgotten() -> None:
    clock = Clock()
    limiter = Limits(LimitSettings(), clock)
    for key in range(1000):
        limiter.count(str(key), "chat")
    clock.now = 60.0
    limiter.count("a", "chat")
    assert [len(counts) for _, counts in limiter.state.counters._windows.values()] == [1, 1]


def test_switched_off_nothing_is_refused() -> None:
    limiter = Limits(LimitSettings(enabled=False, chat=1, burst=1), Clock())
    assert {limiter.count("a", "chat").remaining for _ in range(5)} == {1}
