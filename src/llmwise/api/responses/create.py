"""POST /v1/responses, on the same engine as every other endpoint."""

from contextlib import aclosing

import msgspec

from llmwise.api.account import answer_headers
from llmwise.api.admission import reserve
from llmwise.api.errors import openai_body
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
from llmwise.api.responses.events import ResponsesStream, whole
from llmwise.api.responses.translate import ResponsesBody, Translated, to_request
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.domain.errors import GatewayError, InvalidJSON, InvalidRequest, Unprocessable
from llmwise.domain.events import Event
from llmwise.domain.messages import Family
from llmwise.orchestration.settlement import Ledger

_decoder = msgspec.json.Decoder(ResponsesBody)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


async def create(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "chat")
        translated = parse(await read_body(services, scope, receive))
        request, plan = await planned(services, caller.key, scope["headers"], translated.request)
        ledger = services.ledger(caller.principal, request_id, request, plan, "responses")
        families = services.families(ledger.plan)
        check_store(translated.needs_store, families)
        await reserve(services, caller, ledger)
        watch = CallerWatch(scope, receive)
        try:
            if request.stream:
                await stream(
                    send,
                    services.continuity.run(request, ledger),
                    ResponsesStream(ledger, families),
                    lambda: [
                        EVENT_STREAM,
                        NO_CACHE,
                        NO_BUFFERING,
                        *_identity(ledger),
                        *caller.headers(),
                        *answer_headers(ledger),
                    ],
                    heartbeat_s=services.heartbeat_s,
                )
            else:
                events: list[Event] = []
                async with aclosing(services.continuity.run(request, ledger)) as batches:
                    async for batch in batches:
                        events += batch
                body = whole(events, ledger, families)
                headers = [JSON, *_identity(ledger), *caller.headers(), *answer_headers(ledger)]
                await respond(send, 200, headers, body)
        finally:
            watch.stop()
    except GatewayError as error:
        await refuse(send, error, request_id, openai_body, caller)
    except ClientGone:
        return


def parse(body: bytes) -> Translated:
    """Raises `InvalidRequest`, which OpenAI answers with 400 where the native API says 422."""
    try:
        given = decode(_decoder, body)
        body.decode()  # items that stay raw are not looked into, and must be text for all that
    except Unprocessable as error:
        raise InvalidRequest(error.message, **error.details) from error
    except UnicodeDecodeError as error:
        raise InvalidJSON(f"the body is not JSON: {error}") from error
    translated = to_request(given, {name: bytes(raw) for name, raw in _fields.decode(body).items()})
    for tool in translated.request.tools:
        check_depth(tool.parameters, f"tools.{tool.name}.parameters")
    if translated.request.response_format is not None:
        check_depth(translated.request.response_format.schema, "text.format.schema")
    return translated


def check_store(field: str | None, families: dict[str, Family]) -> None:
    """`field` refers to answers or files that a provider keeps. Raises `InvalidRequest` unless all targets are its."""
    others = [model for model, family in families.items() if family != "responses"]
    if field is None or not others:
        return
    text = (
        f"{field}: the gateway keeps no responses, and {', '.join(others)} can't look them up; send the conversation's "
        "items in `input`, or ask a model of a provider of the kind `responses`"
    )
    raise InvalidRequest(text, param=field, code="unsupported_parameter")


def _identity(ledger: Ledger) -> Headers:
    return [(b"x-request-id", ledger.id.encode())]
