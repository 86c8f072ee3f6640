"""From the bytes of a body to a request, in both dialects: what is taken, and how what isn't is named."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import encode

from llmwise.api.http import MAX_JSON_DEPTH, check_depth
from llmwise.api.native.chat import parse as parse_native
from llmwise.api.openai.chat import parse as parse_openai
from llmwise.api.streaming import Heartbeat
from llmwise.domain.errors import GatewayError, InvalidJSON
from llmwise.domain.messages import Image, Message, Text, ToolCall, ToolResult
from llmwise.domain.requests import ChatRequest, ResponseFormat, Routing, Tool, ToolChoice
from llmwise.domain.validation import did_you_mean, fields_at, misfit, words_at
from llmwise.wire import native

SAID = {"role": "user", "content": "hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1'}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def natively(**fields: Any) -> ChatRequest:
    request, _ = parse_native(encode({"model": "m", "messages": [SAID], **fields}))
    return request


def as_openai(**fields: Any) -> ChatRequest:
    return parse_openai(encode({"model": "m", "messages": [SAID], **fields})).request


BOTH = pytest.mark.parametrize("read", [natively, as_openai], ids=["native", "openai"])


@BOTH
def test_a_conversation_keeps_its_order_and_its_bytes(read: Any) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "calling", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "user", "content": ""},
    ]
    assert read(messages=messages).messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("a"), Text("b"))),
        Message("assistant", (Text("calling"), ToolCall("c1", "f", '{"a": 1'))),
        Message("tool", (ToolResult("c1", (Text("rain"),)),)),
        Message("user", (Text(""),)),
    )


@BOTH
def test_images_come_by_address_or_as_data(read: Any) -> None:
    def image(url: str, **more: str) -> Any:
        block = {"type": "image_url", "image_url": {"url": url, **more}}
        return read(messages=[{"role": "user", "content": [block]}]).messages[0].parts[0]

    assert image("https://x/y.png", detail="low") == Image(url="https://x/y.png", detail="low")
    assert image("data:image/png;base64,AAAA") == Image(data="AAAA", media_type="image/png")


@BOTH
def test_tools_and_formats_are_taken(read: Any) -> None:
    tools = (Tool("f", None, {"type": "object"}, None),)
    assert read(tools=[TOOL], tool_choice="required").tools == tools
    named = {"type": "function", "function": {"name": "f"}}
    for choice, meant in (
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        (named, ToolChoice("tool", "f")),
        (None, None),
    ):
        assert read(tools=[TOOL], tool_choice=choice).tool_choice == meant
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    assert read(response_format=schema).response_format == ResponseFormat("json_schema", {"type": "object"}, "n", True)
    assert read(response_format={"type": "json_object"}).response_format == ResponseFormat("json_object")


@BOTH
def test_what_is_not_said_stays_unsaid(read: Any) -> None:
    request = read()
    sampling = msgspec.structs.asdict(request.sampling)
    assert sampling.pop("stop") == ()
    assert set(sampling.values()) == {None}
    assert (request.routing, request.goal, request.tool_choice, request.thinking) == (None, None, None, None)
    assert read(temperature=0, stop="x", seed=0).sampling.temperature == 0
    assert read(stop=["x", "y"]).sampling.stop == ("x", "y")


@BOTH
def test_a_chain_drops_what_it_has_twice(read: Any) -> None:
    routing = {"fallback": ["a", "b", "a"], "strategy": "cost"}
    assert read(routing=routing).routing == Routing(("a", "b"), "cost")
    assert read(routing={}).routing == Routing((), "rate-limit")


def test_a_native_request_streams_unless_told_not_to_and_an_openai_one_does_not() -> None:
    assert natively().stream is True
    assert as_openai().stream is False


def test_cost_saver_overrules_model_and_goal() -> None:
    request = natively(cost_saver=True, optimization_goal="latency")
    assert (request.model, request.goal) == ("auto", "cost")
    assert natively(cost_saver=False, optimization_goal="latency").goal == "latency"


def test_what_goes_on_to_openai_is_openai_s_and_nothing_of_ours() -> None:
    kept = natively(routing={"fallback": ["a"]}, temperature=0.70, semantic_memory=False, conversation_id="c")
    assert kept.passthrough is not None
    assert set(kept.passthrough.fields) == {"messages", "temperature"}
    passed = as_openai(routing={"fallback": ["a"]}, brand_new={"a": 1}).passthrough
    assert passed is not None
    assert set(passed.fields) == {"model", "messages", "brand_new"}


@BOTH
@given(value=st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=8))
@pytest.mark.parametrize("field", [*native.ChatBody.__struct_fields__, "made_up"])
def test_whatever_a_field_holds_it_is_taken_or_refused_and_nothing_breaks(read: Any, field: str, value: Any) -> None:
    refusal: GatewayError | None = None
    try:
        read(**{field: value})
    except GatewayError as error:
        refusal = error
    assert refusal is None or (refusal.status in {400, 422} and refusal.message)


# --- what is wrong is named ---


def test_a_path_is_read_out_of_what_msgspec_says() -> None:
    wrong = misfit("Object contains unknown field `b` - at `$.messages[2].content[0]`")
    assert (wrong.keys, wrong.unknown, wrong.path) == (("messages", 2, "content", 0), "b", "messages[2].content[0].b")
    missing = misfit("Object missing required field `model`")
    assert (missing.keys, missing.missing, missing.path) == ((), "model", "model")


def test_the_fields_and_words_at_a_path_are_found_through_lists_unions_and_options() -> None:
    body = native.ChatBody
    assert fields_at(body, ("messages", 0)) == ["role", "content", "name", "tool_calls", "tool_call_id"]
    assert fields_at(body, ("messages", 0, "content", 3)) == ["text", "image_url"]
    assert fields_at(body, ("messages", 0, "content", 3, "image_url")) == ["url", "detail"]
    assert fields_at(body, ("routing",)) == ["fallback", "strategy"]
    assert words_at(body, ("routing", "strategy")) == ["rate-limit", "latency", "cost", "round-robin"]
    assert words_at(body, ("optimization_goal",)) == ["balanced", "latency", "cost", "reliability"]
    assert fields_at(body, ("messages", 0, "role")) == words_at(body, ("model",)) == fields_at(body, ("nothing",)) == []


def test_a_near_name_is_offered_and_a_far_one_is_not() -> None:
    assert did_you_mean("temprature", ["temperature", "top_p"]) == "; did you mean 'temperature'?"
    assert did_you_mean("zzz", ["temperature"]) == ""


def test_depth_is_bounded_to_the_level() -> None:
    def nested(levels: int) -> object:
        value: object = {}
        for _ in range(levels - 1):
            value = {"a": [value]} if levels % 2 else {"a": value}
        return value

    check_depth(None, "x")
    check_depth({"a": [{"b": 1}]}, "x", limit=4)
    check_depth(nested(MAX_JSON_DEPTH), "x", limit=MAX_JSON_DEPTH)
    with pytest.raises(InvalidJSON, match=r"x: nested deeper than 2 levels") as caught:
        check_depth({"a": {"b": {"c": 1}}}, "x", limit=2)
    assert caught.value.code == "json_too_deep"


# --- heartbeat ---


def test_a_stream_that_is_silent_sends_a_comment_and_a_busy_one_does_not() -> None:
    async def comments(beats: bool) -> int:
        sent: list[Any] = []
        twice = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message)
            if len(sent) == 2:
                twice.set()

        heart = Heartbeat(send, 0.05, b": keep-alive\n\n")
        try:
            if beats:
                ends = asyncio.get_running_loop().time() + 0.2
                while asyncio.get_running_loop().time() < ends:
                    heart.beat()
                    await asyncio.sleep(0)
            else:
                await asyncio.wait_for(twice.wait(), 5)
        finally:
            heart.stop()
        return len(sent)

    assert asyncio.run(comments(beats=False)) >= 2
    assert asyncio.run(comments(beats=True)) == 0
