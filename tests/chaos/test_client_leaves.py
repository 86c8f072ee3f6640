"""A caller that leaves, at any moment: the provider is told at once, the record says so, and no circuit moves."""

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.journal import Entry
from llmwise.providers.scripted.script import AnyRule, Script, Settings
from llmwise.providers.scripted.server import ScriptedServer

from .gateways import ANSWER, DIALECTS, PATIENT, Served, asked, serving, until

pytestmark = pytest.mark.anyio

WITHIN_S = 0.1
"""From the caller's leaving to the upstream's; the middle one of the formats counts, for the sake of busy machines."""
AT_WORST_S = 2.0


class Moment(Struct, frozen=True):
    """When the caller leaves: what the provider does, whether the answer streams, and what the caller waits to read."""

    name: str
    rule: AnyRule
    stream: bool
    reads: bytes = b""


MOMENTS = [
    Moment("before the headers", faults.Hang(), stream=True),
    Moment("before the first event", faults.HangFirstEvent(), stream=True),
    Moment("before the first content", faults.Stall(after=0), stream=True),
    Moment("after the first content", faults.Stall(after=2), stream=True, reads=b"two"),
    Moment("amid a running stream", faults.Normal(tokens_per_second=50, tokens=5000), stream=True, reads=b"two"),
    Moment("before a whole answer", faults.Hang(), stream=False),
    Moment("amid a whole answer", faults.Stall(), stream=False),
]

every_moment = pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.name.replace(" ", "-"))


@asynccontextmanager
async def calling(served: Served, path: str, body: dict[str, Any]) -> AsyncIterator[tuple[Any, asyncio.StreamWriter]]:
    """A bare connection with the request sent: no client library that would be polite on leaving."""
    host, port = served.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {served.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_until(reader: asyncio.StreamReader, wanted: bytes) -> bytes:
    got = b""
    while wanted not in got:
        piece = await reader.read(65536)
        assert piece, got
        got += piece
    return got


def entry_of(served: Served, model: str) -> Entry | None:
    return next((entry for entry in served.servers[0].requests if entry.model == model), None)


async def leave(served: Served, path: str, dialect: str, moment: Moment, *, chain: bool, politely: bool) -> float:
    """Ask, leave at the moment, and say how long the provider went on working for nobody, in seconds."""
    model = f"{dialect}-1"
    fallback = [f"{dialect}-2"] if chain else []
    async with calling(served, path, asked(model, *fallback, stream=moment.stream)) as (reader, writer):
        await until(lambda: entry_of(served, model) is not None)
        if moment.reads:
            await read_until(reader, moment.reads)
        else:
            await asyncio.sleep(0.02)  # so that what the provider does say has come through
        entry = entry_of(served, model)
        assert entry is not None
        assert not entry.client_left
        left = time.monotonic()
        if politely:
            writer.close()
        else:
            writer.transport.abort()
        await until(lambda: entry.client_left)
        return time.monotonic() - left


@every_moment
@pytest.mark.parametrize("path", ["/api/v1/chat", "/v1/chat/completions"])
@pytest.mark.parametrize("chain", [True, False], ids=["chain", "plain"])
async def test_leaving_stops_the_provider_at_once_and_is_recorded_and_moves_no_circuit(
    moment: Moment, path: str, chain: bool, patient: Served
) -> None:
    patient.play(moment.rule, settings=Settings(text=ANSWER))
    before = (await patient.client.get("/api/v1/history")).json()["total"]
    took = [
        await leave(patient, path, dialect, moment, chain=chain, politely=index % 2 == 0)
        for index, dialect in enumerate(DIALECTS)
    ]
    assert statistics.median(took) < WITHIN_S, took
    assert max(took) < AT_WORST_S, took
    await until(lambda: patient.in_flight == 0)
    history = await patient.client.get("/api/v1/history", params={"limit": 3})
    assert history.json()["total"] == before + len(DIALECTS)
    for item, dialect in zip(history.json()["items"], reversed(DIALECTS), strict=True):
        assert (item["requested_model"], item["status_code"], item["code"]) == (f"{dialect}-1", 499, "client_gone")
        detail = await patient.settled_request(item["id"])
        assert [(one["outcome"], one["paid_by"]) for one in detail["attempt_list"]] == [("client_gone", "caller")]
        assert detail["usage_estimated"]
    for dialect in DIALECTS:
        assert patient.reached(dialect) == (1, 0), "nobody is asked on behalf of a caller that has left"
        assert patient.services.state.breaker(f"{dialect}-1").failures == 0
    assert not patient.services.state.health()


async def test_a_caller_that_leaves_before_its_body_is_there_reaches_no_provider_and_leaves_no_record(
    patient: Served,
) -> None:
    patient.play()
    before = (await patient.client.get("/api/v1/history")).json()["total"]
    host, port = patient.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /api/v1/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {patient.key}\r\n"
        f'content-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"model": "open'
    )
    writer.write(head.encode())
    await until(lambda: patient.in_flight == 1)
    writer.transport.abort()
    await until(lambda: patient.in_flight == 0)
    assert patient.reached("openai") == (0, 0)
    assert (await patient.client.get("/api/v1/history")).json()["total"] == before


async def test_a_caller_that_leaves_while_a_first_target_fails_asks_no_second_one(patient: Served) -> None:
    """Gone during the first attempt: its failure, when it comes, moves on to nobody."""
    patient.play(faults.Status(model="*-1", status=500, latency_ms=80))
    async with calling(patient, "/api/v1/chat", asked("openai-1", "openai-2")):
        await until(lambda: entry_of(patient, "openai-1") is not None)
    await until(lambda: patient.in_flight == 0)
    assert patient.reached("openai") == (1, 0)
    assert (await patient.settled())[0]["code"] == "client_gone"


async def test_a_probe_whose_caller_leaves_lets_the_next_one_probe(patient: Served) -> None:
    patient.play(faults.Stall(model="*-1", after=2, nth=1))
    state = patient.state
    for _ in range(state.settings.failures):
        state.report("openai-1", "failure")
    state._breakers["openai-1"] = replace(state._breakers["openai-1"], until=0.0)  # the pause is over
    async with calling(patient, "/api/v1/chat", asked("openai-1", "openai-2")) as (reader, _):
        await read_until(reader, b"two")
        assert state.breaker("openai-1").phase == "half_open"
    await until(lambda: patient.in_flight == 0)
    response = await patient.client.post("/api/v1/chat", json=asked("openai-1", "openai-2", stream=False))
    assert response.json()["model"] == "openai-1"
    assert state.breaker("openai-1").phase == "closed"


async def test_a_caller_that_stops_reading_is_taken_for_gone(tmp_path: Path) -> None:
    script = Script(defaults=Settings(text="word " * 300_000))
    async with ScriptedServer(script) as server, serving(tmp_path, [server], PATIENT, write_s=0.3) as served:
        body = msgspec.json.encode(asked("openai-1", stream=True))
        head = (
            f"POST /api/v1/chat HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {served.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
        try:
            writer.write(head.encode() + body)
            await reader.readexactly(15)  # it has begun; and now nothing more is read
            await until(lambda: server.in_flight == 0 and served.in_flight == 0)
            assert [record["code"] for record in await served.settled()] == ["client_gone"]
        finally:
            writer.close()
