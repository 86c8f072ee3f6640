"""What of a turn with tool calls is kept, found again and put back."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest
from msgspec.structs import replace

from llmwise.domain.events import (
    AttemptEvent,
    Event,
    Finished,
    ReasoningDelta,
    Routed,
    Started,
    TextDelta,
    ToolCallDelta,
    Verbatim,
)
from llmwise.domain.messages import Family, Message, Reasoning, Text, ToolCall, ToolResult
from llmwise.domain.plan import Origin
from llmwise.domain.requests import ChatRequest, Passthrough, Tool
from llmwise.orchestration.continuity import Continuity, Turn, origin, restored
from llmwise.providers.scripted import Script, ScriptedProvider
from llmwise.state.turns import ContinuitySettings, MemoryTurns

from .engines import Engine as EngineWithModels

pytestmark = pytest.mark.anyio

QUESTION = Message("user", (Text("Weather?"),))
CALL = ToolCall("call_1", "weather", '{"city": "Oslo", "days": 2}')
RESULT = Message("tool", (ToolResult("call_1", (Text("rain"),)),))
ASKED = ChatRequest("a", (QUESTION,), tools=(Tool("weather"),))
ANSWER: tuple[AttemptEvent, ...] = (
    Started(),
    ReasoningDelta("Oslo "),
    ReasoningDelta("is far.", block=0),
    ReasoningDelta(signature="SIG"),
    ReasoningDelta(redacted="RED", block=1),
    TextDelta("I look."),
    ToolCallDelta(0, "call_1", "weather", '{"city": "Oslo",'),
    ToolCallDelta(0, arguments=' "days": 2}', signature="CALLSIG"),
    Finished("tool_calls"),
)


class Played:
    """An engine that says what it is told to, one batch each."""

    total_s = 10.0

    def __init__(self, *batches: Sequence[Event]) -> None:
        self.batches = batches

    async def run(self, request: Any, ledger: Any) -> Any:
        ledger.steps.append(Routed("a", "success"))
        for batch in self.batches:
            yield batch


class OfFamily(ScriptedProvider):
    """A provider that says it is of a family."""

    def __init__(self, name: str, family: Family) -> None:
        super().__init__(name, Script())
        self._said = family

    @property
    def family(self) -> Family:
        return self._said


async def told(
    *batches: Sequence[Event], family: Family = "anthropic", request: ChatRequest = ASKED
) -> tuple[Continuity, list[Sequence[Event]]]:
    """A continuity that has heard these batches, and what it passed on of them."""
    store = MemoryTurns(ContinuitySettings(), lambda: 0.0)
    continuity = Continuity(Played(*batches), store, {"a": OfFamily("a", family)})
    ledger = EngineWithModels().ledger("a")
    async with aclosing(continuity.run(request, ledger)) as passed:
        return continuity, [batch async for batch in passed]


def answered(*parts: Any, call: ToolCall = CALL) -> ChatRequest:
    return replace(ASKED, messages=(QUESTION, Message("assistant", (*parts, call)), RESULT))


async def test_all_is_passed_on_as_it_came_and_the_turn_is_kept() -> None:
    batches = [ANSWER[:3], ANSWER[3:7], ANSWER[7:]]
    continuity, passed = await told(*batches)
    assert passed == batches
    recalled = await continuity.recall("key_test", answered())
    assert recalled == {
        1: Turn(
            "a",
            "a",
            "anthropic",
            (
                Reasoning("Oslo is far.", "SIG", family="anthropic"),
                Reasoning(redacted="RED", family="anthropic"),
            ),
            {"call_1": "CALLSIG"},
        )
    }


async def test_bytes_that_are_passed_on_verbatim_are_heard_too() -> None:
    verbatim = [Verbatim(b"frame", (event,)) for event in ANSWER[:-1]]
    continuity, _ = await told(verbatim, [ANSWER[-1]])
    assert await continuity.recall("key_test", answered())


async def test_an_answer_without_calls_and_one_that_broke_off_leave_nothing() -> None:
    for heard in (ANSWER[:6], ANSWER[:-1]):
        continuity, _ = await told(heard)
        assert not await continuity.recall("key_test", answered())


async def test_a_request_without_tools_is_not_listened_to() -> None:
    continuity, passed = await told(ANSWER, request=replace(ASKED, tools=()))
    assert passed == [ANSWER]
    assert not await continuity.recall("key_test", answered())


async def test_a_turn_is_found_by_what_its_arguments_mean() -> None:
    continuity, _ = await told(ANSWER)
    same = replace(CALL, arguments='{ "days":2,"city":"Oslo"}')
    other = replace(CALL, arguments='{"days": 3, "city": "Oslo"}')
    assert await continuity.recall("key_test", answered(call=same))
    assert not await continuity.recall("key_test", answered(call=other))
    assert not await continuity.recall("key_other", answered())
    assert not await continuity.recall("key_test", answered(call=replace(CALL, id="call_2")))
    assert not await continuity.recall("key_test", answered(call=replace(CALL, name="wether")))


async def test_later_turns_of_a_loop_are_found_behind_the_same_question() -> None:
    """What the user said last is the same for every turn of a loop; the results between are not the user's words."""
    second = replace(ASKED, messages=answered().messages)
    continuity, _ = await told(ANSWER, request=second)
    again = Message("assistant", (CALL,))
    assert list(await continuity.recall("key_test", replace(second, messages=(*second.messages, again, RESULT)))) == [
        1,
        3,
    ]


TURN = Turn("a", "a", "anthropic", (Reasoning("t", "SIG", family="anthropic"),), {})


def test_what_the_caller_left_out_is_put_first() -> None:
    request = restored(answered(Text("I look.")), {1: TURN}, {"p": "anthropic"})
    assert request.messages[1].parts == (*TURN.reasoning, Text("I look."), CALL)


def test_words_without_their_proof_are_replaced_and_proofs_are_not() -> None:
    unsigned = restored(answered(Reasoning("t", family="openai")), {1: TURN}, {"p": "anthropic"})
    assert unsigned.messages[1].parts == (*TURN.reasoning, CALL)
    own = answered(Reasoning("mine", "OWN", family="anthropic"))
    assert restored(own, {1: TURN}, {"p": "anthropic"}) is own


def test_words_that_a_client_sent_back_without_their_proof_get_it_again_at_the_provider_that_made_it() -> None:
    """The Responses API reads thoughts by their encrypted content alone; OpenAI's chat format has nothing but words."""
    words = answered(Reasoning("t", family="openai"))
    proof = (Reasoning("t", "ENC", family="responses"),)
    turn = Turn("r", "r", "responses", proof, {})
    assert restored(words, {1: turn}, {"r": "responses"}).messages[1].parts == (*proof, CALL)
    chat = Turn("d", "deepseek", "openai", (Reasoning("t", family="openai"),), {})
    assert restored(words, {1: chat}, {"deepseek": "openai"}) is words


def test_a_signature_goes_on_its_call() -> None:
    turn = Turn("g", "g", "gemini", (), {"call_1": "CALLSIG"})
    (call,) = restored(answered(), {1: turn}, {"g": "gemini"}).messages[1].parts
    assert call == replace(CALL, signature="CALLSIG")


def test_the_caller_s_own_body_is_not_forwarded_once_something_was_put_back() -> None:
    body = Passthrough("openai", {"messages": b"[]", "seed": b"1"})
    request = replace(answered(), passthrough=body)
    changed = restored(request, {1: TURN}, {"p": "anthropic"}).passthrough
    assert changed is not None
    assert changed.fields == {"seed": b"1"}
    assert restored(request, {1: TURN}, {"p": "gemini"}) is request, "nobody there could read it"


def test_openai_s_format_is_many_vendors_and_each_keeps_its_own() -> None:
    turn = Turn("d", "deepseek", "openai", (Reasoning("t", family="openai"),), {})
    assert restored(answered(), {1: turn}, {"deepseek": "openai"}).messages[1].parts[0] == turn.reasoning[0]
    assert restored(answered(), {1: turn}, {"openai": "openai"}) == answered()


def test_the_origin_is_that_of_the_last_turn_and_only_while_results_come() -> None:
    request = answered()
    assert origin(request, {1: TURN}) == Origin("a", "anthropic")
    assert origin(request, {}) is None
    done = replace(request, messages=(*request.messages, Message("assistant", (Text("It rains."),)), QUESTION))
    assert origin(done, {1: TURN}) is None
    assert origin(ASKED, {}) is None
    assert origin(answered(Reasoning("t", "S", family="anthropic")), {}) == Origin(None, "anthropic")
    assert origin(answered(call=replace(CALL, signature="S")), {}) == Origin(None, "gemini")
    assert origin(answered(Reasoning("t", family="openai")), {}) is None, "words prove nothing"
