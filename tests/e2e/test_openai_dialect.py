"""What the official clients `openai` (sync and async) and `anthropic` do with a gateway beyond a plain chat: choices,
log probabilities, custom tools, vision, structured answers, model lists, headers, leaving early."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from pydantic import BaseModel

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import GUIDE_MODELS, Gateway, play, running, settings, wait_for

FAMILIES = ("gpt-5.2", "claude-sonnet-4.5", "gemini-3-flash")
MESSAGES: Any = [{"role": "user", "content": "What is up?"}]
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]},
    },
}
SHELL: Any = {"type": "custom", "custom": {"name": "shell", "description": "Runs a command."}}


pytestmark = pytest.mark.anyio


class City(BaseModel):
    name: str
    people: int


@pytest.fixture(scope="module")
def gateway(providers: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    tree = settings(providers.url, breaker={"failures": 1000, "hard_down_s": 0.001})
    tree["models"][0]["aliases"] = ["mine/gpt"]
    with running(tmp_path_factory.mktemp("gateway"), tree) as gateway:
        yield gateway


@pytest.fixture
def official(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def asynchronous(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"{gateway.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


# --- n ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_n_choices_come_from_every_provider_with_their_indices_and_the_sum_of_their_usage(
    official: openai.OpenAI, client: httpx.Client, mock: ScriptedServer, model: str
) -> None:
    play(
        mock,
        {"nth": 1, "text": "one", "usage": {"input": 10, "output": 5}},
        {"nth": 2, "text": "two", "usage": {"input": 10, "output": 7}},
    )
    raw = official.chat.completions.with_raw_response.create(model=model, messages=MESSAGES, n=2)
    answer: Any = raw.parse()
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert {choice.message.content for choice in answer.choices} == {"one", "two"}
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (20, 12, 32)
    assert answer.model == raw.headers["x-llmwise-model"] == model
    detail = client.get(f"/api/v1/history/{raw.headers['x-request-id']}").json()
    assert (detail["attempts"], detail["prompt_tokens"], detail["completion_tokens"]) == (2, 20, 12)
    assert detail["cost"] == answer.llmwise["cost_usd"] == float(raw.headers["x-llmwise-cost"]) > 0
    assert [attempt["number"] for attempt in detail["attempt_list"]] == [0, 1]


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_n_choices_are_streamed_side_by_side(official: openai.OpenAI, mock: ScriptedServer, model: str) -> None:
    play(mock, defaults={"text": "a b c d", "usage": {"input": 10, "output": 4}, "tokens_per_second": 200})
    chunks = list(
        official.chat.completions.create(
            model=model, messages=MESSAGES, n=3, stream=True, stream_options={"include_usage": True}
        )
    )
    *parts, usage = chunks
    said = dict.fromkeys(range(3), "")
    ends = {}
    for chunk in parts:
        (choice,) = chunk.choices
        said[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            ends[choice.index] = choice.finish_reason
    assert said == dict.fromkeys(range(3), "a b c d")
    assert ends == dict.fromkeys(range(3), "stop")
    assert usage.usage is not None
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens) == (30, 12)
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    order = [chunk.choices[0].index for chunk in parts]
    assert order != sorted(order), "the choices came one after the other"


def test_a_seed_is_counted_on_so_that_choices_differ(official: openai.OpenAI, mock: ScriptedServer) -> None:
    official.chat.completions.create(model="gpt-5.2", messages=MESSAGES, n=3, seed=7)
    assert sorted(entry.json["seed"] for entry in mock.requests) == [7, 8, 9]
    assert all("n" not in entry.json for entry in mock.requests)


def test_each_choice_fails_over_by_itself_and_one_that_fails_for_good_ends_the_answer(
    official: openai.OpenAI, mock: ScriptedServer
) -> None:
    chain = {"routing": {"fallback": ["claude-sonnet-4.5"]}}
    play(mock, {"model": "gpt-5.2", "nth": 2, "fault": "status", "status": 503})
    answer: Any = official.chat.completions.create(model="gpt-5.2", messages=MESSAGES, n=2, extra_body=chain)
    assert len(answer.choices) == 2
    assert sorted(step["status"] for step in answer.llmwise["route"]) == ["failed", "success", "success"]
    play(mock, {"model": "gpt-5.2", "nth": 2, "fault": "rate_limit", "retry_after": 3})
    for stream in (False, True):
        play(mock, {"model": "gpt-5.2", "nth": 2, "fault": "rate_limit", "retry_after": 3}, defaults={"latency_ms": 80})
        with pytest.raises(openai.APIError) as caught:
            list(official.chat.completions.create(model="gpt-5.2", messages=MESSAGES, n=2, stream=stream))
        assert caught.value.code == "upstream_rate_limited"
    wait_for(lambda: mock.in_flight == 0, 5, lambda: "a choice was left running")


# --- log probabilities ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["gpt-5.2", "gemini-3-flash"])
def test_log_probabilities_come_whole_and_streamed_where_the_family_has_them(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"text": "a é"})
    asked: Any = {"model": model, "messages": MESSAGES, "logprobs": True, "top_logprobs": 2}
    whole = official.chat.completions.create(**asked).choices[0].logprobs
    assert whole is not None
    assert whole.content is not None
    assert [(one.token, one.logprob, one.bytes, len(one.top_logprobs)) for one in whole.content] == [
        ("a", -0.7, [97], 2),
        (" é", -0.7, [32, 195, 169], 2),
    ]
    streamed: list[Any] = []
    for chunk in official.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            if choice.logprobs is not None:
                streamed += choice.logprobs.content or []
    assert streamed == whole.content


def test_log_probabilities_of_a_family_without_them_are_told_lost_or_refused(
    official: openai.OpenAI, mock: ScriptedServer
) -> None:
    asked: Any = {"model": "claude-sonnet-4.5", "messages": MESSAGES, "logprobs": True, "top_logprobs": 2}
    raw = official.chat.completions.with_raw_response.create(**asked)
    answer: Any = raw.parse()
    assert "logprobs" in {warned["field"] for warned in answer.llmwise["warnings"]}
    assert int(raw.headers["x-llmwise-warnings"]) >= 1
    with pytest.raises(openai.BadRequestError, match="logprobs"):
        official.chat.completions.create(**asked, extra_headers={"x-llmwise-strict": "true"})


# --- what only OpenAI has ---------------------------------------------------------------------------------------------

ONLY_OPENAI: Any = {
    "prediction": {"type": "content", "content": "so it is"},
    "web_search_options": {},
    "service_tier": "flex",
    "store": True,
    "prompt_cache_key": "k",
    "verbosity": "low",
    "logit_bias": {"50256": -100},
    "functions": [{"name": "f", "parameters": {"type": "object"}}],
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "mp3"},
}


@pytest.mark.parametrize("field", ONLY_OPENAI)
def test_a_field_that_only_openai_has_reaches_it_and_is_told_lost_elsewhere(
    official: openai.OpenAI, mock: ScriptedServer, field: str
) -> None:
    extra = {field: ONLY_OPENAI[field]}
    official.chat.completions.create(model="gpt-5.2", messages=MESSAGES, extra_body=extra)
    assert mock.requests[-1].json[field] == ONLY_OPENAI[field]
    for model in ("claude-sonnet-4.5", "gemini-3-flash"):
        answer: Any = official.chat.completions.create(model=model, messages=MESSAGES, extra_body=extra)
        assert [warned["field"] for warned in answer.llmwise["warnings"]] == [field]
        assert field not in mock.requests[-1].json


@pytest.mark.parametrize("stream", [False, True])
def test_custom_tools_go_to_openai_and_back(official: openai.OpenAI, mock: ScriptedServer, stream: bool) -> None:
    play(mock, defaults={"tool_calls": 1})
    asked: Any = {"model": "gpt-5.2", "messages": MESSAGES, "tools": [SHELL], "stream": stream}
    for n in (1, 2):
        told = official.chat.completions.create(**asked, n=n)
        message: Any
        if stream:
            fragments = [
                call
                for chunk in told
                for choice in chunk.choices
                if choice.index == n - 1
                for call in choice.delta.tool_calls or ()
            ]
            assert (fragments[0].type, fragments[0].custom["name"]) == ("custom", "shell")
            assert "".join(one.custom["input"] for one in fragments) == "{}"
            continue
        call = told.choices[n - 1].message.tool_calls[0]
        assert (call.type, call.custom.name, call.custom.input) == ("custom", "shell", "{}")
    assert mock.requests[-1].json["tools"] == [SHELL]
    if not stream:
        message = told.choices[0].message.model_dump(exclude_none=True)
        conversation = [
            *MESSAGES,
            message,
            {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "ok"},
        ]
        for model in ("gpt-5.2", "gemini-3-flash"):
            official.chat.completions.create(model=model, messages=conversation, tools=[SHELL])


def test_a_custom_tool_and_allowed_tools_are_told_lost_elsewhere(official: openai.OpenAI, mock: ScriptedServer) -> None:
    allowed: Any = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]},
    }
    for model in ("claude-sonnet-4.5", "gemini-3-flash"):
        answer: Any = official.chat.completions.create(
            model=model, messages=MESSAGES, tools=[WEATHER, SHELL], tool_choice=allowed
        )
        assert {warned["field"] for warned in answer.llmwise["warnings"]} == {"tools[1]", "tool_choice"}
        assert answer.choices[0].finish_reason == "tool_calls"
    official.chat.completions.create(model="gpt-5.2", messages=MESSAGES, tools=[WEATHER, SHELL], tool_choice=allowed)
    assert mock.requests[-1].json["tool_choice"] == allowed


def test_a_conversation_from_before_there_were_tools_goes_to_every_family(
    official: openai.OpenAI, mock: ScriptedServer
) -> None:
    conversation: Any = [
        *MESSAGES,
        {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"role": "function", "name": "weather", "content": "rain"},
    ]
    for model in FAMILIES:
        answer = official.chat.completions.create(model=model, messages=conversation)
        assert answer.choices[0].message.content


# --- the official clients' own ways -----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", FAMILIES)
async def test_the_asynchronous_client_chats_streams_and_calls_tools_in_parallel_over_turns(
    asynchronous: openai.AsyncOpenAI, mock: ScriptedServer, model: str
) -> None:
    chat = asynchronous.chat.completions
    play(mock, defaults={"text": "fine"})
    whole, stream = await asyncio.gather(
        chat.create(model=model, messages=MESSAGES), chat.create(model=model, messages=MESSAGES, stream=True)
    )
    streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert whole.choices[0].message.content == streamed == "fine"
    conversation = [*MESSAGES]
    for _ in range(2):
        play(mock, defaults={"tool_calls": 2})
        called = (await chat.create(model=model, messages=conversation, tools=[WEATHER])).choices[0].message
        assert called.tool_calls is not None
        assert len({call.id for call in called.tool_calls}) == 2
        results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in called.tool_calls]
        conversation += [called.model_dump(exclude_none=True), *results]
        said = (await chat.create(model=model, messages=conversation, tools=[WEATHER])).choices[0].message
        assert "after the tool's result" in (said.content or "")
        conversation += [said.model_dump(exclude_none=True), *MESSAGES]


@pytest.mark.parametrize("model", FAMILIES)
def test_a_structured_answer_is_parsed(official: openai.OpenAI, mock: ScriptedServer, model: str) -> None:
    parsed = official.chat.completions.parse(model=model, messages=MESSAGES, response_format=City)
    assert isinstance(parsed.choices[0].message.parsed, City)


@pytest.mark.parametrize("model", FAMILIES)
def test_an_image_reaches_every_family(official: openai.OpenAI, mock: ScriptedServer, model: str) -> None:
    seen: Any = {
        "role": "user",
        "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": PIXEL}}],
    }
    official.chat.completions.create(model=model, messages=[seen])
    assert PIXEL.partition(",")[2] in json.dumps(mock.requests[-1].json)


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        (400, openai.BadRequestError),
        (404, openai.InternalServerError),  # the provider's 404 is not the caller's
        (401, openai.InternalServerError),
        (422, openai.BadRequestError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
async def test_each_failure_raises_the_class_that_its_status_has(
    asynchronous: openai.AsyncOpenAI, mock: ScriptedServer, status: int, raised: type[openai.APIStatusError]
) -> None:
    play(mock, {"fault": "status", "status": status})
    with pytest.raises(openai.APIStatusError) as caught:
        await asynchronous.chat.completions.create(model="deepseek-v3", messages=MESSAGES)  # a 401 opens its circuit
    assert type(caught.value) is raised, caught.value
    assert caught.value.code
    assert caught.value.request_id


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_ends_all_upstream_calls(
    asynchronous: openai.AsyncOpenAI, mock: ScriptedServer, stream: bool, n: int
) -> None:
    play(mock, defaults={"tokens": 400, "tokens_per_second": 40})
    asked = asynchronous.chat.completions.create(model="gpt-5.2", messages=MESSAGES, n=n, stream=stream)
    if stream:
        answer: Any = await asked
        await anext(aiter(answer))
        await answer.close()
    else:
        task = asyncio.ensure_future(asked)
        await until(lambda: mock.in_flight == n)
        task.cancel()
        await asyncio.wait([task])
    await until(lambda: mock.in_flight == 0)
    assert all(entry.client_left for entry in mock.requests)
    assert len(mock.requests) == n


async def until(holds: Callable[[], bool]) -> None:
    """The mock runs in another thread: there is nothing to wait on."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# --- models, headers --------------------------------------------------------------------------------------------------


def test_a_model_is_found_by_its_id_and_its_alias(official: openai.OpenAI) -> None:
    assert official.models.retrieve("gpt-5.2").id == "gpt-5.2"
    assert official.models.retrieve("mine/gpt").id == "gpt-5.2"
    assert official.models.retrieve("auto").owned_by == "llmwise"
    with pytest.raises(openai.NotFoundError, match=r"gpt-5\.2"):
        official.models.retrieve("gpt-5.22")


def test_the_official_anthropic_client_lists_models(gateway: Gateway) -> None:
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        everything = [model.id for model in client.models.list(limit=2)]  # it asks for page after page
        assert everything == ["auto", *GUIDE_MODELS]
        page = client.models.list(limit=2)
        assert ([model.id for model in page.data], page.has_more) == (["auto", "gpt-5.2"], True)
        before = client.models.list(limit=2, before_id="deepseek-v3")
        assert [model.id for model in before.data] == ["claude-sonnet-4.5", "gemini-3-flash"]
        one = client.models.retrieve("claude-sonnet-4.5")
        assert (one.id, one.type) == ("claude-sonnet-4.5", "model")
        with pytest.raises(anthropic.NotFoundError):
            client.models.retrieve("claude-sonnet-9")


BY_COST = {"fallback": ["claude-sonnet-4.5"], "strategy": "cost"}  # and not by who was limited in another test
OPENAI_BODY = {"model": "gpt-5.2", "messages": MESSAGES, "routing": BY_COST}
ANTHROPIC_BODY = {"model": "gpt-5.2", "messages": MESSAGES, "max_tokens": 50, "top_k": 3}


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", OPENAI_BODY), ("/v1/messages", ANTHROPIC_BODY)],
    ids=["openai", "anthropic"],
)
def test_every_answer_of_both_dialects_says_in_headers_who_answered_and_what_it_cost(
    client: httpx.Client, mock: ScriptedServer, path: str, body: dict[str, Any]
) -> None:
    whole = client.post(path, json=body)
    assert whole.status_code == 200, whole.text
    account = whole.json()["llmwise"]
    assert whole.headers["x-request-id"] == account["request_id"]
    assert whole.headers["x-llmwise-model"] == "gpt-5.2"
    assert whole.headers["x-llmwise-provider"] == "openai"
    assert float(whole.headers["x-llmwise-cost"]) == account["cost_usd"] > 0
    assert whole.headers["x-llmwise-route"] == "gpt-5.2=success"
    assert whole.headers["x-llmwise-warnings"] == str(len(account.get("warnings", [])))
    streamed = client.post(path, json={**body, "stream": True})
    shown = {name for name in streamed.headers if name.startswith("x-llmwise")}
    assert shown == {"x-llmwise-model", "x-llmwise-provider", "x-llmwise-route", "x-llmwise-warnings"}
    assert streamed.headers["x-llmwise-model"] == "gpt-5.2"


def test_a_stream_s_headers_name_the_model_that_answers_in_the_end(client: httpx.Client, mock: ScriptedServer) -> None:
    assert client.post("/v1/chat/completions", json=OPENAI_BODY).status_code == 200
    play(mock, {"model": "gpt-5.2", "fault": "status", "status": 500})
    streamed = client.post("/v1/chat/completions", json={**OPENAI_BODY, "stream": True})
    assert streamed.headers["x-llmwise-model"] == "claude-sonnet-4.5"
    assert streamed.headers["x-llmwise-provider"] == "anthropic"
    assert streamed.headers["x-llmwise-route"] == "gpt-5.2=failed(upstream_error),claude-sonnet-4.5=success"
