"""`llmwise keys`: what it is told is what a gateway keeps to."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, asked, llmwise

SCOPED = (
    "--models",
    "gpt-5.2, deepseek-v3",
    "--modes",
    "chat",
    "--expires",
    "30d",
    "--rpm",
    "20",
    "--concurrency",
    "4",
)


def keys(config: Path, *arguments: str) -> str:
    done = llmwise("keys", arguments[0], "--config", str(config), *arguments[1:])
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def info(gateway: Gateway, key: str) -> httpx.Response:
    with gateway.client(key) as client:
        return client.get("/api/v1/keys/info")


def test_a_key_has_the_scope_it_was_made_with(gateway: Gateway, mock: ScriptedServer) -> None:
    key = keys(gateway.config, "create", "--name", "scoped", *SCOPED, "--budget", "5/day", "--soft-budget", "90")
    told = info(gateway, key).json()
    assert (told["models"], told["modes"]) == (["gpt-5.2", "deepseek-v3"], ["chat"])
    assert (told["requests_per_minute"], told["concurrency"], told["burst"]) == (20, 4, None)
    assert told["budgets"] == [
        {"period": "day", "usd": 5.0, "hard": True},
        {"period": "total", "usd": 90.0, "hard": False},
    ]
    assert told["expires_at_ms"] - told["created_at_ms"] == 30 * 86_400_000
    with gateway.client(key) as client:
        assert client.post("/api/v1/chat", json=asked(model="claude-sonnet-4.5", stream=False)).status_code == 403
    shown = keys(gateway.config, "show", "scoped")
    assert "5 USD a day; 90 USD in all (warns)" in shown
    assert key not in shown


def test_a_rotated_key_works_with_both_secrets_and_after_the_grace_with_one(gateway: Gateway) -> None:
    old = keys(gateway.config, "create", "--name", "rotated")
    new = keys(gateway.config, "rotate", "rotated", "--grace", "1h")
    assert new != old
    assert info(gateway, old).json()["id"] == info(gateway, new).json()["id"]
    newest = keys(gateway.config, "rotate", "rotated", "--grace", "0")
    assert info(gateway, newest).status_code == 200
    assert "old secret         none" in keys(gateway.config, "show", "rotated")


@pytest.mark.parametrize(("expires", "seconds"), [("90s", 90), ("2m", 120)])
def test_a_key_may_be_made_for_seconds(tmp_path: Path, expires: str, seconds: int) -> None:
    config = tmp_path / "llmwise.toml"
    config.write_text('[storage]\nurl = "sqlite:///a.db"\n')
    before_s = time.time()
    assert llmwise("keys", "create", "--config", str(config), "--name", "k", "--expires", expires).returncode == 0
    with closing(sqlite3.connect(tmp_path / "a.db")) as db:
        ((expires_at_ms,),) = db.execute("SELECT expires_at_ms FROM keys").fetchall()
    assert seconds - 1 <= expires_at_ms / 1000 - before_s <= seconds + 60


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--budget", "5/dya"), "write USD and a period"),
        (("--budget", "-5"), "write USD and a period"),
        (("--expires", "soon"), "90s, 30m, 12h, 30d"),
        (("--expires", "2020-01-01"), "is past"),
        (("--modes", "talk"), "chat, compare, blend, judge"),
        (("--models", " , "), "names nothing"),
        (("--account", "nobody"), "no account 'nobody'"),
    ],
)
def test_nonsense_makes_no_key_and_is_said_in_a_line(tmp_path: Path, options: tuple[str, str], said: str) -> None:
    config = tmp_path / "llmwise.toml"
    config.write_text('[storage]\nurl = "sqlite:///a.db"\n')
    done = llmwise("keys", "create", "--config", str(config), "--name", "k", f"{options[0]}={options[1]}")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
