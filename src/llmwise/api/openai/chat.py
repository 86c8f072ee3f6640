"""POST /v1/chat/completions, on the same engine as every other endpoint."""

from contextlib import aclosing

import msgspec
from msgspec import Struct

from llmwise.api.account import answer_headers
from llmwise.api.admission import most_nanousd, prompt_tokens, reserve
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
    openai_limits,
    read_body,
    refuse,
    respond,
)
from llmwise.api.intake import planned
from llmwise.api.openai.choices import ChoicesStream
from llmwise.api.openai.choices import completion as completions
from llmwise.api.openai.events import OpenAIStream, completion
from llmwise.api.openai.translate import ChatBody, to_request
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.domain.errors import GatewayError, InvalidRequest, Unprocessable
from llmwise.domain.events import Event
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration import choices
from llmwise.orchestration.settlement import Ledger

_decoder = msgspec.json.Decoder(ChatBody)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


async def chat_completions(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "chat")
        body = parse(await read_body(services, scope, receive))
        request, plan = await planned(services, caller.key, scope["headers"], body.request)
        ledger = services.ledger(caller.principal, request_id, request, plan, "openai")
        together = body.n * most_nanousd(ledger, prompt_tokens(request)) if body.n > 1 else None
        await reserve(services, caller, ledger, likely_nanousd=together)
        watch = CallerWatch(scope, receive)
        try:
            if request.stream:
                await _stream(services, send, caller, request, ledger, body)
            else:
                answered = await _whole(services, request, ledger, body.n)
                headers = [JSON, *_identity(ledger), *caller.headers(), *openai_limits(caller), *answer_headers(ledger)]
                await respond(send, 200, headers, answered)
        finally:
            watch.stop()
    except GatewayError as error:
        await refuse(send, error, request_id, openai_body, caller)
    except ClientGone:
        return


async def _stream(
    services: Services, send: Send, caller: Caller, request: ChatRequest, ledger: Ledger, body: "Parsed"
) -> None:
    def headers() -> Headers:
        return [
            EVENT_STREAM,
            NO_CACHE,
            NO_BUFFERING,
            *_identity(ledger),
            *caller.headers(),
            *openai_limits(caller),
            *answer_headers(ledger),
        ]

    engine, heartbeat_s = services.continuity, services.heartbeat_s
    if body.n > 1:
        runs = choices.branches(ledger, request, body.n)
        several = ChoicesStream(ledger, runs, include_usage=body.include_usage)
        await stream(send, choices.run(engine, ledger, runs), several, headers, heartbeat_s=heartbeat_s)
        return
    one = OpenAIStream(ledger, include_usage=body.include_usage)
    await stream(send, engine.run(request, ledger), one, headers, heartbeat_s=heartbeat_s)


async def _whole(services: Services, request: ChatRequest, ledger: Ledger, n: int) -> bytes:
    if n > 1:
        runs = choices.branches(ledger, request, n)
        return completions(await choices.answers(services.continuity, ledger, runs), ledger, runs)
    events: list[Event] = []
    async with aclosing(services.continuity.run(request, ledger)) as batches:
        async for batch in batches:
            events += batch
    return completion(events, ledger)


class Parsed(Struct, frozen=True):
    """`n` is the number of choices."""

    request: ChatRequest
    include_usage: bool
    n: int = 1


def parse(body: bytes) -> Parsed:
    """Raises `InvalidRequest`, which OpenAI answers with 400 where the native API says 422."""
    try:
        given = decode(_decoder, body)
    except Unprocessable as error:
        raise InvalidRequest(error.message, **error.details) from error
    for index, tool in enumerate(given.tools or ()):
        if tool.type == "function" and tool.function is None:
            raise InvalidRequest(f"tools[{index}].function: is required", param=f"tools[{index}].function")
        if tool.function is not None:
            check_depth(tool.function.parameters, f"tools[{index}].function.parameters")
    if given.response_format is not None and given.response_format.json_schema is not None:
        check_depth(given.response_format.json_schema.schema_, "response_format.json_schema.schema")
    options = given.stream_options
    request = to_request(given, {name: bytes(raw) for name, raw in _fields.decode(body).items()})
    return Parsed(request, bool(options is not None and options.include_usage), given.n or 1)


def _identity(ledger: Ledger) -> Headers:
    return [(b"x-request-id", ledger.id.encode())]
