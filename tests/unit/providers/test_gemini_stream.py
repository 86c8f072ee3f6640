"""Gemini's answers to events: recorded ones first, then each rule by itself."""

import json
from typing import Any

import pytest

from llmwise.domain.errors import (
    GatewayError,
    UpstreamCut,
    UpstreamInvalid,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamServerError,
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
from llmwise.providers.gemini import CODEC

from .recorded import Case, cases, read, rendered, streamed

CASES = cases("gemini")


def chunk(*parts: dict[str, Any], finish: str | None = None, **rest: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "responseId": "r1", "modelVersion": "gemini-3-flash", **rest}


def stream(*chunks: dict[str, Any]) -> list[AttemptEvent]:
    return streamed(CODEC.decoder(), b"".join(b"data: %b\r\n\r\n" % json.dumps(c).encode() for c in chunks))


def said(*parts: dict[str, Any]) -> list[AttemptEvent]:
    """What is said between start and end, in one chunk."""
    found = stream(chunk(*parts, finish="STOP"))
    return [event for event in found if not isinstance(event, Started | Finished)]


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_answer_becomes_its_events(name: str) -> None:
    assert rendered(read(CODEC, CASES[name])) == CASES[name].events


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.stream], ids=lambda case: case.folder.name)
def test_a_recorded_stream_says_the_same_byte_by_byte(case: Case) -> None:
    bytewise = streamed(CODEC.decoder(), *(case.response[i : i + 1] for i in range(len(case.response))))
    assert bytewise == read(CODEC, case)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"),
        ("BLOCKLIST", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"),
        ("MODEL_ARMOR", "content_filter"),
        ("MALFORMED_FUNCTION_CALL", "unknown"),
        ("UNEXPECTED_TOOL_CALL", "unknown"),
        ("OTHER", "unknown"),
        ("SOMETHING_NEW", "unknown"),
    ],
)
def test_each_finish_reason_has_its_meaning_and_an_unknown_one_a_warning(raw: str, reason: str) -> None:
    events = stream(chunk(finish=raw))
    assert events[-1] == Finished(reason, raw)  # type: ignore[arg-type]  # the table's words
    assert any(isinstance(event, Warned) for event in events) == (reason == "unknown")


def test_a_blocked_prompt_is_the_content_filter_whatever_the_reason_is_called() -> None:
    events = stream({"promptFeedback": {"blockReason": "SOMETHING_NEW"}, "responseId": "r"})
    assert events[-1] == Finished("content_filter", "SOMETHING_NEW")


def test_calls_of_the_same_name_without_ids_are_told_apart() -> None:
    call = {"functionCall": {"name": "roll", "args": {"sides": 6}}}
    calls = [event for event in said(call, call) if isinstance(event, ToolCallDelta)]
    assert [call.index for call in calls] == [0, 1]
    assert len({call.id for call in calls}) == 2
    assert {call.arguments for call in calls} == {'{"sides": 6}'}


def test_calls_in_several_chunks_keep_their_numbers() -> None:
    call = {"functionCall": {"name": "roll"}}
    events = stream(chunk(call), chunk(call, finish="STOP"))
    assert [event.index for event in events if isinstance(event, ToolCallDelta)] == [0, 1]
    assert events[-1] == Finished("tool_calls", "STOP")


def test_minted_ids_are_the_same_on_each_reading_and_differ_between_answers() -> None:
    call = {"functionCall": {"name": "roll", "args": {}}}

    def ids(answer: dict[str, Any]) -> list[str | None]:
        return [event.id for event in stream(answer) if isinstance(event, ToolCallDelta)]

    first = chunk(call, finish="STOP")
    assert ids(first) == ids(first)
    assert ids(first) != ids(first | {"responseId": "r2"})
    nameless = {key: value for key, value in first.items() if key != "responseId"}
    assert ids(nameless) == ids(nameless)
    assert ids(nameless) != ids(nameless | {"usageMetadata": {"promptTokenCount": 9}})


def test_an_id_that_the_model_gave_is_kept() -> None:
    [call] = said({"functionCall": {"name": "roll", "id": "abc"}, "thoughtSignature": "sig"})
    assert call == ToolCallDelta(0, "abc", "roll", "{}", "sig")


def test_a_call_after_the_finish_reason_still_makes_it_tool_calls() -> None:
    events = stream(chunk({"text": "x"}, finish="STOP"), chunk({"functionCall": {"name": "f"}}))
    assert events[-1] == Finished("tool_calls", "STOP")


def test_a_length_limit_stays_one_although_there_are_calls() -> None:
    assert stream(chunk({"functionCall": {"name": "f"}}, finish="MAX_TOKENS"))[-1] == Finished("length", "MAX_TOKENS")


def test_thoughts_are_apart_from_the_text_and_a_signature_on_text_is_kept() -> None:
    thought = {"text": "Hm", "thought": True}
    assert said(thought, {"text": "Hi"}, {"text": "", "thoughtSignature": "s"}, thought) == [
        ReasoningDelta("Hm"),
        TextDelta("Hi"),
        ReasoningDelta(signature="s", block=1),
        ReasoningDelta("Hm", block=2),
    ]


def test_thoughts_in_several_chunks_are_one_block() -> None:
    thought = chunk({"text": "Hm", "thought": True})
    found = stream(thought, thought, chunk(finish="STOP"))
    assert [event.block for event in found if isinstance(event, ReasoningDelta)] == [0, 0]


def test_a_part_of_an_unknown_kind_is_kept_raw() -> None:
    part = {"hologram": {"x": 1}, "thoughtSignature": "s"}
    assert said(part) == [OpaquePart("gemini", "hologram", json.dumps(part))]


def test_other_candidates_are_not_mixed_in() -> None:
    answer = chunk({"text": "one"}, finish="STOP")
    answer["candidates"].append({"index": 1, "content": {"parts": [{"text": "two"}]}, "finishReason": "SAFETY"})
    assert [event for event in stream(answer) if isinstance(event, TextDelta)] == [TextDelta("one")]


def test_tokens_go_to_disjoint_buckets_that_add_up_to_the_total() -> None:
    counts = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 60,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "toolUsePromptTokenCount": 7,
        "totalTokenCount": 157,
    }
    [report] = [e for e in stream(chunk(finish="STOP", usageMetadata=counts)) if isinstance(e, UsageReport)]
    assert report.usage == TokenUsage(input=47, cache_read=60, output=50, reasoning=30)
    assert report.usage.total == counts["totalTokenCount"]


def test_usage_that_counts_nothing_is_not_zero() -> None:
    events = stream(chunk(finish="STOP", usageMetadata={"trafficType": "ON_DEMAND"}))
    assert not any(isinstance(event, UsageReport) for event in events)


@pytest.mark.parametrize("chunks", [(), (chunk({"text": "x"}),), ({"usageMetadata": {"promptTokenCount": 1}},)])
def test_a_stream_without_a_finish_reason_was_cut(chunks: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(UpstreamCut):
        stream(*chunks)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", json.dumps(chunk({"text": "x"})).encode()])
def test_a_whole_body_without_an_end_is_an_invalid_answer(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        CODEC.decode(body)


@pytest.mark.parametrize(
    "frame", [b"{", b'{"candidates": 3}', b'{"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]}']
)
def test_a_frame_that_breaks_the_format_is_an_invalid_answer(frame: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        streamed(CODEC.decoder(), b"data: " + frame + b"\n\n")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("UNAVAILABLE", UpstreamOverloaded),
        ("RESOURCE_EXHAUSTED", UpstreamRateLimited),
        ("INTERNAL", UpstreamServerError),
    ],
)
def test_an_error_inside_a_200_is_raised_by_its_status(status: str, error: type[GatewayError]) -> None:
    with pytest.raises(error):
        stream({"error": {"code": 0, "message": "no", "status": status}})


def test_what_came_before_an_error_is_delivered_first() -> None:
    decoder = CODEC.decoder()
    frames = (chunk({"text": "Well"}), {"error": {"code": 503, "message": "no", "status": "UNAVAILABLE"}})
    events = decoder.feed(b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in frames))
    assert TextDelta("Well") in events
    with pytest.raises(UpstreamOverloaded):
        decoder.finish()
