"""What the generations of Gemini models accept, as data.

Sources, in extracts of 2026-11-22: https://ai.google.dev/gemini-api/docs/{gemini-3,thought-signatures,
whats-new-gemini-3.6}, https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/thinking and the model
pages beside it (3.5 Flash, 3.5 Flash-Lite, 3.6 Flash), and what recorded requests got for an answer. The rows of Pro
from 3.6 and of later lines are assumptions: that they follow the newest Flash.
"""

import re
from functools import lru_cache
from typing import Literal, TypeAlias

from msgspec import Struct

Level: TypeAlias = Literal["MINIMAL", "LOW", "MEDIUM", "HIGH"]

_FLASH: tuple[Level, ...] = ("MINIMAL", "LOW", "MEDIUM", "HIGH")


class Generation(Struct, frozen=True):
    """What one generation takes.

    levels          the thinking levels, least first; with none, thinking has a budget or doesn't exist
    budget          least and most tokens of a thinking budget; `None` where there is none. A least of 0 is "off"
    signatures      a function call without its thought signature is refused
    media_results   function responses may hold images and documents
    sampling        takes temperature, topP and topK; else they are ignored
    penalties       takes presence and frequency penalties; else they are an error
    prefill         continues a last turn of the model; else it is an error
    """

    levels: tuple[Level, ...] = ()
    budget: tuple[int, int] | None = None
    signatures: bool = False
    media_results: bool = False
    sampling: bool = True
    penalties: bool = True
    prefill: bool = True


_GEMINI_2_0 = Generation()


def _budget(least: int, most: int) -> Generation:
    return Generation(budget=(least, most))


def _gemini_3(levels: tuple[Level, ...], *, tuned: bool = False) -> Generation:
    """Gemini 3; `tuned` are the models since 2026-07, which are tuned for one way of sampling."""
    return Generation(
        levels, signatures=True, media_results=True, sampling=not tuned, penalties=not tuned, prefill=not tuned
    )


# The first row whose line is in the name and whose version is reached counts.
_ROWS: tuple[tuple[str, tuple[int, int], Generation], ...] = (
    ("flash", (3, 7), _gemini_3(("LOW", "MEDIUM", "HIGH"), tuned=True)),
    ("flash-lite", (3, 5), _gemini_3(_FLASH, tuned=True)),
    ("flash", (3, 6), _gemini_3(_FLASH, tuned=True)),
    ("flash", (3, 0), _gemini_3(_FLASH)),
    ("pro", (3, 6), _gemini_3(("LOW", "MEDIUM", "HIGH"), tuned=True)),
    ("pro", (3, 1), _gemini_3(("LOW", "MEDIUM", "HIGH"))),
    ("pro", (3, 0), _gemini_3(("LOW", "HIGH"))),
    ("", (3, 0), _gemini_3(("LOW", "MEDIUM", "HIGH"), tuned=True)),
    ("flash-lite", (2, 5), _budget(0, 24_576)),
    ("flash", (2, 5), _budget(0, 24_576)),
    ("pro", (2, 5), _budget(128, 32_768)),
    ("", (0, 0), _GEMINI_2_0),
)

_NAME = re.compile(r"gemini-(?:robotics-er-|omni-)?(\d{1,2})(?:[.-](\d{1,2})(?!\d))?")


@lru_cache(maxsize=256)
def generation(model: str) -> Generation:
    """The generation of `model`, by its upstream name. A Gemini without a version (`gemini-flash-latest`) counts as the
    newest; a name without Gemini in it (Gemma, a tuned model's endpoint) gets only what every model takes."""
    name = model.lower()
    match = _NAME.search(name)
    version = (99, 0) if "gemini" in name else (0, 0)
    if match is not None:
        version = (int(match[1]), int(match[2] or 0))
    return next(found for line, first, found in _ROWS if version >= first and line in name)
