"""Text to `Script`, with errors that say where, which value, and which name was probably meant."""

import json
import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import msgspec

from llmwise.providers.scripted.script import AnyRule, Script, Settings, Usage

_RULES: dict[str, type[msgspec.Struct]] = {str(rule.__struct_config__.tag): rule for rule in get_args(AnyRule)}

FAULTS = tuple(_RULES)
"""The names that `fault` takes."""

_PLACE = re.compile(r" - at `\$?\.?(.*)`$")
_STEP = re.compile(r"([^.\[\]]+)(?![^\[]*\])|\[([^\]]*)\]")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`$")


class ScriptError(ValueError):
    """A script that can't be played. The message is one line, for people."""


def load_script(path: Path) -> Script:
    """The script in a TOML or (by its ending `.json`) JSON file. Raises `ScriptError`."""
    try:
        text = path.read_text("utf-8")
        document = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ScriptError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # also a TOMLDecodeError, a JSONDecodeError and a UnicodeDecodeError
        raise ScriptError(f"{path}: {error}") from error
    try:
        return parse_script(document)
    except ScriptError as error:
        raise ScriptError(f"{path}: {error}") from error


def parse_script(document: object) -> Script:
    """The script that decoded TOML or JSON describes. Raises `ScriptError`."""
    if not isinstance(document, dict):
        raise ScriptError(f"a script is a table, got {type(document).__name__}")
    document = _with_faults_named(document)
    try:
        return msgspec.convert(document, Script)
    except msgspec.ValidationError as error:
        raise ScriptError(_explained(str(error), document)) from error


def _with_faults_named(document: dict[str, Any]) -> dict[str, Any]:
    rules = document.get("rule")
    if not isinstance(rules, list):
        return document
    return document | {"rule": [{"fault": "none"} | rule if isinstance(rule, dict) else rule for rule in rules]}


def _explained(message: str, document: dict[str, Any]) -> str:
    """msgspec's message with the place in front, the value, and the nearest right name."""
    found = _PLACE.search(message)
    place = found[1] if found else ""
    if place.startswith("models[...]"):
        place = place.replace("[...]", f"[{_bad_model(document)}]", 1)
    message = message[: found.start()] if found else message
    before = f"{place}: " if place else ""
    if unknown := _UNKNOWN_FIELD.match(message):
        return f"{before}unknown name {unknown[1]!r}{_nearest(unknown[1], _names_at(place, document))}"
    value = _value_at(place, document)
    if place.endswith(".fault"):
        return f"{before}no such fault {value!r}{_nearest(str(value), FAULTS)}"
    if place and "nth = " not in message:
        return f"{before}{message[0].lower()}{message[1:]}, got {value!r}"
    return f"{before}{message}"


def _nearest(name: str, names: tuple[str, ...]) -> str:
    near = get_close_matches(name, names, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(names)}"


def _names_at(place: str, document: dict[str, Any]) -> tuple[str, ...]:
    if not place:
        return Script.__struct_encode_fields__
    if place.endswith("usage"):
        return Usage.__struct_fields__
    if place.startswith("rule["):
        rule = _value_at(place, document)
        return (*_RULES[rule["fault"]].__struct_fields__, "fault")
    return Settings.__struct_fields__


def _bad_model(document: dict[str, Any]) -> str:
    """msgspec does not say which key of a mapping held the bad value: the first one whose value it refuses."""
    for name, settings in document["models"].items():
        try:
            msgspec.convert(settings, Settings)
        except msgspec.ValidationError:
            return str(name)
    return "..."


def _value_at(place: str, document: dict[str, Any]) -> Any:
    """The value at a path such as `rule[0].usage.input` or `models[gpt-5.2].tokens`."""
    value: Any = document
    for name, key in _STEP.findall(place):
        try:
            value = value[name or (int(key) if isinstance(value, list) else key)]
        except (KeyError, IndexError, TypeError, ValueError):
            return value
    return value
