"""What a model wrote when it was asked to measure: the JSON object it was asked for, or nothing.

A text is trusted with nothing but that. It may hold thoughts, drafts, and what the model was shown, which somebody may
have written to be taken for the measurement. The law: an object counts that stands by itself in the text, after all
thoughts, and not word for word in the material; of several that fit, none counts that another one contradicts. Reading
takes time linear in the text, whatever is in it.
"""

import re
from collections.abc import Sequence
from json import JSONDecoder
from typing import Any

from msgspec import Struct

from llmwise.orchestration.material import LABELS

HIGHEST = 10.0

MOST_READ = 1 << 17
"""In characters, thoughts included: many times what is asked for. A longer text says nothing."""

MOST_OBJECTS = 64
"""So many objects are looked at; a text with more says nothing."""

TOKEN = re.compile(r'(?P<open></?think>)|\{(?P<json>\s*["}])?')
BRACE = re.compile(r"[{}]")

LETTER = re.compile(rf"\b[Aa]nswer ([{LABELS}])\b")
"""How a judge speaks of an answer when it keeps to the words of its prompt."""

_decoder = JSONDecoder()


class Reading(Struct, frozen=True):
    """One order's result: the models as they stood, and their scores."""

    order: tuple[str, ...]
    scores: tuple[float, ...]
    reasons: tuple[str, ...]
    overall: str

    @property
    def best(self) -> set[str]:
        """The models with the highest score."""
        return {model for model, score in zip(self.order, self.scores, strict=True) if score == max(self.scores)}


def reading_by(text: str, models: Sequence[str], material: Sequence[str] = ()) -> Reading | None:
    """What a judge wrote, as a reading of the answers of `models` in the order in which they stood: the object that
    scores each answer once, from 0 to 10. `material` is what the judge was shown. `None`: there is none, or there are
    some with different scores."""
    found = [fitting for one in objects_in(text, material) if (fitting := _reading(one, tuple(models))) is not None]
    return found[-1] if len({reading.scores for reading in found}) == 1 else None


def confidence_by(text: str, material: Sequence[str] = ()) -> float | None:
    """What a check wrote, 0 to 1; `None`: nothing that can be read, or different numbers."""
    given = (_number(found.get("confidence"), 1.0) for found in objects_in(text, material))
    found = {confidence for confidence in given if confidence is not None}
    return found.pop() if len(found) == 1 else None


def keyed(text: str, order: Sequence[str], *, always: bool = False) -> str:
    """A text of a reading, with what its letters stand for behind it: where one stands by itself, or `always`, since
    "the first one" depends on the order too."""
    labels = LABELS[: len(order)]
    if not text or not (always or re.search(rf"\b[{labels}]\b", text)):
        return text
    return f"{text} ({', '.join(f'{label}: {model}' for label, model in zip(labels, order, strict=True))})"


def objects_in(text: str, material: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The JSON objects that stand by themselves in a text, in order. What is in braces and no JSON is passed over with
    all that is in it: of a verdict that is broken, a part may be a quotation. Thoughts are passed over too, also those
    whose beginning the provider's template has swallowed; after one that doesn't end there is nothing."""
    if len(text) > MOST_READ:
        return []
    found: list[tuple[str, dict[str, Any]]] = []
    at = looked_at = 0
    while (token := TOKEN.search(text, at)) is not None:
        start, at = token.span()
        if token["open"] == "</think>":
            found.clear()
        elif token["open"]:
            at = text.find("</think>", at) + len("</think>")
            if at < len("</think>"):
                return []
        else:
            value = None
            if token["json"]:
                looked_at += 1
                if looked_at > MOST_OBJECTS:
                    return []
                value, at = _decoded(text, start)
            if value is None:
                at = _closing(text, start)
            else:
                found.append((text[start:at], value))
    shown = [_bare(one) for one in material] if found else []
    return [value for said, value in found if not any(_bare(said) in one for one in shown)]


def _decoded(text: str, start: int) -> tuple[dict[str, Any] | None, int]:
    try:
        return _decoder.raw_decode(text, start)
    except (ValueError, RecursionError):  # ValueError: no JSON, or an integer of more digits than Python reads
        return None, start


def _closing(text: str, start: int) -> int:
    """Behind the brace that closes the one at `start`; the text's end if none does. Strings aren't heeded: what is
    broken is most often their quotes."""
    depth = 0
    for brace in BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.end()
    return len(text)


def _bare(text: str) -> str:
    """Without blanks: who quotes may indent."""
    return "".join(text.split())


def _reading(found: dict[str, Any], models: tuple[str, ...]) -> Reading | None:
    rows, labels = found.get("scores"), LABELS[: len(models)]
    if not isinstance(rows, list) or len(rows) != len(labels):
        return None
    scores: dict[str, float] = {}
    reasons: dict[str, str] = {}
    for row in rows:
        if not isinstance(row, dict):
            return None
        label, score = str(row.get("answer", "")).strip().upper()[-1:], _number(row.get("score"), HIGHEST)
        if not label or label not in labels or label in scores or score is None:
            return None
        scores[label] = score
        reasons[label] = str(row.get("reasoning") or "")
    return Reading(
        models,
        tuple(scores[label] for label in labels),
        tuple(_named(reasons[label], models) for label in labels),
        _named(str(found.get("overall") or ""), models),
    )


def _named(text: str, models: Sequence[str]) -> str:
    """What a judge wrote, with the models' names for "answer A": its letters say nothing to a reader who didn't see the
    answers in its order. A letter by itself may be a word (`keyed` explains it)."""
    letters = dict(zip(LABELS, models, strict=False))
    return LETTER.sub(lambda match: letters.get(match[1], match[0]), text)


def _number(value: object, highest: float) -> float | None:
    """A number from 0 to `highest`; an integer may be too big for a float, so it is compared first."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= highest else None
