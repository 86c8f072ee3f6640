"""A provider's refusal to one of our errors: by status, then by code, then by the words."""

import json
from typing import Any

import pytest

from llmwise.domain.errors import (
    ContextTooLong,
    GatewayError,
    InvalidRequest,
    UnsupportedInput,
    UpstreamCut,
    UpstreamInvalid,
    UpstreamNoModel,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamServerError,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from llmwise.providers.failures import MAX_MESSAGE, from_event, from_response, from_transport, redact
from llmwise.providers.transport import Kind, TransportError


class Headers:
    def __init__(self, **headers: str) -> None:
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def get(self, name: str, /) -> str | None:
        return self._headers.get(name.lower())


def refused(status: int, body: Any = None, **headers: str) -> GatewayError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return from_response(status, Headers(**headers), data, provider="acme")


def openai(message: str = "no", code: str | None = None, kind: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (301, UpstreamInvalid),
        (308, UpstreamInvalid),
        (400, InvalidRequest),
        (401, UpstreamUnauthorized),
        (402, UpstreamUnauthorized),
        (403, UpstreamUnauthorized),
        (404, UpstreamNoModel),
        (408, UpstreamTimeout),
        (409, UpstreamServerError),
        (413, ContextTooLong),
        (418, InvalidRequest),
        (422, InvalidRequest),
        (425, UpstreamServerError),
        (429, UpstreamRateLimited),
        (498, UpstreamOverloaded),
        (500, UpstreamServerError),
        (502, UpstreamServerError),
        (503, UpstreamOverloaded),
        (504, UpstreamTimeout),
        (520, UpstreamServerError),
        (529, UpstreamOverloaded),
        (599, UpstreamServerError),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"7",
        b'{"error": null}',
        b'{"error": 7}',
        b"\xff",
        b'{"error": "\xff"}',
        b'{"error": ' + b"[" * 100_000,
    ],
)
def test_the_status_decides_when_the_body_says_nothing(status: int, error: type[GatewayError], body: bytes) -> None:
    found = refused(status, body)
    assert type(found) is error
    assert found.upstream_status == status
    assert found.provider == "acme"


def test_what_the_contract_calls_retryable_is_and_counts_against_the_breaker() -> None:
    for status in (408, 409, 425, 429, 500, 502, 503, 504, 529):
        found = refused(status)
        assert (found.retryable, found.breaker) == (True, "failure"), status
    for status in (400, 422):
        found = refused(status)
        assert (found.retryable, found.breaker, found.caller_fault) == (False, "none", True), status
    for status in (401, 402, 403):
        assert refused(status).breaker == "hard_down", status


@pytest.mark.parametrize(
    ("status", "body", "error", "reason"),
    [
        # OpenAI
        (400, openai("too long", "context_length_exceeded"), ContextTooLong, None),
        (400, openai("x", "unsupported_value"), UnsupportedInput, None),
        (400, openai("x", "unsupported_parameter"), UnsupportedInput, None),
        (400, openai("x", "content_policy_violation"), UpstreamRejected, "content_filter"),
        (404, openai("x", "model_not_found"), UpstreamNoModel, None),
        (429, openai("x", "insufficient_quota", "insufficient_quota"), UpstreamUnauthorized, "out_of_credit"),
        (429, openai("x", "rate_limit_exceeded", "tokens"), UpstreamRateLimited, None),
        (400, openai("'messages' is a required property"), InvalidRequest, None),
        (400, openai("max_tokens is too large: 99999. This model supports at most 16384"), UnsupportedInput, None),
        # Azure
        (
            400,
            openai("The response was filtered due to Azure OpenAI's content management policy.", "content_filter"),
            UpstreamRejected,
            "content_filter",
        ),
        # Anthropic
        (
            400,
            {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 2 > 1"}},
            ContextTooLong,
            None,
        ),
        (
            400,
            {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access"},
            },
            UpstreamUnauthorized,
            "out_of_credit",
        ),
        (529, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, UpstreamOverloaded, None),
        # Google
        (
            400,
            {
                "error": {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [
                        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
                    ],
                }
            },
            UpstreamUnauthorized,
            "unauthorized",
        ),
        (
            400,
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (1200000) exceeds the maximum number of tokens allowed.",
                    "status": "INVALID_ARGUMENT",
                }
            },
            ContextTooLong,
            None,
        ),
        (400, {"error": {"message": "User location is not supported for the API use."}}, UpstreamUnauthorized, None),
        # Mistral, vLLM, FastAPI, Ollama, DeepSeek, OpenRouter, xAI, Groq
        (
            400,
            {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"},
            UpstreamNoModel,
            None,
        ),
        (
            400,
            {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "type": "Bad"},
            ContextTooLong,
            None,
        ),
        (422, {"detail": [{"loc": ["body"], "msg": "Extra inputs are not permitted"}]}, UnsupportedInput, None),
        (422, {"detail": [{"loc": ["body"], "msg": "Field required"}]}, InvalidRequest, None),
        (404, {"error": "model 'x' not found"}, UpstreamNoModel, None),
        (400, {"error": {"message": "Model Not Exist"}}, UpstreamNoModel, None),
        (402, {"error": {"message": "Insufficient Balance"}}, UpstreamUnauthorized, "out_of_credit"),
        (400, {"error": {"message": "x/y is not a valid model ID", "code": 400}}, UpstreamNoModel, None),
        (
            404,
            {"error": {"message": "No endpoints found that support image input", "code": 404}},
            UnsupportedInput,
            None,
        ),
        (403, {"error": {"message": "Your input was flagged", "code": 403}}, UpstreamRejected, "content_filter"),
        (403, {"code": "x", "error": "Content violates usage guidelines."}, UpstreamRejected, "content_filter"),
        (400, openai("x", "tool_use_failed"), UpstreamRejected, "bad_tool_call"),
    ],
)
def test_the_body_makes_it_more_exact(
    status: int, body: dict[str, Any], error: type[GatewayError], reason: str | None
) -> None:
    found = refused(status, body)
    assert type(found) is error
    if reason is not None:
        assert found.reason == reason


def test_words_do_not_overrule_a_clear_status() -> None:
    assert type(refused(401, openai("this model is not supported"))) is UpstreamUnauthorized
    assert type(refused(429, openai("tokens exceed the maximum context length"))) is UpstreamRateLimited
    assert type(refused(503, openai("model not found"))) is UpstreamOverloaded


def test_out_of_credit_has_a_code_of_its_own() -> None:
    found = refused(402)
    assert (found.code, found.reason, found.breaker) == ("upstream_out_of_credit", "out_of_credit", "hard_down")
    assert UpstreamUnauthorized.code == "upstream_unauthorized"


# --- when to come back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry_after": "20"}, None, 20),
        ({"retry_after": "1.5"}, None, 1.5),
        ({"retry_after": "0"}, None, 0),
        ({"retry_after": "-3"}, None, 0),
        ({"retry_after_ms": "250", "retry_after": "1"}, None, 0.25),
        (
            {"retry_after": "Sun, 22 Nov 2026 12:00:30 GMT", "date": "Sun, 22 Nov 2026 12:00:00 GMT"},
            None,
            30,
        ),
        (
            {"retry_after": "Sun, 22 Nov 2026 11:00:00 GMT", "date": "Sun, 22 Nov 2026 12:00:00 GMT"},
            None,
            0,
        ),
        ({"retry_after": "Sun, 22 Nov 2026 12:00:30 GMT"}, None, None),
        ({"retry_after": "soon"}, None, None),
        ({"retry_after": "inf"}, None, None),
        ({"retry_after": "nan"}, None, None),
        ({}, openai("Please try again in 20s."), 20),
        ({}, openai("Please try again in 6m1.5s."), 361.5),
        ({}, openai("Please try again in 250ms."), 0.25),
        (
            {},
            {
                "error": {
                    "code": 429,
                    "status": "RESOURCE_EXHAUSTED",
                    "message": "x",
                    "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "39.5s"}],
                }
            },
            39.5,
        ),
        ({}, None, None),
    ],
)
def test_when_to_come_back(headers: dict[str, str], body: Any, seconds: float | None) -> None:
    assert refused(429, body, **headers).retry_after_s == seconds


# --- what is not passed on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdef123456",
        "sk-ant-api03-abcDEF123_-xyz",
        "AIzaSyD3abcdefghijklmnop",
        "gsk_1234567890abcdef",
        "xai-1234567890abcdef",
        "mm_sk_" + "0af" * 21,
        "sk-abc1**********wxyz",
        "0123456789abcdef0123456789abcdef",
        "Bearer eyJhbGciOi.J9",
    ],
)
def test_nothing_that_looks_like_a_key_is_passed_on(key: str) -> None:
    found = refused(401, openai(f"Incorrect API key provided: {key}. See the docs."))
    assert key not in found.message
    assert key.split("-")[-1] not in found.message
    assert "Incorrect API key provided: [redacted]" in found.message


def test_our_own_key_is_not_passed_on_even_if_it_looks_like_none() -> None:
    found = from_response(401, Headers(), json.dumps(openai("bad key: hunter2")).encode(), secret="hunter2")
    assert "hunter2" not in found.message


@pytest.mark.parametrize("key", ["x", "valid", "hunter2"])
def test_a_key_as_short_as_a_placeholder_goes_where_it_is_a_word_and_leaves_others_alone(key: str) -> None:
    said = f"'{key}' is no key: exact, invalidated, hunter21"
    found = from_response(401, Headers(), json.dumps(openai(said)).encode(), secret=key)
    assert found.message.endswith("'[redacted]' is no key: exact, invalidated, hunter21")


def test_names_of_models_are_no_keys() -> None:
    words = "The model `meta-llama/llama-4-maverick-17b-128e-instruct` does not exist, see keyboard and sk-learn"
    assert redact(words) == words


def test_a_message_is_one_short_line_and_the_body_stays_here() -> None:
    found = refused(500, openai("a\nb\x00" + "long " * 1000))
    words = found.message.removeprefix("acme answered 500: ")
    assert words.startswith("a b long")
    assert len(words) == MAX_MESSAGE
    page = refused(502, b"<html><h1>secret page</h1></html>")
    assert page.message == "acme answered 502"


# --- inside a 200, and without an answer ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error", "status"),
    [
        ({"error": {"message": "x", "type": "overloaded_error"}}, UpstreamOverloaded, None),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}, UpstreamRateLimited, None),
        ({"error": {"code": 429, "message": "x"}}, UpstreamRateLimited, 429),
        ({"error": {"code": 400, "message": "maximum context length"}}, ContextTooLong, 400),
        ({"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}}, UpstreamOverloaded, 503),
        ({"error": {"status": "RESOURCE_EXHAUSTED", "message": "x"}}, UpstreamRateLimited, None),
        ({"error": "it broke"}, UpstreamServerError, None),
        ({"error": {}}, UpstreamServerError, None),
        ({"object": "error", "message": "x", "code": 40303}, UpstreamServerError, None),
    ],
)
def test_an_error_inside_a_200_says_its_own_status(
    body: dict[str, Any], error: type[GatewayError], status: int | None
) -> None:
    found = from_event(json.dumps(body).encode())
    assert type(found) is error
    assert found.upstream_status == status


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        ("connect", UpstreamUnreachable, "connect"),
        ("connect_timeout", UpstreamTimeout, "connect"),
        ("closed", UpstreamUnreachable, "closed"),
        ("read", UpstreamCut, "read"),
        ("protocol", UpstreamInvalid, "protocol"),
        ("decode", UpstreamInvalid, "decode"),
        ("too_large", UpstreamInvalid, "too_large"),
    ],
)
def test_no_answer_is_told_apart_from_half_an_answer(kind: Kind, error: type[GatewayError], reason: str) -> None:
    found = from_transport(TransportError(kind, "it was so"), provider="acme")
    assert type(found) is error
    assert (found.reason, found.message, found.retryable) == (reason, "acme: it was so", True)
