"""Chains with a name, through every door."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from llmwise.client import LLMWise
from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, llmwise, play, running, settings, write_config

GPT, CLAUDE, GEMINI = "gpt-5.2", "claude-sonnet-4.5", "gemini-3-flash"
CHAINS: dict[str, Any] = {
    "fast": {"models": [GEMINI, GPT], "strategy": "rate-limit"},
    "everything": {"models": ["fast", CLAUDE]},
}
DOWN = {"model": "gemini-3-flash-preview", "fault": "status", "status": 503}
ASKED: Any = [{"role": "user", "content": "What is up?"}]


@pytest.fixture(scope="module")
def gateway(providers: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    tree = settings(providers.url, chains=CHAINS, breaker={"failures": 1000, "hard_down_s": 0.001})
    with running(tmp_path_factory.mktemp("gateway"), tree) as gateway:
        yield gateway


@pytest.mark.parametrize("fault", [[], [DOWN]], ids=["up", "down"])
def test_a_chain_is_a_model_in_every_dialect(gateway: Gateway, mock: ScriptedServer, fault: list[Any]) -> None:
    play(mock, *fault)
    steps = [(GEMINI, "failed"), (GPT, "success")] if fault else [(GEMINI, "success")]
    key: Any = gateway.key
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as official:
        answer: Any = official.chat.completions.create(model="fast", messages=ASKED)
        assert [(step["model"], step["status"]) for step in answer.llmwise["route"]] == steps
    with anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0) as official_too:
        said: Any = official_too.messages.create(model="Fast", max_tokens=100, messages=ASKED)
        assert [(step["model"], step["status"]) for step in said.llmwise["route"]] == steps
        counted = official_too.messages.with_raw_response.count_tokens(model="fast", messages=ASKED)
        assert counted.headers["x-llmwise-estimated"] == "true"
    with LLMWise(key, base_url=gateway.url) as client:
        assert client.chat(model="everything", messages=ASKED)["model"] == steps[-1][0]


def test_a_chain_is_listed_with_its_models(gateway: Gateway, mock: ScriptedServer) -> None:
    with gateway.client() as client:
        rows = {row["id"]: row for row in client.get("/api/v1/models").json()}
        assert rows["everything"]["chain"] == [GEMINI, GPT, CLAUDE]
        assert rows["fast"]["provider"] == "llmwise"
        assert rows[GPT]["chain"] is None
        ids = [row["id"] for row in client.get("/v1/models").json()["data"]]
        assert {"auto", "fast", "everything", GPT} <= set(ids)
        assert client.get("/v1/models/Fast").json()["id"] == "fast"
        version = {"anthropic-version": "2023-06-01"}
        assert "fast" in [row["id"] for row in client.get("/v1/models", headers=version).json()["data"]]


def test_a_chain_is_explained(gateway: Gateway, mock: ScriptedServer) -> None:
    with LLMWise(gateway.key, base_url=gateway.url) as client:
        told = client.explain(model="fast", messages=ASKED)
    assert [(row["model"], row["reason"]) for row in told["plan"]] == [
        (GEMINI, "chain fast (rate-limit)"),
        (GPT, "chain fast (rate-limit)"),
    ]
    assert told["reasons"] == [f"The chain fast was named: {GEMINI}, {GPT}, in the order of rate-limit."]
    shown = llmwise("explain", "What is up?", "-m", "fast", "--url", gateway.url, "--key", str(gateway.key))
    assert "The chain fast was named" in shown.stdout
    assert "gemini-3-flash -> gpt-5.2" in " ".join(llmwise("models", "--config", str(gateway.config)).stdout.split())


def test_a_name_that_is_nearly_a_chain_s_is_no_model(gateway: Gateway, mock: ScriptedServer) -> None:
    with gateway.client() as client:
        assert (
            client.post("/api/v1/chat", json={"model": "fats", "messages": ASKED}).json()["code"] == "model_not_found"
        )


def test_a_gateway_does_not_start_with_a_broken_chain(tmp_path: Path) -> None:
    tree = settings("http://127.0.0.1:9", chains={"fast": {"models": [GPT, "fast"]}})
    ended = llmwise("serve", "--port", "0", "--config", str(write_config(tmp_path / "llmwise.toml", tree)))
    assert ended.returncode != 0
    assert "chains.fast.models[1] = 'fast': goes in a circle: fast -> fast" in " ".join(ended.stderr.split())
