"""Answers passed on as they came: their bytes go through, and what they say is the same as ever."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from llmwise.domain.errors import GatewayError
from llmwise.domain.events import AttemptEvent, Finished, TextDelta, Verbatim, spelled_out
from llmwise.domain.ports import Codec
from llmwise.providers import anthropic, gemini
from llmwise.providers.openai import OpenAICodec
from tests.unit.providers.recorded import GOLDEN, Case

OPENAI = OpenAICodec("openai")
FAMILIES: dict[str, Codec] = {"openai": OPENAI, "anthropic": anthropic.CODEC}
EVERY = [Case(folder) for family in FAMILIES for folder in sorted((GOLDEN / family).iterdir())]
CASES = [case for case in EVERY if case.meta.get("status", 200) == 200]


def read(codec: Codec, pieces: Sequence[bytes], *, verbatim: bool) -> list[AttemptEvent]:
    decoder = codec.decoder(verbatim=verbatim)
    events: list[AttemptEvent] = []
    try:
        for piece in pieces:
            events += decoder.feed(piece)
        events += decoder.finish()
    except GatewayError as error:
        events.append(TextDelta(f"failed: {error.message}"))
    return events


def said(events: Sequence[AttemptEvent]) -> list[AttemptEvent]:
    """What everybody else hears of it: text in a row is one, and the frames that were kept are nobody's business."""
    out: list[AttemptEvent] = []
    for event in spelled_out(events):
        if isinstance(event, Finished):
            event = replace(event, frame=None, usage_frame=None)
        if isinstance(event, TextDelta) and out and isinstance(last := out[-1], TextDelta):
            out[-1] = TextDelta(last.text + event.text)
        else:
            out.append(event)
    return out


def sent(events: Sequence[AttemptEvent]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Verbatim))


def frames(stream: bytes) -> list[Any]:
    lines = stream.decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder.name)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_bytes_that_are_passed_on_say_what_the_same_bytes_say_when_they_are_read(case: Case, step: int) -> None:
    codec = FAMILIES[case.folder.parent.name]
    if not case.stream:
        assert said(codec.decode(case.response, verbatim=True)) == said(codec.decode(case.response))
        return
    pieces = [case.response[at : at + step] for at in range(0, len(case.response), step)]
    assert said(read(codec, pieces, verbatim=True)) == said(read(codec, pieces, verbatim=False))


@pytest.mark.parametrize("name", ["openai/openai-stream-text", "openai/openai-stream-parallel-tools"])
@given(cuts=st.lists(st.integers(0, 4000), max_size=12))
def test_every_frame_of_openais_goes_on_but_the_last_ones_however_they_were_cut(name: str, cuts: list[int]) -> None:
    body = Case(GOLDEN / name).response
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    events = read(OPENAI, [body[a:b] for a, b in pairwise(edges)], verbatim=True)
    (finished,) = [event for event in spelled_out(events) if isinstance(event, Finished)]
    kept = [json.loads(frame) for frame in (finished.frame, finished.usage_frame) if frame is not None]
    assert frames(sent(events)) + kept == frames(body)


def test_every_frame_of_anthropics_goes_on_but_the_last_two() -> None:
    body = Case(GOLDEN / "anthropic/stream-server-tool").response
    events = read(anthropic.CODEC, [body], verbatim=True)
    (finished,) = [event for event in spelled_out(events) if isinstance(event, Finished)]
    assert finished.frame is not None
    assert [*frames(sent(events)), json.loads(finished.frame), {"type": "message_stop"}] == frames(body)
    assert b"event: content_block_delta\ndata: {" in sent(events)


def chunk(**fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}
    whole = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return {**whole, **fields}


def streamed(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in chunks) + b"data: [DONE]\n\n"


END = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])


def test_fields_that_are_new_to_us_go_on() -> None:
    events = read(OPENAI, [streamed(chunk(obfuscation="xyz"), END)], verbatim=True)
    assert frames(sent(events))[0]["obfuscation"] == "xyz"


@pytest.mark.parametrize(
    "odd",
    [
        chunk(object="chunk"),
        chunk(id=""),
        chunk(created="now"),
    ],
    ids=["object", "id", "created"],
)
def test_a_stream_that_is_not_what_the_documentation_promises_is_not_passed_on(odd: dict[str, Any]) -> None:
    events = read(OPENAI, [streamed(odd, END)], verbatim=True)
    assert not sent(events)
    assert TextDelta("Hi") in events


def test_a_call_without_an_id_is_given_one_and_so_not_passed_on() -> None:
    call = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
    odd = chunk(choices=[{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}])
    assert not sent(read(OPENAI, [streamed(odd, END)], verbatim=True))


def test_an_error_behind_good_frames_comes_after_them() -> None:
    decoder = OPENAI.decoder(verbatim=True)
    events = decoder.feed(streamed(chunk(), {"error": {"message": "boom", "code": 500}}))
    assert frames(sent(events)) == [chunk()]
    assert decoder.failure is not None


def test_a_whole_answer_goes_on_only_if_it_is_what_the_documentation_promises() -> None:
    message: dict[str, Any] = {"role": "assistant", "content": "Hi", "refusal": None, "annotations": []}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "odd": 1}
    (event,) = OPENAI.decode(json.dumps(whole).encode(), verbatim=True)
    assert isinstance(event, Verbatim)
    assert json.loads(event.data) == whole
    del choice["logprobs"]  # as OpenAI itself does
    (event,) = OPENAI.decode(json.dumps(whole).encode(), verbatim=True)
    assert isinstance(event, Verbatim)
    assert json.loads(event.data)["choices"][0]["logprobs"] is None
    odd: dict[str, Any]
    for odd in ({"object": "completion"}, {"llmwise": {}}, {"choices": [choice] * 2}, {"created": 0.5}):
        assert not sent(OPENAI.decode(json.dumps(whole | odd).encode(), verbatim=True))
    del message["refusal"]
    assert not sent(OPENAI.decode(json.dumps(whole).encode(), verbatim=True))


def test_the_local_server_and_gemini_are_never_passed_on() -> None:
    body = Case(GOLDEN / "openai/openai-stream-text").response
    assert not sent(read(OpenAICodec("local"), [body], verbatim=True))
    assert not sent(read(gemini.CODEC, [Case(GOLDEN / "gemini/stream-signed-call").response], verbatim=True))
