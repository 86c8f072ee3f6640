"""`models/{model}:batchEmbedContents`, both ways. Pure.

https://ai.google.dev/api/embeddings (2026-11-22). `embedContent`, which Vertex AI has in place of it, takes one text a
call and isn't used; its answer is read all the same.
"""

from urllib.parse import quote

from msgspec import UNSET, DecodeError, Struct, UnsetType
from msgspec.json import Decoder, Encoder

from llmwise.domain.errors import UpstreamInvalid
from llmwise.domain.events import AttemptEvent
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import EmbeddingRequest
from llmwise.providers.losses import Losses
from llmwise.providers.vectors import embedded
from llmwise.wire.gemini import Content, Part, UsageMetadata

_OWN = frozenset({"model", "input", "encoding_format", "dimensions", "user", "routing", "strict"})


class _EmbedContent(Struct, frozen=True, rename="camel"):
    model: str
    content: Content
    output_dimensionality: int | UnsetType = UNSET


class _Batch(Struct, frozen=True):
    requests: list[_EmbedContent]


class _Values(Struct, frozen=True):
    values: list[float]


class _Answer(Struct, frozen=True, rename="camel"):
    embeddings: list[_Values] | None = None
    embedding: _Values | None = None
    usage_metadata: UsageMetadata | None = None


_encode = Encoder().encode
_decode = Decoder(_Answer).decode


def encode(request: EmbeddingRequest, target: ModelCard) -> Outgoing:
    """Raises `UnsupportedInput` for an input of tokens, and for a strict request that would lose something."""
    losses = Losses(target.id, request.strict)
    if request.passthrough is not None:
        for name, value in request.passthrough.fields.items():
            if name not in _OWN and value != b"null":
                losses.drop(name, "the API has no such field")
    if request.user is not None:
        losses.note("user", "the API takes no user's id")
    upstream = target.upstream.removeprefix("models/")
    wanted: int | UnsetType = UNSET if request.dimensions is None else request.dimensions
    batch = []
    for given in request.inputs:
        if not isinstance(given, str):
            raise losses.refuse("input", "it takes texts, and no other model's tokens")
        batch.append(_EmbedContent(f"models/{upstream}", Content([Part(text=given)]), wanted))
    path = f"/models/{quote(upstream, safe='-._~@')}:batchEmbedContents"
    return Outgoing(path, _encode(_Batch(batch)), warnings=losses.warnings)


def decode(body: bytes, request: EmbeddingRequest) -> list[AttemptEvent]:
    """The answer names no model, and only models since 2026 count the tokens."""
    try:
        answer = _decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamInvalid(f"not an answer with embeddings: {error}") from error
    rows = answer.embeddings or ([answer.embedding] if answer.embedding is not None else [])
    usage = answer.usage_metadata
    return embedded(request, None, (row.values for row in rows), usage.prompt_token_count if usage else None)
