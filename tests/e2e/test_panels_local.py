"""Compare, blend and judge with a real model in the panel: the local one beside scripted ones."""

import json
from pathlib import Path

import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import environment, events_of, play, running, settings

pytest_plugins = ["e2e.local_fixtures"]
pytestmark = pytest.mark.timeout(120)

QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
VERDICT = {
    "scores": [{"answer": label, "reasoning": "Fine.", "score": score} for label, score in (("A", 8), ("B", 5))],
    "overall": "Both are fine.",
}


def test_the_local_model_is_compared_blended_and_judged(
    tmp_path: Path, mock: ScriptedServer, local_model_path: Path
) -> None:
    tree = settings(mock.url, ["gpt-5.2", "gemini-3-flash"])
    tree["providers"]["local"] = {"kind": "local"}
    tree["models"].append({"id": "local"})
    tree["blend"] = {"small": {"models": ["local", "gpt-5.2"], "synthesizer": "local"}}
    play(mock, models={"gpt-5.2": {"text": "Lyon."}, "gemini-3-flash-preview": {"text": json.dumps(VERDICT)}})
    pair, ask = ["local", "gpt-5.2"], {"messages": QUESTION, "max_tokens": 24, "temperature": 0}
    with running(tmp_path, tree, environ=environment()) as gateway, gateway.client() as client:
        client.timeout = 100
        compared = client.post("/api/v1/compare", json={"models": pair, "stream": False, **ask}).json()
        assert "Paris" in compared["responses"][0]["content"]
        for strategy in ("consensus", "chain"):
            body = {"models": pair[::-1], "synthesizer": "local", "strategy": strategy, "stream": False, **ask}
            blended = client.post("/api/v1/blend", json=body).json()
            assert blended["synthesizer"] == "local"
            assert blended["content"].strip()
        sampled = client.post("/api/v1/blend", json={"models": ["local"], "strategy": "self_moa", "samples": 2, **ask})
        assert events_of(sampled.content)[-1]["samples"] == 2
        contest = {"contestants": pair, "judge": "gemini-3-flash", "stream": False, **ask}
        judged = client.post("/api/v1/judge", json=contest).json()
        assert judged["verdict"]["winner"] in pair
        assert "Paris" in judged["contestants"][0]["content"]
        composed = client.post("/v1/chat/completions", json={"model": "blend:small", **ask}).json()
        assert composed["llmwise"]["model"] == "local"
