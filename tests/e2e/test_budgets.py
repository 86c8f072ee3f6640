"""Budgets, limits and credits of keys and accounts, as their owners meet them."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmwise.api.routes import ROUTES
from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, asked, events_of, play, running, settings

MODEL = "gpt-5.2"
TOKENS = {"input": 1000, "output": 500}
MAX_TOKENS = 500


@pytest.fixture(scope="module")
def cost(gateway: Gateway) -> float:
    """What one request of `TOKENS` costs, in USD."""
    with gateway.client() as client:
        (row,) = [row for row in client.get("/api/v1/models").json() if row["id"] == MODEL]
    price: float = (TOKENS["input"] * row["input_price"] + TOKENS["output"] * row["output_price"]) / 1_000_000
    return price


@pytest.fixture
def priced(mock: ScriptedServer) -> ScriptedServer:
    play(mock, defaults={"usage": TOKENS})
    return mock


def made(gateway: Gateway, **fields: Any) -> httpx.Client:
    """A client with a new key."""
    with gateway.client() as admin:
        answer = admin.post("/api/v1/keys/generate", json=fields)
        assert answer.status_code == 200, answer.text
        return gateway.client(answer.json()["key"])


def chat(client: httpx.Client, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "stream": False, "max_tokens": MAX_TOKENS} | fields
    return client.post("/api/v1/chat", json=asked() | body)


def account(gateway: Gateway, name: str, *budgets: dict[str, Any]) -> str:
    with gateway.client() as admin:
        assert admin.post("/api/v1/accounts", json={"id": name}).status_code == 200
        if budgets:
            put = admin.put(f"/api/v1/accounts/{name}/budgets", json={"budgets": [*budgets]})
            assert put.status_code == 200, put.text
    return name


# scopes


def test_a_key_keeps_to_its_models(gateway: Gateway, priced: ScriptedServer) -> None:
    with made(gateway, models=["DeepSeek-V3"]) as client:
        assert client.get("/api/v1/keys/info").json()["models"] == ["deepseek-v3"]
        assert chat(client, model="deepseek-v3").status_code == 200
        refused = chat(client)
        assert (refused.status_code, refused.json()["code"]) == (403, "model_not_allowed")
        assert chat(client, model="auto").json()["model"] == "deepseek-v3"
        both = {"models": [MODEL, "deepseek-v3"], "messages": asked()["messages"], "stream": False}
        assert client.post("/api/v1/compare", json=both).status_code == 403


def test_a_key_for_a_model_that_is_not_there_is_not_made(gateway: Gateway) -> None:
    with gateway.client() as admin:
        answer = admin.post("/api/v1/keys/generate", json={"models": ["gpt-5.3"]})
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")


def test_a_rotated_key_goes_on_with_both_secrets_and_its_history(gateway: Gateway, priced: ScriptedServer) -> None:
    with made(gateway, name="rotating") as old:
        chat(old)
        rotated = old.post("/api/v1/keys/rotate").json()
        with gateway.client(rotated["key"]) as new:
            for client in (old, new):
                assert client.get("/api/v1/history").json()["total"] == 1
            assert new.post("/api/v1/keys/rotate", json={"grace_s": 0}).status_code == 200
        assert old.get("/api/v1/keys/info").status_code == 401


# budgets


def test_a_hard_budget_ends_in_402_that_says_which_and_how_much(
    gateway: Gateway, priced: ScriptedServer, cost: float
) -> None:
    with made(gateway, budgets=[{"period": "day", "usd": round(2.5 * cost, 6)}]) as client:
        answers = [chat(client) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 402]
        assert answers[0].json()["credits_charged"] == pytest.approx(100 * cost)
        assert answers[0].json()["credits_remaining"] == pytest.approx(150 * cost, abs=1e-3)
        assert answers[2].json()["credits_remaining"] == 0
        told = answers[3].json()
        assert (told["code"], told["budget"]) == ("out_of_credit", "key:day")
        assert told["limit_usd"] == pytest.approx(2.5 * cost, abs=1e-6)
        assert told["spent_usd"] == pytest.approx(3 * cost)
        assert told["resets_at"].endswith("T00:00:00+00:00")
        assert client.get("/api/v1/history").json()["total"] == 3, "a refused request is no request"


QUESTION = asked(model=MODEL, stream=False)
SEVERAL = asked(models=[MODEL, "deepseek-v3"], stream=False)
QUESTIONS: dict[str, dict[str, Any]] = {
    "/api/v1/chat": QUESTION,
    "/api/v1/compare": SEVERAL,
    "/api/v1/blend": SEVERAL,
    "/api/v1/judge": asked(contestants=[MODEL, "deepseek-v3"], judge="gemini-3-flash", stream=False),
    "/v1/chat/completions": QUESTION,
    "/v1/messages": QUESTION | {"max_tokens": MAX_TOKENS},
    "/v1/responses": {"model": MODEL, "input": "What is up?"},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "What is up?"},
}
"""A body for each route that calls a model."""


def test_there_is_a_question_for_each_route_that_calls_a_model() -> None:
    asking = {route.path for route in ROUTES if route.access != "open" and route.work != "other"}
    assert set(QUESTIONS) == asking - {"/api/v1/settings/copilot/ask"}, (
        "which asks like a chat, if a model is configured"
    )


@pytest.mark.parametrize("path", [path for path in QUESTIONS if path != "/v1/embeddings"])
def test_every_endpoint_passes_the_same_purse(gateway: Gateway, mock: ScriptedServer, path: str) -> None:
    play(mock, defaults={"usage": TOKENS, "text": "Twelve words."})
    with made(gateway, budgets=[{"period": "total", "usd": 0.000001}]) as client:
        client.post(path, json=QUESTIONS[path])  # the judge's answer is none, and its contestants are paid for
        second = client.post(path, json=QUESTIONS[path])
        assert second.status_code == 402, second.text
        assert "used up" in second.text


def test_embeddings_pass_it_too(providers: ScriptedServer, tmp_path: Path) -> None:
    play(providers)
    tree = settings(providers.url, models=[{"id": MODEL}, {"id": "text-embedding-3-small"}])
    body = QUESTIONS["/v1/embeddings"]
    with running(tmp_path, tree) as gateway, made(gateway, budgets=[{"period": "total", "usd": 1e-9}]) as client:
        statuses = [client.post("/v1/embeddings", json=body).status_code for _ in range(2)]
        if statuses == [200, 200]:  # so cheap that the first was rounded to nothing
            statuses[1] = client.post("/v1/embeddings", json=body).status_code
    assert statuses == [200, 402]


def test_keys_of_one_account_spend_from_one_purse(gateway: Gateway, priced: ScriptedServer, cost: float) -> None:
    name = account(gateway, "team", {"period": "month", "usd": round(1.5 * cost, 6)})
    with made(gateway, account_id=name) as one, made(gateway, account_id=name) as other, made(gateway) as stranger:
        assert [chat(client).status_code for client in (one, other, one, other)] == [200, 200, 402, 402]
        assert chat(one).json()["budget"] == "account:month"
        assert chat(stranger).status_code == 200


def test_a_soft_budget_warns_in_a_header_the_log_and_a_metric(
    gateway: Gateway, priced: ScriptedServer, cost: float
) -> None:
    with made(gateway, budgets=[{"period": "week", "usd": round(0.5 * cost, 6), "hard": False}]) as client:
        first, second = chat(client), chat(client)
        assert (first.status_code, second.status_code) == (200, 200)
        assert "x-llmwise-budget-warning" not in first.headers
        assert second.headers["x-llmwise-budget-warning"].startswith("key:week; used_usd=")
        assert "soft budget reached" in gateway.log
        assert 'llmwise_budget_warnings_total{owner="key",period="week"}' in client.get("/metrics").text


def test_what_the_caller_does_not_owe_is_not_charged(gateway: Gateway, mock: ScriptedServer, cost: float) -> None:
    play(mock, {"model": MODEL, "fault": "cut", "after": 3}, defaults={"text": "one two three four five"})
    with made(gateway, budgets=[{"period": "total", "usd": 1}]) as client:
        chat(client, stream=True)
        play(mock, {"model": MODEL, "fault": "status", "status": 500})
        assert chat(client).status_code == 502
        balance = client.get("/api/v1/credits/balance").json()
        (budget,) = balance["budgets"]
        assert (budget["spent_usd"], budget["reserved_usd"]) == (0, 0)


def test_a_stream_says_what_was_charged_and_what_is_left(gateway: Gateway, priced: ScriptedServer, cost: float) -> None:
    with made(gateway, budgets=[{"period": "total", "usd": 1}]) as client:
        done = events_of(chat(client, stream=True).content)[-1]
    assert done["credits_charged"] == pytest.approx(100 * cost)
    assert done["credits_remaining"] == pytest.approx(100 - 100 * cost)


def test_500_at_once_spend_at_most_the_budget_and_one_reservation(
    gateway: Gateway, priced: ScriptedServer, cost: float
) -> None:
    async def rush(key: str) -> list[int]:
        headers = {"authorization": key}
        limits = httpx.Limits(max_connections=500)
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=50, limits=limits) as client:
            body = asked(model=MODEL, stream=False, max_tokens=MAX_TOKENS)
            answers = await asyncio.gather(*(client.post("/api/v1/chat", json=body) for _ in range(500)))
        return [answer.status_code for answer in answers]

    with made(gateway, budgets=[{"period": "total", "usd": 1}]) as client:
        statuses = asyncio.run(rush(client.headers["authorization"]))
        assert set(statuses) == {200, 402}
        spent = statuses.count(200) * cost
        reservation = max(0.01, cost)
        assert spent < 1 + reservation
        (budget,) = client.get("/api/v1/credits/balance").json()["budgets"]
        assert budget["spent_usd"] == pytest.approx(spent)
        assert budget["reserved_usd"] == 0


def test_budgets_are_what_they_were_after_a_restart(providers: ScriptedServer, tmp_path: Path, cost: float) -> None:
    play(providers, defaults={"usage": TOKENS})
    tree = settings(providers.url)
    with running(tmp_path, tree) as gateway:
        admin = gateway.key
        with made(gateway, budgets=[{"period": "total", "usd": round(2.5 * cost, 6)}]) as client:
            assert [chat(client).status_code for _ in range(2)] == [200, 200]
            before = client.get("/api/v1/credits/balance").json()
            key = client.headers["authorization"].removeprefix("Bearer ")
    with running(tmp_path, tree) as gateway:
        gateway.key = admin
        with gateway.client(key) as client:
            assert client.get("/api/v1/credits/balance").json() == before
            assert [chat(client).status_code for _ in range(2)] == [200, 402]


def test_a_margin_is_charged_on_top(providers: ScriptedServer, tmp_path: Path, cost: float) -> None:
    play(providers, defaults={"usage": TOKENS})
    with running(tmp_path, settings(providers.url, credits={"margin": 1.25})) as gateway, gateway.client() as client:
        answer = chat(client).json()
        assert answer["cost"] == pytest.approx(cost)
        assert answer["credits_charged"] == pytest.approx(125 * cost)


# limits of a key


def test_tokens_a_minute_and_requests_at_once_are_bounded(gateway: Gateway, mock: ScriptedServer) -> None:
    play(mock, defaults={"usage": TOKENS, "first_event_ms": 300})
    with made(gateway, tokens_per_minute=1200) as client:
        first = chat(client)
        assert (first.status_code, first.headers["x-ratelimit-limit-tokens"]) == (200, "1200")
        assert 0 < int(first.headers["x-ratelimit-remaining-tokens"]) < 1200
        refused = chat(client)
        assert (refused.status_code, refused.json()["code"]) == (429, "token_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    with made(gateway, concurrency=2) as client, ThreadPoolExecutor(6) as pool:
        answers = [*pool.map(lambda _: chat(client), range(6))]
        codes = sorted(answer.status_code for answer in answers)
        assert codes[:2] == [200, 200]
        assert codes[-1] == 429
        assert {a.json()["code"] for a in answers if a.status_code == 429} == {"concurrency_limited"}
        assert chat(client).status_code == 200, "ended requests make room"


def test_a_key_s_own_requests_a_minute(gateway: Gateway, priced: ScriptedServer) -> None:
    with made(gateway, requests_per_minute=1) as client:
        first, second = chat(client), chat(client)
        assert first.headers["x-ratelimit-limit"] == "1"
        assert (first.status_code, second.status_code) in ((200, 429), (200, 200))  # the minute may end between


def test_openai_s_clients_find_the_limits_under_their_names(gateway: Gateway, priced: ScriptedServer) -> None:
    with made(gateway, requests_per_minute=50) as client:
        headers = client.post("/v1/chat/completions", json=asked(model=MODEL)).headers
    assert headers["x-ratelimit-limit-requests"] == headers["x-ratelimit-limit"] == "50"
    assert headers["x-ratelimit-remaining-requests"] == headers["x-ratelimit-remaining"]
    assert headers["x-ratelimit-reset-requests"] == headers["x-ratelimit-reset"] + "s"


# credits


def test_an_unlimited_account_says_so(gateway: Gateway, client: httpx.Client) -> None:
    balance = client.get("/api/v1/credits/balance").json()
    assert (balance["balance"], balance["unlimited"], balance["account_id"]) == (None, True, "default")
    wallet = client.get("/api/v1/credits/wallet").json()
    assert (wallet["currency"], wallet["credits_per_usd"], wallet["unlimited"]) == ("USD", 100, True)


def test_a_grant_makes_an_account_prepaid(gateway: Gateway, priced: ScriptedServer, cost: float) -> None:
    name = account(gateway, "prepaid")
    with made(gateway, account_id=name) as client, gateway.client() as admin:
        chat(client)
        bought = admin.post("/api/v1/credits/purchase", json={"amount_usd": 2.0, "account_id": name, "source": "x"})
        assert bought.status_code == 200, bought.text
        assert (bought.json()["credits"], bought.json()["balance"]) == (200, pytest.approx(200))
        assert chat(client).json()["credits_remaining"] == pytest.approx(200 - 100 * cost)
        pack = admin.post("/api/v1/credits/purchase", json={"pack_id": "small", "account_id": name}).json()
        assert pack["balance"] == pytest.approx(1200 - 100 * cost)
        assert client.get("/api/v1/credits/balance").json()["balance"] == pytest.approx(1200 - 100 * cost)
        budgets = {"budgets": [{"period": "month", "usd": 200}]}
        put = admin.put(f"/api/v1/accounts/{name}/budgets", json=budgets).json()
        assert {one["period"] for one in put["budgets"]} == {"month", "total"}
        assert client.get("/api/v1/credits/balance").json()["balance"] == pytest.approx(1200 - 100 * cost)
    with made(gateway, account_id=name, admin=True) as treasurer:
        rows = treasurer.get("/api/v1/credits/transactions").json()
        assert sum(row["credits"] for row in rows) == pytest.approx(1200 - 100 * cost), "the sum is the balance"


def test_transactions_add_up_to_what_was_spent(gateway: Gateway, priced: ScriptedServer, cost: float) -> None:
    name = account(gateway, "booked", {"period": "total", "usd": 1})
    with made(gateway, account_id=name) as client, made(gateway, account_id=name, admin=True) as other:
        charged = sum(chat(client).json()["credits_charged"] for _ in range(3))
        rows = client.get("/api/v1/credits/transactions").json()
        assert sorted({row["type"] for row in rows}) == ["refund", "reserve", "settle"]
        assert sum(row["credits"] for row in rows) == pytest.approx(-charged)
        assert len({row["id"] for row in rows}) == 9
        assert client.get("/api/v1/credits/transactions", params={"limit": 2, "offset": 1}).json() == rows[1:3]
        assert len(other.get("/api/v1/credits/transactions").json()) == 9, "an administrator sees the account's"


def test_nothing_is_paid_for_here_and_that_is_said(gateway: Gateway) -> None:
    with made(gateway) as client:
        assert isinstance(client.get("/api/v1/credits/packs").json(), list)
        for path, body in (
            ("/api/v1/credits/purchase", {"amount_usd": 10.0}),
            ("/api/v1/credits/confirm-checkout", {"session_id": "cs_1"}),
        ):
            answer = client.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (501, "payments_not_set_up")
        topup = client.put("/api/v1/credits/auto-topup", json={"enabled": True}).json()
        assert (topup["enabled"], topup["threshold_credits"], topup["active"]) == (True, 300, False)
        assert client.get("/api/v1/credits/wallet").json()["auto_topup"] == topup


def fields_refused() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "/api/v1/keys/generate", {"budgets": [{"period": "year", "usd": 1}]}
    yield "/api/v1/keys/generate", {"budgets": [{"period": "day", "usd": -1}]}
    yield "/api/v1/keys/generate", {"expires_at": "soon"}
    yield "/api/v1/keys/generate", {"expires_at": "2020-01-01"}
    yield "/api/v1/keys/generate", {"modes": ["talk"]}
    yield "/api/v1/credits/purchase", {"amount_usd": 0}
    yield "/api/v1/credits/purchase", {"amount_usd": 1e-12}
    yield "/api/v1/credits/purchase", {"amount_usd": 5.0, "pack_id": "small"}
    yield "/api/v1/credits/purchase", {"pack_id": "huge"}
    yield "/api/v1/credits/purchase", {}


@pytest.mark.parametrize(("path", "body"), [*fields_refused()])
def test_nonsense_is_refused_with_its_field(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "validation_error"
