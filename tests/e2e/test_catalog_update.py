"""`llmwise catalog update`, run as a person would."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from .gateway import llmwise, write_config

PRICES = Path(__file__).parents[2] / "src" / "llmwise" / "catalog" / "prices.json"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    tree = {
        "catalog": {"prices": "own.json"},
        "providers": {"openai": {}},
        "models": [{"id": "gpt-5.2"}, {"id": "gpt-5"}],
    }
    return write_config(tmp_path / "llmwise.toml", tree)


def newer(folder: Path, input_price: int) -> Path:
    tree: dict[str, Any] = json.loads(PRICES.read_text())
    tree["prices"]["openai"]["gpt-5.2"][0]["rate"]["input"] = input_price
    tree["taken"] = "2027-01-01"
    file = folder / "newer.json"
    file.write_text(json.dumps(tree))
    return file


def test_it_shows_what_changed_and_changes_nothing_until_told_to_apply(config: Path, tmp_path: Path) -> None:
    file = newer(tmp_path, 9_000_000_000)
    update = ("catalog", "update", "--config", str(config), "--file", str(file))
    shown = llmwise(*update)
    assert shown.returncode == 0, shown.stderr
    line = next(line for line in shown.stdout.splitlines() if "gpt-5.2" in line)
    assert line.split()[:2] == ["gpt-5.2", "up"]
    assert "-> 9" in line
    assert "gpt-5 is switched off on 2026-12-11" in shown.stdout
    assert not (tmp_path / "own.json").exists()
    assert not (tmp_path / "llmwise.db").exists()

    applied = llmwise(*update, "--apply")
    assert applied.returncode == 0, applied.stderr
    assert "own.json" in applied.stderr
    assert "gpt-5.2 " in llmwise("models", "--config", str(config)).stdout
    row = next(one for one in llmwise("models", "--config", str(config)).stdout.splitlines() if "gpt-5.2 " in one)
    assert row.split()[2] == "9"
    told = json.loads(llmwise(*update, "--json").stdout)
    assert told["changes"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--file", "nowhere.json"), "nowhere.json: No such file"),
        (("--file", "llmwise.toml"), "no price file"),
        (("--file", "a", "--fetch"), "give one"),
    ],
)
def test_a_mistake_is_one_line(config: Path, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = llmwise("catalog", "update", "--config", str(config), *arguments, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("llmwise: ")
    assert says in line


def test_a_price_below_zero_is_refused(config: Path, tmp_path: Path) -> None:
    done = llmwise("catalog", "update", "--config", str(config), "--file", str(newer(tmp_path, -1)), "--apply")
    assert done.returncode == 1
    assert "openai gpt-5.2: the price of input is below zero" in done.stderr
    assert not (tmp_path / "own.json").exists()


def test_offline_says_what_to_do_and_applying_needs_a_place(tmp_path: Path) -> None:
    plain = write_config(tmp_path / "llmwise.toml", {"providers": {"openai": {}}})
    unreachable = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    done = llmwise("catalog", "update", "--config", str(plain), "--fetch", environ=unreachable)
    assert done.returncode == 1
    assert "leave --fetch out" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = llmwise("catalog", "update", "--config", str(plain), "--apply")
    assert done.returncode == 1
    assert 'set `prices = "prices.json"` in [catalog]' in done.stderr


def test_a_price_file_that_went_missing_is_one_line(config: Path) -> None:
    done = llmwise("models", "--config", str(config))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "catalog.prices" in line
    assert "llmwise catalog update --apply" in line


def test_a_database_of_another_revision_is_said(config: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "llmwise.db") as database:
        database.execute("CREATE TABLE meta (name TEXT, value TEXT)")
    done = llmwise("catalog", "update", "--config", str(config))
    assert done.returncode == 1
    assert "llmwise db migrate" in done.stderr
