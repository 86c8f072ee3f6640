"""OpenAI's Responses API, both ways: the `responses` family. OpenRouter and DeepSeek speak it in part."""

from llmwise.domain.events import AttemptEvent
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Codec, Outgoing, StreamDecoder
from llmwise.domain.requests import ChatRequest
from llmwise.providers.responses import stream as _stream
from llmwise.providers.responses.request import encode


class ResponsesCodec:
    """The family as the HTTP adapter sees it. Holds nothing."""

    family: Family = "responses"

    def encode(self, request: ChatRequest, target: ModelCard) -> Outgoing:
        return encode(request, target)

    def decode(self, body: bytes, *, verbatim: bool = False) -> list[AttemptEvent]:
        return _stream.decode(body, verbatim=verbatim)

    def decoder(self, *, verbatim: bool = False) -> StreamDecoder:
        return _stream.decoder(verbatim=verbatim)


CODEC: Codec = ResponsesCodec()
