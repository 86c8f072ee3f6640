"""For operators: is it alive, is it ready, what does it measure."""

from typing import Literal, TypeAlias

from msgspec import Struct
from starlette.responses import Response

from llmwise.api.frame import Call
from llmwise.domain.errors import Unavailable


class Alive(Struct):
    status: str


Storage: TypeAlias = Literal["ok", "spooled", "unspooled"]
State: TypeAlias = Literal["ok", "alone"]


class Ready(Struct):
    """`records_waiting` are settled requests that are not in the database yet. `storage` is `ok`; `spooled` while the
    database is away and the spool holds them; `unspooled` while the disk takes none and they go to the database alone.
    `state` is `ok`, or `alone` while circuits, limits and budgets are this process's own. Why is in the log: anybody
    may read this."""

    status: str
    models: int
    records_waiting: int
    storage: Storage
    state: State


async def healthz(call: Call) -> Alive:
    """The process serves. Asks nobody."""
    return Alive("ok")


async def readyz(call: Call) -> Ready:
    """The gateway can do its work: 503 when records find neither a database nor a disk, or when no model is on offer.

    A database that is away is no reason to send callers elsewhere: the spool holds the records until it is back.
    """
    health = call.services.writer.health()
    if health.failing_since_ms is not None and (health.spool_error or not health.spooled):
        raise Unavailable("neither the database nor the spool takes records", code="storage_unavailable")
    storage: Storage = "unspooled" if health.spool_error else "ok"
    if health.failing_since_ms is not None:
        storage = "spooled"
    if not call.services.catalog.models:
        raise Unavailable("no model is on offer: configure a provider", code="no_models")
    state: State = "ok" if call.services.state.away is None else "alone"
    return Ready("ok", len(call.services.catalog.models), health.waiting, storage, state)


async def metrics(call: Call) -> Response:
    """Prometheus' text format."""
    services = call.services
    gathered = services.metrics
    health = services.writer.health()
    gathered.records_waiting, gathered.records_lost = health.waiting, health.dropped
    gathered.state_away = services.state.away is not None
    gathered.circuits_open = {
        card.id: services.state.breaker(card.id).phase != "closed" for card in services.catalog.models
    }
    return Response(gathered.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
