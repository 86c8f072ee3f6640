"""What handlers are handed: one frozen struct, built by `app`."""

from collections.abc import Callable, Mapping

from msgspec import Struct

from llmwise.api.auth import Authenticator
from llmwise.api.limits import RateLimiter
from llmwise.catalog.lookup import Catalog
from llmwise.domain.ids import RequestId
from llmwise.domain.ports import Clock, Provider, Recorder
from llmwise.orchestration.mesh import Mesh
from llmwise.routing.planner import Planner, View
from llmwise.state.memory import MemoryState
from llmwise.storage.store import Store
from llmwise.storage.writer import Writer
from llmwise.telemetry.metrics import Metrics


class Edge(Struct, frozen=True):
    """The bounds at the door. Bytes and seconds."""

    max_body_bytes: int
    body_read_s: float


class Services(Struct, frozen=True):
    """One configuration at work. A reload makes another; requests in flight keep theirs."""

    catalog: Catalog
    planner: Planner
    mesh: Mesh
    state: MemoryState
    store: Store
    writer: Writer
    recorder: Recorder
    authenticator: Authenticator
    limiter: RateLimiter
    clock: Clock
    metrics: Metrics
    providers: Mapping[str, Provider]
    new_request_id: Callable[[], RequestId]
    edge: Edge
    keep_text: bool = True
    heartbeat_s: float = 15.0

    def view(self) -> View:
        """The world as a request is planned in it now."""
        return View(self.state.health(), self.state.turn, self.clock.monotonic())
