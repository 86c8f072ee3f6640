"""Whether a failed call may be sent again, and when. No I/O; clock and chance are passed in."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite

from llmwise.client._requests import Call
from llmwise.client.errors import ConnectionFailedError, LLMWiseError, UnexpectedAnswerError

MAX_RETRIES = 2
LONGEST_WAIT_S = 60.0
"""A server that asks for a longer pause gets none: its error goes to the caller at once."""
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 0.5, 8.0


def retry_delay_s(failure: LLMWiseError, call: Call, attempt: int, max_retries: int, *, draw: float) -> float | None:
    """Seconds to wait before sending `call` again; None when `failure` is final.

    `attempt` counts from 0, `draw` is a random number in [0, 1). The wait is what the server asks for plus
    up to a tenth, so that callers turned away together don't return together. Unasked, it doubles from
    0.5 s to 8 s, less up to a half of it.
    """
    if attempt >= max_retries or not _may_repeat(failure, call):
        return None
    asked_s = failure.retry_after_s
    if asked_s is None:
        backoff_s: float = min(FIRST_BACKOFF_S * 2**attempt, LONGEST_BACKOFF_S)
        return backoff_s * (1 - draw / 2)
    return asked_s * (1 + draw / 10) if asked_s <= LONGEST_WAIT_S else None


def _may_repeat(failure: LLMWiseError, call: Call) -> bool:
    """Whether sending again can neither do nor charge anything twice.

    So it is when the request was turned away (429, 503) or never left; for a GET, also when nobody knows.
    """
    reads = call.method == "GET"
    if isinstance(failure, ConnectionFailedError):
        return reads or not failure.sent
    if isinstance(failure, UnexpectedAnswerError):
        return False
    return failure.status_code in {429, 503} or (reads and failure.status_code in {408, 425, 502, 504})


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Seconds from a `Retry-After` header, which holds seconds or an HTTP date; None if it holds neither.

    A date in the past is 0. Source: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds()
        return max(seconds, 0.0)
    return seconds if isfinite(seconds) and seconds >= 0 else None
