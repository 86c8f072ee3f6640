"""The clients that are published, unchanged, against a running gateway: PyPI's and npm's `llmwise` 0.1.2."""

import os
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import GUIDE_MODELS, Gateway, play
from .published import clients

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("published")]  # the first run installs

Smoke: TypeAlias = Callable[..., dict[str, Any]]

TEXT = 'Grüße,\nC:\\new \\n "quoted"\u2028next\u0085line 🦉'
DOWN = {"model": "gpt-5.2", "fault": "status", "status": 503}

OBJECTS = {
    "conversations": {"total", "items"},
    "history": {"total", "items"},
    "memory_list": {"total", "items", "zero_retention"},
    "memory_search": {"results", "zero_retention"},
    "settings_keys": {"keys"},
    "settings_privacy": {"data_training_opt_in", "zero_retention_mode"},
    "settings_copilot_state": {"goal", "onboarded", "checklist"},
}
"""What the answers to some of the read-only calls must have."""


@pytest.fixture(scope="module", params=["python", "node"])
def smoke(request: pytest.FixtureRequest) -> Smoke:
    """`clients.python_smoke` or `clients.node_smoke`; skips where the client can't be had, unless CI says otherwise."""
    install, run = {
        "python": (clients.python, clients.python_smoke),
        "node": (clients.node_modules, clients.node_smoke),
    }[request.param]
    try:
        install()
    except clients.NotInstallable as error:
        if os.environ.get("LLMWISE_TESTS_REQUIRE_PUBLISHED"):
            raise
        pytest.skip(str(error))
    return run


@pytest.fixture(scope="module")
def found(smoke: Smoke, gateway: Gateway, providers: ScriptedServer) -> dict[str, Any]:
    """What the client brought back: once, for all tests of it. The chain's first model is down."""
    play(providers, DOWN, defaults={"text": TEXT})
    return smoke(gateway.url, gateway.key, "--model", "deepseek-v3")


def test_a_published_client_chats(found: dict[str, Any]) -> None:
    assert found["client"] in {"python 0.1.2", "node 0.1.2"}
    chat = found["chat"]
    assert (chat["content"], chat["model"], chat["mode"]) == (TEXT, "deepseek-v3", "chat")
    if "async" in found:
        assert found["async"] == {"chat": TEXT, "chat_stream": TEXT}


def test_a_published_client_streams(found: dict[str, Any]) -> None:
    plain = found["chat_stream"]
    assert plain["text"] == TEXT
    assert set(plain["events"]) == {"chunk", "done"}
    assert plain["last_chunk"]["finish_reason"] == "stop"
    assert plain["done"]["resolved_model"] == "deepseek-v3"


def test_a_published_client_streams_through_a_failover(found: dict[str, Any]) -> None:
    routed = found["routed_stream"]
    assert routed["text"] == TEXT
    assert routed["routes"] == [
        ["gpt-5.2", "trying"],
        ["gpt-5.2", "failed"],
        ["claude-sonnet-4.5", "trying"],
        ["claude-sonnet-4.5", "success"],
    ]
    assert routed["trace"]["final_model"] == "claude-sonnet-4.5"
    assert routed["done"]["resolved_model"] == "claude-sonnet-4.5"


def test_a_published_client_reads_models_history_usage_and_keys(found: dict[str, Any]) -> None:
    reads = found["reads"]
    refused = {name: shape for name, shape in reads.items() if isinstance(shape, dict)}
    assert refused == {}, "the read-only set passes in full"
    for name, keys in OBJECTS.items():
        head, *rest = name.split("_")
        camel = head + "".join(word.capitalize() for word in rest)
        short = camel.removesuffix("List").removesuffix("State")
        said = next(shape for called, shape in reads.items() if called in (name, camel, short))
        assert {*said} >= keys, name
    assert reads["models"] == len(GUIDE_MODELS)
    assert found["history_total"] >= 3
    assert found["usage_recent"] >= 3


def test_a_published_client_makes_names_reads_and_deletes_a_conversation(found: dict[str, Any]) -> None:
    made = found["conversation"]
    assert made["title"] == "smoke"
    assert "deleted" in made["deleted"]


def test_a_stranger_is_refused_in_words(found: dict[str, Any]) -> None:
    assert found["refusal"]["status"] == 401
    assert "no valid API key" in found["refusal"]["message"]
