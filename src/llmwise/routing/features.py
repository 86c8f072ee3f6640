"""Text -> the names of the features it shows: its words, the groups they belong to, and its shape.

Pure, and the cost does not grow with the text: only a window at the head and one at the tail are read, because an
instruction stands before or after the material it is about, hardly ever in the middle of it. What is read goes
through a few passes of C code (translate, split, count, membership). Both regular expressions are a character class
or a fixed sequence, without nested repetition: no input makes them backtrack.

A word is a whole word: "terrorism" does not contain "error", nor "classical" "class". Chinese, Japanese and Korean
put few or no spaces between words; there each pair of neighbouring characters counts as one, which turns most of
their vocabulary into plain lookups.

The names, which cannot clash because no word begins with a mark or holds one:

    write      a word in lower case; digits become zeros (2024 is 0000)
    trans*     the first five letters of a longer word, for inflected forms
    ^write     one of the first two words
    #story     a word or phrase of that group of lexicon.txt occurs
    #story^    the first of all such words is of that group: in "write a haiku about a segmentation fault" what is to
               be written comes before what it is about
    @fence     a mark of the shape: length, punctuation, lines, script
"""

import re
from bisect import bisect
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import pairwise
from operator import add
from typing import Final, NamedTuple

HEAD_CHARS: Final = 384
TAIL_CHARS: Final = 256
"""How much is read. By cross-validation: 256 + 128 loses half a point of accuracy, 512 + 256 wins nothing."""

_LENGTHS: Final = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_STEM: Final = 5
_FIRST: Final = 2
_EDGE_LINE: Final = 160

_UNSPACED: Final = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD: Final = re.compile(f"[{_UNSPACED}]+|[^\\W{_UNSPACED}]+")
_KANA: Final = re.compile("[\u3040-\u30ff]")
_HANGUL: Final = re.compile("[\uac00-\ud7af]")
_ARITHMETIC: Final = re.compile(r"\d ?[-+*/^=×÷%] ?\(?-?\d")
_FOLD: Final = "".join(
    "0" if c.isdigit() else c if c.isalpha() or c == "_" else " " for c in map(chr, range(128))
)
_NARROW: Final = tuple(zip("？：！，。、（）；＝", "?:!,..();=", strict=True))
_COUNTED: Final = tuple((c, tuple(f"@{c}{min(n.bit_length(), 4)}" for n in range(9))) for c in '=\\$^{(;<"?:_/*+%!|,')
_CODE: Final = ("()", "=>", "->", "::", "==", "!=", "&&", "</", "/>", ");", "{\n", "[]", "= ", "\n  ")
_BULLETS: Final = ("\n- ", "\n* ", "\n•", "\n1", "\n2")


class Features(NamedTuple):
    """`names` as above, distinct. `evidence`: for each group that fired the first word or phrase of it, as it stands
    in the text, in the order of appearance."""

    names: set[str]
    evidence: dict[str, str]


def features(text: str) -> Features:
    """The features of a text of any length, in a time bounded by the two windows."""
    words_of, phrases_of = _lexicon()
    length = len(text)
    raw = text if length <= HEAD_CHARS + TAIL_CHARS else f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    seen = raw.lower()
    if seen.isascii():
        folded = seen.translate(_FOLD)
        digits = folded.count("0")
        spaced = words = folded.split()
        script: Iterator[str] | tuple[()] = ()
    else:
        for wide, narrow in _NARROW:
            seen = seen.replace(wide, narrow)
        digits = sum(map(seen.count, "0123456789"))
        spaced = _WORD.findall(seen)
        words = _split(spaced)
        script = _script(seen, spaced)

    names = set(words)
    names.update([word[:_STEM] for word in words if len(word) > _STEM])
    names.update(["^" + word for word in words[:_FIRST]])

    evidence: dict[str, str] = {}
    hits = [word for word in words if word in words_of]
    if hits:
        names.add(f"#{words_of[hits[0]]}^")
        for word in hits:
            evidence.setdefault(words_of[word], word)
    for phrase in [pair for pair in pairwise(spaced) if pair in phrases_of]:
        evidence.setdefault(phrases_of[phrase], " ".join(phrase))
    names.update(["#" + group for group in evidence])

    names.update(script)
    names.update(_shape(raw, seen, length, digits))
    return Features(names, evidence)


def _split(spaced: list[str]) -> list[str]:
    """Runs of characters that stand without spaces become their pairs."""
    words: list[str] = []
    for word in spaced:
        if word >= "\u3040" and len(word) > 1:
            words += map(add, word, word[1:])
        else:
            words.append("0" * len(word) if word.isdigit() else word)
    return words


def _script(seen: str, spaced: list[str]) -> Iterator[str]:
    latin = sum([word < "{" for word in spaced])
    unspaced = sum([len(word) for word in spaced if word >= "\u3040"])
    if unspaced:
        yield f"@unspaced{bisect((0.1, 0.3, 0.6, 0.85), unspaced / len(seen))}"
        if _KANA.search(seen):
            yield "@kana"
        elif _HANGUL.search(seen):
            yield "@hangul"
        if latin:
            yield f"@unspaced and latin{bisect((3, 10, 30), latin)}"
        return
    letter = max(seen)
    if "\u0400" <= letter < "\u0530":
        yield "@cyrillic"
    elif "\u0530" <= letter < "\u2000":
        yield "@other script"
    elif letter < "\u0250":
        yield "@accents"


def _shape(raw: str, seen: str, length: int, digits: int) -> Iterator[str]:
    yield f"@length{bisect(_LENGTHS, length)}"
    yield f"@digits{min(digits.bit_length(), 5)}"
    symbols = 0
    for character, levels in _COUNTED:
        count = seen.count(character)
        if count:
            symbols += 1
            yield levels[count if count < 8 else 8]
    if symbols > 2:  # prose has two or three of them
        marks = sum(map(seen.count, _CODE))
        if marks:
            yield f"@code{min(marks.bit_length(), 4)}"
    if "```" in seen:
        yield "@fence"
    if digits > 1:
        operations = len(_ARITHMETIC.findall(seen))
        if operations:
            yield f"@arithmetic{min(operations.bit_length(), 4)}"
    if "(b)" in seen or "\nb)" in seen or "\nb." in seen or " b) " in seen or " b. " in seen:
        yield "@options"
    elif "b." in seen and "c." in seen and "d." in seen:
        yield "@options"
    stripped = raw.strip()
    first, last = stripped[:1], stripped[-1:]
    yield "@starts upper" if first.isupper() else "@starts lower" if first.islower() else "@starts otherwise"
    yield "@ends " + ("?" if last in "?？" else "." if last in ".。!！" else ":" if last in ":：" else "otherwise")
    lines = stripped.count("\n")
    if lines:
        yield f"@lines{min(lines.bit_length(), 4)}"
        if "\n\n" in stripped:
            yield "@paragraphs"
        bullets = sum(map(seen.count, _BULLETS))
        if bullets:
            yield f"@bullets{min(bullets.bit_length(), 4)}"
        head, tail = stripped.find("\n"), len(stripped) - stripped.rfind("\n")
        if head < _EDGE_LINE and length > 4 * head:
            yield "@short first line"
            if stripped[head - 1] in ":：":
                yield "@first line ends :"
        if tail < _EDGE_LINE and length > 4 * tail:
            yield "@short last line"


@cache
def _lexicon() -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Word -> group and pair of words -> group, from lexicon.txt; of a word named twice the first group holds."""
    words: dict[str, str] = {}
    phrases: dict[tuple[str, str], str] = {}
    for line in files(__package__).joinpath("lexicon.txt").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        group, _, entries = line.partition(":")
        for entry in entries.split():
            first, _, second = entry.partition("_")
            if second:
                phrases.setdefault((first, second), group)
            else:
                words.setdefault(first, group)
    return words, phrases
