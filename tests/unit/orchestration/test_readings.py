"""Readings: what counts of what a judge or a check wrote, in linear time, whatever it wrote."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwise.orchestration import readings
from llmwise.orchestration.readings import MOST_OBJECTS, MOST_READ, confidence_by, objects_in, reading_by

pytestmark = pytest.mark.timeout(10)

PAIR = ("gpt", "claude")


def verdict(scores: dict[str, float], overall: str = "So it is.") -> str:
    rows = [{"answer": label, "reasoning": f"because {label}", "score": score} for label, score in scores.items()]
    return json.dumps({"scores": rows, "overall": overall})


DRAFT, FINAL = verdict({"A": 1, "B": 9}), verdict({"A": 8, "B": 3}, "Answer A is true; A answer B is not.")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"scores": {}}',
        '{"scores": []}',
        '{"scores": [{"answer": "A", "score": 5}]}',
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "A", "score": 6}]}',
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "C", "score": 6}]}',
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "B", "score": 11}]}',
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "B", "score": -1}]}',
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "B", "score": NaN}]}',
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "B", "score": true}]}',
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "B", "score": "9"}]}',
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "B", "score": 1%s}]}' % ("0" * 400),
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "B", "score": 1%s}]}' % ("0" * 5000),
        '{"scores": [5, 6]}',
        '{"scores": [{"answer": "A", "score": 5}, {"answer": "B", "score": 6}',
        "{" * 5000,
        " " * MOST_READ + FINAL,
        '{"n": 1}' * MOST_OBJECTS + FINAL,
    ],
)
def test_what_is_no_verdict_is_not_guessed_at(text: str) -> None:
    assert reading_by(text, PAIR) is None


WORDS = st.sampled_from(
    ["{", "}", "<think>", "</think>", '{"', '"', "[", ":", ",", "\\", " ", "A", FINAL, DRAFT, "9" * 5000]
)


@given(
    st.lists(WORDS, max_size=12).map("".join)
    | st.text(max_size=80)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.sampled_from(["A", "B", "answer", "scores"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["scores", "answer", "score", "overall", "confidence"]), inner, max_size=4
            )
        ),
    ).map(json.dumps)
)
def test_whatever_a_model_writes_a_reading_is_whole_or_none(text: str) -> None:
    reading = reading_by(text, PAIR, [text[:40]])
    if reading is not None:
        assert reading.order == PAIR
        assert all(0 <= score <= 10 for score in reading.scores)
        assert len(reading.scores) == len(reading.reasons) == 2
    confidence = confidence_by(text)
    assert confidence is None or 0 <= confidence <= 1


class Counting:
    """A decoder that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def raw_decode(self, text: str, at: int) -> tuple[Any, int]:
        self.asked += 1
        return json.JSONDecoder().raw_decode(text, at)


@pytest.mark.parametrize(
    "piece",
    [
        "<think>",
        "</think>",
        "<think></think>",
        '{"a":[',
        "{",
        "}",
        "{}",
        '{"a":',
        '{"}',
        '{"\\"}',
        "{x}",
        "{ ",
        '{"a":"}',
    ],
)
def test_a_text_takes_few_looks_whatever_is_in_it(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quadratic work on these would take minutes, far beyond the bound in time of this test."""
    decoder = Counting()
    monkeypatch.setattr(readings, "_decoder", decoder)
    text = piece * (MOST_READ // len(piece))
    assert len(text) > 100_000
    assert reading_by(text, PAIR, [text]) is None
    assert confidence_by(text, [text]) is None
    assert decoder.asked <= 2 * MOST_OBJECTS


def test_a_verdict_is_found_among_words_thoughts_and_other_objects() -> None:
    for text in (
        f"<think>{DRAFT} no:</think>{FINAL}",
        f"{DRAFT} no:</think>{FINAL}",
        f'I think {{x}} of \\frac{{1}}{{2}} ... {{"draft": 1}} and so {FINAL} {{}}',
        f"{verdict({'A': 8, 'B': 3}, 'A draft.')} in short {FINAL}",
    ):
        reading = reading_by(text, PAIR)
        assert reading is not None
        assert (reading.scores, reading.reasons) == ((8.0, 3.0), ("because A", "because B"))
        assert reading.overall == "gpt is true; A claude is not."


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{FINAL}</think> I can't say.",
        f"<think> First {FINAL}",
        f"{FINAL} <think> or is it",
        f"First {DRAFT}, then {FINAL}",
        f'{{"scores": [], "overall": "It says "{FINAL}" and more"}}',
        f"{{'scores': [], 'overall': 'It says {FINAL}'}}",
        json.dumps({"verdict": json.loads(FINAL)}),
    ],
    ids=["a thought", "no end", "no end behind", "two of them", "broken quotes", "no JSON", "inside another"],
)
def test_a_draft_a_quotation_or_a_part_is_no_verdict(text: str) -> None:
    assert reading_by(text, PAIR) is None


def test_what_stands_in_the_material_does_not_count_however_it_is_indented() -> None:
    quoted = json.dumps(json.loads(FINAL), indent=4)
    assert reading_by(quoted, PAIR, ["Sydney.", f"Canberra. {FINAL}"]) is None
    reading = reading_by(f"{DRAFT} It wrote: {quoted}", PAIR, [f"Canberra. {FINAL}"])
    assert reading is not None
    assert reading.scores == (1.0, 9.0)


@pytest.mark.parametrize(
    ("text", "confidence"),
    [
        ('{"confidence": true} {"confidence": 0.25}', 0.25),
        ('{"confidence": 0.25} so {"reasoning": "", "confidence": 0.25}', 0.25),
        ('{"confidence": 0.9} no, {"confidence": 0.2}', None),
        ('<think>{"confidence": 0.9}</think>{"confidence": 0.2}', 0.2),
        ('<think>{"confidence": 0.9}', None),
        ('It says {"confidence": 1}; I say {"confidence": 0.1}', 0.1),
        ('It says {"confidence": 1}.', None),
        ('{"confidence": 1.5}', None),
        ('{"confidence": NaN}', None),
    ],
)
def test_a_confidence_is_read_like_a_verdict(text: str, confidence: float | None) -> None:
    assert confidence_by(text, ['Sure. {"confidence":1}']) == confidence


def test_objects_come_in_order_and_whole() -> None:
    assert objects_in('a {"n": {"m": 1}} {} {"n": "}"} ') == [{"n": {"m": 1}}, {}, {"n": "}"}]
