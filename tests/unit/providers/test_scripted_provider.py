"""The provider inside the process: the port's grammar, every fault as its error, and nothing left open."""

import asyncio
from collections.abc import Callable
from typing import get_args

import pytest

from llmwise.domain import errors
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import (
    AttemptEvent,
    Finished,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from llmwise.domain.messages import Family, Message, Text, ToolResult
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Exchange, Provider
from llmwise.domain.requests import ChatRequest, Tool, ToolChoice
from llmwise.providers.scripted import Script, ScriptedProvider
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.parsing import FAULTS
from llmwise.providers.scripted.script import Settings

pytestmark = pytest.mark.anyio

TARGET = ModelCard("catalog-name", "scripted", "sent-name")
FAMILIES: tuple[Family, ...] = get_args(Family)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ask(stream: bool = True, text: str = "What is up?") -> ChatRequest:
    return ChatRequest("catalog-name", (Message("user", (Text(text),)),), stream=stream)


def provider(*rules: faults.AnyRule, family: Family = "openai", **settings: object) -> ScriptedProvider:
    script = Script(defaults=Settings(**settings), rules=rules)  # type: ignore[arg-type]  # names checked at run time
    made = ScriptedProvider("scripted", script, family)
    _: Provider = made
    return made


async def drain(exchange: Exchange, events: list[AttemptEvent] | None = None) -> list[AttemptEvent]:
    events = [] if events is None else events
    while batch := await exchange.receive():
        events += batch
    await exchange.aclose()
    return events


def text_of(events: list[AttemptEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def until_blocked(task: "asyncio.Task[object]") -> None:
    """Let `task` run until it waits for good: nothing else is due in this loop."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert not task.done()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
async def test_an_answer_keeps_the_grammar_of_an_attempt(family: Family, stream: bool) -> None:
    one = provider(family=family, reasoning="Let me see")
    events = await drain(await one.send(ask(stream), TARGET))
    assert events[0] == Started("scripted-sent-name-1", "sent-name")
    kinds = [type(event) for event in events]
    assert kinds.count(Finished) == 1
    assert set(kinds[kinds.index(Finished) + 1 :]) <= {UsageReport}
    assert any(isinstance(event, ReasoningDelta) for event in events)
    assert "What is up?" in text_of(events)
    account = [event for event in events if isinstance(event, UsageReport)][-1].usage
    assert (account.reasoning, account.estimated) == (3, False)
    assert [received.outcome for received in one.received] == ["finished"]


async def test_a_stream_comes_in_batches_and_an_empty_one_is_the_end() -> None:
    exchange = await provider(text="one two three").send(ask(), TARGET)
    batches = []
    while batch := await exchange.receive():
        batches.append(batch)
    assert [list(batch) for batch in batches[1:4]] == [[TextDelta("one")], [TextDelta(" two")], [TextDelta(" three")]]
    assert await exchange.receive() == []


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_demanded_tool_is_called_and_its_result_answered(family: Family) -> None:
    tool = Tool("weather", None, {"properties": {"city": {"type": "string"}}})
    request = ChatRequest("m", ask().messages, stream=True, tools=(tool,), tool_choice=ToolChoice("required"))
    one = provider(family=family)
    events = await drain(await one.send(request, TARGET))
    deltas = [event for event in events if isinstance(event, ToolCallDelta)]
    assert (deltas[0].id, deltas[0].name) == ("call_scripted_1_0", "weather")
    assert all(delta.id is None and delta.name is None for delta in deltas[1:])
    assert "".join(delta.arguments for delta in deltas) == '{"city": "scripted"}'
    assert Finished("tool_calls") in events
    result = Message("tool", (ToolResult("call_scripted_1_0", (Text("sunny"),)),))
    again = ChatRequest("m", (*request.messages, result), tools=(tool,), tool_choice=ToolChoice("required"))
    assert "after the tool's result" in text_of(await drain(await one.send(again, TARGET)))


REFUSALS: list[tuple[faults.AnyRule, type[GatewayError], int | None]] = [
    (faults.RateLimit(), errors.UpstreamRateLimited, 429),
    (faults.Overloaded(), errors.UpstreamOverloaded, 529),
    (faults.ContextTooLong(), errors.ContextTooLong, 400),
    (faults.Refuse(), errors.UpstreamUnreachable, None),
    (faults.WrongContentType(), errors.UpstreamInvalid, 200),
    (faults.Status(status=400), errors.InvalidRequest, 400),
    (faults.Status(status=401), errors.UpstreamUnauthorized, 401),
    (faults.Status(status=403), errors.UpstreamUnauthorized, 403),
    (faults.Status(status=404), errors.UpstreamNoModel, 404),
    (faults.Status(status=413), errors.ContextTooLong, 413),
    (faults.Status(status=422), errors.InvalidRequest, 422),
    (faults.Status(status=500), errors.UpstreamServerError, 500),
    (faults.Status(status=503), errors.UpstreamOverloaded, 503),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("rule", "kind", "status"), REFUSALS, ids=lambda value: getattr(value, "fault", None))
async def test_a_refusal_is_raised_by_send(
    rule: faults.AnyRule, kind: type[GatewayError], status: int | None, stream: bool
) -> None:
    one = provider(rule)
    with pytest.raises(kind) as caught:
        await one.send(ask(stream), TARGET)
    assert type(caught.value) is kind
    assert (caught.value.provider, caught.value.upstream_status) == ("scripted", status)
    assert not one.open
    assert one.received[0].outcome == "refused"


async def test_retry_after_reaches_the_error() -> None:
    with pytest.raises(errors.UpstreamRateLimited) as caught:
        await provider(faults.RateLimit(retry_after=2.5)).send(ask(), TARGET)
    assert caught.value.retry_after_s == 2.5


AMID: list[tuple[faults.AnyRule, type[GatewayError]]] = [
    (faults.Cut(), errors.UpstreamCut),
    (faults.Malformed(), errors.UpstreamInvalid),
    (faults.Oversized(), errors.UpstreamInvalid),
    (faults.ErrorIn200(), errors.UpstreamServerError),
    (faults.ErrorIn200(status=529), errors.UpstreamOverloaded),
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("rule", "kind"), AMID, ids=lambda value: getattr(value, "fault", None))
async def test_a_fault_amid_the_answer_is_raised_by_receive(
    rule: faults.AnyRule, kind: type[GatewayError], stream: bool, family: Family
) -> None:
    one = provider(rule, family=family, text="one two three four")
    exchange = await one.send(ask(stream), TARGET)
    events: list[AttemptEvent] = []
    with pytest.raises(kind) as caught:
        await drain(exchange, events)
    assert type(caught.value) is kind
    assert text_of(events) == ("one two" if stream else "")
    assert not one.open
    assert one.received[0].outcome == "failed"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stream_without_its_terminal_frame_is_cut_and_a_body_without_its_end_invalid(stream: bool) -> None:
    events: list[AttemptEvent] = []
    with pytest.raises(errors.UpstreamCut if stream else errors.UpstreamInvalid):
        await drain(await provider(faults.NoTerminal(), text="one two").send(ask(stream), TARGET), events)
    assert text_of(events) == ("one two" if stream else "")
    assert not any(isinstance(event, Finished) for event in events)


@pytest.mark.parametrize("after", [0, 1, 99])
async def test_after_counts_content_and_strikes_before_the_end_at_the_latest(after: int) -> None:
    events: list[AttemptEvent] = []
    with pytest.raises(errors.UpstreamCut):
        await drain(await provider(faults.Cut(after=after), text="one two").send(ask(), TARGET), events)
    assert sum(isinstance(event, TextDelta) for event in events) == min(after, 2)
    assert not any(isinstance(event, Finished) for event in events)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "rule",
    [faults.NoUsage(), faults.Keepalive(), faults.Crlf(), faults.Trickle(), faults.Normal()],
    ids=lambda r: r.fault,
)
async def test_a_harmless_oddity_leaves_the_answer_whole(rule: faults.AnyRule, stream: bool) -> None:
    events = await drain(await provider(rule, text="one two three").send(ask(stream), TARGET))
    assert text_of(events) == "one two three"
    assert any(isinstance(event, UsageReport) for event in events) == (rule.fault != "no_usage")


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("rule", [faults.Hang(), faults.HangFirstEvent(), faults.Stall()], ids=lambda r: r.fault)
async def test_a_hang_lasts_until_it_is_cancelled_and_leaves_nothing_open(rule: faults.AnyRule, stream: bool) -> None:
    one = provider(rule, text="one two three")

    async def run() -> object:
        return await drain(await one.send(ask(stream), TARGET))

    task: asyncio.Task[object] = asyncio.create_task(run())
    await until_blocked(task)
    assert len(one.open) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not one.open
    assert one.received[0].outcome == "closed"


async def test_closing_early_and_twice_settles_once_and_then_nothing_is_received() -> None:
    one = provider()
    exchange = await one.send(ask(), TARGET)
    await exchange.receive()
    assert len(one.open) == 1
    await exchange.aclose()
    await exchange.aclose()
    assert one.received[0].outcome == "closed"
    with pytest.raises(errors.UpstreamCut):
        await exchange.receive()


async def test_time_is_the_callers() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(round(seconds, 6))

    settings = Settings(latency_ms=80, first_event_ms=40, tokens_per_second=100, text="one two three")
    one = ScriptedProvider("scripted", Script(defaults=settings), sleep=sleep)
    await drain(await one.send(ask(), TARGET))
    assert waits == [0.08, 0.04, 0.01, 0.01]
    waits.clear()
    await drain(await one.send(ask(stream=False), TARGET))
    assert waits == [0.08, 0.07]


async def test_requests_are_counted_by_the_name_sent_and_anew_with_a_new_script() -> None:
    one = provider(faults.Status(model="sent-name", nth=1))
    with pytest.raises(errors.UpstreamServerError):
        await one.send(ask(), TARGET)
    await drain(await one.send(ask(), TARGET))
    one.set_script(Script(rules=(faults.Cut(nth=1),)))
    with pytest.raises(errors.UpstreamCut):
        await drain(await one.send(ask(), TARGET))
    assert [(r.model, r.nth, r.fault, r.outcome) for r in one.received] == [
        ("sent-name", 1, "status", "refused"),
        ("sent-name", 2, "none", "finished"),
        ("sent-name", 1, "cut", "failed"),
    ]


async def test_two_hundred_faults_leave_no_task_and_nothing_open() -> None:
    script: Callable[[int], faults.AnyRule] = lambda i: _RULES[i % len(_RULES)]  # noqa: E731  # reads as a table
    before = asyncio.all_tasks()
    one = provider()
    for i in range(200):
        one.set_script(Script(rules=(script(i),)))
        try:
            async with asyncio.timeout(0.005):
                await drain(await one.send(ask(i % 2 == 0), TARGET))
        except (GatewayError, TimeoutError):
            pass
    assert not one.open
    assert asyncio.all_tasks() == before


_RULES: list[faults.AnyRule] = [rule() for rule in get_args(faults.AnyRule)]


def test_every_fault_is_met_above() -> None:
    assert {rule.fault for rule in _RULES} == set(FAULTS)
