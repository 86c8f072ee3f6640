"""POST /v1/messages and /v1/messages/count_tokens, on the same engine as every other endpoint."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import TypeVar

import msgspec

from llmwise.api.account import answer_headers
from llmwise.api.admission import reserve
from llmwise.api.anthropic.events import PING, AnthropicStream, message
from llmwise.api.anthropic.translate import FORWARDED, CountBody, MessagesBody, texts, to_count, to_request
from llmwise.api.errors import anthropic_body
from llmwise.api.http import (
    JSON,
    Caller,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    admit,
    check_depth,
    decode,
    read_body,
    refuse,
    respond,
)
from llmwise.api.intake import planned
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.catalog.cost import estimate_tokens
from llmwise.domain.errors import GatewayError, InvalidJSON, InvalidRequest, Unprocessable
from llmwise.domain.events import Event
from llmwise.domain.messages import Family
from llmwise.domain.ports import TokenCounter
from llmwise.domain.requests import AUTO, ChatRequest
from llmwise.orchestration.handling import with_own_key
from llmwise.orchestration.settlement import Ledger
from llmwise.wire import anthropic as wire

T = TypeVar("T")

ID_HEADERS = (b"request-id", b"x-request-id")
"""The first is Anthropic's, the second the gateway's on every answer."""

_decoder = msgspec.json.Decoder(MessagesBody)
_count_decoder = msgspec.json.Decoder(CountBody)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


async def messages(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "chat")
        headers = scope["headers"]
        request = parse(await read_body(services, scope, receive), forwarded(headers))
        request, plan = await planned(services, caller.key, headers, request)
        ledger = services.ledger(caller.principal, request_id, request, plan, "anthropic")
        families = services.families(ledger.plan)
        check_thread(request, families)
        await reserve(services, caller, ledger)
        watch = CallerWatch(scope, receive)
        try:
            if request.stream:
                await stream(
                    send,
                    services.continuity.run(request, ledger),
                    AnthropicStream(ledger, families),
                    lambda: [
                        EVENT_STREAM,
                        NO_CACHE,
                        NO_BUFFERING,
                        *_identity(ledger),
                        *caller.headers(),
                        *answer_headers(ledger),
                    ],
                    heartbeat_s=services.heartbeat_s,
                    keep_alive=PING,
                )
            else:
                events: list[Event] = []
                async with aclosing(services.continuity.run(request, ledger)) as batches:
                    async for batch in batches:
                        events += batch
                headers = [JSON, *_identity(ledger), *caller.headers(), *answer_headers(ledger)]
                await respond(send, 200, headers, message(events, ledger, families))
        finally:
            watch.stop()
    except GatewayError as error:
        await refuse(send, error, request_id, anthropic_body, caller, id_headers=ID_HEADERS)
    except ClientGone:
        return


COUNTED_WITHIN_S = 10.0
"""A provider that takes longer to count is not waited for: an estimate is of more use than a late count."""


async def count_tokens(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """How many tokens a request has: the provider's own count where it is Anthropic's, else an estimate from the text.
    `x-llmwise-estimated` says which."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "other")
        raw = await read_body(services, scope, receive)
        body = _decode(_count_decoder, raw)
        request = to_count(body, _as_text(raw), forwarded(scope["headers"]))
        watch = CallerWatch(scope, receive)
        try:
            tokens = await _counted(services, request, caller)
        finally:
            watch.stop()
        estimated = tokens is None
        if tokens is None:
            tokens = sum(estimate_tokens(text) for text in texts(body)) + 4 * len(body.messages)
        headers: Headers = [JSON, *((name, request_id.encode()) for name in ID_HEADERS), *caller.headers()]
        headers.append((b"x-llmwise-estimated", b"true" if estimated else b"false"))
        await respond(send, 200, headers, _encode(wire.TokenCount(tokens)))
    except GatewayError as error:
        await refuse(send, error, request_id, anthropic_body, caller, id_headers=ID_HEADERS)
    except ClientGone:
        return


async def _counted(services: Services, request: ChatRequest, caller: Caller) -> int | None:
    """The provider's count; `None` where nobody counts, or not now. Raises what the caller has to put right."""
    if request.model == AUTO or services.planner.chain(request.model) is not None:
        return None
    if request.model in services.planner.composed:
        return None
    card = services.catalog.resolve(request.model)
    provider = services.providers.get(card.provider)
    if provider is None or provider.family != "anthropic" or not isinstance(provider, TokenCounter):
        return None
    try:
        async with asyncio.timeout(COUNTED_WITHIN_S):
            keyed = with_own_key(provider, caller.principal.own_keys.get(card.provider))
            assert isinstance(keyed, TokenCounter), "the same provider with another key"
            return await keyed.count_tokens(request, card)
    except TimeoutError:
        return None
    except GatewayError as error:
        if error.caller_fault and not error.retryable:
            raise
        return None


def forwarded(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Of a caller's headers those that an Anthropic provider is told of."""
    texts = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return [(name, value) for name, value in texts if name in FORWARDED]


def parse(body: bytes, headers: Sequence[tuple[str, str]] = ()) -> ChatRequest:
    """Raises `InvalidRequest`, which Anthropic answers with 400 where the native API says 422."""
    given = _decode(_decoder, body)
    request = to_request(given, _as_text(body), headers)
    for tool in request.tools:
        check_depth(tool.parameters, f"tools.{tool.name}.input_schema")
    if request.response_format is not None:
        check_depth(request.response_format.schema, "output_config.format.schema")
    return request


def _as_text(body: bytes) -> dict[str, bytes]:
    return {name: bytes(raw) for name, raw in _fields.decode(body).items()}


def _decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        body.decode()  # blocks that stay raw are not looked into, and must be text for all that
        return decode(decoder, body)
    except Unprocessable as error:
        raise InvalidRequest(error.message, **error.details) from error
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"the body is not JSON: {error}") from error


def check_thread(request: ChatRequest, families: dict[str, Family]) -> None:
    """A thread (beta `message-threads`) is kept by Anthropic: a request that goes on with one holds its new turn only,
    and means nothing to anybody else. Raises `InvalidRequest` as the official client knows it, unless all targets are
    Anthropic's: then it sends the whole conversation, and no thread."""
    own = request.passthrough
    others = [model for model, family in families.items() if family != "anthropic"]
    if own is None or "thread" not in own.fields or not others:
        return
    text = f"thread: {', '.join(others)} can't look threads up; send the whole conversation in `messages`"
    details = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}
    raise InvalidRequest(text, param="thread", details=details)


def _identity(ledger: Ledger) -> Headers:
    return [(name, ledger.id.encode()) for name in ID_HEADERS]
