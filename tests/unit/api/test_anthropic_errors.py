"""Every error of ours is one that the official client has a class for, of a type that Anthropic documents."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import pytest

from llmwise.api.errors import anthropic_body, error_headers
from llmwise.domain import errors

CLASSES: dict[int, type[anthropic.APIStatusError]] = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    402: anthropic.PaymentRequiredError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    405: anthropic.APIStatusError,
    408: anthropic.RequestTimeoutError,
    409: anthropic.ConflictError,
    413: anthropic.ContentTooLargeError,
    415: anthropic.APIStatusError,
    422: anthropic.UnprocessableEntityError,
    429: anthropic.RateLimitError,
    500: anthropic.InternalServerError,
    501: anthropic.HTTPNotImplementedError,
    502: anthropic.InternalServerError,
    503: anthropic.ServiceUnavailableError,
    504: anthropic.GatewayTimeoutError,
    529: anthropic.OverloadedError,
}
TYPES = {
    "api_error",
    "authentication_error",
    "billing_error",
    "invalid_request_error",
    "not_found_error",
    "overloaded_error",
    "permission_error",
    "rate_limit_error",
    "request_too_large",
    "timeout_error",
}
"""https://platform.claude.com/docs/en/api/errors (2026-11-22)."""


def every(base: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    yield base
    for child in base.__subclasses__():
        yield from every(child)


@pytest.mark.parametrize("kind", sorted(set(every(errors.GatewayError)), key=str))
def test_the_official_client_has_a_class_for_it(kind: type[errors.GatewayError]) -> None:
    error = kind("what was wrong", retry_after_s=3.0, param="messages[0]")

    def answer(request: Any) -> Any:
        headers = [(name.decode(), value.decode()) for name, value in error_headers(error)]
        return httpx2.Response(
            error.status,
            headers=[("content-type", "application/json"), ("request-id", "req_1"), *headers],
            content=anthropic_body(error, "req_1"),
        )

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    with (
        transport,
        anthropic.Anthropic(api_key="k", max_retries=0, http_client=transport) as client,
        pytest.raises(anthropic.APIStatusError) as raised,
    ):
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "?"}])
    assert isinstance(raised.value, CLASSES[error.status])
    assert raised.value.request_id == "req_1"
    assert raised.value.type in TYPES
    body: Any = raised.value.body
    assert (body["error"]["message"], body["error"]["code"]) == ("what was wrong", error.code)
