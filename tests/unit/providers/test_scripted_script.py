"""The script model: which request gets what, and what a wrong script is told."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwise.domain.usage import TokenUsage
from llmwise.providers.scripted import Script, ScriptError, load_script, parse_script
from llmwise.providers.scripted.parsing import FAULTS
from llmwise.providers.scripted.script import Cut, Normal, Playback, RateLimit, Settings, Status, Usage

TOML = """
[defaults]
tokens_per_second = 200

[models."gpt-*"]
latency_ms = 80
text = "Hello"

[[rule]]
model = "gpt-5.2"
nth = "1-3"
fault = "rate_limit"
retry_after = 2

[[rule]]
model = "gpt-5.2"
latency_ms = 5
"""


def faults(script: Script, model: str, count: int) -> list[str]:
    playback = Playback(script)
    return [playback.next(model).rule.fault for _ in range(count)]


def test_a_file_says_the_same_in_toml_and_in_json(tmp_path: Path) -> None:
    toml, json = tmp_path / "script.toml", tmp_path / "script.json"
    toml.write_text(TOML)
    script = load_script(toml)
    json.write_bytes(msgspec.json.encode(script))
    assert load_script(json) == script
    assert script.rules[0] == RateLimit(model="gpt-5.2", nth="1-3", retry_after=2)


def test_the_first_rule_that_fits_counts_and_no_rule_is_a_normal_answer() -> None:
    script = Script(rules=(Cut(model="a", nth=2), Status(model="a*"), RateLimit(model="b")))
    assert faults(script, "a", 3) == ["status", "cut", "status"]
    assert faults(script, "ab", 2) == ["status", "status"]
    assert faults(script, "c", 2) == ["none", "none"]


@pytest.mark.parametrize(
    ("nth", "struck"),
    [(2, {2}), ("2", {2}), ("2-3", {2, 3}), ("3-", {3, 4, 5, 6}), ("every 2", {2, 4, 6}), (None, {1, 2, 3, 4, 5, 6})],
)
def test_nth_chooses_requests_of_one_model_from_1(nth: int | str | None, struck: set[int]) -> None:
    names = faults(Script(rules=(Cut(nth=nth),)), "m", 6)
    assert {i for i, name in enumerate(names, 1) if name == "cut"} == struck


def test_models_are_counted_apart_and_anew_with_a_new_script() -> None:
    playback = Playback(Script(rules=(Cut(nth=2),)))
    assert [playback.next(model).nth for model in ("a", "b", "a")] == [1, 1, 2]
    playback.start(Script(rules=(Cut(nth=1),)))
    assert playback.next("a").rule.fault == "cut"


def test_settings_are_layered_rule_over_model_over_defaults() -> None:
    script = parse_script(
        {"defaults": {"latency_ms": 1, "tokens": 3}, "models": {"m*": {"latency_ms": 2, "text": "x"}}}
    )
    script = msgspec.structs.replace(script, rules=(Normal(nth=2, latency_ms=0),))
    assert script.cue("m", 1).settings == Settings(latency_ms=2, tokens=3, text="x")
    assert script.cue("m", 2).settings == Settings(latency_ms=0, tokens=3, text="x"), "zero is said, not unsaid"
    assert script.cue("other", 1).settings == Settings(latency_ms=1, tokens=3)


def test_reported_usage_replaces_only_what_it_names() -> None:
    counted = TokenUsage(input=10, output=5)
    assert Usage(cache_read=7, output=0).over(counted) == TokenUsage(input=10, cache_read=7, output=0)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_survives_the_way_through_json(fault: str) -> None:
    script = parse_script({"rule": [{"fault": fault}]})
    assert script.rules[0].fault == fault
    assert parse_script(msgspec.json.decode(msgspec.json.encode(script))) == script


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"rules": []}, "unknown name 'rules'; did you mean 'rule'?"),
        (
            {"rule": [{}, {"fault": "ratelimit"}]},
            "rule[1].fault: no such fault 'ratelimit'; did you mean 'rate_limit'?",
        ),
        ({"rule": [{"fault": "cut", "aftr": 1}]}, "rule[0]: unknown name 'aftr'; did you mean 'after'?"),
        ({"rule": [{"fault": "cut", "retry_after": 1}]}, "rule[0]: unknown name 'retry_after'"),
        ({"rule": [{"fault": "status", "status": 200}]}, "rule[0].status: expected `int` >= 400, got 200"),
        ({"rule": [{"nth": "2nd"}]}, "rule[0]: nth = '2nd': expected a count from 1"),
        ({"rule": [{"nth": "3-1"}]}, "rule[0]: nth = '3-1'"),
        ({"rule": [{"nth": 0}]}, "rule[0]: nth = 0"),
        ({"models": {"a": {}, "gpt-5.2": {"latencyms": 1}}}, "models[gpt-5.2]: unknown name 'latencyms'; did you mean"),
        ({"models": {"m.1": {"usage": {"input": -1}}}}, "models[m.1].usage.input: expected `int` >= 0, got -1"),
        ({"defaults": {"usage": {"inptu": 1}}}, "defaults.usage: unknown name 'inptu'; did you mean 'input'?"),
        ([], "a script is a table, got list"),
    ],
)
def test_a_wrong_script_is_told_where_which_value_and_the_nearest_name(document: Any, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script(document)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_absent_or_broken_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("rule = [")
    for path in (broken, tmp_path / "absent.toml"):
        with pytest.raises(ScriptError, match=path.name):
            load_script(path)


names = st.sampled_from(["rule", "models", "defaults", "fault", "nth", "usage", "text", "a.b"])
leaves = st.none() | st.booleans() | st.integers() | st.text(max_size=4)


@given(st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(names, inner)))
def test_any_document_is_a_script_or_one_clear_error(document: Any) -> None:
    try:
        script = parse_script(document)
    except ScriptError:
        return
    script.cue("m", 1)
