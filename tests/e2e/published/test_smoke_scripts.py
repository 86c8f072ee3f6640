"""The smoke scripts themselves, with the real published clients against a gateway that isn't one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from . import clients, fake_gateway
from .fake_gateway import KEY, TEXT, FakeGateway

pytestmark = pytest.mark.timeout(300)  # the first run installs


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway.running() as gateway:
        yield gateway


@pytest.fixture(params=["python", "node"])
def smoke(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    """`clients.python_smoke` or `clients.node_smoke`.

    Skips where the client can't be had, unless LLMWISE_TESTS_REQUIRE_PUBLISHED is set, which is for CI.
    """
    install, run = {
        "python": (clients.python, clients.python_smoke),
        "node": (clients.node_modules, clients.node_smoke),
    }[request.param]
    try:
        install()
    except clients.NotInstallable as exc:
        if os.environ.get("LLMWISE_TESTS_REQUIRE_PUBLISHED"):
            raise
        pytest.skip(str(exc))
    return run


def test_a_published_client_gets_everything_it_asks_for(
    smoke: Callable[..., dict[str, Any]], gateway: FakeGateway
) -> None:
    found = smoke(gateway.url, KEY, "--model", "m", "--primary", "broken", "--fallback", "broken,spare,unused")
    assert found["client"] in {"python 0.1.2", "node 0.1.2"}
    assert found["chat"]["content"] == TEXT
    plain, routed = found["chat_stream"], found["routed_stream"]
    assert (plain["text"], routed["text"]) == (TEXT, TEXT)
    assert plain["last_chunk"]["ttft_ms"] == 4
    assert routed["routes"][-2:] == [["spare", "trying"], ["spare", "success"]]
    assert routed["trace"]["final_model"] == "spare"
    assert plain["done"]["credits_remaining"] == 99
    assert found["conversation"]["title"] == "smoke"
    assert found["usage_recent"] == found["history_total"] >= 3
    assert found["refusal"]["status"] == 401
    assert found["refusal"]["message"] == "no valid API key"
    assert len(found["reads"]) == 23
    assert all(isinstance(shape, int | list) for shape in found["reads"].values())


def test_a_client_that_only_reads_calls_no_model(smoke: Callable[..., dict[str, Any]], gateway: FakeGateway) -> None:
    found = smoke(gateway.url, KEY, "--read-only")
    assert len(found["reads"]) == 23
    assert gateway.answered == 0


def test_what_a_gateway_lacks_is_noted_and_not_fatal(
    smoke: Callable[..., dict[str, Any]], gateway: FakeGateway
) -> None:
    gateway.missing = {"/credits/wallet"}
    reads = smoke(gateway.url, KEY, "--read-only")["reads"]
    (refusal,) = [shape for shape in reads.values() if isinstance(shape, dict)]
    assert refusal["status"] == 404


def test_standard_framing_gives_the_typescript_client_nothing(gateway: FakeGateway) -> None:
    """Why `/compat` exists. When this fails the client has been mended, and `/compat` can go."""
    try:
        found = clients.node_smoke(gateway.url, KEY)
    except clients.NotInstallable as exc:
        pytest.skip(str(exc))
    assert found["plain"]["chat_stream"] == []
