"""Semantic memory: /memory, and its part in a chat that asks for it (`semantic_memory: true`).

Vectors are made by the configured embedding model through the engine, so that they are recorded and charged like any
other embedding. A chat never fails for its memory: what goes wrong is a warning.
"""

import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from llmwise.api.admission import reserve
from llmwise.api.frame import Call
from llmwise.api.http import Caller
from llmwise.api.services import Services
from llmwise.domain.errors import GatewayError, NotFound, NotImplementedHere
from llmwise.domain.events import Embedded, Warned
from llmwise.domain.requests import ChatRequest, EmbeddingRequest
from llmwise.orchestration.handling import NOTHING_RECALLED, Recall
from llmwise.orchestration.remembering import MAX_QUERY_CHARS, query_of, remembered_text, with_memories
from llmwise.orchestration.settlement import Ledger
from llmwise.storage import memory as storage
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.memory import Hit, Memory

log = logging.getLogger(__name__)

TOP_K = 4

NOT_SET_UP = "this gateway has no memory: its administrator names an embedding model in [memory] model"


class ListQuery(Struct, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 20


class SearchQuery(Struct, forbid_unknown_fields=True):
    """`min_score` is a cosine; absent: `[memory] min_score`."""

    q: Annotated[str, Meta(min_length=1, max_length=MAX_QUERY_CHARS)]
    top_k: Annotated[int, Meta(ge=1, le=12)] = TOP_K
    min_score: Annotated[float, Meta(ge=0, le=1)] | None = None


class MemoryItem(Struct):
    """A remembered turn. `score` is the cosine to what was looked for."""

    id: str
    created_at_ms: int
    request_id: str
    conversation_id: str | None
    prompt: str
    answer: str
    score: float | None = None


class MemoryList(Struct):
    """`available` says whether the gateway has a memory at all; `zero_retention` that this account keeps none."""

    total: int
    items: list[MemoryItem]
    available: bool
    zero_retention: bool


class MemoryHits(Struct):
    results: list[MemoryItem]
    total: int
    available: bool
    zero_retention: bool


class Forgotten(Struct):
    deleted: int


async def memories(call: Call) -> MemoryList:
    """GET /api/v1/memory, the newest first."""
    services, caller = call.services, _caller(call)
    available, silent = services.memory.model is not None, caller.principal.zero_retention
    if silent:
        return MemoryList(0, [], available, True)
    total, found = await services.store.read(storage.page, caller.key.account_id, limit=call.query.limit)
    return MemoryList(total, [_item(one) for one in found], available, False)


async def search(call: Call) -> MemoryHits:
    """GET /api/v1/memory/search."""
    services, caller, query = call.services, _caller(call), call.query
    available, silent = services.memory.model is not None, caller.principal.zero_retention
    if silent or not available:
        return MemoryHits([], 0, available, silent)
    hits = await _find(services, caller, query.q, query.top_k, query.min_score)
    return MemoryHits([_item(hit.memory, hit.score) for hit in hits], len(hits), True, False)


async def forget(call: Call) -> Forgotten:
    """DELETE /api/v1/memory/{id}."""
    id = call.path["id"]
    if not await call.services.store.write(storage.remove, _caller(call).key.account_id, id):
        raise NotFound(f"no memory {id[:64]!r} of this account; /memory lists those there are")
    return Forgotten(1)


async def clear(call: Call) -> Forgotten:
    """DELETE /api/v1/memory: all of the account's."""
    return Forgotten(await call.services.store.write(storage.remove, _caller(call).key.account_id))


async def recall(
    services: Services,
    caller: Caller,
    request: ChatRequest,
    *,
    wanted: bool | None,
    top_k: int | None = None,
    min_score: float | None = None,
) -> tuple[ChatRequest, Recall]:
    """The request with what is remembered, if it asks for it."""
    if not wanted:
        return request, NOTHING_RECALLED
    if services.memory.model is None:
        return request, Recall(warnings=(_warned("memory_not_set_up", NOT_SET_UP),))
    if caller.principal.zero_retention:
        text = "this account keeps nothing (zero retention), and so remembers nothing"
        return request, Recall(warnings=(_warned("zero_retention", text),))
    keeps = services.kept.keep_text
    query = query_of(request)
    if not query:
        return request, Recall(remember=keeps)
    try:
        hits = await _find(services, caller, query, top_k or TOP_K, min_score)
    except (GatewayError, StorageUnavailable) as error:
        said = error.message if isinstance(error, GatewayError) else "the database is away"
        return request, Recall(remember=keeps, warnings=(_warned("memory_unavailable", f"nothing recalled: {said}"),))
    turns = [(hit.memory.prompt, hit.memory.answer) for hit in hits]
    return with_memories(request, turns), Recall(len(hits), keeps)


async def remember(services: Services, caller: Caller, ledger: Ledger) -> None:
    """Bring the turn of a request that has ended into the memory. Its caller has the answer already."""
    record = ledger.record
    if not ledger.recalled.remember or record is None or record.status != 200:
        return
    if not record.prompt or not record.answer:
        return
    model = services.memory.model
    assert model is not None
    try:
        vector = await _vector(services, caller, remembered_text(record.prompt, record.answer))
        made = Memory(
            f"mem_{record.id.removeprefix('req_')}",
            caller.key.account_id,
            record.created_at_ms,
            record.id,
            record.conversation_id,
            record.prompt,
            record.answer,
            services.catalog.resolve(model, "embedding").id,
            storage.pack(vector),
        )
        await services.store.write(storage.add, made)
    except GatewayError as error:
        log.warning("the turn of %s is not remembered: %s", record.id, error.code)
    except StorageUnavailable as error:
        log.warning("the turn of %s is not remembered: %s", record.id, error.problem)


async def _find(services: Services, caller: Caller, query: str, top_k: int, min_score: float | None) -> tuple[Hit, ...]:
    model = services.memory.model
    assert model is not None
    vector = storage.unpack(storage.pack(await _vector(services, caller, query)))
    return await services.store.read(
        storage.search,
        caller.key.account_id,
        services.catalog.resolve(model, "embedding").id,
        vector,
        top_k=top_k,
        min_score=services.memory.min_score if min_score is None else min_score,
    )


async def _vector(services: Services, caller: Caller, text: str) -> Sequence[float]:
    """Of one text, as a request of its own; the history keeps its account and not its text. Raises `GatewayError`."""
    if services.memory.model is None:
        raise NotImplementedHere(NOT_SET_UP, code="memory_not_set_up")
    request = EmbeddingRequest(services.memory.model, (text,))
    ledger = services.ledger(
        caller.principal,
        services.new_request_id(),
        request,
        services.planner.embedding(request, replace(services.view(caller.key), allowed=None)),
        "native",
        mode="embedding",
        handling=replace(services.handling(caller.principal), keep_text=False),
    )
    await reserve(services, replace(caller, notes=[]), ledger)
    found: Sequence[float] = ()
    async with aclosing(services.mesh.run(request, ledger)) as batches:
        async for batch in batches:
            for event in batch:
                if isinstance(event, Embedded) and not isinstance(event.vectors[0], str):
                    found = event.vectors[0]
    return found


def _warned(code: str, message: str) -> Warned:
    return Warned(code, "semantic_memory", message)


def _item(found: Memory, score: float | None = None) -> MemoryItem:
    return MemoryItem(
        found.id, found.created_at_ms, found.request_id, found.conversation_id, found.prompt, found.answer, score
    )


def _caller(call: Call) -> Caller:
    assert call.caller is not None
    return call.caller
