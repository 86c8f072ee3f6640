"""What compare, blend and judge share at the door: the way of a request, the models it names, and its bounds. How they
are told of is in `sources`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import Struct
from msgspec.json import encode
from msgspec.structs import replace

from llmwise.api.admission import reserve
from llmwise.api.errors import native_body
from llmwise.api.http import (
    JSON,
    Caller,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    admit,
    decode,
    read_body,
    refuse,
    respond,
)
from llmwise.api.native import conversations, memory, sources
from llmwise.api.native.events import COMPAT_KEEP_ALIVE
from llmwise.api.native.translate import to_request
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, KEEP_ALIVE, NO_BUFFERING, NO_CACHE, CallerWatch, Renderer, stream
from llmwise.domain.errors import (
    CallerError,
    Forbidden,
    GatewayError,
    InvalidRequest,
    Unprocessable,
    UnsupportedInput,
)
from llmwise.domain.ids import RequestId
from llmwise.domain.models import ModelCard
from llmwise.domain.money import from_usd
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.records import Mode
from llmwise.domain.requests import AUTO, ChatRequest, Routing
from llmwise.orchestration.bounds import Bounds
from llmwise.orchestration.estimates import Estimate, check_affordable, price_unknown
from llmwise.orchestration.handling import Recall
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.panel import Emit, Question, piped
from llmwise.orchestration.settlement import Ledger
from llmwise.storage.rows import KeyRow
from llmwise.wire import native


class PanelBody(Protocol):
    """The fields that the three bodies share."""

    messages: list[native.Message]
    temperature: float | None
    max_tokens: int | None
    stream: bool
    semantic_memory: bool | None
    semantic_top_k: int | None
    semantic_min_score: float | None
    conversation_id: str | None
    fallback: dict[str, list[str]] | None
    source_timeout_s: float | None
    min_sources: int | None
    max_cost: float | None
    dry_run: bool


T_co = TypeVar("T_co", covariant=True)
B = TypeVar("B", bound=PanelBody)

PanelMode: TypeAlias = Literal["compare", "blend", "judge"]


class Work(Protocol[T_co]):
    """A panel that is prepared: what it will cost, and its run, which yields items of `T`."""

    account: Ledger
    bounds: Bounds

    def estimate(self) -> Estimate: ...

    async def run(self, mesh: Mesh, emit: Emit[T_co]) -> None: ...


W = TypeVar("W", bound=Work[Any])


async def serve(
    services: Services,
    scope: Scope,
    receive: Receive,
    send: Send,
    mode: PanelMode,
    decoder: "msgspec.json.Decoder[B]",
    prepared: Callable[[Services, Caller, RequestId, B, bytes], Awaitable[W]],
    renderer: Callable[[W, bool], Renderer[Any]],
    answer: Callable[[W, list[Any]], Struct],
) -> None:
    """The whole request, from the key to the last byte. `prepared` makes the work of a body, or raises what is wrong
    with it; `renderer` says it as a stream (in the compat framing or not), `answer` says it whole, given its items."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], mode)
        body = await read_body(services, scope, receive)
        given = decode(decoder, body)
        work = await prepared(services, caller, request_id, given, body)
        account = work.account
        estimate = work.estimate()
        if given.dry_run:
            told = sources.estimate_answer(estimate, request_id, mode, account.warnings)
            await respond(send, 200, [JSON, *_identity(request_id), *caller.headers()], encode(told))
            return
        check_affordable(estimate, work.bounds.max_cost_nanousd)
        await reserve(services, caller, account, likely_nanousd=estimate.likely_nanousd)
        headers = [*_identity(request_id), *caller.headers()]
        watch = CallerWatch(scope, receive)
        items = piped(partial(work.run, services.mesh))
        try:
            if given.stream:
                compat = scope.get("llmwise.compat", False)
                await stream(
                    send,
                    items,
                    renderer(work, compat),
                    lambda: [EVENT_STREAM, NO_CACHE, NO_BUFFERING, *headers],
                    heartbeat_s=services.heartbeat_s,
                    keep_alive=COMPAT_KEEP_ALIVE if compat else KEEP_ALIVE,
                )
            else:
                async with aclosing(items):
                    every = [item async for item in items]
                await respond(send, 200, [JSON, *headers], encode(answer(work, every)))
        finally:
            watch.stop()
        await memory.remember(services, caller, account)
    except GatewayError as error:
        await refuse(send, error, request_id, native_body, caller)
    except ClientGone:
        return


async def question(
    services: Services, caller: Caller, body: PanelBody, models: Sequence[str], fields: Mapping[str, msgspec.Raw]
) -> tuple[ChatRequest, Recall]:
    """The question to each model, with what is remembered, if it asks for that. `fields` is the body as it came. Raises
    `NotFound` for a conversation that isn't there."""
    await conversations.check_known(services, caller, body.conversation_id)
    chat = native.ChatBody(
        model=models[0],
        messages=body.messages,
        temperature=body.temperature,
        max_tokens=body.max_tokens,
        stream=body.stream,
        conversation_id=body.conversation_id,
    )
    request = to_request(chat, {name: bytes(raw) for name, raw in fields.items()})
    return await memory.recall(
        services,
        caller,
        request,
        wanted=body.semantic_memory and not body.dry_run,
        top_k=body.semantic_top_k,
        min_score=body.semantic_min_score,
    )


def bounds_of(body: PanelBody, asked: int) -> Bounds:
    """Raises `Unprocessable` for more answers than models."""
    least = body.min_sources or 1
    if least > asked:
        raise Unprocessable(f"min_sources = {least}: only {asked} are asked", param="min_sources")
    return Bounds(body.source_timeout_s, least, None if body.max_cost is None else from_usd(body.max_cost), own=True)


def contenders(
    services: Services,
    key: KeyRow,
    models: Sequence[str],
    request: ChatRequest,
    body: PanelBody,
    *,
    param: str = "models",
) -> list[Question]:
    """The question to each model, with its fallbacks; to one that can't take the request it is refused. Raises what
    `permitted` does, and `Unprocessable` for a model named twice and for a fallback of a model that isn't asked."""
    stand_ins: dict[str, tuple[str, ...]] = {}
    for name, others in (body.fallback or {}).items():
        card = permitted(services, key, name, f"fallback.{name}")
        for index, other in enumerate(others):
            chain = services.planner.chain(other)
            for one in (other,) if chain is None else [target.id for target in chain.targets]:
                stand_in = permitted(services, key, one, f"fallback.{name}[{index}]")
                if body.max_cost is not None and stand_in.rate is None:
                    raise price_unknown(stand_in.id)
        stand_ins[card.id] = tuple(others)
    view = services.view(key)
    seen: dict[str, str] = {}
    found = []
    for index, name in enumerate(models):
        card = permitted(services, key, name, f"{param}[{index}]")
        if card.id in seen:
            raise Unprocessable(
                f"{param}[{index}] = {name!r}: is {card.id}, which {seen[card.id]!r} names already; leave one out",
                param=f"{param}[{index}]",
            )
        seen[card.id] = name
        instead = stand_ins.pop(card.id, None)
        asked = replace(request, model=card.id, routing=None if instead is None else Routing(instead))
        try:
            plan = replace(services.planner.plan(asked, view), chain=False)
            found.append(Question(plan, asked))
        except UnsupportedInput as error:
            found.append(Question(Plan((PlannedAttempt(card, "requested"),)), asked, error))
    for name in stand_ins:
        raise Unprocessable(f"fallback.{name}: {name} is none of {param}", param=f"fallback.{name}")
    return found


def permitted(services: Services, key: KeyRow, name: str, param: str) -> ModelCard:
    """The model that `param` names. Raises `InvalidRequest` for what is no single model (`not_one_model`), and
    `UnknownModel` and `Forbidden` as for any other request."""
    planner = services.planner
    what = None
    if name == AUTO:
        what = "chooses a model for each request"
    elif name in planner.composed:
        what = "is made of several models"
    elif planner.chain(name) is not None:
        what = "is a chain of models"
    if what is not None:
        raise InvalidRequest(f"{param} = {name!r}: {what}; name the one to ask", param=param, code="not_one_model")
    try:
        card = services.catalog.resolve(name)
    except CallerError as error:
        error.details["param"] = param
        raise
    allowed = services.view(key).allowed
    if allowed is not None and card.id not in allowed:
        raise Forbidden(
            f"{param} = {name!r}: this key may not use {card.id}: ask an administrator",
            code="model_not_allowed",
            param=param,
        )
    return card


def account_of(
    services: Services,
    caller: Caller,
    id: RequestId,
    request: ChatRequest,
    questions: Sequence[Question],
    mode: Mode,
    recalled: Recall,
) -> Ledger:
    """The ledger of a whole panel; its runs are branches of it."""
    asked = replace(request, model=", ".join(question.model for question in questions))
    plan = Plan(tuple(PlannedAttempt(question.plan.attempts[0].target, "requested") for question in questions))
    account = services.ledger(caller.principal, id, asked, plan, "native", mode=mode)
    account.told(recalled)
    return account


def _identity(id: str) -> Headers:
    return [(b"x-request-id", id.encode())]


def fields_of(body: bytes) -> dict[str, msgspec.Raw]:
    """The body's top-level fields as they came."""
    return _fields.decode(body)


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
