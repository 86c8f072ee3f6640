"""POST /v1/chat/completions and GET /v1/models, on the same engine as every other endpoint."""

import msgspec
from msgspec import Struct

from llmwise.api.errors import openai_body
from llmwise.api.frame import Call
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
from llmwise.api.openai.events import OpenAIStream, completion
from llmwise.api.openai.translate import ChatBody, to_request
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.domain.errors import GatewayError, InvalidRequest, Unprocessable
from llmwise.domain.requests import AUTO, ChatRequest
from llmwise.orchestration.chat import answer
from llmwise.orchestration.settlement import Ledger

_decoder = msgspec.json.Decoder(ChatBody)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


async def chat_completions(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "chat")
        body = parse(await read_body(services, scope, receive))
        request = body.request
        ledger = Ledger(
            id=request_id,
            key_id=caller.key.id,
            request=request,
            plan=services.planner.plan(request, services.view()),
            dialect="openai",
            rate_of=services.catalog.rate,
            clock=services.clock,
            recorder=services.recorder,
            keep_text=services.keep_text,
        )
        watch = CallerWatch(scope, receive)
        try:
            if request.stream:
                await stream(
                    send,
                    services.mesh.run(request, ledger),
                    OpenAIStream(ledger, include_usage=body.include_usage),
                    lambda: [EVENT_STREAM, NO_CACHE, NO_BUFFERING, *_identity(ledger), *caller.headers()],
                    heartbeat_s=services.heartbeat_s,
                )
            else:
                result = await answer(services.mesh, request, ledger)
                headers = [JSON, *_identity(ledger), *caller.headers(), *_account_headers(ledger)]
                await respond(send, 200, headers, _encode(completion(result, ledger)))
        finally:
            watch.stop()
    except GatewayError as error:
        await refuse(send, error, request_id, openai_body, caller)
    except ClientGone:
        return


class Parsed(Struct, frozen=True):
    request: ChatRequest
    include_usage: bool


def parse(body: bytes) -> Parsed:
    """Raises `InvalidRequest`, which OpenAI answers with 400 where the native API says 422."""
    try:
        given = decode(_decoder, body)
    except Unprocessable as error:
        raise InvalidRequest(error.message, **error.details) from error
    for index, tool in enumerate(given.tools or ()):
        if tool.function is not None:
            check_depth(tool.function.parameters, f"tools[{index}].function.parameters")
    if given.response_format is not None and given.response_format.json_schema is not None:
        check_depth(given.response_format.json_schema.schema_, "response_format.json_schema.schema")
    options = given.stream_options
    request = to_request(given, {name: bytes(raw) for name, raw in _fields.decode(body).items()})
    return Parsed(request, bool(options is not None and options.include_usage))


def _identity(ledger: Ledger) -> Headers:
    return [(b"x-request-id", ledger.id.encode())]


def _account_headers(ledger: Ledger) -> Headers:
    final = ledger.final
    assert final is not None
    return [(b"x-llmwise-model", final.model.encode()), (b"x-llmwise-provider", final.provider.encode())]


class ModelRow(Struct):
    id: str
    object: str
    created: int
    owned_by: str


class ModelList(Struct):
    """https://platform.openai.com/docs/api-reference/models/list (read 2026-11-22)."""

    object: str
    data: list[ModelRow]


async def list_models(call: Call) -> ModelList:
    """The catalog and `auto`. `created` is 0: the catalog does not know when a model was made."""
    rows = [ModelRow(card.id, "model", 0, card.vendor or card.provider) for card in call.services.catalog.models]
    return ModelList("list", [ModelRow(AUTO, "model", 0, "llmwise"), *rows])
