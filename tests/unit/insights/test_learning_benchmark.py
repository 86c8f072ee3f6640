"""`bench/learning.py` on a small made-up folder, run as anybody would."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "bench" / "learning.py"
QUESTIONS = {
    "code": "Write a Python function that returns the sum of list number {n}.",
    "chat": "Hi there, how are you doing today, friend {n}?",
    "fact": "What is the capital of country number {n}?",
}
CHANCES = {
    "code": {"big": 0.95, "small": 0.4},
    "chat": {"big": 0.95, "small": 0.95},
    "fact": {"big": 0.95, "small": 0.9},
}
COST = {"big": 0.01, "small": 0.001}


def folder(at: Path, numbers: range) -> Path:
    rng = random.Random(numbers.start)
    rows = [
        {
            "id": f"{task}{n}",
            "prompt": text.format(n=n),
            "task": task,
            "source": "made up",
            "models": {
                m: {"score": float(rng.random() < chance), "cost": COST[m]} for m, chance in CHANCES[task].items()
            },
        }
        for n in numbers
        for task, text in QUESTIONS.items()
    ]
    (at / "outcomes").mkdir(parents=True)
    (at / "outcomes" / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return at


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--resamples", "4", "--replications", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd="/")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("learning")
    return folder(root / "a", range(120)), folder(root / "b", range(1000, 1120))


def test_the_json_has_the_promised_shape_and_is_the_same_each_time(folders: tuple[Path, Path]) -> None:
    arguments = ("--train", str(folders[0]), "--data", str(folders[1]), "--json")
    first = run(*arguments)
    assert first.returncode == 0, first.stderr
    found: dict[str, Any] = json.loads(first.stdout)
    assert {name: set(part) for name, part in found.items() if isinstance(part, dict)} == {
        "pool": {"saving_95", "saving_98"},
        "logs": {"saving", "risk"},
    }
    assert 0.4 < found["pool"]["saving_95"] < 0.9  # two tasks of three can go to the small model
    assert found["logs"]["saving"] > 0.2
    assert found["logs"]["risk"] == 0
    assert 0.7 < found["coverage"] <= 1
    assert run(*arguments).stdout == first.stdout


def test_one_folder_is_judged_by_halves_with_its_controls(folders: tuple[Path, Path]) -> None:
    found = run("--train", str(folders[0]), "--data", str(folders[0]))
    assert found.returncode == 0, found.stderr
    for control in ("best single", "random", "mix", "oracle", "task", "point estimate", "plain"):
        assert control in found.stdout


def test_other_names_missing_cells_and_fewer_classes_are_no_obstacle(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Of the prompts to judge on some lack a model, one class is gone, and a third model was asked here and there."""
    rng = random.Random(9)
    rows = []
    for text in (folders[1] / "outcomes" / "made.jsonl").read_text().splitlines():
        row = json.loads(text)
        if row["task"] == "fact":
            continue
        if rng.random() < 0.2:
            del row["models"][rng.choice(["big", "small"])]
        if rng.random() < 0.1:
            row["models"]["odd"] = {"score": 1.0, "cost": 0.1}
        rows.append(row)
    (tmp_path / "outcomes").mkdir()
    (tmp_path / "outcomes" / "made.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    done = run("--train", str(folders[0]), "--data", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    assert f"of {len(rows)} prompts have all of 2 models" in done.stderr
    found = json.loads(done.stdout)
    assert 0.3 < found["pool"]["saving_95"] < 0.9
    assert 0 <= found["logs"]["risk"] <= 1


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (None, "there is no such folder"),
        ([], "no SET.jsonl with a line in it, there or in outcomes/"),
        (["{}"], "made.jsonl, line 1: Object missing required field `prompt`"),
        (['{"prompt": "p", "task": "t", "source": "s", "models": {"big": {"score": "x", "cost": 1}}}'], "`$.models"),
        (
            ['{"prompt": "p", "models": {"big": {"score": 7, "cost": 1}}}'],
            "line 1: Expected `float` <= 1.0 - at `$.models",
        ),
        (['{"prompt": "p", "models": {"big": {"score": 1, "cost": -1}}}'], "line 1: Expected `float` >= 0.0"),
        (['{"prompt": "p", "task": "t", "source": "s", "models": {"big": {"score": 1, "cost": 1}}}'] * 90, "no set in"),
    ],
)
def test_what_is_no_data_is_said_in_a_line(
    folders: tuple[Path, Path], tmp_path: Path, lines: list[str] | None, says: str
) -> None:
    if lines is not None:
        (tmp_path / "at" / "outcomes").mkdir(parents=True)
        (tmp_path / "at" / "outcomes" / "made.jsonl").write_text("\n".join(lines))
    for arguments in (("--train", str(tmp_path / "at")), ("--data", str(tmp_path / "at"))):
        other = "--data" if arguments[0] == "--train" else "--train"
        found = run(*arguments, other, str(folders[0]), "--json")
        assert found.returncode == 1
        assert says in found.stderr
        assert "Traceback" not in found.stderr
        assert found.stdout == ""


def rewritten(source: Path, at: Path, edit: Callable[[dict[str, Any]], object], mark: str = "") -> Path:
    """The set of `source`, each row edited, in `at` itself."""
    rows = [json.loads(line) for line in (source / "outcomes" / "made.jsonl").read_text().splitlines()]
    for row in rows:
        edit(row)
    at.mkdir()
    (at / "made.jsonl").write_text(mark + "".join(json.dumps(row) + "\r\n" for row in rows))
    return at


def test_the_outcomes_folder_itself_will_do_and_a_mark_and_missing_tasks_change_nothing(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    usual = run("--train", str(folders[0]), "--data", str(folders[1]), "--json")
    inner = run("--train", str(folders[0] / "outcomes"), "--data", str(folders[1] / "outcomes"), "--json")
    assert (inner.returncode, inner.stdout, inner.stderr) == (0, usual.stdout, "")
    bare = rewritten(
        folders[0], tmp_path / "bare", lambda row: [row.pop(k) for k in ("task", "source", "id")], "\ufeff"
    )
    found = run("--train", str(bare), "--data", str(folders[1] / "outcomes"), "--json")
    assert (found.returncode, found.stdout) == (0, usual.stdout)
    assert "360 of 360 rows of made name no task" in found.stderr


@pytest.mark.parametrize("what", ["score", "cost"])
def test_what_there_is_nothing_to_learn_from_is_said_in_a_line(
    folders: tuple[Path, Path], tmp_path: Path, what: str
) -> None:
    zero = rewritten(
        folders[0], tmp_path / "zero", lambda row: [one.update({what: 0}) for one in row["models"].values()]
    )
    found = run("--train", str(zero), "--data", str(folders[1]), "--json")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.splitlines() == [
        "made of --train: no model costs anything, or none is ever right: there is nothing to learn"
    ]
