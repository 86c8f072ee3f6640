"""One connection that speaks two of OpenAI's formats: which one, the model's profile says.

Most of OpenAI's models answer in both; some only in the Responses API. A caller names a model and need not know.
"""

from typing import Final

from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Exchange
from llmwise.domain.requests import ChatRequest, EmbeddingRequest
from llmwise.providers.http import HttpProvider
from llmwise.providers.profiles import profile_for


class ByModel:
    """A `Provider` and an `Embedder` made of two. Owns both: `aclose` closes them. Its family is Chat Completions',
    in which most of its models are asked."""

    family: Family = "openai"

    def __init__(self, vendor: str, chat: HttpProvider, responses: HttpProvider) -> None:
        """`vendor` is whose profiles say which models have one format only."""
        self._vendor: Final = vendor
        self._chat = chat
        self._responses = responses

    @property
    def name(self) -> str:
        return self._chat.name

    @property
    def origin(self) -> str:
        return self._chat.origin

    def keyed(self, secret: str) -> "ByModel":
        return ByModel(self._vendor, self._chat.keyed(secret), self._responses.keyed(secret))

    async def send(self, request: ChatRequest, target: ModelCard) -> Exchange:
        only = profile_for(self._vendor, target.upstream).responses_only
        return await (self._responses if only else self._chat).send(request, target)

    async def embed(self, request: EmbeddingRequest, target: ModelCard) -> Exchange:
        return await self._chat.embed(request, target)

    async def aclose(self) -> None:
        await self._chat.aclose()
        await self._responses.aclose()
