"""Servers for the tests, and one way to drive both clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from llmwise import AsyncLLMWise, Head, LLMWise

from .scripted import Script, ScriptedServer

Serve = Callable[..., ScriptedServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(script, ...)` starts a server; all of them stop with the test."""
    servers: list[ScriptedServer] = []

    def start(*scripts: Script) -> ScriptedServer:
        servers.append(ScriptedServer(*scripts))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@dataclass
class Streamed:
    """What a loop over a whole stream met: its events, the exception that ended it, the response's head."""

    events: list[dict[str, Any]]
    error: Exception | None
    head: Head | None


class Caller(Protocol):
    """A client of either kind, driven without awaiting."""

    kind: str

    def call(self, url: str, method: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any: ...

    def stream(self, url: str, method: str, arguments: dict[str, Any], **options: Any) -> Streamed: ...


class SyncCaller:
    kind = "sync"

    def call(self, url: str, method: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
        with LLMWise("mm_sk_x", url, **options) as client:
            return getattr(client, method)(**arguments or {})

    def stream(self, url: str, method: str, arguments: dict[str, Any], **options: Any) -> Streamed:
        events: list[dict[str, Any]] = []
        with LLMWise("mm_sk_x", url, **options) as client, getattr(client, method)(**arguments) as source:
            try:
                events.extend(event for event in source)
            except Exception as exc:
                return Streamed(events, exc, source.head)
            return Streamed(events, None, source.head)


class AsyncCaller:
    kind = "async"

    def call(self, url: str, method: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
        async def run() -> Any:
            async with AsyncLLMWise("mm_sk_x", url, **options) as client:
                return await getattr(client, method)(**arguments or {})

        return asyncio.run(run())

    def stream(self, url: str, method: str, arguments: dict[str, Any], **options: Any) -> Streamed:
        async def run() -> Streamed:
            events: list[dict[str, Any]] = []
            client = AsyncLLMWise("mm_sk_x", url, **options)
            async with client, getattr(client, method)(**arguments) as source:
                try:
                    async for event in source:
                        events.append(event)  # noqa: PERF401 (keeps what came before an exception)
                except Exception as exc:
                    return Streamed(events, exc, source.head)
                return Streamed(events, None, source.head)

        return asyncio.run(run())


@pytest.fixture(params=[SyncCaller, AsyncCaller], ids=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Caller:
    made: Caller = request.param()
    return made
