"""POST /v1/embeddings: vectors of texts, on the same engine as every other endpoint.

https://platform.openai.com/docs/api-reference/embeddings (2026-11-22). The vectors of two models can't be compared:
there is no `auto`, and a fallback is tried only where the caller names it under `routing`.
"""

from array import array
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Sequence
from contextlib import aclosing
from sys import byteorder
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from llmwise.api.account import account, answer_headers
from llmwise.api.admission import reserve
from llmwise.api.errors import openai_body
from llmwise.api.http import JSON, Caller, ClientGone, Receive, Scope, Send, admit, decode, read_body, refuse, respond
from llmwise.api.intake import strictness
from llmwise.api.openai.translate import RoutingField, routing_of
from llmwise.api.services import Services
from llmwise.api.streaming import CallerWatch
from llmwise.domain.errors import GatewayError, InvalidRequest, Unprocessable, UpstreamInvalid
from llmwise.domain.events import Embedded, Vector
from llmwise.domain.requests import EmbeddingRequest, Passthrough
from llmwise.orchestration.continuity import Engine
from llmwise.orchestration.settlement import Ledger

MAX_INPUTS = 2048

Dimensions = Annotated[int, Meta(ge=1, le=65_536)]


class EmbeddingBody(Struct, frozen=True):
    """OpenAI's body and, as an extra field, the gateway's `routing`. `input` is a text, several, a text as tokens, or
    several of these. Other fields go on to a provider of this dialect."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Dimensions | None = None
    user: str | None = None
    routing: RoutingField | None = None


class EmbeddingRow(Struct, frozen=True, tag_field="object", tag="embedding"):
    index: int
    embedding: Vector


class EmbeddingUsage(Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, frozen=True, tag_field="object", tag="list"):
    """The vectors in the order of the inputs: numbers, or base64 of them as 32-bit floats, little-endian."""

    data: list[EmbeddingRow]
    model: str
    usage: EmbeddingUsage
    llmwise: dict[str, Any]


_decoder = msgspec.json.Decoder(EmbeddingBody)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


async def embeddings(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "chat")
        strict = strictness(scope["headers"], caller.key)
        request = replace(parse(await read_body(services, scope, receive)), strict=strict)
        ledger = services.ledger(
            caller.principal,
            request_id,
            request,
            services.planner.embedding(request, services.view(caller.key)),
            "openai",
            mode="embedding",
        )
        await reserve(services, caller, ledger)
        watch = CallerWatch(scope, receive)
        try:
            body = _encode(_listed(await _vectors(services.mesh, request, ledger), request, ledger))
            headers = [JSON, (b"x-request-id", request_id.encode()), *caller.headers(), *answer_headers(ledger)]
            await respond(send, 200, headers, body)
        finally:
            watch.stop()
    except GatewayError as error:
        await refuse(send, error, request_id, openai_body, caller)
    except ClientGone:
        return


def parse(body: bytes) -> EmbeddingRequest:
    """Raises `InvalidRequest`, which OpenAI answers with 400 where the native API says 422."""
    try:
        given = decode(_decoder, body)
    except Unprocessable as error:
        raise InvalidRequest(error.message, **error.details) from error
    fields = {name: bytes(raw) for name, raw in _fields.decode(body).items()}
    return EmbeddingRequest(
        given.model,
        _inputs(given.input),
        dimensions=given.dimensions,
        packed=given.encoding_format == "base64",
        user=given.user,
        routing=routing_of(given.routing),
        passthrough=Passthrough("openai", fields),
    )


def _inputs(given: str | list[str | int | list[int]]) -> tuple[str | tuple[int, ...], ...]:
    """One text, several, the tokens of one, or of several: not a mixture."""
    inputs: tuple[str | tuple[int, ...], ...] = (given,) if isinstance(given, str) else ()
    if isinstance(given, list):
        kinds = {type(one) for one in given}
        if len(kinds) > 1:
            raise InvalidRequest("input: texts and tokens are mixed; send either", param="input")
        if kinds == {int}:
            inputs = (tuple([one for one in given if isinstance(one, int)]),)
        else:
            inputs = tuple([tuple(one) if isinstance(one, list) else str(one) for one in given])
    if not inputs or not all(inputs):
        raise InvalidRequest("input: is empty; give at least one text, and none that is empty", param="input")
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest(f"input: {len(inputs)} texts; at most {MAX_INPUTS} in one request", param="input")
    return inputs


async def _vectors(mesh: Engine, request: EmbeddingRequest, ledger: Ledger) -> Sequence[Vector]:
    found: Sequence[Vector] = ()
    async with aclosing(mesh.run(request, ledger)) as batches:
        async for batch in batches:
            for event in batch:
                if isinstance(event, Embedded):
                    found = event.vectors
    return found


def _listed(vectors: Sequence[Vector], request: EmbeddingRequest, ledger: Ledger) -> EmbeddingList:
    final = ledger.final
    assert final is not None
    form = packed if request.packed else numbers
    tokens = final.input_tokens + final.cache_read_tokens + final.cache_write_tokens
    return EmbeddingList(
        [EmbeddingRow(index, form(vector)) for index, vector in enumerate(vectors)],
        final.model,
        EmbeddingUsage(tokens, tokens),
        account(ledger),
    )


def packed(vector: Vector) -> str:
    """As base64; what came so stays as it is."""
    if isinstance(vector, str):
        return vector
    floats = array("f", vector)
    if byteorder == "big":
        floats.byteswap()
    return b64encode(floats.tobytes()).decode()


def numbers(vector: Vector) -> list[float]:
    """As numbers. Raises `UpstreamInvalid`."""
    if not isinstance(vector, str):
        return vector
    floats = array("f")
    try:
        floats.frombytes(b64decode(vector, validate=True))
    except (NotBase64, ValueError) as error:
        raise UpstreamInvalid(f"a vector is not base64 of 32-bit floats: {error}") from error
    if byteorder == "big":
        floats.byteswap()
    return floats.tolist()
