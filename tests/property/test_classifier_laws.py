"""The classifier's laws: any text gets an answer, the middle of a long one isn't read, one integer adds like nine."""

from math import exp

from hypothesis import given
from hypothesis import strategies as st

from llmwise.routing.classifier import SIGNALS, TASK_TYPES, Classifier, Weights, classify
from llmwise.routing.features import HEAD_CHARS, TAIL_CHARS, features

TEXTS = st.text(st.characters(), max_size=2000) | st.text("ab1 (){}.\n`\"'?翻译한の=+$\\", max_size=2000)
WORDS = st.lists(st.sampled_from("abcdefghij"), max_size=12)
UNITS = st.integers(-1999, 1999)
ROW = st.lists(UNITS, min_size=4, max_size=4)


@given(TEXTS)
def test_any_text_gets_a_valid_answer_and_always_the_same(text: str) -> None:
    seen = classify(text)
    assert seen.task_type in TASK_TYPES
    assert 0 <= seen.confidence <= 1
    assert 0 <= seen.difficulty <= 1
    assert len(seen.signals) <= SIGNALS
    assert all(seen.signals)
    assert classify(text) == seen


@given(
    st.text(min_size=HEAD_CHARS, max_size=HEAD_CHARS),
    st.text(min_size=TAIL_CHARS, max_size=TAIL_CHARS),
    st.text(max_size=400),
    st.text(max_size=400),
)
def test_the_middle_of_a_long_text_does_not_matter(head: str, tail: str, one: str, other: str) -> None:
    size = max(len(one), len(other)) + 1
    assert features(head + one.ljust(size) + tail) == features(head + other.ljust(size) + tail)


@given(TEXTS)
def test_what_a_group_is_blamed_on_stands_in_the_text(text: str) -> None:
    seen = features(text)
    assert {f"#{group}" for group in seen.evidence} <= seen.names
    letters = "".join(filter(str.isalnum, text.lower().translate(dict.fromkeys(map(ord, "123456789"), "0"))))
    assert all(
        "".join(word.split()) in letters for word in seen.evidence.values() if word.isascii() and "_" not in word
    )


@given(st.dictionaries(st.sampled_from("abcdefghij"), ROW), ROW, WORDS)
def test_the_packed_sums_are_the_sums(rows: dict[str, list[int]], bias: list[int], words: list[str]) -> None:
    weights = Weights("", "", ["x", "y", "z"], 100, 1.0, bias, rows)
    seen = Classifier(weights).classify(" ".join(words))
    if not words:
        assert seen.confidence == 0
        return
    sums = [sum(column) for column in zip(bias, *[rows[word] for word in set(words) if word in rows], strict=True)]
    *tasks, hard = sums
    top = max(tasks)
    assert seen.task_type == weights.tasks[tasks.index(top)]
    assert seen.confidence == round(1 / sum(exp((value - top) / 100) for value in tasks), 3)
    assert seen.difficulty == round(1 / (1 + exp(-hard / 100)), 3)
