"""Text -> the names of the features it shows: its words, the groups they belong to, and its shape.

Pure, and the cost does not grow with the text: only a window at the head and one at the tail are read, because an
instruction stands before or after the material it is about, hardly ever in the middle of it. What is read goes
through a few passes of C code (translate, split, count, membership). The regular expressions are character classes and
one fixed sequence, without nested repetition: no input makes them backtrack.

A word is a whole word: "terrorism" does not contain "error", nor "classical" "class". Chinese, Japanese and Korean
put few or no spaces between words; there each pair of neighbouring characters counts as one, which turns most of
their vocabulary into plain lookups.

The names, which cannot clash because no word begins with a mark or holds one:

    write      a word in lower case; digits become zeros (2024 is 0000)
    trans*     the first five letters of a longer word, for its inflected forms
    ^write     one of the first two words
    #story     a word or phrase of that group of lexicon.txt occurs
    #story^    the first of all such words is of that group: in "write a haiku about a segmentation fault" what is to
               be written comes before what it is about
    @fence     a mark of the shape: length, punctuation, lines, script
"""

import re
from bisect import bisect
from functools import cache
from importlib.resources import files
from itertools import pairwise
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
_FOLD: Final = "".join("0" if c.isdigit() else c if c.isalpha() or c == "_" else " " for c in map(chr, range(128)))
_NARROW: Final = tuple(zip("？：！，。、（）；＝", "?:!,..();=", strict=True))
_COUNTED: Final = tuple((c, tuple(f"@{c}{min(n.bit_length(), 4)}" for n in range(9))) for c in '=\\$^{(;<"?:_/*+%!|,')
_CODE: Final = ("()", "=>", "->", "::", "==", "!=", "&&", "</", "/>", ");", "{\n", "[]", "= ", "\n  ")
_SECOND_OPTION: Final = ("(b)", "\nb)", "\nb.", " b) ", " b. ")
_LENGTH: Final = tuple(f"@length{n}" for n in range(len(_LENGTHS) + 1))
_DIGITS: Final = tuple(f"@digits{n}" for n in range(6))
_ENDS: Final = {"?": "@ends ?", "？": "@ends ?", ":": "@ends :", "：": "@ends :"} | dict.fromkeys(".。!！", "@ends .")
_BULLETS: Final = ("\n- ", "\n* ", "\n•", "\n1", "\n2")


class Features(NamedTuple):
    """`names` as above. `evidence`: for each group that fired the first word or phrase of it, in lower case; words in
    the order of the text, then phrases."""

    names: set[str]
    evidence: dict[str, str]


def features(text: str) -> Features:
    """The features of a text of any length, in a time bounded by the two windows."""
    word_groups, phrase_groups = _lexicon()
    length = len(text)
    raw = text if length <= HEAD_CHARS + TAIL_CHARS else f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    seen = raw.lower()
    if seen.isascii():
        folded = seen.translate(_FOLD)
        digits = folded.count("0")
        spaced = words = folded.split()
        names = set(words)
        names |= {word[:_STEM] + "*" for word in names if len(word) > _STEM}
    else:
        for wide, narrow in _NARROW:
            seen = seen.replace(wide, narrow)
        digits = sum(map(seen.count, "0123456789"))
        spaced = _WORD.findall(seen)
        words = _split(spaced)
        names = set(words)
        names |= {word[:_STEM] + "*" for word in spaced if len(word) > _STEM and word < "\u3040"}
        names.update(_script(seen, spaced))

    evidence: dict[str, str] = {}
    for word in filter(word_groups.__contains__, words):
        evidence.setdefault(word_groups[word], word)
    for group in evidence:  # the first only
        names.add(f"#{group}^")
        break
    for pair in filter(phrase_groups.__contains__, pairwise(spaced)):
        evidence.setdefault(phrase_groups[pair], " ".join(pair))
    names.update(["#" + group for group in evidence])
    names.update(["^" + word for word in words[:_FIRST]])
    names.update(_shape(raw, seen, length, digits))
    return Features(names, evidence)


def _split(spaced: list[str]) -> list[str]:
    """Runs of characters that stand without spaces become their pairs."""
    words: list[str] = []
    for word in spaced:
        if word >= "\u3040" and len(word) > 1:
            words += map("".join, pairwise(word))
        else:
            words.append("0" * len(word) if word.isdigit() else word)
    return words


def _script(seen: str, spaced: list[str]) -> list[str]:
    latin = sum([word < "{" for word in spaced])
    unspaced = sum([len(word) for word in spaced if word >= "\u3040"])
    if unspaced:
        marks = [f"@unspaced{bisect((0.1, 0.3, 0.6, 0.85), unspaced / len(seen))}"]
        if _KANA.search(seen):
            marks.append("@kana")
        elif _HANGUL.search(seen):
            marks.append("@hangul")
        if latin:
            marks.append(f"@unspaced and latin{bisect((3, 10, 30), latin)}")
        return marks
    letter = max(seen)
    if "\u0400" <= letter < "\u0530":
        return ["@cyrillic"]
    if "\u0530" <= letter < "\u2000":
        return ["@other script"]
    return ["@accents"] if letter < "\u0250" else []


def _shape(raw: str, seen: str, length: int, digits: int) -> list[str]:
    count = seen.count
    marks = [levels[n if n < 8 else 8] for character, levels in _COUNTED if (n := count(character))]
    if len(marks) > 2:  # prose has two or three of these characters, code has more
        code = sum(map(count, _CODE))
        if code:
            marks.append(f"@code{min(code.bit_length(), 4)}")
    marks.append(_LENGTH[bisect(_LENGTHS, length)])
    marks.append(_DIGITS[min(digits.bit_length(), 5)])
    if "```" in seen:
        marks.append("@fence")
    if digits > 1:
        operations = len(_ARITHMETIC.findall(seen))
        if operations:
            marks.append(f"@arithmetic{min(operations.bit_length(), 4)}")
    lettered = any(map(seen.__contains__, _SECOND_OPTION)) if "b)" in seen or "b." in seen else False
    if lettered or ("b." in seen and "c." in seen and "d." in seen):
        marks.append("@options")
    stripped = raw.strip()
    first, last = stripped[:1], stripped[-1:]
    marks.append("@starts upper" if first.isupper() else "@starts lower" if first.islower() else "@starts otherwise")
    marks.append(_ENDS.get(last, "@ends otherwise"))
    lines = stripped.count("\n")
    if lines:
        marks.append(f"@lines{min(lines.bit_length(), 4)}")
        if "\n\n" in stripped:
            marks.append("@paragraphs")
        bullets = sum(map(count, _BULLETS))
        if bullets:
            marks.append(f"@bullets{min(bullets.bit_length(), 4)}")
        head, tail = stripped.find("\n"), len(stripped) - stripped.rfind("\n")
        if head < _EDGE_LINE and length > 4 * head:
            marks.append("@short first line")
            if stripped[head - 1] in ":：":
                marks.append("@first line ends :")
        if tail < _EDGE_LINE and length > 4 * tail:
            marks.append("@short last line")
    return marks


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
