"""Strict: what a model can't take is refused, or goes to one that can, and is never left out."""

from typing import Any

import anthropic
import httpx
import openai
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import SENT, Gateway, asked, llmwise

GPT, CLAUDE, GEMINI = "gpt-5.2", "claude-sonnet-4.5", "gemini-3-flash"
STRICT = {"x-llmwise-strict": "true"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("path", ["/api/v1/chat", "/v1/chat/completions"])
def test_what_is_dropped_with_a_warning_is_refused_when_strict(
    client: httpx.Client, mock: ScriptedServer, path: str, stream: bool
) -> None:
    body = asked(model=CLAUDE, seed=7, stream=stream)
    assert client.post(path, json=body).status_code == 200
    refused = client.post(path, json=body, headers=STRICT)
    assert refused.status_code == 400
    assert "unsupported_input" in refused.text
    assert f"{CLAUDE} can't take seed: the API has none" in refused.text
    assert len(mock.requests) == 1


def test_a_chain_moves_on_to_a_model_that_can(client: httpx.Client, mock: ScriptedServer) -> None:
    body = asked(model=CLAUDE, seed=7, routing={"fallback": [GEMINI]}, stream=False)
    answer = client.post("/api/v1/chat", json=body, headers=STRICT).json()
    assert [(step["model"], step["status"]) for step in answer["trace"]] == [(CLAUDE, "failed"), (GEMINI, "success")]
    assert "warnings" not in answer or not answer["warnings"]
    (entry,) = mock.requests
    assert entry.json["generationConfig"]["seed"] == 7


def test_the_anthropic_client_gets_its_own_kind_of_refusal(gateway: Gateway, mock: ScriptedServer) -> None:
    fields: Any = {"max_tokens": 100, "messages": [{"role": "user", "content": "?"}], "extra_headers": STRICT}
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as official:
        with pytest.raises(anthropic.BadRequestError, match="can't take container"):
            official.messages.create(model=GPT, container="c1", **fields)
        answer = official.messages.create(model=CLAUDE, container="c1", **fields)
    assert answer.content
    (entry,) = mock.requests
    assert (entry.model, entry.json["container"]) == (SENT[CLAUDE], "c1")


def test_a_key_can_be_strict_and_a_request_of_it_lenient(gateway: Gateway, mock: ScriptedServer) -> None:
    made = llmwise("keys", "create", "--config", str(gateway.config), "--name", "careful", "--strict")
    key = made.stdout.strip()
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as official:
        fields: Any = {"model": CLAUDE, "seed": 7, "messages": [{"role": "user", "content": "?"}]}
        with pytest.raises(openai.BadRequestError, match="can't take seed"):
            official.chat.completions.create(**fields)
        lenient: Any = official.chat.completions.create(extra_headers={"x-llmwise-strict": "false"}, **fields)
    assert [warning["field"] for warning in lenient.llmwise["warnings"]] == ["seed"]


def test_a_word_that_is_neither_true_nor_false_is_told(client: httpx.Client, mock: ScriptedServer) -> None:
    refused = client.post("/api/v1/chat", json=asked(model=GPT), headers={"x-llmwise-strict": "yes"})
    assert refused.status_code == 400
    assert refused.json()["param"] == "x-llmwise-strict"
    assert mock.requests == []


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
@pytest.mark.parametrize("path", ["/api/v1/chat", "/v1/chat/completions"])
def test_a_choice_that_forces_a_tool_needs_one(
    client: httpx.Client, mock: ScriptedServer, path: str, choice: Any
) -> None:
    refused = client.post(path, json=asked(model=GPT, tool_choice=choice, stream=False))
    assert refused.status_code == 400
    assert "tool_choice: forces a tool, and there are no tools" in refused.text
    other = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
    told = client.post(path, json=asked(model=GPT, tool_choice=choice, tools=[other], stream=False))
    assert told.status_code == (200 if choice == "required" else 400)
    assert client.post(path, json=asked(model=GPT, tool_choice="none", stream=False)).status_code == 200
