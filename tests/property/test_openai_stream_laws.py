"""Laws of the OpenAI decoder: cuts don't matter, the grammar of events holds, a cut answer is never a clean one."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmwise.domain.errors import GatewayError, UpstreamCut
from llmwise.domain.events import AttemptEvent, Finished, Started, TextDelta, ToolCallDelta, UsageReport, Warned
from llmwise.providers.openai import OpenAICodec

TEXT = st.text(max_size=8)
MAYBE = st.none() | TEXT
FRAGMENT = st.fixed_dictionaries(
    {},
    optional={
        "index": st.none() | st.integers(0, 2),
        "id": st.none() | st.sampled_from(["", "call_a", "call_b"]),
        "type": st.just("function"),
        "function": st.fixed_dictionaries(
            {}, optional={"name": st.none() | st.sampled_from(["", "f", "g"]), "arguments": MAYBE}
        ),
    },
)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "role": st.just("assistant"),
        "content": MAYBE | st.just([{"type": "text", "text": "t"}]),
        "reasoning": MAYBE,
        "reasoning_content": MAYBE,
        "refusal": MAYBE,
        "tool_calls": st.none() | st.lists(FRAGMENT, max_size=3),
    },
)
CHOICE = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 0, 0, 1]), "delta": DELTA},
    optional={"finish_reason": st.sampled_from([None, None, None, "", "stop", "tool_calls", "length", "odd"])},
)
CHUNK = st.fixed_dictionaries(
    {"choices": st.none() | st.lists(CHOICE, max_size=2)},
    optional={
        "id": MAYBE,
        "model": MAYBE,
        "usage": st.none()
        | st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)}),
        "error": st.none(),
    },
)


def framed(chunks: list[dict[str, Any]], done: bool) -> bytes:
    frames = [b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks]
    return b": hello\n\n" + b"".join(frames) + (b"data: [DONE]\n\n" if done else b"")


def decoded(stream: bytes, cuts: list[int]) -> tuple[list[AttemptEvent], str | None]:
    decoder = OpenAICodec().decoder()
    events: list[AttemptEvent] = []
    start = 0
    try:
        for cut in [*sorted(cuts), len(stream)]:
            events += decoder.feed(stream[start:cut])
            start = cut
        events += decoder.finish()
    except GatewayError as error:
        return events, repr(error)
    return events, None


@given(st.lists(CHUNK, max_size=6), st.booleans(), st.data())
def test_events_do_not_depend_on_how_the_bytes_were_cut(
    chunks: list[dict[str, Any]], done: bool, data: st.DataObject
) -> None:
    stream = framed(chunks, done)
    whole = decoded(stream, [])
    assert decoded(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=20))) == whole
    assert decoded(stream, list(range(len(stream)))) == whole


@given(st.lists(CHUNK, max_size=8), st.booleans())
def test_the_grammar_of_events_holds(chunks: list[dict[str, Any]], done: bool) -> None:
    events, failure = decoded(framed(chunks, done), [])
    kinds = [type(event) for event in events]
    assert kinds.count(Started) <= 1
    assert Started not in kinds[1:] or kinds.index(Started) == 0
    assert kinds.count(Finished) == (failure is None)
    if failure is None:
        assert set(kinds[kinds.index(Finished) + 1 :]) <= {UsageReport}
    opened: set[int] = set()
    for event in events:
        if type(event) is ToolCallDelta:
            assert (event.index not in opened) == (event.id is not None) == (event.name is not None)
            opened.add(event.index)
    assert opened == set(range(len(opened)))
    assert len({(event.code, event.field) for event in events if type(event) is Warned}) == kinds.count(Warned)


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6), st.data())
def test_a_stream_cut_anywhere_never_ends_cleanly(words: list[str], data: st.DataObject) -> None:
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
    stream = framed(chunks, done=False)
    last = framed([{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}], done=True)[len(b": hello\n\n") :]
    end = data.draw(st.integers(0, len(stream) + last.index(b"}]}")))
    events, failure = decoded((stream + last)[:end], [])
    assert failure is not None
    assert Finished not in {type(event) for event in events}
    said = "".join(event.text for event in events if type(event) is TextDelta)
    assert "".join(words).startswith(said)
    whole, none = decoded(stream + last, [])
    assert none is None
    assert "".join(event.text for event in whole if type(event) is TextDelta) == "".join(words)


def test_a_cut_is_called_a_cut() -> None:
    decoder = OpenAICodec().decoder()
    decoder.feed(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n')
    try:
        decoder.finish()
    except UpstreamCut:
        return
    raise AssertionError("a stream without its end has to be an error")
