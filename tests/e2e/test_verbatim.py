"""The same format on both sides: what a provider says reaches the caller as it was said, and nothing is added to it but
the `llmwise` object."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import SENT, Gateway, play, running, scripted, settings

PATHS = {"gpt-5.2": "/v1/chat/completions", "claude-sonnet-4.5": "/v1/messages", "gpt-5-codex": "/v1/responses"}

TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}}}
TOOLS = {
    "gpt-5.2": [{"type": "function", "function": TOOL}],
    "claude-sonnet-4.5": [{"name": "weather", "input_schema": TOOL["parameters"]}],
    "gpt-5-codex": [{"type": "function", **TOOL}],
}
SAID: dict[str, dict[str, Any]] = {
    "text": {"text": 'Grüße,\nC:\\new "quoted"\u2028next 🦉'},
    "reasoning": {"text": "Oslo.", "reasoning": "Norway, then."},
    "tools": {"tool_calls": 2},
    "length": {"finish": "length"},
}


@pytest.fixture(scope="module")
def mock() -> Iterator[ScriptedServer]:
    with scripted() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(mock: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    tree = settings(mock.url, breaker={"failures": 1000})
    tree["providers"]["responder"] = {"kind": "responses", "base_url": f"{mock.url}/v1"}
    tree["models"].append({"id": "gpt-5-codex", "provider": "responder"})
    with running(tmp_path_factory.mktemp("verbatim"), tree) as gateway:
        yield gateway


def ask(url: str, model: str, key: str = "scripted", **fields: Any) -> httpx.Response:
    asked = [{"role": "user", "content": "Where?"}]
    question = {"input": asked} if url.endswith("/responses") else {"max_tokens": 100, "messages": asked}
    body = {"model": model, **question, **fields}
    headers = {"authorization": f"Bearer {key}", "x-api-key": key, "anthropic-version": "2023-06-01"}
    return httpx.post(url, json=body, headers=headers, timeout=20)


def frames(stream: str) -> list[Any]:
    return [json.loads(line[6:]) for line in stream.split("\n") if line.startswith("data: {")]


def alike(text: str) -> str:
    """Without what tells one answer of the scripted provider from the next: the number in its ids, and the time."""
    text = re.sub(r'"(id|item_id)": ?"(resp|msg|fc|rs)_[^"]*"', r'"\1":"n"', text)
    text = re.sub(r'scripted-[^"]*-\d+"', 'scripted-n"', re.sub(r"call_scripted_\d+_", "call_scripted_n_", text))
    return re.sub(r'"(created|created_at|completed_at)": ?\d+', '"created":0', text)


@pytest.mark.parametrize("model", PATHS)
@pytest.mark.parametrize("said", SAID)
def test_a_stream_is_the_providers_own(gateway: Gateway, mock: ScriptedServer, model: str, said: str) -> None:
    play(mock, defaults=SAID[said])
    fields: dict[str, Any] = {"stream": True, "tools": TOOLS[model]}
    if model == "gpt-5.2":
        fields["stream_options"] = {"include_usage": True}
    direct = ask(mock.url + PATHS[model], SENT.get(model, model), **fields)
    through = ask(gateway.url + PATHS[model], model, str(gateway.key), **fields)
    assert (direct.status_code, through.status_code) == (200, 200)
    theirs, ours = frames(alike(direct.text)), frames(alike(through.text))
    ends = [frame.get("response", frame) for frame in ours]
    accounts = [account for end in ends if (account := end.pop("llmwise", None))]
    assert ours == theirs
    assert [account["model"] for account in accounts] == [model]


@pytest.mark.parametrize("model", PATHS)
@pytest.mark.parametrize("said", SAID)
def test_a_whole_answer_is_the_providers_own(gateway: Gateway, mock: ScriptedServer, model: str, said: str) -> None:
    play(mock, defaults=SAID[said])
    direct = ask(mock.url + PATHS[model], SENT.get(model, model), tools=TOOLS[model])
    through = ask(gateway.url + PATHS[model], model, str(gateway.key), tools=TOOLS[model])
    ours = json.loads(alike(through.text))
    assert ours.pop("llmwise")["model"] == model
    assert ours == json.loads(alike(direct.text))


@pytest.mark.parametrize("stream", [True, False])
def test_the_next_model_of_a_chain_is_read_or_passed_on_as_its_format_demands(
    gateway: Gateway, mock: ScriptedServer, stream: bool
) -> None:
    """Anthropic's answer has to be put into OpenAI's words; the one of a second OpenAI model goes on as it came."""
    down = {"model": "gpt-5.2", "fault": "status", "status": 503}
    for fallback, sign in (("claude-sonnet-4.5", "chatcmpl-"), ("deepseek-v3", "scripted-")):
        play(mock, down, defaults={"text": "Oslo"})
        fields = {"stream": stream, "routing": {"fallback": [fallback]}}
        answer = ask(gateway.url + PATHS["gpt-5.2"], "gpt-5.2", str(gateway.key), **fields)
        first = frames(answer.text)[0] if stream else answer.json()
        assert first["id"].startswith(sign)
        assert "Oslo" in answer.text


def test_usage_is_only_for_who_asked(gateway: Gateway, mock: ScriptedServer) -> None:
    play(mock, defaults={"text": "Oslo"})
    answer = ask(gateway.url + PATHS["gpt-5.2"], "gpt-5.2", str(gateway.key), stream=True)
    assert not [frame for frame in frames(answer.text) if frame.get("usage")]
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("model", "end"), [("gpt-5.2", "[DONE]"), ("claude-sonnet-4.5", "error"), ("gpt-5-codex", "response.failed")]
)
def test_a_stream_that_breaks_off_does_not_end_as_if_it_were_whole(
    gateway: Gateway, mock: ScriptedServer, model: str, end: str
) -> None:
    play(mock, {"fault": "no_terminal"}, defaults={"text": "one two three four five"})
    answer = ask(gateway.url + PATHS[model], model, str(gateway.key), stream=True)
    last = frames(answer.text)[-1]
    assert "error" in last.get("response", last)
    assert 'finish_reason":"stop' not in answer.text.replace(" ", "")
    assert '"type":"message_stop"' not in answer.text
    assert "response.completed" not in answer.text.replace("without response.completed", "")
    numbers = [frame["sequence_number"] for frame in frames(answer.text) if "sequence_number" in frame]
    assert numbers == list(range(len(numbers)))
    assert end in answer.text
