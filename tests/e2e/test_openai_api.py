"""The OpenAI dialect of a running gateway, through the official `openai` client."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import GUIDE_MODELS, SENT, Gateway, data_of, play

TEXT = 'Grüße,\nC:\\new "quoted"\u2028next 🦉'
MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is up?"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]},
    },
}
CHAIN = {"routing": {"fallback": ["claude-sonnet-4.5", "gemini-3-flash"]}}
SAME_FORMAT = ("gpt-5.2", "deepseek-v3")
"""Their answers go on as they came, under the name that the provider gave its model."""
DOWN = {"model": "gpt-5.2", "fault": "status", "status": 503}


@pytest.fixture
def official(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_the_official_client_reads_an_answer_of_every_provider(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"text": TEXT, "usage": {"input": 70, "cache_read": 30, "output": 50, "reasoning": 20}})
    answer = official.chat.completions.create(model=model, messages=MESSAGES, max_completion_tokens=500)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == (SENT.get(model, model) if model in SAME_FORMAT else model)
    assert answer.id.startswith("scripted-" if model in SAME_FORMAT else "chatcmpl-")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (100, 50, 150)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 30
    assert answer.usage.completion_tokens_details is not None


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_the_official_client_reads_a_stream_of_every_provider(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"text": TEXT, "usage": {"input": 100, "output": 50}})
    stream = official.chat.completions.create(
        model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    *content, finish, usage = chunks
    assert content[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in content) == TEXT
    assert {chunk.choices[0].finish_reason for chunk in content} == {None}
    assert finish.choices[0].finish_reason == "stop"
    assert usage.choices == []
    assert usage.usage is not None
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens) == (100, 50)
    assert len({(chunk.id, chunk.model, chunk.created) for chunk in chunks}) == 1


def test_usage_comes_only_when_it_is_asked_for(official: openai.OpenAI, mock: ScriptedServer) -> None:
    chunks = list(official.chat.completions.create(model="gpt-5.2", messages=MESSAGES, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_the_official_helper_for_streams_assembles_text_and_tool_calls(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    with official.chat.completions.stream(
        model=model, messages=MESSAGES, tools=[WEATHER], tool_choice="required"
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert json.loads(calls[0].function.arguments) == {"city": "Oslo"}


def test_tool_calls_go_round_trip(official: openai.OpenAI, mock: ScriptedServer) -> None:
    for model in GUIDE_MODELS:
        first = (
            official.chat.completions.create(model=model, messages=MESSAGES, tools=[WEATHER], tool_choice="required")
            .choices[0]
            .message
        )
        assert first.tool_calls
        conversation: Any = [
            *MESSAGES,
            first.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "rain"},
        ]
        second = official.chat.completions.create(model=model, messages=conversation, tools=[WEATHER])
        assert "after the tool's result" in (second.choices[0].message.content or "")


def test_failover_and_cost_ride_in_an_object_of_our_own(official: openai.OpenAI, mock: ScriptedServer) -> None:
    play(mock, DOWN)
    raw = official.chat.completions.with_raw_response.create(model="gpt-5.2", messages=MESSAGES, extra_body=CHAIN)
    answer: Any = raw.parse()
    assert answer.model == raw.headers["x-llmwise-model"] == "claude-sonnet-4.5"
    assert raw.headers["x-llmwise-provider"] == "anthropic"
    assert [(step["model"], step["status"]) for step in answer.llmwise["route"]] == [
        ("gpt-5.2", "failed"),
        ("claude-sonnet-4.5", "success"),
    ]
    assert answer.llmwise["cost_usd"] > 0
    play(mock, DOWN)
    *_, last = official.chat.completions.create(model="gpt-5.2", messages=MESSAGES, stream=True, extra_body=CHAIN)
    extra: Any = last
    assert extra.llmwise["model"] == extra.model == "claude-sonnet-4.5"


def test_auto_is_a_model_like_any_other(official: openai.OpenAI, mock: ScriptedServer) -> None:
    assert [model.id for model in official.models.list()] == ["auto", *GUIDE_MODELS]
    answer: Any = official.chat.completions.create(model="auto", messages=MESSAGES)
    assert answer.model in GUIDE_MODELS
    assert answer.llmwise["auto"]["reasons"]


@pytest.mark.parametrize(
    ("model", "fault", "raised", "code"),
    [
        ("deepseek-v3", {"fault": "rate_limit", "retry_after": 7}, openai.RateLimitError, "upstream_rate_limited"),
        ("deepseek-v3", {"fault": "status", "status": 500}, openai.InternalServerError, "upstream_error"),
        ("deepseek-v3", {"fault": "context_too_long"}, openai.BadRequestError, "context_length_exceeded"),
        ("gemini-3-flash", {"fault": "status", "status": 401}, openai.InternalServerError, "upstream_unauthorized"),
    ],
    ids=["rate-limit", "server-error", "context", "our-key-is-bad"],
)
def test_the_official_client_raises_what_it_knows(
    official: openai.OpenAI,
    mock: ScriptedServer,
    model: str,
    fault: dict[str, Any],
    raised: type[openai.APIStatusError],
    code: str,
) -> None:
    for stream in (False, True):
        play(mock, fault)
        with pytest.raises(raised) as caught:
            official.chat.completions.create(model=model, messages=MESSAGES, stream=stream)
        assert caught.value.code == code
        assert caught.value.request_id is not None
        if "retry_after" in fault:
            assert caught.value.response.headers["retry-after"] == "7"


def test_the_official_client_raises_for_a_bad_key_and_an_unknown_model(
    gateway: Gateway, official: openai.OpenAI
) -> None:
    with pytest.raises(openai.AuthenticationError):
        official.with_options(api_key="sk-not-ours").models.list()
    with pytest.raises(openai.NotFoundError, match=r"gpt-5\.2"):
        official.chat.completions.create(model="gpt-5.22", messages=MESSAGES)


def test_a_stream_that_is_cut_raises_and_never_ends_as_if_complete(
    official: openai.OpenAI, mock: ScriptedServer
) -> None:
    play(mock, {"fault": "cut", "after": 2})
    read: list[ChatCompletionChunk] = []
    with pytest.raises(openai.APIError) as caught:
        read.extend(official.chat.completions.create(model="gpt-5.2", messages=MESSAGES, stream=True))
    assert caught.value.code == "upstream_cut"
    assert all(choice.finish_reason is None for chunk in read for choice in chunk.choices)


def test_fields_that_only_openai_knows_reach_openai(official: openai.OpenAI, mock: ScriptedServer) -> None:
    official.chat.completions.create(
        model="gpt-5.2", messages=MESSAGES, service_tier="flex", extra_body={"brand_new": {"a": 1}, **CHAIN}
    )
    (entry,) = mock.requests
    assert (entry.json["service_tier"], entry.json["brand_new"]) == ("flex", {"a": 1})
    assert "routing" not in entry.json


def test_the_stream_s_frames_are_openai_s(gateway: Gateway, mock: ScriptedServer) -> None:
    with gateway.client() as client:
        body = {"model": "gpt-5.2", "stream": True, "messages": MESSAGES}
        response = client.post("/v1/chat/completions", json=body)
    *chunks, done = data_of(response.content)
    assert done == "[DONE]"
    assert all(json.loads(chunk)["object"] == "chat.completion.chunk" for chunk in chunks)
