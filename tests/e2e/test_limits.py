"""Rate limits, as a caller meets them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, asked, play, running, settings, wait_for

CHAT, COMPLETIONS = "/api/v1/chat", "/v1/chat/completions"
PER_MINUTE = 4


@pytest.fixture
def limited(providers: ScriptedServer, tmp_path: Path) -> Iterator[Gateway]:
    """Four chats a minute, begun early enough in a minute that the tests end in the same one."""
    play(providers)
    limits = {"chat": PER_MINUTE, "other": 1_000_000, "burst": 1_000_000}
    with running(tmp_path, settings(providers.url, limits=limits)) as gateway, gateway.client() as client:

        def left_s() -> int:
            return int(client.get("/api/v1/models").headers["x-ratelimit-reset"])

        wait_for(lambda: left_s() > 8, 12, lambda: "no new window")
        yield gateway


def chat(client: httpx.Client, path: str = CHAT) -> httpx.Response:
    return client.post(path, json=asked(model="gpt-5.2", stream=False))


def test_the_headers_count_down_and_then_the_limit_is_said(limited: Gateway, providers: ScriptedServer) -> None:
    with limited.client() as client:
        admitted = [chat(client) for _ in range(PER_MINUTE)]
        refused = chat(client)
    assert [answer.status_code for answer in admitted] == [200] * PER_MINUTE
    assert [answer.headers["x-ratelimit-remaining"] for answer in admitted] == ["3", "2", "1", "0"]
    told = refused.json()
    assert (refused.status_code, told["code"]) == (429, "rate_limited")
    assert "more than 4 chat requests in 60 s" in told["error"]
    assert refused.headers["retry-after"] == refused.headers["x-ratelimit-reset"] == str(told["retry_after_s"])
    assert 1 <= told["retry_after_s"] <= 60
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("4", "0")
    assert refused.headers["x-request-id"] == told["request_id"]
    assert len(providers.requests) == PER_MINUTE


def test_both_dialects_share_a_key_s_limit_and_other_work_and_other_keys_do_not(limited: Gateway) -> None:
    with limited.client() as client:
        statuses = [chat(client, path).status_code for path in (CHAT, COMPLETIONS) * 2]
        assert statuses == [200] * PER_MINUTE
        refused = chat(client, COMPLETIONS)
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert refused.json()["error"]["code"] == "rate_limited"
        assert client.get("/api/v1/models").status_code == 200
        other = client.post("/api/v1/keys/generate", json={"name": "other"}).json()["key"]
    with limited.client(other) as client:
        assert chat(client).status_code == 200


def test_a_refused_request_is_neither_answered_nor_recorded(limited: Gateway, providers: ScriptedServer) -> None:
    with limited.client() as client:
        for _ in range(PER_MINUTE + 3):
            chat(client)
        assert client.get("/api/v1/history").json()["total"] == PER_MINUTE
    assert len(providers.requests) == PER_MINUTE


def test_a_burst_is_stopped_before_the_minute_s_limit(providers: ScriptedServer, tmp_path: Path) -> None:
    play(providers)
    tree = settings(providers.url, limits={"chat": 1000, "other": 1000, "burst": 5})
    with running(tmp_path, tree) as gateway, gateway.client() as client:
        answers: list[httpx.Response] = []
        while not answers or answers[-1].status_code == 200:  # ten seconds' windows: the first may end amid it
            assert len(answers) <= 10
            answers.append(client.get("/api/v1/models"))
    assert len(answers) > 5
    assert answers[-1].status_code == 429
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
    assert "5 requests in 10 s" in answers[-1].json()["error"]


def test_limits_can_be_switched_off(providers: ScriptedServer, tmp_path: Path) -> None:
    play(providers)
    tree = settings(providers.url, limits={"enabled": False, "chat": 1, "burst": 1})
    with running(tmp_path, tree) as gateway, gateway.client() as client:
        assert {chat(client).status_code for _ in range(5)} == {200}
