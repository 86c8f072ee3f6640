"""`bench/month.py` in its smallest form: some hundred requests through a real gateway, before and after a policy."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
REQUESTS = 300


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    command = [sys.executable, str(BENCH / "month.py"), "--set", "llmrouter9", "--requests", str(REQUESTS)]
    command += ["--rerun", "240", "--spend", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_first_month_is_one_models_and_the_second_ones_money_adds_up(report: dict[str, Any]) -> None:
    before, after = report["before"], report["after"]
    assert before["models"] == {report["today"]: 1.0}
    assert (before["requests"], after["requests"]) == (REQUESTS, REQUESTS)
    for month in (before, after):
        assert month["cost"] == pytest.approx(month["mean_cost"]["value"] * REQUESTS)
        assert month["cost"] == pytest.approx(sum(month["tasks"].values()))
        assert sum(month["models"].values()) == pytest.approx(1.0)
    assert report["saved"] == pytest.approx(1 - after["cost"] / before["cost"])
    assert report["rerun_cost"] <= 3 * before["cost"]


def test_what_was_bounded_is_what_the_planner_does_and_what_is_measured(report: dict[str, Any]) -> None:
    predicted = report["predicted"]["value"]
    assert report["within"]
    assert report["measured"]["low"] <= predicted <= report["measured"]["high"]
    assert report["replayed"][0] == pytest.approx(predicted, abs=0.05)  # a share is drawn by lot
    assert report["replay_left_out"].keys() <= {"answer not known"}
    assert report["bounded"]["margin"] >= 0


def test_the_same_questions_say_that_quality_was_kept(report: dict[str, Any]) -> None:
    assert report["true_quality_share"] >= 0.94  # of 300 questions; the bench has thousands
    assert report["true_saved"] >= -0.01
