"""What must not be stored is replaced before it is: mail addresses, card numbers, keys, and patterns of one's own.

Redacting happens on the request's path, so that every pattern's work is bounded: a text of n characters takes at most
n times a constant. A pattern of one's own is therefore refused unless each of its repetitions has an upper bound and
the ways in which it can match from one place are few (`MOST_WAYS`); a possessive repetition (`{1,64}+`) has one.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import Any

from msgspec import Struct

Redact = Callable[[str], str]

MOST_WAYS = 1000
MOST_CHARACTERS = 4096
"""What one match of a pattern of one's own may be long."""

OWN = "regex:"


class PrivacySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[privacy]`: what is never stored.

    redact    replaced in what the history keeps: `email`, `credit_card` (that checks out), `api_key`, or
              `regex:PATTERN`, whose repetitions must have a bound
    """

    redact: list[str] = []


class PatternError(ValueError):
    """A pattern that can't be used. The message says why."""


def redactor(names: Iterable[str]) -> Redact | None:
    """One function for all patterns; `None` without any. Raises `PatternError`."""
    steps = [_step(name) for name in names]
    if not steps:
        return None

    def redact(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return redact


def _step(name: str) -> Redact:
    if name.startswith(OWN):
        pattern = _bounded(name.removeprefix(OWN))
        return lambda text: pattern.sub("[redacted]", text)
    if name not in _BUILT_IN:
        known = ", ".join(_BUILT_IN)
        raise PatternError(f"{name!r} is none of {known}, and does not begin with {OWN}")
    return _BUILT_IN[name]


_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}+@[A-Za-z0-9.-]{1,253}\.[A-Za-z]{2,24}\b")
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_KEY = re.compile(r"\b(?:(?:sk|pk|rk|mm_sk|gsk|hf|ghp|gho|github_pat|xox[abprs])[-_]|AKIA|AIza)[-\w]{12,512}+")
"""By the prefixes that vendors of models, GitHub, Slack, AWS and Google give their keys."""


def _cards(text: str) -> str:
    return _CARD.sub(lambda match: "[credit_card]" if _luhn(match[0]) else match[0], text)


def _luhn(number: str) -> bool:
    """ISO/IEC 7812-1: from the right every second digit doubled, its digits added."""
    digits = [int(char) for char in reversed(number) if char.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) if index % 2 else digit for index, digit in enumerate(digits)]
    return sum(doubled) % 10 == 0


_BUILT_IN: dict[str, Redact] = {
    "email": lambda text: _EMAIL.sub("[email]", text) if "@" in text else text,
    "credit_card": _cards,
    "api_key": lambda text: _KEY.sub("[api_key]", text),
}


def _bounded(source: str) -> "re.Pattern[str]":
    try:
        pattern = re.compile(source)
        tree = _parser.parse(source)
    except (re.error, RecursionError, OverflowError) as error:
        raise PatternError(f"{source!r} is no regular expression: {error}") from error
    if pattern.match(""):
        raise PatternError(f"{source!r} matches nothing at all, everywhere")
    ways = _ways(tree, source)
    if ways > MOST_WAYS:
        advice = "make repetitions possessive ({1,64}+) or shorter"
        raise PatternError(f"{source!r} can match in {ways} ways from one place, more than {MOST_WAYS}: {advice}")
    if tree.getwidth()[1] > MOST_CHARACTERS:
        raise PatternError(f"{source!r} may match more than {MOST_CHARACTERS} characters")
    return pattern


_parser: Any = import_module("re._parser")  # CPython's own; its names below
_ONE_WAY = {"LITERAL", "NOT_LITERAL", "ANY", "IN", "AT", "CATEGORY", "RANGE"}


def _ways(items: Iterable[tuple[Any, Any]], source: str) -> int:
    """In how many ways the items can match from one place, at most. Capped a little above `MOST_WAYS`."""
    ways = 1
    for code, value in items:
        ways = min(ways * _ways_of(str(code), value, source), MOST_WAYS + 1)
    return ways


def _ways_of(code: str, value: Any, source: str) -> int:
    if code in _ONE_WAY:
        return 1
    if code == "SUBPATTERN":
        return _ways(value[-1], source)
    if code == "ATOMIC_GROUP":
        return _once(_ways(value, source), source)
    if code == "BRANCH":
        alternatives: Sequence[Any] = value[1]
        return sum(_ways(each, source) for each in alternatives)
    if code in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, body = value
        if most == _parser.MAXREPEAT:
            raise PatternError(f"{source!r} repeats something without a bound: write {{1,64}} instead of + and *")
        if most > MOST_CHARACTERS:
            raise PatternError(f"{source!r} may match more than {MOST_CHARACTERS} characters")
        inner = _ways(body, source)
        if inner > 1 and most > 16:
            raise PatternError(f"{source!r} repeats something that repeats, more than 16 times")
        if code == "POSSESSIVE_REPEAT":
            return _once(inner ** int(most), source)
        return sum(inner**count for count in range(int(least), int(most) + 1))
    raise PatternError(f"{source!r} looks around or back ({code.lower()}), which takes unbounded time")


def _once(ways: int, source: str) -> int:
    """What is matched once and not gone back into; the one time is bounded too."""
    if ways > MOST_WAYS:
        raise PatternError(f"{source!r} can match in more than {MOST_WAYS} ways from one place")
    return 1
