"""The copilot: a question about the gateway, put to a configured model beside what its own documentation says.

The excerpts are found by the words that they share with the question, rare ones counting more; nothing is embedded.
"""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from math import log
from pathlib import Path

from msgspec import Struct

from llmwise.domain.messages import Message, Text
from llmwise.domain.requests import ChatRequest

MOST_EXCERPTS = 4
MAX_EXCERPT_CHARS = 2400
MAX_TOKENS = 700

_HEADING = re.compile(r"^#{1,3} ", re.MULTILINE)
_WORD = re.compile(r"[a-z0-9_]{3,40}")

SYSTEM = (
    "You answer questions about LLMWise, a self-hosted gateway for language models. Answer from the documentation "
    "below alone, shortly, with the commands and settings as it has them. Where it doesn't say, say that it doesn't."
)


class CopilotSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[copilot]`: who answers questions about the gateway.

    model    by its name in the catalog; absent: nobody, and /settings/copilot/ask answers 501
    """

    model: str | None = None


class Excerpt(Struct, frozen=True):
    """A section of a page. `page` is its path below docs/."""

    page: str
    title: str
    text: str


@cache
def library() -> tuple[Excerpt, ...]:
    """All sections of the documentation that came with this installation; empty if none did."""
    package = Path(__file__).parent.parent
    folder = next((f for f in (package / "docs", package.parent.parent / "docs") if (f / "howto").is_dir()), None)
    found: list[Excerpt] = []
    for file in sorted(folder.rglob("*.md")) if folder is not None else ():
        page = str(file.relative_to(folder)) if folder is not None else ""
        if page.startswith("decisions/"):
            continue
        for section in _HEADING.split(file.read_text("utf-8")):
            title, _, text = section.partition("\n")
            if text.strip():
                found.append(Excerpt(page, title.strip(), text.strip()[:MAX_EXCERPT_CHARS]))
    return tuple(found)


def excerpts(question: str, among: Sequence[Excerpt]) -> tuple[Excerpt, ...]:
    """Those that have most of the question's rare words, the best first; none when none has any."""
    asked = {*_WORD.findall(question.lower())}
    words = [Counter(_WORD.findall(f"{one.title} {one.title} {one.text}".lower())) for one in among]
    among_how_many = {word: sum(word in of_it for of_it in words) for word in asked}
    scored = []
    for index, of_it in enumerate(words):
        score = sum(
            log(1 + len(among) / among_how_many[word]) * of_it[word] / (of_it[word] + 1 + of_it.total() / 200)
            for word in asked
            if word in of_it
        )
        if score > 0:
            scored.append((-score, index))
    return tuple(among[index] for _, index in sorted(scored)[:MOST_EXCERPTS])


def question(model: str, asked: str, place: str | None, found: Sequence[Excerpt]) -> ChatRequest:
    """The request that answers. `place` is where in the dashboard the user is."""
    pages = "\n\n".join(f"--- {one.page}: {one.title} ---\n{one.text}" for one in found)
    where = f"\n\n(I am at {place}.)" if place else ""
    messages = (Message("system", (Text(f"{SYSTEM}\n\n{pages}"),)), Message("user", (Text(asked + where),)))
    return ChatRequest(model, messages)
