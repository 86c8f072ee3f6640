"""The OpenAI format (Chat Completions), spoken by OpenAI and by some twenty vendors with their own accents."""

from llmwise.domain.events import AttemptEvent
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Outgoing, StreamDecoder
from llmwise.domain.requests import ChatRequest, EmbeddingRequest
from llmwise.providers.openai import embeddings as _embeddings
from llmwise.providers.openai import request as _request
from llmwise.providers.openai import stream as _stream


class OpenAICodec:
    """The `Codec` of one vendor; `vendor` is its name in the registry, any other name gets the plain profile."""

    family: Family = "openai"

    def __init__(self, vendor: str = "openai") -> None:
        self._vendor = vendor

    def encode(self, request: ChatRequest, target: ModelCard) -> Outgoing:
        return _request.encode(request, target, self._vendor)

    def decode(self, body: bytes, *, verbatim: bool = False) -> list[AttemptEvent]:
        return _stream.decode(body, verbatim=verbatim and self._is_named)

    def decoder(self, *, verbatim: bool = False) -> StreamDecoder:
        return _stream.decoder(verbatim=verbatim and self._is_named)

    def encode_embedding(self, request: EmbeddingRequest, target: ModelCard) -> Outgoing:
        return _embeddings.encode(request, target, self._vendor)

    def decode_embedding(self, body: bytes, request: EmbeddingRequest) -> list[AttemptEvent]:
        return _embeddings.decode(body, request)

    @property
    def _is_named(self) -> bool:
        """Whether answers say which model gave them: the local server's say anything."""
        return self._vendor != "local"
