"""Fitting a caller's JSON Schema to the subset that a provider enforces.

The law: the result uses only keywords of the subset, every instance that the provider then produces was allowed by
what was kept, and each constraint that was not kept is named in the result and written into the description, where the
model still reads it. Annotations that constrain nothing go without a word.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct

Schema: TypeAlias = dict[str, Any]


class Subset(Struct, frozen=True):
    """What a provider takes.

    keywords        kept as they are (or with their subschemas fitted)
    renamed         keywords written otherwise, with the same meaning for instances that the model can produce
    formats         values of `format` that are kept
    closed          every object must say `additionalProperties: false`
    """

    keywords: frozenset[str]
    renamed: Mapping[str, str]
    formats: frozenset[str]
    closed: bool


class Fitted(Struct, frozen=True):
    """`lost` are the constraints that could not be kept, as `path/keyword`."""

    schema: Schema
    lost: tuple[str, ...]


_COMMON = frozenset(
    (
        *("type", "enum", "description", "title", "default", "anyOf", "items"),
        *("properties", "required", "additionalProperties", "$ref", "$defs"),
    )
)

ANTHROPIC = Subset(
    keywords=_COMMON | {"const", "allOf", "definitions"},
    renamed={"oneOf": "anyOf"},
    formats=frozenset(["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"]),
    closed=True,
)
"""What the official SDK `anthropic` 2.12.0 makes of a schema (`lib/_parse/_transform.py`, 2026-11-22), for the
limits in https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations."""

GEMINI = Subset(
    keywords=_COMMON | {"oneOf", "prefixItems", "minItems", "maxItems", "minimum", "maximum", "propertyOrdering"},
    renamed={"definitions": "$defs"},
    formats=frozenset(("date-time", "date", "time")),
    closed=False,
)
"""The `*JsonSchema` fields of generateContent, as google-genai 3.4.0 documents `response_json_schema` (2026-11-22):
other keywords may be sent and do nothing, and beside a `$ref` only keys that begin with `$` may stand. Recorded
requests with `$defs`, recursive `$ref`, `oneOf`, `default` and `additionalProperties` were accepted (2026-08)."""

_ANNOTATIONS = frozenset(
    (
        *("$schema", "$id", "$comment", "$anchor", "examples", "example"),
        *("deprecated", "readOnly", "writeOnly", "discriminator"),
    )
)
_MAPS = frozenset(("properties", "$defs", "definitions"))
_LISTS = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))


def fit(schema: Schema, subset: Subset) -> Fitted:
    """`schema` within `subset`. The caller's own value is not touched."""
    lost: list[str] = []
    return Fitted(_fit(schema, subset, "", lost), tuple(lost))


def _fit(node: Any, subset: Subset, path: str, lost: list[str]) -> Schema:
    if not isinstance(node, dict):
        if node is False:
            lost.append(f"{path}/false")
        return {}  # `true`: anything goes
    single = node.get("allOf")
    if "allOf" not in subset.keywords and isinstance(single, list) and len(single) == 1 and isinstance(single[0], dict):
        node = {**single[0], **{key: value for key, value in node.items() if key != "allOf"}}
    if "$ref" in node:
        return _reference(node, subset, path, lost)
    fitted: Schema = {}
    hints: list[str] = []
    for keyword, value in node.items():
        if keyword in _ANNOTATIONS:
            continue
        name = subset.renamed.get(keyword, keyword)
        if keyword == "const" and "const" not in subset.keywords:
            fitted["enum"] = [value]
            if "type" not in node and (inferred := _type_of(value)) is not None:
                fitted["type"] = inferred
        elif keyword == "additionalProperties":
            _additional(value, fitted, subset, path, lost)
        elif not _kept(name, value, subset):
            lost.append(f"{path}/{keyword}")
            hints.append(f"{keyword}: {value}")
        elif keyword in _MAPS and isinstance(value, dict):
            fitted[name] = {key: _fit(child, subset, f"{path}/{key}", lost) for key, child in value.items()}
        elif keyword in _LISTS and isinstance(value, list):
            fitted[name] = [_fit(child, subset, f"{path}/{keyword}/{i}", lost) for i, child in enumerate(value)]
        elif keyword == "items":
            fitted[name] = _fit(value, subset, f"{path}/items", lost)
        else:
            fitted[name] = value
    if subset.closed and (fitted.get("type") == "object" or "properties" in fitted):
        fitted["additionalProperties"] = False
    if hints:
        said = fitted.get("description")
        fitted["description"] = f"{said} ({'; '.join(hints)})" if said else "; ".join(hints)
    return fitted


def _reference(node: Schema, subset: Subset, path: str, lost: list[str]) -> Schema:
    """A `$ref` may only stand with definitions: constraints beside it are lost, its description is kept around it."""
    target = str(node["$ref"])
    if "definitions" in subset.renamed:
        target = target.replace("#/definitions/", "#/$defs/")
    fitted: Schema = {"$ref": target}
    for keyword, value in node.items():
        if keyword in ("$defs", "definitions") and isinstance(value, dict):
            fitted[subset.renamed.get(keyword, keyword)] = {
                key: _fit(child, subset, f"{path}/{key}", lost) for key, child in value.items()
            }
        elif keyword not in _ANNOTATIONS | {"$ref", "title", "description", "default"}:
            lost.append(f"{path}/{keyword}")
    if "description" in node and len(fitted) == 1:
        return {"anyOf": [fitted], "description": node["description"]}
    return fitted


def _additional(value: Any, fitted: Schema, subset: Subset, path: str, lost: list[str]) -> None:
    if not subset.closed:
        fitted["additionalProperties"] = value if isinstance(value, bool) else _fit(value, subset, f"{path}/*", lost)
    elif value is not False:
        lost.append(f"{path}/additionalProperties")


def _kept(keyword: str, value: Any, subset: Subset) -> bool:
    if keyword == "format":
        return value in subset.formats
    if keyword == "minItems" and subset.closed:
        return value in (0, 1)
    return keyword in subset.keywords


def _type_of(value: Any) -> str | None:
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int():
            return "integer"
        case float():
            return "number"
        case None:
            return "null"
    return None
