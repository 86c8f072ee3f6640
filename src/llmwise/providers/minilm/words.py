"""From text to BERT's word pieces, uncased: https://github.com/google-research/bert (tokenization.py).

Time grows with the text alone: a word longer than `LONGEST_WORD` is unknown, and is not looked into.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

LONGEST_WORD = 100
MAX_TOKENS = 256
"""What the model was trained on (its sentence_bert_config.json); what is longer is cut off."""

CLS, SEP, UNK = "[CLS]", "[SEP]", "[UNK]"


class Words:
    """A vocabulary: a piece a line, whose number is its line's."""

    def __init__(self, file: Path) -> None:
        lines = file.read_text("utf-8").split("\n")
        self._ids: Mapping[str, int] = {piece: number for number, piece in enumerate(lines) if piece}

    def ids(self, text: str) -> list[int]:
        """Beginning and end included, at most `MAX_TOKENS`."""
        found = [self._ids[CLS]]
        for word in words(text):
            found += self._pieces(word)
            if len(found) >= MAX_TOKENS:
                break
        return [*found[: MAX_TOKENS - 1], self._ids[SEP]]

    def _pieces(self, word: str) -> list[int]:
        """The longest pieces from the left; a word that they don't make up is unknown as a whole."""
        if len(word) > LONGEST_WORD:
            return [self._ids[UNK]]
        found: list[int] = []
        start = 0
        while start < len(word):
            head = "##" if start else ""
            end = next((e for e in range(len(word), start, -1) if head + word[start:e] in self._ids), None)
            if end is None:
                return [self._ids[UNK]]
            found.append(self._ids[head + word[start:end]])
            start = end
        return found


def words(text: str) -> Iterator[str]:
    """Lower case, without accents; punctuation and ideographs are words of their own."""
    word: list[str] = []
    for char in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(char)
        alone = kind.startswith("P") or (char.isascii() and not char.isalnum() and char.isprintable() and char != " ")
        if kind == "Mn" or char in "\0\ufffd" or (kind.startswith("C") and char not in "\t\n\r"):
            continue
        if not (alone or char.isspace() or _ideograph(char)):
            word.append(char)
            continue
        if word:
            yield "".join(word)
            word = []
        if not char.isspace():
            yield char
    if word:
        yield "".join(word)


def _ideograph(char: str) -> bool:
    return "\u4e00" <= char <= "\u9fff" or "\u3400" <= char <= "\u4dbf" or "\U00020000" <= char <= "\U0002ceaf"
