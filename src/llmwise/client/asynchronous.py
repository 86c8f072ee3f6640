"""`AsyncLLMWise`: `_endpoints` on `httpx.AsyncClient`, in asyncio or trio. `sync.py` says what isn't said here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing
from datetime import UTC, datetime
from random import random
from typing import Any, Self, cast

import anyio  # httpx's own dependency; sleeps in trio too
import httpx

from llmwise.client._endpoints import Endpoints
from llmwise.client._requests import POOL, Call, Settings, tls
from llmwise.client._responses import EventReader, failure_of, head_of, network_errors, read_array, read_object
from llmwise.client._retries import MAX_RETRIES, retry_delay_s
from llmwise.client.errors import LLMWiseError
from llmwise.client.shapes import Answer, AnswerList, Head, JsonDict


class AsyncStream(AsyncIterator[JsonDict]):
    """The events of a streamed answer, as dicts; `Stream` for async code.

    After a `break` the event loop closes the connection when it next gets to it; `aclose()`, or
    `async with client.chat_stream(...) as events`, closes it there and then.
    """

    def __init__(self, events: AsyncGenerator[JsonDict, None], heads: list[Head]) -> None:
        self._events = events
        self._heads = heads

    @property
    def head(self) -> Head | None:
        """Status and headers of the response; None until the first event has been asked for."""
        return self._heads[0] if self._heads else None

    async def __anext__(self) -> JsonDict:
        return await anext(self._events)

    async def aclose(self) -> None:
        """End the stream and its connection. Harmless when repeated."""
        await self._events.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class AsyncLLMWise(
    Endpoints[Coroutine[Any, Any, Answer], Coroutine[Any, Any, AnswerList], Coroutine[Any, Any, str], AsyncStream]
):
    """`LLMWise` for async code: same arguments, same methods; answers are awaited, streams iterated.

    `client` is an `httpx.AsyncClient` here, and `close()` is `aclose()`.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float | httpx.Timeout = 60.0,
        client: httpx.AsyncClient | None = None,
        *,
        max_retries: int = MAX_RETRIES,
        raise_on_error: bool = True,
    ) -> None:
        self._settings = Settings.resolve(api_key, base_url, max_retries=max_retries, raise_on_error=raise_on_error)
        self._http = client or httpx.AsyncClient(timeout=timeout, limits=POOL, verify=tls())

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _object(self, call: Call) -> Answer:
        return read_object(await self._send(call))

    async def _array(self, call: Call) -> AnswerList:
        return read_array(await self._send(call))

    async def _text(self, call: Call) -> str:
        return (await self._send(call)).text

    def _stream(self, call: Call) -> AsyncStream:
        heads: list[Head] = []
        return AsyncStream(self._events(call, heads), heads)

    async def _events(self, call: Call, heads: list[Head]) -> AsyncGenerator[JsonDict, None]:
        async with aclosing(await self._send(call)) as response:
            heads.append(head_of(response))
            reader = EventReader(heads[0], raise_on_error=self._settings.raise_on_error)
            # httpx calls it an iterator; it is a generator, and left open it would outlive the response.
            body = cast("AsyncGenerator[bytes, None]", response.aiter_bytes())
            with network_errors(call, streaming=True):
                async with aclosing(body):
                    async for data in body:
                        for event in reader.feed(data):
                            yield event
                        if reader.done:
                            return
            for event in reader.close():
                yield event

    async def _send(self, call: Call) -> httpx.Response:
        attempt = 0
        while True:
            try:
                return await self._send_once(call)
            except LLMWiseError as failure:
                delay_s = retry_delay_s(failure, call, attempt, self._settings.max_retries, draw=random())
                if delay_s is None:
                    raise
            await anyio.sleep(delay_s)
            attempt += 1

    async def _send_once(self, call: Call) -> httpx.Response:
        with network_errors(call):
            response = await self._http.send(call.request(self._http, self._settings), stream=call.streams)
            if response.is_success:
                return response
            async with aclosing(response):
                await response.aread()
        raise failure_of(response, datetime.now(UTC))
