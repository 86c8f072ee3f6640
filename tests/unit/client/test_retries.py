"""What is sent again, and after how long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwise import ConnectionFailedError, LLMWiseError, TimedOutError, UnexpectedAnswerError
from llmwise.client._requests import get, post
from llmwise.client._retries import retry_after_s, retry_delay_s
from llmwise.client.errors import error_for

NOW = datetime(2026, 2, 13, 12, 0, tzinfo=UTC)
READ, WRITE = get("/models"), post("/chat")


def failed(status: int, wait_s: float | None = None) -> LLMWiseError:
    return error_for(status, None, headers=httpx.Headers(), retry_after_s=wait_s)


@pytest.mark.parametrize("failure", [failed(429), failed(503), ConnectionFailedError("refused", sent=False)], ids=repr)
def test_a_call_that_was_turned_away_or_never_left_is_sent_again(failure: LLMWiseError) -> None:
    assert retry_delay_s(failure, READ, 0, 1, draw=0) is not None
    assert retry_delay_s(failure, WRITE, 0, 1, draw=0) is not None


@pytest.mark.parametrize(
    "failure", [failed(408), failed(425), failed(502), failed(504), ConnectionFailedError("cut"), TimedOutError("late")]
)
def test_a_call_that_may_have_been_carried_out_is_sent_again_only_if_it_reads(failure: LLMWiseError) -> None:
    assert retry_delay_s(failure, READ, 0, 1, draw=0) is not None
    assert retry_delay_s(failure, WRITE, 0, 1, draw=0) is None


@pytest.mark.parametrize("failure", [*map(failed, [400, 401, 402, 403, 404, 422, 500]), UnexpectedAnswerError("html")])
def test_a_final_failure_is_not_sent_again(failure: LLMWiseError) -> None:
    assert retry_delay_s(failure, READ, 0, 9, draw=0) is None


def test_the_number_of_retries_is_bounded() -> None:
    delays = [retry_delay_s(failed(429), WRITE, attempt, 2, draw=0) for attempt in range(4)]
    assert [delay is not None for delay in delays] == [True, True, False, False]


def test_the_backoff_doubles_up_to_eight_seconds() -> None:
    delays = [retry_delay_s(failed(503), WRITE, attempt, 9, draw=0) for attempt in range(7)]
    assert delays == [0.5, 1, 2, 4, 8, 8, 8]


@given(st.integers(0, 9), st.floats(0, 1, exclude_max=True), st.none() | st.floats(0, 60))
def test_jitter_shortens_our_own_wait_and_never_the_one_asked_for(
    attempt: int, draw: float, asked_s: float | None
) -> None:
    plain = retry_delay_s(failed(429, asked_s), WRITE, attempt, 10, draw=0)
    jittered = retry_delay_s(failed(429, asked_s), WRITE, attempt, 10, draw=draw)
    assert plain is not None
    assert jittered is not None
    if asked_s is None:
        assert plain / 2 <= jittered <= plain
    else:
        assert plain == asked_s
        assert asked_s <= jittered <= asked_s * 1.1


def test_a_pause_longer_than_a_minute_is_left_to_the_caller() -> None:
    assert retry_delay_s(failed(429, 60), WRITE, 0, 1, draw=0) == 60
    assert retry_delay_s(failed(429, 61), WRITE, 0, 1, draw=0) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("1.5", 1.5),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 0),
        ("Fri, 13 Feb 2026 12:00:30 -0000", 30),  # no zone: UTC
        ("Fri, 13 Feb 2026 13:00:30 +0100", 30),
        (None, None),
        ("", None),
        ("soon", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOW) == seconds
