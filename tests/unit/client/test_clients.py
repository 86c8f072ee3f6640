"""Both clients against a real server: answers, errors, streams, retries."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import llmwise
from llmwise import Answer, AnswerList, AsyncLLMWise, AsyncStream, LLMWise, LLMWiseError

from .conftest import Caller, Serve
from .scripted import DONE, Script, ScriptedServer, Step, event, reply, stream

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


# Answers


def test_an_answer_is_a_dict_that_knows_its_response(caller: Caller, serve: Serve) -> None:
    server = serve(reply({"content": "hi", "cost": 0}, X_Request_Id="r1", X_RateLimit_Remaining="89"))
    answer = caller.call(server.url, "chat", ASK)
    assert answer == {"content": "hi", "cost": 0}
    assert isinstance(answer, Answer)
    assert json.loads(json.dumps(answer)) == answer
    assert (answer.status_code, answer.request_id) == (200, "r1")
    assert answer.headers["x-ratelimit-remaining"] == "89"


def test_an_array_is_a_list_that_knows_its_response(caller: Caller, serve: Serve) -> None:
    models = caller.call(serve(reply('[{"id": "m"}]', X_Request_Id="r1")).url, "models")
    assert models == [{"id": "m"}]
    assert isinstance(models, AnswerList)
    assert models.request_id == "r1"


def test_a_table_is_text(caller: Caller, serve: Serve) -> None:
    assert caller.call(serve(reply("a,b\n")).url, "optimization_test_run_csv", {"run_id": "1"}) == "a,b\n"


@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("keys_info", reply("[1]")),
        ("models", reply("{}")),
        ("models", reply("null")),
        ("keys_info", reply("<html>login</html>")),
        ("keys_info", reply("")),
        ("keys_info", reply({}, 302, Location="https://elsewhere/")),
        ("keys_info", reply("not gzip", Content_Encoding="gzip")),
    ],
)
def test_an_answer_of_another_shape_is_an_error(method: str, response: Script, caller: Caller, serve: Serve) -> None:
    server = serve(response)
    with pytest.raises(llmwise.UnexpectedAnswerError) as caught:
        caller.call(server.url, method)
    assert caught.value.status_code == 502
    assert len(server.seen) == 1


def test_threads_that_share_a_client_get_their_own_heads(serve: Serve) -> None:
    server = serve(*(reply({"n": n}, X_Request_Id=f"r{n}") for n in range(16)))
    answers: list[Answer] = []
    with LLMWise("k", server.url) as client:
        threads = [threading.Thread(target=lambda: answers.append(client.keys_info())) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answer["n"] for answer in answers) == list(range(16))
    assert all(answer.request_id == f"r{answer['n']}" for answer in answers)


# Errors


def test_an_error_is_typed_and_tells_what_the_gateway_said(caller: Caller, serve: Serve) -> None:
    body = {"error": "no such model", "code": "unknown_model", "status_code": 404, "request_id": "r1"}
    server = serve(reply(body, 404, X_Request_Id="r1"))
    with pytest.raises(llmwise.NotFoundError) as caught:
        caller.call(server.url, "chat", ASK)
    error = caught.value
    assert (error.status_code, error.message, error.code, error.request_id) == (
        404,
        "no such model",
        "unknown_model",
        "r1",
    )
    assert error.payload == body
    assert error.headers["x-request-id"] == "r1"


def test_an_error_before_a_stream_is_the_same_error(caller: Caller, serve: Serve) -> None:
    """The published client raises `httpx.ResponseNotRead` here."""
    body = {"error": "budget spent", "code": "budget_exceeded"}
    streamed = caller.stream(serve(reply(body, 402, X_Request_Id="r1")).url, "chat_stream", ASK)
    assert streamed.events == []
    assert isinstance(streamed.error, llmwise.OutOfCreditError)
    assert (streamed.error.message, streamed.error.payload) == ("budget spent", body)
    assert streamed.error.request_id == "r1"


def refused_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_refused_connection_is_ours_and_httpxs(caller: Caller) -> None:
    with pytest.raises(llmwise.ConnectionFailedError) as caught:
        caller.call(refused_url(), "chat", ASK, max_retries=0)
    assert not caught.value.sent
    assert type(caught.value.__cause__).__name__ == "ConnectError"


def test_silence_times_out(caller: Caller, serve: Serve) -> None:
    server = serve((Step.UNTIL_CLIENT_LEAVES,))
    with pytest.raises(llmwise.TimedOutError) as caught:
        caller.call(server.url, "chat", ASK, timeout=0.05)
    assert caught.value.sent
    assert len(server.seen) == 1
    assert server.client_left.wait(5)


# Streams


def test_a_stream_yields_every_event_in_order(caller: Caller, serve: Serve) -> None:
    events = [{"model": "m", "delta": "Grü"}, {"model": "m", "delta": "\u2028🦉"}, {"event": "done", "cost": 0}]
    parts = [f"data: {json.dumps(e, ensure_ascii=False)}\r\n\r\n".encode() for e in events]
    server = serve(stream(b": hello\n\n", *parts, DONE, X_Request_Id="r1"))
    streamed = caller.stream(server.url, "chat_stream", ASK)
    assert (streamed.events, streamed.error) == (events, None)
    assert streamed.head is not None
    assert (streamed.head.status_code, streamed.head.request_id) == (200, "r1")


def test_a_stream_ends_at_done_and_waits_for_nothing_after_it(caller: Caller, serve: Serve) -> None:
    server = serve(stream(event(delta="a"), DONE, Step.UNTIL_CLIENT_LEAVES))
    streamed = caller.stream(server.url, "chat_stream", ASK)
    assert (streamed.events, streamed.error) == ([{"delta": "a"}], None)
    assert server.client_left.wait(5)


def test_a_compressed_stream_is_read_as_well(caller: Caller, serve: Serve) -> None:
    body = gzip.compress(event(delta="a") + DONE)
    server = serve(stream(body[:9], body[9:], Content_Encoding="gzip"))
    assert caller.stream(server.url, "chat_stream", ASK).events == [{"delta": "a"}]


FAILED = {"event": "error", "error": "all models failed", "status_code": 503, "code": "chain_failed", "refunded": True}


def test_an_error_event_is_handed_out_and_then_raised(caller: Caller, serve: Serve) -> None:
    server = serve(stream(event(delta="a"), event(**FAILED), DONE, X_Request_Id="r1"))
    streamed = caller.stream(server.url, "chat_stream", ASK)
    assert streamed.events == [{"delta": "a"}, FAILED]
    assert isinstance(streamed.error, llmwise.UpstreamError)
    assert (streamed.error.status_code, streamed.error.code) == (503, "chain_failed")
    assert (streamed.error.payload, streamed.error.request_id) == (FAILED, "r1")
    assert len(server.seen) == 1


def test_a_loop_that_handles_the_error_event_sees_no_exception(serve: Serve) -> None:
    server = serve(stream(event(**FAILED), DONE))
    with LLMWise("k", server.url) as client:
        for ev in client.chat_stream(model="m", messages=[]):
            if ev.get("event") == "error":
                break
    assert ev == FAILED


@pytest.mark.parametrize(
    "status", [{}, {"status_code": None}, {"status_code": "503"}], ids=["missing", "null", "a string"]
)
def test_an_error_event_without_a_usable_status_counts_as_upstreams(
    status: dict[str, Any], caller: Caller, serve: Serve
) -> None:
    server = serve(stream(event(event="error", error="x", **status)))
    error = caller.stream(server.url, "chat_stream", ASK).error
    assert isinstance(error, llmwise.UpstreamError)
    assert error.status_code == 502


@pytest.mark.parametrize("method", ["compare_stream", "judge_stream"])
def test_one_models_error_does_not_end_the_others(method: str, caller: Caller, serve: Serve) -> None:
    failed = {"model": "m1", "delta": "", "done": True, "error": "refused", "status_code": 503}
    server = serve(stream(event(**failed), event(model="m2", delta="b"), event(event="done"), DONE))
    arguments: dict[str, Any] = {"messages": []}
    arguments |= {"models": ["m1", "m2"]} if method == "compare_stream" else {"contestants": ["m1"], "judge": "m3"}
    streamed = caller.stream(server.url, method, arguments)
    assert streamed.error is None
    assert len(streamed.events) == 3


CHUNKED = {"Transfer_Encoding": "chunked"}


@pytest.mark.parametrize(
    "response",
    [
        stream(event(delta="a")),
        stream(event(delta="a"), b'data: {"delta": "b'),
        stream(b"13\r\n" + event(delta="a")[:19] + b"\r\n", **CHUNKED),
        stream(event(delta="a"), Step.RESET),
    ],
    ids=["ends early", "ends inside an event", "ends inside the HTTP body", "reset"],
)
def test_a_stream_that_is_cut_is_an_error(response: Script, caller: Caller, serve: Serve) -> None:
    server = serve(response)
    streamed = caller.stream(server.url, "chat_stream", ASK)
    assert isinstance(streamed.error, llmwise.StreamCutError)
    assert len(server.seen) == 1, "a stream that has begun isn't sent again"


def test_a_stream_that_lacks_only_its_marker_is_whole(caller: Caller, serve: Serve) -> None:
    assert caller.stream(serve(stream(event(event="done"))).url, "chat_stream", ASK).error is None


@pytest.mark.parametrize("junk", [b"data: {half\n\n", b"data: 5\n\n", b"data: [1]\n\n"])
def test_an_event_that_is_no_object_is_an_error(junk: bytes, caller: Caller, serve: Serve) -> None:
    server = serve(stream(event(delta="a"), junk, event(delta="b"), DONE))
    streamed = caller.stream(server.url, "chat_stream", ASK)
    assert streamed.events == [{"delta": "a"}]
    assert isinstance(streamed.error, llmwise.UnexpectedAnswerError)


def test_on_request_failures_inside_a_stream_pass_in_silence(caller: Caller, serve: Serve) -> None:
    server = serve(stream(event(**FAILED), b"data: {half\n\n", event(delta="b")))
    streamed = caller.stream(server.url, "chat_stream", ASK, raise_on_error=False)
    assert (streamed.events, streamed.error) == ([FAILED, {"delta": "b"}], None)


def test_a_stream_that_stalls_times_out(caller: Caller, serve: Serve) -> None:
    server = serve(stream(event(delta="a"), Step.UNTIL_CLIENT_LEAVES))
    streamed = caller.stream(server.url, "chat_stream", ASK, timeout=0.2)
    assert streamed.events == [{"delta": "a"}]
    assert isinstance(streamed.error, llmwise.TimedOutError)
    assert server.client_left.wait(5)


def test_nothing_is_sent_before_the_first_event_is_asked_for(serve: Serve) -> None:
    server = serve(stream(DONE))
    with LLMWise("k", server.url) as client:
        events = client.chat_stream(model="m", messages=[])
        assert events.head is None
        events.close()
    assert server.seen == []


def endless() -> Script:
    return stream(event(delta="a"), event(delta="b"), Step.UNTIL_CLIENT_LEAVES)


def test_a_break_closes_the_connection(serve: Serve) -> None:
    server = serve(endless())
    with LLMWise("k", server.url) as client:
        for _ in client.chat_stream(model="m", messages=[]):
            break
        assert server.client_left.wait(5)


def test_closing_a_stream_closes_the_connection_while_somebody_holds_it(serve: Serve) -> None:
    server = serve(endless())
    with LLMWise("k", server.url) as client:
        events = client.chat_stream(model="m", messages=[])
        assert next(events) == {"delta": "a"}
        events.close()
        assert server.client_left.wait(5)
        events.close()
        assert list(events) == []


async def _break(client: AsyncLLMWise) -> None:
    async for _ in client.chat_stream(model="m", messages=[]):
        break
    await asyncio.sleep(0)  # the loop closes generators that nobody holds when it next runs


async def _aclose(client: AsyncLLMWise) -> AsyncStream:
    events = client.chat_stream(model="m", messages=[])
    await anext(events)
    await events.aclose()
    await events.aclose()
    return events


async def _leave_scope(client: AsyncLLMWise) -> AsyncStream:
    async with client.chat_stream(model="m", messages=[]) as events:
        await anext(events)
    return events


async def _cancel(client: AsyncLLMWise) -> None:
    async def read() -> None:
        async for _ in client.chat_stream(model="m", messages=[]):
            started.set()

    started = asyncio.Event()
    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@pytest.mark.parametrize("leave", [_break, _aclose, _leave_scope, _cancel])
def test_leaving_an_async_stream_closes_the_connection(leave: Callable[[AsyncLLMWise], Any], serve: Serve) -> None:
    async def run(server: ScriptedServer) -> bool:
        async with AsyncLLMWise("k", server.url) as client:
            held = await leave(client)  # a stream that somebody still holds, where there is one
            assert held is None or held.head is not None
            return await asyncio.to_thread(server.client_left.wait, 5)

    assert asyncio.run(run(serve(endless())))


def test_an_async_answer_can_become_a_task(serve: Serve) -> None:
    async def run(url: str) -> list[Answer]:
        async with AsyncLLMWise("k", url) as client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.keys_info()) for _ in range(3)]
        return [task.result() for task in tasks]

    assert asyncio.run(run(serve(reply({"n": 1})).url)) == [{"n": 1}] * 3


# Retries


def test_a_call_that_is_turned_away_is_sent_again(caller: Caller, serve: Serve) -> None:
    server = serve(reply({"error": "slow"}, 429, Retry_After="0"), reply("", 503, Retry_After="0"), reply({"n": 1}))
    assert caller.call(server.url, "chat", ASK) == {"n": 1}
    assert len(server.seen) == 3
    assert server.seen[0] == server.seen[2]


def test_so_is_a_stream_that_has_not_begun(caller: Caller, serve: Serve) -> None:
    server = serve(reply({"error": "slow"}, 429, Retry_After="0"), stream(event(delta="a"), DONE))
    streamed = caller.stream(server.url, "chat_stream", ASK)
    assert (streamed.events, streamed.error) == ([{"delta": "a"}], None)
    assert len(server.seen) == 2


def test_the_wait_is_the_one_asked_for(caller: Caller, serve: Serve) -> None:
    server = serve(reply("", 429, Retry_After="0.3"), reply({"n": 1}))
    began = time.monotonic()
    caller.call(server.url, "chat", ASK)
    assert 0.3 <= time.monotonic() - began < 5


def test_after_the_last_retry_the_error_is_raised(caller: Caller, serve: Serve) -> None:
    server = serve(reply({"error": "slow"}, 429, Retry_After="0"))
    with pytest.raises(llmwise.RateLimitedError) as caught:
        caller.call(server.url, "chat", ASK, max_retries=1)
    assert caught.value.retry_after_s == 0
    assert len(server.seen) == 2


@pytest.mark.parametrize(("method", "arguments", "sent"), [("chat", ASK, 1), ("keys_info", {}, 2)])
def test_a_call_that_broke_off_is_sent_again_only_if_it_reads(
    method: str, arguments: dict[str, Any], sent: int, caller: Caller, serve: Serve
) -> None:
    server = serve((Step.RESET,))
    with pytest.raises(llmwise.ConnectionFailedError):
        caller.call(server.url, method, arguments, max_retries=1)
    assert len(server.seen) == sent


def test_options_can_be_changed_for_one_call(serve: Serve) -> None:
    server = serve(reply("", 429, Retry_After="0"))
    with LLMWise("k", server.url) as client:
        with pytest.raises(LLMWiseError):
            client.with_options(max_retries=0).keys_info()
        assert len(server.seen) == 1
        with pytest.raises(LLMWiseError):
            client.keys_info()
        assert len(server.seen) == 4
    silent = serve((Step.UNTIL_CLIENT_LEAVES,))
    with LLMWise("k", silent.url, max_retries=0) as client, pytest.raises(llmwise.TimedOutError):
        client.with_options(timeout=0.05).keys_info()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # httpx leaves its own generators open
def test_a_client_can_be_used_in_trio_like_in_asyncio(serve: Serve) -> None:
    trio = pytest.importorskip("trio")

    async def run(url: str) -> list[Any]:
        async with AsyncLLMWise("k", url) as client:
            return [event async for event in client.chat_stream(model="m", messages=[])]

    server = serve(reply("", 429, Retry_After="0"), stream(event(delta="a"), DONE))
    assert trio.run(run, server.url) == [{"delta": "a"}]
