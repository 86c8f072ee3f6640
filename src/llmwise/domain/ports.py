"""The seams: what the engine needs of the outside, as protocols with two or more implementations."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from msgspec import Struct

from llmwise.domain.errors import GatewayError
from llmwise.domain.events import AttemptEvent, Warned
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.records import Admission, AttemptRecord, LedgerEntry, RequestRecord
from llmwise.domain.requests import ChatRequest, EmbeddingRequest


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


@runtime_checkable
class Keyed(Protocol):
    """A provider that can be asked with another key than the operator's."""

    @property
    def origin(self) -> str:
        """Where keys go: scheme, host and port."""
        ...

    def keyed(self, secret: str) -> Provider:
        """The same connection (it owns nothing: don't close it), showing this key."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A provider that also turns texts into vectors."""

    async def embed(self, request: EmbeddingRequest, target: ModelCard) -> Exchange:
        """As `Provider.send`. The answer has one `Embedded`, of as many vectors as the request has inputs."""
        ...


@runtime_checkable
class TokenCounter(Protocol):
    """What a provider has besides where it counts a request's tokens itself."""

    async def count_tokens(self, request: ChatRequest, target: ModelCard) -> int:
        """Raises `GatewayError` as `Provider.send` does, and `UnsupportedInput` where the format has no counting."""
        ...


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

    def decode(self, body: bytes, *, verbatim: bool = False) -> list[AttemptEvent]:
        """A whole answer as the events that a stream of it would have been. `verbatim`: as one `Verbatim`, if it is
        what the format's documentation promises, so that it can be passed on as it is."""
        ...

    def decoder(self, *, verbatim: bool = False) -> StreamDecoder:
        """`verbatim`: frames that can be passed on as they are come as `Verbatim`."""
        ...


@runtime_checkable
class EmbeddingCodec(Protocol):
    """What a family's codec has besides where the family makes vectors; pure."""

    def encode_embedding(self, request: EmbeddingRequest, target: ModelCard) -> Outgoing: ...

    def decode_embedding(self, body: bytes, request: EmbeddingRequest) -> list[AttemptEvent]:
        """Raises `UpstreamInvalid`, also when there is not one vector for each input."""
        ...


@runtime_checkable
class CountingCodec(Protocol):
    """What a family's codec has besides where the family counts tokens on request; pure."""

    def encode_count(self, request: ChatRequest, target: ModelCard) -> Outgoing: ...

    def decode_count(self, body: bytes) -> int:
        """Raises `UpstreamInvalid`."""
        ...


class Reservation(Protocol):
    """Credit set aside for one request before it runs: who pays, and how much at most (nano-USD)."""

    @property
    def account_id(self) -> str: ...

    @property
    def reserved_nanousd(self) -> int: ...

    def settle(self, request: RequestRecord, attempts: Sequence[AttemptRecord]) -> Sequence[LedgerEntry]:
        """End the reservation: release what was set aside and say what is booked. Called exactly once, at every end;
        never waits, never raises."""
        ...


class Recorder(Protocol):
    """Where requests go that were let in, and that are settled. Never waits and never raises: a settled request is
    over, its caller has the answer."""

    def admit(self, admission: Admission) -> None:
        """A request begins. What was admitted and never recorded was interrupted."""
        ...

    def record(
        self, request: RequestRecord, attempts: Sequence[AttemptRecord], entries: Sequence[LedgerEntry] = ()
    ) -> None:
        """A request has ended. All three are stored together or not at all."""
        ...
