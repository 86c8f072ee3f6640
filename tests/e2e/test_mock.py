"""`llmwise mock` as a process, and the official clients against it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest

COMMAND = [str(Path(sys.executable).with_name("llmwise")), "mock"]

SCRIPT = """
[models.thinker]
reasoning = "Let me see"
text = "Forty-two"

[[rule]]
model = "limited"
nth = 1
fault = "rate_limit"
retry_after = 0
"""


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ready_at(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("llmwise mock (scripted, no model behind it) listening on http://127.0.0.1:"), line
    return line.split()[-1]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    script = tmp_path_factory.mktemp("mock") / "script.toml"
    script.write_text(SCRIPT)
    with start("--port", "0", "--script", str(script)) as process:
        yield ready_at(process)
        process.terminate()
        assert process.wait(5) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.fixture
def openai_client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="sk-test") as client:
        yield client


@pytest.fixture
def anthropic_client(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="sk-ant-test") as client:
        yield client


def test_openai_client_reads_an_answer_and_a_stream(openai_client: openai.OpenAI) -> None:
    answer = openai_client.chat.completions.create(model="m", messages=[{"role": "user", "content": "What is up?"}])
    text = answer.choices[0].message.content
    assert text is not None
    assert text.startswith("Scripted answer")
    assert answer.system_fingerprint == "scripted"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    stream = openai_client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "What is up?"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert chunks[-1].usage == answer.usage


def test_openai_client_gets_a_forced_tool_call(openai_client: openai.OpenAI) -> None:
    schema: dict[str, object] = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]}
    answer = openai_client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "Weather?"}],
        tools=[{"type": "function", "function": {"name": "weather", "parameters": schema}}],
        tool_choice="required",
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert json.loads(calls[0].function.arguments) == {"city": "Oslo"}


def test_openai_client_lists_models_embeds_and_retries_a_rate_limit(openai_client: openai.OpenAI) -> None:
    assert [model.id for model in openai_client.models.list()] == ["thinker", "limited"]
    assert len(openai_client.embeddings.create(model="e", input="hello").data[0].embedding) == 64
    answer = openai_client.chat.completions.create(model="limited", messages=[{"role": "user", "content": "?"}])
    assert answer.id == "scripted-limited-2"


def test_anthropic_client_reads_an_answer_and_a_stream(anthropic_client: anthropic.Anthropic) -> None:
    answer = anthropic_client.messages.create(
        model="thinker", max_tokens=100, messages=[{"role": "user", "content": "What is up?"}]
    )
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert answer.stop_reason == "end_turn"
    with anthropic_client.messages.stream(
        model="thinker", max_tokens=100, messages=[{"role": "user", "content": "What is up?"}]
    ) as stream:
        assert "".join(stream.text_stream) == "Forty-two"
        streamed = stream.get_final_message()
    assert [block.model_dump() for block in streamed.content] == [block.model_dump() for block in answer.content]
    assert streamed.usage.output_tokens == answer.usage.output_tokens == 4


def test_anthropic_client_gets_a_forced_tool_call_and_counts(anthropic_client: anthropic.Anthropic) -> None:
    with anthropic_client.messages.stream(
        model="m",
        max_tokens=100,
        messages=[{"role": "user", "content": "Weather?"}],
        tools=[{"name": "weather", "input_schema": {"type": "object", "properties": {"days": {"type": "integer"}}}}],
        tool_choice={"type": "tool", "name": "weather"},
    ) as stream:
        answer = stream.get_final_message()
    assert answer.stop_reason == "tool_use"
    assert answer.content[0].type == "tool_use"
    assert answer.content[0].input == {"days": 1}
    counted = anthropic_client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "12345678"}])
    assert counted.input_tokens == 2


def test_anthropic_client_sees_a_limit_as_a_limit(url: str, anthropic_client: anthropic.Anthropic) -> None:
    httpx.post(f"{url}/_script", json={"rule": [{"model": "a", "fault": "overloaded"}]}).raise_for_status()
    with pytest.raises(anthropic.APIStatusError) as caught:
        anthropic_client.with_options(max_retries=0).messages.create(
            model="a", max_tokens=1, messages=[{"role": "user", "content": "?"}]
        )
    assert caught.value.status_code == 529


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_even_amid_an_answer(number: signal.Signals) -> None:
    with start("--port", "0") as process:
        url = ready_at(process)
        httpx.post(f"{url}/_script", json={"rule": [{"fault": "stall"}]}).raise_for_status()
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "?"}]}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            assert response.status_code == 200
            os.kill(process.pid, number)
            assert process.wait(3) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"llmwise mock: can't listen on 127.0.0.1:{port}: the port is in use, choose another one or 0"
    ]


def test_a_wrong_script_is_one_clear_line(tmp_path: Path) -> None:
    script = tmp_path / "script.toml"
    script.write_text('[[rule]]\nfault = "rate-limit"\n')
    done = subprocess.run([*COMMAND, "--script", str(script)], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"llmwise mock: {script}: rule[0].fault: no such fault 'rate-limit'; did you mean 'rate_limit'?"
    ]
