"""The seams: what the engine needs of the outside, as protocols with two or more implementations."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from llmwise.domain.errors import GatewayError
from llmwise.domain.events import AttemptEvent, Warned
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.domain.requests import ChatRequest


class Clock(Protocol):
    """Passed in, so that a test moves time by hand."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        ...

    def unix_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...


class Exchange(Protocol):
    """One call to a provider that has answered with a success status.

    `receive` waits for more of the answer and returns its events, one batch a network read; an empty batch is the end
    of the body. A batch may hold no content. It raises `UpstreamError` (cut, invalid, an error event inside a 200).
    Cancelling `receive`, or `aclose` before the end, closes the upstream connection at once.
    """

    async def receive(self) -> Sequence[AttemptEvent]: ...

    async def aclose(self) -> None: ...


class Provider(Protocol):
    """A connection to one provider. `name` is its name in the configuration, `family` its wire format."""

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> Family: ...

    async def send(self, request: ChatRequest, target: ModelCard) -> Exchange:
        """Put `request` to `target`, streaming if the request streams; return once the answer's headers are here.

        Raises `GatewayError`: the provider's refusal by table, `UpstreamUnreachable`, `UpstreamTimeout("connect")`,
        or `UnsupportedInput` before anything was sent, when the target can't take the request.
        """
        ...

    async def aclose(self) -> None: ...


class Outgoing(Struct, frozen=True, gc=False):
    """What a codec makes of a request: the path below the provider's base URL, extra headers, the body, and what it had
    to drop or change."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    warnings: tuple[Warned, ...] = ()


class StreamDecoder(Protocol):
    """A pure state machine for one streamed answer. Events do not depend on how the bytes were cut.

    `feed` takes bytes as they came; `finish` is called once at the end of the body and raises `UpstreamCut` when the
    terminal frame is missing. A failure found behind good events of the same read is kept in `failure`: the events
    are delivered first."""

    @property
    def failure(self) -> GatewayError | None: ...

    def feed(self, data: bytes) -> list[AttemptEvent]: ...

    def finish(self) -> list[AttemptEvent]: ...


class Codec(Protocol):
    """One family's wire format, both ways; pure."""

    @property
    def family(self) -> Family: ...

    def encode(self, request: ChatRequest, target: ModelCard) -> Outgoing: ...

    def decode(self, body: bytes) -> list[AttemptEvent]:
        """A whole answer as the events that a stream of it would have been."""
        ...

    def decoder(self) -> StreamDecoder: ...


class Recorder(Protocol):
    """Where settled requests go. Never waits and never raises: the request is over, its caller has the answer."""

    def record(self, request: RequestRecord, attempts: Sequence[AttemptRecord]) -> None: ...
