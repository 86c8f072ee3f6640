"""The conformance kit: this gateway passes it in every pair of dialect and family, and who doesn't is told so."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from llmwise.conformance import said
from llmwise.conformance.cases import Outcome, cases
from llmwise.conformance.golden import golden_cases, records

from .gateway import LLMWISE, environment, scripted


def conformance(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*LLMWISE, "conformance", *arguments], capture_output=True, text=True, timeout=100, env=environment()
    )


def wrong_of(cells: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{c['case']}, {c['dialect']} > {c['family']}: {c['wrong']}" for c in cells if c["wrong"]]


@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic", "native"])
def test_this_gateway_passes_from_every_dialect_to_every_family(dialect: str) -> None:
    ran = conformance("--dialect", dialect, "--json")
    assert ran.returncode in (0, 1), ran.stderr
    cells = json.loads(ran.stdout)
    assert wrong_of(cells) == []
    assert ran.returncode == 0
    assert {cell["family"] for cell in cells} == {"openai", "responses", "anthropic", "gemini"}
    asked = {cell["case"] for cell in cells if cell["wrong"] is not None}
    only_chat = {"usage only if asked for"} if dialect != "chat" else set()
    without_stop = {"stop sequences"} if dialect == "responses" else set()
    assert asked == {case.name for case in [*cases(), *golden_cases()]} - only_chat - without_stop


def test_a_server_that_gets_things_wrong_is_told_so() -> None:
    """The scripted provider itself asks for no key and knows every model."""
    with scripted() as server:
        ran = conformance("--base-url", server.url, "--model", "gpt-5.2", "--json")
    verdicts = {cell["case"]: cell["wrong"] for cell in json.loads(ran.stdout)}
    assert ran.returncode == 1
    assert verdicts["any text at all"] == []
    assert "status 200, not 401 or 403" in verdicts["no key"][0]
    assert [each.partition(":")[0] for each in verdicts["a model that is not there"]] == ["whole", "streamed"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dialect", "cobol"], "--dialect cobol: is none of chat, responses, anthropic, native"),
        (["--base-url", "http://127.0.0.1:9", "--model", "cobol=x"], "--model cobol=x: give FAMILY=NAME"),
        (["--base-url", "http://127.0.0.1:9"], "lists no models (ConnectError); name one with --model"),
        (["--base-url", "http://127.0.0.1:9", "-m", "x", "--upstream-port", "1"], "each --model needs its family"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], says: str) -> None:
    ran = conformance(*arguments)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert says in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


# --- the checks can fail ---


def outcome(text: str, *, stream: bool = False, status: int = 200) -> Outcome:
    return Outcome("chat", "openai", stream, status, {}, text)


def chat(**message: Any) -> str:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        ("text", outcome(chat(content="Bergen."))),
        ("any text at all", outcome(chat(content=""))),
        ("one tool call", outcome(chat(content="I would call weather."))),
        ("token buckets", outcome(chat(content="Oslo."))),
        ("no terminal frame", outcome(chat(content="Oslo."))),
        ("429 with Retry-After", outcome('{"error":{"message":"slow","type":"rate_limit"}}', status=429)),
        ("500", outcome("Internal Server Error", status=500)),
        ("no key", outcome(chat(content="Oslo."))),
        ("the caller leaves", outcome("")),
        ("system message", outcome("{}", status=400)),
        ("recorded: a stream of text (openai)", outcome("data: [DONE]\n\n", stream=True)),
    ],
)
def test_a_check_finds_what_is_wrong(case: str, answer: Outcome) -> None:
    (found,) = [each for each in [*cases(), *golden_cases()] if each.name == case]
    assert list(found.check(answer))


@pytest.mark.parametrize("record", records(), ids=lambda record: record.name)
def test_a_recording_says_what_is_written_down(record: Any) -> None:
    kind = {"openai": "chat"}.get(record.family, record.family)
    read = said.read(kind, record.response, stream=record.stream)
    assert (read.text, read.calls, read.finish, read.tokens) == (
        record.text,
        record.calls,
        record.finish,
        record.tokens,
    )
    assert record.source
    assert record.date
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record
