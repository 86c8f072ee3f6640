"""Anthropic's Messages API, both ways: the `anthropic` family."""

from llmwise.domain.events import AttemptEvent
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Codec, Outgoing, StreamDecoder
from llmwise.domain.requests import ChatRequest
from llmwise.providers.anthropic import request as _request
from llmwise.providers.anthropic import stream as _stream


class AnthropicCodec:
    """The family as the HTTP adapter sees it. Holds nothing."""

    family: Family = "anthropic"

    def encode(self, request: ChatRequest, target: ModelCard) -> Outgoing:
        return _request.encode(request, target)

    def encode_count(self, request: ChatRequest, target: ModelCard) -> Outgoing:
        return _request.encode_count(request, target)

    def decode_count(self, body: bytes) -> int:
        return _request.decode_count(body)

    def decode(self, body: bytes, *, verbatim: bool = False) -> list[AttemptEvent]:
        return _stream.decode(body, verbatim=verbatim)

    def decoder(self, *, verbatim: bool = False) -> StreamDecoder:
        return _stream.decoder(verbatim=verbatim)


CODEC: Codec = AnthropicCodec()
