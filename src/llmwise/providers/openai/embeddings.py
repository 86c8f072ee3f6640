"""POST /embeddings in OpenAI's format, both ways. Pure.

https://platform.openai.com/docs/api-reference/embeddings (2026-11-22)
"""

from typing import Any, Final

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder

from llmwise.domain.errors import UpstreamInvalid
from llmwise.domain.events import AttemptEvent, Vector
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Outgoing
from llmwise.domain.requests import EmbeddingRequest
from llmwise.providers.losses import Losses
from llmwise.providers.vectors import embedded
from llmwise.wire.openai import ENCODER, Usage

PATH: Final = "/embeddings"

_OWN: Final = frozenset({"model", "input", "encoding_format", "dimensions", "user", "routing", "strict"})


class _Row(Struct, frozen=True):
    embedding: Vector
    index: int | None = None


class _Answer(Struct, frozen=True):
    data: list[_Row]
    model: str | None = None
    usage: Usage | None = None


_decode = Decoder(_Answer).decode


def encode(request: EmbeddingRequest, target: ModelCard, vendor: str) -> Outgoing:
    """Fields that the gateway has no notion of go along as the caller wrote them. Raises `UnsupportedInput` for a
    strict request that would lose something."""
    losses = Losses(target.id, request.strict)
    own = request.passthrough
    body: dict[str, Any] = {}
    if own is not None and own.dialect == "openai":
        body = {name: Raw(value) for name, value in own.fields.items() if name not in _OWN and value != b"null"}
    body["model"] = target.upstream
    body["input"] = request.inputs
    if request.dimensions is not None:
        # https://docs.mistral.ai/capabilities/embeddings (2026-11-22)
        body["output_dimension" if vendor == "mistral" else "dimensions"] = request.dimensions
    if request.packed and vendor == "openai":  # others take no notice, or call it an error
        body["encoding_format"] = "base64"
    if request.user is not None:
        if vendor == "mistral":
            losses.note("user", "the API takes no user's id")
        else:
            body["user"] = request.user
    return Outgoing(PATH, ENCODER.encode(body), warnings=losses.warnings)


def decode(body: bytes, request: EmbeddingRequest) -> list[AttemptEvent]:
    """Vectors in the order of the inputs, which the rows' `index` says where they have one."""
    try:
        answer = _decode(body)
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamInvalid(f"not an answer with embeddings: {error}") from error
    rows = answer.data
    if all(row.index is not None for row in rows):
        rows = sorted(rows, key=lambda row: row.index or 0)
        if [row.index for row in rows] != list(range(len(rows))):
            raise UpstreamInvalid("the embeddings' indices are not 0, 1, 2, ...")
    usage = answer.usage
    return embedded(request, answer.model, (row.embedding for row in rows), usage.prompt_tokens if usage else None)
