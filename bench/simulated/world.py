"""The world of a simulated month: a provider that answers as the data say, the real gateway in front of it, a calendar.

The provider is the scripted one, over HTTP in OpenAI's format; for each question it is told the tokens that the data
give the model asked. The gateway is the one that `llmwise serve` runs: key, planner, engine, ledger, SQLite. Time is
two things. The calendar is set by whoever asks, so that a month passes in a minute; a latency is real, but `FASTER`
times shorter than the model's, and is reported as it would have been. What the gateway itself takes is stretched with
it.
"""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import uvicorn

from llmwise.api.services import Services
from llmwise.app import asgi
from llmwise.cli.serve import uvicorn_config
from llmwise.config import parse
from llmwise.domain.ids import RequestId, request_id
from llmwise.providers.scripted.connection import Performance, Request
from llmwise.providers.scripted.script import Script, Settings, Usage
from llmwise.providers.scripted.server import ScriptedServer
from llmwise.storage.store import OfflineKeys
from simulated.team import Team, latency_ms, price_of

FASTER = 20.0
AT_ONCE = 32
DAY_MS = 86_400_000
FIRST_MS = 1_790_812_800_000
"""2026-10-01, 00:00 UTC."""


class Calendar:
    """`domain.ports.Clock`: its time of day is what was last said, its monotonic time is the machine's."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.now_ms = FIRST_MS
        self._random = random.Random(FIRST_MS)

    def unix_ms(self) -> int:
        return self.now_ms

    def new_request_id(self) -> RequestId:
        return request_id(self.now_ms, self._random.getrandbits(80))


class _Message(msgspec.Struct):
    content: str


class _Body(msgspec.Struct):
    model: str
    messages: list[_Message]


_body = msgspec.json.Decoder(_Body)


class Provider(ScriptedServer):
    """Answers each question as long as the data say that its model did."""

    def __init__(self, team: Team) -> None:
        super().__init__()
        self._team = team

    def perform(self, request: Request) -> Performance:
        if request.method == "POST" and request.path.endswith("/chat/completions"):
            asked = _body.decode(request.body)
            question = asked.messages[-1].content
            made = self._team.made[question][asked.model]
            usage = Usage(input=made.input_tokens, output=made.output_tokens)
            text = f"{asked.model} says {made.quality:g}."
            self.set_script(
                Script(Settings(latency_ms=latency_ms(asked.model) / FASTER, text=text, usage=usage, finish="stop"))
            )
        return super().perform(request)


class World:
    """A gateway at work for a team. `now` is the calendar."""

    def __init__(self, team: Team, services: Services, client: httpx.AsyncClient, key: str, now: Calendar) -> None:
        self.team = team
        self.services = services
        self.now = now
        self.key = key
        self._client = client

    async def ask(self, questions: Sequence[str], model: str, first_ms: int, days: int) -> None:
        """Each question once over HTTP, evenly over `days` from `first_ms` on, some at a time, each alone (no
        conversation). Raises `RuntimeError` for what is not answered."""
        coming = iter(enumerate(questions))

        async def worker() -> None:
            for number, question in coming:
                self.now.now_ms = first_ms + days * DAY_MS * number // len(questions)
                body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": False}
                if model == "auto":
                    body["optimization_goal"] = "cost"
                response = await self._client.post("/api/v1/chat", content=msgspec.json.encode(body))
                if response.status_code != 200:
                    raise RuntimeError(f"{response.status_code}: {response.text[:300]}")

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(worker())
        await self.services.writer.flush()


@asynccontextmanager
async def world(team: Team, folder: Path) -> AsyncIterator[World]:
    """The provider and the gateway, on free ports of this machine, with a database in `folder`."""
    async with Provider(team) as provider:
        config = parse(_config(team, provider.url), source=str(folder / "llmwise.toml"), environ={})
        with OfflineKeys.open(config.storage.url) as keys:
            key = keys.create("month", True, FIRST_MS)[1]
        gateway = asgi(config)
        server = uvicorn.Server(uvicorn_config(config, gateway))
        with socket.create_server(("127.0.0.1", 0)) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            task = asyncio.create_task(server.serve(sockets=[listening]), name="gateway")
            try:
                while not server.started and not task.done():  # noqa: ASYNC110  # uvicorn has no event for it
                    await asyncio.sleep(0.01)
                now, services = Calendar(), gateway.services
                assert services is not None, "the gateway has started"
                gateway.services = msgspec.structs.replace(services, clock=now, new_request_id=now.new_request_id)
                headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
                async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False) as client:
                    yield World(team, gateway.services, client, key, now)
            finally:
                server.should_exit = True
                await task


def _config(team: Team, url: str) -> str:
    many = "".join(f"{name} = 1_000_000\n" for name in ("chat", "compare", "blend", "judge", "other", "burst"))
    parts = [
        '[storage]\nurl = "sqlite:///month.db"\n',
        f"[limits]\n{many}",
        f'[auto]\ndefault = "{team.today}"\n',
        "[alerts]\navoid = false\n",  # a machine busy with other things is no provider that has turned slow
        f'[providers.team]\nkind = "openai"\nbase_url = "{url}/v1"\n',
    ]
    for model in team.models:
        given, said = price_of(model)
        parts.append(
            f'[[models]]\nid = "{model}"\nprovider = "team"\nupstream = "{model}"\ncontext_window = 128000\n'
            f"input_price = {given}\noutput_price = {said}\n"
        )
    return "\n".join(parts)
