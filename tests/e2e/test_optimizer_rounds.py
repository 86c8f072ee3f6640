"""What the optimizer does by itself: workers follow, grades are given, webhooks told."""

import asyncio
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmwise.api.rounds import send
from llmwise.app import check
from llmwise.config import ConfigError, load
from llmwise.insights.alerts import Alert

from .gateway import asked, running, scripted, settings, wait_for, write_config

O = "/api/v1/optimization"  # noqa: E741  # the prefix of every path below


def test_every_worker_follows_within_seconds(tmp_path: Path) -> None:
    """What one worker is told, all do: no request is ever again decided as before."""
    with scripted() as mock, running(tmp_path, settings(mock.url), "--workers", "2") as gateway:
        with gateway.client() as client:
            assert client.put(f"{O}/policy", json={"goal": "latency"}).status_code == 200

        def goals() -> set[str]:
            found = set()
            for _ in range(6):
                # A connection of its own each time, so that both workers are asked.
                body = asked(model="auto", stream=False)
                headers = {"authorization": f"Bearer {gateway.key}"}
                found.add(
                    httpx.post(f"{gateway.url}/api/v1/chat", json=body, headers=headers).json()["optimization_goal"]
                )
            return found

        wait_for(lambda: goals() == {"latency"}, 10, goals)


def test_a_judge_grades_a_share_within_its_budget(tmp_path: Path) -> None:
    quality = {"judge": "claude-sonnet-4.5", "share": 1.0, "max_usd_per_day": 5.0}
    with scripted({"defaults": {"text": '{"score": 8}'}}) as mock:
        tree = settings(mock.url, quality=quality)
        with running(tmp_path, tree) as gateway, gateway.client() as client:
            ids = [
                client.post("/api/v1/chat", json=asked(model="gpt-5.2", stream=False)).json()["id"] for _ in range(3)
            ]
            own = client.post("/api/v1/chat", json=asked(model="claude-sonnet-4.5", stream=False)).json()["id"]

            def graded() -> list[Any]:
                return [client.get(f"/api/v1/route/explain/{id}").json()["signals"] for id in ids]

            wait_for(lambda: all(graded()), 30, graded)
            (signal,) = graded()[0]
            assert (signal["source"], signal["value"], signal["version"]) == ("judge", 0.8, "claude-sonnet-4.5/judge-1")
            assert client.get(f"/api/v1/route/explain/{own}").json()["signals"] == []  # its vendor is the judge's
            (judge,) = client.get(f"{O}/report").json()["judges"]
            assert (judge["pairs"], judge["agreement"]) == (0, None)
            graders = [
                r for r in client.get("/api/v1/history").json()["items"] if r["conversation_id"] == "llmwise-grading"
            ]
            assert len(graders) == 3  # and none of the grades is graded


class Told:
    """A web server that answers with these statuses, in turn, and keeps what it was sent."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.bodies: list[tuple[bytes, str | None]] = []


@contextmanager
def hook(told: Told) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.bodies.append((body, self.headers.get("x-llmwise-signature")))
            self.send_response(told.statuses.pop(0))
            self.send_header("location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alerts"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


ALERT = Alert("latency:code:m:1", "code", "m", "latency", 500.0, 2000.0, 1)


@pytest.mark.parametrize(
    ("statuses", "taken", "tries"),
    [
        ((200,), True, 1),
        ((503, 429, 204), True, 3),
        ((500, 500, 500, 500), False, 4),
        ((404,), False, 1),
        ((302,), False, 1),
    ],
)
def test_a_webhook_is_signed_and_tried_again(statuses: tuple[int, ...], taken: bool, tries: int) -> None:
    told = Told(*statuses)
    with hook(told) as url:
        assert asyncio.run(send(url, "secret", ALERT, wait_s=0.01)) is taken
    assert len(told.bodies) == tries
    for body, signature in told.bodies:
        assert signature == "sha256=" + hmac.new(b"secret", body, hashlib.sha256).hexdigest()
    assert json.loads(told.bodies[0][0])["event"] == "alert_began"


def test_a_webhook_that_is_away_is_no_defect() -> None:
    assert asyncio.run(send("http://127.0.0.1:1/", None, ALERT, wait_s=0.01)) is False


@pytest.mark.parametrize(
    ("sections", "says"),
    [
        ({"alerts": {"webhook": "ftp://x"}}, "alerts.webhook = 'ftp://x': must begin with http"),
        ({"alerts": {"secret": "plain"}}, "alerts.secret = '***': a secret is named"),
        ({"quality": {"judge": "nobody"}}, "quality.judge = 'nobody'"),
        ({"quality": {"share": 2.0}}, "quality.share = 2.0: must be between 0 and 1"),
    ],
)
def test_a_configuration_that_can_not_be_is_refused(sections: dict[str, Any], says: str, tmp_path: Path) -> None:
    config = write_config(tmp_path / "llmwise.toml", settings("http://127.0.0.1:1", **sections))
    with pytest.raises(ConfigError) as refused:
        check(load(config, {}), 0)
    assert says in str(refused.value)
