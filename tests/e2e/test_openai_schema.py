"""What the gateway answers in OpenAI's dialect, against OpenAI's own schemas: whoever is behind, whole and streamed."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import data_of, play

FAMILIES = ("gpt-5.2", "claude-sonnet-4.5", "gemini-3-flash", "deepseek-v3")
SPEC = Path(__file__).parents[1] / "data" / "openai-spec" / "answers.json"
USER = [{"role": "user", "content": "What is up?"}]
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": ({}, {}),
    "thinking": ({}, {"reasoning": "Let me see."}),
    "usage": ({"stream_options": {"include_usage": True}}, {"usage": {"input": 70, "cache_read": 30, "reasoning": 3}}),
    "tools": ({"tools": TOOLS, "tool_choice": "required"}, {"tool_calls": 2}),
    "json": ({"response_format": SCHEMA}, {}),
    "length": ({"max_completion_tokens": 3}, {}),
    "refusal": ({}, {"finish": "content_filter"}),
    "unknown end": ({}, {"finish": "unknown"}),
    "n=2": ({"n": 2, "stream_options": {"include_usage": True}}, {}),
    "n=2, tools": ({"n": 2, "tools": TOOLS, "tool_choice": "required"}, {}),
    "logprobs": ({"logprobs": True, "top_logprobs": 2}, {}),
    "logprobs, n=2": ({"logprobs": True, "n": 2}, {}),
    "chain": ({"routing": {"fallback": ["deepseek-v3"]}}, {}),
}


@pytest.mark.parametrize("model", FAMILIES)
@pytest.mark.parametrize("case", CASES)
def test_answers_and_chunks_are_what_openai_documents(
    client: httpx.Client, mock: ScriptedServer, case: str, model: str
) -> None:
    fields, script = CASES[case]
    if (case, model) == ("json", "deepseek-v3"):
        fields = {"response_format": {"type": "json_object"}}  # it takes no schema, and the planner says so
    play(mock, defaults=script)
    body = {"model": model, "messages": USER, **fields}
    body.pop("stream_options", None)
    whole = client.post("/v1/chat/completions", json=body)
    assert whole.status_code == 200, whole.text
    valid("CreateChatCompletionResponse", whole.json())
    streamed = client.post("/v1/chat/completions", json={"model": model, "messages": USER, **fields, "stream": True})
    assert streamed.status_code == 200, streamed.text
    *chunks, done = data_of(streamed.content)
    assert done == "[DONE]"
    assert len(chunks) > 1
    for chunk in chunks:
        valid("CreateChatCompletionStreamResponse", json.loads(chunk))
    assert {choice["index"] for chunk in chunks for choice in json.loads(chunk)["choices"]} == set(
        range(fields.get("n", 1))
    )


@pytest.mark.parametrize("fault", ["status", "rate_limit", "context_too_long", "cut"])
def test_errors_are_what_openai_documents(client: httpx.Client, mock: ScriptedServer, fault: str) -> None:
    play(mock, {"fault": fault})
    refused = client.post("/v1/chat/completions", json={"model": "gpt-5.2", "messages": USER})
    assert refused.status_code >= 400
    valid("ErrorResponse", refused.json())


def test_the_lists_are_what_openai_documents(client: httpx.Client) -> None:
    models = client.get("/v1/models").json()
    valid("ListModelsResponse", models)
    for row in models["data"]:
        valid("Model", client.get(f"/v1/models/{row['id']}").json())


def test_the_schema_would_find_a_fault() -> None:
    """`logprobs` is required of a choice, and the reasons to stop are OpenAI's five."""
    message = {"role": "assistant", "content": "hi", "refusal": None}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    valid("CreateChatCompletionResponse", answer)
    for broken in ({k: v for k, v in choice.items() if k != "logprobs"}, choice | {"finish_reason": "done"}):
        with pytest.raises(jsonschema.ValidationError):
            valid("CreateChatCompletionResponse", answer | {"choices": [broken]})


def valid(name: str, answer: object) -> None:
    _validator(name).validate(answer)


@cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    spec = _nullable(json.loads(SPEC.read_text()))
    return jsonschema.Draft202012Validator({**spec, "$ref": f"#/components/schemas/{name}"})


def _nullable(schema: Any) -> Any:
    """`nullable` is OpenAPI 3.0's word, which the document still has in places: JSON Schema says it by a type."""
    if isinstance(schema, list):
        return [_nullable(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _nullable(value) for key, value in schema.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain
