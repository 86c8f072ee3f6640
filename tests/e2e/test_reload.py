"""SIGHUP changes the configuration under running requests; SIGTERM ends a gateway without losing what it did."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import GUIDE_MODELS, Gateway, asked, events_of, play, running, scripted, settings, wait_for

CHAT = "/api/v1/chat"
SLOW = {"defaults": {"text": "word " * 40, "tokens": 40, "tokens_per_second": 20}}
"""An answer of two seconds."""


@pytest.fixture
def fresh(providers: ScriptedServer, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of the test's own."""
    play(providers)
    with running(tmp_path, settings(providers.url)) as gateway:
        yield gateway


def models(client: httpx.Client) -> list[str]:
    return [model["id"] for model in client.get("/api/v1/models").json()]


def recorded(gateway: Gateway) -> list[tuple[str, int, str | None]]:
    """Id, status and finish reason of every request in the database."""
    with closing(sqlite3.connect(gateway.config.parent / "llmwise.db")) as database:
        return list(database.execute("select id, status, finish_reason from requests order by id"))


class Streaming:
    """A stream read in a thread; `begun` once its first event is here."""

    def __init__(self, client: httpx.Client, **fields: Any) -> None:
        self.begun = threading.Event()
        self.body = b""
        self.id = ""
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._read, args=(client, fields))
        self._thread.start()

    def _read(self, client: httpx.Client, fields: dict[str, Any]) -> None:
        try:
            with client.stream("POST", CHAT, json=asked(**{"model": "gpt-5.2", **fields})) as response:
                self.id = response.headers["x-request-id"]
                for data in response.iter_raw():
                    self.body += data
                    self.begun.set()
        except httpx.HTTPError as error:
            self.error = error
        finally:
            self.begun.set()

    @property
    def going_on(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> list[dict[str, Any]]:
        self._thread.join(30)
        assert not self.going_on
        return events_of(self.body)


@contextmanager
def streaming(client: httpx.Client, **fields: Any) -> Iterator[Streaming]:
    stream = Streaming(client, **fields)
    assert stream.begun.wait(10)
    assert stream.error is None
    yield stream
    stream.end()


def told(events: list[dict[str, Any]]) -> str:
    return "".join(event.get("delta", "") for event in events)


# --- SIGHUP ---


def test_a_hang_up_changes_the_models_and_leaves_a_stream_under_way_alone(
    fresh: Gateway, providers: ScriptedServer
) -> None:
    play(providers, **SLOW)
    with fresh.client() as client, streaming(client) as stream:
        fresh.rewrite(settings(providers.url, ["gemini-3-flash"]))
        fresh.hang_up()
        fresh.await_log("configuration reloaded")
        assert models(client) == ["gemini-3-flash"]
        assert client.post(CHAT, json=asked(model="gpt-5.2", stream=False)).status_code == 404
        assert stream.going_on, "the reload was to happen while the stream was under way"
        assert providers.in_flight == 1
    events = stream.end()
    assert told(events).split() == ["word"] * 40
    assert events[-1]["event"] == "done"
    assert events[-1]["resolved_model"] == "gpt-5.2"


def test_a_stream_goes_on_though_its_provider_has_moved(fresh: Gateway, providers: ScriptedServer) -> None:
    play(providers, **SLOW)
    with scripted({"defaults": {"text": "from elsewhere"}}) as elsewhere, fresh.client() as client:
        with streaming(client) as stream:
            fresh.rewrite(settings(elsewhere.url))
            fresh.hang_up()
            fresh.await_log("configuration reloaded")
            answer = client.post(CHAT, json=asked(model="gpt-5.2", stream=False)).json()
            assert answer["content"] == "from elsewhere"
            assert stream.going_on
        assert told(stream.end()).split() == ["word"] * 40
        assert len(providers.requests) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"models": [{"id": "gpt-5.2"}, {"id": "gpt-5.2"}]}, "models[1].id = 'gpt-5.2'"),
        ({"auto": {"default": "gpt-5.22"}}, "auto.default = 'gpt-5.22'"),
        ({"surprise": 1}, "surprise = 1: unknown key"),
        ({"server": {"workers": 2}}, "[server] has changed, which needs a restart"),
        ({"providers": {"openai": {"api_key": "env:NOT_SET_ANYWHERE"}}}, "NOT_SET_ANYWHERE is not set"),
        ({"providers": {"played": {"kind": "scripted", "script": "nowhere.toml"}}, "models": []}, "nowhere.toml"),
    ],
    ids=["two-of-a-name", "unknown-default", "unknown-key", "needs-restart", "no-secret", "no-script"],
)
def test_a_configuration_that_is_not_valid_is_refused_whole(
    gateway: Gateway, mock: ScriptedServer, change: dict[str, Any], says: str
) -> None:
    before = gateway.config.read_text()
    refused = gateway.log.count("not reloaded")
    with gateway.client() as client:
        # The list of models is another one too: nothing of the file may come through.
        tree = settings(mock.url, ["gpt-5.2"], **change)
        try:
            gateway.rewrite(tree)
            gateway.hang_up()
            gateway.await_log("configuration not reloaded, the old one stays", refused + 1)
        finally:
            gateway.config.write_text(before)
        assert says in gateway.log
        assert models(client) == list(GUIDE_MODELS)
        assert client.post(CHAT, json=asked(model="deepseek-v3", stream=False)).status_code == 200


def test_a_file_that_is_not_toml_or_gone_is_refused_too(gateway: Gateway, mock: ScriptedServer) -> None:
    before = gateway.config.read_text()
    refused = gateway.log.count("not reloaded")
    try:
        gateway.config.write_text("[server\n")
        gateway.hang_up()
        gateway.await_log("not reloaded", refused + 1)
        gateway.config.unlink()
        gateway.hang_up()
        gateway.await_log("not reloaded", refused + 2)
    finally:
        gateway.config.write_text(before)
    assert "not TOML" in gateway.log
    assert "no such file" in gateway.log
    with gateway.client() as client:
        assert models(client) == list(GUIDE_MODELS)
        gateway.hang_up()
        gateway.await_log("configuration reloaded from")
        assert models(client) == list(GUIDE_MODELS)


def test_a_reload_keeps_the_circuits_and_changes_the_limits(fresh: Gateway, providers: ScriptedServer) -> None:
    play(providers, {"model": "gpt-5.2", "fault": "status", "status": 500})
    with fresh.client() as client:
        for _ in range(3):
            client.post(CHAT, json=asked(model="gpt-5.2", stream=False))
        fresh.rewrite(settings(providers.url, limits={"chat": 17, "other": 1000, "burst": 1000}))
        fresh.hang_up()
        fresh.await_log("configuration reloaded")
        target = client.get("/api/v1/health/targets").json()["targets"][0]
        assert (target["model"], target["circuit"]) == ("gpt-5.2", "open")
        assert target["retry_in_s"] > 0
        answer = client.post(CHAT, json=asked(model="gemini-3-flash", stream=False))
        assert answer.headers["x-ratelimit-limit"] == "17"


# --- SIGTERM ---


def test_what_was_answered_is_in_the_database_when_the_gateway_is_told_to_end_at_once(
    fresh: Gateway, providers: ScriptedServer
) -> None:
    with fresh.client() as client, ThreadPoolExecutor(8) as pool:
        bodies = [asked(f"question {i}", model="gpt-5.2", stream=bool(i % 2)) for i in range(60)]
        answers = list(pool.map(lambda body: client.post(CHAT, json=body), bodies))
        fresh.process.terminate()
    assert {answer.status_code for answer in answers} == {200}
    fresh.process.wait(20)
    assert {row[0] for row in recorded(fresh)} == {answer.headers["x-request-id"] for answer in answers}
    assert {row[1:] for row in recorded(fresh)} == {(200, "stop")}


def test_a_stream_under_way_is_allowed_to_end(fresh: Gateway, providers: ScriptedServer) -> None:
    play(providers, **SLOW)
    with fresh.client() as client:
        with streaming(client) as stream:
            fresh.process.terminate()
        events = stream.end()
    assert told(events).split() == ["word"] * 40
    assert events[-1]["event"] == "done"
    fresh.process.wait(20)
    assert recorded(fresh) == [(stream.id, 200, "stop")]


def test_a_stream_that_does_not_end_is_ended_and_recorded(providers: ScriptedServer, tmp_path: Path) -> None:
    play(providers, {"fault": "stall", "after": 2})
    with running(tmp_path, settings(providers.url, server={"drain_s": 1})) as gateway, gateway.client() as client:
        stream = Streaming(client)
        assert stream.begun.wait(10)
        began = monotonic()
        gateway.stop()
        assert monotonic() - began < 10
        wait_for(lambda: not stream.going_on, 5, lambda: "the stream still waits")
        assert b"[DONE]" not in stream.body or b'"event":"error"' in stream.body
        ((request_id, status, finish),) = recorded(gateway)
        assert (request_id, finish) == (stream.id, None)
        assert status >= 400
    wait_for(lambda: providers.in_flight == 0, 5, lambda: "the provider is still held")


# --- workers ---


def test_two_workers_serve_reload_and_end_together(providers: ScriptedServer, tmp_path: Path) -> None:
    play(providers)
    tree = settings(providers.url, server={"workers": 2})
    with running(tmp_path, tree) as gateway:
        parent = psutil.Process(gateway.process.pid)

        def serving() -> list[psutil.Process]:
            return [child for child in parent.children() if child.net_connections("tcp")]

        wait_for(lambda: len(serving()) == 2, 30, lambda: f"workers: {parent.children()}")
        answered = _reach_both(gateway, serving())
        gateway.rewrite(settings(providers.url, ["gemini-3-flash"], server={"workers": 2}))
        gateway.hang_up()
        gateway.await_log("configuration reloaded", times=2)
        with gateway.client() as client:
            for _ in range(20):
                with gateway.client() as another:  # a connection of its own, to whichever worker takes it
                    assert models(another) == ["gemini-3-flash"]
            answered.add(client.post(CHAT, json=asked(model="gemini-3-flash")).headers["x-request-id"])
        family = parent.children(recursive=True)
        gateway.stop()
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []
        assert {row[0] for row in recorded(gateway)} == answered


def _reach_both(gateway: Gateway, workers: list[psutil.Process]) -> set[str]:
    """Open connections, and ask something on each, until both workers hold one; the ids of what was answered."""
    port = int(gateway.url.rpartition(":")[2])
    clients: list[httpx.Client] = []
    answered: set[str] = set()

    def holds(worker: psutil.Process) -> bool:
        return any(c.laddr.port == port and c.status == "ESTABLISHED" for c in worker.net_connections("tcp"))

    def ask(client: httpx.Client) -> str:
        response = client.post(CHAT, json=asked(model="gpt-5.2", stream=False))
        assert response.status_code == 200
        return str(response.headers["x-request-id"])

    try:
        deadline = monotonic() + 20
        with ThreadPoolExecutor(16) as pool:
            while not all(holds(worker) for worker in workers):
                assert monotonic() < deadline, "one worker takes no connection"
                more = [gateway.client() for _ in range(16)]
                clients += more
                answered |= set(pool.map(ask, more))
    finally:
        for client in clients:
            client.close()
    return answered


def test_the_log_of_a_reload_does_not_hold_the_secret(providers: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sk-very-secret-0123456789\n")
    tree = settings(providers.url)
    tree["providers"]["openai"]["api_key"] = "file:secret"
    with running(tmp_path, tree) as gateway:
        (tmp_path / "secret").write_text("sk-another-secret-0123456789\n")
        gateway.rewrite({**tree, "surprise": 1})
        gateway.hang_up()
        gateway.await_log("not reloaded")
        gateway.rewrite(tree)
        gateway.hang_up()
        gateway.await_log("configuration reloaded")
        with gateway.client() as client:
            play(providers)
            client.post(CHAT, json=asked(model="gpt-5.2", stream=False))
        (entry,) = providers.requests
        assert entry.headers["authorization"].endswith("6789")
        assert "very-secret" not in gateway.log
        assert "another-secret" not in gateway.log
        assert "very-secret" not in json.dumps(gateway.printed)
