"""Laws of the Responses decoder: cuts don't matter, the grammar of events holds, a cut answer is never a clean one,
and thinking goes back as the very item that it came as."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmwise.domain.errors import GatewayError, UpstreamCut
from llmwise.domain.events import (
    AttemptEvent,
    Finished,
    OpaquePart,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)
from llmwise.domain.messages import Message, Opaque, Part, Reasoning, Text, ToolCall
from llmwise.domain.models import ModelCard
from llmwise.domain.requests import ChatRequest
from llmwise.providers.responses import CODEC

TARGET = ModelCard("m", "p", "gpt-5")
TEXT = st.text(min_size=1, max_size=8)
PART = st.one_of(
    st.builds(lambda text: {"type": "output_text", "text": text, "annotations": []}, TEXT),
    st.builds(lambda text: {"type": "refusal", "refusal": text}, TEXT),
)
ITEM = st.one_of(
    st.builds(
        lambda parts: {"type": "message", "id": "msg", "role": "assistant", "content": parts, "status": "completed"},
        st.lists(PART, min_size=1, max_size=2),
    ),
    st.builds(
        lambda name, arguments: {"type": "function_call", "call_id": f"c{name}", "name": name, "arguments": arguments},
        st.sampled_from("fgh"),
        TEXT,
    ),
    st.builds(
        lambda texts, secret: {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": text} for text in texts],
            "encrypted_content": secret,
        },
        st.lists(TEXT, max_size=2),
        st.none() | TEXT,
    ),
    st.just({"type": "web_search_call", "id": "ws", "status": "completed"}),
)


def framed(items: list[dict[str, Any]], terminal: bool) -> bytes:
    """The items as OpenAI streams them, each text in pieces of two characters."""
    frames: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": "resp_1", "model": "m"}}]
    for index, item in enumerate(items):
        bare = item | {name: [] for name in ("content", "summary") if name in item}
        bare |= {"arguments": ""} if "arguments" in item else {}
        frames.append({"type": "response.output_item.added", "output_index": index, "item": bare})
        for kind, place, text in parts(item):
            for start in range(0, len(text), 2):
                delta = {"output_index": index, "delta": text[start : start + 2], **place}
                frames.append({"type": f"response.{kind}.delta", **delta})
        frames.append({"type": "response.output_item.done", "output_index": index, "item": item})
    if terminal:
        response = {"id": "resp_1", "model": "m", "status": "completed", "output": items}
        frames.append({"type": "response.completed", "response": response})
    return b"".join(b"data: " + json.dumps(frame, ensure_ascii=False).encode() + b"\n\n" for frame in frames)


def parts(item: dict[str, Any]) -> list[tuple[str, dict[str, int], str]]:
    match item["type"]:
        case "message":
            return [
                (
                    "output_text" if "text" in part else "refusal",
                    {"content_index": i},
                    part.get("text") or part["refusal"],
                )
                for i, part in enumerate(item["content"])
            ]
        case "reasoning":
            return [
                ("reasoning_summary_text", {"summary_index": i}, part["text"]) for i, part in enumerate(item["summary"])
            ]
        case "function_call":
            return [("function_call_arguments", {}, item["arguments"])]
        case _:
            return []


def decoded(stream: bytes, cuts: list[int]) -> tuple[list[AttemptEvent], str | None]:
    decoder = CODEC.decoder()
    events: list[AttemptEvent] = []
    ends = sorted({min(cut, len(stream)) for cut in cuts} | {len(stream)})
    try:
        for start, end in zip([0, *ends], ends, strict=False):
            events += decoder.feed(stream[start:end])
        events += decoder.finish()
    except GatewayError as error:
        return events, f"{type(error).__name__}: {error.message}"
    return events, None


@given(st.lists(ITEM, max_size=5), st.booleans(), st.lists(st.integers(0, 4000), max_size=40))
def test_events_do_not_depend_on_how_the_bytes_were_cut(
    items: list[dict[str, Any]], terminal: bool, cuts: list[int]
) -> None:
    stream = framed(items, terminal)
    events, failure = decoded(stream, [])
    assert decoded(stream, cuts) == (events, failure)
    assert (failure is None) == terminal
    if not terminal:
        assert failure is not None
        assert failure.startswith(UpstreamCut.__name__)
    assert [isinstance(event, Finished) for event in events] == [False] * (len(events) - terminal) + [True] * terminal
    assert isinstance(events[0], Started)


@given(st.lists(ITEM, max_size=5))
def test_a_stream_says_what_the_whole_answer_says(items: list[dict[str, Any]]) -> None:
    streamed, _ = decoded(framed(items, terminal=True), [])
    body = {"id": "resp_1", "model": "m", "status": "completed", "output": items}
    assert turn(streamed) == turn(CODEC.decode(json.dumps(body, ensure_ascii=False).encode()))


@given(st.lists(ITEM, max_size=5))
def test_an_answer_goes_back_as_the_items_that_it_came_as(items: list[dict[str, Any]]) -> None:
    events, _ = decoded(framed(items, terminal=True), [])
    request = ChatRequest("m", (Message("user", (Text("q"),)), Message("assistant", tuple(turn(events)))))
    _, *sent = json.loads(CODEC.encode(request, TARGET).body)["input"]
    said = [item for item in sent if item.get("role") == "assistant"]
    texts = [text for item in items for kind, _, text in parts(item) if kind in ("output_text", "refusal")]
    assert "".join(item["content"] for item in said).replace("\n", "") == "".join(texts).replace("\n", "")
    others = [item for item in sent if item.get("role") != "assistant"]
    assert others == [item for item in items if item["type"] != "message"]


def turn(events: list[AttemptEvent]) -> list[Part]:
    """The events as the parts of a message, as an engine would keep them."""
    found: list[Part] = []
    places: dict[object, int] = {}

    def grow(key: object, part: Part) -> None:
        if key not in places:
            places[key] = len(found)
            found.append(part)
        else:
            found[places[key]] = part

    for event in events:
        match event:
            case ToolCallDelta(index=index):
                before = found[places["call", index]] if ("call", index) in places else ToolCall("", "", "")
                assert isinstance(before, ToolCall)
                arguments = before.arguments + event.arguments
                grow(("call", index), ToolCall(event.id or before.id, event.name or before.name, arguments))
            case ReasoningDelta(block=block):
                known = found[places["thought", block]] if ("thought", block) in places else Reasoning()
                assert isinstance(known, Reasoning)
                proof = event.signature or known.signature
                redacted = event.redacted or known.redacted
                grow(("thought", block), Reasoning(known.text + event.text, proof, redacted, "responses"))
            case OpaquePart():
                found.append(Opaque(event.family, event.kind, event.json))
            case TextDelta(text=text) | RefusalDelta(text=text):
                if found and isinstance(last := found[-1], Text):
                    found[-1] = Text(last.text + text)
                else:
                    found.append(Text(text))
            case _:
                pass
    return found
