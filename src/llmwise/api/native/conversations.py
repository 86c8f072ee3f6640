"""Conversations of the caller's account: /conversations. A turn comes into one by `conversation_id` in a request that
calls a model; the gateway keeps it and doesn't send it again: what a model sees is in `messages`."""

import logging
import secrets
from typing import Annotated

from msgspec import Meta, Struct

from llmwise.api.frame import Call
from llmwise.api.http import Caller
from llmwise.api.services import Services
from llmwise.domain.errors import NotFound
from llmwise.storage import conversations as storage
from llmwise.storage.conversations import Conversation
from llmwise.storage.errors import StorageUnavailable

log = logging.getLogger(__name__)

Title = Annotated[str, Meta(max_length=200)]


class PageQuery(Struct, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=200)] = 20
    offset: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class TitleQuery(Struct, forbid_unknown_fields=True):
    title: Title | None = None


class CreateBody(Struct, forbid_unknown_fields=True):
    title: Title | None = None


class ConversationInfo(Struct):
    """`turns` are requests. Times are Unix ms; `updated_at_ms` is the last turn's."""

    id: str
    title: str | None
    created_at_ms: int
    updated_at_ms: int
    turns: int


class ConversationList(Struct):
    total: int
    items: list[ConversationInfo]
    limit: int
    offset: int


class TurnMessage(Struct):
    """`content` is `null` where no text was kept."""

    role: str
    content: str | None
    request_id: str
    created_at_ms: int
    model: str | None


class ConversationDetail(ConversationInfo):
    """A conversation with the question and the answer of each turn, the newest 500, in the order of time."""

    messages: list[TurnMessage]


class Deleted(Struct):
    """`redacted` is of how many turns the texts were deleted."""

    id: str
    deleted: bool
    redacted: int


async def conversations(call: Call) -> ConversationList:
    """GET /api/v1/conversations, the newest first."""
    query: PageQuery = call.query
    await call.services.writer.flush()
    total, found = await call.services.store.read(storage.page, _account(call), limit=query.limit, offset=query.offset)
    return ConversationList(total, [ConversationInfo(*_fields(one)) for one in found], query.limit, query.offset)


async def create(call: Call) -> ConversationInfo:
    """POST /api/v1/conversations. With zero retention it has no title: one may quote a question."""
    assert call.key is not None
    services, now_ms = call.services, call.services.clock.unix_ms()
    id = f"conv_{now_ms:012x}{secrets.token_hex(10)}"
    title = _kept(call, None if call.body is None else call.body.title)
    made = await services.store.write(storage.create, id, call.key.account_id, call.key.id, title, now_ms)
    return ConversationInfo(*_fields(made))


async def conversation(call: Call) -> ConversationDetail:
    """GET /api/v1/conversations/{id}."""
    await call.services.writer.flush()
    found = await call.services.store.read(storage.one, _account(call), call.path["id"])
    if found is None:
        raise unknown(call.path["id"])
    messages = []
    for turn in found[1]:
        messages.append(TurnMessage("user", turn.prompt, turn.id, turn.created_at_ms, None))
        answered_ms = turn.created_at_ms + turn.latency_ms
        messages.append(TurnMessage("assistant", turn.answer, turn.id, answered_ms, turn.model))
    return ConversationDetail(*_fields(found[0]), messages)


async def rename(call: Call) -> ConversationDetail:
    """PATCH /api/v1/conversations/{id}?title=...: without a title nothing changes."""
    title, which = call.query.title, (_account(call), call.path["id"])
    if title is not None and not await call.services.store.write(storage.rename, *which, _kept(call, title)):
        raise unknown(call.path["id"])
    return await conversation(call)


async def delete(call: Call) -> Deleted:
    """DELETE /api/v1/conversations/{id}: its texts go, the account of its turns stays."""
    await call.services.writer.flush()
    redacted = await call.services.store.write(storage.remove, _account(call), call.path["id"])
    if redacted is None:
        raise unknown(call.path["id"])
    return Deleted(call.path["id"], True, redacted)


async def check_known(services: Services, caller: Caller, id: str | None) -> None:
    """Raises `NotFound` for a conversation that the caller's account doesn't have. With the database away the turn is
    taken: its record waits in the spool."""
    if id is None:
        return
    try:
        known = await services.store.read(storage.exists, caller.key.account_id, id)
    except StorageUnavailable as error:
        log.warning("a conversation can't be looked up, its turn is taken: %s", error.problem)
        return
    if not known:
        raise unknown(id)


def unknown(id: str) -> NotFound:
    text = f"no conversation {id[:64]!r} of this account; POST /api/v1/conversations makes one"
    return NotFound(text, code="conversation_not_found")


def _kept(call: Call, title: str | None) -> str | None:
    """What of a title may be stored."""
    if not title or call.caller is None or call.caller.principal.zero_retention:
        return None
    return call.services.kept.redacted(title)


def _account(call: Call) -> str:
    assert call.key is not None
    return call.key.account_id


def _fields(found: Conversation) -> tuple[str, str | None, int, int, int]:
    return found.id, found.title, found.created_at_ms, found.updated_at_ms, found.turns
