"""`bench/learning.py` on a small made-up folder, run as anybody would."""

import json
import random
import subprocess
import sys
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
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


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


def test_folders_without_a_set_in_common_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "outcomes").mkdir()
    found = run("--train", str(folders[0]), "--data", str(tmp_path), "--json")
    assert found.returncode == 1
    assert "same name and models" in found.stderr
