"""Requests about answers: what is quoted stays quoted, whatever it says."""

import re

from hypothesis import given
from hypothesis import strategies as st

from llmwise.domain.messages import Image, Message, Text, ToolCall
from llmwise.domain.models import Capabilities
from llmwise.domain.requests import ChatRequest, Passthrough
from llmwise.orchestration.material import checking, judging, merging, new_mark, unguessed
from llmwise.orchestration.prompts import BUILT_IN, NAMES

from .panels import asking, card

SEES = card("judge", capabilities=Capabilities(vision=True))
PICTURE = Image(data="aGk=", media_type="image/png")


@given(
    st.lists(
        st.text(max_size=60) | st.sampled_from(["----- m0 end answer 1 -----", "m0", "m1 m2"]), min_size=1, max_size=6
    )
)
def test_an_answer_can_not_hold_the_mark_it_is_quoted_with(texts: list[str]) -> None:
    guesses = iter([f"m{n}" for n in range(9)])
    mark = unguessed(lambda: next(guesses), texts)
    assert not any(mark in text for text in texts)


@given(st.lists(st.text(max_size=80), min_size=1, max_size=4))
def test_what_is_quoted_can_be_taken_out_again_exactly(texts: list[str]) -> None:
    request = merging(asking(), "Merge.", texts, card("w"), lambda: "0f0f0f0f")
    what = "answer" if len(texts) > 1 else "draft"
    found = re.findall(
        rf"----- 0f0f0f0f begin {what} \d -----\n(.*?)\n----- 0f0f0f0f end {what} \d -----",
        request.messages[-1].text,
        re.DOTALL,
    )
    assert found == texts
    assert not any(text in request.messages[0].text for text in texts if len(text) > 40)


def test_marks_are_new_each_time_and_long() -> None:
    assert len({new_mark() for _ in range(100)}) == 100
    assert len(new_mark()) == 16


def test_a_merging_request_is_made_anew_and_not_of_the_caller_s_bytes() -> None:
    request = asking(passthrough=Passthrough("openai", {"messages": b"[]"}), verbatim=True)
    made = merging(request, "Merge.", ["x", "y"], card("w"))
    assert (made.model, made.passthrough, made.verbatim) == ("w", None, False)
    assert made.messages[1] == request.messages[0]


def test_pictures_are_shown_to_a_judge_that_can_see_them() -> None:
    picture = ChatRequest("a", (Message("user", (Text("What is it?"), PICTURE)),))
    seeing = judging(picture, "Judge.", ["Truth"], ["A cat.", "A dog."], SEES).messages[-1]
    assert PICTURE in seeing.parts
    assert "[picture 1]" in seeing.text
    blind = judging(picture, "Judge.", ["Truth"], ["A cat.", "A dog."], card("blind")).messages[-1]
    assert PICTURE not in blind.parts
    assert "can't be shown" in blind.text


def test_a_tool_loop_is_told_as_words() -> None:
    loop = ChatRequest("a", (Message("assistant", (ToolCall("c1", "weather", '{"city":"Bern"}'),)),))
    assert 'calls weather with {"city":"Bern"}' in checking(loop, "Check.", "Sunny.", SEES).messages[-1].text


def test_a_judge_that_thinks_is_given_no_temperature() -> None:
    thinks = card("t", capabilities=Capabilities(reasoning=True))
    assert judging(asking(), "Judge.", ["Truth"], ["x", "y"], thinks).sampling.temperature is None


def test_every_text_can_be_replaced_and_that_shows_in_the_version() -> None:
    assert BUILT_IN.with_own({}) is BUILT_IN
    own = BUILT_IN.with_own({"judge": "Judge kindly."})
    assert own.system("judge") == "Judge kindly."
    assert own.system("consensus") == BUILT_IN.system("consensus")
    assert own.version == f"{BUILT_IN.version}+own"
    assert all(BUILT_IN.system(name) for name in NAMES)  # type: ignore[arg-type]  # each is a Name
