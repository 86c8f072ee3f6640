"""Errors: which class, what they carry, and what code written for the published clients expects of them."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import llmwise
from llmwise import LLMWiseError
from llmwise.client import errors
from llmwise.client.errors import error_for


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (402, "OutOfCreditError"),
        (403, "PermissionDeniedError"),
        (404, "NotFoundError"),
        (405, "BadRequestError"),
        (413, "TooLargeError"),
        (422, "UnprocessableError"),
        (429, "RateLimitedError"),
        (500, "UpstreamError"),
        (503, "UpstreamError"),
        (529, "UpstreamError"),
        (304, "LLMWiseError"),
    ],
)
def test_the_status_picks_the_class(status: int, name: str) -> None:
    assert type(error_for(status, None, headers=httpx.Headers())).__name__ == name


def test_an_error_carries_what_the_gateway_said() -> None:
    body = {"error": "too many requests", "code": "rate_limited", "status_code": 429, "request_id": "r1"}
    error = error_for(429, body, headers=httpx.Headers({"X-Request-Id": "r1"}), retry_after_s=7)
    assert (error.status_code, error.message, error.payload) == (429, "too many requests", body)
    assert (error.code, error.request_id, error.retry_after_s) == ("rate_limited", "r1", 7)
    assert str(error) == "429 rate_limited: too many requests (request r1)"


@pytest.mark.parametrize(
    ("header_s", "told", "expected"),
    [(None, 7, 7), (3, 7, 3), (0, 7, 0), (None, "7", None), (None, -1, None), (None, float("nan"), None)],
)
def test_the_wait_is_the_headers_or_else_the_events(header_s: float | None, told: Any, expected: float | None) -> None:
    event = {"event": "error", "error": "open", "retry_after_s": told}
    assert error_for(503, event, headers=httpx.Headers(), retry_after_s=header_s).retry_after_s == expected


@pytest.mark.parametrize(
    ("payload", "message", "code"),
    [
        (None, "Bad Gateway", None),
        ("<html>nginx</html>", "<html>nginx</html>", None),
        ("x" * 300, "x" * 200, None),
        ({"detail": [{"loc": ["body"]}]}, "Bad Gateway", None),
        ({"error": {"message": "no such model", "code": "model_not_found"}}, "no such model", "model_not_found"),
        ({"error": {"type": 3}, "code": 5}, "Bad Gateway", None),
        ({"error": ""}, "Bad Gateway", None),
        ([1, 2], "Bad Gateway", None),
    ],
)
def test_an_unknown_body_is_kept_and_not_guessed_at(payload: Any, message: str, code: str | None) -> None:
    error = error_for(502, payload, headers=httpx.Headers())
    assert (error.message, error.code, error.payload) == (message, code, payload)


def test_a_status_that_http_does_not_know_still_makes_an_error() -> None:
    assert str(error_for(599, None, headers=httpx.Headers())) == "599: request failed"


def test_the_message_does_not_show_the_payload() -> None:
    assert "secret" not in str(LLMWiseError(400, "no", {"prompt": "secret"}))


def test_it_is_made_like_the_published_class() -> None:
    error = LLMWiseError(status_code=400, message="no", payload={"a": 1})
    assert (error.status_code, error.message, error.payload) == (400, "no", {"a": 1})
    assert LLMWiseError(400, "no").payload is None


@pytest.mark.parametrize(
    "error",
    [
        error_for(429, {"error": "no", "code": "c"}, headers=httpx.Headers({"x-request-id": "r"}), retry_after_s=3),
        llmwise.UnexpectedAnswerError("html", "<p>", httpx.Headers({"x-request-id": "r"})),
        llmwise.ConnectionFailedError("refused", sent=False),
        llmwise.TimedOutError("late"),
        llmwise.StreamCutError("cut"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: LLMWiseError) -> None:
    """A process pool pickles exceptions; one that can't be built again hangs the pool."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


def test_errors_pass_through_context_managers() -> None:
    """The published class is frozen, and `contextlib` fails to set its traceback."""

    @contextlib.contextmanager
    def scope() -> Iterator[None]:
        yield

    with pytest.raises(LLMWiseError), scope():
        raise LLMWiseError(400, "no")


def test_network_failures_are_still_httpx_errors() -> None:
    assert issubclass(llmwise.ConnectionFailedError, httpx.TransportError)
    assert issubclass(llmwise.TimedOutError, httpx.TimeoutException)
    assert llmwise.ConnectionFailedError("refused").status_code == 0


def test_the_docstring_draws_the_tree() -> None:
    drawn = errors.__doc__ or ""
    classes = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, LLMWiseError)]
    assert len(classes) == 14
    for cls in classes:
        parent = cls.__mro__[1].__name__
        lines = drawn.splitlines()
        (line,) = [line for line in lines if line.strip("│├└─ ").split(" ")[0] == cls.__name__]
        if cls is not LLMWiseError:
            above = lines[: lines.index(line)]
            nearest = [candidate for candidate in above if _depth(candidate) < _depth(line) and "Error" in candidate]
            assert parent in nearest[-1]


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip("│├└─ "))
