"""What a request needs of a model, and whether a model has it."""

from msgspec import Struct

from llmwise.catalog.cost import estimate_tokens
from llmwise.domain.messages import Document, Image, Reasoning, Text, ToolCall, ToolResult
from llmwise.domain.models import ModelCard
from llmwise.domain.plan import Dropped
from llmwise.domain.requests import ChatRequest

TYPICAL_OUTPUT_TOKENS = 400
"""Assumed length of an answer whose `max_tokens` is not said, for comparing prices only. The answers of real models
to the development prompts are a few hundred tokens; the order of models hardly depends on it."""

TOKENS_PER_IMAGE = 1000
CONTEXT_MARGIN = 1.15
"""Token counts are estimates: a candidate is ruled out by context only if it is short by more than the error."""


class Needs(Struct, frozen=True):
    """What the target must be able to take. Token counts are estimates; `output_tokens` is the caller's `max_tokens`,
    or a typical answer's."""

    prompt_tokens: int
    output_tokens: int
    vision: bool = False
    documents: bool = False
    tools: bool = False
    json_schema: bool = False
    json_object: bool = False


def needs_of(request: ChatRequest) -> Needs:
    """Read the request once."""
    tokens, vision, documents = 0, False, False
    for message in request.messages:
        for part in message.parts:
            kind = type(part)
            if kind is Text:
                tokens += estimate_tokens(part.text)  # type: ignore[union-attr]  # told apart by `kind`
            elif kind is Image:
                vision, tokens = True, tokens + TOKENS_PER_IMAGE
            elif kind is Document:
                documents = True
            elif isinstance(part, ToolResult):
                tokens += sum(estimate_tokens(p.text) for p in part.content if isinstance(p, Text))
            elif isinstance(part, ToolCall):
                tokens += estimate_tokens(part.arguments)
            elif isinstance(part, Reasoning):
                tokens += estimate_tokens(part.text)
    wanted = request.response_format.kind if request.response_format else "text"
    return Needs(
        prompt_tokens=tokens,
        output_tokens=request.sampling.max_tokens or TYPICAL_OUTPUT_TOKENS,
        vision=vision,
        documents=documents,
        tools=bool(request.tools),
        json_schema=wanted == "json_schema",
        json_object=wanted == "json_object",
    )


def lacks(card: ModelCard, needs: Needs, *, context: bool = True) -> Dropped | None:
    """Why `card` can't serve a request with these needs, or `None`."""
    can = card.capabilities
    for needed, able, reason, what in (
        (needs.vision, can.vision, "no_vision", "images"),
        (needs.documents, can.documents, "no_documents", "documents"),
        (needs.tools, can.tools, "no_tools", "tools"),
        (needs.json_schema, can.json_schema, "no_json_schema", "a JSON Schema for the answer"),
        (needs.json_object, can.json_object or can.json_schema, "no_json_object", "JSON mode"),
    ):
        if needed and not able:
            return Dropped(card.id, reason, f"{card.id} does not take {what}")
    if context and needs.prompt_tokens > card.context_window * CONTEXT_MARGIN:
        return Dropped(
            card.id,
            "context_window",
            f"about {needs.prompt_tokens} tokens of prompt against a window of {card.context_window}",
        )
    return None
