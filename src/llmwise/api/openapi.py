"""The OpenAPI 3.1 document and a page to read it, both made from the route table and its structs."""

import html
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from llmwise.api.frame import Route
from llmwise.wire.native import ErrorAnswer

REF = "#/components/schemas/{name}"

ERRORS: dict[str, str] = {
    "400": "The request can't be understood, or no target can take it.",
    "401": "No valid key.",
    "402": "A budget is used up.",
    "403": "The key may not do this.",
    "404": "No such thing.",
    "408": "The body did not come in time.",
    "409": "Something stands in the way: see `error`.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "422": "A field is not valid.",
    "429": "Too many requests; see Retry-After.",
    "500": "A defect in the gateway.",
    "501": "A part that is not set up here.",
    "502": "The provider failed.",
    "503": "Nothing is left to try, or the gateway is not ready.",
    "504": "The provider, or the whole request, took too long.",
    "529": "The provider is overloaded.",
}
EVENTS = "Server-sent events: the `data` of each is a JSON object, of the last one `[DONE]`."
RESPONSE_EVENTS = (
    "Server-sent events, named: the `data` of each is a JSON object; the last one is `response.completed`, "
    "`response.incomplete` or `response.failed`."
)
UPLOADED = "application/octet-stream"
NAMED_EVENTS = "Server-sent events, named: the `data` of each is a JSON object; the last one is `message_stop`."
EXAMPLE = {
    "model": "auto",
    "messages": [{"role": "user", "content": "In one sentence: what is a circuit breaker?"}],
    "stream": False,
}


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The document, as JSON values."""
    types = [t for route in routes for t in (*route.answers, route.body) if t is not None and not isinstance(t, str)]
    schemas, components = msgspec.json.schema_components([*types, ErrorAnswer], ref_template=REF)
    by_type = dict(zip([id(t) for t in [*types, ErrorAnswer]], schemas, strict=True))
    error = by_type[id(ErrorAnswer)]
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(_template(route.path), {})[route.method.lower()] = _operation(route, by_type, error)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llmwise",
            "version": version("llmwise"),
            "description": "One endpoint in front of every model: routing, failover, accounting.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "mm_sk_<64 hex>"}},
        },
    }


def _template(path: str) -> str:
    """OpenAPI's parameters have no kinds: `{model:path}` is `{model}`."""
    return re.sub(r":\w+}", "}", path)


def _operation(route: Route, schemas: dict[int, Any], error: Any) -> dict[str, Any]:
    if isinstance(route.answer, str):
        content: dict[str, Any] = {route.answer: {"schema": {"type": "string"}}}
    else:
        shapes = [schemas[id(answer)] for answer in route.answers]
        content = {"application/json": {"schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes}}}
    if route.stream:
        content["text/event-stream"] = {"schema": {"description": _events(route)}}
    operation: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{_template(route.path)}").strip("_"),
        "summary": route.summary,
        "tags": [route.dialect],
        "security": [] if route.access == "open" else [{"key": []}],
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **{status: _error(text, route, error) for status, text in ERRORS.items()},
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", _template(route.path))
    ]
    if route.query is not None:
        fields = msgspec.json.schema(route.query)
        for name, schema in fields["$defs"][route.query.__name__]["properties"].items():
            # A query string has no null: a parameter is left out instead.
            some = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
            plain = {**some[0]} if some else {k: v for k, v in schema.items() if k != "default"}
            parameters.append({"name": name, "in": "query", "required": False, "schema": plain})
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        body: dict[str, Any] = {"schema": schemas[id(route.body)]}
        if route.stream:
            body["example"] = _example(route, route.body)
        operation["requestBody"] = {"required": not route.body_optional, "content": {"application/json": body}}
    if route.upload is not None:
        file = {"schema": {"type": "string", "format": "binary"}}
        operation["requestBody"] = {"description": route.upload, "required": True, "content": {UPLOADED: file}}
    return operation


def _events(route: Route) -> str:
    if route.dialect == "anthropic":
        return NAMED_EVENTS
    return RESPONSE_EVENTS if _takes_items(route.body) else EVENTS


def _takes_items(body: type[msgspec.Struct] | None) -> bool:
    return body is not None and "input" in body.__struct_fields__


def _example(route: Route, body: type[msgspec.Struct]) -> dict[str, Any]:
    if "models" in body.__struct_fields__:
        return {"models": ["gpt-5.2", "claude-sonnet-4.5"]} | {k: v for k, v in EXAMPLE.items() if k != "model"}
    if "contestants" in body.__struct_fields__:
        contest = {"contestants": ["gpt-5.2", "claude-sonnet-4.5"], "judge": "gemini-3-flash"}
        return contest | {k: v for k, v in EXAMPLE.items() if k != "model"}
    if _takes_items(body):
        return {"model": "auto", "input": EXAMPLE["messages"], "stream": False}
    return EXAMPLE | {"max_tokens": 500} if route.dialect == "anthropic" else EXAMPLE


def _error(text: str, route: Route, error: Any) -> dict[str, Any]:
    enveloped = {"type": "object", "properties": {"error": {"type": "object"}}}
    schema = enveloped if route.dialect in ("openai", "anthropic") else error
    return {"description": text, "content": {"application/json": {"schema": schema}}}


STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent) }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem }
code, pre { font: 0.9em ui-monospace, monospace }
pre { overflow-x: auto; padding: .75rem; border: 1px solid var(--line) }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .5rem .75rem }
summary { cursor: pointer; overflow-wrap: anywhere } .m { font-weight: 700; display: inline-block; min-width: 3.6rem }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto }
td, th { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top }
"""


def page(spec: dict[str, Any]) -> str:
    """The document as a page: no script, nothing fetched from elsewhere."""
    components = spec["components"]["schemas"]
    out = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>llmwise API</title><style>{STYLE}</style><h1>llmwise {html.escape(spec['info']['version'])}</h1>",
        f"<p>{html.escape(spec['info']['description'])} The machine-readable document is at "
        "<a href=/openapi.json>/openapi.json</a>. Send your key as <code>Authorization: Bearer mm_sk_...</code></p>",
    ]
    for tag in ("native", "openai", "anthropic", "operations"):
        out.append(f"<h2>{tag}</h2>")
        for path, methods in spec["paths"].items():
            for method, operation in methods.items():
                if operation["tags"] == [tag]:
                    out.append(_entry(path, method, operation, components))
    return "".join(out)


def _entry(path: str, method: str, operation: dict[str, Any], components: dict[str, Any]) -> str:
    parts = [
        f"<details><summary><span class=m>{method.upper()}</span> <code>{html.escape(path)}</code> "
        f"{html.escape(operation['summary'])}</summary>"
    ]
    for parameter in operation.get("parameters", ()):
        shape = html.escape(_type(parameter["schema"]))
        parts.append(f"<p><code>{parameter['name']}</code> ({parameter['in']}): {shape}</p>")
    if "requestBody" in operation:
        told = html.escape(operation["requestBody"].get("description", ""))
        (content,) = operation["requestBody"]["content"].values()
        parts.append("<h4>Body</h4>" + (f"<p>{told}</p>" if told else _fields(content["schema"], components)))
        if "example" in content:
            parts.append(
                f"<pre>{html.escape(msgspec.json.format(msgspec.json.encode(content['example'])).decode())}</pre>"
            )
    answer = operation["responses"]["200"]["content"].get("application/json")
    if answer is not None:
        parts.append("<h4>Answer</h4>" + _fields(answer["schema"], components))
    return "".join(parts) + "</details>"


def _fields(schema: dict[str, Any], components: dict[str, Any]) -> str:
    if schema.get("type") == "array":
        return "<p>An array of:</p>" + _fields(schema["items"], components)
    known = components.get(schema.get("$ref", "").rsplit("/", 1)[-1], schema)
    rows = "".join(
        f"<tr><td><code>{html.escape(name)}</code>{'*' if name in known.get('required', ()) else ''}"
        f"<td>{html.escape(_type(field))}"
        for name, field in known.get("properties", {}).items()
    )
    about = html.escape(known.get("description", ""))
    return f"<p>{about}</p><table><tr><th>field<th>type</tr>{rows}</table>"


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"array of {_type(schema.get('items', {}))}"
    bounds = [f"{sign} {schema[key]}" for key, sign in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([str(schema.get("type", "any")), *bounds])
