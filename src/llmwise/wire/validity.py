"""Is a text what a JSON Schema or a pattern asks for? In bounded time, whoever wrote them, and without the network.

Patterns run on Rust's regex engine, whose time is linear in the text: it has no backreferences and no look-around, and
a pattern that needs them is refused when it is given, not when it hangs
(https://docs.rs/regex/latest/regex/#untrusted-input, read 2026-11-22).
"""

from functools import lru_cache
from typing import Any, NoReturn

import jsonschema_rs
import msgspec

_LINEAR = jsonschema_rs.RegexOptions(size_limit=1 << 20)


class Unusable(ValueError):
    """A schema or pattern that can't be used; the text says why."""


def is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def mismatch(text: str, schema: dict[str, Any]) -> str | None:
    """Why `text` is no JSON instance of `schema`; `None`: it is. Raises `Unusable`."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        return f"not JSON: {error}"
    try:
        _compiled(msgspec.json.encode(schema)).validate(value)
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(step) for step in error.instance_path)
        return f"{where or 'the value'}: {error.message}"
    return None


def matches(text: str, pattern: str) -> bool:
    """Whether `pattern` (ECMA 262 without look-around and backreferences) occurs in `text`. Raises `Unusable`."""
    return _compiled(msgspec.json.encode({"type": "string", "pattern": pattern})).is_valid(text)


def usable(schema: dict[str, Any]) -> None:
    """Raises `Unusable`."""
    _compiled(msgspec.json.encode(schema))


@lru_cache(maxsize=256)
def _compiled(schema: bytes) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(msgspec.json.decode(schema), pattern_options=_LINEAR, retriever=_refuse)
    except (ValueError, RecursionError) as error:
        raise Unusable(str(error).partition("\n")[0]) from error


def _refuse(uri: str) -> NoReturn:
    raise ValueError(f"{uri}: only references inside the schema are followed")
