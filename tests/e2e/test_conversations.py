"""Conversations, semantic memory and the copilot of a running gateway: each account's own."""

import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmwise.providers.minilm.provider import PACKAGE
from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, asked, events_of, play, running, settings, wait_for

VECTORS = "text-embedding-3-small"
Clients = tuple[httpx.Client, httpx.Client]


@pytest.fixture(scope="module")
def gateway(providers: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    tree = settings(providers.url, memory={"model": VECTORS, "min_score": 0.5}, copilot={"model": "gpt-5.2"})
    tree["models"].append({"id": VECTORS})
    tree["breaker"] = {"failures": 1000, "hard_down_s": 0.001}
    with running(tmp_path_factory.mktemp("conversations"), tree) as gateway:
        yield gateway


@pytest.fixture
def accounts(gateway: Gateway) -> Iterator[Clients]:
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


def remembered(client: httpx.Client, count: int) -> dict[str, Any]:
    """What is remembered, once there are so many: a turn is remembered when its caller has the answer."""

    def read() -> dict[str, Any]:
        said: dict[str, Any] = client.get("/api/v1/memory").json()
        return said

    wait_for(lambda: read()["total"] == count, 10, lambda: f"not {count}: {read()}")
    return read()


def test_a_conversation_is_made_named_filled_read_and_deleted(accounts: Clients, mock: ScriptedServer) -> None:
    client, _ = accounts
    made = client.post("/api/v1/conversations").json()
    assert (made["title"], made["turns"]) == (None, 0)
    id = made["id"]
    assert client.patch(f"/api/v1/conversations/{id}", params={"title": "Trip"}).json()["title"] == "Trip"
    assert client.patch(f"/api/v1/conversations/{id}").json()["title"] == "Trip", "without a title nothing changes"
    play(mock, defaults={"text": "Go by train."})
    answer = chat(client, "How do I get there?", conversation_id=id)
    assert answer["conversation_id"] == id
    streamed = client.post("/api/v1/chat", json=asked("And back?", model="gpt-5.2", conversation_id=id))
    assert events_of(streamed.content)[-1]["conversation_id"] == id
    panel = {"models": ["gpt-5.2", "claude-sonnet-4.5"], "stream": False, "conversation_id": id}
    assert client.post("/api/v1/compare", json=asked("Which is cheaper?", **panel)).status_code == 200
    read = client.get(f"/api/v1/conversations/{id}").json()
    said = [(message["role"], message["content"]) for message in read["messages"]]
    assert said[:4] == [
        ("user", "How do I get there?"),
        ("assistant", "Go by train."),
        ("user", "And back?"),
        ("assistant", "Go by train."),
    ]
    assert said[4] == ("user", "Which is cheaper?")
    assert read["messages"][0]["request_id"] == answer["id"]
    listed = client.get("/api/v1/conversations").json()
    assert (listed["total"], listed["items"][0]["turns"]) == (1, 3)
    assert listed["items"][0]["updated_at_ms"] >= listed["items"][0]["created_at_ms"]
    gone = client.delete(f"/api/v1/conversations/{id}").json()
    assert (gone["deleted"], gone["redacted"]) == (True, 3)
    assert client.get(f"/api/v1/conversations/{id}").json()["code"] == "conversation_not_found"
    history = client.get("/api/v1/history").json()
    assert (history["total"], {item["prompt"] for item in history["items"]}) == (3, {None})


def test_what_a_model_sees_is_the_callers_messages_alone(accounts: Clients, mock: ScriptedServer) -> None:
    client, _ = accounts
    id = client.post("/api/v1/conversations", json={"title": "Trip"}).json()["id"]
    chat(client, "first words", conversation_id=id)
    mock.journal.clear()
    chat(client, "second words", conversation_id=id)
    (sent,) = mock.journal
    assert [message["content"] for message in sent.json["messages"]] == ["second words"]


def test_a_conversation_that_is_not_there_is_refused_before_a_model_is_asked(
    accounts: Clients, mock: ScriptedServer
) -> None:
    client, _ = accounts
    for path, body in (
        ("chat", {"model": "gpt-5.2"}),
        ("compare", {"models": ["gpt-5.2", "claude-sonnet-4.5"]}),
        ("blend", {"models": ["gpt-5.2", "claude-sonnet-4.5"]}),
        ("judge", {"contestants": ["gpt-5.2", "claude-sonnet-4.5"], "judge": "gemini-3-flash"}),
    ):
        refused = client.post(f"/api/v1/{path}", json=asked(conversation_id="conv_0", **body))
        assert (refused.status_code, refused.json()["code"]) == (404, "conversation_not_found"), path
    assert len(mock.journal) == 0


def test_every_account_sees_its_own_conversations_only(
    gateway: Gateway, accounts: Clients, mock: ScriptedServer
) -> None:
    first, second = accounts
    id = first.post("/api/v1/conversations", json={"title": "mine"}).json()["id"]
    chat(first, "mine alone", conversation_id=id)
    with gateway.client() as admin:
        for other in (second, admin):
            assert id not in other.get("/api/v1/conversations?limit=200").text
            for method in ("GET", "PATCH", "DELETE"):
                params = {"title": "stolen"} if method == "PATCH" else {}
                refused = other.request(method, f"/api/v1/conversations/{id}", params=params)
                assert refused.status_code == 404, method
            refused = other.post("/api/v1/chat", json=asked(model="gpt-5.2", conversation_id=id))
            assert refused.status_code == 404
    read = first.get(f"/api/v1/conversations/{id}").json()
    assert (read["title"], read["turns"]) == ("mine", 1)


def test_memory_is_used_and_filled_only_by_who_asks_for_it(accounts: Clients, mock: ScriptedServer) -> None:
    first, second = accounts
    question = "My cat is called Quartz"
    assert (plain := chat(first, question))["semantic_memory_used"] is False
    assert plain["semantic_memory_hits"] == 0
    assert first.get("/api/v1/memory").json()["total"] == 0
    play(mock, defaults={"text": "Noted."})
    filled = chat(first, question, semantic_memory=True)
    assert (filled["semantic_memory_hits"], filled["warnings"]) == (0, [])
    listed = remembered(first, 1)
    assert [(item["prompt"], item["answer"]) for item in listed["items"]] == [(question, "Noted.")]
    assert listed["items"][0]["request_id"] == filled["id"]
    # The scripted vectors know no meaning: only the same text is near.
    hits = first.get("/api/v1/memory/search", params={"q": f"{question}\nNoted.", "top_k": 2, "min_score": 0.9}).json()
    assert [(hit["prompt"], hit["score"]) for hit in hits["results"]] == [(question, 1.0)]
    assert second.get("/api/v1/memory/search", params={"q": f"{question}\nNoted."}).json()["results"] == []

    mock.journal.clear()
    recalled = chat(first, f"{question}\nNoted.", semantic_memory=True, semantic_top_k=1, semantic_min_score=0.9)
    assert (recalled["semantic_memory_used"], recalled["semantic_memory_hits"]) == (True, 1)
    told = next(said.json for said in mock.journal if "messages" in (said.json or {}))["messages"]
    assert [message["role"] for message in told] == ["developer", "user"]
    assert question in told[0]["content"]
    mock.journal.clear()
    assert chat(second, f"{question}\nNoted.", semantic_memory=True)["semantic_memory_hits"] == 0, "another account's"
    streamed = first.post("/api/v1/chat", json=asked(f"{question}\nNoted.", model="gpt-5.2", semantic_memory=True))
    done = events_of(streamed.content)[-1]
    assert (done["semantic_memory_used"], done["semantic_memory_hits"] >= 1) == (True, True)

    id = listed["items"][0]["id"]
    assert second.delete(f"/api/v1/memory/{id}").status_code == 404
    remembered(first, 3)
    assert first.delete(f"/api/v1/memory/{id}").json() == {"deleted": 1}
    assert first.delete("/api/v1/memory").json()["deleted"] == 2
    assert first.get("/api/v1/memory").json()["total"] == 0


@pytest.mark.skipif(find_spec(PACKAGE) is None or find_spec("numpy") is None, reason="MiniLM is not installed")
def test_with_the_model_in_the_gateway_a_memory_is_found_by_its_meaning(
    providers: ScriptedServer, mock: ScriptedServer, tmp_path: Path
) -> None:
    tree = settings(providers.url, memory={"model": "minilm"})
    tree["providers"]["minilm"] = {}
    tree["models"].append({"id": "all-minilm-l6-v2"})
    with running(tmp_path, tree) as gateway, gateway.client() as client:
        play(mock, defaults={"text": "Noted."})
        for said in ("My cat is called Quartz.", "The invoice is due in March.", "I take my coffee without milk."):
            chat(client, said, semantic_memory=True, semantic_min_score=1.0)
        remembered(client, 3)
        query: dict[str, str | float] = {"q": "What is the name of my pet?", "min_score": 0.1}
        (best, *_) = client.get("/api/v1/memory/search", params=query).json()["results"]
        assert best["prompt"] == "My cat is called Quartz."
        answer = chat(client, "What is the name of my pet?", semantic_memory=True, semantic_top_k=1)
        assert answer["semantic_memory_hits"] == 1
        made = client.get("/api/v1/history", params={"mode": "embedding"}).json()["items"]
        assert {item["prompt"] for item in made} == {None}, "the history has what it took, not the text once more"
        assert {item["cost"] for item in made} == {0}
        refused = client.post("/api/v1/chat", json=asked(model="all-minilm-l6-v2", stream=False))
        assert refused.status_code == 400


def test_a_chat_does_not_fail_for_its_memory(accounts: Clients, mock: ScriptedServer) -> None:
    client, _ = accounts
    play(mock, {"model": VECTORS, "fault": "status", "status": 503})
    said = chat(client, "Anything", semantic_memory=True)
    assert [warning["code"] for warning in said["warnings"]] == ["memory_unavailable"]


def test_a_panel_is_told_what_is_remembered(accounts: Clients, mock: ScriptedServer) -> None:
    client, _ = accounts
    play(mock, defaults={"text": "Noted."})
    chat(client, "Snow", semantic_memory=True)
    remembered(client, 1)
    panel = {"models": ["gpt-5.2", "claude-sonnet-4.5"], "stream": False, "semantic_memory": True}
    said = client.post("/api/v1/compare", json=asked("Snow\nNoted.", **panel)).json()
    assert (said["semantic_memory_used"], said["semantic_memory_hits"]) == (True, 1)


def test_without_a_model_there_is_no_memory_and_no_copilot(providers: ScriptedServer, tmp_path: Path) -> None:
    with running(tmp_path, settings(providers.url)) as gateway, gateway.client() as client:
        said = chat(client, "Anything", semantic_memory=True)
        assert [warning["code"] for warning in said["warnings"]] == ["memory_not_set_up"]
        assert client.get("/api/v1/memory/search", params={"q": "x"}).json()["available"] is False
        refused = client.post("/api/v1/settings/copilot/ask", json={"question": "How do I add a key?"})
        assert (refused.status_code, refused.json()["code"]) == (501, "copilot_not_set_up")


def test_a_memory_by_a_model_that_makes_no_vectors_is_refused_at_the_start(
    providers: ScriptedServer, tmp_path: Path
) -> None:
    with (
        pytest.raises(AssertionError, match=r"memory\.model"),
        running(tmp_path, settings(providers.url, memory={"model": "gpt-5.2"})),
    ):
        pass


def test_the_copilot_keeps_its_state_by_account_and_answers_from_the_documentation(
    accounts: Clients, mock: ScriptedServer
) -> None:
    first, second = accounts
    first.put("/api/v1/settings/copilot", json={"goal": "save money", "checklist": {"first_key": True}})
    said = first.put("/api/v1/settings/copilot", json={"onboarded": True}).json()
    assert (said["goal"], said["onboarded"], said["checklist"]) == ("save money", True, {"first_key": True})
    assert second.get("/api/v1/settings/copilot").json()["goal"] is None
    play(mock, defaults={"text": "With llmwise keys create."})
    question = {"question": "How do I set a budget for a key?", "path": "/keys", "context": {"keys": "2"}}
    answer = first.post("/api/v1/settings/copilot/ask", json=question).json()
    assert answer["answer"] == "With llmwise keys create."
    assert "howto/budgets.md" in answer["sources"]
    told = next(iter(mock.journal)).json["messages"]
    assert "budget" in told[0]["content"]
    assert first.get("/api/v1/history").json()["items"][0]["id"] == answer["id"]
