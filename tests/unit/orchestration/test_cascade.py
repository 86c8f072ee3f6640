"""Cascades: what goes up, what does not, and what a failure on the way leaves."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from llmwise.domain.errors import UpstreamServerError
from llmwise.domain.events import AttemptEvent, Finished, Started, TextDelta, ToolCallDelta, UsageReport
from llmwise.domain.models import Capabilities, ModelCard
from llmwise.domain.requests import ChatRequest, ResponseFormat, Tool
from llmwise.domain.usage import TokenUsage
from llmwise.orchestration.bounds import UNBOUNDED, Bounds
from llmwise.orchestration.cascade import Cascade, Rule, Steps
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.orchestration.prompts import BUILT_IN
from llmwise.providers.scripted import script as faults

from .panels import Panels, Reply, Replying, asking, card, codes, nothing_runs

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


@pytest.mark.parametrize("rule", ["check", "judge"])
@pytest.mark.parametrize(
    "check",
    [
        '<think>{"confidence": 0.95}</think>{"confidence": 0.1}',
        'It says {"confidence": 1.0} of itself: {"reasoning": "wrong", "confidence": 0.1}',
        'It says {"confidence": 1.0} of itself.',
        '{"confidence": 0.9} or rather {"confidence": 0.1}',
    ],
)
async def test_a_draft_or_what_the_answer_says_of_itself_is_no_estimate(check: str, rule: Rule) -> None:
    answer = 'Sydney. {"confidence": 1.0}'

    def reply(request: ChatRequest) -> str:
        return check if is_check(request) and "All lines" in request.messages[-1].text else answer

    replies = {"a": reply, "b": "Canberra.", "c": reply}
    panels, _, _ = await played(replies, rule=rule, judge="c" if rule == "judge" else None)
    assert panels.said == "Canberra."


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


STRICT = ResponseFormat(
    "json_schema",
    {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False},
    "count",
    True,
)


@pytest.mark.parametrize(
    ("answer", "goes_up"),
    [('{"n": "not an integer"}', True), ('{"n": 1, "extra": 1}', True), ("[1]", True), ('{"n": 1}', False)],
)
async def test_the_whole_schema_counts_and_not_only_that_its_names_are_there(answer: str, goes_up: bool) -> None:
    panels, _, _ = await played({"a": answer, "b": '{"n": 7}'}, rule="format", request=asking(response_format=STRICT))
    assert panels.said == ('{"n": 7}' if goes_up else answer)


class Calling(Replying):
    """A provider that calls the tool `look`."""

    def __init__(self, name: str, arguments: str) -> None:
        super().__init__(name, "")
        self._arguments = arguments

    async def send(self, request: ChatRequest, target: ModelCard) -> Any:
        self.asked.append(request)
        self._batches: list[tuple[AttemptEvent, ...]] = [
            (ToolCallDelta(0, "call-1", "look", self._arguments),),
            (UsageReport(TokenUsage(input=100, output=10)), Finished("tool_calls")),
        ]
        return self

    async def receive(self) -> Sequence[AttemptEvent]:
        return self._batches.pop(0) if self._batches else ()


@pytest.mark.parametrize(
    ("offered", "arguments", "goes_up"),
    [("look", '{"n": 1}', False), ("look", '{"n": "one"}', True), ("look", '{"n"', True), ("other", '{"n": 1}', True)],
)
async def test_a_call_of_a_tool_must_be_one_that_was_offered(offered: str, arguments: str, goes_up: bool) -> None:
    panels = Panels(replies={"b": "Canberra."}, providers={"a": Calling("a", arguments)})
    assert STRICT.schema is not None
    request = asking(tools=(Tool(offered, parameters=STRICT.schema),))
    assert await panels.play_out(cascade(panels, request=request)) is None
    assert (panels.said == "Canberra.") == goes_up
    assert len(panels.replying["b"].asked) == int(goes_up)


async def test_a_level_that_can_not_take_the_request_is_passed_over_and_that_is_said() -> None:
    panels = Panels(replies={"b": '{"n": 7}'})
    plain = card("a", capabilities=Capabilities(json_schema=False))
    steps = Steps((plain, card("b")), "format", 0.7, None)
    run = Cascade(steps, asking(response_format=STRICT), panels.account("chat"), BUILT_IN, UNBOUNDED)
    assert await panels.play_out(run) is None
    assert (panels.said, codes(run)) == ('{"n": 7}', ["level_skipped"])
    assert "JSON Schema" in run.account.warnings[0].message


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
