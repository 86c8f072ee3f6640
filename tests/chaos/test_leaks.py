"""After a thousand faults of every kind, and callers that leave, everything is as it was before."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import AnyRule
from llmwise.providers.scripted.server import ScriptedServer

from .gateways import DIALECTS, HASTY, Served, asked, data_of, serving, until

pytestmark = pytest.mark.anyio

FAULTS = 1000
AT_ONCE = 40

# Without a refused key, which takes its target out of the storm.
KINDS: list[AnyRule] = [
    faults.Normal(latency_ms=5),
    faults.Normal(tokens_per_second=400),
    faults.Trickle(piece_bytes=64),
    faults.NoUsage(),
    faults.RateLimit(),
    faults.RateLimit(retry_after=1),
    faults.Status(status=500),
    faults.Status(status=503),
    faults.Status(status=400),
    faults.Status(status=404),
    faults.Overloaded(),
    faults.ContextTooLong(),
    faults.Refuse(),
    faults.Refuse(reset=False),
    faults.Hang(),
    faults.HangFirstEvent(),
    faults.Cut(after=0),
    faults.Cut(after=2),
    faults.Cut(after=2, reset=True),
    faults.Stall(after=0),
    faults.Stall(after=2),
    faults.Malformed(after=1),
    faults.ErrorIn200(after=2),
    faults.WrongContentType(),
    faults.NoTerminal(),
]


def schedule(dice: random.Random) -> list[AnyRule]:
    """The n-th request for a model gets the n-th rule; requests past the schedule are answered normally."""
    return [
        type(rule)(**{name: getattr(rule, name) for name in rule.__struct_fields__} | {"model": model, "nth": number})
        for model in (f"{dialect}-{target}" for dialect in DIALECTS for target in (1, 2))
        for number, rule in enumerate((dice.choice(KINDS) for _ in range(FAULTS // len(DIALECTS))), start=1)
    ]


async def ask(client: httpx.AsyncClient, dice: random.Random, number: int) -> str:
    """One request; `left`, or how it ended, which is exactly once."""
    dialect = DIALECTS[number % len(DIALECTS)]
    stream = dice.random() < 0.6
    path = dice.choice(["/api/v1/chat", "/v1/chat/completions"])
    body = asked(f"{dialect}-1", f"{dialect}-2", stream=stream)
    if dice.random() < 0.1:
        try:
            async with asyncio.timeout(dice.random() * 0.05):
                await client.post(path, json=body)
        except TimeoutError:
            return "left"
        return "answered"
    response = await client.post(path, json=body)
    if response.headers["content-type"].startswith("text/event-stream"):
        assert response.status_code == 200
        data_of(response.content)
    else:
        assert response.json()
    return "answered"


async def storm(served: Served, requests: int, dice: random.Random) -> Counter[str]:
    """`requests` requests, `AT_ONCE` at a time, by a client that is closed at the end."""
    numbers = iter(range(requests))
    ends: dict[int, str] = {}

    async def work(client: httpx.AsyncClient) -> None:
        for number in numbers:
            ends[number] = await ask(client, dice, number)

    headers = {"authorization": f"Bearer {served.key}"}
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with (
        httpx.AsyncClient(base_url=served.url, headers=headers, timeout=30, trust_env=False, limits=limits) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(AT_ONCE):
            group.create_task(work(client))
    return Counter(ends.values())


async def quiet(served: Served) -> tuple[int, int]:
    """How many tasks and open files the process has, once nothing is under way and idle connections are closed."""
    await until(lambda: served.in_flight == 0)
    for server in served.servers:
        await until(lambda server=server: server.in_flight == 0)  # type: ignore[misc]  # bound at once
        for connection in tuple(server.connections):
            connection.abort()
        await until(lambda server=server: not server.connections)  # type: ignore[misc]
    seen = (-1, -1)
    for _ in range(100):  # sockets are closed in a later turn of the loop
        now = (len(asyncio.all_tasks()), psutil.Process().num_fds())
        if now == seen:
            return now
        seen = now
        await asyncio.sleep(0.05)
    raise AssertionError(f"never quiet: {seen}")


# The callers are httpx in this process: a connection that they give up at the instant it is made is anyio's to close,
# and it leaves that to the collector. Sockets and tasks are counted below, whoever's they are.
@pytest.mark.filterwarnings("ignore:Exception ignored in. 'uvloop:pytest.PytestUnraisableExceptionWarning")
async def test_a_thousand_faults_leave_no_task_and_no_socket_behind_and_lose_no_record(tmp_path: Path) -> None:
    dice = random.Random(20261122)
    async with ScriptedServer() as first, ScriptedServer() as second:
        servers = [first, second]
        async with serving(tmp_path, servers, HASTY) as served:
            served.play()
            await storm(served, AT_ONCE, dice)
            await quiet(served)  # everything that is opened once is open now
            before = await quiet(served)
            recorded = (await served.client.get("/api/v1/history")).json()["total"]
            before = await quiet(served)

            served.play(*schedule(dice))
            ends = await storm(served, FAULTS, dice)

            assert ends.total() == FAULTS
            asked_for = sum(server.journal.total for server in servers)
            assert asked_for >= FAULTS * 0.9
            total = (await served.client.get("/api/v1/history")).json()["total"] - recorded
            assert ends["answered"] <= total <= FAULTS
            assert await quiet(served) == before
            assert not [b for b in served.state._breakers.values() if b.phase == "half_open"]
            for provider in served.services.providers.values():
                assert not provider._transport._open  # type: ignore[attr-defined]  # an HttpProvider, each of them
