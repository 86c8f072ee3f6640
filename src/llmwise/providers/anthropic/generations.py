"""What the generations of Claude models accept, as data.

Sources, in extracts of 2026-11-22: https://platform.claude.com/docs/en/build-with-claude/{thinking,effort,
structured-outputs,mid-conversation-system-messages}, .../docs/en/models/{opus,sonnet,haiku}-5-5/migration-guide, the
tables of github.com/anthropics/skills (claude-api) and of pydantic-ai's profiles, and what recorded requests got for
an answer.
"""

import re
from functools import lru_cache
from typing import Literal, TypeAlias

from msgspec import Struct

EffortWord: TypeAlias = Literal["low", "medium", "high", "xhigh", "max"]

_ALL: tuple[EffortWord, ...] = ("low", "medium", "high", "xhigh", "max")


class Generation(Struct, frozen=True):
    """What one generation takes. The defaults are those of Claude 4.0.

    sampling        `both` temperature and top_p, `one` of them, or `none` of temperature, top_p and top_k (400)
    budget          thinking with `budget_tokens`
    adaptive        thinking that the model doses itself, steered by an effort
    off             how thinking is switched off: by leaving it out, by a type, or not at all (`None`)
    summarize       thinking comes back empty unless `display` asks for a summary
    efforts         the effort words, weakest first
    forced_tools    takes `tool_choice` of `any` or `tool` (with a thinking budget none does)
    schema          takes a JSON schema in `output_config.format`, and `strict` tools
    system_turns    takes messages of role `system` after a user turn
    prefill         continues a last turn of the assistant
    max_tokens      sent when neither the caller nor the catalog says a limit; below every model's own
    """

    sampling: Literal["both", "one", "none"] = "both"
    budget: bool = True
    adaptive: bool = False
    off: Literal["omit", "disabled", "between_tools"] | None = "omit"
    summarize: bool = False
    efforts: tuple[EffortWord, ...] = ()
    forced_tools: bool = True
    schema: bool = False
    system_turns: bool = False
    prefill: bool = True
    max_tokens: int = 32_000


_CLAUDE_3 = Generation(budget=False, max_tokens=4096)
_CLAUDE_3_7 = Generation(max_tokens=8192)
_CLAUDE_4_0 = Generation()
_CLAUDE_4_1 = Generation(sampling="one", schema=True)
_CLAUDE_4_6 = Generation(
    sampling="one",
    adaptive=True,
    efforts=("low", "medium", "high", "max"),
    schema=True,
    prefill=False,
    max_tokens=64_000,
)


def _from_4_7(
    off: Literal["omit", "disabled", "between_tools"] | None,
    *,
    system_turns: bool = True,
    forced_tools: bool = True,
) -> Generation:
    return Generation(
        sampling="none",
        budget=False,
        adaptive=True,
        off=off,
        summarize=True,
        efforts=_ALL,
        forced_tools=forced_tools,
        schema=True,
        system_turns=system_turns,
        prefill=False,
        max_tokens=64_000,
    )


# The first row whose line fits and whose version is reached counts; from 5 on thinking is on unless switched off.
_ROWS: tuple[tuple[str, tuple[int, int], Generation], ...] = (
    ("fable mythos", (5, 1), _from_4_7(None, forced_tools=False)),
    ("fable mythos", (0, 0), _from_4_7(None)),
    ("opus", (5, 5), _from_4_7(None, forced_tools=False)),
    ("sonnet", (5, 5), _from_4_7("between_tools", forced_tools=False)),
    ("haiku", (5, 5), _from_4_7("disabled")),
    # Whether Sonnet 5 takes system turns is told both ways; the user turn that replaces one always works.
    ("sonnet", (5, 0), _from_4_7("disabled", system_turns=False)),
    ("", (5, 0), _from_4_7("disabled")),
    ("", (4, 8), _from_4_7("omit")),
    ("", (4, 7), _from_4_7("omit", system_turns=False)),
    ("", (4, 6), _CLAUDE_4_6),
    ("", (4, 1), _CLAUDE_4_1),
    ("", (4, 0), _CLAUDE_4_0),
    ("", (3, 7), _CLAUDE_3_7),
    ("", (0, 0), _CLAUDE_3),
)

_NAME = re.compile(
    r"claude-(?:(?P<line>[a-z]+)-)?(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2})(?!\d))?(?:-(?P<old_line>[a-z]+))?"
)


@lru_cache(maxsize=256)
def generation(model: str) -> Generation:
    """The generation of `model`, by its upstream name (vendor prefixes and dates are fine).

    A Claude whose name has no version counts as the newest of its kind (`claude-mythos-preview`); a name without
    Claude in it is another vendor's model behind this API, and those follow Claude 4.0.
    """
    name = model.lower()
    match = _NAME.search(name)
    if match is None:
        if "claude" not in name:
            return _CLAUDE_4_0
        version = (99, 0)
        line = next((row[0] for row in _ROWS if any(word and word in name for word in row[0].split())), "")
        return _select(line.split(" ")[0], version)
    line = match["line"] or match["old_line"] or ""
    return _select(line, (int(match["major"]), int(match["minor"] or 0)))


def _select(line: str, version: tuple[int, int]) -> Generation:
    return next(found for lines, first, found in _ROWS if version >= first and (not lines or line in lines.split(" ")))
