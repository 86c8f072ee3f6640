"""A regular expression to a short text that it finds: for the `pattern` of a JSON Schema."""

import re
from collections.abc import Iterable
from importlib import import_module
from typing import Any

# The parser behind `re`: private by name, the same in Python 3.11 to 3.14. `matching` catches a surprise from it.
_parser: Any = import_module("re._parser")

_CLASSES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
}
_CANDIDATES = "a0A-_. "


def matching(pattern: str) -> str | None:
    """A text in which `pattern` is found, or `None` where it is no pattern or too clever (look-around, say)."""
    try:
        text = "".join(_texts(_parser.parse(pattern), {}))
        return text if re.search(pattern, text) else None
    except Exception:  # whatever the private parser, or a construct unknown here, raises: there is no text
        return None


def _texts(parsed: Iterable[Any], groups: dict[int, str]) -> list[str]:
    texts = []
    for operation, argument in parsed:
        match str(operation):
            case "LITERAL":
                texts.append(chr(argument))
            case "NOT_LITERAL":
                texts.append(next(c for c in _CANDIDATES if ord(c) != argument))
            case "ANY":
                texts.append("a")
            case "IN":
                texts.append(_one_of(argument))
            case "BRANCH":
                texts += _texts(argument[1][0], groups)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, most, inner = argument
                texts += _texts(inner, groups) * max(int(least), min(1, int(most)))
            case "SUBPATTERN":
                inner_text = "".join(_texts(argument[3], groups))
                if argument[0] is not None:
                    groups[argument[0]] = inner_text
                texts.append(inner_text)
            case "GROUPREF":
                texts.append(groups[argument])
            case "AT":
                pass
            case _:
                raise ValueError(f"no text for {operation}")
    return texts


def _one_of(members: list[Any]) -> str:
    """A character of a class such as `[^a-z_]`: one that it names, or a usual one."""
    negated = str(members[0][0]) == "NEGATE"
    members = members[negated:]
    named: list[str] = [
        chr(value[0] if isinstance(value, tuple) else value) for kind, value in members if str(kind) != "CATEGORY"
    ]
    fitting = (c for c in (*named, *_CANDIDATES) if any(_holds(member, c) for member in members) is not negated)
    return str(next(fitting))


def _holds(member: Any, character: str) -> bool:
    operation, argument = member
    match str(operation):
        case "LITERAL":
            return bool(ord(character) == argument)
        case "RANGE":
            return bool(argument[0] <= ord(character) <= argument[1])
        case _:
            return re.match(_CLASSES[str(argument)], character) is not None
