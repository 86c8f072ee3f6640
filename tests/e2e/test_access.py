"""Deny by default: every route of the table, asked by every role."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from llmwise.api.frame import Route
from llmwise.api.routes import ROUTES
from llmwise.api.server import Gateway as Server
from llmwise.storage.store import OfflineKeys

from .gateway import Gateway

OPEN = {"/healthz", "/readyz", "/metrics"}
"""What is served without a key; another one is a decision, and a line here."""

KEYED = [route for route in ROUTES if route.access != "open"]
MODES = ("chat", "compare", "blend", "judge")

Key = Callable[..., str]


def named(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.fixture(scope="module")
def keys(gateway: Gateway) -> Iterator[OfflineKeys]:
    with OfflineKeys.open(f"sqlite:///{gateway.config.parent / 'llmwise.db'}") as keys:
        yield keys


@pytest.fixture(scope="module")
def key(keys: OfflineKeys) -> Key:
    """Makes a key: a new one for each question, since some of them end it."""

    def make(*, admin: bool = False, settings: str | None = None, expires_in_ms: int | None = None) -> str:
        now_ms = time.time_ns() // 1_000_000
        expires_at_ms = None if expires_in_ms is None else now_ms + expires_in_ms
        return keys.create("role", admin, now_ms, settings, expires_at_ms=expires_at_ms)[1]

    return make


def ask(gateway: Gateway, route: Route, key: str | None) -> httpx.Response:
    """With a body that no route takes for a question to a model."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    body: dict[str, Any] = {} if route.method in ("GET", "DELETE") else {"json": {}}
    path = route.path.replace("{", "").replace("}", "")
    return httpx.request(route.method, f"{gateway.url}{path}", headers=headers, timeout=20, **body)


def test_only_these_are_open(gateway: Gateway) -> None:
    assert {route.path for route in ROUTES if route.access == "open"} == OPEN
    for route in ROUTES:
        if route.access == "open":
            assert ask(gateway, route, None).status_code == 200, named(route)


def test_the_application_serves_the_table_and_nothing_else() -> None:
    async def lifespan(gateway: Server) -> AsyncIterator[None]:
        yield

    served = {getattr(route, "path", repr(route)) for route in Server(lifespan)._rest.routes}
    assert served - {route.path for route in ROUTES} == {"/openapi.json", "/docs"}


def test_a_prefix_before_the_path_opens_nothing(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url, timeout=20) as client:
        for route in KEYED:
            path = route.path.replace("{", "").replace("}", "")
            assert client.request(route.method, f"/a/compat{path}").status_code == 401, named(route)


@pytest.mark.parametrize("role", ["nobody", "nonsense", "unknown", "expired", "revoked", "rotated away"])
def test_without_a_key_that_works_every_route_gives_the_same_401(
    gateway: Gateway, role: str, key: Key, keys: OfflineKeys
) -> None:
    now_ms = time.time_ns() // 1_000_000
    if role == "revoked":
        raw = key()
        keys.revoke(raw[:12], now_ms)
    elif role == "rotated away":
        raw = key()
        keys.rotate(raw[:12], now_ms, 0)
    else:
        raw = {"nobody": "", "nonsense": "mm_sk_?", "unknown": f"mm_sk_{'0' * 64}"}.get(role) or key(expires_in_ms=-1)
    said = set()
    for route in KEYED:
        answer = ask(gateway, route, None if role == "nobody" else raw)
        assert answer.status_code == 401, named(route)
        error = answer.json()["error"]
        said.add(error if isinstance(error, str) else error["message"])
    assert len(said) == 1, "nothing says why"


def test_a_plain_key_passes_everywhere_but_where_an_administrator_is_wanted(gateway: Gateway, key: Key) -> None:
    for route in KEYED:
        answer = ask(gateway, route, key())
        if route.access == "admin":
            assert answer.status_code == 403, named(route)
            assert "administrator" in answer.text
        else:
            assert answer.status_code not in (401, 403, 500), (named(route), answer.text)


def test_an_administrator_passes_everywhere(gateway: Gateway, key: Key) -> None:
    for route in KEYED:
        answer = ask(gateway, route, key(admin=True))
        assert answer.status_code not in (401, 403, 500), (named(route), answer.text)


@pytest.mark.parametrize("mode", MODES)
def test_a_key_for_one_mode_passes_there_and_where_no_model_is_called(gateway: Gateway, key: Key, mode: str) -> None:
    for route in KEYED:
        if route.access == "admin":
            continue
        answer = ask(gateway, route, key(settings=f'{{"modes": ["{mode}"]}}'))
        if route.work in ("other", mode):
            assert answer.status_code not in (401, 403, 500), (named(route), answer.text)
        else:
            assert answer.status_code == 403, (named(route), answer.text)


def test_an_administrator_s_key_can_be_scoped_too(gateway: Gateway, key: Key) -> None:
    chat = next(route for route in KEYED if route.path == "/api/v1/chat")
    assert ask(gateway, chat, key(admin=True, settings='{"modes": ["judge"]}')).status_code == 403


def test_others_keys_are_not_an_ordinary_key_s_to_end(gateway: Gateway, key: Key) -> None:
    mine, other = key(), key()
    with gateway.client(mine) as client:
        for method, path in (("DELETE", "/api/v1/keys/revoke"), ("POST", "/api/v1/keys/rotate")):
            assert client.request(method, path, params={"id": other[:12]}).status_code == 403
    with gateway.client(other) as client:
        assert client.get("/api/v1/keys/info").status_code == 200


def test_what_is_not_in_the_table_is_not_served(gateway: Gateway) -> None:
    for path in ("/api/v1/admin", "/api/v1/keys/../keys", "/v1/files", "/.env", "/api/v1"):
        assert httpx.get(f"{gateway.url}{path}", timeout=20).status_code in (401, 404)
