"""Three replicas, each a process of its own, on one PostgreSQL and one Valkey. Callers know each by its port, so that
of each failure it is known whose it was; `tests/deploy` has three behind HAProxy."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import httpx
import pytest

from llmwise.domain.access import Budget
from llmwise.domain.money import NANO_PER_USD
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import Script, Settings, Usage
from llmwise.providers.scripted.server import ScriptedServer
from tests.servers import postgresql
from tests.valkeys import valkey

from . import books
from .gateways import ANSWER, asked, until
from .rig import COST_NANOUSD, MODEL, Counts, Rig, configure, free_port, key, script

pytestmark = pytest.mark.anyio

REPLICAS = 3
CALLERS = 4
"""Of each replica."""

CIRCUITS = [f"circuit-{number}" for number in range(5)]
OPEN_FOR_ALL_WITHIN_S = 0.1
LEAST_NANOUSD = NANO_PER_USD // 100
"""A question's reservation, at least."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Cluster:
    """The replicas. `whole` stands for all of them when the books are looked at."""

    def __init__(self, replicas: list[Rig], whole: Rig) -> None:
        self.replicas = replicas
        self.whole = whole
        self.provider = whole.provider


@asynccontextmanager
async def clustered(folder: Path) -> AsyncIterator[Cluster]:
    with postgresql() as server, valkey(folder) as state:
        async with ScriptedServer(script()) as provider:
            counts = provider.journal = Counts()
            url = server.url("gateway")
            raw_key = key(url)
            folders = [folder / f"r{number}" for number in range(REPLICAS)]
            replicas = []
            for own in folders:
                own.mkdir()
                configure(own, url, state.url, provider)
                with (own / "llmwise.toml").open("a") as file:
                    for name in CIRCUITS:
                        file.write(f'[[models]]\nid = "{name}"\nprovider = "openai-1"\nupstream = "{name}"\n')
                replicas.append(Rig(own, url, provider, counts, free_port(), raw_key))
            try:
                await asyncio.gather(*(replica.start() for replica in replicas))
                yield Cluster(replicas, replace(replicas[0], folder=folder))
            finally:
                for replica in replicas:
                    if replica.process is not None and replica.process.poll() is None:
                        await replica.kill()


async def test_of_three_replicas_one_is_killed_and_nobody_hears_of_it_but_those_it_was_answering(
    tmp_path: Path,
) -> None:
    async with clustered(tmp_path) as cluster:
        numbers = count()
        loads = [replace(replica, numbers=numbers).load(CALLERS) for replica in cluster.replicas]
        victim, dead = cluster.replicas[1], loads[1].heard
        async with asyncio.TaskGroup() as tasks:
            for load in loads:
                tasks.create_task(load.run())
            await until(lambda: all(len(load.heard.answered) > 60 for load in loads), 30)
            await victim.kill()
            so_far = [len(load.heard.answered) for load in loads]
            await until(lambda: all(len(loads[n].heard.answered) > so_far[n] + 100 for n in (0, 2)), 30)
            await victim.start()
            await until(lambda: len(dead.answered) > so_far[1] + 20, 30)  # its callers come back by themselves
            for load in loads:
                load.stop()
        for load in (loads[0], loads[2]):
            assert (load.heard.unheard, load.heard.broken, load.heard.refused) == (0, [], [])
        assert dead.unheard + len(dead.broken) <= 2 * CALLERS  # a dying process may take one more connection of each
        assert not dead.refused

        # What it had set aside came back from its spool, and what it had not said any more is spent. A request that was
        # setting something aside when the process died is on no spool: its reservation runs out with its lease.
        await until(lambda: _spent_nanousd(victim)[0] == _charged_nanousd(cluster.whole), 20)
        interrupted = [row for row in books.of(cluster.whole).rows.values() if row.code == "interrupted"]
        unknown = dead.unheard + len(dead.broken) - len(interrupted)
        assert _spent_nanousd(victim)[1] <= unknown * LEAST_NANOUSD
        for replica in cluster.replicas:
            await replica.terminate()
        books.check(cluster.whole, *loads)
        assert _charged_nanousd(cluster.whole) >= sum(len(load.heard.answered) for load in loads) * COST_NANOUSD


def _spent_nanousd(replica: Rig) -> tuple[int, int]:
    """And set aside: as Valkey has it."""
    (standing,) = replica.get("/api/v1/credits/balance").json()["budgets"]
    return round(standing["spent_usd"] * NANO_PER_USD), round(standing["reserved_usd"] * NANO_PER_USD)


def _charged_nanousd(whole: Rig) -> int:
    """As the ledger has it."""
    return -sum(amount for entries in books.of(whole).entries.values() for _, amount in entries)


async def test_three_replicas_share_a_dollar_and_what_they_know_of_a_provider(tmp_path: Path) -> None:
    async with clustered(tmp_path) as cluster:
        await _a_circuit_that_one_opens_is_open_for_all(cluster)
        await _500_at_once_spend_a_dollar_and_at_most_one_reservation(cluster)


async def _a_circuit_that_one_opens_is_open_for_all(cluster: Cluster) -> None:
    async with httpx.AsyncClient(
        headers={"authorization": f"Bearer {cluster.whole.key}"}, timeout=30, trust_env=False
    ) as client:
        urls = [f"http://127.0.0.1:{replica.port}" for replica in cluster.replicas]

        async def open_for_all(model: str) -> bool:
            pages = [(await client.get(f"{url}/api/v1/health/targets")).json() for url in urls]
            return all(row["circuit"] == "open" for page in pages for row in page["targets"] if row["model"] == model)

        cluster.provider.set_script(Script(rules=(faults.Status(model="circuit-*", status=500),)))
        took = []
        for model in CIRCUITS:
            for _ in range(3):
                answer = await client.post(f"{urls[0]}/api/v1/chat", json=asked(model, stream=False))
                assert answer.status_code == 502, answer.text
            began = time.perf_counter()
            while not await open_for_all(model):  # they are other processes
                assert time.perf_counter() - began < 5
            took.append(time.perf_counter() - began)
        assert statistics.median(took) < OPEN_FOR_ALL_WITHIN_S, took


async def _500_at_once_spend_a_dollar_and_at_most_one_reservation(cluster: Cluster) -> None:
    tokens = 5000
    cluster.provider.set_script(Script(defaults=Settings(text=ANSWER, usage=Usage(input=5, output=tokens))))
    cost = 5 * 1000 + tokens * 2000
    reservation = 100 * 1000 + tokens * 2000  # at most: the prompt has fewer than 100 tokens
    raw_key = key(cluster.whole.database, budgets=(Budget("total", NANO_PER_USD),))
    before = cluster.provider.journal.total
    async with httpx.AsyncClient(
        headers={"authorization": f"Bearer {raw_key}"},
        timeout=60,
        trust_env=False,
        limits=httpx.Limits(max_connections=500),
    ) as client:
        body = asked(MODEL, stream=False, max_tokens=tokens)
        urls = [f"http://127.0.0.1:{replica.port}/api/v1" for replica in cluster.replicas]
        answers = await asyncio.gather(*(client.post(f"{urls[n % REPLICAS]}/chat", json=body) for n in range(500)))
        statuses = Counter(answer.status_code for answer in answers)
        assert {*statuses} == {200, 402}, [a.text for a in answers if a.status_code not in (200, 402)][:3]
        spent = statuses[200] * cost
        assert NANO_PER_USD // 5 < spent < NANO_PER_USD + reservation
        assert cluster.provider.journal.total - before == statuses[200]
        for url in urls:
            (standing,) = (await client.get(f"{url}/credits/balance")).json()["budgets"]
            assert (round(standing["spent_usd"] * NANO_PER_USD), standing["reserved_usd"]) == (spent, 0)
