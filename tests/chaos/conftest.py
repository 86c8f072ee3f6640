"""Two gateways on the same two scripted servers: a patient one, and one whose time-outs run out quickly."""

from collections.abc import AsyncIterator

import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateways import HASTY, PATIENT, Served, serving


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that `llmwise serve` runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def servers(anyio_backend: object) -> AsyncIterator[list[ScriptedServer]]:
    async with ScriptedServer() as first, ScriptedServer() as second:
        yield [first, second]


@pytest.fixture(scope="module")
async def patient(servers: list[ScriptedServer], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(tmp_path_factory.mktemp("patient"), servers, PATIENT) as served:
        yield served


@pytest.fixture(scope="module")
async def hasty(servers: list[ScriptedServer], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(tmp_path_factory.mktemp("hasty"), servers, HASTY) as served:
        yield served
