"""The grammar of Anthropic's streams, whatever the engine's events. Whole messages are streams put together."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from llmwise.api.anthropic.events import PING, AnthropicStream, message
from llmwise.domain.errors import UpstreamCut
from llmwise.domain.events import (
    Event,
    Finished,
    FinishReason,
    OpaquePart,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from llmwise.domain.ids import RequestId
from llmwise.domain.messages import Family, Message, Text
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.requests import ChatRequest
from llmwise.domain.usage import TokenUsage
from llmwise.orchestration.settlement import Ledger

CARD = ModelCard("m", "p", "upstream", rate=Rate(input=1, output=2))


class Still:
    """A clock that stands still, and a recorder that keeps nothing."""

    def monotonic(self) -> float:
        return 0.0

    def unix_ms(self) -> int:
        return 0

    def admit(self, admission: object) -> None:
        pass

    def record(self, request: object, attempts: object, entries: object = ()) -> None:
        pass


def settled(events: Sequence[Event]) -> Ledger:
    """The account of a request that ended well."""
    request = ChatRequest("m", (Message("user", (Text("q"),)),))
    ledger = Ledger(
        id=RequestId("req_1"),
        key_id="k",
        request=request,
        plan=Plan((PlannedAttempt(CARD, "requested"),)),
        dialect="anthropic",
        rate_of=lambda card, at: card.rate,
        clock=Still(),
        recorder=Still(),
    )
    attempt = ledger.open(CARD, 0)
    for event in events:
        attempt.observe(event)  # type: ignore[arg-type]  # no steps of a plan are among them
    ledger.settle(attempt, "complete")
    ledger.close(200, None)
    return ledger


def streamed(events: Sequence[Event], family: Family = "openai", cuts: Sequence[int] = ()) -> list[dict[str, Any]]:
    """What a caller reads when the events come in batches that end at `cuts`."""
    stream = AnthropicStream(settled(events), {"m": family})
    ends = sorted({min(cut, len(events)) for cut in cuts} | {len(events)})
    out = b"".join(stream.render(events[start:end]) for start, end in zip([0, *ends], ends, strict=False))
    return read(out + stream.end())


def read(out: bytes) -> list[dict[str, Any]]:
    found = []
    for frame in out.decode().removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def content(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks as a client puts them together, which holds the stream to its grammar."""
    assert [event["type"] for event in (events[0], *events[-2:])] == ["message_start", "message_delta", "message_stop"]
    blocks: list[dict[str, Any]] = []
    open_ = False
    for event in events[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not open_
                assert event["index"] == len(blocks)
                blocks.append({**event["content_block"], "json": ""})
                open_ = True
            case "content_block_delta":
                assert open_
                assert event["index"] == len(blocks) - 1
                grow(blocks[-1], event["delta"])
            case "content_block_stop":
                assert open_
                assert event["index"] == len(blocks) - 1
                open_ = False
            case other:
                raise AssertionError(other)
    assert not open_
    for block in blocks:
        text = block.pop("json")
        if block["type"] == "tool_use":
            block["arguments"] = text
    return blocks


def grow(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta["type"], block["type"]:
        case "text_delta", "text":
            block["text"] += delta["text"]
        case "thinking_delta", "thinking":
            block["thinking"] += delta["thinking"]
        case "signature_delta", "thinking":
            block["signature"] += delta["signature"]
        case "input_json_delta", "tool_use":
            block["json"] += delta["partial_json"]
        case "citations_delta", "text":
            block.setdefault("citations", []).append(delta["citation"])
        case pair:
            raise AssertionError(pair)


DONE = Finished("stop", "stop")


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Anything that the grammar of an attempt allows: calls interleave, and their fragments are cut anywhere."""
    lanes: list[list[Event]] = []
    for index in range(draw(st.integers(0, 4))):
        arguments = draw(st.sampled_from(['{"a": {"b": "}"}}', "{}", "", '{"a": [1, 2', "no json", ' {"x": "y"} ']))
        cuts = sorted(draw(st.lists(st.integers(0, len(arguments)), max_size=4)))
        pieces = [arguments[i:j] for i, j in zip([0, *cuts], [*cuts, len(arguments)], strict=True)]
        first: Event = ToolCallDelta(index, f"call_{index}", f"f{index}", pieces[0])
        lanes.append([first, *(ToolCallDelta(index, arguments=piece) for piece in pieces[1:])])
    words = st.sampled_from(["", "a", "Grüße\n", "}"])
    other = st.one_of(
        st.builds(TextDelta, words),
        st.builds(RefusalDelta, words),
        st.builds(ReasoningDelta, words, st.sampled_from([None, "S"]), st.just(None), st.integers(0, 1)),
        st.builds(ReasoningDelta, st.just(""), st.just(None), st.just("D"), st.integers(2, 3)),
        st.just(OpaquePart("anthropic", "brand_new", '{"type":"brand_new"}')),
        st.just(OpaquePart("anthropic", "citation", '{"type":"page"}')),
    )
    lanes.append(draw(st.lists(other, max_size=6)))
    events: list[Event] = [Started("id", "model")]
    while lanes := [lane for lane in lanes if lane]:
        events.append(draw(st.sampled_from(lanes)).pop(0))
    return [*events, UsageReport(TokenUsage(3, output=2)), DONE]


CUTS = st.lists(st.integers(0, 40), max_size=8)


@given(answers(), st.sampled_from(["openai", "anthropic"]), CUTS)
def test_whatever_the_events_the_stream_keeps_its_grammar_and_loses_nothing(
    events: list[Event], family: Family, cuts: list[int]
) -> None:
    blocks = content(streamed(events, family, cuts))
    said = "".join(e.text for e in events if isinstance(e, TextDelta | RefusalDelta))
    assert "".join(b["text"] for b in blocks if b["type"] == "text") == said
    thought = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
    assert "".join(b["thinking"] for b in blocks if b["type"] == "thinking") == thought
    calls = [e for e in events if isinstance(e, ToolCallDelta)]
    for index in {call.index for call in calls}:
        (block,) = [b for b in blocks if b.get("id") == f"call_{index}"]
        whole = "".join(call.arguments for call in calls if call.index == index)
        # What follows a whole object may come too late to be said: only white space can.
        assert block["arguments"].rstrip() == whole.rstrip()
    assert sum(b["type"] == "tool_use" for b in blocks) == len({call.index for call in calls})


@given(answers(), st.sampled_from(["openai", "anthropic"]), CUTS)
def test_the_stream_does_not_depend_on_how_it_was_batched(events: list[Event], family: Family, cuts: list[int]) -> None:
    assert content(streamed(events, family, cuts)) == content(streamed(events, family))


@given(answers(), st.sampled_from(["openai", "anthropic"]))
def test_a_whole_message_is_its_stream_put_together(events: list[Event], family: Family) -> None:
    whole = msgspec.json.decode(message(events, settled(events), {"m": family}))
    blocks = content(streamed(events, family))
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = meant(block.pop("arguments"))
    assert whole["content"] == blocks


def meant(arguments: str) -> Any:
    if not arguments.strip():
        return {}
    try:
        return json.loads(arguments)
    except ValueError:
        return {"invalid_json": arguments}


def call(index: int, arguments: str = "", *, first: bool = False) -> ToolCallDelta:
    return ToolCallDelta(index, f"call_{index}" if first else None, "f" if first else None, arguments)


def test_calls_one_after_another_are_passed_on_as_they_come() -> None:
    events: list[Event] = [call(0, first=True), call(0, '{"a":'), call(0, "1}"), call(1, '{"b"', first=True)]
    stream = AnthropicStream(settled([DONE]), {"m": "openai"})
    out = read(b"".join(stream.render([event]) for event in events))
    assert [event["type"].removeprefix("content_block_") for event in out] == [
        *("message_start", "start", "delta", "delta", "stop"),
        *("start", "delta"),
    ]


def test_a_call_out_of_turn_waits_until_the_open_one_is_whole() -> None:
    stream = AnthropicStream(settled([DONE]), {"m": "openai"})
    stream.render([call(0, '{"a":', first=True)])
    assert stream.render([call(1, "{", first=True), call(1, "}"), TextDelta("and")]) == b""
    out = read(stream.render([call(0, "1}")]) + stream.render([call(2, "{}", first=True)]))
    started = [event["content_block"] for event in out if event["type"] == "content_block_start"]
    assert [block.get("id") for block in started] == ["call_1", None, "call_2"]


def test_another_family_s_proofs_stay_behind() -> None:
    events: list[Event] = [ReasoningDelta("hm", "SECRET"), ReasoningDelta(redacted="R", block=1), TextDelta("so"), DONE]
    assert content(streamed(events)) == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "so"},
    ]
    assert content(streamed(events, "anthropic"))[:2] == [
        {"type": "thinking", "thinking": "hm", "signature": "SECRET"},
        {"type": "redacted_thinking", "data": "R"},
    ]


def test_a_cited_text_ends_with_its_citations() -> None:
    events: list[Event] = [TextDelta("a"), OpaquePart("anthropic", "citation", '{"type":"page"}'), TextDelta("b"), DONE]
    assert content(streamed(events, "anthropic")) == [
        {"type": "text", "text": "a", "citations": [{"type": "page"}]},
        {"type": "text", "text": "b"},
    ]


def test_arguments_that_are_no_object_are_kept_and_told() -> None:
    events: list[Event] = [call(0, "[1", first=True), Finished("tool_calls", "tool_calls")]
    whole = msgspec.json.decode(message(events, settled(events), {"m": "openai"}))
    assert whole["content"][0]["input"] == {"invalid_json": "[1"}
    assert [warning["field"] for warning in whole["llmwise"]["warnings"]] == ["tool_calls[0]"]
    assert streamed(events)[-2]["llmwise"]["warnings"] == whole["llmwise"]["warnings"]


def test_every_end_has_its_word() -> None:
    words: dict[FinishReason, str] = {
        "stop": "end_turn",
        "length": "max_tokens",
        "tool_calls": "tool_use",
        "content_filter": "refusal",
        "unknown": "end_turn",
    }
    for reason, word in words.items():
        assert streamed([Finished(reason, "x")])[-2]["delta"] == {"stop_reason": word, "stop_sequence": None}
    assert streamed([Finished("unknown", "pause_turn")])[-2]["delta"]["stop_reason"] == "pause_turn"
    stopped = streamed([Finished("stop", "stop_sequence", "END")])[-2]["delta"]
    assert stopped == {"stop_reason": "stop_sequence", "stop_sequence": "END"}
    assert streamed([RefusalDelta("no"), DONE])[-2]["delta"]["stop_reason"] == "refusal"


def test_the_start_has_the_usage_that_is_known_and_the_end_all_of_it() -> None:
    usage = TokenUsage(70, 30, 5, 6, output=1)
    events: list[Event] = [
        Started(),
        UsageReport(usage),
        TextDelta("a"),
        UsageReport(TokenUsage(70, 30, 5, 6, 50, 20)),
        DONE,
    ]
    out = streamed(events, "anthropic")
    known = {"input_tokens": 70, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 11}
    assert out[0]["message"]["usage"] == {**known, "output_tokens": 1}
    assert out[-2]["usage"] == {**known, "output_tokens": 50, "output_tokens_details": {"thinking_tokens": 20}}


def test_an_error_after_the_start_is_an_event() -> None:
    stream = AnthropicStream(settled([DONE]), {})
    stream.render([TextDelta("a")])
    (event,) = read(stream.fail(UpstreamCut("cut")))
    assert event == {
        "type": "error",
        "error": {"type": "api_error", "message": "cut", "code": "upstream_cut"},
        "request_id": "req_1",
    }


def test_the_keep_alive_is_anthropic_s_ping() -> None:
    assert read(PING) == [{"type": "ping"}]
