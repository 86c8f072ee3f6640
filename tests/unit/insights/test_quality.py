"""Signals: which of them counts, and how a judge is held against users."""

import random

import pytest
from msgspec.json import encode

from llmwise.domain.plan import Checks, Insight
from llmwise.insights.quality import calibrate, grade_of, qualities, to_judge
from llmwise.storage.insights import Signal
from llmwise.storage.rows import SettledRequest

from .traffic import attempt, request


def said(request_id: str, value: float | None, source: str = "user", at: int = 0) -> Signal:
    version = "gpt/judge-1" if source == "judge" else None
    name = "judge" if source == "judge" else "score"
    return Signal(f"{request_id}{source}{at}", request_id, at, source, name, value, version)  # type: ignore[arg-type]


def settled(id: str, checks: Checks | None = None, **fields: object) -> SettledRequest:
    insight = None if checks is None else encode(Insight(checks=checks)).decode()
    known = {"status": 200, "model": "m", "provider": "p", "prompt": "q", "answer": "a"} | fields
    return SettledRequest(request(id=id, insight=insight, **known), (attempt("m"),))


def test_users_go_before_judges_and_judges_before_the_form() -> None:
    passed = Checks(json=True)
    logs = [settled(id, passed) for id in ("user", "judge", "form", "none")]
    logs[3] = settled("none")
    signals = [said("judge", 0.4, "judge"), said("user", 0.4, "judge"), said("user", 0.9, at=1)]
    found = qualities(logs, signals)
    assert found["user"] == 0.9
    assert found["judge"] == pytest.approx(0.4 + (0.9 - 0.4) / 21)
    assert found["form"] == 1.0
    assert "none" not in found


def test_of_one_source_the_last_word_counts() -> None:
    assert qualities([settled("a")], [said("a", 1.0), said("a", 0.0, at=1)]) == {"a": 0.0}


def test_a_refusal_or_a_cut_answer_is_no_quality() -> None:
    assert qualities([settled("a", Checks(refused=True)), settled("b", Checks(truncated=True))], []) == {}


def test_a_judge_that_is_too_kind_is_moved_towards_the_users() -> None:
    signals = [said(str(n), 0.9, "judge") for n in range(100)] + [said(str(n), 0.5, at=1) for n in range(80)]
    (found,) = calibrate(signals).values()
    assert found.pairs == 80
    assert found.offset == pytest.approx(-0.4 * 80 / 100)
    assert found.agreement == 1.0


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ('{"score": 7}', 0.7),
        ('Sure! {"score": 10}', 1.0),
        ('```json\n{"score": 0}\n```', 0.0),
        ('{"score": 11}', None),
        ('{"score": "7"}', None),
        ("7", None),
        ("", None),
    ],
)
def test_a_judges_answer_is_a_score_or_nothing(text: str, grade: float | None) -> None:
    assert grade_of(text) == grade


def test_the_sample_is_stratified_and_leaves_out_the_judges_own_vendor() -> None:
    logs = [settled(f"a{n}", task_type="code") for n in range(200)] + [settled("b0", task_type="math")]
    logs += [settled(f"c{n}", provider="judges") for n in range(50)] + [settled("d", prompt=None)]
    chosen = to_judge(logs, {"a0"}, 0.05, "judges", random.Random(1))
    by_task = [record.task_type for record in chosen]
    assert (by_task.count("code"), by_task.count("math")) == (9, 1)
    assert not any(record.id == "a0" for record in chosen)
