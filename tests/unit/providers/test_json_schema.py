"""Fitting JSON Schemas: what the subset lacks is named and described, and the caller's own value stays as it was."""

import copy
from typing import Any

import pytest

from llmwise.providers.json_schema import ANTHROPIC, GEMINI, Subset, fit


@pytest.mark.parametrize("subset", [ANTHROPIC, GEMINI])
def test_the_callers_schema_is_not_touched(subset: Subset) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"const": 1, "minLength": 3}}, "$schema": "x"}
    before = copy.deepcopy(schema)
    fit(schema, subset)
    assert schema == before


def test_anthropic_wants_objects_closed() -> None:
    fitted = fit({"type": "object", "properties": {"a": {"type": "object"}}, "additionalProperties": True}, ANTHROPIC)
    assert fitted.schema["additionalProperties"] is False
    assert fitted.schema["properties"]["a"]["additionalProperties"] is False
    assert fitted.lost == ("/additionalProperties",)


def test_what_is_lost_is_named_and_still_described() -> None:
    fitted = fit({"type": "array", "items": {"type": "string", "pattern": "a+"}, "minItems": 2}, ANTHROPIC)
    assert fitted.schema == {
        "type": "array",
        "items": {"type": "string", "description": "pattern: a+"},
        "description": "minItems: 2",
    }
    assert set(fitted.lost) == {"/items/pattern", "/minItems"}
    assert fit({"type": "integer", "description": "Age", "multipleOf": 2}, GEMINI).schema == {
        "type": "integer",
        "description": "Age (multipleOf: 2)",
    }


def test_one_of_is_any_of_where_there_is_no_other() -> None:
    schema = {"oneOf": [{"type": "string"}, {"type": "null"}]}
    assert fit(schema, ANTHROPIC).schema == {"anyOf": schema["oneOf"]}
    assert fit(schema, GEMINI).schema == schema


@pytest.mark.parametrize(
    ("value", "kind"), [("a", "string"), (True, "boolean"), (1, "integer"), (1.5, "number"), (None, "null")]
)
def test_a_constant_is_an_enum_of_one_for_gemini(value: Any, kind: str) -> None:
    assert fit({"const": value}, GEMINI).schema == {"enum": [value], "type": kind}


def test_a_single_all_of_is_merged_for_gemini() -> None:
    fitted = fit({"allOf": [{"type": "string"}], "description": "Name"}, GEMINI)
    assert fitted.schema == {"type": "string", "description": "Name"}
    assert fit({"allOf": [{"type": "string"}, {"minLength": 1}]}, GEMINI).lost == ("/allOf",)


def test_formats_are_kept_as_far_as_they_are_known() -> None:
    assert fit({"type": "string", "format": "date-time"}, GEMINI).lost == ()
    assert fit({"type": "string", "format": "uuid"}, GEMINI).lost == ("/format",)
    assert fit({"type": "string", "format": "uuid"}, ANTHROPIC).lost == ()


def test_properties_may_have_the_names_of_keywords() -> None:
    schema = {"type": "object", "properties": {"const": {"type": "string"}, "$schema": {"type": "string"}}}
    assert fit(schema, GEMINI).schema == schema


def test_boolean_schemas() -> None:
    fitted = fit({"type": "object", "properties": {"any": True, "never": False}}, GEMINI)
    assert fitted.schema["properties"] == {"any": {}, "never": {}}
    assert fitted.lost == ("/never/false",)


def test_constraints_beside_a_reference_are_lost_visibly() -> None:
    fitted = fit({"$ref": "#/$defs/A", "minimum": 1, "$defs": {"A": {"type": "integer"}}}, GEMINI)
    assert fitted.schema == {"$ref": "#/$defs/A", "$defs": {"A": {"type": "integer"}}}
    assert fitted.lost == ("/minimum",)
