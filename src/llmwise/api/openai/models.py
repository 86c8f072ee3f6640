"""GET /v1/models and /v1/models/{id}: the catalog as OpenAI lists it, or as Anthropic does.

The two dialects share these paths. A caller that sends `anthropic-version`, as Anthropic's clients always do, gets
Anthropic's shape. `created` is 0, the epoch: the catalog does not know when a model was made.

https://platform.openai.com/docs/api-reference/models and https://platform.claude.com/docs/en/api/models-list
(2026-11-22)
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from llmwise.api.frame import Call, parse_query
from llmwise.domain.errors import InvalidRequest
from llmwise.domain.models import ModelCard
from llmwise.domain.requests import AUTO

EPOCH = "1970-01-01T00:00:00Z"


class ModelRow(Struct):
    id: str
    object: str
    created: int
    owned_by: str


class ModelList(Struct):
    object: str
    data: list[ModelRow]


class AnthropicModelRow(Struct, tag_field="type", tag="model"):
    id: str
    display_name: str
    created_at: str
    max_input_tokens: int | None
    max_tokens: int | None


class AnthropicModelList(Struct):
    """A page: `after_id` of the next request is this one's `last_id`."""

    data: list[AnthropicModelRow]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Page(Struct, forbid_unknown_fields=True):
    """Anthropic's paging; OpenAI's list comes whole. `limit` is 20 when absent, as at Anthropic."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 20
    after_id: str | None = None
    before_id: str | None = None


async def list_models(call: Call) -> ModelList | AnthropicModelList:
    """`auto`, the catalog, the composed models and the chains. Anthropic has no embedding models, nor has its list."""
    planner = call.services.planner
    chains = [chain.card for chain in planner.chains.values()]
    cards = [*call.services.catalog.models, *planner.composed.values(), *chains]
    if not _is_anthropic(call):
        return ModelList("list", [_row(None), *map(_row, cards)])
    rows = [_anthropic_row(None), *(_anthropic_row(card) for card in cards if card.kind == "chat")]
    page = parse_query(Page, call.request)
    assert isinstance(page, Page)
    return _page(rows, page)


async def retrieve_model(call: Call) -> ModelRow | AnthropicModelRow:
    """The model of a name, an alias too; its `id` is the catalog's. Raises `UnknownModel`."""
    name = call.path["model"]
    composed = call.services.planner.composed.get(name)
    chain = call.services.planner.chain(name)
    made = composed or (chain and chain.card)
    card = None if name == AUTO else made or call.services.catalog.resolve(name, None)
    return _anthropic_row(card) if _is_anthropic(call) else _row(card)


def _is_anthropic(call: Call) -> bool:
    headers: Mapping[str, str] = call.request.headers
    return "anthropic-version" in headers


def _row(card: ModelCard | None) -> ModelRow:
    """`None` is `auto`."""
    if card is None:
        return ModelRow(AUTO, "model", 0, "llmwise")
    return ModelRow(card.id, "model", 0, card.vendor or card.provider)


def _anthropic_row(card: ModelCard | None) -> AnthropicModelRow:
    if card is None:
        return AnthropicModelRow(AUTO, "Auto", EPOCH, None, None)
    return AnthropicModelRow(card.id, card.name or card.id, EPOCH, card.context_window, card.max_output)


def _page(rows: Sequence[AnthropicModelRow], page: Page) -> AnthropicModelList:
    ids = [row.id for row in rows]
    if page.before_id is not None:
        end = _position(ids, page.before_id, "before_id")
        start = max(0, end - page.limit)
        more = start > 0
    else:
        start = 0 if page.after_id is None else _position(ids, page.after_id, "after_id") + 1
        end = start + page.limit
        more = end < len(ids)
    shown = list(rows[start:end])
    return AnthropicModelList(shown, more, shown[0].id if shown else None, shown[-1].id if shown else None)


def _position(ids: Sequence[str], wanted: str, param: str) -> int:
    if wanted not in ids:
        raise InvalidRequest(f"{param} = {wanted[:100]!r}: no model of the list", param=param)
    return ids.index(wanted)
