"""The local provider without a model: what it sends, and what it says when it can't."""

import asyncio
import os
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from llmwise.domain.errors import UpstreamTimeout, UpstreamUnreachable
from llmwise.domain.messages import Message, Text
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Provider
from llmwise.domain.requests import ChatRequest, Passthrough
from llmwise.providers.local.provider import (
    SYSTEM_TEXT,
    LocalProvider,
    LocalSettings,
    with_system_text,
    without_secrets,
)
from llmwise.providers.local.weights import Download, Progress, Weights, WeightsError

HELLO = Message("user", (Text("Hello"),))
REQUEST = ChatRequest("local", (HELLO,))
CARD = ModelCard("smollm2-135m", "local", "SmolLM2-135M-Instruct")


def never(url: str, key: str) -> Provider:
    raise AssertionError("nothing is there to connect to")


def local(cache: Path, download: Download | None = None, **settings: Any) -> LocalProvider:
    return LocalProvider(
        "local",
        cache=cache,
        connect=never,
        environ=dict(os.environ),
        settings=LocalSettings(**settings),
        download=download,
    )


def play(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario

    asyncio.run(bounded())


def test_a_request_without_a_system_message_gets_one_and_loses_the_callers_body() -> None:
    request = ChatRequest("local", (HELLO,), passthrough=Passthrough("openai", {"messages": b"[]"}))
    sent = with_system_text(request)
    assert sent.messages == (Message("system", (Text(SYSTEM_TEXT),)), HELLO)
    assert sent.passthrough is None


def test_the_callers_own_system_message_stays_alone() -> None:
    messages = (HELLO, Message("system", (Text("Be brief."),)))
    assert with_system_text(ChatRequest("local", messages)).messages == messages


def test_children_see_no_keys() -> None:
    environ = {"PATH": "/bin", "OPENAI_API_KEY": "x", "github_token": "x", "DB_PASSWORD": "x", "LANG": "C"}
    assert without_secrets(environ) == {"PATH": "/bin", "LANG": "C"}


def test_without_the_optional_dependency_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    async def scenario() -> None:
        provider = local(tmp_path)
        await provider.run()
        assert provider.state == "failed"
        with pytest.raises(UpstreamUnreachable, match=r"pip install 'llmwise\[local\]'"):
            await provider.send(REQUEST, CARD)
        await provider.aclose()

    play(scenario())


def test_without_the_weights_a_request_fails_with_the_reason_and_they_are_tried_again(tmp_path: Path) -> None:
    again = asyncio.Event()
    attempts = 0

    async def download(weights: Weights, directory: Path, progress: Progress) -> Path:
        nonlocal attempts
        attempts += 1
        if attempts == 2:
            again.set()
        raise WeightsError("there is no network")

    async def scenario() -> None:
        provider = local(tmp_path, download, retry_s=0.01)
        life = asyncio.create_task(provider.run())
        with pytest.raises(UpstreamUnreachable, match="there is no network") as caught:
            await provider.send(REQUEST, CARD)
        assert caught.value.provider == "local"
        await again.wait()
        life.cancel()
        await asyncio.wait([life])

    play(scenario())


def test_a_request_during_the_download_is_told_how_far_it_is(tmp_path: Path) -> None:
    async def download(weights: Weights, directory: Path, progress: Progress) -> Path:
        progress("downloading", 43_000_000, 93_000_000)
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def scenario() -> None:
        provider = local(tmp_path, download, start_timeout_s=0.3)
        life = asyncio.create_task(provider.run())
        with pytest.raises(UpstreamTimeout, match="still downloading its weights, 43 of 93 MB") as caught:
            await provider.send(REQUEST, CARD)
        assert caught.value.reason == "connect"
        assert provider.fetching == ("downloading", 43_000_000, 93_000_000)
        life.cancel()
        await asyncio.wait([life])

    play(scenario())
