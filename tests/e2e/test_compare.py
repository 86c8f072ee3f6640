"""`POST /api/v1/compare` of a running gateway: several models at once, one failing or all, streamed and whole."""

import asyncio
import json
import os
import socket
import subprocess
from contextlib import suppress
from itertools import pairwise
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

import llmwise
from llmwise.providers.scripted.server import ScriptedServer

from .gateway import (
    GUIDE_MODELS,
    LLMWISE,
    UNLIMITED,
    Gateway,
    asked,
    data_of,
    environment,
    events_of,
    play,
    running,
    settings,
    wait_for,
)
from .gateway import llmwise as command
from .published import clients

COMPARE = "/api/v1/compare"
MODELS = list(GUIDE_MODELS)
PAIR = ["gpt-5.2", "claude-sonnet-4.5"]
TEXT = 'Grüße,\nC:\\new \\n "quoted"\u2028next\u0085line 🦉'
DOWN = {"model": "gpt-5.2", "fault": "status", "status": 503}
QUESTION = [{"role": "user", "content": "What is up?"}]


def ask(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    response = client.post(COMPARE, json=asked(**{"models": MODELS, "stream": False, **fields}))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def stream(client: httpx.Client, path: str = COMPARE, **fields: Any) -> list[dict[str, Any]]:
    response = client.post(path, json=asked(**{"models": MODELS, **fields}))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events_of(response.content)


def refused(client: httpx.Client, **fields: Any) -> tuple[int, dict[str, Any]]:
    response = client.post(COMPARE, json=asked(**{"models": PAIR, "stream": False, **fields}))
    return response.status_code, response.json()


def history(client: httpx.Client, request_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/api/v1/history/{request_id}").json()
    return found


def last_chunks(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each model's chunk with `done`, of which there is one."""
    last = [event for event in events if event.get("done")]
    assert len({event["model"] for event in last}) == len(last)
    return {event["model"]: event for event in last}


# --- whole ---


def test_every_model_answers_in_the_order_asked_with_a_summary_and_one_account(
    client: httpx.Client, mock: ScriptedServer
) -> None:
    play(mock, defaults={"text": TEXT, "usage": {"input": 1000, "output": 500}})
    answer = ask(client)
    assert [one["model"] for one in answer["responses"]] == MODELS
    for one in answer["responses"]:
        assert (one["content"], one["finish_reason"]) == (TEXT, "stop")
        assert (one["prompt_tokens"], one["completion_tokens"]) == (1000, 500)
        assert one["cost"] > 0
        assert "error" not in one
        assert one["warnings"] == []
    assert answer["cost"] == pytest.approx(sum(one["cost"] for one in answer["responses"]), abs=1e-9)
    assert answer["credits_charged"] == pytest.approx(answer["cost"] * 100)
    summary = answer["summary"]
    assert set(summary["models"]) == set(MODELS)
    costs = {one["model"]: one["cost"] for one in answer["responses"]}
    took = {one["model"]: one["latency_ms"] for one in answer["responses"]}
    assert summary["cheapest"] == min(MODELS, key=lambda model: costs[model])
    assert took[summary["fastest"]] == min(took.values())
    assert summary["models"]["gpt-5.2"] == {"latency_ms": took["gpt-5.2"], "tokens": 500, "cost": costs["gpt-5.2"]}
    assert set(answer) >= {"id", "credits_remaining", "conversation_id", "semantic_memory_used", "semantic_memory_hits"}


def test_the_summary_names_the_fastest_and_the_longest(client: httpx.Client, mock: ScriptedServer) -> None:
    play(
        mock,
        models={
            "gpt-5.2": {"latency_ms": 300, "usage": {"output": 10}},
            "claude-sonnet-4-5": {"latency_ms": 300, "usage": {"output": 99}},
            "deepseek-flash": {"usage": {"output": 11}},
        },
    )
    summary = ask(client, models=["gpt-5.2", "claude-sonnet-4.5", "deepseek-v3"])["summary"]
    assert (summary["fastest"], summary["longest"]) == ("deepseek-v3", "claude-sonnet-4.5")


def test_the_models_are_asked_at_once(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, defaults={"latency_ms": 400})
    assert ask(client)["latency_ms"] < 2 * 400, "four models one after the other take 1600 ms"


def test_one_that_fails_leaves_the_others_their_answers(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, DOWN, defaults={"text": TEXT})
    answer = ask(client)
    failed, *others = answer["responses"]
    assert (failed["model"], failed["content"], failed["finish_reason"]) == ("gpt-5.2", "", None)
    assert (failed["code"], failed["status_code"]) == ("upstream_overloaded", 529)
    assert isinstance(failed["error"], str)
    assert failed["cost"] == 0
    assert [one["content"] for one in others] == [TEXT] * 3
    assert set(answer["summary"]["models"]) == set(MODELS[1:])


def test_a_model_that_cannot_take_the_request_fails_alone(
    tmp_path: Any, providers: ScriptedServer, mock: ScriptedServer
) -> None:
    tree = settings(mock.url, PAIR)
    tree["models"] = [{"id": "gpt-5.2", "capabilities": {"vision": False}}, {"id": "claude-sonnet-4.5"}]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    with running(tmp_path, tree) as gateway, gateway.client() as client:
        answer = ask(client, models=PAIR, messages=[{"role": "user", "content": [picture]}])
    blind, seeing = answer["responses"]
    assert blind["code"] == "unsupported_input"
    assert seeing["content"]
    assert [entry.json["model"] for entry in mock.requests] == ["claude-sonnet-4-5"]


def test_if_all_fail_the_answer_is_an_error_that_tells_of_each(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, DOWN, {"fault": "rate_limit", "retry_after": 7})
    for streamed in (False, True):
        response = client.post(COMPARE, json=asked(models=PAIR, stream=streamed))
        told = response.json()
        assert (told["code"], told["refunded"]) == ("all_failed", True)
        assert response.status_code == told["status_code"]
        assert {model: failure["code"] for model, failure in told["failures"].items()} == {
            "gpt-5.2": "upstream_overloaded",
            "claude-sonnet-4.5": "upstream_rate_limited",
        }
        record = history(client, told["request_id"])
        assert (record["status_code"], record["code"], record["credits_charged"]) == (
            response.status_code,
            "all_failed",
            0,
        )


def test_if_all_are_rate_limited_the_caller_is_told_when_to_come_back(
    client: httpx.Client, mock: ScriptedServer
) -> None:
    play(mock, {"fault": "rate_limit", "retry_after": 7})
    response = client.post(COMPARE, json=asked(models=PAIR, stream=False))
    assert response.status_code == 429
    assert response.headers["retry-after"] == "7"


# --- streamed ---


def test_a_stream_holds_every_model_s_text_then_its_account_then_the_summary(
    client: httpx.Client, mock: ScriptedServer
) -> None:
    play(mock, defaults={"text": TEXT, "usage": {"input": 1000, "output": 500}})
    events = stream(client)
    *chunks, summary, done = events
    for model in MODELS:
        mine = [event for event in chunks if event["model"] == model]
        assert "".join(event["delta"] for event in mine) == TEXT
        assert [event["done"] for event in mine] == [False] * (len(mine) - 1) + [True]
        assert mine[-1]["content_length"] == len(TEXT)
        assert (mine[-1]["prompt_tokens"], mine[-1]["completion_tokens"]) == (1000, 500)
        assert mine[-1]["finish_reason"] == "stop"
    assert (summary["event"], done["event"]) == ("summary", "done")
    assert {model: one["cost"] for model, one in summary["models"].items()} == {
        model: chunk["cost"] for model, chunk in last_chunks(chunks).items()
    }
    assert done["credits_charged"] == pytest.approx(100 * sum(one["cost"] for one in summary["models"].values()))
    assert history(client, done["id"])["cost"] == done["cost"]


def test_the_texts_come_interleaved(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, defaults={"tokens": 30, "tokens_per_second": 100})
    order = [event["model"] for event in stream(client, models=PAIR) if event.get("delta")]
    changes = sum(one != other for one, other in pairwise(order))
    assert changes > 3, "one after the other has a single change"


@pytest.mark.parametrize("fault", [{"fault": "status", "status": 503}, {"fault": "cut", "after": 3}])
def test_a_model_that_fails_ends_with_a_chunk_of_its_own(
    client: httpx.Client, mock: ScriptedServer, fault: dict[str, Any]
) -> None:
    play(mock, {"model": "gpt-5.2", **fault}, defaults={"text": TEXT})
    events = stream(client)
    assert not any(event.get("event") == "error" for event in events)
    failed = last_chunks(events)["gpt-5.2"]
    assert (failed["delta"], failed["done"]) == ("", True)
    assert isinstance(failed["error"], str)
    assert failed["status_code"] >= 500
    assert "error" not in last_chunks(events)["deepseek-v3"]
    assert [event["event"] for event in events[-2:]] == ["summary", "done"]
    assert set(events[-2]["models"]) == set(MODELS[1:])


def test_if_all_fail_after_they_began_the_stream_ends_with_an_error_event(
    client: httpx.Client, mock: ScriptedServer
) -> None:
    play(mock, {"fault": "cut", "after": 2}, defaults={"tokens": 30})
    events = stream(client, models=PAIR)
    assert set(last_chunks(events)) == set(PAIR)
    assert (events[-1]["event"], events[-1]["code"], events[-1]["refunded"]) == ("error", "all_failed", True)
    assert not any(event.get("event") in {"summary", "done"} for event in events)


def test_the_compat_framing_holds_no_backslash_n_but_its_marks(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, DOWN, defaults={"text": TEXT})
    body = client.post("/compat" + COMPARE, json=asked(models=MODELS)).content
    pieces = body.decode().split("\\n")
    assert [piece.strip() for piece in pieces[:-1]] == [f"data: {data}" for data in data_of(body)]
    chunks = [json.loads(data) for data in data_of(body)[:-1]]
    assert "".join(chunk.get("delta", "") for chunk in chunks if chunk.get("model") == "deepseek-v3") == TEXT


def test_a_caller_that_leaves_ends_every_call_and_is_written_down(
    gateway: Gateway, client: httpx.Client, mock: ScriptedServer
) -> None:
    play(mock, defaults={"tokens": 10_000, "tokens_per_second": 50})
    body = json.dumps(asked(models=MODELS)).encode()
    head = f"POST {COMPARE} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\ncontent-length: {len(body)}"
    with gateway.connect() as connection:
        connection.sendall(head.encode() + b"\r\ncontent-type: application/json\r\n\r\n" + body)
        got = b""
        while not all(f'"model":"{model}"'.encode() in got for model in MODELS):
            got += connection.recv(65536)
        assert len(mock.requests) == len(MODELS)
        connection.shutdown(socket.SHUT_RDWR)
    request_id = next(line.split(": ")[1] for line in got.decode().split("\r\n") if line.startswith("x-request-id"))
    wait_for(lambda: "mode" in history(client, request_id), 5, lambda: "no record of the caller that left")
    record = history(client, request_id)
    assert (record["mode"], record["status_code"], record["code"]) == ("compare", 499, "client_gone")
    assert [attempt["outcome"] for attempt in record["attempt_list"]] == ["client_gone"] * len(MODELS)
    wait_for(lambda: all(entry.client_left for entry in mock.requests), 5, lambda: "a provider was left writing")


# --- what is kept and what is refused ---


def test_the_history_has_one_entry_with_every_model_s_attempt(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, DOWN, defaults={"text": "Fine.", "usage": {"input": 10, "output": 5}})
    before = client.get("/api/v1/history", params={"mode": "compare"}).json()["total"]
    answer = ask(client)
    found = client.get("/api/v1/history", params={"mode": "compare"}).json()
    assert found["total"] == before + 1
    record = history(client, answer["id"])
    assert record["requested_model"] == ", ".join(MODELS)
    assert (record["model"], record["status_code"], record["attempts"]) == (None, 200, 4)
    assert [(one["number"], one["model"], one["outcome"]) for one in record["attempt_list"]] == [
        (0, "gpt-5.2", "provider_error"),
        *((number, model, "complete") for number, model in enumerate(MODELS[1:], start=1)),
    ]
    assert (record["prompt_tokens"], record["completion_tokens"]) == (30, 15)
    assert record["cost"] == answer["cost"]
    assert record["prompt"] == "What is up?"
    assert "## deepseek-v3\n\nFine." in record["answer"]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"models": ["gpt-5.2"]}, 422, "models"),
        ({"models": [f"m{n}" for n in range(10)]}, 422, "models"),
        ({"models": ["gpt-5.2", "GPT-5-2"]}, 422, "'GPT-5-2'"),
        ({"models": ["gpt-5.2", "auto"]}, 400, "models[1] = 'auto': chooses"),
        ({"models": ["gpt-5.2", "gpt-5.22"]}, 404, "gpt-5.22"),
        ({"model": "gpt-5.2"}, 422, "did you mean 'models'"),
        ({"messages": []}, 422, "messages"),
        ({"temperature": 3}, 422, "temperature"),
    ],
)
def test_what_is_wrong_is_named(
    client: httpx.Client, mock: ScriptedServer, fields: dict[str, Any], status: int, words: str
) -> None:
    code, told = refused(client, **fields)
    assert code == status, told
    assert words in told["error"]
    assert not mock.requests


def test_without_a_memory_who_asks_for_it_is_told(client: httpx.Client, mock: ScriptedServer) -> None:
    answer = ask(client, models=PAIR, semantic_memory=True)
    assert [(one["code"], one["field"]) for one in answer["warnings"]] == [("memory_not_set_up", "semantic_memory")]
    assert stream(client, models=PAIR, semantic_memory=True)[-1]["warnings"][0]["field"] == "semantic_memory"


def test_comparisons_have_a_limit_of_their_own(tmp_path: Any, mock: ScriptedServer) -> None:
    tree = settings(mock.url, PAIR, limits={**UNLIMITED, "compare": 2})
    with running(tmp_path, tree) as gateway, gateway.client() as client:
        codes = [client.post(COMPARE, json=asked(models=PAIR, stream=False)).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert client.post("/api/v1/chat", json=asked(model=PAIR[0], stream=False)).status_code == 200


def test_the_document_has_an_example_that_works_and_describes_its_answer(
    client: httpx.Client, mock: ScriptedServer
) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"][COMPARE]["post"]
    play(mock, DOWN)
    response = client.post(COMPARE, json=operation["requestBody"]["content"]["application/json"]["example"])
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(response.json())
    assert len(response.json()["responses"]) == 2


# --- the clients ---


def test_the_sdk_compares_whole_and_streamed(gateway: Gateway, mock: ScriptedServer) -> None:
    play(mock, DOWN, defaults={"text": TEXT})
    with llmwise.LLMWise(gateway.key, base_url=gateway.url) as client:
        answer = client.compare(models=MODELS, messages=QUESTION)
        events = list(client.compare_stream(models=MODELS, messages=QUESTION))
    assert [one["content"] for one in answer["responses"][1:]] == [TEXT] * 3
    text = "".join(event.get("delta", "") for event in events if event.get("model") == "gemini-3-flash")
    assert text == TEXT
    assert events[-1]["event"] == "done"

    async def both() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with llmwise.AsyncLLMWise(gateway.key, base_url=gateway.url) as client:
            whole = await client.compare(models=PAIR, messages=QUESTION)
            return whole, [event async for event in client.compare_stream(models=PAIR, messages=QUESTION)]

    whole, streamed = asyncio.run(both())
    assert len(whole["responses"]) == 2
    assert streamed[-2]["event"] == "summary"


PUBLISHED = """
import json, llmwise
models, messages = {models!r}, [{{"role": "user", "content": "Hello!"}}]
with llmwise.LLMWise() as client:
    answer = client.compare(models=models, messages=messages)
    events = list(client.compare_stream(models=models, messages=messages))
print(json.dumps([answer, events]))
"""


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("published")
def test_the_published_client_compares(gateway: Gateway, mock: ScriptedServer) -> None:
    try:
        python = clients.python()
    except clients.NotInstallable as error:
        if os.environ.get("LLMWISE_TESTS_REQUIRE_PUBLISHED"):
            raise
        pytest.skip(str(error))
    play(mock, DOWN, defaults={"text": TEXT})
    environ = {"LLMWISE_BASE_URL": f"{gateway.url}/api/v1", "LLMWISE_API_KEY": gateway.key or "", "PATH": "/usr/bin"}
    code = PUBLISHED.format(models=MODELS)
    done = subprocess.run(
        [python, "-I", "-c", code], capture_output=True, text=True, timeout=60, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    answer, events = json.loads(done.stdout)
    assert [one["content"] for one in answer["responses"][1:]] == [TEXT] * 3
    assert "".join(event.get("delta", "") for event in events if event.get("model") == "deepseek-v3") == TEXT
    assert [event["event"] for event in events[-2:]] == ["summary", "done"]


def test_the_command_shows_every_answer_and_a_table(gateway: Gateway, mock: ScriptedServer) -> None:
    play(mock, DOWN, defaults={"text": "Scripted and fine."})
    environ = {"LLMWISE_BASE_URL": gateway.url, "LLMWISE_API_KEY": gateway.key or "", "COLUMNS": "200"}
    done = command("compare", "What is up?", *(word for model in MODELS for word in ("-m", model)), environ=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Scripted and fine.") == 3
    for model in MODELS:
        assert f"## {model}" in done.stdout
    assert "answered 503" in done.stderr
    assert "fastest" in done.stderr
    assert "cheapest" in done.stderr


def test_the_answers_grow_side_by_side_on_a_terminal(gateway: Gateway, mock: ScriptedServer) -> None:
    play(mock, defaults={"text": "Scripted and fine.", "tokens": 30, "tokens_per_second": 60})
    terminal, ours = os.openpty()
    environ = environment(LLMWISE_BASE_URL=gateway.url, LLMWISE_API_KEY=gateway.key or "", TERM="xterm", COLUMNS="120")
    words = [*LLMWISE, "compare", "What is up?", "-m", PAIR[0], "-m", PAIR[1]]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=ours, env=environ) as process:
        os.close(ours)
        shown = b""
        with suppress(OSError):  # what reading from a terminal that nobody writes to any more raises
            while piece := os.read(terminal, 65536):
                shown += piece
        os.close(terminal)
        assert process.stdout is not None
        answers = process.stdout.read().decode()
        assert process.wait(10) == 0
    drawn = [frame for frame in shown.decode().split("\x1b[2K") if "╭" in frame]
    assert len(drawn) > 2, "it is drawn again and again while they answer"
    assert all(model in drawn[-1].splitlines()[0] for model in PAIR), "side by side"
    assert answers.count("\x1b") == 0
    assert answers.count("Scripted and fine.") >= 2


STEERING = "plain \x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b1m\rover\x7f\tand\nnext"


def on_a_terminal(gateway: Gateway, *words: str) -> str:
    """What a command shows on a terminal that is its standard output and error at once."""
    terminal, ours = os.openpty()
    environ = environment(LLMWISE_BASE_URL=gateway.url, LLMWISE_API_KEY=gateway.key or "", TERM="xterm", COLUMNS="120")
    with subprocess.Popen([*LLMWISE, *words], stdout=ours, stderr=ours, env=environ) as process:
        os.close(ours)
        shown = b""
        with suppress(OSError):  # what reading from a terminal that nobody writes to any more raises
            while piece := os.read(terminal, 65536):
                shown += piece
        os.close(terminal)
        assert process.wait(10) == 0, shown
    return shown.decode()


@pytest.mark.parametrize("panel", [True, False], ids=["compare", "chat"])
def test_an_answer_does_not_steer_the_terminal(gateway: Gateway, mock: ScriptedServer, panel: bool) -> None:
    play(mock, DOWN, defaults={"text": STEERING})
    models = ["-m", MODELS[1], "-m", MODELS[2]] if panel else ["-m", MODELS[1]]
    words = ["compare" if panel else "chat", "What is up?", *models]
    shown = on_a_terminal(gateway, *words)
    assert "plain [31mred[0m ]0;title 1mover\tand\r\nnext" in shown
    for control in ("\x1b[31mred", "\x1b]0;", "\x07", "\x9b", "\rover", "\x7f"):
        assert control not in shown
    environ = {"LLMWISE_BASE_URL": gateway.url, "LLMWISE_API_KEY": gateway.key or ""}
    assert STEERING.replace("\r", "\n") in command(*words, environ=environ).stdout, "a pipe has it as it is"


def test_the_command_wants_two_models_and_a_question(gateway: Gateway) -> None:
    environ = {"LLMWISE_BASE_URL": gateway.url, "LLMWISE_API_KEY": gateway.key or ""}
    done = command("compare", "What is up?", "-m", "gpt-5.2", environ=environ)
    assert done.returncode == 1
    assert done.stderr.startswith("llmwise: ")
    assert len(done.stderr.splitlines()) == 1
