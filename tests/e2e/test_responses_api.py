"""The Responses dialect of a running gateway, through the official `openai` client, with every family behind it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import FunctionToolParam, Response, ResponseInputParam
from pydantic import BaseModel

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, data_of, play, running, scripted, settings

TEXT = 'Grüße,\nC:\\new "quoted"\u2028next 🦉'
MODELS = ("gpt-5.2", "claude-sonnet-4.5", "gemini-3-flash", "gpt-5-codex")
"""The last one is behind a provider of the kind `responses`."""
TRANSLATED = MODELS[:3]
WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]},
    "strict": False,
}
CHAIN = {"routing": {"fallback": ["claude-sonnet-4.5", "gpt-5-codex"]}}
DOWN = {"model": "gpt-5.2", "fault": "status", "status": 503}


@pytest.fixture(scope="module")
def providers() -> Iterator[ScriptedServer]:
    with scripted() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(providers: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    tree = settings(providers.url, TRANSLATED, breaker={"failures": 1000, "hard_down_s": 0.001})
    tree["providers"]["responder"] = {"kind": "responses", "base_url": f"{providers.url}/v1"}
    tree["models"].append({"id": "gpt-5-codex", "provider": "responder"})
    tree["models"].append({"id": "o3-pro", "provider": "openai"})
    with running(tmp_path_factory.mktemp("responses"), tree) as gateway:
        yield gateway


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def official(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


def extra(response: Response) -> dict[str, Any]:
    """The gateway's own object."""
    found: dict[str, Any] = response.llmwise  # type: ignore[attr-defined]  # not OpenAI's
    return found


def received(mock: ScriptedServer) -> bytes:
    body = mock.requests[-1].body
    assert body is not None
    return bytes(body)


def sent(mock: ScriptedServer) -> dict[str, Any]:
    """The body of the last request that reached a provider."""
    body: dict[str, Any] = json.loads(received(mock))
    return body


@pytest.mark.parametrize("model", MODELS)
def test_the_official_client_reads_a_response_of_every_family(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"text": TEXT, "usage": {"input": 70, "cache_read": 30, "output": 50, "reasoning": 20}})
    response = official.responses.create(model=model, input="What is up?", instructions="Be short.")
    assert response.output_text == TEXT
    told = "Be short." if model in TRANSLATED else None  # its own words go on, and the scripted one repeats nothing
    assert (response.status, response.model, response.instructions) == ("completed", model, told)
    assert response.id.startswith("resp_")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (100, 50, 150)
    assert response.usage.input_tokens_details.cached_tokens == 30
    if model != "claude-sonnet-4.5":  # Anthropic's scripted answers don't say
        assert response.usage.output_tokens_details.reasoning_tokens == 20
    assert extra(response)["model"] == model


@pytest.mark.parametrize("model", MODELS)
def test_the_official_client_reads_a_stream_of_every_family(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"text": TEXT, "reasoning": "Let me see."})
    events = list(official.responses.create(model=model, input="What is up?", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    final: Any = events[-1]
    assert [item.type for item in final.response.output] == ["reasoning", "message"]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    thought = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert "".join(thought) == final.response.output[0].summary[0].text == "Let me see."
    assert len({event.response.id for event in (events[0], events[1], events[-1])}) == 1  # type: ignore[union-attr]
    done = {event.output_index: event.item for event in events if event.type == "response.output_item.done"}
    assert [done[index] for index in sorted(done)] == final.response.output
    assert extra(final.response)["model"] == final.response.model == model


@pytest.mark.parametrize("model", MODELS)
def test_the_official_helper_for_streams_assembles_text_and_calls(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"tool_calls": 2, "reasoning": "Let me see."})
    with official.responses.stream(model=model, input="Rain?", tools=[WEATHER], tool_choice="required") as stream:
        final = stream.until_done().get_final_response()
    calls = [item for item in final.output if item.type == "function_call"]
    assert [json.loads(call.arguments) for call in calls] == [{"city": "Oslo"}] * 2
    assert len({call.call_id for call in calls}) == 2


class Verdict(BaseModel):
    good: bool
    why: str


@pytest.mark.parametrize("model", MODELS)
def test_the_official_client_parses_structured_answers(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    parsed = official.responses.parse(model=model, input="Is it?", text_format=Verdict)
    assert isinstance(parsed.output_parsed, Verdict)
    with official.responses.stream(model=model, input="Is it?", text_format=Verdict) as stream:
        assert isinstance(stream.until_done().get_final_response().output_parsed, Verdict)


@pytest.mark.parametrize("model", MODELS)
def test_a_tool_loop_goes_round_with_the_items_as_they_came(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"reasoning": "Let me see."})
    conversation: ResponseInputParam = [{"role": "user", "content": "Rain?"}]
    first = official.responses.create(model=model, input=conversation, tools=[WEATHER], tool_choice="required")
    (call,) = [item for item in first.output if item.type == "function_call"]
    conversation += [item.model_dump(exclude_none=True) for item in first.output]  # type: ignore[misc]
    conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
    second = official.responses.create(model=model, input=conversation, tools=[WEATHER])
    assert "after the tool's result" in second.output_text
    conversation += [item.model_dump(exclude_none=True) for item in second.output]  # type: ignore[misc]
    conversation.append({"role": "user", "content": "And tomorrow?"})
    third = official.responses.create(model=model, input=conversation, tools=[WEATHER])
    assert "And tomorrow?" in third.output_text


@pytest.mark.anyio
async def test_the_asynchronous_client_streams_too(gateway: Gateway, mock: ScriptedServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        for model in MODELS:
            whole = await client.responses.create(model=model, input="What is up?")
            async with client.responses.stream(model=model, input="What is up?") as stream:
                await stream.until_done()
                assert (await stream.get_final_response()).output_text == whole.output_text


def test_thinking_goes_back_to_its_provider_as_it_came(official: openai.OpenAI, mock: ScriptedServer) -> None:
    for model in ("claude-sonnet-4.5", "gpt-5-codex"):
        play(mock, defaults={"reasoning": "Let me see."})
        first = official.responses.create(model=model, input="Rain?", reasoning={"effort": "low"})
        items: Any = [item.model_dump(exclude_none=True) for item in first.output]
        official.responses.create(
            model=model, input=[{"role": "user", "content": "Rain?"}, *items, {"role": "user", "content": "Sure?"}]
        )
        if model == "gpt-5-codex":
            thought = sent(mock)["input"][1]
            assert (thought["type"], thought["encrypted_content"]) == ("reasoning", "c2NyaXB0ZWQ=")
            assert thought["summary"] == [{"type": "summary_text", "text": "Let me see."}]
        else:
            thought = sent(mock)["messages"][1]["content"][0]
            assert thought == {"type": "thinking", "thinking": "Let me see.", "signature": "c2NyaXB0ZWQ="}


def test_another_models_thinking_stays_at_home(official: openai.OpenAI, mock: ScriptedServer) -> None:
    play(mock, defaults={"reasoning": "Let me see."})
    items: Any = []
    for model in ("claude-sonnet-4.5", "gpt-5-codex", "gemini-3-flash", "gpt-5.2"):
        items.append({"role": "user", "content": "Rain?"})
        response = official.responses.create(model=model, input=items)
        assert "llmwise.proof" not in str(sent(mock))
        items += [item.model_dump(exclude_none=True) for item in response.output]


def test_failover_and_cost_ride_in_an_object_of_our_own(official: openai.OpenAI, mock: ScriptedServer) -> None:
    play(mock, DOWN)
    raw = official.responses.with_raw_response.create(model="gpt-5.2", input="What is up?", extra_body=CHAIN)
    response = raw.parse()
    assert response.model == raw.headers["x-llmwise-model"] == "claude-sonnet-4.5"
    assert raw.headers["x-llmwise-provider"] == "anthropic"
    assert [(step["model"], step["status"]) for step in extra(response)["route"]] == [
        ("gpt-5.2", "failed"),
        ("claude-sonnet-4.5", "success"),
    ]
    assert extra(response)["cost_usd"] > 0
    play(mock, DOWN)
    *_, last = official.responses.create(model="gpt-5.2", input="What is up?", stream=True, extra_body=CHAIN)
    assert last.type == "response.completed"
    assert extra(last.response)["model"] == last.response.model == "claude-sonnet-4.5"


def test_auto_is_a_model_like_any_other(official: openai.OpenAI, mock: ScriptedServer) -> None:
    response = official.responses.create(model="auto", input="What is up?")
    assert response.model in (*MODELS, "o3-pro")
    assert extra(response)["auto"]["reasons"]


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_cut_at_its_limit_is_incomplete(official: openai.OpenAI, mock: ScriptedServer, model: str) -> None:
    play(mock, defaults={"tokens": 100})
    response = official.responses.create(model=model, input="Tell me", max_output_tokens=20)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    *_, last = official.responses.create(model=model, input="Tell me", max_output_tokens=20, stream=True)
    assert last.type == "response.incomplete"
    assert last.response.output[0].status == "incomplete"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model", "fault", "raised", "code"),
    [
        ("gpt-5-codex", {"fault": "rate_limit", "retry_after": 7}, openai.RateLimitError, "upstream_rate_limited"),
        ("gpt-5-codex", {"fault": "status", "status": 500}, openai.InternalServerError, "upstream_error"),
        ("gpt-5-codex", {"fault": "context_too_long"}, openai.BadRequestError, "context_length_exceeded"),
        ("gpt-5-codex", {"fault": "no_terminal"}, openai.InternalServerError, "upstream_invalid_response"),
        ("claude-sonnet-4.5", {"fault": "overloaded"}, openai.InternalServerError, "upstream_overloaded"),
    ],
    ids=["rate-limit", "server-error", "context", "half-a-body", "overloaded"],
)
def test_a_failure_is_the_official_clients_own(
    official: openai.OpenAI, mock: ScriptedServer, model: str, fault: dict[str, Any], raised: type[Exception], code: str
) -> None:
    play(mock, fault)
    with pytest.raises(raised) as caught:
        official.responses.create(model=model, input="What is up?")
    assert caught.value.code == code  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["cut", "error_in_200", "no_terminal"])
def test_a_stream_that_breaks_ends_with_an_error_and_a_failed_response(
    gateway: Gateway, official: openai.OpenAI, mock: ScriptedServer, model: str, fault: str
) -> None:
    play(mock, {"fault": fault, "after": 2} if fault != "no_terminal" else {"fault": fault})
    with pytest.raises(openai.APIError):
        list(official.responses.create(model=model, input="What is up?", stream=True))
    with gateway.client() as client:
        answer = client.post("/v1/responses", json={"model": model, "input": "What is up?", "stream": True})
    events = [json.loads(data) for data in data_of(answer.text)]
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    failed = events[-1]["response"]
    assert failed["status"] == "failed"
    assert failed["error"]["code"] in ("server_error", "rate_limit_exceeded")
    assert failed["llmwise"]["model"] == model


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": "Hi", "background": True}, "background"),
        ({"input": "Hi", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": "Hi", "conversation": "conv_1"}, "conversation"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ({"input": [{"role": "nobody", "content": "Hi"}]}, "input[0].role"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": "Hi", "temperature": 3}, "temperature"),
        ({"input": "Hi", "reasoning": {"effort": "lots"}}, "reasoning.effort"),
        ({"input": "Hi", "text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
        ({}, "input"),
    ],
)
def test_bad_input_is_refused_in_openais_envelope(
    gateway: Gateway, mock: ScriptedServer, body: dict[str, Any], param: str
) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/responses", json={"model": "gpt-5.2", **body})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert param in error["message"]
    assert not mock.requests


def test_a_previous_response_is_passed_on_to_the_provider_that_keeps_it(
    official: openai.OpenAI, mock: ScriptedServer
) -> None:
    first = official.responses.create(model="gpt-5-codex", input="What is up?", store=True)
    official.responses.create(model="gpt-5-codex", input="And now?", previous_response_id=first.id)
    assert sent(mock)["previous_response_id"] == first.id == "resp_scripted-gpt-5-codex-1"


def test_what_only_the_responses_api_has_is_sent_there_and_told_elsewhere(
    gateway: Gateway, official: openai.OpenAI, mock: ScriptedServer
) -> None:
    search: Any = {"type": "web_search"}
    own = official.responses.create(model="gpt-5-codex", input="Hi", tools=[search], truncation="auto")
    assert sent(mock)["tools"] == [search]
    assert "warnings" not in extra(own)
    for model in TRANSLATED:
        other = official.responses.create(model=model, input="Hi", tools=[search], truncation="auto")
        assert {warning["field"] for warning in extra(other)["warnings"]} == {"tools.web_search", "truncation"}
        with pytest.raises(openai.BadRequestError) as caught:
            official.responses.create(
                model=model, input="Hi", tools=[search], extra_headers={"x-llmwise-strict": "true"}
            )
        assert caught.value.code == "unsupported_input"


def test_images_and_files_reach_every_family(official: openai.OpenAI, mock: ScriptedServer) -> None:
    pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"
    for model in ("gpt-5.2", "claude-sonnet-4.5", "gemini-3-flash"):
        official.responses.create(
            model=model,
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is this?"},
                        {"type": "input_image", "image_url": pixel, "detail": "auto"},
                    ],
                }
            ],
        )
        assert pixel.split(",")[1] in received(mock).decode().replace("\\/", "/")


def test_a_chat_request_reaches_a_model_behind_the_responses_api(gateway: Gateway, mock: ScriptedServer) -> None:
    with gateway.client() as client:
        body = {"model": "gpt-5-codex", "messages": [{"role": "user", "content": "What is up?"}], "max_tokens": 100}
        chat = client.post("/v1/chat/completions", json=body).json()
        assert sent(mock)["store"] is False
        assert sent(mock)["max_output_tokens"] == 100
        anthropic = client.post("/v1/messages", json=body).json()
        native = client.post("/api/v1/chat", json=body | {"stream": False}).json()
    assert chat["choices"][0]["message"]["content"] == anthropic["content"][0]["text"] == native["content"]
    assert all(entry.path == "/v1/responses" for entry in mock.requests)


def test_a_model_that_is_only_in_the_responses_api_is_asked_there(gateway: Gateway, mock: ScriptedServer) -> None:
    with gateway.client() as client:
        for model, path in (("o3-pro", "/v1/responses"), ("gpt-5.2", "/v1/chat/completions")):
            body = {"model": model, "messages": [{"role": "user", "content": "What is up?"}]}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            assert mock.requests[-1].path == path


def test_a_slow_client_that_leaves_ends_the_call(gateway: Gateway, mock: ScriptedServer) -> None:
    play(mock, {"model": "gpt-5-codex", "fault": "stall", "after": 1})
    with gateway.client() as client:
        body = {"model": "gpt-5-codex", "input": "What is up?", "stream": True}
        with client.stream("POST", "/v1/responses", json=body) as answer:
            for line in answer.iter_lines():
                if "output_text.delta" in line:
                    break
    with httpx.Client() as plain:
        for _ in range(500):
            if plain.get(f"{mock.url}/_state").json()["in_flight"] == 0:
                break
    assert mock.requests[-1].client_left
