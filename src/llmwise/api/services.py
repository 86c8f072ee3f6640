"""What handlers are handed: one frozen struct, built by `app`."""

from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from llmwise.api.auth import Authenticator, Principal
from llmwise.api.limits import RateLimiter
from llmwise.catalog.lookup import Catalog
from llmwise.domain.access import access_of
from llmwise.domain.ids import RequestId
from llmwise.domain.messages import Family
from llmwise.domain.plan import Plan
from llmwise.domain.ports import Clock, Provider, Recorder
from llmwise.domain.records import Mode
from llmwise.domain.requests import Dialect, Request
from llmwise.insights.control import Steering
from llmwise.orchestration.continuity import Continuity
from llmwise.orchestration.copilot import CopilotSettings
from llmwise.orchestration.handling import PLAIN, Handling
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.prompts import BUILT_IN, Prompts
from llmwise.orchestration.remembering import MemorySettings
from llmwise.orchestration.settlement import Ledger
from llmwise.routing.planner import Planner, View
from llmwise.routing.rollout import steered
from llmwise.state.port import SharedState
from llmwise.storage.keeper import RetentionSettings
from llmwise.storage.rows import KeyRow
from llmwise.storage.sealing import Sealer
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
    continuity: Continuity
    state: SharedState
    store: Store
    writer: Writer
    recorder: Recorder
    steering: Steering
    authenticator: Authenticator
    limiter: RateLimiter
    clock: Clock
    metrics: Metrics
    providers: Mapping[str, Provider]
    new_request_id: Callable[[], RequestId]
    edge: Edge
    kept: Handling = PLAIN
    heartbeat_s: float = 15.0
    margin: float = 1.0
    prompts: Prompts = BUILT_IN
    sealer: Sealer | None = None
    memory: MemorySettings = MemorySettings()
    copilot: CopilotSettings = CopilotSettings()
    retention: RetentionSettings = RetentionSettings()

    def handling(self, principal: Principal) -> Handling:
        """What is kept of this caller's requests, and whose provider keys they go by."""
        if not principal.zero_retention and not principal.own_keys:
            return self.kept
        return replace(
            self.kept,
            keep_text=self.kept.keep_text and not principal.zero_retention,
            zero_retention=principal.zero_retention,
            own_keys=principal.own_keys,
        )

    def view(self, key: KeyRow) -> View:
        """The world as a request of this key is planned in it now."""
        models = access_of(key.settings).models
        composed = self.planner.composed
        allowed = None if models is None else {*self.catalog.ids_of(models), *(m for m in models if m in composed)}
        return View(self.state.health(), self.state.turn, self.clock.monotonic(), allowed)

    def steered(self, view: View, token: str) -> View:
        """`view` under the policies in force. `token` stands for the conversation."""
        return steered(view, self.steering.rollout, token)

    def ledger(
        self,
        principal: Principal,
        id: RequestId,
        request: Request,
        plan: Plan,
        dialect: Dialect,
        *,
        mode: Mode = "chat",
        handling: Handling | None = None,
    ) -> Ledger:
        """The account of a request of this caller, who is handled as its account wants to be unless told otherwise."""
        return Ledger(
            id=id,
            key_id=principal.key.id,
            request=request,
            plan=plan,
            dialect=dialect,
            rate_of=self.catalog.rate,
            clock=self.clock,
            recorder=self.recorder,
            mode=mode,
            handling=handling or self.handling(principal),
        )

    def families(self, plan: Plan) -> dict[str, Family]:
        """What the providers of a plan's targets speak, by the target's id."""
        targets = [attempt.target for attempt in plan.attempts]
        known = self.providers
        return {target.id: known[target.provider].family for target in targets if target.provider in known}
