"""What a text shows: whole words, groups of words in many languages, and shape, in a bounded reading."""

import random
import re
import time
from importlib.resources import files
from itertools import product

import pytest

from llmwise.routing.features import HEAD_CHARS, TAIL_CHARS, features

LEXICON = files("llmwise.routing").joinpath("lexicon.txt").read_text("utf-8")
ENTRIES = [
    (line.partition(":")[0], entry)
    for line in LEXICON.splitlines()
    if line and not line.startswith("#")
    for entry in line.partition(":")[2].split()
]
ORDINARY = "Could you look at the plan for the summer party, and say what is missing? There will be 40 guests. " * 8
BOMBS = {
    "one character": "a" * 100_000,
    "blanks": " " * 100_000,
    "line ends": "\n" * 100_000,
    "digits": "1" * 100_000,
    "nested brackets": "(" * 50_000 + ")" * 50_000,
    "braces and code": "{};=>" * 20_000,
    "arithmetic that never ends": "1 + " * 25_000,
    "digits and blanks": "1 " * 50_000,
    "an open string": '"' + "a " * 50_000,
    "lettered options": "\nb.c.d." * 14_000,
    "bullets": "\n- \n1" * 16_000,
    "unspaced script": "的" * 100_000,
    "alternating scripts": "a的" * 50_000,
    "syllables": "가나" * 50_000,
    "combining marks": "e\u0301" * 50_000,
    "emoji": "😀" * 100_000,
    "lone surrogates": "\ud800" * 100_000,
    "one long word of many letters": "".join(map(chr, range(0x100, 0x2000))) * 12,
    "noise": "".join(random.Random(1).choices("ab1(.-\n{}=$\\", k=100_000)),
}


def names(text: str) -> set[str]:
    return features(text).names


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("terrorism in the seventies", "error"),
        ("classical music", "class"),
        ("the scripture says", "script"),
        ("apiary and bees", "api"),
        ("a lovely reclassification", "class"),
    ],
)
def test_a_word_inside_another_one_is_not_seen(text: str, hidden: str) -> None:
    assert hidden not in names(text)
    assert hidden not in features(text).evidence.values()
    assert "#code noun" not in names(text)


def test_every_entry_of_the_lexicon_fires_its_group() -> None:
    missed = [
        (group, entry)
        for group, entry in ENTRIES
        if f"#{group}" not in names(f"1 {entry.replace('_', ' ')} 1".replace("0", "7"))
    ]
    assert not missed


def test_every_entry_of_the_lexicon_stands_once_and_in_lower_case() -> None:
    entries = [entry for _, entry in ENTRIES]
    assert len(entries) == len(set(entries))
    assert [entry for entry in entries if entry != entry.lower()] == []


def test_the_group_of_the_first_word_is_told_apart() -> None:
    seen = features("Compose a haiku about a segmentation fault")
    assert list(seen.evidence.items()) == [("write", "compose"), ("poem song", "haiku"), ("code noun", "segmentation")]
    assert {"#write^", "#write", "#poem song", "#code noun"} <= seen.names
    assert "#code noun^" not in seen.names


def test_phrases_are_two_words_side_by_side() -> None:
    assert features("so, how many are there?").evidence["word problem"] == "how many"
    assert "how many" not in features("how very many there are").evidence.values()


def test_digits_are_zeros_and_long_words_have_a_stem() -> None:
    assert {"0000", "translations", "trans*"} <= names("12 translations of 2024")
    assert "2024" not in names("12 translations of 2024")


@pytest.mark.parametrize(
    ("text", "word", "group"),
    [
        ("请把这句话翻译成英文", "翻译", "translate"),
        ("この文章を要約してください", "要約", "summarize"),
        ("이 글을 요약해 주세요", "요약", "summarize"),
        ("переведи это предложение", "переведи", "translate"),
        ("traduce esta frase", "traduce", "translate"),
        ("Übersetze das bitte", "übersetze", "translate"),
    ],
)
def test_words_of_other_languages_count_also_where_nothing_stands_between_them(
    text: str, word: str, group: str
) -> None:
    assert features(text).evidence[group] == word


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("look:\n```\nx\n```", "@fence"),
        ("is it?", "@ends ?"),
        ("是吗？", "@ends ?"),
        ("as follows:", "@ends :"),
        ("Which?\n(a) one\n(b) two", "@options"),
        ("Which?\nA. one\nB. two", "@options"),
        ("3 + 4 - 1 * 2", "@arithmetic2"),
        ("for (i = 0; i < n; i++) { x[i] => f(); }", "@code3"),
        ("one\n\ntwo", "@paragraphs"),
        ("Summarize:\n" + "and so on " * 20, "@short first line"),
        ("and so on " * 20 + "\nIn short?", "@short last line"),
        ("привет", "@cyrillic"),
        ("さくら", "@kana"),
        ("안녕하세요", "@hangul"),
        ("déjà vu", "@accents"),
        ("مرحبا", "@other script"),
    ],
)
def test_the_shape_is_marked(text: str, mark: str) -> None:
    assert mark in names(text)


def test_only_head_and_tail_are_read() -> None:
    head, tail = "a" * HEAD_CHARS, "z" * TAIL_CHARS
    assert names(f"{head} translate this poem {tail}") == names(f"{head} solve the equation {tail}")


def test_no_input_is_slow() -> None:
    """Best of five against an ordinary text of the windows' size, with a wide margin: growth with the length would be
    a hundredfold, backtracking worse."""

    def best(text: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            features(text)
            times.append(time.perf_counter() - start)
        return min(times)

    allowed = 25 * best(ORDINARY)
    assert {name: round(best(text) / allowed, 2) for name, text in BOMBS.items() if best(text) > allowed} == {}


def test_no_regular_expression_repeats_a_repetition() -> None:
    """What makes a pattern backtrack is a repeated group: there is none, by their source."""
    source = files("llmwise.routing").joinpath("features.py").read_text("utf-8")
    patterns = re.findall(r"re\.compile\((?:f|r)?\"(.*)\"\)", source)
    assert len(patterns) == 4
    assert [pattern for pattern, group in product(patterns, (")+", ")*", "){", "+)", "*)")) if group in pattern] == []
