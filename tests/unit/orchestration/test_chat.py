"""A stream of events joined into one answer."""

from collections.abc import AsyncIterator, Sequence

import pytest

from llmwise.domain.errors import UpstreamCut
from llmwise.domain.events import (
    Event,
    Finished,
    OpaquePart,
    ReasoningDelta,
    RefusalDelta,
    Routed,
    Started,
    TextDelta,
    ToolCallDelta,
    Traced,
)
from llmwise.domain.messages import Opaque, Reasoning, ToolCall
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.chat import Answer, answer, join
from llmwise.orchestration.settlement import Ledger
from llmwise.providers.scripted import script as faults

from .engines import ANSWER, Engine

pytestmark = pytest.mark.anyio
END = Finished("stop")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def joined(*batches: Sequence[Event]) -> Answer:
    async def given() -> AsyncIterator[Sequence[Event]]:
        for batch in batches:
            yield batch

    return await join(given())


async def test_text_is_joined_whatever_the_batches() -> None:
    whole = await joined([Started("1", "m-2026"), TextDelta("one ")], [TextDelta("two"), END])
    assert (whole.text, whole.answered_model, whole.finish) == ("one two", "m-2026", END)


async def test_fragments_of_interleaved_tool_calls_find_their_call() -> None:
    whole = await joined(
        [ToolCallDelta(1, "second", "g"), ToolCallDelta(0, "first", "f", '{"a":')],
        [ToolCallDelta(1, arguments="{}"), ToolCallDelta(0, arguments="1}", signature="sig"), END],
    )
    assert whole.tool_calls == (ToolCall("first", "f", '{"a":1}', "sig"), ToolCall("second", "g", "{}", None))


async def test_reasoning_blocks_are_kept_apart_with_their_signatures() -> None:
    whole = await joined(
        [ReasoningDelta("think "), ReasoningDelta("more")],
        [ReasoningDelta(signature="s1"), ReasoningDelta("again", block=1), ReasoningDelta(redacted="r", block=2), END],
    )
    assert whole.reasoning == (
        Reasoning("think more", "s1"),
        Reasoning("again"),
        Reasoning("", redacted="r"),
    )


async def test_a_refusal_and_opaque_parts_are_kept() -> None:
    part = OpaquePart("anthropic", "server_tool_use", "{}")
    whole = await joined([RefusalDelta("I "), RefusalDelta("won't"), part, END])
    assert (whole.refusal, whole.opaque) == ("I won't", (Opaque("anthropic", "server_tool_use", "{}"),))
    assert (await joined([TextDelta("x"), END])).refusal is None


async def test_the_trace_comes_along() -> None:
    trace = Traced("a", 1, (Routed("a", "success"),))
    assert (await joined([TextDelta("x"), END], [trace])).trace == trace


def question(ledger: Ledger) -> ChatRequest:
    assert isinstance(ledger.request, ChatRequest)
    return ledger.request


async def test_an_answer_is_the_chains_first_success() -> None:
    engine = Engine([faults.Status(model="a", status=500)])
    ledger = engine.ledger("ab", stream=False)
    whole = await answer(engine.mesh, question(ledger), ledger)
    assert whole.text == ANSWER
    assert whole.trace is not None
    assert whole.trace.final_model == "b"
    assert len(engine.kept.settled) == 1


async def test_an_answer_that_breaks_off_is_an_error_and_not_half_an_answer() -> None:
    engine = Engine([faults.Cut(after=2)])
    ledger = engine.ledger("a", stream=True)
    with pytest.raises(UpstreamCut):
        await answer(engine.mesh, question(ledger), ledger)
    assert engine.nothing_is_open()
