"""Gemini's generateContent, both ways: the `gemini` family."""

from llmwise.domain.events import AttemptEvent
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Codec, Outgoing, StreamDecoder
from llmwise.domain.requests import ChatRequest, EmbeddingRequest
from llmwise.providers.gemini import embeddings as _embeddings
from llmwise.providers.gemini import request as _request
from llmwise.providers.gemini import stream as _stream


class GeminiCodec:
    """The family as the HTTP adapter sees it. Holds nothing."""

    family: Family = "gemini"

    def encode(self, request: ChatRequest, target: ModelCard) -> Outgoing:
        return _request.encode(request, target)

    def decode(self, body: bytes, *, verbatim: bool = False) -> list[AttemptEvent]:
        return _stream.decode(body)

    def decoder(self, *, verbatim: bool = False) -> StreamDecoder:
        return _stream.decoder()

    def encode_embedding(self, request: EmbeddingRequest, target: ModelCard) -> Outgoing:
        return _embeddings.encode(request, target)

    def decode_embedding(self, body: bytes, request: EmbeddingRequest) -> list[AttemptEvent]:
        return _embeddings.decode(body, request)


CODEC: Codec = GeminiCodec()
