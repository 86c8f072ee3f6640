"""POST /v1/messages and /v1/messages/count_tokens, on the same engine as every other endpoint."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import TypeVar

import msgspec
from msgspec import Struct

from llmwise.api.anthropic.events import PING, AnthropicStream, message
from llmwise.api.anthropic.translate import CountBody, MessagesBody, Translated, texts, to_request
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
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.catalog.cost import estimate_tokens
from llmwise.domain.errors import GatewayError, InvalidJSON, InvalidRequest, Unprocessable
from llmwise.domain.events import Event, Warned
from llmwise.domain.messages import Family
from llmwise.domain.requests import AUTO
from llmwise.orchestration.settlement import Ledger

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
        translated = parse(await read_body(services, scope, receive))
        request = translated.request
        ledger = Ledger(
            id=request_id,
            key_id=caller.key.id,
            request=request,
            plan=services.planner.plan(request, services.view()),
            dialect="anthropic",
            rate_of=services.catalog.rate,
            clock=services.clock,
            recorder=services.recorder,
            keep_text=services.keep_text,
        )
        families = _families(services, ledger)
        ledger.warnings += _lost(translated, families)
        watch = CallerWatch(scope, receive)
        try:
            if request.stream:
                await stream(
                    send,
                    services.mesh.run(request, ledger),
                    AnthropicStream(ledger, families),
                    lambda: [EVENT_STREAM, NO_CACHE, NO_BUFFERING, *_identity(ledger), *caller.headers()],
                    heartbeat_s=services.heartbeat_s,
                    keep_alive=PING,
                )
            else:
                events: list[Event] = []
                async with aclosing(services.mesh.run(request, ledger)) as batches:
                    async for batch in batches:
                        events += batch
                headers = [JSON, *_identity(ledger), *caller.headers(), *_account_headers(ledger)]
                await respond(send, 200, headers, _encode(message(events, ledger, families)))
        finally:
            watch.stop()
    except GatewayError as error:
        await refuse(send, error, request_id, anthropic_body, caller, id_headers=ID_HEADERS)
    except ClientGone:
        return


class TokenCount(Struct):
    """https://platform.claude.com/docs/en/api/messages-count-tokens (2026-11-22). An estimate."""

    input_tokens: int


async def count_tokens(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """About how many tokens a request has: the gateway's own estimate from its text, whichever the model."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "other")
        body = _decode(_count_decoder, await read_body(services, scope, receive))
        if body.model != AUTO:
            services.catalog.resolve(body.model)
        count = TokenCount(sum(estimate_tokens(text) for text in texts(body)) + 4 * len(body.messages))
        headers: Headers = [JSON, *((name, request_id.encode()) for name in ID_HEADERS), *caller.headers()]
        await respond(send, 200, headers, _encode(count))
    except GatewayError as error:
        await refuse(send, error, request_id, anthropic_body, caller, id_headers=ID_HEADERS)
    except ClientGone:
        return


def parse(body: bytes) -> Translated:
    """Raises `InvalidRequest`, which Anthropic answers with 400 where the native API says 422."""
    given = _decode(_decoder, body)
    translated = to_request(given, {name: bytes(raw) for name, raw in _fields.decode(body).items()})
    for tool in translated.request.tools:
        check_depth(tool.parameters, f"tools.{tool.name}.input_schema")
    if translated.request.response_format is not None:
        check_depth(translated.request.response_format.schema, "output_config.format.schema")
    return translated


def _decode(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        body.decode()  # blocks that stay raw are not looked into, and must be text for all that
        return decode(decoder, body)
    except Unprocessable as error:
        raise InvalidRequest(error.message, **error.details) from error
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"the body is not JSON: {error}") from error


def _families(services: Services, ledger: Ledger) -> dict[str, Family]:
    targets = [attempt.target for attempt in ledger.plan.attempts]
    providers = services.providers
    return {target.id: providers[target.provider].family for target in targets if target.provider in providers}


def _lost(translated: Translated, families: dict[str, Family]) -> Sequence[Warned]:
    """What the request lost on its way here, and the tools that some of its targets can't be given."""
    others = [model for model, family in families.items() if family != "anthropic"]
    why = f"only Anthropic's own models have it: not sent to {', '.join(others)}"
    tools = [Warned("dropped", f"tools.{name}", why) for name in translated.server_tools if others]
    return [*translated.notes, *tools]


def _identity(ledger: Ledger) -> Headers:
    return [(name, ledger.id.encode()) for name in ID_HEADERS]


def _account_headers(ledger: Ledger) -> Headers:
    final = ledger.final
    assert final is not None
    return [(b"x-llmwise-model", final.model.encode()), (b"x-llmwise-provider", final.provider.encode())]
