"""For operators: is it alive, is it ready, what does it measure."""

from msgspec import Struct
from starlette.responses import Response

from llmwise.api.frame import Call
from llmwise.domain.errors import Unavailable


class Alive(Struct):
    status: str


class Ready(Struct):
    """`records_waiting` are settled requests that are not in the database yet."""

    status: str
    models: int
    records_waiting: int


async def healthz(call: Call) -> Alive:
    """The process serves. Asks nobody."""
    return Alive("ok")


async def readyz(call: Call) -> Ready:
    """The gateway can do its work: 503 while the database does not take records, or when no model is on offer."""
    health = call.services.writer.health()
    if health.failing_since_ms is not None:
        raise Unavailable(f"the database does not take records: {health.error}", code="storage_unavailable")
    if not call.services.catalog.models:
        raise Unavailable("no model is on offer: configure a provider", code="no_models")
    return Ready("ok", len(call.services.catalog.models), health.waiting)


async def metrics(call: Call) -> Response:
    """Prometheus' text format."""
    services = call.services
    gathered = services.metrics
    gathered.records_waiting = services.writer.health().waiting
    gathered.circuits_open = {
        card.id: services.state.breaker(card.id).phase != "closed" for card in services.catalog.models
    }
    return Response(gathered.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
