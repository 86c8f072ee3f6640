"""How an error reads in each dialect."""

import inspect
import json

import pytest

from llmwise.api.errors import error_headers, native_body, openai_body
from llmwise.domain import errors
from llmwise.domain.errors import GatewayError, RateLimited, Unauthorized, UpstreamRateLimited

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, GatewayError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_both_shapes(kind: type[GatewayError]) -> None:
    error = kind("what was wrong")
    native = json.loads(native_body(error, "req_1"))
    assert native == {"error": "what was wrong", "code": kind.code, "status_code": kind.status, "request_id": "req_1"}
    told = json.loads(openai_body(error, "req_1"))["error"]
    assert (told["message"], told["code"], told["param"]) == ("what was wrong", kind.code, None)
    assert told["type"].endswith("_error") or told["type"] == "insufficient_quota"
    assert 400 <= kind.status <= 599


def test_codes_tell_errors_of_one_status_apart() -> None:
    """Two kinds share a code only where one is the general case of the other."""
    by_code: dict[str, set[type[GatewayError]]] = {}
    for kind in ALL:
        by_code.setdefault(kind.code, set()).add(kind)
    for kinds in by_code.values():
        widest = max(kinds, key=lambda kind: sum(issubclass(other, kind) for other in kinds))
        assert all(issubclass(kind, widest) for kind in kinds)


def test_what_is_known_of_the_provider_and_of_the_field_is_told() -> None:
    error = UpstreamRateLimited("slow down", provider="openai", upstream_status=429, retry_after_s=2.2, reason="rpm")
    told = json.loads(native_body(error, "r"))
    assert (told["provider"], told["upstream_status"], told["retry_after_s"], told["reason"]) == (
        "openai",
        429,
        2.2,
        "rpm",
    )
    assert error_headers(error) == [(b"retry-after", b"3")]
    param = errors.Unprocessable("no", param="model")
    assert json.loads(native_body(param, "r"))["param"] == "model"
    assert json.loads(openai_body(param, "r"))["error"]["param"] == "model"


def test_retry_after_is_whole_seconds_and_never_none() -> None:
    assert error_headers(RateLimited("x", retry_after_s=0.01)) == [(b"retry-after", b"1")]
    assert error_headers(RateLimited("x")) == []
    assert error_headers(errors.NotFound("x", retry_after_s=5)) == []
    assert error_headers(Unauthorized("x")) == [(b"www-authenticate", b"Bearer")]
