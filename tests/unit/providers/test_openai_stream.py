"""Answers of the OpenAI format to events: recorded answers first, then what the documents and bug reports tell of."""

import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from llmwise.domain import errors
from llmwise.domain.errors import GatewayError, UpstreamCut, UpstreamInvalid, UpstreamServerError
from llmwise.domain.events import (
    AttemptEvent,
    Finished,
    OpaquePart,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    UsageReport,
    Warned,
)
from llmwise.domain.usage import TokenUsage
from llmwise.providers.failures import from_response
from llmwise.providers.openai import OpenAICodec

GOLDEN = Path(__file__).parents[2] / "golden" / "openai"
CASES = sorted(case.name for case in GOLDEN.iterdir())
DONE = "data: [DONE]\n\n"


class NoHeaders:
    def get(self, name: str, /) -> None:
        return None


def streamed(stream: bytes, cuts: list[int]) -> list[AttemptEvent]:
    """The events, with the failure that ended them, if any, as the last one's `Warned`."""
    decoder = OpenAICodec().decoder()
    events: list[AttemptEvent] = []
    start = 0
    try:
        for cut in [*cuts, len(stream)]:
            events += decoder.feed(stream[start:cut])
            start = cut
        events += decoder.finish()
    except GatewayError as error:
        events.append(Warned("failure", type(error).__name__, error.message))
    return events


def chunks(*parts: dict[str, Any] | str) -> list[AttemptEvent]:
    """The events of a stream of these chunks; a plain dict is a delta of choice 0 unless it has `choices`."""
    frames = []
    for part in parts:
        if isinstance(part, str):
            frames.append(part)
            continue
        chunk = part if part.keys() & {"choices", "usage", "error"} else {"choices": [{"index": 0, "delta": part}]}
        frames.append(f"data: {json.dumps(chunk)}\n\n")
    return streamed("".join(frames).encode(), [])


def end(reason: str | None = "stop", **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def calls(events: list[AttemptEvent]) -> list[dict[str, str | None]]:
    found: dict[int, dict[str, Any]] = {}
    for event in events:
        if type(event) is ToolCallDelta:
            call = found.setdefault(event.index, {"id": event.id, "name": event.name, "arguments": ""})
            call["arguments"] += event.arguments
    return list(found.values())


def failure(events: list[AttemptEvent]) -> str | None:
    last = events[-1]
    return last.field if type(last) is Warned and last.code == "failure" else None


# --- recorded answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_answer_gives_what_was_recorded(name: str) -> None:
    case = GOLDEN / name
    meta = tomllib.loads((case / "meta.toml").read_text())
    expect = meta["expect"]
    stream = case / "response.sse"
    if meta["status"] != 200:
        body = (case / "response.json").read_bytes()
        error = from_response(meta["status"], NoHeaders(), body, provider=meta["vendor"])
        assert type(error) is getattr(errors, expect["error"])
        return
    if stream.exists():
        events = streamed(stream.read_bytes(), [])
        assert failure(events) == expect.get("error")
    else:
        events = OpenAICodec().decode((case / "response.json").read_bytes())
    assert "".join(event.text for event in events if type(event) is TextDelta) == expect["text"]
    assert "".join(event.text for event in events if type(event) is ReasoningDelta) == expect["reasoning"]
    assert calls(events) == expect.get("tool_calls", [])
    assert [event.raw for event in events if type(event) is Finished] == (
        [expect["finish"]] if "finish" in expect else []
    )
    usage = [event.usage for event in events if type(event) is UsageReport]
    if "prompt_tokens" in expect:
        assert usage[-1] == TokenUsage(
            input=expect["prompt_tokens"] - expect["cache_read"] - expect["cache_write"],
            cache_read=expect["cache_read"],
            cache_write_5m=expect["cache_write"],
            output=expect["completion_tokens"],
            reasoning=expect["reasoning_tokens"],
        )


@pytest.mark.parametrize("name", [name for name in CASES if (GOLDEN / name / "response.sse").exists()])
def test_a_recorded_stream_may_be_cut_anywhere(name: str) -> None:
    stream = (GOLDEN / name / "response.sse").read_bytes()
    whole = streamed(stream, [])
    assert streamed(stream, list(range(1, len(stream)))) == whole
    rng = random.Random(name)
    for _ in range(20):
        assert streamed(stream, sorted(rng.sample(range(len(stream)), 15))) == whole


# --- the end ----------------------------------------------------------------------------------------------------------


def test_finished_comes_last_and_after_the_usage() -> None:
    events = chunks(
        {"content": "a"}, end(), {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}, DONE
    )
    assert events == [TextDelta("a"), UsageReport(TokenUsage(3, output=1)), Finished("stop", "stop")]


def test_text_after_the_reason_to_stop_is_not_lost() -> None:
    assert chunks(end(), {"content": "late"}, DONE) == [TextDelta("late"), Finished("stop", "stop")]


def test_a_reason_without_done_is_a_complete_answer() -> None:
    assert chunks({"content": "a"}, end()) == [TextDelta("a"), Finished("stop", "stop")]


def test_done_without_a_reason_is_complete_and_warned_about() -> None:
    first, warned, last = chunks({"content": "a"}, DONE)
    assert first == TextDelta("a")
    assert type(warned) is Warned
    assert warned.field == "finish_reason"
    assert last == Finished("unknown", None)


def test_neither_is_a_cut() -> None:
    assert failure(chunks({"content": "a"})) == "UpstreamCut"


@pytest.mark.parametrize("stream", ["", DONE, ": ping\n\n", 'data: {"choices":[]}\n\n' + DONE])
def test_nothing_at_all_is_a_cut(stream: str) -> None:
    assert failure(streamed(stream.encode(), [])) == "UpstreamCut"


def test_what_follows_done_does_not_count() -> None:
    assert chunks({"content": "a"}, end(), DONE, {"content": "b"})[-1] == Finished("stop", "stop")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("sensitive", "content_filter"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("eos", "stop"),
    ],
)
def test_reasons_to_stop_are_a_table(raw: str, reason: str) -> None:
    last = chunks({"content": "a"}, end(raw))[-1]
    assert type(last) is Finished
    assert (last.reason, last.raw) == (reason, raw)


def test_an_unknown_reason_is_unknown_and_never_a_silent_stop() -> None:
    _, warned, last = chunks({"content": "a"}, end("galactic"))
    assert type(warned) is Warned
    assert "galactic" in warned.message
    assert last == Finished("unknown", "galactic")


def test_an_empty_reason_is_none() -> None:
    assert failure(chunks({"content": "a"}, end(""))) == "UpstreamCut"


def test_stop_with_a_tool_call_is_tool_calls() -> None:
    call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
    assert chunks({"tool_calls": [call]}, end("stop"))[-1] == Finished("tool_calls", "stop")


# --- failures inside a 200 --------------------------------------------------------------------------------------------


def test_an_error_object_ends_the_answer_behind_what_was_said() -> None:
    events = chunks({"content": "a"}, {"error": {"code": 429, "message": "slow down"}})
    assert events[0] == TextDelta("a")
    assert failure(events) == "UpstreamRateLimited"


def test_an_error_after_the_reason_to_stop_is_an_error() -> None:
    events = chunks({"content": "a"}, end(), {"error": {"message": "x", "type": "server_error"}}, DONE)
    assert failure(events) == "UpstreamServerError"
    assert Finished not in {type(event) for event in events}


@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource", "abort"])
def test_a_broken_off_answer_is_an_error(reason: str) -> None:
    assert failure(chunks({"content": "a"}, end(reason), DONE)) == "UpstreamServerError"


def test_an_error_of_the_choice_is_an_error() -> None:
    choice = {"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "gone"}}
    assert failure(chunks({"content": "a"}, {"choices": [choice]})) == "UpstreamServerError"


def test_an_error_without_an_error_object_is_seen() -> None:
    with pytest.raises(UpstreamServerError):
        OpenAICodec().decode(b'{"object": "error", "message": "CUDA out of memory", "type": "internal_error"}')


@pytest.mark.parametrize("junk", ["data: {\n\n", "data: <html>\n\n", "data: []\n\n", 'data: {"choices": 7}\n\n'])
def test_a_junk_frame_is_an_invalid_answer(junk: str) -> None:
    events = chunks({"content": "a"}, junk, end(), DONE)
    assert events[0] == TextDelta("a")
    assert failure(events) == "UpstreamInvalid"


def test_the_same_failure_is_raised_again() -> None:
    decoder = OpenAICodec().decoder()
    for _ in range(2):
        with pytest.raises(UpstreamInvalid):
            decoder.feed(b"data: {\n\n")
    with pytest.raises(UpstreamInvalid):
        decoder.finish()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"choices": []}',
        b'{"choices": null}',
        b"<html>",
        b"[]",
        b'{"id": "\xff", "choices": []}',
        b'{"error": ' + b"[" * 100_000,
    ],
)
def test_a_body_without_an_answer_is_invalid(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        OpenAICodec().decode(body)


# --- tool calls -------------------------------------------------------------------------------------------------------


def test_fragments_of_parallel_calls_are_told_apart() -> None:
    events = chunks(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
        end("tool_calls"),
    )
    assert calls(events) == [
        {"id": "a", "name": "f", "arguments": '{"x":1}'},
        {"id": "b", "name": "g", "arguments": "{}"},
    ]
    assert [event.id for event in events if type(event) is ToolCallDelta] == ["a", None, "b", None]


def test_empty_tool_calls_beside_text_open_nothing() -> None:
    assert chunks({"content": "a", "tool_calls": []}, end()) == [TextDelta("a"), Finished("stop", "stop")]


def test_repeated_names_and_ids_are_said_once() -> None:
    same = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}}
    events = chunks({"tool_calls": [same]}, {"tool_calls": [same]}, end())
    assert calls(events) == [{"id": "a", "name": "f", "arguments": "11"}]


def test_an_id_that_changes_without_a_name_is_the_same_call() -> None:
    events = chunks(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}}]},
        {"tool_calls": [{"index": 0, "id": "b", "function": {"arguments": "2"}}]},
        end(),
    )
    assert calls(events) == [{"id": "a", "name": "f", "arguments": "12"}]


def test_parallel_calls_of_one_index_are_two() -> None:
    events = chunks(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "id": "b", "function": {"name": "f", "arguments": "{}"}}]},
        end(),
    )
    assert [call["id"] for call in calls(events)] == ["a", "b"]


def test_a_missing_index_is_made_up_from_ids_and_names() -> None:
    events = chunks(
        {"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "1"}}]},
        {"tool_calls": [{"function": {"arguments": "2"}}]},
        {"tool_calls": [{"id": "b", "function": {"name": "g", "arguments": "3"}}]},
        {"tool_calls": [{"id": "a", "function": {"arguments": "4"}}]},
        end(),
    )
    assert calls(events) == [
        {"id": "a", "name": "f", "arguments": "124"},
        {"id": "b", "name": "g", "arguments": "3"},
    ]


def test_a_call_without_an_id_gets_one_that_lasts() -> None:
    parts = ({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, end())
    (call,) = calls(chunks(*parts))
    assert call["id"] is not None
    assert call["id"].startswith("call_")
    assert calls(chunks(*parts)) == [call]


def test_fragments_before_the_name_are_held() -> None:
    events = chunks(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "1"}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "2"}}]},
        end(),
    )
    assert calls(events) == [{"id": "a", "name": "f", "arguments": "12"}]


def test_a_call_that_never_gets_a_name_is_invalid() -> None:
    assert failure(chunks({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "1"}}]}, end())) == (
        "UpstreamInvalid"
    )


def test_arguments_as_an_object_become_text_and_missing_ones_an_empty_object() -> None:
    events = chunks(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}}]},
        {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g"}}]},
        end(),
    )
    assert [call["arguments"] for call in calls(events)] == ['{"x":1}', "{}"]


def test_invalid_arguments_are_kept_as_they_are() -> None:
    events = chunks({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{oops"}}]}, end())
    assert calls(events)[0]["arguments"] == "{oops"


# --- thinking, refusals and the rest ----------------------------------------------------------------------------------


def test_thinking_under_two_names_is_said_once() -> None:
    events = chunks({"reasoning": "hm", "reasoning_content": "hm"}, {"content": "a"}, end())
    assert events[:2] == [ReasoningDelta("hm"), TextDelta("a")]


def test_the_details_of_thinking_carry_their_proof() -> None:
    detail = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    events = chunks(
        {"reasoning": "hm", "reasoning_details": [{**detail, "text": "hm"}]},
        {"reasoning_details": [{**detail, "signature": "S"}]},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "E", "id": "rs_1", "index": 1}]},
        end(),
    )
    assert events[0] == ReasoningDelta("hm", block=0)
    signed, sealed = events[1], events[2]
    assert type(signed) is type(sealed) is ReasoningDelta
    assert json.loads(signed.signature or "") == {**detail, "signature": "S"}
    assert json.loads(sealed.redacted or "") == {
        "type": "reasoning.encrypted",
        "data": "E",
        "id": "rs_1",
        "index": 1,
    }
    assert (signed.block, sealed.block) == (0, 1)


def test_a_refusal_is_kept_apart_from_text() -> None:
    assert chunks({"refusal": "I can't"}, end())[0] == RefusalDelta("I can't")


def test_what_only_this_family_understands_is_passed_on_whole() -> None:
    citation = [{"type": "url_citation", "url_citation": {"url": "https://example.org"}}]
    event = chunks({"content": "", "annotations": citation}, end())[0]
    assert type(event) is OpaquePart
    assert (event.family, event.kind, json.loads(event.json)) == ("openai", "annotations", citation)


def test_other_choices_are_left_out_with_one_warning() -> None:
    two = {"choices": [{"index": i, "delta": {"content": str(i)}} for i in (0, 1, 2)]}
    events = chunks(two, two, end())
    assert [event.text for event in events if type(event) is TextDelta] == ["0", "0"]
    assert [event.field for event in events if type(event) is Warned] == ["n"]


def test_started_comes_once_with_the_answered_model() -> None:
    chunk = {"id": "chatcmpl-1", "model": "gpt-4o-2024-08-06", **end()}
    assert chunks(chunk, chunk)[0] == Started("chatcmpl-1", "gpt-4o-2024-08-06")


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, TokenUsage(10, output=5)),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}},
            TokenUsage(6, cache_read=4, output=5),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6},
            TokenUsage(6, cache_read=4, output=5),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 5, "num_cached_tokens": 4}, TokenUsage(6, cache_read=4, output=5)),
        ({"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 4}, TokenUsage(6, cache_read=4, output=5)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 9, "cache_write_tokens": 9},
            },
            TokenUsage(0, cache_read=9, cache_write_5m=1, output=5),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 15,
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            TokenUsage(10, output=5, reasoning=3),
        ),
        (  # xAI counts thinking beside the completion
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 115,
                "completion_tokens_details": {"reasoning_tokens": 100},
            },
            TokenUsage(10, output=105, reasoning=100),
        ),
        ({"prompt_tokens": 0, "completion_tokens": 0, "prompt_tokens_details": None}, TokenUsage()),
    ],
)
def test_tokens_fall_into_disjoint_buckets(usage: dict[str, Any], tokens: TokenUsage) -> None:
    assert UsageReport(tokens) in chunks(end(), {"choices": [], "usage": usage}, DONE)


def test_usage_is_found_where_vendors_hide_it() -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 5}
    moonshot = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": counts}]}
    groq = {**end(), "x_groq": {"id": "req_1", "usage": counts}}
    for chunk in (moonshot, groq):
        assert chunks(chunk)[0] == UsageReport(TokenUsage(10, output=5))


def test_no_counts_are_no_usage() -> None:
    assert chunks(end(), {"choices": [], "usage": {}}, DONE) == [Finished("stop", "stop")]


def test_a_held_back_failure_comes_at_the_next_call() -> None:
    decoder = OpenAICodec().decoder()
    assert decoder.feed(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {\n\n') == [TextDelta("a")]
    with pytest.raises(UpstreamInvalid):
        decoder.feed(b"")


def test_a_whole_answer_without_a_reason_is_unknown_and_not_cut() -> None:
    events = OpenAICodec().decode(b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]}')
    assert events[0] == TextDelta("a")
    assert events[-1] == Finished("unknown", None)


def test_the_body_of_a_stream_is_cut_if_it_ends_inside_a_frame() -> None:
    decoder = OpenAICodec().decoder()
    decoder.feed(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choices":[{"del')
    with pytest.raises((UpstreamCut, UpstreamInvalid)):
        decoder.finish()
