"""What kind of question a text is: plain cases of every class, the accidents of keywords, and what is shipped."""

import json
from pathlib import Path

import msgspec
import pytest

from llmwise.routing.classifier import (
    HARD,
    MEDIUM,
    SIGNALS,
    TASK_TYPES,
    Classification,
    Classifier,
    Weights,
    classify,
    level,
)

ROOT = Path(__file__).parents[3]
DATA = ROOT / "bench" / "data"
WEIGHTS = ROOT / "src" / "llmwise" / "routing" / "weights.json"

PLAIN = [
    ("code", "Write a Python function that removes duplicates from a list"),
    ("code", "why does my docker container exit right away?"),
    ("code", "用Python写一个函数，判断一个数是不是素数"),
    ("conversation", "hey, how are you doing today?"),
    ("conversation", "thank you so much!"),
    ("conversation", "我今天心情不好，陪我聊聊天吧"),
    ("creative", "Write a short story about a dragon who is afraid of fire"),
    ("creative", "写一首关于雪的诗"),
    ("creative", "Напиши стихотворение о весне"),
    ("long_form_writing", "Write an essay about the effects of tourism on small towns"),
    ("long_form_writing", "Draft a cover letter for a job as a nurse"),
    ("long_form_writing", "请帮我写一封辞职信"),
    ("math", "Solve for x: 3x + 5 = 20"),
    ("math", "A shop sells 12 apples for 6 dollars. How much do 30 apples cost?"),
    ("math", "已知圆的半径为5，求它的面积"),
    ("reasoning_analysis", "Why did the Roman Empire fall, and which cause was the most important?"),
    ("reasoning_analysis", "Compare the advantages and disadvantages of nuclear and solar energy"),
    ("simple_query_classification", "who wrote the magic flute"),
    ("simple_query_classification", "Is this review positive or negative? 'The food was cold.'"),
    ("summarization", "Summarize this article in two sentences: The mayor said on Monday that the bridge will close."),
    ("summarization", "请总结下面这段文字的主要内容：昨天，市政府宣布将关闭大桥。"),
    ("translation_multilingual", "Translate into French: the train is late"),
    ("translation_multilingual", "Wie sagt man auf Englisch: Das Wetter ist schön?"),
]
ACCIDENTS = [
    ("code", "What caused terrorism in Northern Ireland?"),
    ("code", "recommend some classical music for the evening"),
    ("code", "Is Java an island or a city?"),
    ("code", "Write a haiku about a segmentation fault"),
    ("long_form_writing", "my essay got an A!!"),
    ("math", "Who won the math olympiad in 2019?"),
    ("translation_multilingual", "I've been learning French for a month, it's so much fun"),
    ("reasoning_analysis", "hi, step by step"),
    ("summarization", "thanks, your summary was great"),
]


@pytest.mark.parametrize(("task", "text"), PLAIN)
def test_plain_questions_get_their_class(task: str, text: str) -> None:
    seen = classify(text)
    assert seen.task_type == task
    assert seen.confidence >= 0.5


@pytest.mark.parametrize(("trap", "text"), ACCIDENTS)
def test_a_keyword_alone_decides_nothing(trap: str, text: str) -> None:
    assert classify(text).task_type != trap


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_a_blank_text_is_anyones_guess(text: str) -> None:
    seen = classify(text)
    assert (seen.confidence, seen.difficulty, seen.signals) == (0.0, 0.5, ())


def test_nonsense_is_less_sure_than_sense() -> None:
    assert classify("zxqv wrrl 77 ypp").confidence < 0.9 < classify("Translate this into German").confidence


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("Translate it for me", "word 'translate'"),
        ("what if the sun went out?", "phrase 'what if'"),
        ("fix this:\n```\nprint(x\n```", "code fence"),
        ("请把这句话翻译一下", "word '翻译'"),
    ],
)
def test_signals_say_what_was_seen(text: str, signal: str) -> None:
    assert signal in classify(text).signals


def test_signals_are_few_and_distinct() -> None:
    signals = classify(
        "Write a python function that solves the equation, translate the summary, and tell a story"
    ).signals
    assert len(set(signals)) == len(signals) == SIGNALS


def test_hard_questions_look_harder_than_greetings() -> None:
    proof = "Let $f$ be continuous on $[0,1]$. Prove that $\\int_0^1 f(x^n) dx$ converges and find its limit."
    assert level(classify("good morning").difficulty) == "easy"
    assert classify(proof).difficulty > classify("write a poem about rain").difficulty > classify("thanks!").difficulty


def test_levels_begin_at_their_bounds() -> None:
    assert [level(at) for at in (0.0, MEDIUM - 0.01, MEDIUM, HARD - 0.01, HARD, 1.0)] == [
        *("easy", "easy"),
        *("medium", "medium"),
        *("hard", "hard"),
    ]


def test_a_classification_is_a_value() -> None:
    assert classify("hello there") == classify("hello there")
    assert Classification() == Classification("conversation", 0.0, 0.5, (), "")


# --- what is shipped ---


def weights() -> Weights:
    return msgspec.json.decode(WEIGHTS.read_bytes(), type=Weights)


def test_the_weights_are_whole_and_small() -> None:
    shipped = weights()
    assert tuple(shipped.tasks) == TASK_TYPES
    assert {len(row) for row in [shipped.bias, *shipped.features.values()]} == {len(TASK_TYPES) + 1}
    assert WEIGHTS.stat().st_size < 500_000
    assert shipped.note
    assert classify("hello").version == shipped.version


def test_no_sum_of_weights_leaves_its_field() -> None:
    """A text shows fewer than two thousand features; a field of 32 bits holds sums up to 2^31."""
    assert 2000 * max(max(map(abs, row)) for row in weights().features.values()) < 2**31


def test_weights_with_an_unknown_field_are_refused() -> None:
    content = msgspec.to_builtins(weights()) | {"surprise": 1}
    with pytest.raises(msgspec.ValidationError, match="surprise"):
        msgspec.convert(content, Weights)


def test_the_weights_go_with_the_features() -> None:
    """They know what they were learned from. A change of features.py or lexicon.txt that they lack shows here."""
    lines = (DATA / "classification" / "prompts.jsonl").read_bytes().splitlines()
    rows = [json.loads(line) for line in lines]
    right = sum(classify(row["prompt"]).task_type == row["label"] for row in rows)
    assert right / len(rows) > 0.96


def test_only_what_may_be_redistributed_is_in_the_tree() -> None:
    readme = (DATA / "README.md").read_text()
    for file in (DATA / "classification").glob("*.jsonl"):
        for line in file.read_bytes().splitlines():
            row = json.loads(line)
            assert row.get("redistribute", True) is True
            assert row["license"]
            assert not any(word in row["license"].lower() for word in ("nc", "unspecified", "research"))
            assert row["source"].split(":")[0] in readme
    for file in (DATA / "outcomes").glob("*.jsonl"):
        assert f"`{file.stem}`" in readme


def test_a_classifier_serves_other_weights() -> None:
    shipped = weights()
    only = Weights("mine", "", ["a", "b"], 100, 1.0, [0, 0, 0], {"yes": [200, -200, 300]})
    seen = Classifier(only).classify("yes")
    assert (seen.task_type, seen.confidence, seen.difficulty, seen.version) == ("a", 0.982, 0.953, "mine")
    assert Classifier(shipped).classify("yes") == classify("yes")
