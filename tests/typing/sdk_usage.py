"""The SDK as its users write it: type-checked with the rest of the project, never run.

Every statement here must pass `mypy --strict` without an ignore; `assert_type` fixes what they see.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import Any, assert_type, cast

import httpx

import llmwise
from llmwise import (
    Answer,
    AnswerList,
    AsyncLLMWise,
    AsyncStream,
    ChatAnswer,
    Head,
    LLMWise,
    LLMWiseError,
    Message,
    Stream,
    StreamEvent,
)


def the_seed_guide() -> None:
    client = LLMWise(os.environ["LLMWISE_API_KEY"])
    response = client.chat(
        model="gpt-5.2",
        messages=[{"role": "user", "content": "Summarize this document..."}],
    )
    print(response["content"])
    for ev in client.chat_stream(
        model="gpt-5.2",
        routing={"strategy": "rate-limit", "fallback": ["claude-sonnet-4.5", "gemini-3-flash"]},
        messages=[{"role": "user", "content": "Analyze this data..."}],
    ):
        if ev.get("event") in {"route", "trace"}:
            continue
        if ev.get("delta"):
            print(ev["delta"], end="", flush=True)
        if ev.get("event") == "done":
            break


def what_the_published_types_allow(client: LLMWise) -> None:
    answer: dict[str, Any] = client.chat(model="m", messages=[])
    models: list[dict[str, Any]] = client.models()
    events: list[dict[str, Any]] = list(client.chat_stream(model="m", messages=[]))
    error = LLMWiseError(status_code=400, message="no", payload=answer)
    print(models, events, error.status_code, error.message, error.payload)


def messages_of_any_kind(client: LLMWise) -> None:
    typed: list[Message] = [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}]
    plain = [{"role": "user", "content": "hi"}]
    image: Message = {
        "role": "user",
        "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}],
    }
    client.chat(model="m", messages=typed)
    client.chat(model="m", messages=plain)
    client.chat(model="m", messages=[*typed, image, {"role": "tool", "tool_call_id": "t1", "content": "42"}])
    client.chat(model="m", messages=(image,), tools=[{"type": "function", "function": {"name": "f"}}])


def what_comes_back(client: LLMWise) -> None:
    answer = client.chat(model="m", messages=[])
    assert_type(answer, Answer)
    assert_type(answer.headers, httpx.Headers)
    assert_type(answer.request_id, str | None)
    assert_type(cast(ChatAnswer, answer)["cost"], float)
    assert_type(client.models(), AnswerList)
    assert_type(client.optimization_test_run_csv("r"), str)
    assert_type(client.explain(messages=[]), Answer)
    assert_type(client.health_targets(), Answer)
    with client.with_options(timeout=300, max_retries=0).judge_stream(
        contestants=["a", "b"], judge="c", messages=[]
    ) as events:
        assert_type(events, Stream)
        for event in events:
            assert_type(event, dict[str, Any])
            assert_type(cast(StreamEvent, event)["delta"], str)
        assert_type(events.head, Head | None)


async def and_in_async_code() -> None:
    async with AsyncLLMWise(max_retries=5, client=httpx.AsyncClient()) as client:
        assert_type(client, AsyncLLMWise)
        later: Coroutine[Any, Any, Answer] = client.chat(model="m", messages=[])
        assert_type(await later, Answer)
        assert_type(await client.usage_recent(), AnswerList)
        assert_type(await asyncio.create_task(client.keys_info()), Answer)
        stream = client.blend_stream(models=["a", "b"], messages=[])
        assert_type(stream, AsyncStream)
        async for event in stream:
            assert_type(event, dict[str, Any])
        async with client.chat_stream(model="m", messages=[]) as events:
            assert_type(await anext(events), dict[str, Any])


def errors(client: LLMWise) -> float:
    try:
        client.chat(model="m", messages=[])
    except llmwise.RateLimitedError as error:
        assert_type(error.retry_after_s, float | None)
        return error.retry_after_s or 1
    except llmwise.ConnectionFailedError as error:
        assert_type(error.sent, bool)
    except (httpx.TransportError, llmwise.LLMWiseError):
        pass
    assert_type(llmwise.__version__, str)
    return 0
