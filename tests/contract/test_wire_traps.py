"""The traps of the providers' formats, each a named case, in every direction where it can occur.

`LINES` maps each line of the checklist to the tests that show it. Those of this file run through a real gateway: an
answer goes to every dialect, at once and streamed, cut byte by byte and at random (`bench.replay.answers`); a question
goes to every family and is held against that family's own documents (`bench.replay.requests`).
"""

import asyncio
import base64
import re
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.replay import answers, requests
from bench.replay.gateway import Received, Recorded, Replay, Upstream, serving
from bench.replay.recorded import Format, specification
from bench.replay.schemas import OpenAI
from llmwise.cli import serve
from llmwise.conformance.said import read
from llmwise.providers.transport import Transport
from tests.contract.wire_answers import DONE, Answer, call, chunk, exchange, gemini, sse, stream

HERE = Path(__file__).parent
TESTS = HERE.parent
FAMILIES: tuple[Format, ...] = ("chat", "responses", "anthropic", "gemini")
pytestmark = pytest.mark.anyio

ANSWERS = "contract/test_wire_traps.py::test_an_answer_comes_out_in_every_dialect"
ENDS = "contract/test_wire_traps.py::test_what_is_no_good_end_is_an_error_in_every_dialect"
ASKED = "contract/test_wire_traps.py::test_a_question_reaches_every_family"
REPLAYED = "contract/test_replay_wire.py::test_a_recorded_request_reaches_every_family_in_its_own_words"
ARGUMENTS = "contract/test_wire_traps.py::test_arguments_keep_their_bytes_and_calls_their_order"
BUCKETS = "contract/test_wire_traps.py::test_every_token_is_in_one_bucket_in_every_dialect"

LINES: Mapping[str, tuple[str, ...]] = {
    "arguments in fragments, id and name on the first; an empty tool_calls opens nothing": (
        ANSWERS,
        "unit/providers/test_openai_stream.py::test_empty_tool_calls_beside_text_open_nothing",
    ),
    "whole arguments only at the end": (ANSWERS, ARGUMENTS),
    "parallel calls: own index, stable; Gemini: one part a chunk, the same name, no id": (
        ANSWERS,
        ARGUMENTS,
        "unit/providers/test_gemini_stream.py::test_calls_of_the_same_name_without_ids_are_told_apart",
    ),
    "Gemini needs as many responses as calls, in order, in one turn": (
        ASKED,
        "unit/providers/test_gemini_request.py::test_there_are_as_many_responses_as_calls_in_their_order_in_one_turn",
    ),
    "ids: minted in the dialect, mapped back": (
        ARGUMENTS,
        ASKED,
        "unit/providers/test_gemini_stream.py::test_minted_ids_are_the_same_on_each_reading_and_differ_between_answers",
        "unit/providers/test_anthropic_request.py::test_foreign_tool_ids_are_rewritten_alike_on_both_sides",
    ),
    "empty arguments become {} only when truly empty; invalid JSON is kept": (ANSWERS, ASKED),
    "Anthropic's grammar": (
        ANSWERS,
        "unit/api/test_anthropic_events.py::test_whatever_the_events_the_stream_keeps_its_grammar_and_loses_nothing",
    ),
    "OpenAI's last chunk without choices: accepted, and sent only when asked for": (
        ANSWERS,
        "e2e/test_openai_api.py::test_usage_comes_only_when_it_is_asked_for",
    ),
    "disjoint buckets": (BUCKETS, ANSWERS),
    "message_start carries usage; count_tokens exists": (
        ANSWERS,
        "e2e/test_anthropic_api.py::test_tokens_are_counted_roughly",
    ),
    "no usage reported is estimated": (ANSWERS,),
    "Anthropic thinking and its signature go back unmodified and first; redacted stays opaque": (
        "unit/providers/test_anthropic_request.py::test_own_thinking_goes_back_first_and_unmodified",
        "e2e/test_anthropic_api.py::test_thinking_and_its_signature_go_to_the_caller_and_back",
        ANSWERS,
    ),
    "Gemini's signatures ride on calls": (
        "unit/providers/test_gemini_request.py::test_a_call_goes_back_with_its_signature_and_its_arguments_bytes",
    ),
    "a hop drops foreign signatures, and a hop back restores them": (
        "unit/providers/test_anthropic_request.py::test_thinking_without_our_signature_stays_at_home",
        "unit/providers/test_gemini_request.py::test_thoughts_and_signatures_go_back_to_their_own_family_only",
    ),
    "effort words and budgets by a table; no forced choice with thinking": (
        "unit/providers/test_openai_request.py::test_effort_and_budget_are_one_table",
        "unit/providers/test_anthropic_request.py::test_a_budget_is_dropped_where_a_tool_is_forced_but_adaptive_thinking_is_not",
        ASKED,
    ),
    "a table of stop reasons, a safe value and a warning for the unknown": (ANSWERS,),
    "SAFETY, RECITATION, a blocked prompt, MALFORMED_FUNCTION_CALL; STOP with a call": (ANSWERS,),
    "the end without a terminal frame is an error": (ENDS,),
    "no empty text blocks; turns of one role merged; a leading assistant; system in the middle": (ASKED,),
    "images and documents in all their forms": (ASKED,),
    "never two limits at once; Anthropic requires one": (ASKED,),
    "JSON Schema as each family takes it": (ASKED,),
    "optional is omitted, never null; 0.7 stays 0.7; n is fanned out or refused": (
        ASKED,
        "contract/test_wire_traps.py::test_numbers_stay_what_they_were",
    ),
    "what is dropped is dropped visibly": (ASKED, REPLAYED),
    "the caller's own envelope, Retry-After, no raw body, 529, an error inside a 200": (
        ENDS,
        "contract/test_wire_traps.py::test_a_refusal_keeps_its_status_and_its_time_and_not_its_body",
        "unit/providers/test_failures.py::test_when_to_come_back",
        "unit/providers/test_failures.py::test_a_message_is_one_short_line_and_the_body_stays_here",
    ),
    "SSE: comments, CRLF, several lines, UTF-8 cut, no final newline, a junk line": (
        ANSWERS,
        "property/test_sse_cuts.py::test_frames_do_not_depend_on_how_the_bytes_were_cut",
    ),
    "TCP_NODELAY, and each frame flushed": (
        "contract/test_wire_traps.py::test_a_caller_s_connection_does_not_wait_for_more_bytes",
        "contract/test_wire_traps.py::test_a_provider_s_connection_does_not_wait_for_more_bytes",
    ),
    "a client that leaves cancels the upstream call": (
        "chaos/test_client_leaves.py::test_leaving_stops_the_provider_at_once_and_is_recorded_and_moves_no_circuit",
    ),
}


@pytest.mark.parametrize("line", LINES)
async def test_every_line_names_tests_that_exist(line: str) -> None:
    for name in LINES[line]:
        path, _, function = name.partition("::")
        assert re.search(rf"^(async )?def {function}\(", (TESTS / path).read_text(), re.MULTILINE), name


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def gateway(anyio_backend: object, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replay]:
    made = [answers.target(exchange(family, ""), cut=cut) for family in FAMILIES for cut in (False, True)]
    behind = [target for family in FAMILIES for target in requests.BEHIND[family]]
    async with serving(tmp_path_factory.mktemp("traps"), [*made, *behind]) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def schemas() -> requests.Schemas:
    return requests.Schemas(OpenAI(specification(TESTS / "data" / "wire")))


# --- answers ----------------------------------------------------------------------------------------------------------

TOKENS = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
FRAGMENTS = [
    chunk({"role": "assistant", "content": None, "tool_calls": []}),
    chunk({"content": "Look: ", "tool_calls": []}),
    chunk({"tool_calls": [call(0, "", "call_a", "weather")]}),
    chunk({"tool_calls": [call(0, '{"city"')]}),
    chunk({"tool_calls": [call(0, ': "Oslo"}')]}),
]
INTERLEAVED = [
    chunk({"tool_calls": [call(0, "", "call_a", "one"), call(1, "", "call_b", "two")]}),
    chunk({"tool_calls": [call(1, '{"b": [1,')]}),
    chunk({"tool_calls": [call(0, '{"a":  {"x": 1.0}')]}),
    chunk({"tool_calls": [call(1, " 2]}"), call(0, "}")]}),
]
PLAIN = [chunk({"role": "assistant", "content": "Grüße "}), chunk({"content": "日本語 🦉\u2028"}), chunk({}, "stop")]
USAGE = {**chunk({}), "choices": [], "usage": TOKENS}
_FUNCTION = {"functionCall": {"name": "go", "args": {"n": 1}}}
_COUNTED = {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}}
_MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}


def _claude(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], stop: str = "end_turn", **usage: int) -> str:
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**_MESSAGE, "usage": {"input_tokens": 4}}}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    said = {"stop_reason": stop, "stop_sequence": "END" if stop == "stop_sequence" else None}
    events.append({"type": "message_delta", "delta": said, "usage": {"output_tokens": 2, **usage}})
    return sse(*events, {"type": "message_stop"}, named=True)


_TEXT: tuple[dict[str, Any], list[dict[str, Any]]] = (
    {"type": "text", "text": ""},
    [{"type": "text_delta", "text": "Yes."}],
)
_TOOL = {"type": "tool_use", "id": "toolu_1", "name": "go", "input": {}}
_THOUGHT: tuple[dict[str, Any], list[dict[str, Any]]] = (
    {"type": "thinking", "thinking": "", "signature": ""},
    [{"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "c2ln"}],
)
_whole = sse(*PLAIN, USAGE, end=DONE)

GOOD: Mapping[str, tuple[Format, str]] = {
    "fragments of a call beside text and empty tool_calls": (
        "chat",
        sse(*FRAGMENTS, chunk({}, "tool_calls"), USAGE, end=DONE),
    ),
    "parallel calls that interleave": ("chat", sse(*INTERLEAVED, chunk({}, "tool_calls"), USAGE, end=DONE)),
    "a whole call in one chunk": (
        "chat",
        sse(chunk({"tool_calls": [call(0, '{"a":1}', "call_a", "go")]}), chunk({}, "tool_calls"), USAGE, end=DONE),
    ),
    "a call without arguments": (
        "chat",
        sse(chunk({"tool_calls": [call(0, "", "call_a", "go")]}), chunk({}, "tool_calls"), USAGE, end=DONE),
    ),
    "arguments that are no JSON": (
        "chat",
        sse(chunk({"tool_calls": [call(0, '{"a": ', "call_a", "go")]}), chunk({}, "tool_calls"), USAGE, end=DONE),
    ),
    "stop with a call": (
        "chat",
        sse(chunk({"tool_calls": [call(0, "{}", "call_a", "go")]}), chunk({}, "stop"), USAGE, end=DONE),
    ),
    "usage in a chunk without choices": ("chat", _whole),
    "no usage": ("chat", sse(*PLAIN, end=DONE)),
    "an unknown reason to stop": ("chat", sse(chunk({"content": "Yes."}), chunk({}, "bored"), USAGE, end=DONE)),
    "a limit": ("chat", sse(chunk({"content": "Yes."}), chunk({}, "length"), USAGE, end=DONE)),
    "a filter": ("chat", sse(chunk({"content": "Yes."}), chunk({}, "content_filter"), USAGE, end=DONE)),
    "a refusal": ("chat", sse(chunk({"refusal": "No."}), chunk({}, "stop"), USAGE, end=DONE)),
    "a reason without [DONE]": ("chat", sse(*PLAIN, USAGE)),
    "comments between the frames": ("chat", ": hello\n\n" + _whole.replace("\n\n", "\n\n: keep-alive\n\n")),
    "CRLF": ("chat", _whole.replace("\n", "\r\n")),
    "CR": ("chat", _whole.replace("\n", "\r")),
    "data of several lines": ("chat", _whole.replace('"delta"', '\ndata: "delta"')),
    "data of several lines from Anthropic": ("anthropic", _claude(_TEXT).replace('"type"', '\ndata: "type"')),
    "no final newline": ("chat", _whole.rstrip("\n")),
    "a junk line": ("chat", _whole.replace("\n\n", "\n\nupstream hiccup\n\n", 1)),
    "a byte order mark": ("chat", "\ufeff" + _whole),
    "thinking with its signature, and redacted": (
        "anthropic",
        _claude(_THOUGHT, ({"type": "redacted_thinking", "data": "b3BhcXVl"}, []), _TEXT),
    ),
    "a call without a piece of input": ("anthropic", _claude(_TEXT, (_TOOL, []), stop="tool_use")),
    "a stop sequence": ("anthropic", _claude(_TEXT, stop="stop_sequence")),
    "a refusal of Claude's": ("anthropic", _claude(_TEXT, stop="refusal")),
    "a pause": ("anthropic", _claude(_TEXT, stop="pause_turn")),
    "no text at all": ("anthropic", _claude()),
    "calls of one name, one a chunk, without ids": (
        "gemini",
        sse(gemini([_FUNCTION]), gemini([_FUNCTION]), gemini([{"text": ""}], "STOP", **_COUNTED)),
    ),
    "a call without args": (
        "gemini",
        sse(gemini([{"functionCall": {"name": "go"}}]), gemini([], "STOP", **_COUNTED)),
    ),
    "SAFETY": ("gemini", sse(gemini([{"text": "Well"}]), gemini([], "SAFETY", **_COUNTED))),
    "RECITATION": ("gemini", sse(gemini([{"text": "Well"}], "RECITATION", **_COUNTED))),
    "a blocked prompt": ("gemini", sse({"promptFeedback": {"blockReason": "SAFETY"}, **_COUNTED})),
    "MALFORMED_FUNCTION_CALL": ("gemini", sse(gemini([], "MALFORMED_FUNCTION_CALL", **_COUNTED))),
    "no counts": ("gemini", sse(gemini([{"text": "Yes."}], "STOP"))),
    "a part that only Gemini has": (
        "gemini",
        sse(gemini([{"executableCode": {"language": "PYTHON", "code": "1"}}, {"text": "1"}], "STOP", **_COUNTED)),
    ),
    **{
        f"a stream of {family}": (
            family,
            stream(family, Answer("Grüße 🦉", "" if family == "responses" else "Hm.", (("go", '{"a": 1.0}'),))),
        )
        for family in FAMILIES
    },
}


@pytest.mark.parametrize("name", GOOD)
async def test_an_answer_comes_out_in_every_dialect(gateway: Replay, schemas: requests.Schemas, name: str) -> None:
    family, response = GOOD[name]
    made = exchange(family, response)
    verdicts = [verdict async for verdict in answers.replay(gateway, made, answers.PATHS, schemas.openai)]
    assert len(verdicts) == 4 * len(answers.PATHS)
    assert not [f"{verdict.column}: {text}" for verdict in verdicts for text in verdict.wrong]


CUT: Mapping[str, tuple[Format, str]] = {
    "OpenAI, inside the text": ("chat", sse(*PLAIN[:2])),
    "OpenAI, inside a call": ("chat", sse(*FRAGMENTS[:4])),
    "OpenAI, an error inside a 200": ("chat", sse(PLAIN[0], {"error": {"message": "overloaded", "code": 503}})),
    "OpenAI, an error and nothing else": ("chat", sse({"error": {"message": "overloaded", "type": "server_error"}})),
    "OpenAI, nothing": ("chat", ""),
    "OpenAI, frames that are no JSON": ("chat", sse(PLAIN[0]) + "data: {oops\n\n"),
    "Anthropic, before message_stop": ("anthropic", _claude(_TEXT).partition("event: message_delta")[0]),
    "Anthropic, an error event": (
        "anthropic",
        _claude(_TEXT).partition("event: message_delta")[0]
        + sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, named=True),
    ),
    "Gemini, without a finish reason": ("gemini", sse(gemini([{"text": "Well"}]))),
    "Gemini, an error inside a 200": (
        "gemini",
        sse(gemini([{"text": "Well"}]), {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}),
    ),
    "Responses, before response.completed": (
        "responses",
        stream("responses", Answer("Well")).partition("event: response.completed")[0],
    ),
    "Responses, failed": (
        "responses",
        sse({"type": "response.failed", "response": {"status": "failed", "error": {"code": "server_error"}}}),
    ),
}


@pytest.mark.parametrize("name", CUT)
async def test_what_is_no_good_end_is_an_error_in_every_dialect(gateway: Replay, name: str) -> None:
    family, response = CUT[name]
    made = exchange(family, response)
    verdicts = [verdict async for verdict in answers.replay(gateway, made, answers.PATHS, None)]
    assert verdicts
    assert not [f"{verdict.column}: {text}" for verdict in verdicts for text in verdict.wrong]


@pytest.mark.parametrize("dialect", answers.PATHS)
@pytest.mark.parametrize("status", [429, 529])
async def test_a_refusal_keeps_its_status_and_its_time_and_not_its_body(
    gateway: Replay, dialect: str, status: int
) -> None:
    body = b'{"error":{"type":"x","message":"slow down"},"internal":"rack 7"}'
    headers = {"content-type": "application/json", "retry-after": "7"}
    gateway.upstream.answer = Recorded(status, headers, body)
    model = answers.target(exchange("anthropic", "")).id
    answer = await gateway.ask(answers.PATHS[dialect], answers.question(dialect, model, stream=True))
    assert answer.status_code == status
    assert answer.headers["retry-after"] == "7"
    assert "rack 7" not in answer.text


# --- laws -------------------------------------------------------------------------------------------------------------

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.sampled_from([1.0, 1e100, 0.7, -0.0])
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def _arguments(draw: st.DrawFn) -> str:
    """An object in any of the ways that it can be written."""
    text = msgspec.json.encode(draw(st.dictionaries(st.text(max_size=4), _values, max_size=3))).decode()
    return draw(st.sampled_from([text, text.replace("{", "{ ", 1), f"{text[:-1]}\n}}", f"{text} "]))


_calls = st.lists(st.tuples(st.sampled_from(["go", "stop", "go_on"]), _arguments()), min_size=1, max_size=4)


@pytest.mark.parametrize("family", FAMILIES)
@given(calls=_calls)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_arguments_keep_their_bytes_and_calls_their_order(
    gateway: Replay, family: Format, calls: list[tuple[str, str]]
) -> None:
    """And their ids are unique, and a stream has one end: `bench.replay.answers.differences` and `said` see to it."""
    trimmed = tuple(
        (name, arguments.strip()) for name, arguments in calls
    )  # space around a JSON value is not part of it
    made = exchange(family, stream(family, Answer("Well.", calls=trimmed)))
    for dialect in answers.PATHS:
        for streamed in (False, True):
            gateway.upstream.answer = Recorded(200, {"content-type": "text/event-stream"}, made.response.encode())
            body = answers.question(dialect, answers.target(made).id, stream=streamed)
            said = read(dialect, (await gateway.ask(answers.PATHS[dialect], body)).text, stream=streamed)
            assert [(one.name, one.arguments) for one in said.calls] == list(trimmed)
            assert len({one.id for one in said.calls} - {""}) == len(trimmed)
            assert said.text == "Well."
            assert said.finish == "tool_calls"


_count = st.integers(0, 2**31)


@pytest.mark.parametrize("family", FAMILIES)
@given(fresh=_count, cached=_count, written=_count, output=_count, share=st.floats(0, 1))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_token_is_in_one_bucket_in_every_dialect(
    gateway: Replay, family: Format, fresh: int, cached: int, written: int, output: int, share: float
) -> None:
    thinking = int(output * share)
    if family == "gemini":
        written = 0  # the API reports none
    made = exchange(family, stream(family, Answer("Yes.", buckets=(fresh, cached, written, output, thinking))))
    for dialect in answers.PATHS:
        gateway.upstream.answer = Recorded(200, {"content-type": "text/event-stream"}, made.response.encode())
        body = answers.question(dialect, answers.target(made).id, stream=True)
        tokens = read(dialect, (await gateway.ask(answers.PATHS[dialect], body)).text, stream=True).tokens
        assert tokens is not None
        assert tokens.prompt == fresh + cached + written
        assert (tokens.output, tokens.cache_read, tokens.reasoning) == (output, cached, thinking)
        assert tokens.cache_write in (written, None)


# --- questions --------------------------------------------------------------------------------------------------------

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nimage").decode()
PDF = base64.b64encode(b"%PDF-1.7 paper").decode()
SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {"unit": {"const": "C"}, "next": {"$ref": "#/$defs/node"}, "day": {"type": "string"}},
    "required": ["unit"],
    "additionalProperties": False,
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
}
_WEATHER = {"type": "function", "function": {"name": "weather", "description": "Of a city.", "parameters": SCHEMA}}
_USER = {"role": "user", "content": "And now?"}


def _called(*ids: str, arguments: str = '{"a": 1}') -> dict[str, Any]:
    made = [{"id": id, "type": "function", "function": {"name": f"f_{id[-1]}", "arguments": arguments}} for id in ids]
    return {"role": "assistant", "content": None, "tool_calls": made}


def _answered(id: str, text: str = "done") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": text}


def _said(role: str, text: str = "Said.") -> dict[str, Any]:
    return {"role": role, "content": text}


_tool_use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "it"}}

QUESTIONS: Mapping[str, tuple[Format, dict[str, Any]]] = {
    "results in another order than the calls": (
        "chat",
        {"messages": [_USER, _called("call_1", "call_2"), _answered("call_2", "two"), _answered("call_1", "one")]},
    ),
    "ids of another family": ("chat", {"messages": [_USER, _called("functions.go:0"), _answered("functions.go:0")]}),
    "arguments that are no JSON": (
        "chat",
        {"messages": [_USER, _called("call_1", arguments="{oops"), _answered("call_1")]},
    ),
    "arguments that are empty": ("chat", {"messages": [_USER, _called("call_1", arguments=""), _answered("call_1")]}),
    "a result without text": ("chat", {"messages": [_USER, _called("call_1"), _answered("call_1", ""), _USER]}),
    "turns of one role": (
        "chat",
        {"messages": [_said("user", "One."), _said("user", "Two."), _said("assistant"), _USER]},
    ),
    "a leading assistant": ("chat", {"messages": [_said("assistant"), _USER]}),
    "system in the middle": (
        "chat",
        {"messages": [_said("system"), _USER, _said("assistant"), _said("system", "Be brief."), _USER]},
    ),
    "images by address and by data": (
        "chat",
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "auto"}},
                        {
                            "type": "file",
                            "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
                        },
                    ],
                }
            ]
        },
    ),
    "images and documents inside a result": (
        "anthropic",
        {
            "max_tokens": 64,
            "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [_tool_use]},
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "tool_result",
                            "tool_use_id": "toolu_1",
                            "content": [
                                {"type": "text", "text": "Seen."},
                                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                            ],
                        },
                        {"type": "image", "source": {"type": "url", "url": "https://example.com/b.png"}},
                        {
                            "type": "document",
                            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                        },
                    ],
                },
            ],
        },
    ),
    "empty text beside a call and inside a result": (
        "anthropic",
        {
            "max_tokens": 64,
            "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [{"type": "text", "text": ""}, _tool_use]},
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": ""}]}
                    ],
                },
            ],
        },
    ),
    "thinking and its signature from Anthropic": (
        "anthropic",
        {
            "max_tokens": 4096,
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "messages": [
                {"role": "user", "content": "Look."},
                {
                    "role": "assistant",
                    "content": [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, _tool_use],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "It."}]},
            ],
            "tools": [{"name": "look", "input_schema": SCHEMA}],
        },
    ),
    "tools and a schema that no family takes as it is": ("chat", {"messages": [_USER], "tools": [_WEATHER]}),
    "a forced tool with thinking": (
        "chat",
        {
            "messages": [_USER],
            "tools": [_WEATHER],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "reasoning_effort": "high",
        },
    ),
    "an answer in a schema": (
        "chat",
        {
            "messages": [_USER],
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
        },
    ),
    "any JSON": ("chat", {"messages": [_said("user", "JSON, please.")], "response_format": {"type": "json_object"}}),
    "the older limit": ("chat", {"messages": [_USER], "max_tokens": 9}),
    "the newer limit": ("chat", {"messages": [_USER], "max_completion_tokens": 9}),
    "both limits": ("chat", {"messages": [_USER], "max_tokens": 9, "max_completion_tokens": 9}),
    "nulls": ("chat", {"messages": [_USER], "temperature": None, "tools": None, "stop": None, "seed": None}),
    "sampling": (
        "chat",
        {"messages": [_USER], "temperature": 0.7, "seed": 3, "stop": ["END"], "presence_penalty": 0.5, "user": "u"},
    ),
    "what only OpenAI has": (
        "chat",
        {"messages": [_USER], "prompt_cache_key": "k", "service_tier": "flex", "logit_bias": {"5": -1}},
    ),
    "items of the Responses API": (
        "responses",
        {
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Look."}]},
                {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"at":  "it"}'},
                {"type": "function_call_output", "call_id": "call_1", "output": "It."},
            ],
            "max_output_tokens": 64,
        },
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_question_reaches_every_family(
    gateway: Replay, schemas: requests.Schemas, name: str, family: Format
) -> None:
    dialect, body = QUESTIONS[name]
    asked = msgspec.structs.replace(exchange(dialect, "", provider="openai"), request={"model": "m", **body})
    for target in requests.BEHIND[family]:
        wrong, _ = await requests.put(gateway, asked, family, target, schemas, mine=False)
        assert not wrong, target.upstream


@pytest.mark.parametrize("family", FAMILIES)
async def test_numbers_stay_what_they_were(gateway: Replay, family: Format) -> None:
    target = requests.BEHIND[family][0]
    gateway.upstream.answer = Recorded(200, {"content-type": "application/json"}, requests.YES[family])
    gateway.upstream.received.clear()
    await gateway.ask(answers.PATHS["chat"], {"model": target.id, "messages": [_USER], "temperature": 0.7})
    sent: Received = gateway.upstream.received[0]
    assert re.search(rb'"temperature":\s*0\.7[,}]', sent.body)


# --- sockets ----------------------------------------------------------------------------------------------------------


async def test_a_caller_s_connection_does_not_wait_for_more_bytes() -> None:
    """40 ms to the first token is Nagle's algorithm with delayed acknowledgements."""
    accepted: list[int] = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken: socket.socket = writer.get_extra_info("socket")
        accepted.append(taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with serve._listen("127.0.0.1", 0) as listening:
        async with await asyncio.start_server(serve_one, sock=listening):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            await reader.read()
            writer.close()
            await writer.wait_closed()
    assert accepted
    assert all(accepted)


async def test_a_provider_s_connection_does_not_wait_for_more_bytes() -> None:
    upstream, transport = Upstream(), Transport()
    async with await asyncio.start_server(upstream.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await transport.send("POST", url, (), b"{}", stream=False)
        sockets = [connection.socket.get_extra_info("socket") for connection in transport._open]
        assert sockets
        assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)
        await transport.aclose()
