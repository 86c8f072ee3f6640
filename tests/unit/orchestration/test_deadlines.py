"""What each wait of a request may take, handed down from its total."""

import pytest

from llmwise.orchestration.deadlines import EARLY_S, Deadline, TimeoutSettings

SETTINGS = TimeoutSettings(first_event_s=10, idle_s=20, total_s=100, answer_s=40)


def test_a_streams_attempt_may_take_its_time_to_the_first_content() -> None:
    deadline = Deadline(SETTINGS, 1000.0, stream=True)
    assert deadline.first_content(1000.0, attempts_left=5) == 1010.0
    assert deadline.first_content(1050.0, attempts_left=1) == 1060.0


def test_no_wait_of_a_stream_goes_over_the_total() -> None:
    deadline = Deadline(SETTINGS, 1000.0, stream=True)
    assert deadline.first_content(1095.0, attempts_left=3) == 1100.0
    assert deadline.next_read(1095.0) == 1100.0
    assert deadline.next_read(1010.0) == 1030.0


def test_a_whole_answer_shares_what_is_left_of_the_total_with_the_attempts_that_may_follow() -> None:
    deadline = Deadline(SETTINGS, 1000.0, stream=False)
    assert deadline.first_content(1000.0, attempts_left=1) == 1040.0
    assert deadline.first_content(1000.0, attempts_left=4) == 1025.0
    assert deadline.first_content(1090.0, attempts_left=2) == 1095.0
    assert deadline.first_content(1090.0, attempts_left=1) == 1100.0


def test_a_whole_answer_gets_four_times_the_first_event_unless_told() -> None:
    deadline = Deadline(TimeoutSettings(first_event_s=10, total_s=1000), 0.0, stream=False)
    assert deadline.first_content(0.0, attempts_left=1) == 40.0


@pytest.mark.parametrize("stream", [True, False])
def test_an_attempt_that_starts_after_the_end_gets_no_time(stream: bool) -> None:
    deadline = Deadline(SETTINGS, 1000.0, stream=stream)
    assert deadline.first_content(1101.0, attempts_left=2) <= 1101.0


def test_the_total_is_over_when_it_is_over_and_when_its_timer_fired_a_moment_early() -> None:
    deadline = Deadline(SETTINGS, 1000.0, stream=True)
    assert not deadline.over(1099.9)
    assert deadline.over(1100.0 - EARLY_S / 2)
    assert deadline.over(1100.0)
