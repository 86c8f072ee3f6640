"""Anthropic's answers to events: recorded ones first, then each rule by itself."""

import json
from typing import Any

import pytest

from llmwise.domain.errors import (
    ContextTooLong,
    GatewayError,
    InvalidRequest,
    UpstreamCut,
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamRateLimited,
)
from llmwise.domain.events import (
    AttemptEvent,
    Finished,
    OpaquePart,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
    Warned,
)
from llmwise.domain.usage import TokenUsage
from llmwise.providers.anthropic import CODEC

from .recorded import Case, cases, read, rendered, streamed

CASES = cases("anthropic")
START = {"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 5}}}
END: tuple[dict[str, Any], ...] = (
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return (
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    )


def content(*events: dict[str, Any]) -> list[AttemptEvent]:
    """What is said between start and end."""
    found = streamed(CODEC.decoder(), sse(START, *events, *END))
    return [event for event in found if not isinstance(event, Started | UsageReport | Finished)]


def usage(events: list[AttemptEvent]) -> TokenUsage:
    return [event.usage for event in events if isinstance(event, UsageReport)][-1]


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_answer_becomes_its_events(name: str) -> None:
    assert rendered(read(CODEC, CASES[name])) == CASES[name].events


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.stream], ids=lambda case: case.folder.name)
def test_a_recorded_stream_says_the_same_byte_by_byte(case: Case) -> None:
    bytewise = streamed(CODEC.decoder(), *(case.response[i : i + 1] for i in range(len(case.response))))
    assert bytewise == read(CODEC, case)


def test_a_tool_call_without_arguments_has_an_empty_object() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {}}
    assert content(*block(0, call, {"type": "input_json_delta", "partial_json": ""})) == [
        ToolCallDelta(0, "toolu_1", "now"),
        ToolCallDelta(0, arguments="{}"),
    ]


def test_arguments_that_come_with_the_start_of_a_block_are_kept() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1}}
    assert content(*block(0, call))[1] == ToolCallDelta(0, arguments='{"a": 1}')


def test_tool_calls_are_numbered_among_themselves() -> None:
    first = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {}}
    second = {"type": "tool_use", "id": "toolu_2", "name": "add", "input": {}}
    text = {"type": "text", "text": ""}
    found = content(*block(0, text, {"type": "text_delta", "text": "So:"}), *block(1, first), *block(2, second))
    assert [(e.index, e.id) for e in found if isinstance(e, ToolCallDelta) and e.id] == [(0, "toolu_1"), (1, "toolu_2")]


def test_a_call_made_by_code_is_said_to_be_one() -> None:
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {}, "caller": {"type": "code_execution_20260120"}}
    assert any(isinstance(event, Warned) and event.field == "tool_call.caller" for event in content(*block(0, call)))
    direct = call | {"caller": {"type": "direct"}}
    assert not any(isinstance(event, Warned) for event in content(*block(0, direct)))


def test_thinking_blocks_are_numbered_and_keep_their_signatures() -> None:
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    assert content(
        *block(
            0, thinking, {"type": "thinking_delta", "thinking": "Hm"}, {"type": "signature_delta", "signature": "s"}
        ),
        *block(1, {"type": "redacted_thinking", "data": "x"}),
    ) == [ReasoningDelta("Hm"), ReasoningDelta(signature="s"), ReasoningDelta(redacted="x", block=1)]


def test_citations_follow_the_text_they_belong_to() -> None:
    citation = {"type": "char_location", "cited_text": "sky"}
    streamed_events = content(
        *block(
            0,
            {"type": "text", "text": "", "citations": []},
            {"type": "citations_delta", "citation": citation},
            {"type": "text_delta", "text": "Blue."},
        )
    )
    assert streamed_events == [TextDelta("Blue."), OpaquePart("anthropic", "citation", json.dumps(citation))]
    whole = {"type": "message", "stop_reason": "end_turn", "content": [{"type": "text", "text": "Blue."}]}
    whole["content"][0]["citations"] = [citation]  # type: ignore[index]  # a literal of several types
    assert CODEC.decode(json.dumps(whole).encode())[1:-1] == streamed_events


def test_a_server_tool_whose_input_is_broken_keeps_the_text_of_it() -> None:
    tool = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    [part] = content(*block(0, tool, {"type": "input_json_delta", "partial_json": '{"query": "x'}))
    assert isinstance(part, OpaquePart)
    assert json.loads(part.json)["input"] == '{"query": "x'


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "unknown"),
        ("something_new", "unknown"),
        (None, "unknown"),
    ],
)
def test_each_stop_reason_has_its_meaning_and_an_unknown_one_a_warning(raw: str | None, reason: str) -> None:
    stop = {"type": "message_delta", "delta": {"stop_reason": raw}}
    events = streamed(CODEC.decoder(), sse(START, stop, {"type": "message_stop"}))
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].raw) == (reason, raw)
    assert any(isinstance(event, Warned) for event in events) == (reason == "unknown")


def test_usage_is_cumulative_and_what_the_end_leaves_out_stays() -> None:
    begin = {
        "input_tokens": 10,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 5,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
        "output_tokens": 1,
    }
    end = {"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 8}}
    events = streamed(
        CODEC.decoder(),
        sse(
            {"type": "message_start", "message": {"usage": begin}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end},
            {"type": "message_stop"},
        ),
    )
    assert usage(events) == TokenUsage(10, 7, 2, 3, 20, 8)


@pytest.mark.parametrize(
    ("breakdown", "expected"),
    [
        (None, TokenUsage(1, 0, 9, 0, 2)),
        ({"ephemeral_5m_input_tokens": 9}, TokenUsage(1, 0, 9, 0, 2)),
        ({"ephemeral_1h_input_tokens": 9}, TokenUsage(1, 0, 0, 9, 2)),
        ({"ephemeral_1h_input_tokens": 4}, TokenUsage(1, 0, 0, 9, 2)),
        ({"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 4}, TokenUsage(1, 0, 5, 4, 2)),
    ],
)
def test_every_token_written_to_the_cache_is_in_one_bucket(breakdown: Any, expected: TokenUsage) -> None:
    counts = {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 9, "cache_creation": breakdown}
    body = {"type": "message", "content": [], "stop_reason": "end_turn", "usage": counts}
    assert usage(CODEC.decode(json.dumps(body).encode())) == expected


def test_usage_that_was_not_reported_is_not_zero() -> None:
    body = b'{"type":"message","content":[],"stop_reason":"end_turn"}'
    assert not any(isinstance(event, UsageReport) for event in CODEC.decode(body))


def test_events_and_deltas_of_a_new_type_are_passed_over() -> None:
    new = {"type": "content_block_delta", "index": 0, "delta": {"type": "hologram_delta", "hologram": 1}}
    text = {"type": "text", "text": ""}
    found = content({"type": "message_flourish", "x": 1}, *block(0, text), new)
    assert found == [Warned("noted", "hologram_delta", "a part of the answer that is new to us was left out")]


@pytest.mark.parametrize(
    "frame",
    [
        b"{",
        b"[]",
        b'{"type":"content_block_delta","index":"0","delta":{"type":"text_delta","text":"x"}}',
        b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta"}}',
        b'{"type":"content_block_delta","index":7,"delta":{"type":"thinking_delta","thinking":"x"}}',
        b'{"type":"content_block_start","index":0,"content_block":{"no":"type"}}',
        b"[DONE]",
    ],
)
def test_a_frame_that_breaks_the_format_is_an_invalid_answer(frame: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        streamed(CODEC.decoder(), b"data: " + frame + b"\n\n")


@pytest.mark.parametrize(
    ("kind", "message", "error"),
    [
        ("overloaded_error", "Overloaded", UpstreamOverloaded),
        ("rate_limit_error", "slow down", UpstreamRateLimited),
        ("invalid_request_error", "no", InvalidRequest),
        ("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", ContextTooLong),
    ],
)
def test_an_error_inside_a_200_is_raised_by_its_type(kind: str, message: str, error: type[GatewayError]) -> None:
    event = {"type": "error", "error": {"type": kind, "message": message}}
    with pytest.raises(error):
        streamed(CODEC.decoder(), sse(event))
    with pytest.raises(error):
        CODEC.decode(json.dumps(event).encode())


def test_what_came_before_an_error_is_delivered_first() -> None:
    text = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Well"}}
    decoder = CODEC.decoder()
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert TextDelta("Well") in decoder.feed(sse(START, text, overloaded))
    with pytest.raises(UpstreamOverloaded):
        decoder.feed(b"")
    with pytest.raises(UpstreamOverloaded):
        decoder.finish()


@pytest.mark.parametrize("sent", [(), (START,), (START, *block(0, {"type": "text", "text": "x"})), (START, END[0])])
def test_a_stream_without_message_stop_was_cut(sent: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(UpstreamCut):
        streamed(CODEC.decoder(), sse(*sent))


def test_nothing_after_message_stop_counts() -> None:
    events = streamed(CODEC.decoder(), sse(START, *END) + b"data: [DONE]\n\n")
    assert isinstance(events[-1], Finished)


def test_a_whole_body_that_is_no_message_is_an_invalid_answer() -> None:
    for body in (b"", b"<html>", b'{"content": 3}', b'{"content": [{"type": "text"}], "type": "message"}'):
        with pytest.raises(UpstreamInvalid):
            CODEC.decode(body)
