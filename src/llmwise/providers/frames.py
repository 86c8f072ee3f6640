"""From a streamed body to events: what every family's stream has in common.

The law: the events, and the error that ends them, do not depend on how the bytes were cut. So an error found behind
good frames of the same read waits for the next call: what came before it is delivered first.
Bytes that are not UTF-8 are found late, by msgspec in the field that holds them: an invalid answer like any other.
"""

from typing import Protocol

from llmwise.domain.errors import GatewayError, UpstreamInvalid
from llmwise.domain.events import AttemptEvent
from llmwise.wire.sse import FrameTooLarge, SSEDecoder


class Answer(Protocol):
    """One answer being read, frame by frame."""

    def frame(self, data: bytes, events: list[AttemptEvent]) -> None:
        """Append what a frame says to `events`. Raises the error that it reports, or `UpstreamInvalid`."""
        ...

    def end(self, events: list[AttemptEvent]) -> None:
        """The body is over. Raises `UpstreamCut` if the answer is not."""
        ...


class FrameStream:
    """A `StreamDecoder` over server-sent events. Once it has raised, it raises the same again."""

    def __init__(self, answer: Answer) -> None:
        self._sse = SSEDecoder()
        self._answer = answer
        self.failure: GatewayError | None = None

    def feed(self, data: bytes) -> list[AttemptEvent]:
        if self.failure is not None:
            raise self.failure
        events: list[AttemptEvent] = []
        try:
            for frame in self._sse.feed(data):
                self._answer.frame(frame.data, events)
        except (GatewayError, FrameTooLarge, UnicodeDecodeError) as error:
            self.failure = _ours(error)
        if self.failure is not None and not events:
            raise self.failure
        return events

    def finish(self) -> list[AttemptEvent]:
        if self.failure is not None:
            raise self.failure
        events: list[AttemptEvent] = []
        try:
            for frame in self._sse.finish():
                self._answer.frame(frame.data, events)
            self._answer.end(events)
        except (GatewayError, UnicodeDecodeError) as error:
            self.failure = _ours(error)
        if self.failure is not None:
            raise self.failure
        return events


def _ours(error: GatewayError | FrameTooLarge | UnicodeDecodeError) -> GatewayError:
    """`error` as one of our own: what is not one yet says that the answer can't be read."""
    if isinstance(error, GatewayError):
        return error
    invalid = UpstreamInvalid(f"the answer can't be read: {error}")
    invalid.__cause__ = error
    return invalid
