"""Cascades: what goes up, what does not, and what a failure on the way leaves."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from llmwise.domain.errors import UpstreamServerError
from llmwise.domain.events import Started, TextDelta
from llmwise.domain.requests import ChatRequest, ResponseFormat
from llmwise.orchestration.bounds import UNBOUNDED, Bounds
from llmwise.orchestration.cascade import Cascade, Rule, Steps, confidence_of
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.orchestration.prompts import BUILT_IN
from llmwise.providers.scripted import script as faults

from .panels import Panels, Reply, asking, card, codes, nothing_runs

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(20)]

JSON = ResponseFormat("json_schema", {"type": "object", "required": ["city"]}, "city")


def is_check(request: ChatRequest) -> bool:
    return '"confidence"' in request.messages[-1].text


def unsure(answer: str, confidence: object) -> Reply:
    """A model that gives this answer, and is so sure of it."""
    return lambda request: f'{{"reasoning": "hm", "confidence": {confidence}}}' if is_check(request) else answer


def cascade(
    panels: Panels,
    models: str = "ab",
    *,
    rule: Rule = "check",
    judge: str | None = None,
    bounds: Bounds = UNBOUNDED,
    request: ChatRequest | None = None,
) -> Cascade:
    steps = Steps(tuple(card(name) for name in models), rule, 0.7, card(judge) if judge else None)
    return Cascade(steps, request or asking(), panels.account("chat"), BUILT_IN, bounds)


async def played(replies: Mapping[str, Any], *rules: Any, **options: Any) -> tuple[Panels, Cascade, Any]:
    panels = Panels(*rules, replies=replies)
    run = cascade(panels, **options)
    error = await panels.play_out(run)
    assert nothing_runs()
    return panels, run, error


async def test_a_sure_answer_stays_where_it_is_cheap() -> None:
    panels, _, _ = await played({"a": unsure("Canberra.", 0.9), "b": "Sydney?"})
    assert panels.said == "Canberra."
    assert not panels.replying["b"].asked
    assert (panels.record.model, panels.record.attempts, panels.record.answer) == ("a", 2, "Canberra.")


async def test_a_doubted_answer_goes_up() -> None:
    panels, _, _ = await played({"a": unsure("Sydney.", 0.5), "b": "Canberra."})
    assert panels.said == "Canberra."
    assert (panels.record.model, panels.record.attempts) == ("b", 3)
    assert "Sydney." not in str(panels.replying["b"].asked), "the next model is asked afresh"


@pytest.mark.parametrize("confidence", ["null", '"high"', "1.5", "true", "-0.1"])
async def test_an_estimate_that_can_not_be_read_counts_as_doubt(confidence: str) -> None:
    panels, _, _ = await played({"a": unsure("Sydney.", confidence), "b": "Canberra."})
    assert panels.said == "Canberra."
    assert confidence_of(f'{{"confidence": {confidence}}}') is None


async def test_another_model_may_be_the_judge() -> None:
    panels, _, _ = await played({"a": "Sydney.", "b": "Canberra.", "c": unsure("", 0.1)}, rule="judge", judge="c")
    assert panels.said == "Canberra."
    assert len(panels.replying["c"].asked) == 1
    assert "Sydney." in panels.replying["c"].asked[0].messages[-1].text


@pytest.mark.parametrize(
    ("answer", "goes_up"),
    [("", True), ("  \n", True), ("no JSON", True), ("{}", True), ('{"city": "Canberra"}', False)],
)
async def test_the_formal_rule_costs_no_call(answer: str, goes_up: bool) -> None:
    replies = {"a": answer, "b": '{"city": "from b"}'}
    panels, _, _ = await played(replies, rule="format", request=asking(response_format=JSON))
    assert ("from b" in panels.said) == goes_up
    assert len(panels.replying["a"].asked) == 1


async def test_an_answer_that_was_cut_short_goes_up() -> None:
    panels, _, _ = await played({"b": "Canberra."}, faults.Normal(model="a", finish="length"), rule="format")
    assert panels.said == "Canberra."


@pytest.mark.parametrize(
    "fault", [faults.Refuse(model="a"), faults.Stall(model="a", after=1), faults.Status(model="a", status=500)]
)
async def test_a_level_that_fails_goes_up(fault: Any) -> None:
    panels, run, error = await played({"b": "Canberra."}, fault, request=asking(stream=True))
    assert error is None
    assert panels.said == "Canberra.", "of the broken answer nothing was handed on"
    assert codes(run) == ["level_failed"]


async def test_a_level_that_hangs_has_its_own_time_and_so_has_its_check() -> None:
    for rules, warned in (
        ([faults.Hang(model="a")], ["level_failed"]),
        ([faults.Normal(model="a", nth=1), faults.Hang(model="a")], []),
    ):
        panels = Panels(*rules, replies={"b": "Canberra."}, timeouts=TimeoutSettings())
        run = cascade(panels, bounds=Bounds(source_timeout_s=0.2), request=asking(stream=True))
        begun = time.monotonic()
        assert await panels.play_out(run) is None
        assert time.monotonic() - begun < 5, "and not the 90 s of the engine"
        assert (panels.said, codes(run)) == ("Canberra.", warned)


async def test_if_the_last_one_fails_a_doubted_answer_is_better_than_none() -> None:
    panels, run, error = await played(
        {"a": unsure("Sydney, perhaps.", 0.3), "b": lambda request: UpstreamServerError("down")}
    )
    assert error is None
    assert (panels.said, codes(run)) == ("Sydney, perhaps.", ["level_failed"])


async def test_if_all_fail_it_is_said_of_each() -> None:
    panels, _, error = await played({}, faults.Status(status=500))
    assert error.code == "all_failed"
    assert set(error.details["failures"]) == {"a", "b"}
    assert panels.record.status == 502


async def test_the_last_model_streams() -> None:
    panels, _, _ = await played({"a": unsure("Sydney.", 0.1)}, request=asking(stream=True))
    deltas = [event for item in panels.items for event in item if isinstance(event, TextDelta | Started)]
    assert len(deltas) > 2


async def test_what_is_spent_does_not_go_up() -> None:
    panels, run, _ = await played(
        {"a": "Sydney.", "b": "{}"},
        rule="format",
        request=asking(response_format=JSON),
        bounds=Bounds(max_cost_nanousd=125_000),
    )
    assert (panels.said, codes(run)) == ("Sydney.", ["max_cost"])
