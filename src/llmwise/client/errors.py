"""What a call can raise.

    LLMWiseError                  every error below; by itself a status that the table doesn't name
    ├── BadRequestError           400  the request makes no sense; also 405, 411, 415 ...
    │   ├── NotFoundError         404
    │   ├── TooLargeError         413  body or context too long
    │   └── UnprocessableError    422  a field is unknown or out of its range
    ├── AuthenticationError       401  no key, or a wrong one
    ├── OutOfCreditError          402  budget or balance spent
    ├── PermissionDeniedError     403  the key may not do this
    ├── RateLimitedError          429  `retry_after_s` says when to come back
    ├── UpstreamError             5xx  the gateway, or every provider behind it, failed
    │   └── UnexpectedAnswerError 502  an answer that isn't what the API promises (`status_code` is ours)
    └── ConnectionFailedError       0  no answer at all; also an `httpx.TransportError`
        ├── TimedOutError              also an `httpx.TimeoutException`
        └── StreamCutError             a stream that ended before its end

An error before a stream's first event and an `error` event inside it become the same classes. The
published clients let httpx's own errors through; ours inherit from them, so that an
`except httpx.TransportError` goes on working, and the precise one is the `__cause__`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from math import inf
from typing import Any

import httpx


class LLMWiseError(Exception):
    """A call failed. The first three arguments are those of the published client's class.

    `status_code`    HTTP status, of the response or told by a stream's `error` event; 0 without an answer.
    `message`        what went wrong, in words.
    `payload`        the parsed JSON body or event, the text of a body that isn't JSON, or None.
    `code`           the gateway's stable name of the failure, such as `rate_limited`; None if it gave none.
    `request_id`     the gateway's id of the request, for whoever reads its log.
    `retry_after_s`  seconds that the server asks to wait; None if it doesn't say.
    `headers`        the response's headers; empty without an answer.
    """

    def __init__(
        self,
        status_code: int,
        message: str,
        payload: Any | None = None,
        *,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        headers: httpx.Headers | None = None,
    ) -> None:
        super().__init__(message)
        self.args = (status_code, message, payload)  # what pickle calls the class with
        self.status_code = status_code
        self.message = message
        self.payload = payload
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.headers = headers if headers is not None else httpx.Headers()

    def __str__(self) -> str:
        # Without the payload, which the published class prints: it may hold a prompt, and this gets logged.
        facts = " ".join(str(fact) for fact in (self.status_code, self.code) if fact)
        request = f"(request {self.request_id})" if self.request_id else ""
        return " ".join(part for part in (facts and f"{facts}:", self.message, request) if part)


class BadRequestError(LLMWiseError):
    """400: the request makes no sense as it is; sending it again won't help."""


class NotFoundError(BadRequestError):
    """404: no such path, model, conversation ..."""


class TooLargeError(BadRequestError):
    """413: the body, or the conversation for every model in question, is too long."""


class UnprocessableError(BadRequestError):
    """422: a field is unknown, missing, or out of its range; the message names it."""


class AuthenticationError(LLMWiseError):
    """401: no key, or one that the gateway doesn't know."""


class OutOfCreditError(LLMWiseError):
    """402: the key's budget or balance is spent."""


class PermissionDeniedError(LLMWiseError):
    """403: a valid key that may not do this."""


class RateLimitedError(LLMWiseError):
    """429: too many requests; raised when the retries are used up, or the wait asked for is too long."""


class UpstreamError(LLMWiseError):
    """5xx: the gateway, or every provider it tried, failed."""


class UnexpectedAnswerError(UpstreamError):
    """An answer that isn't what the API promises: not JSON, an array for an object, a redirect.

    `status_code` is 502, as with the published client, whatever the response's own status was.
    """

    def __init__(self, message: str, payload: Any | None = None, headers: httpx.Headers | None = None) -> None:
        super().__init__(502, message, payload, headers=headers)
        self.args = (message, payload, headers)
        self.request_id = self.headers.get("x-request-id")


class ConnectionFailedError(LLMWiseError, httpx.TransportError):
    """The network failed before a whole answer was here; httpx's error is the `__cause__`.

    `sent` is False when the request certainly never left, so that sending it again is safe.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(0, message)
        self.args = (message,)
        self.sent = sent


class TimedOutError(ConnectionFailedError, httpx.TimeoutException):
    """Nothing came for the client's `timeout`; between two reads of a stream this counts anew."""


class StreamCutError(ConnectionFailedError):
    """A stream ended without its end: what has been received is only the beginning of the answer."""


_BY_STATUS: Mapping[int, type[LLMWiseError]] = {
    401: AuthenticationError,
    402: OutOfCreditError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: TooLargeError,
    422: UnprocessableError,
    429: RateLimitedError,
}


def error_for(
    status_code: int,
    payload: Any,
    *,
    headers: httpx.Headers,
    retry_after_s: float | None = None,
) -> LLMWiseError:
    """The error that a failed response or an `error` event stands for.

    The status picks the class. The payload adds words and a code where it has the gateway's shape
    (`{"error": "...", "code": "..."}`), or OpenAI's, which a proxy in between may answer in
    (`{"error": {"message": "...", "code": "..."}}`); another one is kept, and not guessed at.
    """
    told = payload if isinstance(payload, dict) else {}
    inner = told.get("error")
    if isinstance(inner, dict):
        told, inner = inner, inner.get("message")
    code, told_wait_s = told.get("code"), told.get("retry_after_s")
    if retry_after_s is None and isinstance(told_wait_s, int | float) and 0 <= told_wait_s < inf:
        retry_after_s = float(told_wait_s)  # an event inside a stream has no header of its own
    return _class_for(status_code)(
        status_code,
        inner if isinstance(inner, str) and inner else _words(status_code, payload),
        payload,
        code=code if isinstance(code, str) else None,
        request_id=headers.get("x-request-id") or told.get("request_id"),
        retry_after_s=retry_after_s,
        headers=headers,
    )


def _class_for(status_code: int) -> type[LLMWiseError]:
    if named := _BY_STATUS.get(status_code):
        return named
    if status_code >= 500:
        return UpstreamError
    return BadRequestError if 400 <= status_code < 500 else LLMWiseError


def _words(status_code: int, payload: Any) -> str:
    if isinstance(payload, str) and payload.strip():
        return payload.strip()[:200]
    try:
        return HTTPStatus(status_code).phrase
    except ValueError:
        return "request failed"
