"""Checks of suites that need no model, and their bounds."""

import time

import pytest

from llmwise.insights.suites import Check, look
from llmwise.wire.validity import Unusable, matches, mismatch

SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("check", "text", "why"),
    [
        (Check("contains", "Straße"), "in der STRASSE", None),
        (Check("contains", "x"), "y", "has no 'x'"),
        (Check("not_contains", "x"), "aXb", "has 'x'"),
        (Check("exact", "yes"), " yes\n", None),
        (Check("exact", "yes"), "yes.", "is not 'yes'"),
        (Check("regex", r"^\d+$"), "123", None),
        (Check("regex", r"^\d+$"), "12a", "does not match '^\\\\d+$'"),
        (Check("json_schema", schema=SCHEMA), '{"a": 1}', None),
        (Check("json_schema", schema=SCHEMA), '```json\n{"a": 1}\n```', None),
        (Check("json_schema", schema=SCHEMA), '{"a": "1"}', 'a: "1" is not of type "integer"'),
        (Check("json_schema", schema=SCHEMA), "{}", 'the value: "a" is a required property'),
    ],
)
def test_a_check_says_why_not(check: Check, text: str, why: str | None) -> None:
    found = look(check, text)
    assert (found.passed, found.detail) == (why is None, why)


def test_no_pattern_runs_away() -> None:
    """`(a+)+$` takes 2^n steps in an engine that backtracks."""
    began = time.perf_counter()
    assert not matches("a" * 50_000 + "b", "(a+)+$")
    assert not matches("a" * 50_000 + "b", "^(a|a)*$")
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("schema", [{"$ref": "http://127.0.0.1:9/x"}, {"$ref": "file:///etc/passwd"}, {"type": "x"}])
def test_a_schema_that_reaches_out_or_is_none_is_unusable(schema: dict[str, str]) -> None:
    with pytest.raises(Unusable):
        mismatch("{}", schema)
