"""A real gateway for faults: uvicorn with our protocol in this process, scripted servers behind real sockets.

In this process, so that a test can look at its circuits, tasks and sockets; nothing else is different from
`llmwise serve`.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn

from llmwise.api.server import Gateway
from llmwise.api.services import Services
from llmwise.app import asgi
from llmwise.cli.serve import uvicorn_config
from llmwise.config import parse
from llmwise.providers.scripted.script import AnyRule, Script, Settings
from llmwise.providers.scripted.server import ScriptedServer
from llmwise.state.memory import MemoryState
from llmwise.storage.store import OfflineKeys

ANSWER = "one two three four five"
DIALECTS = ("openai", "anthropic", "gemini")
VERSION = {"openai": "v1", "anthropic": "v1", "gemini": "v1beta"}
UNLIMITED = "[limits]\n" + "".join(
    f"{name} = 1_000_000\n" for name in ("chat", "compare", "blend", "judge", "other", "burst")
)

PATIENT = {"connect_s": 5.0, "first_event_s": 20.0, "idle_s": 20.0, "total_s": 40.0, "answer_s": 20.0}
HASTY = {"connect_s": 5.0, "first_event_s": 0.3, "idle_s": 0.3, "total_s": 20.0, "answer_s": 0.3}
NEVER_OPENS = "[breaker]\nfailures = 1000\nopen_s = 0.001\nhard_down_s = 0.001\n"
"""A probe that fails opens its circuit for `open_s`, whatever opened it first: that is short here too."""


def configuration(urls: Sequence[str], timeouts: Mapping[str, float], breaker: str = NEVER_OPENS) -> str:
    """A provider and a model for each server and dialect: `openai-1` is asked at the first server in OpenAI's format,
    `gemini-2` at the second one in Gemini's."""
    times = "[timeouts]\n" + "".join(f"{name} = {value}\n" for name, value in timeouts.items())
    parts = ['[storage]\nurl = "sqlite:///llmwise.db"\n', UNLIMITED, times, breaker]
    for number, url in enumerate(urls, start=1):
        for dialect in DIALECTS:
            name = f"{dialect}-{number}"
            base_url = f"{url}/{VERSION[dialect]}"
            parts.append(f'[providers.{name}]\nkind = "{dialect}"\nbase_url = "{base_url}"\n')
            parts.append(f'[[models]]\nid = "{name}"\nprovider = "{name}"\nupstream = "{name}"\n')
            parts.append("input_price = 1.0\noutput_price = 2.0\n")
    return "\n".join(parts)


class Served:
    """A gateway that serves, a client with a key, and the scripted servers behind it."""

    def __init__(
        self, gateway: Gateway, url: str, key: str, client: httpx.AsyncClient, servers: Sequence[ScriptedServer]
    ) -> None:
        self._gateway = gateway
        self.url = url
        self.key = key
        self.client = client
        self.servers = servers

    @property
    def services(self) -> Services:
        assert self._gateway.services is not None
        return self._gateway.services

    @property
    def state(self) -> MemoryState:
        state = self.services.state
        assert isinstance(state, MemoryState)
        return state

    @property
    def in_flight(self) -> int:
        return self._gateway.in_flight

    def play(self, *rules: AnyRule, settings: Settings | None = None) -> None:
        """What the providers do from now on; nothing that went before is remembered."""
        script = Script(defaults=settings or Settings(text=ANSWER), rules=rules)
        for server in self.servers:
            server.set_script(script)
            server.journal.clear()
        self.state._breakers.clear()
        self.state._health.clear()

    def reached(self, dialect: str) -> tuple[int, ...]:
        """How many requests came to each server in this dialect."""
        return tuple(
            server.journal.by_model[f"{dialect}-{number}"] for number, server in enumerate(self.servers, start=1)
        )

    async def settled(self) -> list[dict[str, Any]]:
        """The history, newest first."""
        response = await self.client.get("/api/v1/history", params={"limit": 100})
        items: list[dict[str, Any]] = response.json()["items"]
        return items

    async def settled_request(self, request_id: str) -> dict[str, Any]:
        response = await self.client.get(f"/api/v1/history/{request_id}")
        record: dict[str, Any] = response.json()
        return record


@asynccontextmanager
async def serving(
    folder: Path,
    servers: Sequence[ScriptedServer],
    timeouts: Mapping[str, float],
    breaker: str = NEVER_OPENS,
    write_s: float = 60.0,
) -> AsyncIterator[Served]:
    """The gateway, until the block ends."""
    text = f"[server]\nwrite_s = {write_s}\n" + configuration([server.url for server in servers], timeouts, breaker)
    config = parse(text, source=str(folder / "llmwise.toml"), environ={})
    with OfflineKeys.open(config.storage.url) as keys:
        key = keys.create("chaos", True, time.time_ns() // 1_000_000)[1]
    gateway = asgi(config)
    server = uvicorn.Server(uvicorn_config(config, gateway))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        task = asyncio.create_task(server.serve(sockets=[listening]), name="uvicorn")
        try:
            await until(lambda: server.started or task.done(), 30)
            headers = {"authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
                yield Served(gateway, url, key, client, servers)
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, 30)


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Look again and again: what is waited for has no event that a test could wait on."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def asked(model: str, *fallback: str, **fields: Any) -> dict[str, Any]:
    """A body for `/api/v1/chat` and `/v1/chat/completions`; with a fallback it asks for a chain."""
    body = {"model": model, "messages": [{"role": "user", "content": "What is up?"}], **fields}
    return body | {"routing": {"fallback": list(fallback)}} if fallback else body


def data_of(body: bytes) -> list[bytes]:
    """The `data` of each event of a stream that ended with its `[DONE]`, which is left out. There is exactly one."""
    assert body.endswith(b"data: [DONE]\n\n"), body[-200:]
    data = [block[6:] for block in body.split(b"\n\n") if block.startswith(b"data: ")]
    assert data.count(b"[DONE]") == 1
    return data[:-1]


def events_of(body: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(data) for data in data_of(body)]
