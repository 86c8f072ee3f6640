"""A JSON Schema to one instance of it: the same each time, small, and plainly made up.

Covers what tool parameters and response formats are written in: types (also Gemini's, in capitals), `enum`, `const`,
nested objects and arrays, `anyOf`, `oneOf`, `allOf`, local `$ref`, and the bounds of numbers, strings and arrays. Best
effort beyond that: `not`, `if` and `contains` are not looked at, and a schema without an instance gets a wrong one.
https://json-schema.org/draft/2020-12 (read 2026-11-22).
"""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from llmwise.providers.scripted.patterns import matching

Schema: TypeAlias = Mapping[str, Any] | bool

MAX_DEPTH = 6
"""Below it only what is required is filled in, so that a recursive schema comes to an end."""

_ABSOLUTE_DEPTH = 40
_WORD = "scripted"

_FORMATS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "P1D",
    "email": "scripted@example.com",
    "idn-email": "scripted@example.com",
    "hostname": "scripted.example.com",
    "idn-hostname": "scripted.example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/scripted",
    "iri": "https://example.com/scripted",
    "uri-reference": "/scripted",
    "iri-reference": "/scripted",
    "uuid": "00000000-0000-4000-8000-000000000001",
    "json-pointer": "/scripted",
    "regex": "scripted",
}


def instance(schema: Schema) -> Any:
    """A value that `schema` admits."""
    return _Maker(schema).make(schema, 0, 0)


class _Maker:
    """`salt` tells apart the items of an array whose items must differ."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def make(self, schema: Schema, depth: int, salt: int) -> Any:
        if isinstance(schema, bool) or depth > _ABSOLUTE_DEPTH:
            return _WORD
        schema = self._resolved(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][salt % len(schema["enum"])]
        match _type_of(schema, salt):
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer":
                return _number(schema, True, salt)
            case "number":
                return _number(schema, False, salt)
            case "boolean":
                return salt % 2 == 0
            case "null":
                return None
            case _:
                return _string(schema, salt)

    def _resolved(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """References followed, `allOf` merged, and one branch of `anyOf` and `oneOf` taken: the first, or near the
        bottom the one that leads nowhere deeper."""
        for _ in range(_ABSOLUTE_DEPTH):
            if "$ref" in schema:
                target = self._target(str(schema["$ref"]))
            elif branches := schema.get("anyOf") or schema.get("oneOf"):
                target = branches[0] if depth < MAX_DEPTH else min(branches, key=_height)
            elif schema.get("allOf"):
                target = {}
                for part in schema["allOf"]:
                    target = _merged(target, self._resolved(part, depth) if isinstance(part, Mapping) else {})
            else:
                break
            own = {k: v for k, v in schema.items() if k not in {"$ref", "anyOf", "oneOf", "allOf"}}
            schema = _merged(target if isinstance(target, Mapping) else {}, own)
        return schema

    def _target(self, reference: str) -> Schema:
        found: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step, {}) if isinstance(found, Mapping) else {}
        return found if isinstance(found, (Mapping, bool)) else {}

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties: Mapping[str, Schema] = schema.get("properties") or {}
        required = [str(name) for name in schema.get("required") or ()]
        names = list(dict.fromkeys([*properties, *required])) if depth < MAX_DEPTH else required
        if (most := schema.get("maxProperties")) is not None and len(names) > most:
            names = (required + [name for name in names if name not in required])[: max(int(most), len(required))]
        more = schema.get("additionalProperties")
        rest: Schema = more if isinstance(more, Mapping) else True
        made = {name: self.make(properties.get(name, rest), depth + 1, 0) for name in names}
        while len(made) < schema.get("minProperties", 0):
            made[f"{_WORD}_{len(made) + 1}"] = self.make(rest, depth + 1, 0)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first: list[Schema] = list(schema.get("prefixItems") or ())
        items: Schema = schema.get("items", True)
        count = max(schema.get("minItems", 0), len(first) or int(depth < MAX_DEPTH))
        if items is False:
            count = len(first)
        count = min(count, schema.get("maxItems", count))
        unique = bool(schema.get("uniqueItems"))
        return [
            self.make(first[i] if i < len(first) else items, depth + 1, i if unique else 0) for i in range(int(count))
        ]


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**base, **over}
    if "properties" in base and "properties" in over:
        merged["properties"] = {**base["properties"], **over["properties"]}
    if "required" in base and "required" in over:
        merged["required"] = [*base["required"], *over["required"]]
    return merged


def _height(schema: Schema) -> int:
    """How far a branch may go on: 0 for a plain value, 1 for a container, 2 for a reference."""
    if isinstance(schema, bool):
        return 0
    return 2 if "$ref" in schema else 1 if _type_of(schema, 0) in {"object", "array"} else 0


def _type_of(schema: Mapping[str, Any], salt: int) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        real = [one for one in kind if str(one).lower() != "null"]
        kind = real[salt % len(real)] if real else "null"
    if isinstance(kind, str):
        return kind.lower()
    for implied, words in (
        ("object", ("properties", "required", "additionalProperties", "minProperties")),
        ("array", ("items", "prefixItems", "minItems")),
        ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    ):
        if any(word in schema for word in words):
            return implied
    return "string"


def _number(schema: Mapping[str, Any], whole: bool, salt: int) -> int | float:
    """The bound or multiple nearest above 1, plus `salt` steps."""
    step = schema.get("multipleOf") or (1 if whole else None)
    low, low_open = _bound(schema, "minimum", "exclusiveMinimum")
    high, high_open = _bound(schema, "maximum", "exclusiveMaximum")
    if step is None:
        if low is None and high is None:
            return 1.5 + salt
        if low is not None and high is not None:
            return low if low == high else low + (high - low) * (salt + 1) / (salt + 2)
        return low + 1.0 + salt if low is not None else (high or 0) - 1.0 - salt
    if low is not None:
        index = math.ceil(low / step)
        index += low_open and index * step == low
    elif high is not None:
        index = min(math.floor(high / step), 1)
        index -= high_open and index * step == high
        return index * step - salt * step
    else:
        index = 1
    if low is not None and low < step and not (high is not None and high < step) and index < 1:
        index = 1
    value = (index + salt) * step
    return int(value) if whole else value


def _bound(schema: Mapping[str, Any], plain: str, exclusive: str) -> tuple[float | None, bool]:
    """The bound and whether it is open. In draft 4 the exclusive one is a boolean beside the plain one."""
    closed, open_ = schema.get(plain), schema.get(exclusive)
    if isinstance(open_, bool):
        return closed, open_
    return (closed, False) if open_ is None else (open_, True)


def _string(schema: Mapping[str, Any], salt: int) -> str:
    if pattern := schema.get("pattern"):
        made = matching(str(pattern))
        if made is not None:
            return made
    text = _FORMATS.get(str(schema.get("format")), _WORD)
    if salt:
        text += f"-{salt + 1}"
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    if len(text) < least:
        text += "." * (least - len(text))
    return text if most is None else text[-int(most) :] if most else ""
