"""What is learned of models from questions with known outcomes, and what is then expected of a new one."""

import pytest

from llmwise.insights.values import Example, learn, look
from llmwise.routing.classifier import TASK_TYPES, probabilities
from llmwise.routing.values import Expected, best_value, expect, shape_of

CODE = [f"Write a Python function that sorts list number {n} and returns it." for n in range(40)]
SMALL_TALK = [f"Hi there, how are you doing today, friend {n}?" for n in range(40)]
EXAMPLES = [
    *(look(Example(text, {"small": Expected(0.2, 1.0), "big": Expected(0.9, 9.0)})) for text in CODE),
    *(look(Example(text, {"small": Expected(0.9, 1.0), "big": Expected(0.9, 9.0)})) for text in SMALL_TALK),
]


def test_probabilities_sum_to_one_and_agree_with_the_verdict() -> None:
    chances = probabilities(CODE[0])
    assert sum(chances) == pytest.approx(1)
    assert TASK_TYPES[chances.index(max(chances))] == "code"
    assert len(set(probabilities(""))) == 1


def test_a_task_goes_to_whom_it_is_worth_it() -> None:
    values = learn(EXAMPLES, "test")
    assert best_value(expect(values, "Write a Python function that reverses a string."), 0.02) == "big"
    assert best_value(expect(values, "Hello, how are you doing this morning?"), 0.02) == "small"
    assert values.rows == 160


def test_a_model_not_asked_about_a_task_is_expected_to_be_as_it_is_elsewhere() -> None:
    some = [look(Example(t, {"big": Expected(0.8, 9.0)})) for t in CODE]
    some += [look(Example(t, {"big": Expected(0.8, 9.0), "small": Expected(0.5, 1.0)})) for t in SMALL_TALK]
    values = learn(some, "test")
    assert values.table["code"]["small"].quality == pytest.approx(0.5, abs=0.01)


def test_what_looks_easy_is_expected_to_go_better() -> None:
    questions = [f"What is the capital of country {n}?" for n in range(60)]
    listed = [f"{q}\nA) one\nB) two\nC) three" for q in questions]
    some = [look(Example(t, {"m": Expected(1.0, 1.0)})) for t in questions]
    some += [look(Example(t, {"m": Expected(0.0, 1.0)})) for t in listed]
    values = learn(some, "test")
    assert "@options" in shape_of(listed[0])
    assert expect(values, questions[0])["m"].quality > expect(values, listed[0])["m"].quality + 0.5


def test_the_same_examples_give_the_same_values_and_none_an_error() -> None:
    assert learn(EXAMPLES, "test") == learn(EXAMPLES, "test")
    with pytest.raises(ValueError, match="nothing to learn from"):
        learn([], "test")
