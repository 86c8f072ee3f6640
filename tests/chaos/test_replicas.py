"""Three replicas in this process, on one database and one real Valkey: what one knows, all know."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn

from llmwise.app import asgi
from llmwise.cli.serve import uvicorn_config
from llmwise.config import parse
from llmwise.domain.access import Access, Budget, Period
from llmwise.domain.money import NANO_PER_USD
from llmwise.providers.scripted import parse_script
from llmwise.providers.scripted.server import ScriptedServer
from llmwise.storage.store import OfflineKeys
from tests.valkeys import Valkey, valkey

from .gateways import asked, until

pytestmark = pytest.mark.anyio

REPLICAS = 3
COST_USD = 0.01005
"""5 tokens in at 10 USD a million, 500 out at 20."""

CONFIG = """
[storage]
url = "sqlite:///../llmwise.db"
spool = "spool"

[state]
url = "{state}"
timeout_s = 1.0

[breaker]
failures = 3
open_s = 30.0

[limits]
chat = 1_000_000
other = 1_000_000
burst = 1_000_000

[providers.openai]
base_url = "{provider}/v1"

[[models]]
id = "m"
provider = "openai"
upstream = "m"
input_price = 10
output_price = 20
"""


class Replicas:
    """What a test needs of them. `keys` makes keys in their database."""

    def __init__(
        self, clients: list[httpx.AsyncClient], keys: OfflineKeys, server: Valkey, provider: ScriptedServer
    ) -> None:
        self.clients = clients
        self.keys = keys
        self.valkey = server
        self.provider = provider

    def key(self, **access: Any) -> dict[str, str]:
        settings = msgspec.json.encode(Access(**access)).decode()
        raw = self.keys.create("k", False, time.time_ns() // 1_000_000, settings)[1]
        return {"authorization": f"Bearer {raw}"}

    async def ask(self, replica: int, headers: dict[str, str], model: str = "m") -> httpx.Response:
        body = asked(model, stream=False, max_tokens=500)
        return await self.clients[replica % REPLICAS].post("/api/v1/chat", json=body, headers=headers)

    async def balance(self, replica: int, headers: dict[str, str]) -> dict[str, Any]:
        answer = await self.clients[replica].get("/api/v1/credits/balance", headers=headers)
        balance: dict[str, Any] = answer.json()
        return balance


@asynccontextmanager
async def replica(folder: Path, text: str) -> AsyncIterator[httpx.AsyncClient]:
    config = parse(text, source=str(folder / "llmwise.toml"), environ={})
    server = uvicorn.Server(uvicorn_config(config, asgi(config)))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await until(lambda: server.started or task.done(), 30)
            limits = httpx.Limits(max_connections=200)
            async with httpx.AsyncClient(base_url=url, timeout=50, trust_env=False, limits=limits) as client:
                yield client
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, 30)


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[Replicas]:
    script = parse_script({"defaults": {"usage": {"input": 5, "output": 500}}})
    with valkey(tmp_path) as server:
        async with ScriptedServer(script) as provider, AsyncExitStack() as stack:
            text = CONFIG.format(state=server.url, provider=provider.url)
            keys = stack.enter_context(OfflineKeys.open(f"sqlite:///{tmp_path}/llmwise.db"))
            folders = [tmp_path / f"r{number}" for number in range(REPLICAS)]
            clients = [await stack.enter_async_context(replica(folder, text)) for folder in folders]
            yield Replicas(clients, keys, server, provider)


def budget(usd: float, period: Period = "total") -> tuple[Budget, ...]:
    return (Budget(period, int(usd * NANO_PER_USD)),)


async def test_a_limit_is_over_all_replicas(replicas: Replicas) -> None:
    key = replicas.key(concurrency=4)
    answers = await asyncio.gather(*(replicas.ask(number, key) for number in range(60)))
    assert {answer.status_code for answer in answers} <= {200, 429}
    minute = replicas.key(requests_per_minute=10)
    answers = await asyncio.gather(*(replicas.ask(number, minute) for number in range(30)))
    served = [answer.status_code for answer in answers].count(200)
    assert served in (10, 20), "or the minute ended between"


async def test_at_a_circuit_that_one_opened_no_other_asks(replicas: Replicas) -> None:
    """How soon is `test_cluster`'s: there each has a process of its own."""
    key = replicas.key()
    replicas.provider.set_script(parse_script({"rule": [{"model": "m", "fault": "status", "status": 500}]}))
    for _ in range(3):
        assert (await replicas.ask(0, key)).status_code == 502
    began = time.perf_counter()
    while True:
        answers = [await client.get("/api/v1/health/targets", headers=key) for client in replicas.clients]
        if all('"open"' in answer.text for answer in answers):
            break
        assert time.perf_counter() - began < 5, [answer.text for answer in answers]
    reached = len(replicas.provider.requests)
    for number in range(REPLICAS):
        assert (await replicas.ask(number, key)).json()["code"] == "circuit_open"
    assert len(replicas.provider.requests) == reached


async def test_valkey_killed_under_load_costs_nobody_an_answer_and_no_settlement_is_lost(replicas: Replicas) -> None:
    key = replicas.key(budgets=budget(100))
    served = 0

    async def load(number: int) -> None:
        nonlocal served
        for _ in range(20):
            answer = await replicas.ask(number, key)
            assert answer.status_code == 200, answer.text
            served += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(12):
            tasks.create_task(load(number))
        await until(lambda: served > 40)
        await asyncio.to_thread(replicas.valkey.kill)
        await until(lambda: served > 140)
        await asyncio.to_thread(replicas.valkey.start)

    async def shared() -> bool:
        ready = [(await client.get("/readyz")).json()["state"] for client in replicas.clients]
        return all(state == "ok" for state in ready)

    async with asyncio.timeout(10):
        while not await shared():  # noqa: ASYNC110  # it is another process's to say
            await asyncio.sleep(0.02)
    assert served == 240
    # What Valkey has forgotten is asked of the ledger, which all replicas write within a moment.
    for _ in range(100):
        (standing,) = (await replicas.balance(0, key))["budgets"]
        if standing["spent_usd"] == pytest.approx(240 * COST_USD):
            break
        await asyncio.sleep(0.05)
    transactions = (await replicas.clients[0].get("/api/v1/credits/transactions?limit=1", headers=key)).json()
    assert transactions[0]["type"] in ("reserve", "settle", "refund")
    assert (standing["spent_usd"], standing["reserved_usd"]) == (pytest.approx(240 * COST_USD), 0)


async def test_where_it_is_strict_a_hard_budget_is_not_spent_while_valkey_is_away(tmp_path: Path) -> None:
    script = parse_script({"defaults": {"usage": {"input": 5, "output": 500}}})
    with valkey(tmp_path) as server, OfflineKeys.open(f"sqlite:///{tmp_path}/llmwise.db") as keys:
        async with ScriptedServer(script) as provider:
            text = CONFIG.format(state=server.url, provider=provider.url).replace("[state]", "[state]\nstrict = true")
            (folder := tmp_path / "r0").mkdir()
            async with replica(folder, text) as client:
                one = Replicas([client] * REPLICAS, keys, server, provider)
                bounded, unbounded = one.key(budgets=budget(1)), one.key()
                assert (await one.ask(0, bounded)).status_code == 200
                server.kill()
                refused = await one.ask(0, bounded)
                assert (refused.status_code, refused.json()["code"]) == (503, "state_unavailable")
                assert refused.headers["retry-after"] == "1"
                assert (await one.ask(0, unbounded)).status_code == 200
                assert len(provider.requests) == 2
                server.start()
                async with asyncio.timeout(10):
                    while (await one.ask(0, bounded)).status_code != 200:  # noqa: ASYNC110  # it is another process's to say
                        await asyncio.sleep(0.02)
