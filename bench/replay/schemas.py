"""What the providers' own documents accept: OpenAI's OpenAPI description, the official Anthropic SDK's types, and
`google-genai`'s."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import jsonschema_rs
from typing_extensions import is_typeddict

from llmwise.conformance.said import frames


class OpenAI:
    """Bodies against the components of OpenAI's description. Members that it doesn't know are faults in a request, and
    not in an answer: there they are ours."""

    def __init__(self, specification: Any) -> None:
        self._components = _nullable(specification["components"])
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    def _validator(self, name: str) -> jsonschema_rs.Draft202012Validator:
        if name not in self._validators:
            schema = {"$ref": f"#/components/schemas/{name}", "components": self._components}
            self._validators[name] = jsonschema_rs.Draft202012Validator(schema)
        return self._validators[name]

    def request(self, name: str, body: Any) -> list[str]:
        """The faults of a request to OpenAI: `CreateChatCompletionRequest` or `CreateResponse`."""
        known = _properties(self._components["schemas"][name], self._components["schemas"])
        unknown = [f"{name}: {field}: is not in the description" for field in body if field not in known]
        nulls = [f"{name}: {field}: is null" for field, value in body.items() if value is None]
        return [*unknown, *nulls, *self.faults(name, body)]

    def faults(self, name: str, value: Any) -> Iterator[str]:
        for error in self._validator(name).iter_errors(value):
            for exact in _exact(error):
                path = ".".join(str(step) for step in exact.instance_path)
                yield f"{name}: {path or 'the body'}: {exact.message[:160]}"

    def answer(self, dialect: str, body: str, *, stream: bool) -> list[str]:
        """The faults of one of our answers, if it is in a dialect of OpenAI's."""
        match dialect, stream:
            case "chat", False:
                return list(self.faults("CreateChatCompletionResponse", json.loads(body)))
            case "chat", True:
                name = "CreateChatCompletionStreamResponse"
            case "responses", False:
                return list(self.faults("Response", json.loads(body)))
            case "responses", True:
                name = "ResponseStreamEvent"
            case _:
                return []
        found: dict[str, None] = {}
        for _, data in frames(body):
            if data != "[DONE]":
                found |= dict.fromkeys(self.faults(name, json.loads(data)))
        return list(found)


def _exact(error: Any) -> list[Any]:
    """Of an error that no arm of a union fits, the errors of the arm that comes nearest: the one whose `type` or `role`
    agrees, then the one that has the fewest."""
    arms = getattr(error.kind, "context", None)
    if not arms:
        return [error]

    def far(arm: list[Any]) -> tuple[int, int]:
        tagged = [e for e in arm if e.instance_path[-1:] in (["type"], ["role"]) or e.kind.name == "type"]
        return len([e for e in tagged if len(e.instance_path) <= len(error.instance_path) + 1]), len(arm)

    return [exact for each in min(arms, key=far) for exact in _exact(each)]


def _properties(schema: Any, schemas: Any) -> set[str]:
    """The names of a schema's members, those of its parts too."""
    if "$ref" in schema:
        return _properties(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    parts = [*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return set(schema.get("properties", ())).union(*(_properties(part, schemas) for part in parts))


def _nullable(schema: Any) -> Any:
    """`nullable: true` of OpenAPI 3.0 as the 3.1 that the rest is in."""
    if isinstance(schema, list):
        return [_nullable(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _nullable(value) for name, value in schema.items() if name != "nullable"}
    return {"anyOf": [inner, {"type": "null"}]} if schema.get("nullable") is True else inner


class Anthropic:
    """Bodies of the Messages API against the request types of the official SDK, beta ones and all. They are typed
    dictionaries, which pydantic checks only as far as it has to; here every value is looked at, and a member that the
    types don't have is a fault. Sampling parameters left the types with the models that refuse them (SDK 2.x); older
    models still take them."""

    SAMPLING = frozenset(("temperature", "top_p", "top_k"))

    def __init__(self) -> None:
        from anthropic.types.beta import message_create_params as params

        self._types = (params.MessageCreateParamsNonStreaming, params.MessageCreateParamsStreaming)

    def faults(self, body: Any) -> list[str]:
        rest = {name: value for name, value in body.items() if name not in self.SAMPLING}
        return list(misfits(rest, self._types[bool(body.get("stream"))], "body"))


def misfits(value: Any, kind: Any, where: str) -> Iterator[str]:
    """Where `value`, decoded JSON, is not of the type `kind`. Of a union's arms the nearest is told of."""
    origin = get_origin(kind)
    if origin in (Required, NotRequired, Annotated):
        yield from misfits(value, get_args(kind)[0], where)
    elif origin in (Union, UnionType):
        yield from _nearest(value, get_args(kind), where)
    elif origin is Literal:
        if value not in get_args(kind):
            yield f"{where}: {value!r} is none of {', '.join(map(repr, get_args(kind)))}"
    elif is_typeddict(kind):
        yield from _members(value, kind, where)
    elif origin in (list, Sequence, Iterable):
        if not isinstance(value, list):
            yield f"{where}: is no list but {str(value)[:60]!r}"
        else:
            for index, item in enumerate(value):
                yield from misfits(item, get_args(kind)[0], f"{where}[{index}]")
    elif origin in (dict, Mapping):
        if not isinstance(value, dict):
            yield f"{where}: is no object but {str(value)[:60]!r}"
        else:
            for name, item in value.items():
                yield from misfits(item, get_args(kind)[1], f"{where}.{name}")
    elif kind is NoneType or kind is None:
        if value is not None:
            yield f"{where}: is not null"
    elif kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield f"{where}: is no number but {value!r}"
    elif kind in (str, int, bool) and type(value) is not kind:
        yield f"{where}: is no {kind.__name__} but {str(value)[:60]!r}"


def _nearest(value: Any, kinds: Sequence[Any], where: str) -> Iterator[str]:
    """Arms that agree with a `type` or `role` come before the others, then the one with the fewest faults."""
    sent = [kind for kind in kinds if not hasattr(kind, "model_fields")]  # those are blocks of answers
    found = [list(misfits(value, kind, where)) for kind in sent]
    if not sent:
        yield f"{where}.type: is only in answers"
        return
    if not all(found):
        return
    tags = [f"{where}.{name}: " for name in ("type", "role")]
    yield from min(found, key=lambda faults: (any(f.startswith(tuple(tags)) for f in faults), len(faults)))


def _members(value: Any, kind: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: is no object but {str(value)[:60]!r}"
        return
    hints = _hints(kind)
    for name, hint in hints.items():
        required = get_origin(hint) is Required or (kind.__total__ and get_origin(hint) is not NotRequired)
        if required and name not in value:
            yield f"{where}.{name}: is missing"
    for name, member in value.items():
        if name not in hints:
            yield f"{where}.{name}: is not in {kind.__name__}"
        else:
            yield from misfits(member, hints[name], f"{where}.{name}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


class Gemini:
    """Bodies of generateContent against the types of `google-genai`, which forbid members that they don't have."""

    def __init__(self) -> None:
        from google.genai import types
        from pydantic import ConfigDict, create_model
        from pydantic.alias_generators import to_camel

        self._model = create_model(
            "GenerateContentRequest",
            __config__=ConfigDict(extra="forbid", alias_generator=to_camel, arbitrary_types_allowed=True),
            contents=(list[types.Content], ...),
            system_instruction=(types.Content | None, None),
            tools=(list[types.Tool] | None, None),
            tool_config=(types.ToolConfig | None, None),
            generation_config=(types.GenerationConfig | None, None),
            safety_settings=(list[types.SafetySetting] | None, None),
            cached_content=(str | None, None),
            labels=(dict[str, str] | None, None),
        )

    def faults(self, body: Any) -> list[str]:
        """What the types refuse, and what they don't say: turns are of `user` and `model`, and function responses
        answer the calls of the turn before, as many as those."""
        from pydantic import ValidationError

        try:
            self._model.model_validate_json(json.dumps(body))
        except ValidationError as error:
            return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5]]
        found = []
        before: dict[str, Any] = {}
        for index, turn in enumerate(body["contents"]):
            if turn.get("role") not in ("user", "model"):
                found.append(f"contents[{index}].role: {turn.get('role')!r}")
            if turn.get("role") == before.get("role"):
                found.append(f"contents[{index}]: two turns of one role")
            if not turn.get("parts"):
                found.append(f"contents[{index}].parts: is empty")
            calls = [part["functionCall"] for part in before.get("parts", ()) if "functionCall" in part]
            answers = [p["functionResponse"] for p in turn["parts"] if "functionResponse" in p]
            if [call["name"] for call in calls] != [answer["name"] for answer in answers]:
                found.append(f"contents[{index}]: the function responses are not those of the calls before")
            before = turn
        return found
