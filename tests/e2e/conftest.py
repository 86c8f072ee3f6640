"""One gateway and its providers for all tests of a file; each test begins with providers that answer normally."""

from collections.abc import Iterator

import httpx
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, play, running, scripted, settings


@pytest.fixture(scope="module")
def providers() -> Iterator[ScriptedServer]:
    """The mock behind `gateway`."""
    with scripted() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(providers: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The guide's four models; circuits that open seldom, so that one test's faults are not another's."""
    tree = settings(providers.url, breaker={"failures": 1000, "hard_down_s": 0.001})
    with running(tmp_path_factory.mktemp("gateway"), tree) as gateway:
        yield gateway


@pytest.fixture
def mock(providers: ScriptedServer) -> ScriptedServer:
    """`providers`, with nothing scripted and an empty journal."""
    play(providers)
    return providers


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    """With the administrator's key."""
    with gateway.client() as client:
        yield client
