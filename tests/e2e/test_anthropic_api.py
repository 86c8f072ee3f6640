"""The Anthropic dialect of a running gateway, through the official `anthropic` client."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import GUIDE_MODELS, SENT, Gateway, data_of, play

TEXT = 'Grüße,\nC:\\new "quoted"\u2028next 🦉'
MESSAGES: list[MessageParam] = [{"role": "user", "content": "What is up?"}]
WEATHER: ToolParam = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]},
}
CLAUDE = "claude-sonnet-4.5"
CHAIN = {"routing": {"fallback": [CLAUDE, "gemini-3-flash"]}}
DOWN = {"model": "gpt-5.2", "fault": "status", "status": 503}
ASKED: dict[str, Any] = {"max_tokens": 500, "messages": MESSAGES}


def named(model: str) -> str:
    """The model's name in an answer: Anthropic's own go on as they came, under the name that it gave them."""
    return SENT[model] if model == CLAUDE else model


@pytest.fixture
def official(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_the_official_client_reads_an_answer_of_every_provider(
    official: anthropic.Anthropic, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"text": TEXT, "usage": {"input": 70, "cache_read": 30, "output": 50}})
    answer = official.messages.create(model=model, **ASKED)
    assert [(block.type, getattr(block, "text", None)) for block in answer.content] == [("text", TEXT)]
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", named(model))
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.id.startswith("scripted-" if model == CLAUDE else "msg_")
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (70, 30, 50)
    assert usage.cache_creation_input_tokens == 0
    assert answer._request_id is not None


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_the_official_client_reads_a_stream_of_every_provider(
    official: anthropic.Anthropic, mock: ScriptedServer, model: str
) -> None:
    play(mock, defaults={"text": TEXT, "usage": {"input": 70, "cache_read": 30, "output": 50}})
    with official.messages.stream(model=model, **ASKED) as stream:
        assert "".join(stream.text_stream) == TEXT
        final = stream.get_final_message()
    assert (final.model, final.stop_reason) == (named(model), "end_turn")
    usage = final.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (70, 30, 50)


def test_the_asynchronous_client_reads_both(gateway: Gateway, mock: ScriptedServer) -> None:
    play(mock, defaults={"text": TEXT})

    async def ask() -> tuple[Any, str]:
        async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as client:
            whole, streamed = await asyncio.gather(
                client.messages.create(model="gpt-5.2", **ASKED), gather(client.messages.stream(model=CLAUDE, **ASKED))
            )
            return whole, streamed

    async def gather(manager: Any) -> str:
        async with manager as stream:
            return "".join([text async for text in stream.text_stream])

    whole, streamed = asyncio.run(asyncio.wait_for(ask(), 20))
    assert whole.content[0].text == streamed == TEXT


def test_a_key_may_come_as_a_bearer_s(gateway: Gateway, mock: ScriptedServer) -> None:
    with anthropic.Anthropic(base_url=gateway.url, auth_token=gateway.key, max_retries=0) as client:
        assert client.messages.create(model="gpt-5.2", **ASKED).content


@pytest.mark.parametrize("model", GUIDE_MODELS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_tools_go_round_in_two_turns(
    official: anthropic.Anthropic, mock: ScriptedServer, model: str, streamed: bool
) -> None:
    play(mock, defaults={"tool_calls": 2})
    first = ask(official, streamed, model=model, tools=[WEATHER], tool_choice={"type": "any"}, **ASKED)
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block.type == "tool_use"]
    assert [(call.name, call.input) for call in calls] == [("weather", {"city": "Oslo"})] * 2
    assert len({call.id for call in calls}) == 2
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls]
    conversation: Any = [
        *MESSAGES,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [*results, {"type": "text", "text": "And now?"}]},
    ]
    play(mock, defaults={"tool_calls": 0, "text": "It rains."})
    second = ask(official, streamed, model=model, max_tokens=500, messages=conversation, tools=[WEATHER])
    assert (second.content[0].text, second.stop_reason) == ("It rains.", "end_turn")
    (entry,) = mock.requests
    assert str(entry.json).count("rain") == 2


def ask(official: anthropic.Anthropic, streamed: bool, **fields: Any) -> Any:
    if not streamed:
        return official.messages.create(**fields)
    with official.messages.stream(**fields) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("system", ["Be short.", [{"type": "text", "text": "Be short."}]], ids=["text", "blocks"])
def test_the_system_prompt_reaches_every_provider(
    official: anthropic.Anthropic, mock: ScriptedServer, system: Any
) -> None:
    for model in GUIDE_MODELS:
        official.messages.create(model=model, system=system, **ASKED)
    sent = [entry.json for entry in mock.requests]
    assert [body["messages"][0]["role"] in ("system", "developer") for body in (sent[0], sent[3])] == [True, True]
    assert sent[1]["system"] == [{"type": "text", "text": "Be short."}]
    assert sent[2]["systemInstruction"]["parts"][0]["text"] == "Be short."


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_thinking_and_its_signature_go_to_the_caller_and_back(
    official: anthropic.Anthropic, mock: ScriptedServer, streamed: bool
) -> None:
    play(mock, defaults={"reasoning": "Let me see.", "text": "So."})
    thinks: Any = {"type": "enabled", "budget_tokens": 2000}
    first = ask(official, streamed, model=CLAUDE, max_tokens=4000, messages=MESSAGES, thinking=thinks)
    thought, text = first.content
    assert (thought.type, thought.thinking, text.text) == ("thinking", "Let me see.", "So.")
    assert thought.signature
    conversation: Any = [*MESSAGES, {"role": "assistant", "content": first.content}, *MESSAGES]
    play(mock)
    ask(official, streamed, model=CLAUDE, max_tokens=4000, messages=conversation, thinking=thinks)
    (entry,) = mock.requests
    assert entry.json["thinking"] == thinks
    assert entry.json["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": "Let me see.",
        "signature": thought.signature,
    }


def test_another_family_s_thinking_comes_without_a_signature_and_stays_away_from_anthropic(
    official: anthropic.Anthropic, mock: ScriptedServer
) -> None:
    for model in ("gemini-3-flash", "deepseek-v3"):
        play(mock, defaults={"reasoning": "Let me see.", "text": "So."})
        first: Any = official.messages.create(
            model=model, max_tokens=4000, messages=MESSAGES, thinking={"type": "adaptive"}
        )
        assert [block.type for block in first.content] == ["thinking", "text"]
        assert first.content[0].signature == ""
        conversation: Any = [*MESSAGES, {"role": "assistant", "content": first.content}, *MESSAGES]
        play(mock)
        official.messages.create(model=CLAUDE, max_tokens=500, messages=conversation)
        (entry,) = mock.requests
        assert entry.json["messages"][1]["content"] == [{"type": "text", "text": "So."}]


def test_fields_that_only_anthropic_knows_reach_anthropic_and_nobody_else(
    official: anthropic.Anthropic, mock: ScriptedServer
) -> None:
    tools: Any = [{**WEATHER, "cache_control": {"type": "ephemeral"}}, {"type": "web_search_20250305", "name": "web"}]
    extra = {"brand_new": {"a": 1}, "routing": {"fallback": ["gpt-5.2"]}}
    for model, lost in ((CLAUDE, []), ("gpt-5.2", ["brand_new", "cache_control", "tools.web"])):
        answer: Any = official.messages.create(
            model=model, tools=tools, service_tier="auto", metadata={"user_id": "u1"}, extra_body=extra, **ASKED
        )
        assert sorted(warning["field"] for warning in answer.llmwise.get("warnings", ())) == lost
    own, other = (entry.json for entry in mock.requests)
    assert (own["model"], own["service_tier"], own["brand_new"]) == (SENT[CLAUDE], "auto", {"a": 1})
    assert (own["tools"], own["metadata"]) == (tools, {"user_id": "u1"})
    assert not {"service_tier", "brand_new"} & other.keys()
    assert [tool["function"]["name"] for tool in other["tools"]] == ["weather"]
    assert "routing" not in own.keys() | other.keys()


def test_failover_and_cost_ride_in_an_object_of_our_own(official: anthropic.Anthropic, mock: ScriptedServer) -> None:
    play(mock, DOWN)
    raw = official.messages.with_raw_response.create(model="gpt-5.2", extra_body=CHAIN, **ASKED)
    answer: Any = raw.parse()
    assert (answer.model, raw.headers["x-llmwise-model"]) == (named(CLAUDE), CLAUDE)
    assert raw.headers["x-llmwise-provider"] == "anthropic"
    assert raw.headers["request-id"] == raw.headers["x-request-id"]
    assert [(step["model"], step["status"]) for step in answer.llmwise["route"]] == [
        ("gpt-5.2", "failed"),
        (CLAUDE, "success"),
    ]
    assert answer.llmwise["cost_usd"] > 0
    play(mock, DOWN)
    stream = official.messages.create(model="gpt-5.2", stream=True, extra_body=CHAIN, **ASKED)
    events: list[Any] = list(stream)
    assert (events[0].message.model, events[-2].llmwise["model"]) == (named(CLAUDE), CLAUDE)


def test_auto_and_aliases_are_models_like_any_other(official: anthropic.Anthropic, mock: ScriptedServer) -> None:
    answer: Any = official.messages.create(model="auto", **ASKED)
    assert answer.model in map(named, GUIDE_MODELS)
    assert answer.llmwise["auto"]["reasons"]
    assert official.messages.create(model="anthropic/Claude_Sonnet_4.5", **ASKED).model == named(CLAUDE)


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_a_limit_that_is_reached_is_said(official: anthropic.Anthropic, mock: ScriptedServer, model: str) -> None:
    play(mock, defaults={"finish": "length"})
    assert official.messages.create(model=model, **ASKED).stop_reason == "max_tokens"
    play(mock, defaults={"finish": "content_filter"})
    assert official.messages.create(model=model, **ASKED).stop_reason == "refusal"


@pytest.mark.parametrize(
    ("model", "fault", "raised", "kind", "code"),
    [
        (
            "deepseek-v3",
            {"fault": "rate_limit", "retry_after": 7},
            anthropic.RateLimitError,
            "rate_limit_error",
            "upstream_rate_limited",
        ),
        (
            "gpt-5.2",
            {"fault": "status", "status": 500},
            anthropic.InternalServerError,
            "api_error",
            "upstream_error",
        ),
        (
            CLAUDE,
            {"fault": "context_too_long"},
            anthropic.BadRequestError,
            "invalid_request_error",
            "context_length_exceeded",
        ),
        (CLAUDE, {"fault": "overloaded"}, anthropic.InternalServerError, "overloaded_error", "upstream_overloaded"),
        (
            "gemini-3-flash",
            {"fault": "status", "status": 401},
            anthropic.InternalServerError,
            "api_error",
            "upstream_unauthorized",
        ),
    ],
    ids=["rate-limit", "server-error", "context", "overloaded", "our-key-is-bad"],
)
def test_the_official_client_raises_what_it_knows(
    official: anthropic.Anthropic,
    mock: ScriptedServer,
    model: str,
    fault: dict[str, Any],
    raised: type[anthropic.APIStatusError],
    kind: str,
    code: str,
) -> None:
    for stream in (False, True):
        play(mock, fault)
        with pytest.raises(raised) as caught:
            official.messages.create(model=model, stream=stream, **ASKED)
        body: Any = caught.value.body
        assert (body["type"], body["error"]["type"], body["error"]["code"]) == ("error", kind, code)
        assert body["request_id"] == caught.value.request_id is not None
        if "retry_after" in fault:
            assert caught.value.response.headers["retry-after"] == "7"


def test_the_official_client_raises_for_a_bad_key_and_an_unknown_model(official: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        official.with_options(api_key="sk-not-ours").messages.create(model="gpt-5.2", **ASKED)
    with pytest.raises(anthropic.NotFoundError, match=r"gpt-5\.2"):
        official.messages.create(model="gpt-5.22", **ASKED)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"tools": [{"name": "weather"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "most"}}, "output_config.effort"),
        ({"routing": {"fallbacks": []}}, "routing.fallbacks"),
    ],
    ids=str,
)
def test_a_body_that_does_not_fit_is_a_400_that_names_the_field(
    gateway: Gateway, mock: ScriptedServer, change: dict[str, Any], path: str
) -> None:
    with gateway.client() as client:
        body = {"model": "gpt-5.2", **ASKED, **change}
        response = client.post("/v1/messages", json=body)
    assert response.status_code == 400, response.text
    told = response.json()
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
    assert path in told["error"]["message"]
    assert told["error"]["param"].startswith(path.split(".")[0])
    assert mock.requests == []


@pytest.mark.parametrize("body", [b"{", b'{"model": "\xff"}', b'{"a": [{"b": "\xff"}]}', b"[" * 100_000])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_a_body_that_is_no_json_is_a_400(gateway: Gateway, path: str, body: bytes) -> None:
    with gateway.client() as client:
        response = client.post(path, content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")


def test_paths_and_methods_that_are_not_there_are_refused_in_anthropic_s_envelope(gateway: Gateway) -> None:
    with gateway.client() as client:
        missing = client.post("/v1/messages/batches", json={})
        wrong = client.get("/v1/messages")
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")
    assert missing.headers["request-id"] == missing.json()["request_id"]
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["type"] == "error"


def test_a_stream_that_is_cut_raises_and_never_ends_as_if_complete(
    official: anthropic.Anthropic, mock: ScriptedServer
) -> None:
    for model in GUIDE_MODELS:
        play(mock, {"fault": "cut", "after": 2})
        read: list[Any] = []
        with pytest.raises(anthropic.APIError) as caught:
            read.extend(official.messages.create(model=model, stream=True, **ASKED))
        body: Any = caught.value.body
        assert body["error"]["code"] == "upstream_cut"
        assert read[0].type == "message_start"
        assert not {"message_delta", "message_stop"} & {event.type for event in read}


def test_the_stream_s_frames_are_anthropic_s(gateway: Gateway, mock: ScriptedServer) -> None:
    with gateway.client() as client:
        response = client.post("/v1/messages", json={"model": "gpt-5.2", "stream": True, **ASKED})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(data) for data in data_of(response.content)]
    names = [line.removeprefix("event: ") for line in response.text.split("\n") if line.startswith("event: ")]
    assert names == [event["type"] for event in events]
    assert (names[:2], names[-3:]) == (
        ["message_start", "content_block_start"],
        ["content_block_stop", "message_delta", "message_stop"],
    )
    assert events[0]["message"]["content"] == []
    assert events[0]["message"]["stop_reason"] is None


def test_tokens_are_counted_roughly(official: anthropic.Anthropic, mock: ScriptedServer) -> None:
    words = "one two three four five six seven eight nine ten " * 20
    few = official.messages.count_tokens(model=CLAUDE, messages=MESSAGES).input_tokens
    many = official.messages.count_tokens(model="gpt-5.2", messages=[{"role": "user", "content": words}]).input_tokens
    assert 3 <= few <= 12
    assert 200 <= many <= 300
    more = official.messages.count_tokens(model="auto", messages=MESSAGES, system=words, tools=[WEATHER]).input_tokens
    assert more > many
    with pytest.raises(anthropic.NotFoundError):
        official.messages.count_tokens(model="gpt-5.22", messages=MESSAGES)
    assert [entry.path for entry in mock.requests] == ["/v1/messages/count_tokens"]


def test_anthropic_counts_its_own_tokens_and_an_estimate_says_that_it_is_one(
    official: anthropic.Anthropic, mock: ScriptedServer
) -> None:
    counting = official.messages.with_raw_response
    system: Any = [{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral"}}]
    told = counting.count_tokens(model=CLAUDE, messages=MESSAGES, system=system, tools=[WEATHER])
    (entry,) = mock.requests
    assert sorted(entry.json) == ["messages", "model", "system", "tools"]
    assert (entry.json["model"], entry.json["system"]) == (SENT[CLAUDE], system)
    assert told.headers["x-llmwise-estimated"] == "false"
    for model in ("gpt-5.2", "auto"):
        guessed = counting.count_tokens(model=model, messages=MESSAGES)
        assert guessed.headers["x-llmwise-estimated"] == "true"
    assert len(mock.requests) == 1


def test_tokens_are_estimated_when_their_provider_does_not_answer(
    official: anthropic.Anthropic, mock: ScriptedServer
) -> None:
    play(mock, {"model": SENT[CLAUDE], "fault": "status", "status": 503})
    told = official.messages.with_raw_response.count_tokens(model=CLAUDE, messages=MESSAGES)
    assert told.headers["x-llmwise-estimated"] == "true"
    assert told.parse().input_tokens > 0


def test_the_history_says_which_dialect_it_was(
    mock: ScriptedServer, gateway: Gateway, official: anthropic.Anthropic
) -> None:
    answer = official.messages.create(model="gpt-5.2", **ASKED)
    with gateway.client() as client:
        detail = client.get(f"/api/v1/history/{answer._request_id}").json()
    assert "anthropic" in str(detail)
