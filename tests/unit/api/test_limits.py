"""Rate limits by a clock that the test moves."""

import pytest

from llmwise.api.limits import LimitSettings, RateLimiter, Standing
from llmwise.domain.errors import RateLimited


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_standing_counts_down_within_the_window_and_begins_anew_with_the_next() -> None:
    clock = Clock(120.0)
    limiter = RateLimiter(LimitSettings(chat=2), clock)
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
    limiter = RateLimiter(LimitSettings(chat=1, other=1), Clock())
    for key in ("a", "b"):
        for work in ("chat", "other"):
            assert limiter.count(key, work).remaining == 0


def test_a_burst_is_over_all_kinds_and_ends_with_its_ten_seconds() -> None:
    clock = Clock(7.0)
    limiter = RateLimiter(LimitSettings(chat=100, other=100, burst=2), clock)
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
    limiter = RateLimiter(LimitSettings(chat=5, burst=1), clock)
    limiter.count("a", "chat")
    for _ in range(10):
        with pytest.raises(RateLimited):
            limiter.count("a", "chat")
    clock.now = 10.0
    assert limiter.count("a", "chat").remaining == 3


def test_old_windows_are_forgotten() -> None:
    clock = Clock()
    limiter = RateLimiter(LimitSettings(), clock)
    for key in range(1000):
        limiter.count(str(key), "chat")
    clock.now = 60.0
    limiter.count("a", "chat")
    assert len(limiter._counts) == len(limiter._bursts) == 1


def test_switched_off_nothing_is_refused() -> None:
    limiter = RateLimiter(LimitSettings(enabled=False, chat=1, burst=1), Clock())
    assert {limiter.count("a", "chat").remaining for _ in range(5)} == {1}
