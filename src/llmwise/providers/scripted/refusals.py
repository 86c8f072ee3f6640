"""A fault as the error that an HTTP adapter would raise for it."""

from typing import assert_never

from llmwise.domain.errors import (
    ContextTooLong,
    GatewayError,
    InvalidRequest,
    UpstreamInvalid,
    UpstreamNoModel,
    UpstreamOverloaded,
    UpstreamRateLimited,
    UpstreamServerError,
    UpstreamTimeout,
    UpstreamUnauthorized,
    UpstreamUnreachable,
)
from llmwise.providers.scripted import script as faults


def refusal(rule: faults.AnyRule, provider: str) -> GatewayError | None:
    """The error that `rule` means before any answer, if it means one."""
    match rule:
        case faults.RateLimit(retry_after=retry_after):
            return error_for(429, provider, retry_after_s=retry_after)
        case faults.Status():
            return error_for(rule.status, provider, rule.message, rule.code, rule.retry_after)
        case faults.Overloaded(retry_after=retry_after):
            return error_for(529, provider, retry_after_s=retry_after)
        case faults.ContextTooLong():
            return error_for(400, provider, code="context_length_exceeded")
        case faults.Refuse():
            return UpstreamUnreachable("no connection (scripted)", provider=provider, reason="connect")
        case faults.WrongContentType():
            return UpstreamInvalid("answered text/html (scripted)", provider=provider, upstream_status=200)
        case (
            faults.Normal()
            | faults.Hang()
            | faults.HangFirstEvent()
            | faults.Cut()
            | faults.Stall()
            | faults.Malformed()
            | faults.ErrorIn200()
            | faults.Trickle()
            | faults.Oversized()
            | faults.NoTerminal()
            | faults.NoUsage()
            | faults.Keepalive()
            | faults.Crlf()
        ):
            return None
        case _:
            assert_never(rule)


def error_for(
    status: int,
    provider: str,
    message: str | None = None,
    code: str | None = None,
    retry_after_s: float | None = None,
) -> GatewayError:
    """The error that an adapter makes of `status`."""
    kind: type[GatewayError]
    if code == "context_length_exceeded" or status == 413:
        kind = ContextTooLong
    elif status in _BY_STATUS:
        kind = _BY_STATUS[status]
    else:
        kind = InvalidRequest if status < 500 else UpstreamServerError
    text = message or f"{provider} answered {status} (scripted)"
    return kind(text, provider=provider, upstream_status=status, retry_after_s=retry_after_s)


_BY_STATUS: dict[int, type[GatewayError]] = {
    401: UpstreamUnauthorized,
    402: UpstreamUnauthorized,
    403: UpstreamUnauthorized,
    404: UpstreamNoModel,
    408: UpstreamTimeout,
    409: UpstreamServerError,
    425: UpstreamServerError,
    429: UpstreamRateLimited,
    504: UpstreamTimeout,
    529: UpstreamOverloaded,
}
