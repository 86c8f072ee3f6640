"""Answers of the Responses API to events: recorded answers first, then what the documentation tells of."""

import json
import random
from typing import Any

import pytest

from llmwise.domain.errors import (
    ContextTooLong,
    GatewayError,
    InvalidRequest,
    UpstreamCut,
    UpstreamInvalid,
    UpstreamRateLimited,
    UpstreamServerError,
)
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
from llmwise.domain.usage import MOST_TOKENS, TokenUsage
from llmwise.providers.responses import CODEC

from .recorded import Case, cases, read, rendered, streamed

CASES = cases("openai-responses")
MESSAGE = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"x":1}'}


@pytest.mark.parametrize("name", CASES)
def test_a_recorded_answer_is_read_as_before(name: str) -> None:
    assert rendered(read(CODEC, CASES[name])) == CASES[name].events


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.stream])
def test_a_recorded_stream_is_read_the_same_however_it_was_cut(name: str) -> None:
    body = CASES[name].response
    events = streamed(CODEC.decoder(), body)
    assert streamed(CODEC.decoder(), *(body[i : i + 1] for i in range(len(body)))) == events
    chance = random.Random(1)
    for _ in range(20):
        cuts = sorted(chance.randrange(len(body)) for _ in range(chance.randrange(40)))
        reads = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        assert streamed(CODEC.decoder(), *reads) == events


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.stream])
def test_a_recorded_stream_without_its_end_is_cut(name: str) -> None:
    body = CASES[name].response
    with pytest.raises(UpstreamCut):
        streamed(CODEC.decoder(), body[: body.rindex(b'data: {"type":"response.completed"')])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.stream])
def test_a_recorded_stream_says_what_its_own_last_response_says(name: str) -> None:
    case: Case = CASES[name]
    frames = [line[6:] for line in case.response.decode().splitlines() if line.startswith("data: {")]
    final = json.loads(frames[-1])["response"]
    assert said(streamed(CODEC.decoder(), case.response)) == said(CODEC.decode(json.dumps(final).encode()))


def said(events: list[AttemptEvent]) -> dict[str, Any]:
    """What an answer amounts to, without the proofs of thinking, which OpenAI encrypts anew each time it says them."""
    calls: dict[int, str] = {}
    for event in events:
        if isinstance(event, ToolCallDelta):
            calls[event.index] = calls.get(event.index, "") + f"{event.id or ''}{event.name or ''}{event.arguments}"
    return {
        "text": "".join(event.text for event in events if isinstance(event, TextDelta)),
        "thought": "".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        "calls": calls,
        "opaque": [(event.kind, json.loads(event.json)) for event in events if isinstance(event, OpaquePart)],
        "usage": next(event.usage for event in events if isinstance(event, UsageReport)),
        "end": events[-1],
    }


def event(kind: str, **fields: Any) -> bytes:
    return b"data: " + json.dumps({"type": f"response.{kind}", **fields}).encode() + b"\n\n"


def response(*output: dict[str, Any], status: str = "completed", **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "model": "m", "status": status, "output": list(output), **fields}


def whole(*output: dict[str, Any], **fields: Any) -> list[AttemptEvent]:
    return CODEC.decode(json.dumps(response(*output, **fields)).encode())


def text(text: str, **fields: Any) -> dict[str, Any]:
    return MESSAGE | {"content": [{"type": "output_text", "text": text, "annotations": [], **fields}]}


def test_a_server_that_streams_only_whole_items_loses_nothing() -> None:
    stream = event("output_item.done", output_index=0, item=text("Hello"))
    stream += event("output_item.done", output_index=1, item=CALL)
    stream += event("completed", response=response(text("Hello"), CALL))
    assert streamed(CODEC.decoder(), stream) == [
        TextDelta("Hello"),
        ToolCallDelta(0, "call_1", "f"),
        ToolCallDelta(0, arguments='{"x":1}'),
        Started("resp_1", "m"),
        Finished("tool_calls", "completed"),
    ]


def test_a_server_that_streams_only_the_end_loses_nothing() -> None:
    stream = event("created", response=response(status="in_progress")) + event(
        "completed", response=response(text("Hello"))
    )
    assert streamed(CODEC.decoder(), stream) == [
        Started("resp_1", "m"),
        TextDelta("Hello"),
        Finished("stop", "completed"),
    ]


def test_what_the_deltas_left_out_is_made_up_for_at_the_end_of_the_item() -> None:
    stream = event("output_item.added", output_index=0, item=MESSAGE | {"content": []})
    stream += event("output_text.delta", output_index=0, content_index=0, delta="Hel")
    stream += event("output_item.done", output_index=0, item=text("Hello"))
    stream += event("completed", response=response())
    assert [e.text for e in streamed(CODEC.decoder(), stream) if isinstance(e, TextDelta)] == ["Hel", "lo"]


def test_text_without_an_announcement_is_text() -> None:
    stream = event("output_text.delta", output_index=0, content_index=0, delta="Hello")
    stream += event("completed", response=response(text("Hello")))
    assert [e.text for e in streamed(CODEC.decoder(), stream) if isinstance(e, TextDelta)] == ["Hello"]


def test_parts_of_one_thought_are_paragraphs_and_its_proof_is_the_item() -> None:
    item = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "First."}, {"type": "summary_text", "text": "Second."}],
        "encrypted_content": "gAAAA",
    }
    events = [e for e in whole(item, text("x")) if isinstance(e, ReasoningDelta)]
    assert "".join(e.text for e in events) == "First.\n\nSecond."
    assert json.loads(events[-1].signature or "") == item
    (bare,) = [e for e in whole(item | {"summary": []}) if isinstance(e, ReasoningDelta)]
    assert (bare.text, json.loads(bare.redacted or "")) == ("", item | {"summary": []})


def test_a_refusal_is_kept_apart_from_text() -> None:
    refused = MESSAGE | {"content": [{"type": "refusal", "refusal": "No."}]}
    assert RefusalDelta("No.") in whole(refused)


def test_a_phase_a_namespace_and_logprobs_follow_what_they_belong_to() -> None:
    logprobs = [{"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}]
    events = whole(text("x", logprobs=logprobs) | {"phase": "commentary"}, CALL | {"namespace": "n"})
    assert [(e.kind, json.loads(e.json)) for e in events if isinstance(e, OpaquePart)] == [
        ("logprobs", logprobs),
        ("item", {"phase": "commentary"}),
        ("item", {"call_id": "call_1", "namespace": "n"}),
    ]


def test_a_call_without_arguments_has_empty_ones() -> None:
    assert ToolCallDelta(0, arguments="{}") in whole(CALL | {"arguments": ""})


def test_cached_written_and_thought_tokens_are_taken_out_of_the_sums() -> None:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 40},
    }
    assert UsageReport(TokenUsage(50, 30, 20, 0, 50, 40)) in whole(text("x"), usage=usage)
    absurd = {"input_tokens": 2**70, "output_tokens": -1}
    assert UsageReport(TokenUsage(MOST_TOKENS)) in whole(text("x"), usage=absurd)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": {"reason": "boredom"}}, "unknown"),
        ({"status": "done"}, "unknown"),
    ],
)
def test_every_end_has_its_reason_and_an_unknown_one_a_warning(fields: dict[str, Any], reason: str) -> None:
    *_, before, last = whole(text("x"), **fields)
    assert isinstance(last, Finished)
    assert last.reason == reason
    assert isinstance(before, Warned) == (reason == "unknown")


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
def test_a_response_that_is_no_answer_is_none(status: str) -> None:
    with pytest.raises(UpstreamInvalid, match=status):
        whole(status=status)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ({"code": "server_error", "message": "Sorry."}, UpstreamServerError),
        ({"code": "rate_limit_exceeded", "message": "Slow down."}, UpstreamRateLimited),
        ({"code": "invalid_image_url", "message": "No image."}, InvalidRequest),
        ({"code": "context_length_exceeded", "message": "Too long."}, ContextTooLong),
        (None, UpstreamServerError),
    ],
)
def test_a_failure_means_the_same_in_every_place_where_it_is_told(
    error: dict[str, Any] | None, raised: type[GatewayError]
) -> None:
    failed = response(status="failed", error=error)
    with pytest.raises(raised):
        CODEC.decode(json.dumps(failed).encode())
    with pytest.raises(raised):
        streamed(CODEC.decoder(), event("failed", response=failed))
    if error is not None:
        flat = json.dumps({"type": "error", **error, "param": None, "sequence_number": 3}).encode()
        nested = json.dumps({"type": "error", "error": {"type": "error", **error}}).encode()
        for data in (flat, nested):
            with pytest.raises(raised):
                streamed(CODEC.decoder(), b"event: error\ndata: " + data + b"\n\n")


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {\n\n",
        b"data: 7\n\n",
        event("output_item.added", output_index=0, item={"id": "x"}),
        event("output_item.added", output_index=0, item={"type": "function_call", "call_id": "a"}),
        event("output_item.added", output_index=0, item=CALL) * 2,
        event("function_call_arguments.delta", output_index=0, delta="{}"),
        event("output_text.delta", output_index=0, delta={}),
        event("output_item.added", output_index=0, item=CALL) + event("completed", response=response()),
        event("completed"),
    ],
)
def test_what_is_not_the_documented_stream_is_invalid(stream: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        streamed(CODEC.decoder(), stream)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"output": 1}', b'{"output": [{}]}', b'{"output": [{"type": 1}]}']
)
def test_what_is_not_a_response_is_invalid(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        CODEC.decode(body)
