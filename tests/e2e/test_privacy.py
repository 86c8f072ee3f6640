"""What is kept of requests: zero retention, redaction, purge, ages. The canary is a text that must be found nowhere."""

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, asked, play, running, settings

CANARY = "canary-7d1f0c9b-zebra-quartz"
ECHO = "canary-answer-51c2-walrus"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def gateway(providers: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    tree = settings(
        providers.url,
        privacy={"redact": ["email", "credit_card", "api_key", "regex:proj-[0-9]{3,8}"]},
        breaker={"failures": 1000, "hard_down_s": 0.001},
    )
    with running(tmp_path_factory.mktemp("privacy"), tree) as gateway:
        yield gateway


@pytest.fixture
def accounts(gateway: Gateway) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two new accounts' clients, neither an administrator."""
    name, keys = time.time_ns(), []
    with gateway.client() as admin:
        for account in (f"a{name}", f"b{name}"):
            admin.post("/api/v1/accounts", json={"id": account}).raise_for_status()
            made = admin.post("/api/v1/keys/generate", json={"name": account, "account_id": account})
            keys.append(made.json()["key"])
    with gateway.client(keys[0]) as first, gateway.client(keys[1]) as second:
        yield first, second


def chat(client: httpx.Client, question: str, **fields: Any) -> dict[str, Any]:
    answer = client.post("/api/v1/chat", json=asked(question, **{"model": "gpt-5.2", "stream": False, **fields}))
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def found(folder: Path, *texts: str) -> list[tuple[str, str]]:
    """Which of the texts the raw bytes of which files hold: the database, its log, the spool, the gateway's log."""
    hits = []
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            data = file.read_bytes()
            hits += [(file.name, text) for text in texts if text.encode() in data]
    return hits


def ask_everything(client: httpx.Client, mock: ScriptedServer) -> None:
    """The canary through every endpoint that takes a text, whole and streamed, answered and refused."""
    say = [{"role": "user", "content": CANARY}]
    panel = {"models": ["gpt-5.2", "claude-sonnet-4.5"], "messages": say}
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/api/v1/chat", {"model": "gpt-5.2", "messages": say}),
        ("/api/v1/chat", {"model": "gpt-5.2", "messages": say, "semantic_memory": True}),
        ("/api/v1/chat", {"model": "auto", "messages": say, "routing": {"fallback": ["deepseek-v3"]}}),
        ("/api/v1/compare", panel),
        ("/api/v1/blend", panel),
        ("/api/v1/judge", {"contestants": panel["models"], "judge": "gemini-3-flash", "messages": say}),
        ("/v1/chat/completions", {"model": "gpt-5.2", "messages": say, "tools": [TOOL]}),
        ("/v1/messages", {"model": "claude-sonnet-4.5", "messages": say, "max_tokens": 50}),
        ("/v1/responses", {"model": "gpt-5.2", "input": CANARY}),
    ]
    for stream in (True, False):
        play(mock, defaults={"text": ECHO})
        for path, body in requests:
            client.post(path, json={**body, "stream": stream})
        # A provider that quotes the question in what it refuses, first alone and then with somewhere to go.
        play(mock, {"model": "gpt-5.2", "fault": "status", "status": 503, "message": f"no: {CANARY}"})
        client.post("/api/v1/chat", json={"model": "gpt-5.2", "messages": say, "stream": stream})
        routed = {"model": "gpt-5.2", "messages": say, "routing": {"fallback": ["deepseek-v3"]}, "stream": stream}
        client.post("/api/v1/chat", json=routed)
    client.post("/api/v1/chat", json={"model": "gpt-5.2", "messages": say, CANARY[:6]: CANARY})
    client.post("/api/v1/chat", content=f'{{"model": "{CANARY}"'.encode())
    play(mock)


def test_with_zero_retention_no_text_is_anywhere(
    gateway: Gateway, accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    first, _ = accounts
    said = first.put("/api/v1/settings/privacy", json={"zero_retention_mode": True}).json()
    assert (said["zero_retention_mode"], said["effective_within_s"]) == (True, 5.0)
    ask_everything(first, mock)
    talk = first.post("/api/v1/conversations", json={"title": f"On {CANARY}"}).json()
    renamed = first.patch(f"/api/v1/conversations/{talk['id']}", params={"title": f"Of {CANARY}"}).json()
    assert (talk["title"], renamed["title"]) == (None, None)
    history = first.get("/api/v1/history").json()
    assert history["total"] >= 20, "recorded, without their texts"
    assert {(item["prompt"], item["answer"]) for item in history["items"]} == {(None, None)}
    for item in history["items"]:
        detail = first.get(f"/api/v1/history/{item['id']}").text
        assert CANARY not in detail
        assert ECHO not in detail
    assert found(gateway.config.parent, CANARY, ECHO) == []
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert CANARY not in metrics
    memory = first.get("/api/v1/memory").json()
    assert (memory["items"], memory["zero_retention"]) == ([], True)


def test_without_it_the_canary_is_found_so_that_the_test_above_can_fail(
    gateway: Gateway, accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    _, second = accounts
    play(mock, defaults={"text": ECHO})
    chat(second, "kept " + CANARY.upper())
    second.get("/api/v1/history")
    assert found(gateway.config.parent, CANARY.upper(), ECHO)


def test_a_purge_counts_what_it_forgot_and_leaves_others_alone(
    gateway: Gateway, accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    first, second = accounts
    mark = "purge-" + "".join(random.choices("ghijklmnop", k=16))  # digits could be a card's
    conversation = first.post("/api/v1/conversations", json={"title": f"{mark} title"}).json()["id"]
    for number in range(3):
        chat(first, f"{mark} {number}", conversation_id=conversation)
    chat(second, f"{mark} other's")
    kept = first.put("/api/v1/settings/privacy", json={"data_training_opt_in": True, "purge_existing_data": True})
    assert kept.json()["purged"] is None, "the published client sends the flag with every change"
    assert first.get("/api/v1/history").json()["items"][0]["prompt"] == f"{mark} 2"
    said = first.put("/api/v1/settings/privacy", json={"zero_retention_mode": True, "purge_existing_data": True}).json()
    assert said["purged"]["requests_redacted"] == 3
    assert said["purged"]["conversations_redacted"] == 1
    assert said["data_training_opt_in"] is True
    history = first.get("/api/v1/history").json()
    assert (history["total"], {item["prompt"] for item in history["items"]}) == (3, {None})
    assert history["items"][0]["cost"] > 0, "what it cost is still known"
    turns = first.get(f"/api/v1/conversations/{conversation}").json()
    assert turns["title"] is None
    assert [message["content"] for message in turns["messages"]] == [None] * 6
    assert second.get("/api/v1/history").json()["items"][0]["prompt"] == f"{mark} other's"
    assert found_in_database(gateway, f"{mark} 0", f"{mark} title") == [], "overwritten, not only unlinked"
    again = first.put("/api/v1/settings/privacy", json={"purge_existing_data": True}).json()
    assert again["purged"]["requests_redacted"] == 0


def test_test_runs_lose_their_texts_too_and_keep_their_results(
    gateway: Gateway, accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    first, second = accounts
    mark = "run-" + "".join(random.choices("ghijklmnop", k=16))
    form = [{"type": "json_schema", "schema": {"type": "object", "required": ["a"]}}]
    suite = {"name": "s", "models": ["gpt-5.2"], "cases": [{"prompt": "Say it.", "checks": form, "max_tokens": 9}]}

    def run(client: httpx.Client) -> dict[str, Any]:
        made = client.post("/api/v1/optimization/test-suites", json=suite).json()
        done: dict[str, Any] = client.post(f"/api/v1/optimization/test-suites/{made['id']}/run").json()
        return done

    play(mock, defaults={"text": f'"{mark}"'})
    kept = run(first)
    assert mark in kept["results"][0]["answer"]
    assert mark in kept["results"][0]["outcomes"][0]["detail"], "a schema's complaint quotes the answer"
    run(second)
    assert first.put("/api/v1/settings/privacy", json={"purge_existing_data": True}).json()["purged"] == {
        "requests_redacted": 1,
        "memories_deleted": 0,
        "conversations_redacted": 0,
        "comments_deleted": 0,
        "test_runs_redacted": 1,
    }
    csv = first.get(f"/api/v1/optimization/test-runs/{kept['id']}/csv").text
    assert (mark in csv, "false" in csv, "gpt-5.2" in csv) == (False, True, True)
    (other,) = second.get("/api/v1/optimization/test-runs").json()["items"]
    assert mark in second.get(f"/api/v1/optimization/test-runs/{other['id']}/csv").text
    second.put("/api/v1/settings/privacy", json={"zero_retention_mode": True}).raise_for_status()
    assert found_in_database(gateway, mark) == []
    silent = run(second)["results"][0]
    assert (silent["answer"], silent["outcomes"]) == (None, [{"type": "json_schema", "passed": False, "detail": None}])
    play(mock, {"model": "gpt-5.2", "fault": "status", "status": 400, "message": f"no: {mark}"})
    assert run(second)["results"][0]["error"] == "invalid_request"
    play(mock)
    assert found_in_database(gateway, mark) == []


def found_in_database(gateway: Gateway, *texts: str) -> list[tuple[str, str]]:
    return [(file, text) for file, text in found(gateway.config.parent, *texts) if file.startswith("llmwise.db")]


def test_turning_it_on_without_a_purge_keeps_what_there_is(accounts: tuple[httpx.Client, httpx.Client]) -> None:
    first, _ = accounts
    chat(first, "before")
    first.put("/api/v1/settings/privacy", json={"zero_retention_mode": True, "purge_existing_data": False})
    chat(first, "after")
    prompts = [item["prompt"] for item in first.get("/api/v1/history").json()["items"]]
    assert prompts == [None, "before"]
    first.put("/api/v1/settings/privacy", json={"zero_retention_mode": False})
    chat(first, "again")
    assert first.get("/api/v1/history").json()["items"][0]["prompt"] == "again"


def test_what_is_to_be_redacted_is_not_stored_and_the_provider_still_gets_it(
    gateway: Gateway, accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    first, _ = accounts
    play(mock, defaults={"text": "Write to answer.me@example.org."})
    secret = "sk-live-0123456789abcdef"
    question = f"I am jane.roe+x@example.com, my card is 4111 1111 1111 1111, {secret}, proj-12345, 4111111111111112"
    said = chat(first, question)
    assert said["content"] == "Write to answer.me@example.org.", "the caller's answer is whole"
    assert "jane.roe+x@example.com" in str(next(iter(mock.journal)).json)
    item = first.get("/api/v1/history").json()["items"][0]
    assert item["prompt"] == ("I am [email], my card is [credit_card], [api_key], [redacted], 4111111111111112"), (
        "the last one is no card's number: its check digit is wrong"
    )
    assert item["answer"] == "Write to [email]."
    assert found(gateway.config.parent, "jane.roe", "4111 1111", secret, "proj-12345", "answer.me") == []


def test_an_unbounded_pattern_is_refused_at_the_start(providers: ScriptedServer, tmp_path: Path) -> None:
    tree = settings(providers.url, privacy={"redact": ["regex:(a+)+b"]})
    with pytest.raises(AssertionError, match="without a bound"), running(tmp_path, tree):
        pass


def test_old_texts_and_records_are_forgotten_by_age(providers: ScriptedServer, tmp_path: Path) -> None:
    storage = {"keep_text_days": 2, "keep_records_days": 30}
    with running(tmp_path, settings(providers.url, storage=storage)) as gateway, gateway.client() as client:
        chat(client, "young")
        assert client.get("/api/v1/settings/privacy").json()["keep_text_days"] == 2
        assert client.get("/api/v1/history").json()["items"][0]["prompt"] == "young"
    with closing(sqlite3.connect(tmp_path / "llmwise.db")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
