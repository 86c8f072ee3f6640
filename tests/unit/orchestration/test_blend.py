"""Blends: who is asked what, what a failure leaves, what is spent, and that all of it is one account."""

import asyncio
from contextlib import aclosing
from functools import partial
from typing import Any

import pytest

from llmwise.domain.errors import GatewayError, InvalidRequest, UpstreamServerError
from llmwise.domain.messages import Message, Text
from llmwise.domain.requests import ChatRequest, ResponseFormat
from llmwise.orchestration.blend import Begun, Synthesizing
from llmwise.orchestration.bounds import Bounds
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.orchestration.estimates import check_affordable
from llmwise.orchestration.panel import Said, piped
from llmwise.orchestration.recipe import Strategy
from llmwise.providers.scripted import script as faults

from .engines import until
from .panels import QUESTION, Panels, Reply, asking, codes, nothing_runs

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(20)]

THREE = {"a": "Canberra.", "b": "Sydney.", "c": "I think Canberra."}


def down(request: ChatRequest) -> UpstreamServerError:
    return UpstreamServerError("down")


def told(request: ChatRequest) -> str:
    """What the last message says."""
    return request.messages[-1].text


async def test_the_best_rated_model_reads_all_answers_and_writes_the_one() -> None:
    panels = Panels(replies=THREE | {"b": lambda request: "Merged." if "begin answer" in told(request) else "Sydney."})
    blend = panels.blend(quality={"a": 0.4, "b": 0.9, "c": 0.5})
    assert await panels.play_out(blend) is None
    assert (panels.said, blend.writer, blend.source_models, blend.candidates) == ("Merged.", "b", ["a", "b", "c"], 3)
    asked = panels.replying["b"].asked[-1]
    assert all(text in told(asked) for text in THREE.values())
    assert [message.role for message in asked.messages] == ["system", "user", "user"]
    assert asked.messages[1].text == QUESTION
    assert panels.record.attempts == 4
    assert (panels.record.model, panels.record.answer, panels.record.mode) == ("b", "Merged.", "blend")
    assert panels.record.cost_nanousd == sum(a.cost_nanousd or 0 for a in panels.kept.settled[0][1])


@pytest.mark.parametrize(
    ("strategy", "words"),
    [("consensus", "contradict"), ("council", "council"), ("best_of", "Pick"), ("moa", "contradict")],
)
async def test_each_strategy_has_its_own_instruction(strategy: Strategy, words: str) -> None:
    panels = Panels(replies=THREE)
    blend = panels.blend(strategy, synthesizer="c")
    await panels.play_out(blend)
    assert words in panels.replying["c"].asked[-1].messages[0].text


async def test_in_a_chain_each_model_reads_the_draft_before_it_and_the_last_one_answers() -> None:
    def reply(request: ChatRequest) -> str:
        return f"{request.model} after {told(request).count('begin draft')}"

    panels = Panels(replies=dict.fromkeys("abc", reply))
    blend = panels.blend("chain")
    assert await panels.play_out(blend) is None
    assert panels.said == "c after 1"
    assert "a after 0" in told(panels.replying["b"].asked[0])
    assert "b after 1" in told(panels.replying["c"].asked[0])
    assert "a after 0" not in told(panels.replying["c"].asked[0])
    assert blend.source_models == ["a", "b", "c"]


async def test_a_link_that_fails_is_passed_over() -> None:
    panels = Panels(replies=THREE | {"b": down})
    blend = panels.blend("chain")
    assert await panels.play_out(blend) is None
    assert "Canberra." in told(panels.replying["c"].asked[0])
    assert [said.error is None for said in blend.sources] == [True, False, True]


@pytest.mark.parametrize(("layers", "calls"), [(1, 4), (2, 7), (3, 10)])
async def test_each_layer_of_moa_reads_the_layer_before(layers: int, calls: int) -> None:
    def reply(request: ChatRequest) -> str:
        text = told(request)
        depth = 1 + max((n for n in (1, 2, 3) if f"layer {n} of" in text), default=0)
        return f"layer {depth} of {request.model}" if "begin answer" in text else f"layer 1 of {request.model}"

    panels = Panels(replies=dict.fromkeys("abc", reply))
    blend = panels.blend("moa", layers=layers)
    assert await panels.play_out(blend) is None
    assert panels.said == f"layer {layers + 1} of a"
    assert panels.record.attempts == calls
    assert [said.layer for said in blend.sources] == [n for n in range(1, layers + 1) for _ in "abc"]


async def test_the_samples_of_one_model_differ_in_temperature_and_role() -> None:
    panels = Panels(replies={"a": lambda request: f"{request.sampling.temperature} {request.messages[0].text[:9]}"})
    blend = panels.blend("self_moa", "a", samples=4)
    assert await panels.play_out(blend) is None
    samples = panels.replying["a"].asked[:4]
    assert [request.sampling.temperature for request in samples] == [0.7, 0.8, 0.9, 1.0]
    assert len({request.messages[0].text for request in samples}) == 4
    assert samples[0].messages[0].text == QUESTION, "the first sample is the model as it is"
    assert (blend.candidates, panels.record.attempts) == (4, 5)


async def test_the_caller_s_system_message_and_form_hold_for_the_synthesis_alone() -> None:
    panels = Panels(replies=THREE)
    system = Message("system", (Text("Answer in Latin."),))
    request = asking(response_format=ResponseFormat("json_object"))
    request = ChatRequest("a", (system, *request.messages), response_format=request.response_format)
    await panels.play_out(panels.blend(request=request, synthesizer="c"))
    source, synthesis = panels.replying["c"].asked
    assert source.response_format is None
    assert synthesis.response_format == request.response_format
    assert synthesis.messages[0] == source.messages[0] == system


# --- what is left when something fails ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        faults.Refuse(model="a"),
        faults.Status(model="a", status=500),
        faults.Stall(model="a", after=1),
        faults.Hang(model="a"),
        faults.Cut(model="a", after=1),
        faults.Malformed(model="a", after=1),
    ],
    ids=lambda fault: fault.fault,
)
@pytest.mark.parametrize("strategy", ["consensus", "best_of", "moa", "chain"])
async def test_a_source_that_fails_leaves_the_others_their_blend(strategy: Strategy, fault: Any, stream: bool) -> None:
    panels = Panels(fault, replies={"b": "Canberra.", "c": "Still Canberra."})
    blend = panels.blend(strategy, request=asking(stream=stream), quality={"c": 0.9})
    assert await panels.play_out(blend) is None
    assert panels.said == "Still Canberra."
    failed = [said for said in blend.sources if said.error is not None]
    assert failed
    assert all(said.model == "a" for said in failed)
    assert panels.record.status == 200
    assert panels.nothing_is_open()
    assert nothing_runs()


@pytest.mark.parametrize("strategy", ["consensus", "council", "best_of", "moa", "chain"])
async def test_if_all_fail_the_error_tells_of_each_and_nothing_is_charged(strategy: Strategy) -> None:
    panels = Panels(replies=dict.fromkeys("abc", down))
    blend = panels.blend(strategy)
    error = await panels.play_out(blend)
    assert error is not None
    assert (error.code, error.status) == ("all_failed", 502)
    assert set(error.details["failures"]) == set("abc")
    assert (panels.record.status, panels.record.code, panels.record.cost_nanousd) == (502, "all_failed", 0)
    assert not any(isinstance(item, Synthesizing) for item in panels.items)


async def test_the_one_answer_that_is_left_is_given_as_it_is() -> None:
    panels = Panels(replies={"a": down, "b": "Canberra.", "c": down})
    blend = panels.blend(synthesizer="c")
    assert await panels.play_out(blend) is None
    assert (panels.said, blend.answering, codes(blend)) == ("Canberra.", "b", ["one_source"])
    assert panels.record.model == "b"
    assert len(panels.replying["c"].asked) == 1, "no synthesis of one answer"


async def test_fewer_answers_than_min_sources_are_an_error() -> None:
    panels = Panels(replies=THREE | {"a": down, "b": down})
    error = await panels.play_out(panels.blend(bounds=Bounds(min_sources=2)))
    assert error is not None
    assert error.code == "too_few_sources"
    assert "1 of 3 models answered, min_sources is 2" in error.message


async def test_a_source_has_its_own_time_and_the_blend_goes_on_without_it() -> None:
    panels = Panels(
        faults.Normal(model="a", tokens=1000, tokens_per_second=50),
        replies={"b": "Canberra.", "c": "Merged."},
        timeouts=TimeoutSettings(),
    )
    blend = panels.blend(request=asking(stream=True), synthesizer="c", bounds=Bounds(source_timeout_s=0.2))
    assert await panels.play_out(blend) is None
    assert panels.said == "Merged."
    (failed,) = [said for said in blend.sources if said.error is not None]
    assert failed.error is not None
    assert (failed.model, failed.error.code) == ("a", "source_timeout")
    (attempt,) = failed.ledger.attempts
    assert (attempt.outcome, attempt.usage_estimated) == ("cut", True)
    assert attempt.cost_nanousd
    assert panels.record.cost_nanousd == attempt.cost_nanousd + 3 * 120_000
    assert panels.nothing_is_open()


async def test_the_synthesizer_s_stand_ins_are_the_others_best_first() -> None:
    def broken_writer(request: ChatRequest) -> Any:
        return UpstreamServerError("down") if "begin answer" in told(request) else "Canberra!"

    panels = Panels(replies=THREE | {"a": broken_writer})
    blend = panels.blend(quality={"a": 0.9, "b": 0.3, "c": 0.8})
    assert await panels.play_out(blend) is None
    assert (panels.said, blend.writer, codes(blend)) == ("I think Canberra.", "c", ["stand_in"])
    assert [(said.model, said.error is None) for said in blend.sources][3:] == [("a", False)]


@pytest.mark.parametrize("strategy", ["consensus", "chain"])
async def test_a_writer_that_hangs_has_no_more_time_than_a_source(strategy: Strategy) -> None:
    panels = Panels(faults.Hang(model="c"), replies={"a": "Canberra.", "b": "Sydney."}, timeouts=TimeoutSettings())
    models = "abc" if strategy == "chain" else "ab"
    blend = panels.blend(strategy, models, synthesizer="c", bounds=Bounds(source_timeout_s=0.2))
    assert await panels.play_out(blend) is None
    assert (panels.said, codes(blend)) == ("Canberra.", ["stand_in"])
    (failed,) = [said for said in blend.sources if said.error is not None]
    assert failed.error is not None
    assert (failed.model, failed.error.code) == ("c", "source_timeout")
    assert panels.nothing_is_open()


async def test_empty_text_is_no_answer() -> None:
    panels = Panels(
        replies=THREE | {"a": " \n", "c": lambda request: "" if "begin answer" in told(request) else "Yes."}
    )
    blend = panels.blend("consensus", quality={"c": 0.9})
    assert await panels.play_out(blend) is None
    assert [(said.model, said.error.code) for said in blend.sources if said.error] == [
        ("a", "empty_answer"),
        ("c", "empty_answer"),
        ("a", "empty_answer"),
    ]
    assert (panels.said, blend.writer) == ("Sydney.", "b")


async def test_a_source_that_hangs_is_seen_to_have_begun() -> None:
    panels = Panels(faults.Hang(model="a"), replies={"b": "Canberra.", "c": "Sydney."}, timeouts=TimeoutSettings())
    await panels.play_out(panels.blend(request=asking(stream=True), bounds=Bounds(source_timeout_s=0.2)))
    assert {item.model for item in panels.items if isinstance(item, Begun)} >= {"a"}


async def test_without_any_writer_the_best_source_s_answer_is_given() -> None:
    def no_writer(request: ChatRequest) -> Any:
        text = THREE[request.model] if "begin answer" not in told(request) else None
        return text or UpstreamServerError("down")

    panels = Panels(replies=dict.fromkeys("abc", no_writer))
    blend = panels.blend(quality={"b": 0.9})
    assert await panels.play_out(blend) is None
    assert (panels.said, codes(blend)) == ("Sydney.", ["stand_in", "stand_in", "synthesis_failed"])


async def test_a_synthesis_that_breaks_off_is_an_error_and_not_another_s_second_half() -> None:
    panels = Panels(faults.Cut(model="c", after=2, nth=1), replies={"a": "Canberra.", "b": "Sydney."})
    error = await panels.play_out(panels.blend(models="ab", synthesizer="c", request=asking(stream=True)))
    assert error is not None
    assert error.code == "upstream_cut"
    assert panels.said
    assert panels.record.status == 502


async def test_a_reader_that_leaves_ends_every_call() -> None:
    panels = Panels(*[faults.Normal(tokens=1000, tokens_per_second=20)])
    blend = panels.blend(request=asking(stream=True))
    items = piped(partial(blend.run, panels.mesh))

    async def read() -> None:
        async with aclosing(items):
            async for _ in items:
                pass

    task = asyncio.create_task(read())
    await until(lambda: len(panels.reached) == 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (panels.record.status, panels.record.code) == (499, "client_gone")
    assert panels.nothing_is_open()
    assert nothing_runs()


# --- what it costs ---


async def test_the_same_answer_from_all_needs_no_synthesis() -> None:
    panels = Panels(replies=dict.fromkeys("abc", "Canberra. "))
    blend = panels.blend("best_of")
    assert await panels.play_out(blend) is None
    assert (panels.record.attempts, codes(blend)) == (3, ["same_answers"])


async def test_the_estimate_lists_every_call_and_asks_no_model() -> None:
    panels = Panels(replies=THREE)
    for strategy, count in (("consensus", 4), ("chain", 3), ("moa", 7)):
        found = panels.blend(strategy).estimate()  # type: ignore[arg-type]  # a strategy each
        assert len(found.calls) == count
        assert found.least_nanousd is not None
        assert found.likely_nanousd is not None
        assert 0 < found.least_nanousd < found.likely_nanousd
    assert not any(provider.asked for provider in panels.replying.values())


async def test_a_bound_below_the_least_is_refused_before_any_call() -> None:
    panels = Panels(replies=THREE)
    found = panels.blend().estimate()
    assert found.least_nanousd is not None
    check_affordable(found, found.least_nanousd)
    with pytest.raises(InvalidRequest, match="max_cost") as refused:
        check_affordable(found, found.least_nanousd - 1)
    assert refused.value.code == "max_cost_too_low"


async def test_when_the_sources_have_spent_it_nothing_more_is_asked() -> None:
    panels = Panels(replies=THREE)
    blend = panels.blend(bounds=Bounds(max_cost_nanousd=370_000))  # three answers cost 120,000 each
    assert await panels.play_out(blend) is None
    assert (panels.record.attempts, panels.record.cost_nanousd) == (3, 360_000)
    assert (panels.said, codes(blend)) == ("Canberra.", ["max_cost"])


async def test_a_spent_bound_ends_the_layers_and_the_chain() -> None:
    for strategy in ("moa", "chain"):
        panels = Panels(replies=THREE)
        blend = panels.blend(strategy, bounds=Bounds(max_cost_nanousd=361_000 if strategy == "moa" else 130_000))
        assert await panels.play_out(blend) is None
        assert "max_cost" in codes(blend)
        assert panels.record.attempts == (3 if strategy == "moa" else 1)


async def test_sources_are_told_of_as_they_end() -> None:
    slow = faults.Normal(model="a", latency_ms=100)
    panels = Panels(slow, replies={"b": "Canberra.", "c": "Sydney."}, timeouts=TimeoutSettings())
    await panels.play_out(panels.blend(request=asking(stream=True)))
    order = [item.model for item in panels.items if isinstance(item, Said)]
    begun = [(item.number, item.layer) for item in panels.items if isinstance(item, Begun)]
    assert sorted(begun) == [(0, 1), (1, 1), (2, 1)], "each once, so that a caller sees that there is life"
    assert isinstance(panels.items[0], Begun)
    assert order[-1] == "a"
    assert set(order) == set("abc")


# --- a form ---

FORM = ResponseFormat(
    "json_schema",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
    "city",
    True,
)
FITTING = '{"city": "Canberra"}'


def formed(*, formless: str | Reply = "Canberra.", formed: str | Reply = FITTING) -> Reply:
    """A model that is free to answer as it likes, unless it is asked for the form."""

    def reply(request: ChatRequest) -> str | GatewayError:
        given = formless if request.response_format is None else formed
        return given(request) if callable(given) else given

    return reply


@pytest.mark.parametrize("strategy", ["consensus", "council", "best_of", "moa"])
async def test_one_source_without_the_form_is_written_anew(strategy: Strategy) -> None:
    panels = Panels(replies={"a": formed(), "b": down, "c": down})
    blend = panels.blend(strategy, request=asking(response_format=FORM), layers=1)
    assert await panels.play_out(blend) is None
    assert (panels.said, blend.writer, codes(blend)) == (FITTING, "a", ["one_source"])
    assert "begin draft" in told(panels.replying["a"].asked[-1])


async def test_the_same_answers_without_the_form_are_written_anew() -> None:
    panels = Panels(replies=dict.fromkeys("abc", formed()))
    blend = panels.blend(request=asking(response_format=FORM))
    assert await panels.play_out(blend) is None
    assert (panels.said, codes(blend)) == (FITTING, [])


@pytest.mark.parametrize("strategy", ["consensus", "chain"])
@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
async def test_a_form_that_nobody_could_write_fails_the_blend(strategy: Strategy, kind: Any) -> None:
    panels = Panels(replies=dict.fromkeys("abc", formed(formed=down)))
    form = FORM if kind == "json_schema" else ResponseFormat(kind)
    error = await panels.play_out(panels.blend(strategy, request=asking(response_format=form)))
    assert isinstance(error, UpstreamServerError)
    assert (panels.said, panels.record.status) == ("", error.status)


async def test_an_answer_that_has_the_form_is_given_as_it_is_before_a_better_one_without() -> None:
    replies = {"a": formed(formed=down), "b": formed(formless=FITTING, formed=down), "c": formed(formed=down)}
    panels = Panels(replies=replies)
    blend = panels.blend(request=asking(response_format=FORM), quality={"a": 0.9})
    assert await panels.play_out(blend) is None
    assert (panels.said, blend.writer, codes(blend)[-1]) == (FITTING, "b", "synthesis_failed")


@pytest.mark.parametrize("strategy", ["consensus", "chain"])
async def test_a_bound_that_leaves_no_writer_gives_no_answer_without_the_form(strategy: Strategy) -> None:
    panels = Panels(replies=dict.fromkeys("abc", formed(formless=lambda request: f"{request.model} says so")))
    bounds = Bounds(max_cost_nanousd=100_000)
    error = await panels.play_out(panels.blend(strategy, request=asking(response_format=FORM), bounds=bounds))
    assert error is not None
    assert (panels.said, error.code) == ("", "max_cost_spent")


async def test_the_last_link_alone_is_asked_for_the_form() -> None:
    panels = Panels(replies={"a": down, "b": down, "c": formed()})
    blend = panels.blend("chain", request=asking(response_format=FORM))
    assert await panels.play_out(blend) is None
    assert (panels.said, codes(blend)) == (FITTING, ["one_source"])


# --- how many links of a chain have answered ---


@pytest.mark.parametrize("replies", [{"a": "Draft.", "b": down}, {"a": down, "b": "Answer."}])
async def test_a_link_s_stand_in_does_not_count_for_it(replies: dict[str, Any]) -> None:
    panels = Panels(replies=replies)
    error = await panels.play_out(panels.blend("chain", "ab", bounds=Bounds(min_sources=2)))
    assert error is not None
    assert error.code == "too_few_sources"
    assert panels.said == ""


async def test_without_min_sources_a_link_has_its_stand_in() -> None:
    panels = Panels(replies={"a": "Draft.", "b": down})
    blend = panels.blend("chain", "ab")
    assert await panels.play_out(blend) is None
    assert (panels.said, codes(blend)) == ("Draft.", ["stand_in"])


@pytest.mark.parametrize(("least", "code"), [(1, None), (2, "too_few_sources")])
async def test_who_writes_for_a_chain_without_being_of_it_is_no_source(least: int, code: str | None) -> None:
    panels = Panels(replies={"a": "Draft.", "b": down, "w": "Written."})
    blend = panels.blend("chain", "ab", synthesizer="w", bounds=Bounds(min_sources=least))
    error = await panels.play_out(blend)
    assert (error and error.code) == code
    panels = Panels(replies={"a": down, "b": down, "w": "Written."})
    error = await panels.play_out(panels.blend("chain", "ab", synthesizer="w"))
    assert error is not None
    assert error.code == "all_failed"


async def test_a_spent_bound_does_not_make_up_for_links_that_are_wanted() -> None:
    panels = Panels(replies=THREE)
    bounds = Bounds(min_sources=2, max_cost_nanousd=100_000)
    error = await panels.play_out(panels.blend("chain", bounds=bounds))
    assert error is not None
    assert error.code == "too_few_sources"


async def test_a_last_link_alone_is_told_of_like_any_writer() -> None:
    panels = Panels(replies={"a": down, "b": "Answer."})
    blend = panels.blend("chain", "ab")
    assert await panels.play_out(blend) is None
    kinds = [type(item) for item in panels.items if isinstance(item, Said | Synthesizing)]
    assert kinds == [Said, Synthesizing]
    panels = Panels(replies={"a": down, "b": down})
    error = await panels.play_out(panels.blend("chain", "ab"))
    assert error is not None
    assert not any(isinstance(item, Synthesizing) for item in panels.items), "it is to be an error with a status"
