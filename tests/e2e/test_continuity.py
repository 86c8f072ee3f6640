"""Tool loops over several turns: a model's thinking comes back to it, whatever its caller's format can carry, and the
loop stays with the model that began it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from llmwise.providers.gemini.contents import ANY_SIGNATURE
from llmwise.providers.scripted.answers import SIGNATURE
from llmwise.providers.scripted.server import ScriptedServer

from .gateway import SENT, Gateway, play, running, scripted, settings

CLAUDE, GEMINI, GPT = "claude-sonnet-4.5", "gemini-3-flash", "gpt-5.2"
QUESTION = {"role": "user", "content": "What is the weather in Oslo?"}
FUNCTION = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]
THINKS = {"reasoning": "Oslo is in Norway.", "tool_calls": 2}


@pytest.fixture
def official(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


def begun(official: openai.OpenAI, mock: ScriptedServer, model: str, *, stream: bool = False, **fields: Any) -> Any:
    """The first turn: its question and the calls that answer it, as this client sends them back."""
    play(mock, defaults=THINKS)
    asked: Any = {"model": model, "messages": [QUESTION], "tools": TOOLS, "reasoning_effort": "medium", **fields}
    if stream:
        calls: dict[int, Any] = {}
        for chunk in official.chat.completions.create(stream=True, **asked):
            for piece in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
                call = calls.setdefault(piece.index, {"id": piece.id, "name": piece.function.name, "arguments": ""})
                call["arguments"] += piece.function.arguments or ""
        told = [*calls.values()]
    else:
        answer = official.chat.completions.create(**asked)
        found: Any = answer.choices[0].message.tool_calls
        told = [{"id": c.id, "name": c.function.name, "arguments": c.function.arguments} for c in found]
    assert len(told) == 2
    made = [
        {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["arguments"] + " "}}
        for c in told
    ]
    results = [{"role": "tool", "tool_call_id": c["id"], "content": "rain"} for c in told]
    return [QUESTION, {"role": "assistant", "content": None, "tool_calls": made}, *results]


def went_on(official: openai.OpenAI, mock: ScriptedServer, model: str, messages: Any, **fields: Any) -> Any:
    """The next turn's answer, and the body that its provider got."""
    play(mock, defaults={"text": "It rains.", "tool_calls": 0})
    asked: Any = {"model": model, "messages": messages, "tools": TOOLS, "reasoning_effort": "medium", **fields}
    answer = official.chat.completions.create(**asked)
    (entry,) = mock.requests
    return answer, entry


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_claude_s_thinking_comes_back_through_a_format_that_has_no_place_for_it(
    official: openai.OpenAI, mock: ScriptedServer, stream: bool
) -> None:
    messages = begun(official, mock, CLAUDE, stream=stream)
    _, entry = went_on(official, mock, CLAUDE, messages)
    _, assistant, user = entry.json["messages"]
    assert assistant["content"][0] == {
        "type": "thinking",
        "thinking": "Oslo is in Norway.",
        "signature": SIGNATURE,
    }
    assert [block["type"] for block in assistant["content"][1:]] == ["tool_use", "tool_use"]
    assert [block["type"] for block in user["content"]] == ["tool_result", "tool_result"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_gemini_s_signature_comes_back_on_its_call(official: openai.OpenAI, mock: ScriptedServer, stream: bool) -> None:
    messages = begun(official, mock, GEMINI, stream=stream)
    assert len({message["tool_call_id"] for message in messages[2:]}) == 2
    _, entry = went_on(official, mock, GEMINI, messages)
    calls = [part for part in entry.json["contents"][1]["parts"] if "functionCall" in part]
    assert [call.get("thoughtSignature") for call in calls] == [SIGNATURE, None]


def test_deepseek_gets_the_thinking_that_it_asks_for(official: openai.OpenAI, mock: ScriptedServer) -> None:
    messages = begun(official, mock, "deepseek-v3")
    _, entry = went_on(official, mock, "deepseek-v3", messages)
    assert entry.json["messages"][1]["reasoning_content"] == "Oslo is in Norway."


def test_another_family_gets_no_stranger_s_thinking(official: openai.OpenAI, mock: ScriptedServer) -> None:
    messages = begun(official, mock, CLAUDE)
    for model in (GPT, GEMINI, "deepseek-v3"):
        _, entry = went_on(official, mock, model, messages)
        assert "Norway" not in str(entry.json)
        assert SIGNATURE not in str(entry.json)
        assert b'"thoughtSignature":null' not in bytes(entry.body or b""), "left out, and not null"
    _, entry = went_on(official, mock, GEMINI, messages)
    first, second = (part for part in entry.json["contents"][1]["parts"] if "functionCall" in part)
    assert (first["thoughtSignature"], second.get("thoughtSignature")) == (ANY_SIGNATURE, None)


@pytest.mark.parametrize("change", ["arguments", "question", "id"])
def test_a_turn_is_not_taken_for_another_one(official: openai.OpenAI, mock: ScriptedServer, change: str) -> None:
    messages = begun(official, mock, CLAUDE)
    for number, call in enumerate(messages[1]["tool_calls"]):
        if change == "arguments":
            call["function"]["arguments"] = '{"city": "Bergen"}'
        if change == "id":
            call["id"] = messages[2 + number]["tool_call_id"] = f"call_{number}"
    if change == "question":
        messages[0] = {"role": "user", "content": "And in Bergen?"}
    _, entry = went_on(official, mock, CLAUDE, messages)
    assert "Norway" not in str(entry.json)


def test_one_key_s_thinking_is_no_other_key_s(official: openai.OpenAI, mock: ScriptedServer, gateway: Gateway) -> None:
    messages = begun(official, mock, CLAUDE)
    with gateway.client() as admin:
        other = admin.post("/api/v1/keys/generate", json={"name": "other"}).json()["key"]
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=other, max_retries=0) as stranger:
        _, entry = went_on(stranger, mock, CLAUDE, messages)
    assert "Norway" not in str(entry.json)


@pytest.mark.parametrize("model", [CLAUDE, GEMINI, GPT, "deepseek-v3"])
def test_auto_stays_with_the_model_that_called_the_tools(
    official: openai.OpenAI, mock: ScriptedServer, gateway: Gateway, model: str
) -> None:
    messages = begun(official, mock, model)
    answer, _ = went_on(official, mock, "auto", messages)
    told = answer.llmwise
    assert told["route"][0]["model"] == model
    assert told["auto"]["reasons"][-1] == f"{model}: continues the tool loop."
    play(mock, {"model": SENT.get(model, model), "fault": "status", "status": 503})
    answer = official.chat.completions.create(model="auto", messages=messages, tools=TOOLS)
    assert [step["status"] for step in answer.llmwise["route"]] == ["failed", "success"], "unless it can't"  # type: ignore[attr-defined]
    done = [*messages, {"role": "assistant", "content": "It rains."}, {"role": "user", "content": "Thanks!"}]
    answer = official.chat.completions.create(model="auto", messages=done, tools=TOOLS)
    assert "continues" not in str(answer.llmwise["auto"]["reasons"])  # type: ignore[attr-defined]


def test_a_chain_begins_with_the_model_that_called_the_tools(official: openai.OpenAI, mock: ScriptedServer) -> None:
    messages = begun(official, mock, CLAUDE)
    chain = {"routing": {"fallback": [GEMINI, CLAUDE]}}
    answer, entry = went_on(official, mock, GPT, messages, extra_body=chain)
    assert answer.llmwise["route"][0]["model"] == CLAUDE
    assert "Norway" in str(entry.json)


def test_thinking_that_the_caller_sends_itself_tells_whose_loop_it_is(gateway: Gateway, mock: ScriptedServer) -> None:
    """A gateway that has forgotten the turn, after a restart say, still knows its family by the proofs."""
    called: Any = [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Oslo"}},
    ]
    messages: Any = [
        QUESTION,
        {"role": "assistant", "content": called},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}]},
    ]
    tool: Any = {"name": "weather", "input_schema": {"type": "object"}}
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
        answer: Any = client.messages.create(model="auto", max_tokens=100, messages=messages, tools=[tool])
    assert answer.llmwise["auto"]["reasons"][-1] == f"{CLAUDE}: continues the tool loop."
    (entry,) = mock.requests
    assert entry.json["messages"] == messages, "as they came"


def test_nothing_is_kept_when_it_is_switched_off(tmp_path: Path) -> None:
    with (
        scripted() as mock,
        running(tmp_path, settings(mock.url, continuity={"enabled": False})) as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client,
    ):
        messages = begun(client, mock, CLAUDE)
        _, entry = went_on(client, mock, CLAUDE, messages)
    assert "Norway" not in str(entry.json)
