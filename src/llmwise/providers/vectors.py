"""What a body of vectors has to be, whichever family's it is."""

from collections.abc import Iterable

from llmwise.domain.errors import UpstreamInvalid
from llmwise.domain.events import AttemptEvent, Embedded, Finished, Started, UsageReport, Vector
from llmwise.domain.requests import EmbeddingRequest
from llmwise.domain.usage import TokenUsage


def embedded(
    request: EmbeddingRequest, model: str | None, vectors: Iterable[Vector], prompt_tokens: int | None
) -> list[AttemptEvent]:
    """The events of an answer. Raises `UpstreamInvalid` when there isn't one vector for each input: which belongs to
    which would be a guess."""
    found = tuple(vectors)
    if len(found) != len(request.inputs) or not all(found):
        raise UpstreamInvalid(f"{sum(map(bool, found))} vectors came for {len(request.inputs)} texts")
    events: list[AttemptEvent] = [Started(model=model), Embedded(found)]
    if prompt_tokens is not None:
        events.append(UsageReport(TokenUsage.reported(prompt_tokens)))
    return [*events, Finished("stop")]
