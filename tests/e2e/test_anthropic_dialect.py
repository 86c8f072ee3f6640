"""Anthropic's dialect in full: what only it can say reaches Anthropic as it came, and what others can be told reaches
them in their own words. Through the official `anthropic` client, sync and async."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest
from pydantic import BaseModel

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, play, wait_for

CLAUDE, GEMINI, GPT = "claude-sonnet-4.5", "gemini-3-flash", "gpt-5.2"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = base64.b64encode(b"%PDF-1.4 tiny").decode()
CACHED = {"type": "ephemeral", "ttl": "1h"}
QUESTION: Any = [{"role": "user", "content": "What is up?"}]
WEATHER: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture
def official(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


def sent_to(mock: ScriptedServer) -> Any:
    (entry,) = mock.requests
    return entry.json


def test_betas_and_the_version_go_to_anthropic_and_other_headers_stay_here(
    official: anthropic.Anthropic, mock: ScriptedServer
) -> None:
    headers = {"anthropic-beta": "context-management-2025-06-27,files-api-2025-04-14", "x-secret": "s", "cookie": "c=1"}
    official.messages.create(model=CLAUDE, max_tokens=100, messages=QUESTION, extra_headers=headers)
    (entry,) = mock.requests
    told = {name.lower(): value for name, value in entry.headers.items()}
    assert told["anthropic-beta"] == headers["anthropic-beta"]
    assert told["anthropic-version"] == "2026-10-21", "the official client's own"
    assert not {"x-secret", "cookie"} & told.keys()
    assert str(official.api_key) not in str(told)
    play(mock)
    answer: Any = official.messages.create(model=GPT, max_tokens=100, messages=QUESTION, extra_headers=headers)
    assert [(w["code"], w["field"]) for w in answer.llmwise["warnings"]] == [("noted", "anthropic-beta")]
    assert "anthropic-beta" not in {name.lower() for name in mock.requests[0].headers}


def test_a_version_that_nobody_knows_is_not_passed_on(client: httpx.Client, mock: ScriptedServer) -> None:
    body = {"model": CLAUDE, "max_tokens": 9, "messages": QUESTION}
    answer = client.post("/v1/messages", json=body, headers={"anthropic-version": "2031-01-01"}).json()
    assert [w["field"] for w in answer["llmwise"]["warnings"]] == ["anthropic-version"]
    (entry,) = mock.requests
    assert {n.lower(): v for n, v in entry.headers.items()}["anthropic-version"] == "2023-06-01"


def test_a_conversation_reaches_anthropic_as_it_came(official: anthropic.Anthropic, mock: ScriptedServer) -> None:
    """Breakpoints on every kind of block, citations, context, server tools and their results, blocks yet unknown."""
    messages: Any = [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "url", "url": "https://x/i.png"}, "cache_control": CACHED},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                    "title": "A",
                    "context": "c",
                    "citations": {"enabled": True},
                    "cache_control": CACHED,
                },
                {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "container_upload", "file_id": "file_2"},
                {"type": "text", "text": "Look."},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "So.", "citations": [{"type": "char_location", "cited_text": "x"}]},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}, "cache_control": CACHED},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "cache_control": CACHED,
                    "content": [
                        {"type": "search_result", "source": "s", "title": "t", "content": []},
                        {"type": "tool_reference", "tool_name": "weather"},
                        {"type": "brand_new", "a": [1.0]},
                    ],
                }
            ],
        },
    ]
    tools: Any = [
        {**WEATHER, "cache_control": CACHED, "defer_loading": True},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
        {"type": "code_execution_20250825", "name": "code_execution"},
    ]
    beyond: dict[str, Any] = {
        "container": "container_1",
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "mcp_servers": [{"type": "url", "url": "https://x/mcp", "name": "x"}],
        "service_tier": "standard_only",
    }
    system: Any = [{"type": "text", "text": "Be short.", "cache_control": CACHED}]
    asked: Any = {"max_tokens": 100, "messages": messages, "tools": tools, "system": system, "extra_body": beyond}
    answer: Any = official.messages.create(model=CLAUDE, **asked)
    body = sent_to(mock)
    assert (body["messages"], body["tools"], body["system"]) == (messages, tools, system)
    assert {name: body[name] for name in beyond} == beyond
    assert not answer.llmwise.get("warnings")


@pytest.mark.parametrize("model", [GPT, GEMINI])
def test_what_another_family_can_t_be_told_is_told_to_the_caller(
    official: anthropic.Anthropic, mock: ScriptedServer, model: str
) -> None:
    result: Any = [{"type": "search_result", "source": "s", "title": "Found it", "content": []}]
    tools: Any = [{**WEATHER, "cache_control": CACHED}, {"type": "web_search_20250305", "name": "web_search"}]
    create: Any = official.messages.create
    answer = create(
        model=model,
        max_tokens=100,
        tools=tools,
        messages=[
            *QUESTION,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": result}]},
        ],
        container="container_1",
        output_config={"effort": "max"},
        extra_body={"mcp_servers": [], "context_management": {}},
    )
    assert {w["field"]: w["code"] for w in answer.llmwise["warnings"]}.items() >= {
        "cache_control": "noted",
        "container": "dropped",
        "context_management": "dropped",
        "mcp_servers": "dropped",
        "messages.tool_result.search_result": "changed",
        "output_config.effort": "dropped",
        "tools.web_search": "dropped",
    }.items()
    assert "Found it" in str(sent_to(mock))


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_adaptive_thinking_is_each_family_s_own(
    official: anthropic.Anthropic, mock: ScriptedServer, effort: Any
) -> None:
    for model in (GPT, GEMINI):
        play(mock)
        official.messages.create(
            model=model,
            max_tokens=100,
            messages=QUESTION,
            thinking={"type": "adaptive"},
            output_config={"effort": effort},
        )
        body = sent_to(mock)
        told = body.get("reasoning_effort") or body["generationConfig"]["thinkingConfig"]["thinkingLevel"].lower()
        assert told == effort


class Weather(BaseModel):
    city: str
    rain: bool


@pytest.mark.parametrize("model", [CLAUDE, GPT, GEMINI])
def test_a_parsed_answer_of_every_family(official: anthropic.Anthropic, mock: ScriptedServer, model: str) -> None:
    play(mock, defaults={"text": '{"city": "Oslo", "rain": true}'})
    answer = official.messages.parse(model=model, max_tokens=100, messages=QUESTION, output_format=Weather)
    assert answer.parsed_output == Weather(city="Oslo", rain=True)
    assert "rain" in str(sent_to(mock)), "the schema, or the words that stand for it"


@pytest.mark.parametrize("model", [CLAUDE, GPT, GEMINI])
def test_images_and_documents_of_every_source(official: anthropic.Anthropic, mock: ScriptedServer, model: str) -> None:
    content: Any = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}, "title": "A"},
        {"type": "text", "text": "What is it?"},
    ]
    official.messages.create(model=model, max_tokens=100, messages=[{"role": "user", "content": content}])
    told = str(sent_to(mock))
    assert all(piece in told for piece in (PIXEL, "https://example.com/cat.png", PDF, "What is it?"))


@pytest.mark.parametrize("model", [CLAUDE, GEMINI])
def test_a_document_of_text_or_at_an_address(official: anthropic.Anthropic, mock: ScriptedServer, model: str) -> None:
    content: Any = [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Plain words."}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "text", "text": "What is it?"},
    ]
    official.messages.create(model=model, max_tokens=100, messages=[{"role": "user", "content": content}])
    told = str(sent_to(mock))
    plain = "Plain words." if model == CLAUDE else base64.b64encode(b"Plain words.").decode()
    assert plain in told
    assert "https://example.com/a.pdf" in told


@pytest.mark.parametrize("model", [CLAUDE, GPT, GEMINI])
def test_an_image_out_of_a_tool_reaches_every_family(
    official: anthropic.Anthropic, mock: ScriptedServer, model: str
) -> None:
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    official.messages.create(
        model=model,
        max_tokens=100,
        tools=[WEATHER],
        messages=[
            *QUESTION,
            {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [image]}]},
        ],
    )
    body = sent_to(mock)
    assert PIXEL in str(body)
    if model == GPT:
        assert [message["role"] for message in body["messages"][-2:]] == ["tool", "user"]


@pytest.mark.parametrize("model", [CLAUDE, GPT, GEMINI])
def test_the_asynchronous_client_goes_through_a_tool_loop_with_thinking(
    gateway: Gateway, mock: ScriptedServer, model: str
) -> None:
    async def loop() -> Any:
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
            asked: Any = {"model": model, "max_tokens": 4000, "tools": [WEATHER], "thinking": {"type": "adaptive"}}
            conversation: list[Any] = []
            for turn in range(2):
                conversation.append({"role": "user", "content": f"Question {turn}"})
                play(mock, defaults={"reasoning": f"Thought {turn}.", "tool_calls": 1})
                async with client.messages.stream(messages=conversation, **asked) as stream:
                    message = await stream.get_final_message()
                calls = [block for block in message.content if block.type == "tool_use"]
                assert len(calls) == 1
                results = [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls]
                conversation += [
                    {"role": "assistant", "content": message.content},
                    {"role": "user", "content": results},
                ]
                play(mock, defaults={"text": "It rains."})
                last = await client.messages.create(messages=conversation, **asked)
                conversation.append({"role": "assistant", "content": last.content})
            return last

    last = asyncio.run(asyncio.wait_for(loop(), 30))
    assert last.content[-1].text == "It rains."
    told = str(sent_to(mock))
    kept = model != GPT  # OpenAI's own models take no thinking back here
    assert [f"Thought {turn}." in told for turn in range(2)] == [kept, kept]


@pytest.mark.parametrize("model", [CLAUDE, GPT, GEMINI])
def test_a_caller_that_leaves_ends_the_provider_s_call(
    official: anthropic.Anthropic, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"text": "word " * 500, "tokens_per_second": 50})
    with official.messages.stream(model=model, max_tokens=4000, messages=QUESTION) as stream:
        next(iter(stream.text_stream))
    wait_for(lambda: mock.requests[0].client_left, 10, lambda: mock.requests)


# --- threads, and tools of Anthropic's own ---


@pytest.mark.parametrize("model", [GPT, GEMINI])
def test_the_clients_own_tool_loop_sends_the_whole_conversation_to_who_keeps_no_threads(
    official: anthropic.Anthropic, mock: ScriptedServer, model: str
) -> None:
    """The client begins a thread, which only Anthropic keeps, is refused in its own words, and goes on without one."""

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"rain in {city}"

    play(mock, {"nth": 1, "fault": "none", "tool_calls": 1}, defaults={"text": "Take an umbrella."})
    runner = official.beta.messages.tool_runner(
        model=model, max_tokens=100, messages=[{"role": "user", "content": "Rain in Oslo?"}], tools=[weather]
    )
    final = runner.until_done()
    assert "".join(block.text for block in final.content if block.type == "text") == "Take an umbrella."
    said = str(mock.requests[-1].json)
    assert "Rain in Oslo?" in said
    assert "rain in" in said


def test_a_thread_goes_to_anthropic_and_is_refused_elsewhere(client: httpx.Client, mock: ScriptedServer) -> None:
    body = {"max_tokens": 9, "messages": QUESTION, "thread": {"type": "continue", "previous_message_id": "msg_1"}}
    forced = body | {"tool_choice": {"type": "any"}}  # the thread has the tools
    assert client.post("/v1/messages", json=forced | {"model": CLAUDE}).status_code == 200
    assert sent_to(mock)["thread"] == body["thread"]
    refused = client.post("/v1/messages", json=body | {"model": GPT})
    assert refused.status_code == 400
    assert refused.json()["error"]["details"]["error_code"] == "thread_unsupported_request"
    assert len(mock.requests) == 1


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "web_search"}])
def test_a_tool_of_anthropics_own_can_be_forced(
    client: httpx.Client, mock: ScriptedServer, choice: dict[str, str]
) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    body = {"model": CLAUDE, "max_tokens": 9, "messages": QUESTION, "tools": tools, "tool_choice": choice}
    answer = client.post("/v1/messages", json=body, headers={"x-llmwise-strict": "true"})
    assert answer.status_code == 200, answer.text
    assert "warnings" not in answer.json()["llmwise"]
    assert sent_to(mock)["tool_choice"] == choice
