"""From HTTP responses, and from what came instead of one, to answers, events and errors. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import httpx

from llmwise.client._requests import Call
from llmwise.client._retries import retry_after_s
from llmwise.client._sse import SSEDecoder
from llmwise.client.errors import (
    ConnectionFailedError,
    LLMWiseError,
    StreamCutError,
    TimedOutError,
    UnexpectedAnswerError,
    error_for,
)
from llmwise.client.shapes import Answer, AnswerList, Head, JsonDict


def head_of(response: httpx.Response) -> Head:
    return Head(response.status_code, response.headers)


def read_object(response: httpx.Response) -> Answer:
    body = _read_json(response)
    if not isinstance(body, dict):
        raise UnexpectedAnswerError("expected a JSON object", body, response.headers)
    return Answer(body, head_of(response))


def read_array(response: httpx.Response) -> AnswerList:
    body = _read_json(response)
    if not isinstance(body, list):
        raise UnexpectedAnswerError("expected a JSON array", body, response.headers)
    return AnswerList(body, head_of(response))


def _read_json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError as exc:
        raise UnexpectedAnswerError("expected JSON", response.text, response.headers) from exc


def failure_of(response: httpx.Response, now: datetime) -> LLMWiseError:
    """The error in a response that isn't a success; its body must have been read."""
    if response.has_redirect_location:
        return UnexpectedAnswerError(f"redirected to {response.headers['location']}", None, response.headers)
    try:
        payload = response.json()
    except ValueError:
        payload = response.text or None
    wait_s = retry_after_s(response.headers.get("retry-after"), now)
    return error_for(response.status_code, payload, headers=response.headers, retry_after_s=wait_s)


@contextmanager
def network_errors(call: Call, *, streaming: bool = False) -> Iterator[None]:
    """Turn httpx's errors into ours. `streaming`: the answer has begun."""
    try:
        yield
    except httpx.TransportError as exc:
        raise _connection_failure(exc, call, streaming=streaming) from exc
    except httpx.RequestError as exc:  # a body that can't be decompressed
        raise UnexpectedAnswerError(f"{call.method} {call.path}: {exc}") from exc


def _connection_failure(exc: httpx.TransportError, call: Call, *, streaming: bool) -> ConnectionFailedError:
    what = f"{call.method} {call.path}: {str(exc) or type(exc).__name__}"
    unsent = isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError)
    if isinstance(exc, httpx.TimeoutException):
        return TimedOutError(what, sent=not unsent)
    return StreamCutError(what) if streaming else ConnectionFailedError(what, sent=not unsent)


class EventReader:
    """The bytes of one streamed answer -> its events, and how it ended.

    A stream ends at `[DONE]`. An `error` event is yielded like any other, and raised when the caller asks
    for the next one: a loop that handles it and leaves sees no exception, a loop that overlooks it does.
    An event that isn't a JSON object raises `UnexpectedAnswerError`; bytes that end before the stream does
    raise `StreamCutError`. With `raise_on_error=False` all three pass in silence, as in the published client.
    """

    def __init__(self, head: Head, *, raise_on_error: bool) -> None:
        self._head = head
        self._raise = raise_on_error
        self._decoder = SSEDecoder()
        self._concluded = False
        self.done = False

    def feed(self, data: bytes) -> Iterator[JsonDict]:
        for text in self._decoder.feed(data):
            yield from self._read(text)

    def close(self) -> Iterator[JsonDict]:
        """The bytes have ended."""
        with suppress(UnexpectedAnswerError):  # half an event: the end came inside it
            for text in self._decoder.close():
                yield from self._read(text)
        # A `done` event is end enough: the answer is whole, only the marker after it is missing.
        if self._raise and not (self.done or self._concluded):
            raise StreamCutError("the stream ended before its end: the answer so far is not all of it")

    def _read(self, text: str) -> Iterator[JsonDict]:
        self.done = self.done or text.strip() == "[DONE]"
        if self.done or not text.strip():
            return
        try:
            event = json.loads(text)
        except ValueError:
            event = None
        if isinstance(event, dict):
            self._concluded = event.get("event") in ("done", "error")
            yield event
            if self._raise and event.get("event") == "error":
                raise self._failure(event)
        elif self._raise:
            raise UnexpectedAnswerError("a stream's event isn't a JSON object", text, self._head.headers)

    def _failure(self, event: JsonDict) -> LLMWiseError:
        status = event.get("status_code")
        return error_for(status if isinstance(status, int) else 502, event, headers=self._head.headers)
