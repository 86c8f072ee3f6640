"""The real model in its real child process: it answers, comes back when killed, and never outlives the gateway."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeAlias

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from llmwise.catalog import cost, load
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import AttemptEvent, Finished, Started, TextDelta, UsageReport
from llmwise.domain.messages import Message, Text
from llmwise.domain.ports import Exchange
from llmwise.domain.requests import ChatRequest, ResponseFormat, Sampling
from llmwise.providers.local.provider import Connect, LocalProvider

pytest_plugins = ["e2e.local_fixtures"]

Serve: TypeAlias = Callable[[], AbstractAsyncContextManager[LocalProvider]]

CARD = load(providers={"local": "local"}, unix_ms=0).resolve("local")
CAPITAL = ChatRequest(
    "local",
    (Message("user", (Text("What is the capital of France?"),)),),
    stream=True,
    sampling=Sampling(temperature=0.0, max_tokens=24),
)
STOP_S = 2.0


def play(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(50):
            await scenario

    asyncio.run(bounded())


async def ask(provider: LocalProvider, request: ChatRequest = CAPITAL) -> list[AttemptEvent]:
    exchange = await provider.send(request, CARD)
    events: list[AttemptEvent] = []
    while batch := await exchange.receive():
        events += batch
    return events


async def rest(exchange: Exchange) -> None:
    while await exchange.receive():
        pass


def text(events: list[AttemptEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def ended(pid: int, within_s: float) -> bool:
    """Whether the process is gone in time. One that nobody has collected yet is gone too."""
    deadline = monotonic() + within_s
    while monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        sleep(0.01)
    return False


async def until(condition: Callable[[], bool]) -> None:
    """Another process makes it true; the scenario's deadline is the limit."""
    while not condition():  # noqa: ASYNC110  # nothing of ours is told
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_comes_with_its_tokens_and_costs_nothing(serve_local: Serve, stream: bool) -> None:
    async def scenario() -> None:
        async with serve_local() as provider:
            whole = ChatRequest("local", CAPITAL.messages, stream=stream, sampling=CAPITAL.sampling)
            events = await ask(provider, whole)
        assert "Paris" in text(events)
        usage = [event.usage for event in events if isinstance(event, UsageReport)][-1]
        assert usage.prompt > 20  # the system text is in it
        assert usage.output > 0
        assert cost(usage, CARD.rate) == 0
        assert [event.reason for event in events if isinstance(event, Finished)] == ["stop"]
        assert [event.model for event in events if isinstance(event, Started)] == [CARD.upstream]
        assert len([event for event in events if isinstance(event, TextDelta)]) > 1 or not stream

    play(scenario())


def test_a_schema_is_kept_to(serve_local: Serve) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Rome", "Paris"]}},
        "required": ["city"],
        "additionalProperties": False,
    }
    request = ChatRequest(
        "local",
        CAPITAL.messages,
        sampling=CAPITAL.sampling,
        response_format=ResponseFormat("json_schema", schema, name="answer", strict=True),
    )

    async def scenario() -> None:
        async with serve_local() as provider:
            assert json.loads(text(await ask(provider, request)))["city"] in ("Rome", "Paris")

    play(scenario())


def test_more_requests_than_slots_are_all_answered(serve_local: Serve) -> None:
    async def scenario() -> None:
        async with serve_local() as provider:
            answers = await asyncio.gather(*(ask(provider) for _ in range(6)))
        assert all(text(answer) for answer in answers)

    play(scenario())


def test_a_prompt_longer_than_its_slot_is_refused_and_not_cut(serve_local: Serve) -> None:
    long = ChatRequest("local", (Message("user", (Text("word " * (CARD.context_window + 100)),)),), stream=True)

    async def scenario() -> None:
        async with serve_local() as provider:
            with pytest.raises(GatewayError) as caught:
                await ask(provider, long)
            assert caught.value.code == "context_length_exceeded"
            assert text(await ask(provider))

    play(scenario())


def test_a_killed_model_is_started_again_and_answers(serve_local: Serve) -> None:
    async def scenario() -> None:
        async with serve_local() as provider:
            assert text(await ask(provider))
            first = provider.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            await until(lambda: provider.pid != first)
            assert "Paris" in text(await ask(provider))
            assert provider.pid not in (None, first)

    play(scenario())


def test_the_port_answers_to_nobody_else(serve_local: Serve, local_connect: Connect) -> None:
    async def scenario() -> None:
        async with serve_local() as provider:
            await ask(provider)
            assert provider.pid is not None
            (port,) = {c.laddr.port for c in psutil.Process(provider.pid).net_connections() if c.status == "LISTEN"}
            stranger = local_connect(f"http://127.0.0.1:{port}/v1", "guessed")
            with pytest.raises(GatewayError) as caught:
                await stranger.send(CAPITAL, CARD)
            assert caught.value.upstream_status == 401
            await stranger.aclose()

    play(scenario())


def test_the_model_ends_with_the_gateway(serve_local: Serve) -> None:
    async def scenario() -> None:
        async with serve_local() as provider:
            await ask(provider)
            pid = provider.pid
            assert pid is not None
            began = monotonic()
        assert ended(pid, within_s=STOP_S - (monotonic() - began))

    play(scenario())


def test_sigterm_ends_the_model_even_while_it_answers(serve_local: Serve) -> None:
    async def scenario() -> None:
        async with serve_local() as provider:
            exchange = await provider.send(
                ChatRequest("local", CAPITAL.messages, stream=True, sampling=Sampling(max_tokens=1000)), CARD
            )
            await exchange.receive()
            assert provider.pid is not None
            pid = provider.pid
            os.kill(pid, signal.SIGTERM)
            assert await asyncio.to_thread(ended, pid, STOP_S)
            with pytest.raises(GatewayError):
                await rest(exchange)

    play(scenario())


PARENT = """
import asyncio, sys
from pathlib import Path
from local_fixtures import serving
from test_local_model import ask

async def main():
    async with serving(Path(sys.argv[1])) as provider:
        await ask(provider)
        print(provider.pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def test_the_model_dies_with_a_gateway_that_is_killed(local_model_cache: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", PARENT, str(local_model_cache)]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            pid = int(parent.stdout.readline())
            assert psutil.pid_exists(pid)
        finally:
            parent.kill()
    assert ended(pid, within_s=STOP_S)
