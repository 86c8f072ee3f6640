"""What the server needs of a wire format: questions out of bodies, answers and errors into bytes. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, assert_never

from msgspec import Struct, json

from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.answers import Answer, Question


class BadRequest(Exception):
    """The request breaks the format's own rules. The answer is `status` with the dialect's envelope."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class Refusal(Struct, frozen=True):
    """An error to answer with. What is `None` the dialect fills in from `status`."""

    status: int
    message: str | None = None
    code: str | None = None
    retry_after_s: float | None = None


Refusing: TypeAlias = faults.RateLimit | faults.Status | faults.Overloaded | faults.ContextTooLong


class Frame(Struct, frozen=True):
    """One server-sent event. `content` tells a part of the answer from openings and bookkeeping, `closing` what only
    comes once the answer is over."""

    data: bytes
    event: str | None = None
    content: bool = False
    closing: bool = False

    def sse(self, eol: bytes = b"\n") -> bytes:
        name = b"" if self.event is None else b"event: " + self.event.encode() + eol
        return name + b"data: " + self.data + eol + eol


class Dialect(Protocol):
    """`body` and `frames` are two tellings of one answer."""

    @property
    def name(self) -> str: ...

    @property
    def too_long(self) -> Refusal:
        """The provider's own words for a prompt over the model's window."""
        ...

    def question(self, call: "HTTPCall") -> Question:
        """Raises `BadRequest`."""
        ...

    def body(self, question: Question, answer: Answer) -> bytes: ...

    def frames(self, question: Question, answer: Answer) -> list[Frame]: ...

    def text_frame(self, question: Question, answer: Answer, text: str) -> Frame:
        """A content frame that brings `text`."""
        ...

    def error(self, refusal: Refusal) -> bytes: ...

    def error_frame(self, refusal: Refusal) -> Frame: ...

    def models(self, names: Sequence[str]) -> bytes: ...


class HTTPCall(Struct, frozen=True):
    """A request as the server took it: header names in lower case, `model` and `stream` where the path says them."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    model: str | None = None
    stream: bool = False


def refusal_of(rule: Refusing, dialect: Dialect) -> Refusal:
    match rule:
        case faults.RateLimit():
            return Refusal(429, retry_after_s=rule.retry_after)
        case faults.Status():
            return Refusal(rule.status, rule.message, rule.code, rule.retry_after)
        case faults.Overloaded():
            return Refusal(529, retry_after_s=rule.retry_after)
        case faults.ContextTooLong():
            return dialect.too_long
        case _:
            assert_never(rule)


def encoded(value: object) -> bytes:
    return json.encode(value)


def described(refusal: Refusal, words: Mapping[int, str]) -> str:
    """The message of an error, marked as scripted."""
    return refusal.message or f"Scripted error: {words.get(refusal.status, f'status {refusal.status}')}."


ERROR_WORDS: Mapping[int, str] = {
    400: "the request is invalid",
    401: "the key is wrong",
    402: "the account has no credit left",
    403: "the key may not do this",
    404: "there is no such model",
    408: "the request took too long",
    413: "the request is too large",
    422: "the request can't be processed",
    429: "the rate limit is reached",
    500: "the server failed",
    502: "bad gateway",
    503: "the service is unavailable",
    504: "the upstream took too long",
    529: "overloaded",
}

JSONObject = dict[str, Any]
