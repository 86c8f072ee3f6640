"""What a request says, read from what reached the provider. Like `said` it knows the formats from their documents only.

Tool results are looked for by their text: ids may be another's on the way, their order may not.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct
from msgspec.json import encode


class Sent(Struct, frozen=True):
    """`text` is everything that the model would read, in order, calls and results among it. `None`: not said."""

    text: str
    tools: dict[str, Any]
    must_call: bool
    images: int
    schema: Any
    temperature: float | None
    max_tokens: int | None
    stop: tuple[str, ...]


def read(family: str, body: dict[str, Any]) -> Sent:
    """A request in the wire format of `family`. Raises `KeyError` and its like for one that has not its shape."""
    match family:
        case "anthropic":
            return _anthropic(body)
        case "gemini":
            return _gemini(body)
        case "responses":
            return _responses(body)
        case _:
            return _chat(body)


def _chat(body: dict[str, Any]) -> Sent:
    form = body.get("response_format") or {}
    stop = body.get("stop") or ()
    return Sent(
        text="\n".join(_strings(body["messages"])),
        tools={t["function"]["name"]: t["function"].get("parameters") for t in body.get("tools") or ()},
        must_call=body.get("tool_choice") == "required" or isinstance(body.get("tool_choice"), dict),
        images=_count(body["messages"], "image_url"),
        schema=(form.get("json_schema") or {}).get("schema"),
        temperature=body.get("temperature"),
        max_tokens=body.get("max_tokens") or body.get("max_completion_tokens"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )


def _responses(body: dict[str, Any]) -> Sent:
    form = (body.get("text") or {}).get("format") or {}
    return Sent(
        text="\n".join(_strings([body.get("instructions"), body["input"]])),
        tools={t["name"]: t.get("parameters") for t in body.get("tools") or () if t["type"] == "function"},
        must_call=body.get("tool_choice") == "required" or isinstance(body.get("tool_choice"), dict),
        images=_count(body["input"], "input_image"),
        schema=form.get("schema"),
        temperature=body.get("temperature"),
        max_tokens=body.get("max_output_tokens"),
        stop=(),
    )


def _anthropic(body: dict[str, Any]) -> Sent:
    form = (body.get("output_config") or {}).get("format") or body.get("output_format") or {}
    choice = (body.get("tool_choice") or {}).get("type")
    return Sent(
        text="\n".join(_strings([body.get("system"), body["messages"]])),
        tools={t["name"]: t.get("input_schema") for t in body.get("tools") or () if "input_schema" in t},
        must_call=choice in ("any", "tool"),
        images=_count(body["messages"], "image"),
        schema=form.get("schema"),
        temperature=body.get("temperature"),
        max_tokens=body["max_tokens"],
        stop=tuple(body.get("stop_sequences") or ()),
    )


def _gemini(given: dict[str, Any]) -> Sent:
    """Gemini takes its fields in snake case too."""
    body = _camel(given)
    config = body.get("generationConfig") or {}
    calling = ((body.get("toolConfig") or {}).get("functionCallingConfig") or {}).get("mode")
    functions = [f for tool in body.get("tools") or () for f in tool.get("functionDeclarations") or ()]
    return Sent(
        text="\n".join(_strings([body.get("systemInstruction"), body["contents"]])),
        tools={f["name"]: f.get("parametersJsonSchema") or f.get("parameters") for f in functions},
        must_call=calling == "ANY",
        images=sum("inlineData" in part for content in body["contents"] for part in content["parts"]),
        schema=config.get("responseJsonSchema") or config.get("responseSchema"),
        temperature=config.get("temperature"),
        max_tokens=config.get("maxOutputTokens"),
        stop=tuple(config.get("stopSequences") or ()),
    )


def _camel(value: Any) -> Any:
    if isinstance(value, list):
        return [_camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    schemas = ("parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema", "args", "response")
    named = {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): each for name, each in value.items()}
    return {name: each if name in schemas else _camel(each) for name, each in named.items()}


def _strings(value: Any) -> Iterator[str]:
    """Every string in it, in order; an object that a model reads as JSON (a call's arguments) also as such."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if name in ("input", "args", "response") and isinstance(each, dict):
                yield encode(each).decode()
            yield from _strings(each)
    elif isinstance(value, Sequence):
        for each in value:
            yield from _strings(each)


def _count(value: Any, kind: str) -> int:
    if isinstance(value, dict):
        return (value.get("type") == kind) + sum(_count(each, kind) for each in value.values())
    return sum(_count(each, kind) for each in value) if isinstance(value, list) else 0
