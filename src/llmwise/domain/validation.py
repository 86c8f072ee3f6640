"""What msgspec says of a value that does not fit, told in the caller's terms: the path, the value, the nearest name."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from msgspec import Struct

MAX_SHOWN = 80


class Misfit(Struct, frozen=True):
    """`what` is wrong at `keys` (names and indexes from the root). `unknown` is the name of a field that is not known,
    `missing` of one that is required."""

    what: str
    keys: tuple[str | int, ...]
    in_map: bool = False
    unknown: str | None = None
    missing: str | None = None

    @property
    def path(self) -> str:
        """`messages[0].role`: the way to the field in question."""
        last = self.unknown or self.missing
        return path_of((*self.keys, last) if last else self.keys)


def misfit(message: str) -> Misfit:
    """Take apart the text of a `msgspec.ValidationError`.

    >>> misfit("Expected `int`, got `str` - at `$.messages[0].role`").path
    'messages[0].role'
    """
    what, _, where = message.partition(" - at `")
    where = where.rstrip("`").removeprefix("key in ").removeprefix("$")
    keys = tuple(int(i) if i else n for n, i in re.findall(r"\.?([\w\-]+)|\[(\d+)\]", where.split("[...]")[0]))
    unknown = re.match(r"Object contains unknown field `([^`]*)`", what)
    missing = re.match(r"Object missing required field `([^`]*)`", what)
    if unknown:
        what = "unknown field"
    elif missing:
        what = "is required"
    return Misfit(
        what[0].lower() + what[1:],
        keys,
        "[...]" in where,
        unknown.group(1) if unknown else None,
        missing.group(1) if missing else None,
    )


def value_at(tree: Any, keys: Iterable[str | int]) -> Any:
    """The value at a path of names and indexes, or `None`."""
    for key in keys:
        try:
            tree = tree[key]
        except (KeyError, IndexError, TypeError):
            return None
    return tree


def fields_at(root: Any, keys: Iterable[str | int]) -> list[str]:
    """The names of the fields that the type `root` has at a path; none where no struct stands there."""
    names = (name for type_ in types_at(root, keys) for name in getattr(type_, "__struct_fields__", ()))
    return list(dict.fromkeys(names))


def words_at(root: Any, keys: Iterable[str | int]) -> list[str]:
    """The words that a `Literal` allows at a path; none where anything else stands there."""
    return [word for type_ in types_at(root, keys) for word in get_args(type_) if isinstance(word, str)]


def types_at(root: Any, keys: Iterable[str | int]) -> list[Any]:
    """The types that a value may have at a path below the type `root`: more than one in a union."""
    types = list(_members(root))
    for key in keys:
        types = [member for type_ in types for member in _members(_inside(type_, key))]
    return types


def _inside(type_: Any, key: str | int) -> Any:
    arguments = get_args(type_)
    match get_origin(type_):
        case origin if origin is dict:
            return arguments[1]
        case origin if origin in (list, tuple):
            return arguments[0]
        case _:
            known = get_type_hints(type_) if hasattr(type_, "__struct_fields__") else {}
            return known.get(str(key))


def _members(type_: Any) -> Iterator[Any]:
    """The types of a union; anything else is its own only member."""
    if get_origin(type_) is Annotated:
        yield from _members(get_args(type_)[0])
    elif get_origin(type_) in (Union, UnionType):
        for member in get_args(type_):
            yield from _members(member)
    else:
        yield type_


def path_of(keys: Iterable[str | int]) -> str:
    path = ""
    for key in keys:
        path += f"[{key}]" if isinstance(key, int) else f".{key}" if path else key
    return path


def shown(value: object) -> str:
    """A value as it goes into a message: short, and on one line."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'port'?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def field_of(value: object, name: str) -> object:
    """A field of a mapping that may not be one."""
    return value.get(name) if isinstance(value, Mapping) else None
