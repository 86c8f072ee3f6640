"""What kind of question a text is, how sure that is, and how hard it looks: without asking a model.

A linear model over the features of `features.py`. Its weights are data (`weights.json`), learned by
`bench/routing_train.py` from prompts whose licences allow it and that lie in `bench/data`; `bench/routing.py` measures
it. A sum per class is all there is to compute, so one Python integer holds the sums of all classes side by side, in
fields of 32 bits: adding two such integers adds every field, and `sum(map(...))` over the features of a text is one
loop in C (15 µs where nine sums of floats take 90).
"""

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from itertools import repeat
from math import exp
from operator import lshift
from struct import Struct as Layout
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from llmwise.routing.features import features

TaskType: TypeAlias = Literal[
    "code",
    "conversation",
    "creative",
    "long_form_writing",
    "math",
    "reasoning_analysis",
    "simple_query_classification",
    "summarization",
    "translation_multilingual",
]
TASK_TYPES: Final[tuple[TaskType, ...]] = get_args(TaskType)

Level: TypeAlias = Literal["easy", "medium", "hard"]

MEDIUM: Final = 0.30
HARD: Final = 0.45
"""Where the levels of difficulty begin: the thirds of the prompts with outcomes in `bench/data`, rounded."""

SIGNALS: Final = 4
"""At most so many reasons are given, the weightiest first."""


class Classification(msgspec.Struct, frozen=True):
    """What was made of a text.

    task_type   one of `TASK_TYPES`
    confidence  0..1, the chance that the task type is an acceptable one, calibrated on prompts of sources that were
                not learned from. Below 0.5 take the safe default, not the cheapest model. 0 for a blank text
    difficulty  0..1, the chance that a small model (7 to 9 billion parameters, of 2024) gets it wrong. A cheap
                estimate that ranks better than it counts; see `level`
    signals     what spoke for the class against the next likely one, for people: "word 'translate'", "code fence"
    version     of the weights
    """

    task_type: str = "conversation"
    confidence: float = 0.0
    difficulty: float = 0.5
    signals: tuple[str, ...] = ()
    version: str = ""


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """weights.json. A row has one number for each task, in their order, then one for the difficulty; in units of
    1/`scale`. `temperature` divides the sums of the tasks before they become a probability."""

    version: str
    note: str
    tasks: list[str]
    scale: int
    temperature: float
    bias: list[int]
    features: dict[str, list[int]]


Looked: TypeAlias = tuple[tuple[float, ...], set[str]]
"""The chance of each of `TASK_TYPES`, and the names of the features that they come from."""


def classify(text: str) -> Classification:
    """The kind of question that `text` (the last message of the user) is. The first call reads the weights, 15 ms."""
    return _default().classify(text)


def probabilities(text: str) -> tuple[float, ...]:
    """The chance of each of `TASK_TYPES`, in their order."""
    return _default().probabilities(text)


def look(text: str) -> Looked:
    """`probabilities`, and the names of the features that they come from."""
    return _default().look(text)


def examine(text: str) -> tuple[Classification, Looked]:
    """Both `classify` and `look`, at the cost of one of them."""
    return _default().examine(text)


def level(difficulty: float) -> Level:
    """The level at which tables of models per class tell questions apart."""
    return "hard" if difficulty >= HARD else "medium" if difficulty >= MEDIUM else "easy"


class Classifier:
    """A set of weights, ready to use. Holds no state: one instance serves all threads."""

    __slots__ = ("_bias", "_layout", "_packed", "_rows", "_weights")

    def __init__(self, weights: Weights) -> None:
        fields = len(weights.tasks) + 1
        self._weights = weights
        self._layout = Layout(f"<{fields}I")
        self._bias = _pack(weights.bias) + _pack([_HALF] * fields)
        self._packed = {name: _pack(row) for name, row in weights.features.items()}
        self._rows = {name: row for name, row in weights.features.items() if name[0] in "#@"}

    def classify(self, text: str) -> Classification:
        if not text or text.isspace():
            return Classification(version=self._weights.version)
        names, evidence = features(text)
        return self._told(*self._sums(names), names, evidence)

    def examine(self, text: str) -> tuple[Classification, Looked]:
        if not text or text.isspace():
            return self.classify(text), self.look(text)
        names, evidence = features(text)
        sums, hard = self._sums(names)
        chances = self._chances(sums)
        return self._told(sums, hard, names, evidence), (chances, names)

    def _sums(self, names: set[str]) -> tuple[list[int], int]:
        """What the features add up to for each task, and for the difficulty."""
        total = self._bias + sum(map(self._packed.get, names, repeat(0)))
        *sums, hard = self._layout.unpack(total.to_bytes(self._layout.size, "little"))
        return sums, hard

    def _told(self, sums: list[int], hard: int, names: set[str], evidence: dict[str, str]) -> Classification:
        weights, first = self._weights, max(sums)
        task = sums.index(first)
        unit = 1.0 / (weights.scale * weights.temperature)
        confidence = 1.0 / sum([exp((value - first) * unit) for value in sums])
        sums[task] = 0
        rival = sums.index(max(sums))
        return Classification(
            weights.tasks[task],
            round(confidence, 3),
            round(1.0 / (1.0 + exp((_HALF - hard) / weights.scale)), 3),
            self._signals(names, evidence, task, rival),
            weights.version,
        )

    def probabilities(self, text: str) -> tuple[float, ...]:
        """The chance of each of `TASK_TYPES`, in their order: sums to 1. Of a blank text: all alike."""
        return self.look(text)[0]

    def look(self, text: str) -> Looked:
        """`probabilities`, and the names of the features that they come from (none of a blank text)."""
        tasks = len(self._weights.tasks)
        if not text or text.isspace():
            return (1 / tasks,) * tasks, set()
        names = features(text).names
        return self._chances(self._sums(names)[0]), names

    def _chances(self, sums: list[int]) -> tuple[float, ...]:
        first, unit = max(sums), 1.0 / (self._weights.scale * self._weights.temperature)
        powers = [exp((value - first) * unit) for value in sums]
        whole = sum(powers)
        return tuple([power / whole for power in powers])

    def _signals(self, names: set[str], evidence: dict[str, str], task: int, rival: int) -> tuple[str, ...]:
        """The named features by what they add to `task` over `rival`."""
        rows = self._rows
        gains = []
        for group, word in evidence.items():
            row = rows.get("#" + group)
            if row and row[task] > row[rival]:
                gains.append((row[task] - row[rival], f"phrase '{word}'" if " " in word else f"word '{word}'"))
        for name in _SHAPE_NAMES & names:
            row = rows.get(name)
            if row and row[task] > row[rival]:
                gains.append((row[task] - row[rival], _SHAPES[name]))
        gains.sort(reverse=True)
        return tuple([reason for _, reason in gains[:SIGNALS]])


_BITS: Final = 32
_HALF: Final = 1 << _BITS - 1
"""Added to every field once, so that none goes below zero and borrows from its neighbour. Room for sums of 20 million
units; the largest weight is under two thousand and a text has under two thousand features."""

_SHAPES: Final = {
    "@fence": "code fence",
    "@options": "lettered options",
    "@arithmetic1": "arithmetic",
    "@arithmetic2": "arithmetic",
    "@arithmetic3": "arithmetic",
    "@arithmetic4": "much arithmetic",
    "@code3": "punctuation of code",
    "@code4": "much punctuation of code",
    "@\\3": "TeX commands",
    "@\\4": "many TeX commands",
    "@$2": "formulas between dollar signs",
    "@$3": "formulas between dollar signs",
    "@$4": "many formulas between dollar signs",
    "@ends ?": "ends with a question mark",
    "@ends :": "ends with a colon",
    "@short first line": "a short first line before the rest",
    "@short last line": "a short last line after the rest",
    "@length0": "very short",
    "@length8": "long",
    "@length9": "very long",
    "@digits5": "many numbers",
    "@unspaced and latin2": "two scripts mixed",
    "@unspaced and latin3": "two scripts mixed",
}
_SHAPE_NAMES: Final = frozenset(_SHAPES)


def _pack(row: Iterable[int]) -> int:
    return sum(map(lshift, row, range(0, 1 << 10, _BITS)))


@cache
def _default() -> Classifier:
    features("")  # reads the lexicon now, not with the first question
    return Classifier(msgspec.json.decode(files(__package__).joinpath("weights.json").read_bytes(), type=Weights))
