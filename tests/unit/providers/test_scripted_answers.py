"""Answers without a model: labelled, the same each time, and valid where a schema asks for it."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from llmwise.domain.requests import ResponseFormat, Tool, ToolChoice
from llmwise.domain.usage import TokenUsage
from llmwise.providers.scripted.answers import Answer, Question, argument_pieces, compose, pieces
from llmwise.providers.scripted.instances import instance
from llmwise.providers.scripted.patterns import matching
from llmwise.providers.scripted.script import Cue, Normal, NoUsage, Rule, Settings, Usage

Schema = dict[str, Any]


def obj(required: str = "", **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": required.split()}


def arr(items: Schema, **bounds: Any) -> Schema:
    return {"type": "array", "items": items, **bounds}


INTEGER, STRING, NULL = {"type": "integer"}, {"type": "string"}, {"type": "null"}
POINT = obj("x", x={"type": "number"})
NODE = obj("v next", v=INTEGER, next={"anyOf": [{"$ref": "#/$defs/Node"}, NULL]})

SCHEMAS: dict[str, Schema] = {
    "types": obj("string", string=STRING, integer=INTEGER, number={"type": "number"}, boolean={"type": "boolean"}),
    "closed": obj("a", a=INTEGER, b=NULL) | {"additionalProperties": False},
    "enum and const": obj("unit", unit={"enum": ["c", "f"]}, kind={"const": {"a": 1}}),
    "nested": obj("a", a=obj("b", b=arr(INTEGER, minItems=2))),
    "required without a property": {"type": "object", "required": ["x"], "additionalProperties": INTEGER},
    "counts": obj("e", a=NULL, b=NULL, c=NULL, d=NULL, e=NULL) | {"minProperties": 2, "maxProperties": 3},
    "more than named": obj("a", a=INTEGER) | {"minProperties": 3},
    "unique": arr({"enum": [1, 2, 3]}, minItems=3, uniqueItems=True),
    "unique strings": arr(STRING, minItems=4, uniqueItems=True),
    "max items": arr(STRING, maxItems=0),
    "tuple": {"type": "array", "prefixItems": [STRING, INTEGER], "items": False},
    "any of": {"anyOf": [{"type": "integer", "minimum": 7}, NULL]},
    "one of": {"oneOf": [obj("t", t={"const": "a"}), obj("t", t={"const": "b"})]},
    "all of": {"allOf": [obj("a", a=INTEGER), obj("b", b=STRING)]},
    "reference": arr({"$ref": "#/$defs/Point"}, minItems=1) | {"$defs": {"Point": POINT}},
    "recursive": {"$ref": "#/$defs/Node", "$defs": {"Node": NODE}},
    "recursive list": obj("children", children=arr({"$ref": "#"})),
    "closed range": {"type": "integer", "minimum": 3, "maximum": 3},
    "open range": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "open integers": {"type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 6},
    "below zero": {"type": "integer", "maximum": -10},
    "just below": {"type": "number", "exclusiveMaximum": 0},
    "multiple": {"type": "integer", "minimum": 11, "multipleOf": 5},
    "zero to ten": {"type": "integer", "minimum": 0, "maximum": 10},
    "fraction": {"type": "number", "multipleOf": 0.25, "minimum": 0.3},
    "long": {"type": "string", "minLength": 20},
    "short": {"type": "string", "maxLength": 3},
    "nothing": {"type": "string", "maxLength": 0},
    "nullable": {"type": ["null", "string"]},
    "free": {},
    "pattern": {"type": "string", "pattern": r"^[A-Z]{3}-\d{4}$"},
    "alternatives": {"type": "string", "pattern": "^(red|green)(,(red|green))*$"},
    "negated": {"type": "string", "pattern": r"^[^a-z]+@\S+\.[a-z]{2,}$"},
    **{f: {"type": "string", "format": f} for f in ("date", "date-time", "email", "ipv4", "ipv6", "uuid", "uri")},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_an_instance_is_what_its_schema_admits(schema: Schema) -> None:
    made = instance(schema)
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(made)
    assert instance(schema) == made
    json.dumps(made)


def test_geminis_capital_types_are_read() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {"n": {"type": "INTEGER"}, "s": {"type": "ARRAY", "items": {"type": "STRING"}}},
    }
    assert instance(schema) == {"n": 1, "s": ["scripted"]}


small, positive = st.integers(-50, 50), st.integers(1, 9)
leaves: st.SearchStrategy[Schema] = st.one_of(
    st.sampled_from([{"type": "boolean"}, NULL, {"const": 3}, {"enum": ["a", None]}]),
    st.builds(lambda low, n: {"type": "integer", "minimum": low, "maximum": low + n - 1}, small, positive),
    st.builds(lambda low, n: {"type": "number", "minimum": low, "exclusiveMaximum": low + n}, small, positive),
    st.builds(lambda low, n: {"type": "string", "minLength": low, "maxLength": low + n}, positive, positive),
)
schemas: st.SearchStrategy[Schema] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda properties, count: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties)[:count],
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
            st.integers(0, 4),
        ),
        st.builds(lambda item, n: {"type": "array", "items": item, "minItems": n}, inner, st.integers(0, 3)),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=12,
)


@given(schemas)
def test_instances_of_generated_schemas_are_valid(schema: Schema) -> None:
    Draft202012Validator(schema).validate(instance(schema))


@given(st.from_regex(r"\A[a-c\\d\[\]()|*+?.^${}0-3,-]{0,12}\Z"))
def test_a_text_for_a_pattern_matches_it_or_there_is_none(pattern: str) -> None:
    text = matching(pattern)
    assert text is None or re.search(pattern, text)


def question(**fields: Any) -> Question:
    return msgspec.structs.replace(Question("m", False, "What is up?", 4), **fields)


def answer(asked: Question, settings: Settings | None = None, rule: Rule | None = None) -> Answer:
    return compose(asked, Cue(1, rule or Normal(), settings or Settings()))  # type: ignore[arg-type]  # any rule does


WEATHER = Tool("weather", None, obj("city", city=STRING, days=INTEGER))
CLOCK = Tool("clock")


def test_a_text_says_that_it_is_scripted_quotes_the_question_and_is_the_same_again() -> None:
    made = answer(question())
    assert made.text.startswith("Scripted answer")
    assert "What is up?" in made.text
    assert "no model" in made.text
    assert made == answer(question())
    assert made.usage == TokenUsage(input=4, output=len(pieces(made.text)))


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (None, []),
        (ToolChoice("auto"), []),
        (ToolChoice("none"), []),
        (ToolChoice("required"), ["weather"]),
        (ToolChoice("tool", "clock"), ["clock"]),
    ],
)
def test_a_tool_is_called_when_the_request_demands_it(choice: ToolChoice | None, names: list[str]) -> None:
    made = answer(question(tools=(WEATHER, CLOCK), tool_choice=choice))
    assert [call.name for call in made.calls] == names
    assert made.finish == ("tool_calls" if names else "stop")
    assert bool(made.text) != bool(names)
    for call in made.calls:
        assert isinstance(json.loads(call.arguments), dict)


def test_after_a_tools_result_comes_text() -> None:
    made = answer(question(tools=(WEATHER,), tool_choice=ToolChoice("required"), tool_result=True))
    assert not made.calls
    assert "tool's result" in made.text


def test_a_script_asks_for_parallel_calls() -> None:
    made = answer(question(tools=(WEATHER, CLOCK)), Settings(tool_calls=3))
    assert [call.name for call in made.calls] == ["weather", "clock", "weather"]
    assert len({call.id for call in made.calls}) == 3


def test_a_response_format_gets_an_instance() -> None:
    schema = SCHEMAS["nested"]
    made = answer(question(response_format=ResponseFormat("json_schema", schema)))
    Draft202012Validator(schema).validate(json.loads(made.text))
    assert json.loads(answer(question(response_format=ResponseFormat("json_object"))).text)["scripted"] is True


@pytest.mark.parametrize("tokens", [1, 5, 100])
def test_an_answer_has_the_tokens_that_the_script_wants(tokens: int) -> None:
    for text in (None, "One two three", ""):
        made = answer(question(), Settings(tokens=tokens, text=text))
        assert made.usage is not None
        assert made.usage.output == tokens == len(pieces(made.text))


def test_max_tokens_and_stop_sequences_are_kept() -> None:
    long = Settings(text="one two three four")
    shortened = answer(question(max_tokens=2), long)
    assert (shortened.text, shortened.finish) == ("one two", "length")
    stopped = answer(question(stop=("three",)), long)
    assert (stopped.text, stopped.finish, stopped.stop_sequence) == ("one two ", "stop", "three")


def test_usage_is_counted_replaced_or_withheld() -> None:
    assert answer(question(), Settings(reasoning="I think so", text="Yes")).usage == TokenUsage(
        4, output=4, reasoning=3
    )
    assert answer(question(), Settings(text="Yes", usage=Usage(input=9))).usage == TokenUsage(9, output=1)
    assert answer(question(), rule=NoUsage()).usage is None


@given(st.text())
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert "".join(argument_pieces(text)) == text
