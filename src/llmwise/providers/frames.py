"""From a streamed body to events: what every family's stream has in common.

The law: the events, and the error that ends them, do not depend on how the bytes were cut. So an error found behind
good frames of the same read waits for the next call: what came before it is delivered first.
Bytes that are not UTF-8 are found late, by msgspec in the field that holds them: an invalid answer like any other.
"""

from typing import Protocol

from llmwise.domain.errors import GatewayError, UpstreamInvalid
from llmwise.domain.events import AttemptEvent, Verbatim
from llmwise.wire.sse import Frame, FrameTooLarge, SSEDecoder, encode


class Answer(Protocol):
    """One answer being read, frame by frame."""

    def frame(self, data: bytes, events: list[AttemptEvent]) -> bool:
        """Append what a frame says to `events`. Raises the error that it reports, or `UpstreamInvalid`. Returns whether
        a caller of the same format may have it as it came: not what ends the answer, and nothing that we mend."""
        ...

    def end(self, events: list[AttemptEvent]) -> None:
        """The body is over. Raises `UpstreamCut` if the answer is not."""
        ...


class FrameStream:
    """A `StreamDecoder` over server-sent events. Once it has raised, it raises the same again."""

    def __init__(self, answer: Answer, *, verbatim: bool = False) -> None:
        self._sse = SSEDecoder()
        self._answer = answer
        self._read = self._verbatim if verbatim else self._spelled_out
        self.failure: GatewayError | None = None

    def feed(self, data: bytes) -> list[AttemptEvent]:
        if self.failure is not None:
            raise self.failure
        events: list[AttemptEvent] = []
        try:
            self._read(self._sse.feed(data), events)
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
            self._read(self._sse.finish(), events)
            self._answer.end(events)
        except (GatewayError, UnicodeDecodeError) as error:
            self.failure = _ours(error)
        if self.failure is not None:
            raise self.failure
        return events

    def _spelled_out(self, frames: list[Frame], events: list[AttemptEvent]) -> None:
        for frame in frames:
            self._answer.frame(frame.data, events)

    def _verbatim(self, frames: list[Frame], events: list[AttemptEvent]) -> None:
        """Frames in a row that may be passed on become one event."""
        passed: list[bytes] = []
        said: list[AttemptEvent] = []
        fresh: list[AttemptEvent] = []
        try:
            for frame in frames:
                fresh = []
                if self._answer.frame(frame.data, fresh):
                    passed.append(encode(frame))
                    said += fresh
                    fresh = []
                    continue
                if passed:
                    events.append(Verbatim(b"".join(passed), tuple(said)))
                    passed, said = [], []
                events += fresh
                fresh = []
        finally:
            if passed:
                events.append(Verbatim(b"".join(passed), tuple(said)))
            events += fresh  # of a frame that failed half way


def _ours(error: GatewayError | FrameTooLarge | UnicodeDecodeError) -> GatewayError:
    """`error` as one of our own: what is not one yet says that the answer can't be read."""
    if isinstance(error, GatewayError):
        return error
    invalid = UpstreamInvalid(f"the answer can't be read: {error}")
    invalid.__cause__ = error
    return invalid
