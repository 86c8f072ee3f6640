"""The grammar of the Responses API's streams, whatever the engine's events. A whole response is one put together."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwise.api.responses.events import ResponsesStream, whole
from llmwise.domain.errors import UpstreamCut, UpstreamRateLimited
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
from llmwise.domain.requests import ChatRequest, Passthrough
from llmwise.domain.usage import TokenUsage
from llmwise.orchestration.settlement import Ledger
from llmwise.wire.proofs import Proof, unwrap, wrap

from .responses_client import assembled, read, valid
from .test_anthropic_events import Still

CARD = ModelCard("m", "p", "upstream", rate=Rate(input=1, output=2))
DONE = Finished("stop")
CITATION = {"type": "url_citation", "url": "https://a.b", "title": "t", "start_index": 0, "end_index": 1}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
LOGPROB = {"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}


def opaque(kind: str, value: object) -> OpaquePart:
    return OpaquePart("responses", kind, json.dumps(value))


def settled(events: Sequence[Event], fields: dict[str, Any] | None = None) -> Ledger:
    """The account of a request that ended well."""
    own = Passthrough("responses", {name: json.dumps(value).encode() for name, value in (fields or {}).items()})
    ledger = Ledger(
        id=RequestId("req_1"),
        key_id="k",
        request=ChatRequest("m", (Message("user", (Text("q"),)),), passthrough=own),
        plan=Plan((PlannedAttempt(CARD, "requested"),)),
        dialect="responses",
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


def streamed(
    events: Sequence[Event],
    family: Family = "responses",
    cuts: Sequence[int] = (),
    fields: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """What a caller reads when the events come in batches that end at `cuts`."""
    stream = ResponsesStream(settled(events, fields), {"m": family})
    ends = sorted({min(cut, len(events)) for cut in cuts} | {len(events)})
    out = b"".join(stream.render(events[start:end]) for start, end in zip([0, *ends], ends, strict=False))
    return read(out + stream.end())


def put_together(
    events: Sequence[Event], family: Family = "responses", fields: dict[str, Any] | None = None
) -> dict[str, Any]:
    response: dict[str, Any] = json.loads(whole(events, settled(events, fields), {"m": family}))
    return response


def kinds(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def test_a_plain_answer_has_the_grammar_of_the_documentation() -> None:
    events = streamed([Started("x", "upstream"), TextDelta("Hel"), TextDelta("lo"), DONE], cuts=[1, 2, 3])
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert assembled(events)[0]["content"][0]["text"] == "Hello"
    assert events[-1]["response"]["output"] == assembled(streamed([TextDelta("Hello"), DONE]))


EVENT = st.one_of(
    st.builds(TextDelta, st.text(min_size=1, max_size=4)),
    st.builds(RefusalDelta, st.text(min_size=1, max_size=4)),
    st.builds(ReasoningDelta, st.text(max_size=4), st.none() | st.just("sig"), block=st.integers(0, 2)),
    st.builds(ReasoningDelta, redacted=st.just("red"), block=st.integers(0, 2)),
    st.just(opaque("annotation", CITATION)),
    st.just(opaque("logprobs", [LOGPROB])),
    st.just(opaque("item", {"phase": "commentary"})),
    st.just(opaque("web_search_call", SEARCH)),
    st.just(OpaquePart("anthropic", "server_tool_use", "{}")),
    st.builds(ToolCallDelta, st.integers(0, 2), arguments=st.sampled_from(["", '{"a":', "1}", "{}"])),
)


def opened(events: list[Event]) -> list[Event]:
    """With the id and the name of each call on its first fragment."""
    seen: set[int] = set()
    out: list[Event] = []
    for event in events:
        if isinstance(event, ToolCallDelta) and event.index not in seen:
            seen.add(event.index)
            event = ToolCallDelta(event.index, f"call_{event.index}", "f", event.arguments)
        out.append(event)
    return out


@given(st.lists(EVENT, max_size=14), st.lists(st.integers(0, 15), max_size=6), st.sampled_from(["stop", "length"]))
def test_whatever_comes_the_stream_keeps_its_grammar_and_says_what_the_whole_response_says(
    events: list[Event], cuts: list[int], reason: FinishReason
) -> None:
    run: list[Event] = [
        Started("x", "upstream"),
        *opened(events),
        UsageReport(TokenUsage(5, output=2)),
        Finished(reason),
    ]
    told = streamed(run, cuts=cuts)
    for event in told:
        valid(event)
    response = told[-1]["response"]
    assert response["output"] == assembled(told)
    complete = put_together(run)
    valid(complete)
    assert complete == response
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    parts = [part for item in response["output"] if item["type"] == "message" for part in item["content"]]
    assert "".join(part.get("text", "") for part in parts) == text


def test_what_a_response_is_made_of_is_echoed() -> None:
    asked: dict[str, Any] = {
        "instructions": "Be short.",
        "temperature": 0.5,
        "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "metadata": {"a": "b"},
        "truncation": None,
    }
    response = put_together([TextDelta("x"), DONE], fields=asked)
    valid(response)
    assert response["tools"] == [
        {"type": "function", "name": "f", "parameters": None, "strict": None},
        asked["tools"][1],
    ]
    assert {name: response[name] for name in ("instructions", "temperature", "text", "metadata")} == {
        name: asked[name] for name in ("instructions", "temperature", "text", "metadata")
    }
    assert response["truncation"] == "disabled"


def test_cached_and_thought_tokens_are_inside_the_sums() -> None:
    usage = TokenUsage(10, cache_read=5, cache_write_5m=3, cache_write_1h=2, output=7, reasoning=4)
    response = put_together([TextDelta("x"), UsageReport(usage), DONE])
    assert response["usage"] == {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 5},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 27,
    }


@pytest.mark.parametrize("family", ["openai", "anthropic", "gemini", "responses"])
def test_the_proof_of_thinking_rides_in_the_encrypted_content(family: Family) -> None:
    run: list[Event] = [
        ReasoningDelta("Let me "),
        ReasoningDelta("see."),
        ReasoningDelta(signature="sig"),
        TextDelta("x"),
        DONE,
    ]
    thought, message = assembled(streamed(run, family))
    assert thought["summary"] == [{"type": "summary_text", "text": "Let me see."}]
    assert unwrap(thought["encrypted_content"]) == Proof(family, "sig")
    assert message["content"][0]["text"] == "x"


def test_what_was_changed_on_its_way_is_a_proof_of_nobodys() -> None:
    whole_proof = wrap(Proof("anthropic", "sig"))
    assert unwrap(whole_proof[:-6]) == Proof("")
    assert unwrap("gAAAA") is None
    assert unwrap(None) is None


def test_interleaved_calls_are_told_as_they_come() -> None:
    run: list[Event] = [
        ToolCallDelta(0, "a", "f", '{"x":'),
        ToolCallDelta(1, "b", "g", "{"),
        ToolCallDelta(0, arguments="1}"),
        ToolCallDelta(1, arguments="}"),
        Finished("tool_calls"),
    ]
    calls = assembled(streamed(run))
    assert [(call["call_id"], call["name"], call["arguments"]) for call in calls] == [
        ("a", "f", '{"x":1}'),
        ("b", "g", "{}"),
    ]


def test_a_calls_namespace_and_a_messages_phase_come_with_their_ends() -> None:
    run: list[Event] = [
        TextDelta("Looking."),
        opaque("item", {"phase": "commentary"}),
        ToolCallDelta(0, "a", "f", "{}"),
        opaque("item", {"call_id": "a", "namespace": "n"}),
        TextDelta("Found."),
        opaque("item", {"phase": "final_answer"}),
        DONE,
    ]
    first, call, second = assembled(streamed(run))
    assert (first["phase"], call["namespace"], second["phase"]) == ("commentary", "n", "final_answer")


def test_an_item_that_only_this_api_has_is_passed_on_whole() -> None:
    search, message = assembled(streamed([opaque("web_search_call", SEARCH), TextDelta("x"), DONE]))
    assert search == SEARCH
    assert message["content"][0]["text"] == "x"


def test_a_part_of_another_family_is_dropped_and_said_so() -> None:
    response = put_together([OpaquePart("anthropic", "server_tool_use", "{}"), TextDelta("x"), DONE])
    assert [warning["field"] for warning in response["llmwise"]["warnings"]] == ["server_tool_use"]


def test_the_id_is_the_providers_where_it_is_a_responses() -> None:
    run: list[Event] = [Started("resp_theirs", "m"), TextDelta("x"), DONE]
    assert {event["response"]["id"] for event in streamed(run) if "response" in event} == {"resp_theirs"}
    assert put_together(run)["id"] == "resp_theirs"
    assert put_together(run)["store"]
    assert not put_together(run, fields={"store": False})["store"]
    assert not put_together([TextDelta("x"), DONE], fields={"store": True})["store"]
    assert put_together([Started("chatcmpl-1", "m"), TextDelta("x"), DONE])["id"] == "resp_req_1"


@pytest.mark.parametrize(
    ("reason", "status", "why"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("unknown", "completed", None),
        ("length", "incomplete", "max_output_tokens"),
        ("content_filter", "incomplete", "content_filter"),
    ],
)
def test_every_end_has_its_status(reason: FinishReason, status: str, why: str | None) -> None:
    response = put_together([TextDelta("x"), Finished(reason)])
    assert response["status"] == status
    assert response["incomplete_details"] == (None if why is None else {"reason": why})
    assert response["output"][0]["status"] == status


@pytest.mark.parametrize(
    ("error", "code"),
    [(UpstreamCut("cut"), "server_error"), (UpstreamRateLimited("slow"), "rate_limit_exceeded")],
)
def test_a_failure_in_a_stream_is_an_error_and_a_failed_response(error: Any, code: str) -> None:
    stream = ResponsesStream(settled([]), {"m": "openai"})
    events = read(stream.render([Started("x", "m"), TextDelta("Hel")]) + stream.fail(error))
    broken, failed = events[-2:]
    for event in events:
        valid(event)
    assert (broken["type"], broken["code"], broken["message"]) == ("error", error.code, error.message)
    assert broken["error"]["code"] == error.code
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"] == {"code": code, "message": error.message}
    assert msgspec.json.encode(failed)
