"""What a provider's refusal means: (status, headers, body) to one of our errors, for every family.

By table, in this order: the status decides; an error code or type in the body makes it more exact; only where neither
says enough do patterns look into the message, and only for statuses that mean several things. A body that is not
understood changes nothing.

Three decisions that the tables hold:

- A 400 or 422 is the caller's fault wherever it goes (`InvalidRequest`), except what is about this target: its context
  length, an input or parameter it doesn't take, its content filter, a tool call that it botched. Those may move on.
- Out of credit (402, OpenAI's 429 `insufficient_quota`, Anthropic's 400 "credit balance") is not a rate limit: waiting
  doesn't help and a person has to act, so it is hard down like a bad key, with a code of its own.
- 403 is our key's or our account's fault, not the caller's, unless it is about the content or the model.

The body is never passed on. A message of ours holds at most the provider's own message, shortened, without anything
that looks like a key.
"""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple, Protocol

from msgspec import DecodeError, Struct
from msgspec.json import Decoder

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
from llmwise.providers.transport import Kind, TransportError

MAX_MESSAGE: Final = 300
"""Characters of a provider's message that are passed on."""

SHORTEST_SECRET: Final = 8
"""Characters. What is shorter is rather a placeholder ("none", "x"), and may be a part of any word."""


class HeaderLookup(Protocol):
    """Headers by name, whatever the case."""

    def get(self, name: str, /) -> str | None: ...


class _Meaning(NamedTuple):
    error: type[GatewayError]
    reason: str | None = None
    code: str | None = None


_INVALID: Final = _Meaning(InvalidRequest)
_CONTEXT: Final = _Meaning(ContextTooLong)
_UNSUPPORTED: Final = _Meaning(UnsupportedInput)
_FILTERED: Final = _Meaning(UpstreamRejected, "content_filter")
_BOTCHED: Final = _Meaning(UpstreamRejected, "bad_tool_call")
_NO_MODEL: Final = _Meaning(UpstreamNoModel)
_KEY: Final = _Meaning(UpstreamUnauthorized, "unauthorized")
_CREDIT: Final = _Meaning(UpstreamUnauthorized, "out_of_credit", "upstream_out_of_credit")
_RATE: Final = _Meaning(UpstreamRateLimited)
_BUSY: Final = _Meaning(UpstreamOverloaded)
_BROKEN: Final = _Meaning(UpstreamServerError)
_LATE: Final = _Meaning(UpstreamTimeout, "upstream")
_ODD: Final = _Meaning(UpstreamInvalid)

_BY_STATUS: Final[Mapping[int, _Meaning]] = {
    400: _INVALID,
    401: _KEY,
    402: _CREDIT,
    403: _KEY,
    404: _NO_MODEL,
    405: _ODD,
    408: _LATE,
    409: _BROKEN,
    413: _CONTEXT,
    422: _INVALID,
    424: _BROKEN,
    425: _BROKEN,
    429: _RATE,
    451: _FILTERED,
    498: _BUSY,  # Groq: flex capacity, https://console.groq.com/docs/errors (2026-11-22)
    499: _BROKEN,
    501: _UNSUPPORTED,
    503: _BUSY,
    504: _LATE,
    524: _LATE,  # Cloudflare
    529: _BUSY,  # Anthropic: overloaded, https://platform.claude.com/docs/en/api/errors (2026-11-22)
}

_BY_CODE: Final[Mapping[str, _Meaning]] = {
    # https://platform.openai.com/docs/guides/error-codes (2026-11-22), and recorded answers up to 2026-08
    "context_length_exceeded": _CONTEXT,
    "string_above_max_length": _CONTEXT,
    "unsupported_parameter": _UNSUPPORTED,
    "unsupported_value": _UNSUPPORTED,
    "unsupported_model": _UNSUPPORTED,
    "unsupported_image_media_type": _UNSUPPORTED,
    "model_not_found": _NO_MODEL,
    "model_not_exist": _NO_MODEL,
    "invalid_model": _NO_MODEL,
    "model_decommissioned": _NO_MODEL,
    "invalid_api_key": _KEY,
    "insufficient_quota": _CREDIT,
    "billing_hard_limit_reached": _CREDIT,
    "billing_not_active": _CREDIT,
    "content_filter": _FILTERED,
    "content_policy_violation": _FILTERED,
    "responsibleaipolicyviolation": _FILTERED,
    "moderation_blocked": _FILTERED,
    # Groq, https://console.groq.com/docs/errors (2026-11-22)
    "tool_use_failed": _BOTCHED,
    "json_validate_failed": _BOTCHED,
    # Moonshot, https://platform.moonshot.ai/docs/api/errors (2026-11-22)
    "exceeded_current_quota_error": _CREDIT,
    "engine_overloaded_error": _BUSY,
    # Z.ai, https://docs.z.ai/api-reference/api-code (2026-11-22)
    "1113": _CREDIT,
    "1211": _NO_MODEL,
    "1261": _CONTEXT,
    "1301": _FILTERED,
    # Anthropic, https://platform.claude.com/docs/en/api/errors (2026-11-22)
    "billing_error": _CREDIT,
    # Google, https://cloud.google.com/apis/design/errors (2026-11-22): reasons of ErrorInfo
    "api_key_invalid": _KEY,
    "consumer_suspended": _KEY,
}

_STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    # An error inside a 200 has no status of its own. OpenAI and its like:
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "tokens": 429,
    "requests": 429,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "api_error": 500,
    "service_unavailable": 503,
    "timeout": 504,
    "timeout_error": 504,
    "overloaded_error": 529,
    # Google's canonical codes
    "invalid_argument": 400,
    "failed_precondition": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "resource_exhausted": 429,
    "internal": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
}

_BY_MESSAGE: Final[tuple[tuple[re.Pattern[str], _Meaning], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (
            r"credit balance|insufficient (balance|credits?|funds)|purchase (more )?credits|requires more credits",
            _CREDIT,
        ),
        (r"api.?key not valid|invalid api.?key|incorrect api.?key", _KEY),
        (r"location is not supported|(country|region).{0,40}not supported", _KEY),
        (
            r"context (length|window|size)|prompt is too long|too many (input )?tokens|maximum (prompt|input) length"
            r"|input (token count|is too long|length)|reduce (the|your) (length|prompt|message|input)"
            r"|exceeds? the (maximum|model).{0,40}(tokens|context)",
            _CONTEXT,
        ),
        (
            r"content management policy|content policy|usage (policy|policies|guidelines)|safety (system|check)"
            r"|flagged|moderation|data_inspection_failed|content exists risk",
            _FILTERED,
        ),
        (
            r"model.{0,80}(does not exist|not exist|not found|is not available|decommissioned|deprecated)"
            r"|(invalid|unknown|unrecognized) model|not a valid model|no (allowed )?providers are available"
            r"|no endpoints found for",
            _NO_MODEL,
        ),
        (
            r"(does|do) ?n[o']t support|(is|are) not supported|unsupported|no endpoints found that support"
            r"|extra inputs are not permitted|extra_forbidden|not a (multimodal|vision)"
            r"|max_(completion_|output_)?tokens.{0,60}(too large|at most)",
            _UNSUPPORTED,
        ),
    )
)
_SAYS_SEVERAL_THINGS: Final = frozenset({400, 402, 403, 404, 413, 422, 429, 500})
"""The statuses whose message is looked into."""
_MESSAGE_MAY_SAY: Final[Mapping[int, frozenset[_Meaning]]] = {
    402: frozenset(),
    413: frozenset({_UNSUPPORTED}),
    429: frozenset({_CREDIT}),
    500: frozenset({_CONTEXT}),  # some local servers
}


def from_response(
    status: int, headers: HeaderLookup, body: bytes, *, provider: str | None = None, secret: str | None = None
) -> GatewayError:
    """The error that a status outside 2xx stands for. `secret` is our key there, kept out of the message even if it
    looks like none."""
    said = _said(body)
    meaning = _meaning(status, said)
    message = f"{provider or 'the provider'} answered {status}"
    if 300 <= status < 400:
        message += ": a redirect, which is not followed; set the provider's base_url to its final address"
    return _error(meaning, message, said, headers, status=status, provider=provider, secret=secret)


def from_event(data: bytes, *, provider: str | None = None) -> GatewayError:
    """The error that came inside a 200: an `error` object in a body or a stream. Its own number is its status, else its
    type says; nothing said is a failure of the server."""
    said = _said(data)
    status = said.status or next((_STATUS_OF_TYPE[code] for code in said.codes if code in _STATUS_OF_TYPE), 500)
    message = f"{provider or 'the provider'} broke off its answer"
    return _error(_meaning(status, said), message, said, _NO_HEADERS, status=said.status, provider=provider)


def from_transport(error: TransportError, *, provider: str | None = None) -> GatewayError:
    """The error that no answer, or half an answer, stands for."""
    meaning = _BY_KIND[error.kind]
    message = f"{provider or 'the provider'}: {error}"
    return meaning.error(message, provider=provider, reason=meaning.reason)


_BY_KIND: Final[Mapping[Kind, _Meaning]] = {
    "connect": _Meaning(UpstreamUnreachable, "connect"),
    "connect_timeout": _Meaning(UpstreamTimeout, "connect"),
    "closed": _Meaning(UpstreamUnreachable, "closed"),
    "read": _Meaning(UpstreamCut, "read"),
    "protocol": _Meaning(UpstreamInvalid, "protocol"),
    "decode": _Meaning(UpstreamInvalid, "decode"),
    "too_large": _Meaning(UpstreamInvalid, "too_large"),
}


def _meaning(status: int, said: "_Said") -> _Meaning:
    meaning = _BY_STATUS.get(status)
    if meaning is None:
        meaning = _ODD if status < 400 else _INVALID if status < 500 else _BROKEN
    if status not in _SAYS_SEVERAL_THINGS:
        return meaning
    for code in said.codes:
        if code in _BY_CODE:
            return _BY_CODE[code]
    allowed = _MESSAGE_MAY_SAY.get(status)
    for pattern, candidate in _BY_MESSAGE:
        if (allowed is None or candidate in allowed) and pattern.search(said.text):
            return candidate
    return meaning


def _error(
    meaning: _Meaning,
    message: str,
    said: "_Said",
    headers: HeaderLookup,
    *,
    status: int | None,
    provider: str | None,
    secret: str | None = None,
) -> GatewayError:
    words = redact(said.message, secret)
    return meaning.error(
        f"{message}: {words}" if words else message,
        provider=provider,
        upstream_status=status,
        retry_after_s=_retry_after_s(headers, said),
        reason=meaning.reason,
        code=meaning.code,
    )


# --- what a body says -------------------------------------------------------------------------------------------------


class _Said(NamedTuple):
    """`message` is for people, `text` is what the patterns see, `codes` are lower case."""

    message: str = ""
    text: str = ""
    codes: tuple[str, ...] = ()
    status: int | None = None
    retry_delay_s: float | None = None


class _Body(Struct, gc=False):
    """All shapes at once: OpenAI and Google `{error: {}}`, Ollama `{error: ""}`, Mistral and vLLM `{message, type,
    code}`, FastAPI `{detail}`. Members are `Any` because no vendor keeps to a type."""

    error: Any = None
    message: Any = None
    detail: Any = None
    type: Any = None
    code: Any = None


_BODY: Final = Decoder(_Body | list[_Body])


def _said(body: bytes) -> _Said:
    try:
        outer = _BODY.decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError):  # HTML of a proxy, say: nothing of it is passed on
        return _Said()
    if isinstance(outer, list):  # Google, streaming
        outer = outer[0] if outer else _Body()
    error: Any = outer.error
    if isinstance(error, str):
        error = {"message": error, "type": outer.type, "code": outer.code}
    elif not isinstance(error, dict):
        error = {"message": outer.message or outer.detail, "type": outer.type, "code": outer.code}
    message = error.get("message")
    if isinstance(message, dict):  # Mistral: {"message": {"detail": [...]}}
        message = message.get("detail")
    if isinstance(message, list):  # FastAPI: a list of {loc, msg, type}
        message = "; ".join(str(item.get("msg")) for item in message if isinstance(item, dict))
    message = message if isinstance(message, str) else ""
    text = message
    metadata = error.get("metadata")  # OpenRouter: what the provider behind it said
    if isinstance(metadata, dict) and isinstance(metadata.get("raw"), str):
        text = f"{message} {metadata['raw']}"
        if message == "Provider returned error" and metadata["raw"][:1] not in "{[<":
            message = metadata["raw"]
    details = [detail for detail in _as_list(error.get("details")) if isinstance(detail, dict)]
    raw_codes = [error.get("code"), error.get("type"), error.get("status"), *(d.get("reason") for d in details)]
    codes = tuple(str(code).lower() for code in raw_codes if isinstance(code, str | int))
    numbers = [error.get("code"), error.get("status_code"), outer.code]
    return _Said(
        message,
        text[:4000],
        codes,
        next((number for number in numbers if isinstance(number, int) and 300 <= number < 600), None),
        next((_seconds(str(d["retryDelay"])) for d in details if "retryDelay" in d), None),
    )


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


_KEYS: Final = re.compile(
    r"\b(?:Bearer\s+\S+|AIza[\w-]{8,}|(?:[a-z]{2,5}_)?(?:sk|pk|rk|gsk|csk|xai|fw|tgp|hf|key)[-_](?=\S*[\d*])[\w*.-]{6,})"
    r"|[A-Za-z0-9]{32,}|\S*\*{4,}\S*",
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\s]+")


def redact(message: str, secret: str | None = None) -> str:
    """One line of at most `MAX_MESSAGE` characters, in which nothing looks like a key. Long runs of letters and digits
    go too: ids of a provider's organisation, base64. A `secret` goes wherever it is; one shorter than
    `SHORTEST_SECRET` only where it is a word."""
    if secret and len(secret) >= SHORTEST_SECRET:
        message = message.replace(secret, "[redacted]")
    elif secret:
        message = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "[redacted]", message)
    message = _KEYS.sub("[redacted]", _CONTROL.sub(" ", message[: 8 * MAX_MESSAGE])).strip()
    return message if len(message) <= MAX_MESSAGE else f"{message[: MAX_MESSAGE - 1]}…"


# --- when to come back ------------------------------------------------------------------------------------------------


class _NoHeaders:
    def get(self, name: str, /) -> str | None:
        return None


_NO_HEADERS: Final = _NoHeaders()
_AGAIN_IN: Final = re.compile(r"(?:try again|retry) in (?:(\d+)m)?(\d+(?:\.\d+)?)(ms|s)\b", re.IGNORECASE)


def _retry_after_s(headers: HeaderLookup, said: _Said) -> float | None:
    """`retry-after-ms` (OpenAI, Azure), Retry-After in seconds or as a date (RFC 9110, 10.2.3), Google's RetryInfo in
    the body, or the words "try again in 6m1.5s" (OpenAI, Groq). A date counts from the answer's own Date: two clocks
    are not compared."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is not None:
        seconds = _number(value)
        return seconds if seconds is not None else _seconds_between(headers.get("date"), value)
    if said.retry_delay_s is not None:
        return said.retry_delay_s
    match = _AGAIN_IN.search(said.text)
    if match is None:
        return None
    minutes, amount, unit = match.groups()
    return int(minutes or 0) * 60 + float(amount) / (1000 if unit == "ms" else 1)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return max(number, 0.0) if math.isfinite(number) else None


def _seconds(duration: str) -> float | None:
    """A protobuf duration: `39s`, `1.5s`."""
    return _number(duration.removesuffix("s"))


def _seconds_between(start: str | None, end: str) -> float | None:
    try:
        return max((parsedate_to_datetime(end) - parsedate_to_datetime(start or "")).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None
