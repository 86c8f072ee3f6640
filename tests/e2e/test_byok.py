"""An account's own keys of providers: encrypted, masked, sent to their own origin alone, free of charge here."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmwise.providers.scripted.journal import hint
from llmwise.providers.scripted.server import ScriptedServer
from llmwise.storage.sealing import new_master

from .gateway import Gateway, asked, environment, events_of, llmwise, play, running, scripted, settings, wait_for

OPERATORS = "sk-operators-own-key-000000000000"
OWN = "sk-canary-5f0e1d2c3b4a59687766554433221100"
MASTER, NEWER = new_master(), new_master()
ENVIRON = {"OPENAI_API_KEY": OPERATORS, "MASTER": MASTER, "NEWER": NEWER}


def tree_of(url: str, **sections: Any) -> dict[str, Any]:
    tree = settings(url, ("gpt-5.2", "claude-sonnet-4.5"), **sections)
    tree["providers"]["openai"]["api_key"] = "env:OPENAI_API_KEY"
    return {"secrets": {"keys": ["env:MASTER"]}, **tree}


@pytest.fixture(scope="module")
def gateway(providers: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("byok")
    with running(folder, tree_of(providers.url), environ=environment(**ENVIRON)) as gateway:
        yield gateway


@pytest.fixture
def accounts(gateway: Gateway) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Two accounts' clients; neither is an administrator, and neither has a key of a provider."""
    name = time.time_ns()
    with gateway.client() as admin:
        for account in (f"a{name}", f"b{name}"):
            admin.post("/api/v1/accounts", json={"id": account, "name": account}).raise_for_status()
        keys = [
            admin.post("/api/v1/keys/generate", json={"name": account, "account_id": account}).json()["key"]
            for account in (f"a{name}", f"b{name}")
        ]
    with gateway.client(keys[0]) as first, gateway.client(keys[1]) as second:
        yield first, second


def chat(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/api/v1/chat", json=asked(model="gpt-5.2", stream=False, **fields))


def save(client: httpx.Client, key: str = OWN) -> dict[str, Any]:
    answer = client.put("/api/v1/settings/keys", json={"keys": {"openai": key}})
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def shown(mock: ScriptedServer) -> list[str | None]:
    """The keys that the provider was shown, in the order of the requests."""
    return [said.headers.get("authorization") for said in mock.journal]


def test_a_key_is_used_for_its_account_alone_and_the_answer_says_so(
    accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    first, second = accounts
    save(first)
    own, others = chat(first).json(), chat(second).json()
    assert shown(mock) == [hint(f"Bearer {OWN}"), hint(f"Bearer {OPERATORS}")]
    assert (own["byok"], own["cost"], own["credits_charged"]) == (True, 0, 0)
    assert others["byok"] is False
    assert others["cost"] > 0
    assert second.get("/api/v1/settings/keys").json()["keys"] == []
    item = first.get("/api/v1/history").json()["items"][0]
    assert (item["byok"], item["cost"]) == (True, 0)
    assert item["completion_tokens"] > 0, "recorded all the same"
    assert first.get("/api/v1/credits/transactions").json() == []


def test_a_stream_says_whose_key_it_went_by(accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer) -> None:
    first, _ = accounts
    save(first)
    body = asked(model="gpt-5.2", stream=True)
    done = events_of(first.post("/api/v1/chat", json=body).content)[-1]
    assert (done["byok"], done["credits_charged"]) == (True, 0)


def test_every_mode_goes_by_the_accounts_key(accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer) -> None:
    first, _ = accounts
    save(first)
    compared = first.post(
        "/api/v1/compare", json={"models": ["gpt-5.2", "claude-sonnet-4.5"], "stream": False, **asked()}
    ).json()
    assert hint(f"Bearer {OWN}") in shown(mock)
    assert hint(f"Bearer {OPERATORS}") not in shown(mock)
    costs = {one["model"]: one["cost"] for one in compared["responses"]}
    assert costs["gpt-5.2"] == 0
    assert costs["claude-sonnet-4.5"] > 0
    for path, body in (
        ("/v1/chat/completions", asked(model="gpt-5.2")),
        ("/v1/responses", {"model": "gpt-5.2", "input": "Hello"}),
        ("/v1/messages", asked(model="gpt-5.2", max_tokens=64)),
    ):
        mock.journal.clear()
        assert first.post(path, json=body).status_code == 200, path
        assert shown(mock) == [hint(f"Bearer {OWN}")], path


def test_what_is_deleted_is_used_no_more_at_once(
    accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    first, second = accounts
    save(first)
    assert second.delete("/api/v1/settings/keys/openai").status_code == 404, "another account's is not there"
    gone = first.delete("/api/v1/settings/keys/openai").json()
    assert (gone["deleted"], gone["effective_within_s"]) == (True, 5.0)
    assert chat(first).json()["byok"] is False
    assert shown(mock) == [hint(f"Bearer {OPERATORS}")]


def test_a_key_is_shown_by_its_end_only_and_nothing_repeats_it(
    gateway: Gateway, accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    first, _ = accounts
    said = save(first)
    (row,) = said["keys"]
    assert (row["provider"], row["key"], row["usable"]) == ("openai", "...1100", True)
    # A provider that quotes the key in its refusal, as OpenAI does.
    play(
        mock,
        {"model": "gpt-5.2", "fault": "status", "status": 401, "message": f"Incorrect API key provided: {OWN}"},
    )
    refused = chat(first)
    assert refused.status_code == 502
    wrong = first.put("/api/v1/settings/keys", json={"keys": {"opnai": OWN}})
    assert (wrong.status_code, "openai" in wrong.json()["error"]) == (422, True)
    spaced = first.put("/api/v1/settings/keys", json={"keys": {"openai": f"{OWN} x"}})
    assert spaced.status_code == 422
    misfit = first.put("/api/v1/settings/keys", json={"keys": {"openai": [OWN]}})
    assert misfit.status_code == 422
    history = first.get("/api/v1/history").text
    metrics = httpx.get(f"{gateway.url}/metrics").text
    for text in (
        refused.text,
        wrong.text,
        spaced.text,
        history,
        metrics,
        gateway.log,
        first.get("/api/v1/settings/keys").text,
    ):
        assert OWN not in text
    for file in gateway.config.parent.rglob("*"):
        if file.is_file() and file.name != "llmwise.toml":
            assert OWN.encode() not in file.read_bytes(), file


def test_a_bad_key_of_one_account_closes_no_door_for_others(
    accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    first, second = accounts
    save(first)
    play(mock, {"model": "gpt-5.2", "fault": "status", "status": 401})
    assert chat(first).json()["code"] == "upstream_unauthorized"
    assert chat(first).json()["code"] == "circuit_open", "the account's own door"
    play(mock)
    assert chat(second).status_code == 200
    save(first, OWN[:-1] + "9")
    assert chat(first).status_code == 200, "another key, another door"


def test_no_credit_is_needed_for_ones_own_key(
    gateway: Gateway, accounts: tuple[httpx.Client, httpx.Client], mock: ScriptedServer
) -> None:
    first, _ = accounts
    account = first.get("/api/v1/credits/balance").json()["account_id"]
    with gateway.client() as admin:
        budgets = {"budgets": [{"period": "total", "usd": 0.000001}]}
        admin.put(f"/api/v1/accounts/{account}/budgets", json=budgets).raise_for_status()
    wait_for(lambda: chat(first).status_code == 402, 8, lambda: "the budget holds within 5 s")
    save(first)
    assert chat(first).status_code == 200


def test_a_provider_that_moved_is_never_sent_the_key(providers: ScriptedServer, tmp_path: Path) -> None:
    with (
        scripted() as elsewhere,
        running(tmp_path, tree_of(providers.url), environ=environment(**ENVIRON)) as gateway,
        gateway.client() as client,
    ):
        save(client)
        gateway.rewrite(tree_of(elsewhere.url))
        gateway.hang_up()
        gateway.await_log("configuration reloaded")
        refused = chat(client)
        assert (refused.status_code, refused.json()["code"]) == (400, "provider_key_unusable")
        assert providers.url in refused.json()["error"]
        assert elsewhere.url in refused.json()["error"]
        assert len(elsewhere.journal) == 0, "neither with the account's key nor with the operator's"
        (row,) = client.get("/api/v1/settings/keys").json()["keys"]
        assert row["usable"] is False
        save(client)
        assert chat(client).json()["byok"] is True
        assert shown(elsewhere) == [hint(f"Bearer {OWN}")]


def refused_bodies() -> Iterator[Any]:
    yield {"keys": {"primary": OWN, "backup": ""}}
    yield {"keys": {"openai": OWN, "anthropic": [OWN]}}
    yield {"keys": {"openai": [OWN]}}
    yield {"keys": {"openai": {"key": OWN}}}
    yield {"keys": [OWN]}
    yield {"keys": OWN}
    yield {"keys": {"openai": OWN * 200}}
    yield {"keys": {"openai": f"{OWN} {OWN}"}}
    yield {"keys": {OWN: "openai"}}
    yield {"keys": {OWN: ""}}
    yield {"openai": OWN}
    yield {"keys": {"openai": OWN}, OWN: 1}
    yield {OWN: "openai"}
    yield [OWN]
    yield OWN


def test_no_refusal_repeats_what_may_be_a_key(gateway: Gateway, accounts: tuple[httpx.Client, httpx.Client]) -> None:
    first, _ = accounts
    for body in refused_bodies():
        answer = first.put("/api/v1/settings/keys", json=body)
        assert answer.status_code == 422, answer.text
        assert "canary" not in answer.text, body
    number = first.put("/api/v1/settings/keys", content=b'{"keys": {"openai": 55501234}}')
    assert (number.status_code, "5550" in number.text) == (422, False)
    cut = first.put("/api/v1/settings/keys", content=f'{{"keys": {{"openai": "{OWN}'.encode())
    assert (cut.status_code, "canary" in cut.text) == (400, False)
    assert "canary" not in first.delete(f"/api/v1/settings/keys/{OWN}").text
    near = first.put("/api/v1/settings/keys", json={"keys": {"opnai": OWN}}).json()
    assert ("openai" in near["error"], near["param"]) == (True, "keys")
    unknown = first.put("/api/v1/settings/keys", json={"openai": OWN}).json()
    assert unknown["error"] == "body: unknown field; known: keys"
    assert gateway.key is not None
    with gateway.client() as admin:
        lost = admin.delete("/api/v1/keys/revoke", params={"id": f"{gateway.key[:-1]}z"})
        assert (lost.status_code, gateway.key[:20] in lost.text) == (404, False)


def test_rows_that_were_tampered_with_open_to_nothing(providers: ScriptedServer, tmp_path: Path) -> None:
    """Whoever can write to the database can still not send a key elsewhere, nor use it for another account."""
    with (
        running(tmp_path, tree_of(providers.url), environ=environment(**ENVIRON)) as gateway,
        gateway.client() as client,
    ):
        save(client)
        with closing(sqlite3.connect(tmp_path / "llmwise.db")) as db, db:
            db.execute("UPDATE provider_keys SET provider = 'anthropic'")
        (row,) = client.get("/api/v1/settings/keys").json()["keys"]
        assert (row["provider"], row["usable"]) == ("anthropic", False)


def test_the_master_key_rotates(providers: ScriptedServer, tmp_path: Path) -> None:
    tree = tree_of(providers.url)
    with running(tmp_path, tree, environ=environment(**ENVIRON)) as gateway:
        with gateway.client() as client:
            save(client)
        key = gateway.key
    both = {**tree, "secrets": {"keys": ["env:NEWER", "env:MASTER"]}}
    new_only = {**tree, "secrets": {"keys": ["env:NEWER"]}}
    with running(tmp_path, new_only, environ=environment(**ENVIRON)) as gateway, gateway.client(key) as client:
        assert chat(client).json()["code"] == "provider_key_unusable", "not rotated yet"
        gateway.rewrite(new_only)
        refused = llmwise("secrets", "rotate", "--config", str(gateway.config), environ=ENVIRON)
        assert refused.returncode != 0
        assert "nothing has changed" in refused.stderr
        gateway.rewrite(both)
        done = llmwise("secrets", "rotate", "--config", str(gateway.config), environ=ENVIRON)
        assert (done.returncode, "1 provider keys" in done.stdout) == (0, True), done.stderr
        gateway.rewrite(new_only)
        gateway.hang_up()
        gateway.await_log("configuration reloaded")
        assert chat(client).json()["byok"] is True


def test_without_a_master_key_nothing_is_saved(providers: ScriptedServer, tmp_path: Path) -> None:
    tree = {**tree_of(providers.url), "secrets": {}}
    with running(tmp_path, tree, environ=environment(**ENVIRON)) as gateway, gateway.client() as client:
        assert client.get("/api/v1/settings/keys").json()["available"] is False
        refused = client.put("/api/v1/settings/keys", json={"keys": {"openai": OWN}})
        assert (refused.status_code, refused.json()["code"]) == (501, "secrets_not_set_up")
