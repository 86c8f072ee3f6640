"""The plain ASGI side of a request: admit the caller, read the body within bounds, write the answer."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from llmwise.api.auth import Principal, credential_of, require_mode
from llmwise.api.errors import error_headers
from llmwise.api.limits import Standing, Work
from llmwise.api.services import Services
from llmwise.domain.errors import (
    BodyTimeout,
    GatewayError,
    InvalidJSON,
    PayloadTooLarge,
    RateLimited,
    Unprocessable,
    UnsupportedMediaType,
)
from llmwise.domain.ids import RequestId
from llmwise.domain.validation import did_you_mean, field_of, fields_at, misfit, shown, value_at, words_at
from llmwise.storage.rows import KeyRow

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

T = TypeVar("T")

MAX_JSON_DEPTH = 64
"""Only free-form values (JSON Schemas, arguments) can be deep: all else has the depth of its type."""

JSON = (b"content-type", b"application/json")


class ClientGone(Exception):
    """The caller left before it had sent its request."""


class Caller(Struct, frozen=True):
    """Who is calling, and where it stands in its limits. `notes` are headers that the answer is to have besides."""

    principal: Principal
    standing: Standing
    notes: Headers = []

    @property
    def key(self) -> KeyRow:
        return self.principal.key

    def headers(self) -> Headers:
        standing = self.standing
        return [
            *self.notes,
            (b"x-ratelimit-limit", b"%d" % standing.limit),
            (b"x-ratelimit-remaining", b"%d" % standing.remaining),
            (b"x-ratelimit-reset", b"%d" % standing.reset_s),
        ]


def openai_limits(caller: Caller) -> Headers:
    """The same in OpenAI's names. https://platform.openai.com/docs/guides/rate-limits (read 2026-11-22)"""
    standing = caller.standing
    return [
        (b"x-ratelimit-limit-requests", b"%d" % standing.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % standing.remaining),
        (b"x-ratelimit-reset-requests", b"%ds" % standing.reset_s),
    ]


async def admit(services: Services, headers: Headers, work: Work) -> Caller:
    """Authenticate, then count against the limits. Raises `Unauthorized`, `Forbidden` and `RateLimited`."""
    credential = credential_of(headers)
    principal = services.authenticator.cached(credential)
    if principal is None:
        principal = await services.authenticator.authenticate(credential)
    require_mode(principal, work)
    return Caller(principal, await services.limiter.count(principal, work))


async def read_body(services: Services, scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises `PayloadTooLarge`, before reading where the length is announced, `UnsupportedMediaType`,
    `BodyTimeout`, and `ClientGone`."""
    limit = services.edge.max_body_bytes
    for name, value in scope["headers"]:
        if name == b"content-length":
            if value.isdigit() and int(value) > limit:
                raise _too_large(limit)
        elif name == b"content-type":
            if not value.lower().startswith((b"application/json", b"text/plain")) and b"+json" not in value.lower():
                raise UnsupportedMediaType(
                    f"content-type {value.decode('latin-1')!r}: send the body as application/json"
                )
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise UnsupportedMediaType(f"content-encoding {value.decode('latin-1')!r}: send the body unencoded")
    connection = scope.get("llmwise.connection")
    if connection is not None and connection.body_is_here:
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False) and len(body) <= limit:
            return body
        raise ClientGone if message["type"] == "http.disconnect" else _too_large(limit)
    pieces: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(services.edge.body_read_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
                if size > limit:
                    raise _too_large(limit)
                more = message.get("more_body", False)
    except TimeoutError:
        raise _too_slow(services) from None
    return b"".join(pieces)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is over {limit} bytes ([server] max_body_bytes); send less", limit_bytes=limit)


def _too_slow(services: Services) -> BodyTimeout:
    return BodyTimeout(f"the body did not come within {services.edge.body_read_s:g} s ([server] body_read_s)")


def decode(decoder: "msgspec.json.Decoder[T]", body: bytes, *, secret: bool = False) -> T:
    """A body as its struct. Raises `InvalidJSON`, or `Unprocessable` naming the field, the value and what to do; of a
    `secret` body nothing is repeated."""
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            unfit = _unfit_secret(str(error), decoder.type) if secret else _unfit(str(error), body, decoder.type)
            raise unfit from error
    except RecursionError:
        raise InvalidJSON("the JSON is nested too deeply", code="json_too_deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        what = str(error) or "not UTF-8"
        raise InvalidJSON(f"the body is not JSON: {what}") from error


def check_depth(value: object, path: str, limit: int = MAX_JSON_DEPTH) -> None:
    """Raises `InvalidJSON` when a free-form value is nested deeper than `limit`."""
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
        if not level:
            return
    raise InvalidJSON(f"{path}: nested deeper than {limit} levels", code="json_too_deep", param=path)


def _unfit(message: str, body: bytes, type_: object) -> Unprocessable:
    wrong = misfit(message)
    value = value_at(msgspec.json.decode(body), wrong.keys)
    if wrong.unknown:
        given = shown(field_of(value, wrong.unknown))
        near = did_you_mean(wrong.unknown, fields_at(type_, wrong.keys))
        text = f"{wrong.path} = {given}: unknown field{near or '; leave it out'}"
    elif wrong.missing:
        text = f"{wrong.path}: is required"
    elif options := words_at(type_, wrong.keys) if wrong.what.startswith("invalid enum value") else ():
        text = f"{wrong.path} = {shown(value)}: must be one of {', '.join(options)}{did_you_mean(str(value), options)}"
    else:
        text = f"{wrong.path or 'body'} = {shown(value)}: {wrong.what}"
    return Unprocessable(text, param=wrong.path or None)


def _unfit_secret(message: str, type_: object) -> Unprocessable:
    """Without values, and without names other than the struct's own: a key may stand where a name belongs."""
    wrong, known = misfit(message), fields_at(type_, ())
    field = next((key for key in (*wrong.keys[:1], wrong.missing) if key in known), None)
    what = f"unknown field; known: {', '.join(known)}" if wrong.unknown else wrong.what
    return Unprocessable(f"{field or 'body'}: {what}", param=None if field is None else str(field))


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """One whole answer."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def refuse(
    send: Send,
    error: GatewayError,
    request_id: RequestId,
    render: Callable[[GatewayError, str], bytes],
    caller: Caller | None,
    *,
    id_headers: Sequence[bytes] = (b"x-request-id",),
) -> None:
    """An error as the whole answer, in the dialect that `render` speaks."""
    headers: Headers = [JSON, *((name, request_id.encode()) for name in id_headers), *error_headers(error)]
    if caller is not None:
        headers += caller.headers()
    elif isinstance(error, RateLimited):
        limit, reset = error.details.get("limit", 0), error.retry_after_s or 0
        headers += [
            (b"x-ratelimit-limit", b"%d" % limit),
            (b"x-ratelimit-remaining", b"0"),
            (b"x-ratelimit-reset", b"%d" % reset),
        ]
    await respond(send, error.status, headers, render(error, request_id))
