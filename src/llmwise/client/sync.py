"""`LLMWise`, the client for code that waits: `_endpoints` on `httpx.Client`."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from random import random
from typing import Self

import httpx

from llmwise.client._endpoints import Endpoints
from llmwise.client._requests import POOL, Call, Settings, tls
from llmwise.client._responses import EventReader, failure_of, head_of, network_errors, read_array, read_object
from llmwise.client._retries import MAX_RETRIES, retry_delay_s
from llmwise.client.errors import LLMWiseError
from llmwise.client.shapes import Answer, AnswerList, Head, JsonDict


class Stream(Iterator[JsonDict]):
    """The events of a streamed answer, as dicts.

    The first step of a loop sends the request; each event is handed out as it arrives. Leaving the loop
    closes the connection: at once where the loop holds the only reference, as in
    `for event in client.chat_stream(...)`; otherwise `close()` or `with` does.
    """

    def __init__(self, events: Generator[JsonDict, None, None], heads: list[Head]) -> None:
        # The generator knows `heads` and not this object: a cycle of the two would keep the connection
        # open after a `break`, until the garbage collector came by.
        self._events = events
        self._heads = heads

    @property
    def head(self) -> Head | None:
        """Status and headers of the response; None until the first event has been asked for."""
        return self._heads[0] if self._heads else None

    def __next__(self) -> JsonDict:
        return next(self._events)

    def close(self) -> None:
        """End the stream and its connection. Harmless when repeated."""
        self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class LLMWise(Endpoints[Answer, AnswerList, str, Stream]):
    """A gateway's native API. May be shared between threads.

    `api_key`         else LLMWISE_API_KEY; without either, no key is sent.
    `base_url`        else LLMWISE_BASE_URL; `/api/v1` is appended where it is missing.
    `timeout`         seconds without any progress, in connecting, sending or receiving; not the total.
    `client`          an `httpx.Client` to use. Its own base URL (then with `/api/v1`), timeout and
                      Authorization win over the arguments here, and `close()` closes it.
    `max_retries`     how often a call is sent again when that can't do anything twice: turned away with
                      429 or 503, never sent, or a GET that failed. Waits as long as `Retry-After` says
                      (but not more than 60 s), else 0.5 s and doubling. A stream is not sent again once it
                      has begun.
    `raise_on_error`  whether a failure inside a stream is raised, after its `error` event was handed out.
                      False passes over it, and over a stream that is cut, as the published client does.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | httpx.Timeout = 60.0,
        client: httpx.Client | None = None,
        *,
        max_retries: int = MAX_RETRIES,
        raise_on_error: bool = True,
    ) -> None:
        self._settings = Settings.resolve(api_key, base_url, max_retries=max_retries, raise_on_error=raise_on_error)
        self._http = client or httpx.Client(timeout=timeout, limits=POOL, verify=tls())

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _object(self, call: Call) -> Answer:
        return read_object(self._send(call))

    def _array(self, call: Call) -> AnswerList:
        return read_array(self._send(call))

    def _text(self, call: Call) -> str:
        return self._send(call).text

    def _stream(self, call: Call) -> Stream:
        heads: list[Head] = []
        return Stream(self._events(call, heads), heads)

    def _events(self, call: Call, heads: list[Head]) -> Generator[JsonDict, None, None]:
        with closing(self._send(call)) as response:
            heads.append(head_of(response))
            reader = EventReader(heads[0], raise_on_error=self._settings.raise_on_error)
            with network_errors(call, streaming=True):
                for data in response.iter_bytes():
                    yield from reader.feed(data)
                    if reader.done:
                        return
            yield from reader.close()

    def _send(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            try:
                return self._send_once(call)
            except LLMWiseError as failure:
                delay_s = retry_delay_s(failure, call, attempt, self._settings.max_retries, draw=random())
                if delay_s is None:
                    raise
            time.sleep(delay_s)
            attempt += 1

    def _send_once(self, call: Call) -> httpx.Response:
        with network_errors(call):
            response = self._http.send(call.request(self._http, self._settings), stream=call.streams)
            if response.is_success:
                return response
            with closing(response):
                response.read()  # a stream's body is still on its way
        raise failure_of(response, datetime.now(UTC))
