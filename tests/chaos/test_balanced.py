"""Three replicas, each a process of its own, on one PostgreSQL and one Valkey, behind nginx."""

import asyncio
import shutil
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
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

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(NGINX is None, reason="needs nginx: apt-get install nginx-light"),
]

REPLICAS = 3
CALLERS = 12
CIRCUITS = [f"circuit-{number}" for number in range(5)]
OPEN_FOR_ALL_WITHIN_S = 0.1
LEAST_NANOUSD = NANO_PER_USD // 100
"""A question's reservation, at least."""

# The door of a stock balancer: a replica that refuses the connection is passed over and tried again after a second. A
# request that a replica has already heard is not asked of another: it may have been answered, and paid for.
CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
worker_processes 1;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream llmwise {{
{servers}
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://llmwise;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 300s;
      proxy_next_upstream error timeout;
    }}
  }}
}}
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Balanced:
    """The replicas, and the door that callers know. `whole` stands for all of them when the books are looked at."""

    def __init__(self, replicas: list[Rig], door: int, whole: Rig) -> None:
        self.replicas = replicas
        self.door = door
        self.whole = whole
        self.provider = whole.provider


@contextmanager
def nginx(folder: Path, ports: list[int]) -> Iterator[int]:
    """The port of a balancer over `ports`."""
    door = free_port()
    servers = "\n".join(f"    server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;" for port in ports)
    configuration = folder / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, servers=servers, port=door))
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-e", f"{folder}/nginx.log", "-p", str(folder), "-c", str(configuration)])
    try:
        yield door
    finally:
        process.terminate()
        process.wait(10)


@asynccontextmanager
async def balanced(folder: Path) -> AsyncIterator[Balanced]:
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
                with nginx(folder, [replica.port for replica in replicas]) as door:
                    whole = replace(replicas[0], folder=folder, port=door)
                    yield Balanced(replicas, door, whole)
            finally:
                for replica in replicas:
                    if replica.process is not None and replica.process.poll() is None:
                        await replica.kill()


async def test_of_three_replicas_one_is_killed_and_nobody_hears_of_it_but_those_it_was_answering(
    tmp_path: Path,
) -> None:
    async with balanced(tmp_path) as cluster:
        load = cluster.whole.load(CALLERS)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            await until(lambda: len(load.heard.answered) > 200, 30)
            victim = cluster.replicas[1]
            await victim.kill()
            killed = time.monotonic()
            so_far = len(load.heard.answered)
            await until(lambda: len(load.heard.answered) > so_far + 300, 30)
            await victim.start()
            load.stop()
        heard = load.heard
        assert not heard.unheard
        assert len(heard.refused) + len(heard.broken) <= CALLERS
        assert {status for _, status, _, _ in heard.refused} <= {502}
        assert all(at < killed for _, _, _, at in heard.refused), "asked after it had died"

        # What it had set aside came back from its spool, and what it had not said any more is spent. A request that was
        # setting something aside when the process died is on no spool: its reservation runs out with its lease.
        await until(lambda: _spent_nanousd(victim)[0] == _charged_nanousd(cluster.whole), 20)
        interrupted = [row for row in books.of(cluster.whole).rows.values() if row.code == "interrupted"]
        unknown = len(heard.refused) + len(heard.broken) - len(interrupted)
        assert _spent_nanousd(victim)[1] <= unknown * LEAST_NANOUSD
        for replica in cluster.replicas:
            await replica.terminate()
        books.check(cluster.whole, load)
        assert _charged_nanousd(cluster.whole) >= len(heard.answered) * COST_NANOUSD


def _spent_nanousd(replica: Rig) -> tuple[int, int]:
    """And set aside: as Valkey has it."""
    (standing,) = replica.get("/api/v1/credits/balance").json()["budgets"]
    return round(standing["spent_usd"] * NANO_PER_USD), round(standing["reserved_usd"] * NANO_PER_USD)


def _charged_nanousd(whole: Rig) -> int:
    """As the ledger has it."""
    return -sum(amount for entries in books.of(whole).entries.values() for _, amount in entries)


async def test_three_replicas_share_a_dollar_and_what_they_know_of_a_provider(tmp_path: Path) -> None:
    async with balanced(tmp_path) as cluster:
        await _a_circuit_that_one_opens_is_open_for_all(cluster)
        await _500_at_once_spend_a_dollar_and_at_most_one_reservation(cluster)


async def _a_circuit_that_one_opens_is_open_for_all(cluster: Balanced) -> None:
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


async def _500_at_once_spend_a_dollar_and_at_most_one_reservation(cluster: Balanced) -> None:
    tokens = 5000
    cluster.provider.set_script(Script(defaults=Settings(text=ANSWER, usage=Usage(input=5, output=tokens))))
    cost = 5 * 1000 + tokens * 2000
    raw_key = key(cluster.whole.database, budgets=(Budget("total", NANO_PER_USD),))
    before = cluster.provider.journal.total
    limits = httpx.Limits(max_connections=500)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{cluster.door}",
        headers={"authorization": f"Bearer {raw_key}"},
        timeout=60,
        trust_env=False,
        limits=limits,
    ) as client:
        body = asked(MODEL, stream=False, max_tokens=tokens)
        answers = await asyncio.gather(*(client.post("/api/v1/chat", json=body) for _ in range(500)))
        statuses = Counter(answer.status_code for answer in answers)
        assert {*statuses} == {200, 402}, [a.text for a in answers if a.status_code not in (200, 402)][:3]
        spent = statuses[200] * cost
        assert NANO_PER_USD // 5 < spent < NANO_PER_USD + 2 * cost
        assert cluster.provider.journal.total - before == statuses[200]
        (standing,) = (await client.get("/api/v1/credits/balance")).json()["budgets"]
        assert (round(standing["spent_usd"] * NANO_PER_USD), standing["reserved_usd"]) == (spent, 0)
