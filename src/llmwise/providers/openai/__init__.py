"""The OpenAI format (Chat Completions), spoken by OpenAI and by some twenty vendors with their own accents."""

from llmwise.domain.events import AttemptEvent
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Outgoing, StreamDecoder
from llmwise.domain.requests import ChatRequest
from llmwise.providers.openai import request as _request
from llmwise.providers.openai import stream as _stream


class OpenAICodec:
    """The `Codec` of one vendor; `vendor` is its name in the registry, any other name gets the plain profile."""

    family: Family = "openai"

    def __init__(self, vendor: str = "openai") -> None:
        self._vendor = vendor

    def encode(self, request: ChatRequest, target: ModelCard) -> Outgoing:
        return _request.encode(request, target, self._vendor)

    def decode(self, body: bytes) -> list[AttemptEvent]:
        return _stream.decode(body)

    def decoder(self) -> StreamDecoder:
        return _stream.decoder()
