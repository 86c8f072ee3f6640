"""A `GatewayError` as each dialect says it: status, headers and body."""

import math
from collections.abc import Mapping
from typing import Any

from msgspec.json import encode

from llmwise.domain.errors import GatewayError

OPENAI_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
"""https://platform.openai.com/docs/guides/error-codes (read 2026-11-22); everything else is `api_error`."""


ANTHROPIC_TYPES: Mapping[int, str] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    415: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
"""https://platform.claude.com/docs/en/api/errors (2026-11-22); everything else is `api_error`."""


def native_fields(error: GatewayError, request_id: str) -> dict[str, Any]:
    """The native body: `error` is a plain string, since one published client prints it as it is."""
    fields: dict[str, Any] = {
        "error": error.message,
        "code": error.code,
        "status_code": error.status,
        "request_id": request_id,
    }
    if error.provider is not None:
        fields["provider"] = error.provider
    if error.upstream_status is not None:
        fields["upstream_status"] = error.upstream_status
    if error.retry_after_s is not None:
        fields["retry_after_s"] = error.retry_after_s
    if error.reason is not None:
        fields["reason"] = error.reason
    return {**fields, **error.details}


def native_body(error: GatewayError, request_id: str) -> bytes:
    return encode(native_fields(error, request_id))


def openai_body(error: GatewayError, request_id: str) -> bytes:
    """OpenAI's envelope; `param` is the field in question, `request_id` ours besides."""
    return encode(
        {
            "error": {
                "message": error.message,
                "type": OPENAI_TYPES.get(error.status, "api_error"),
                "param": error.details.get("param"),
                "code": error.code,
                "request_id": request_id,
            }
        }
    )


def anthropic_body(error: GatewayError, request_id: str) -> bytes:
    """Anthropic's envelope; `code` and `param` are ours besides."""
    kind = ANTHROPIC_TYPES.get(error.status, "api_error")
    inner: dict[str, Any] = {"type": kind, "message": error.message, "code": error.code}
    inner |= {name: error.details[name] for name in ("param", "details") if error.details.get(name) is not None}
    return encode({"type": "error", "error": inner, "request_id": request_id})


def error_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """`Retry-After` in whole seconds, rounded up, where there is one; how to authenticate on a 401."""
    headers = []
    if error.retry_after_s is not None and error.status in (429, 503, 529):
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_s))).encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
