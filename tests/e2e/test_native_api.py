"""The native API of a running gateway, as the contract with the published clients has it."""

import hashlib
import sqlite3
from typing import Any

import httpx
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import GUIDE_MODELS, Gateway, asked, data_of, events_of, play

CHAT = "/api/v1/chat"
TEXT = 'Grüße,\nC:\\new \\n "quoted"\u2028next\u0085line 🦉'
"""What careless framing loses: newlines, backslashes, the letters backslash and n, Unicode's own line ends."""

ANSWER_FIELDS = {
    *("id", "model", "content", "prompt_tokens", "completion_tokens", "latency_ms", "cost", "credits_charged"),
    *("credits_remaining", "finish_reason", "mode", "conversation_id", "resolved_model", "auto_strategy"),
    *("optimization_goal", "provider", "ttft_ms", "cached_tokens", "reasoning_tokens", "tool_calls", "trace", "auto"),
    "warnings",
}
"""The flat answer: the published clients' fields, then ours."""

CHUNK_FIELDS = {"model", "delta", "done", "latency_ms", "content_length"}
LAST_FIELDS = {"ttft_ms", "prompt_tokens", "completion_tokens", "tokens_per_second", "cost", "finish_reason"}
DONE_FIELDS = {
    *("event", "credits_charged", "credits_remaining", "finish_reason", "byok", "conversation_id", "resolved_model"),
    *("auto_strategy", "optimization_goal"),
}
CHAIN = {"fallback": ["claude-sonnet-4.5", "gemini-3-flash"]}
DOWN = {"model": "gpt-5.2", "fault": "status", "status": 503}


def ask(client: httpx.Client, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    response = client.post(path, json=asked(**{"model": "gpt-5.2", "stream": False, **fields}))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def stream(client: httpx.Client, path: str = CHAT, **fields: Any) -> list[dict[str, Any]]:
    response = client.post(path, json=asked(**{"model": "gpt-5.2", **fields}))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events_of(response.content)


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """The names of the events, repeated ones once; a plain chunk has none."""
    names = [event.get("event", "plain") for event in events]
    return [name for i, name in enumerate(names) if i == 0 or name != names[i - 1]]


# --- POST /chat, whole ---


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_every_provider_answers_in_the_same_flat_shape(client: httpx.Client, mock: ScriptedServer, model: str) -> None:
    play(mock, defaults={"text": "Twelve words.", "usage": {"input": 1000, "output": 500}})
    answer = ask(client, model=model)
    assert set(answer) >= ANSWER_FIELDS
    assert (answer["model"], answer["resolved_model"], answer["content"]) == (model, model, "Twelve words.")
    assert (answer["prompt_tokens"], answer["completion_tokens"]) == (1000, 500)
    assert answer["mode"] == "chat"
    assert answer["finish_reason"] == "stop"
    assert answer["cost"] > 0
    assert answer["credits_charged"] == pytest.approx(answer["cost"] * 100)
    assert answer["auto"] is answer["auto_strategy"] is answer["trace"] is None
    assert answer["warnings"] == []


def test_a_price_is_booked_to_the_nanodollar(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, defaults={"usage": {"input": 1000, "output": 500}})
    (row,) = [row for row in client.get("/api/v1/models").json() if row["id"] == "gpt-5.2"]
    due = (1000 * row["input_price"] + 500 * row["output_price"]) / 1_000_000
    assert ask(client)["cost"] == pytest.approx(due, abs=1e-9)


def test_tools_go_to_the_provider_and_their_calls_come_back(client: httpx.Client, mock: ScriptedServer) -> None:
    parameters = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]}
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    for model in GUIDE_MODELS:
        answer = ask(client, model=model, tools=tools, tool_choice="required")
        (call,) = answer["tool_calls"]
        assert call["type"] == "function"
        assert call["function"]["name"] == "weather"
        assert call["function"]["arguments"].replace(" ", "") == '{"city":"Oslo"}'
        assert answer["finish_reason"] == "tool_calls"


def test_a_whole_conversation_is_taken(client: httpx.Client, mock: ScriptedServer) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    for model in GUIDE_MODELS:
        assert "after the tool's result" in ask(client, model=model, messages=messages)["content"]


def test_an_image_goes_along(client: httpx.Client, mock: ScriptedServer) -> None:
    url = "data:image/png;base64,iVBORw0KGgo="
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    ask(client, messages=[{"role": "user", "content": content}])
    (entry,) = mock.requests
    assert entry.json["messages"][0]["content"][1]["image_url"]["url"] == url


def test_a_failing_model_hands_over_and_the_trace_says_so(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, DOWN)
    answer = ask(client, routing=CHAIN)
    assert answer["resolved_model"] == "claude-sonnet-4.5"
    assert [(step["model"], step["status"]) for step in answer["trace"]] == [
        ("gpt-5.2", "failed"),
        ("claude-sonnet-4.5", "success"),
    ]
    assert answer["trace"][0]["status_code"] == 503


def test_a_provider_s_failure_is_told_with_its_provider_and_status(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, {"fault": "rate_limit", "retry_after": 7})
    response = client.post(CHAT, json=asked(model="deepseek-v3", stream=False))
    told = response.json()
    assert (response.status_code, told["code"]) == (429, "upstream_rate_limited")
    assert (told["provider"], told["upstream_status"]) == ("deepseek", 429)
    assert response.headers["retry-after"] == "7"
    play(mock, {"fault": "overloaded"})
    assert client.post(CHAT, json=asked(model="claude-sonnet-4.5", stream=False)).status_code == 529


def test_cost_saver_means_auto_for_the_cost(client: httpx.Client, mock: ScriptedServer) -> None:
    answer = ask(client, cost_saver=True)
    assert answer["optimization_goal"] == "cost"
    assert answer["auto_strategy"] == "heuristic_routing"
    assert answer["resolved_model"] == answer["model"]
    assert set(answer["auto"]) == {"task_type", "confidence", "reasons"}


# --- POST /chat, streamed ---


@pytest.mark.parametrize("model", GUIDE_MODELS)
def test_a_plain_stream_has_the_shape_of_the_contract(client: httpx.Client, mock: ScriptedServer, model: str) -> None:
    play(mock, defaults={"text": TEXT, "usage": {"input": 1000, "output": 500}})
    events = stream(client, model=model)
    assert kinds(events) == ["plain", "done"]
    *chunks, last, done = events
    assert all(set(chunk) == CHUNK_FIELDS for chunk in chunks)
    assert not any(chunk["done"] for chunk in chunks)
    assert "".join(chunk["delta"] for chunk in chunks) == TEXT
    assert chunks[-1]["content_length"] == len(TEXT)
    assert {event["model"] for event in [*chunks, last]} == {model}
    assert set(last) >= CHUNK_FIELDS | LAST_FIELDS
    assert (last["done"], last["prompt_tokens"], last["completion_tokens"]) == (True, 1000, 500)
    assert set(done) >= DONE_FIELDS
    assert done["resolved_model"] == model
    assert done["byok"] is False


def test_a_stream_is_the_default(client: httpx.Client, mock: ScriptedServer) -> None:
    response = client.post(CHAT, json=asked(model="gpt-5.2"))
    assert data_of(response.content)[-1] == "[DONE]"


def test_a_stream_with_a_chain_has_the_shape_of_the_contract(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, DOWN, defaults={"text": TEXT})
    events = stream(client, routing=CHAIN)
    assert kinds(events) == ["route", "chunk", "trace", "done"]
    routes = [event for event in events if event["event"] == "route"]
    assert [(route["model"], route["status"]) for route in routes] == [
        ("gpt-5.2", "trying"),
        ("gpt-5.2", "failed"),
        ("claude-sonnet-4.5", "trying"),
        ("claude-sonnet-4.5", "success"),
    ]
    failed = routes[1]
    assert failed["status_code"] == 503
    assert isinstance(failed["error"], str)
    assert isinstance(failed["latency_ms"], int)
    chunks = [event for event in events if event["event"] == "chunk"]
    assert "".join(chunk["delta"] for chunk in chunks) == TEXT
    assert {chunk["model"] for chunk in chunks} == {"claude-sonnet-4.5"}
    assert [chunk.get("done", False) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert set(chunks[-1]) >= {"tokens", "cost", "finish_reason"}
    trace, done = events[-2:]
    assert (trace["final_model"], trace["attempts"]) == ("claude-sonnet-4.5", 2)
    assert [step["status"] for step in trace["trace"]] == ["failed", "success"]
    assert isinstance(trace["saved_ms"], int)
    assert "terminal_error" not in trace
    assert done["resolved_model"] == "claude-sonnet-4.5"


def test_every_event_with_a_delta_has_its_model(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, DOWN, defaults={"reasoning": "Let me see", "tool_calls": 1})
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    for fields in ({"routing": CHAIN}, {"model": "deepseek-v3"}, {"model": "auto"}):
        for event in stream(client, tools=tools, **fields):
            if "delta" in event:
                assert event["model"]


def test_auto_streams_as_a_chain_because_it_has_one(client: httpx.Client, mock: ScriptedServer) -> None:
    events = stream(client, model="auto", optimization_goal="cost")
    assert kinds(events) == ["route", "chunk", "trace", "done"]
    assert events[-1]["auto_strategy"] == "heuristic_routing"
    assert events[-1]["optimization_goal"] == "cost"


def test_a_chain_that_fails_whole_ends_in_words_and_not_in_silence(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, {"fault": "status", "status": 500})
    events = stream(client, routing=CHAIN)
    assert kinds(events) == ["route", "trace", "error"]
    trace, error = events[-2:]
    assert trace["final_model"] is None
    assert trace["attempts"] == 3
    assert isinstance(trace["terminal_error"], str)
    assert (error["status_code"], error["code"], error["refunded"]) == (502, "upstream_error", True)
    assert isinstance(error["error"], str)


def test_a_plain_stream_that_fails_before_its_first_word_is_a_status(
    client: httpx.Client, mock: ScriptedServer
) -> None:
    play(mock, {"fault": "status", "status": 500})
    response = client.post(CHAT, json=asked(model="gpt-5.2"))
    assert (response.status_code, response.json()["code"]) == (502, "upstream_error")


def test_a_plain_stream_that_is_cut_ends_in_an_error_event(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, {"fault": "cut", "after": 2})
    events = stream(client)
    assert kinds(events) == ["plain", "error"]
    assert events[-1]["code"] == "upstream_cut"


def test_the_seed_s_loop_prints_the_answer_and_stops(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, DOWN, defaults={"text": TEXT})
    printed = ""
    for ev in stream(client, routing={"strategy": "rate-limit", **CHAIN}):
        if ev.get("event") in {"route", "trace"}:
            continue
        if ev.get("delta"):
            printed += ev["delta"]
        if ev.get("event") == "done":
            break
    else:
        pytest.fail("no done")
    assert printed == TEXT


# --- framing ---


@pytest.mark.parametrize("fields", [{}, {"routing": CHAIN}], ids=["plain", "chain"])
def test_compat_framing_serves_a_client_that_cuts_at_backslash_n_and_standard_parsers_alike(
    client: httpx.Client, mock: ScriptedServer, fields: dict[str, Any]
) -> None:
    play(mock, DOWN if fields else {}, defaults={"text": TEXT})
    body = client.post(f"/compat{CHAT}", json=asked(model="gpt-5.2", **fields)).content
    standard = client.post(CHAT, json=asked(model="gpt-5.2", **fields)).content
    cut = [piece.strip() for piece in body.split(b"\\n")]
    assert cut.pop() == b""
    assert all(piece.startswith(b"data: ") for piece in cut)
    published = events_of(b"\n\n".join(cut) + b"\n\n")
    for events in (published, events_of(body), events_of(standard)):
        assert "".join(event.get("delta", "") for event in events) == TEXT
    assert kinds(published) == kinds(events_of(standard))


def test_frames_are_data_lines_and_nothing_else(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, defaults={"text": TEXT})
    text = client.post(CHAT, json=asked(model="gpt-5.2")).content.decode()
    assert text.endswith("data: [DONE]\n\n")
    for block in text.removesuffix("\n\n").split("\n\n"):
        assert block.startswith("data: ")
        assert block.splitlines() == [block], "a line end that httpx would cut at"


def test_any_prefix_before_the_base_path_works(client: httpx.Client, mock: ScriptedServer) -> None:
    assert ask(client, f"/some/where{CHAT}")["content"]
    assert client.get("/some/where/api/v1/models").status_code == 200
    assert client.get("/api/v1/models/").status_code == 200


# --- models, routing and health ---


def test_models_are_a_bare_array_in_the_published_shape(client: httpx.Client) -> None:
    models = client.get("/api/v1/models").json()
    assert [model["id"] for model in models] == list(GUIDE_MODELS)
    for model in models:
        assert set(model) >= {"id", "name", "provider", "vision", "is_free", "tier", "context_window", "capabilities"}
        assert model["input_price"] > 0
        assert model["output_price"] > model["input_price"]


def test_a_decision_is_explained_without_asking_a_model(client: httpx.Client, mock: ScriptedServer) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    told = client.post(
        "/api/v1/route/explain",
        json={"model": "auto", "messages": [{"role": "user", "content": [image]}], "response_format": schema},
    ).json()
    assert told["requested_model"] == "auto"
    assert told["auto_strategy"] == "heuristic_routing"
    assert told["plan"][0]["model"] == told["resolved_model"]
    assert {row["model"] for row in told["candidates"]} == set(GUIDE_MODELS) - {"deepseek-v3"}
    assert [(row["model"], row["reason"]) for row in told["excluded"]] == [("deepseek-v3", "no_json_schema")]
    assert all(row["reason"] for row in [*told["candidates"], *told["plan"]])
    assert told["reasons"]
    assert mock.requests == []


def test_an_explanation_is_what_chat_then_does(client: httpx.Client, mock: ScriptedServer) -> None:
    body = asked("Fix this Python function: def f(x) return x", model="auto", stream=False)
    told = client.post("/api/v1/route/explain", json=body).json()
    answer = client.post(CHAT, json=body).json()
    assert answer["resolved_model"] == told["resolved_model"]
    assert answer["auto"]["task_type"] == told["task_type"]


def test_targets_show_what_they_did(client: httpx.Client, mock: ScriptedServer) -> None:
    def row(model: str) -> dict[str, Any]:
        targets = client.get("/api/v1/health/targets").json()["targets"]
        (found,) = [target for target in targets if target["model"] == model]
        return dict(found)

    before = row("deepseek-v3")
    ask(client, model="deepseek-v3")
    play(mock, {"fault": "status", "status": 500})
    client.post(CHAT, json=asked(model="deepseek-v3", stream=False))
    after = row("deepseek-v3")
    assert (after["successes"], after["failures"]) == (before["successes"] + 1, before["failures"] + 1)
    assert (after["circuit"], after["consecutive_failures"]) == ("closed", 1)
    assert after["reason"] == "upstream_error"


# --- history and usage ---


def test_a_request_is_in_the_history_as_soon_as_it_is_answered(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, DOWN, defaults={"text": "The answer.", "usage": {"input": 10, "output": 20}})
    answer = ask(client, messages=[{"role": "user", "content": "A question."}], routing=CHAIN)
    history = client.get("/api/v1/history").json()
    assert set(history) == {"total", "total_exact", "items", "limit", "offset"}
    assert (history["limit"], history["offset"]) == (20, 0)
    (item,) = [item for item in history["items"] if item["id"] == answer["id"]]
    assert (item["prompt"], item["answer"]) == ("A question.", "The answer.")
    assert (item["requested_model"], item["model"]) == ("gpt-5.2", "claude-sonnet-4.5")
    assert (item["status_code"], item["attempts"], item["cost"]) == (200, 2, answer["cost"])
    detail = client.get(f"/api/v1/history/{answer['id']}").json()
    assert [(one["model"], one["outcome"], one["paid_by"]) for one in detail["attempt_list"]] == [
        ("gpt-5.2", "provider_error", "nobody"),
        ("claude-sonnet-4.5", "complete", "caller"),
    ]
    assert [one["sent_model"] for one in detail["attempt_list"]] == ["gpt-5.2", "claude-sonnet-4-5"]
    assert [step["status"] for step in detail["route"]] == ["failed", "success"]


def test_history_is_paged_searched_and_narrowed(client: httpx.Client, mock: ScriptedServer) -> None:
    for question in ("pelican one", "pelican two", "pelican 100%"):
        ask(client, messages=[{"role": "user", "content": question}])
    found = client.get("/api/v1/history", params={"search": "pelican"}).json()
    assert (found["total"], [item["prompt"] for item in found["items"]]) == (
        3,
        ["pelican 100%", "pelican two", "pelican one"],
    )
    page = client.get("/api/v1/history", params={"search": "pelican", "limit": 1, "offset": 1}).json()
    assert (page["total"], [item["prompt"] for item in page["items"]]) == (3, ["pelican two"])
    assert client.get("/api/v1/history", params={"search": "100%"}).json()["total"] == 1
    assert client.get("/api/v1/history", params={"mode": "judge"}).json()["total"] == 0


def test_usage_adds_up(gateway: Gateway, client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, defaults={"usage": {"input": 100, "output": 50}})
    key = client.post("/api/v1/keys/generate", json={"name": "usage"}).json()["key"]
    with gateway.client(key) as own:
        answers = [ask(own, model=model) for model in ("gpt-5.2", "gpt-5.2", "gemini-3-flash")]
        play(mock, {"fault": "status", "status": 500})
        own.post(CHAT, json=asked(model="gpt-5.2", stream=False))
        summary = own.get("/api/v1/usage/summary").json()
        recent = own.get("/api/v1/usage/recent").json()
    assert summary["days"] == 7
    assert (summary["total_requests"], summary["total_errors"]) == (4, 1)
    assert (summary["total_prompt_tokens"], summary["total_completion_tokens"]) == (300, 150)
    assert summary["total_tokens"] == 450
    assert summary["total_cost"] == pytest.approx(sum(answer["cost"] for answer in answers))
    assert {row["name"]: row["requests"] for row in summary["by_model"]} == {"gpt-5.2": 3, "gemini-3-flash": 1}
    assert isinstance(recent, list)
    assert [item["status_code"] for item in recent] == [502, 200, 200, 200]
    assert {item["prompt"] for item in recent} == {None}


def test_the_credits_of_the_summary_are_those_that_were_charged(
    gateway: Gateway, client: httpx.Client, mock: ScriptedServer
) -> None:
    key = client.post("/api/v1/keys/generate", json={"name": "charged"}).json()["key"]
    with gateway.client(key) as own:
        play(mock, defaults={"usage": {"input": 100, "output": 50}})
        ask(own, model="gpt-5.2")
        play(mock, {"fault": "cut", "after": 9}, defaults={"tokens": 20})
        own.post(CHAT, json=asked(model="gpt-5.2"))
        summary = own.get("/api/v1/usage/summary").json()
        charged = [item["credits_charged"] for item in own.get("/api/v1/history").json()["items"]]
    assert charged[0] == 0, "an answer that was cut is the operator's"
    assert 0 < summary["total_credits"] == sum(charged) < summary["total_cost"] * 100


def test_a_key_sees_its_own_requests_and_an_administrator_all(
    gateway: Gateway, client: httpx.Client, mock: ScriptedServer
) -> None:
    mine = ask(client)["id"]
    key = client.post("/api/v1/keys/generate", json={"name": "other"}).json()["key"]
    with gateway.client(key) as other:
        theirs = ask(other)["id"]
        assert [item["id"] for item in other.get("/api/v1/history").json()["items"]] == [theirs]
        assert other.get(f"/api/v1/history/{mine}").status_code == 404
    assert client.get(f"/api/v1/history/{theirs}").status_code == 200


# --- keys ---


def test_a_key_is_made_shown_once_used_and_revoked(gateway: Gateway, client: httpx.Client) -> None:
    made = client.post("/api/v1/keys/generate", json={"name": "colleague"}).json()
    raw = made.pop("key")
    assert raw.startswith("mm_sk_")
    assert len(raw) == 6 + 64
    with gateway.client(raw) as colleague:
        info = colleague.get("/api/v1/keys/info").json()
        assert info == made
        assert (info["name"], info["admin"], info["revoked"]) == ("colleague", False, False)
        assert raw.startswith(info["prefix"])
        assert raw not in str(info)
        assert colleague.delete("/api/v1/keys/revoke").json()["revoked"] is True
        assert colleague.get("/api/v1/keys/info").status_code == 401
    assert client.post("/api/v1/keys/generate").json()["admin"] is False, "a body may be left out"


def test_keys_are_kept_as_hashes_only(gateway: Gateway, client: httpx.Client) -> None:
    raw = client.post("/api/v1/keys/generate", json={"name": "hashed"}).json()["key"]
    folder = gateway.config.parent
    with sqlite3.connect(folder / "llmwise.db") as database:
        hashes = {row[0] for row in database.execute("select hash from keys")}
    database.close()
    assert {hashlib.sha256(key.encode()).hexdigest() for key in (raw, gateway.key or "")} <= hashes
    secrets = [key.encode()[12:] for key in (raw, gateway.key or "")]
    for file in (path for path in folder.rglob("*") if path.is_file()):
        held = file.read_bytes()
        assert not any(secret in held for secret in secrets), file


def test_the_first_start_prints_an_administrator_s_key(gateway: Gateway, client: httpx.Client) -> None:
    assert gateway.printed.count("mm_sk_") == 1
    assert "shown once" in gateway.printed
    assert client.get("/api/v1/keys/info").json()["admin"] is True


# --- every answer ---


def test_every_answer_to_a_key_says_its_request_and_its_limits(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, {"model": "deepseek*", "fault": "status", "status": 500})
    answers = [
        client.post(CHAT, json=asked(model="gpt-5.2", stream=False)),
        client.post(CHAT, json=asked(model="gpt-5.2")),
        client.post(CHAT, json=asked(model="deepseek-v3", stream=False)),
        client.post(CHAT, json=asked(model="nobody")),
        client.post(CHAT, content=b"{"),
        client.post("/v1/chat/completions", json=asked(model="gpt-5.2")),
        client.post("/v1/chat/completions", json=asked(model="gpt-5.2", stream=True)),
        client.post("/v1/chat/completions", json=asked(model="nobody")),
        client.post("/api/v1/route/explain", json=asked(model="auto")),
        client.post("/api/v1/keys/generate", json={"name": 1}),
        *(
            client.get(f"/api/v1/{path}")
            for path in (
                "models",
                "health/targets",
                "history",
                "history/x",
                "usage/summary",
                "usage/recent",
                "keys/info",
            )
        ),
        client.get("/v1/models"),
    ]
    for answer in answers:
        assert answer.headers["x-request-id"].startswith("req_")
        limit, remaining, reset = (
            int(answer.headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset")
        )
        assert 0 <= remaining < limit
        assert 1 <= reset <= 60
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


def test_a_request_s_id_leads_to_its_record(client: httpx.Client, mock: ScriptedServer) -> None:
    for body in (asked(model="gpt-5.2", stream=False), asked(model="gpt-5.2")):
        request_id = client.post(CHAT, json=body).headers["x-request-id"]
        assert client.get(f"/api/v1/history/{request_id}").json()["id"] == request_id


# --- operations ---


def test_the_gateway_says_that_it_lives_and_is_ready(gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.url}/healthz").json() == {"status": "ok"}
    ready = httpx.get(f"{gateway.url}/readyz").json()
    assert (ready["status"], ready["models"]) == ("ok", 4)


def test_metrics_count_what_was_answered(gateway: Gateway, client: httpx.Client, mock: ScriptedServer) -> None:
    def count(line: str) -> float:
        text = httpx.get(f"{gateway.url}/metrics").text
        return sum(float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line))

    line = 'llmwise_requests_total{dialect="native",model="gemini-3-flash",status="200"}'
    before = count(line)
    ask(client, model="gemini-3-flash")
    assert count(line) == before + 1
    assert count("llmwise_first_token_seconds_count") >= 1
