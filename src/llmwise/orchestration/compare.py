"""One question to several models at once: a ledger for each, and one record of them all.

The history has one entry for a comparison, of mode `compare`. Its attempts are those of all models, numbered through in
the models' order, its sums are theirs, and its answer holds every model's text below the model's name. It names no
single model as the one that answered.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.errors import GatewayError, InternalError
from llmwise.domain.events import Warned
from llmwise.domain.ids import RequestId
from llmwise.domain.plan import Plan
from llmwise.domain.ports import Clock, Recorder, Reservation
from llmwise.domain.records import RequestRecord
from llmwise.domain.requests import ChatRequest, Dialect
from llmwise.orchestration.fanout import Ended, Item, Source, fanout
from llmwise.orchestration.handling import PLAIN, Handling
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.panel import UNBOUNDED, Bounds, side_by_side
from llmwise.orchestration.settlement import CLIENT_GONE_STATUS, Ledger, RateOf, refunded


class Contender(Struct, frozen=True):
    """One of the models: its plan, and why it can't be asked at all (it has no vision, say)."""

    plan: Plan
    refused: GatewayError | None = None

    @property
    def model(self) -> str:
        return self.plan.attempts[0].target.id


class Best(Struct, frozen=True):
    """Which model did best, among those that answered. `longest` is by tokens; `None`: there is none, or no price."""

    fastest: str | None
    longest: str | None
    cheapest: str | None


class Comparison:
    """One comparison under way. `account` is the ledger of the whole, `warnings` its own; `ledgers` and `errors`
    are in the models' order; `record` is set when it has ended."""

    def __init__(
        self,
        contenders: Sequence[Contender],
        *,
        id: RequestId,
        key_id: str,
        request: ChatRequest,
        dialect: Dialect,
        rate_of: RateOf,
        clock: Clock,
        recorder: Recorder,
        handling: Handling = PLAIN,
        reservation: Reservation | None = None,
        bounds: Bounds = UNBOUNDED,
    ) -> None:
        """`request` is the question; the model that it names doesn't matter."""
        self.models = [contender.model for contender in contenders]
        self.errors: list[GatewayError | None] = [None] * len(contenders)
        self._bounds = bounds
        self._refused = [contender.refused for contender in contenders]
        self.account = Ledger(
            id=id,
            key_id=key_id,
            request=replace(request, model=", ".join(self.models)),
            plan=Plan(tuple(contender.plan.attempts[0] for contender in contenders)),
            dialect=dialect,
            rate_of=rate_of,
            clock=clock,
            recorder=recorder,
            mode="compare",
            handling=handling,
            reservation=reservation,
        )
        self.warnings = self.account.warnings
        self.ledgers = [self.account.branch(c.plan, replace(request, model=c.model)) for c in contenders]

    @property
    def id(self) -> RequestId:
        return self.account.id

    @property
    def record(self) -> RequestRecord | None:
        return self.account.record

    @asynccontextmanager
    async def run(self, mesh: Mesh) -> AsyncIterator[AsyncGenerator[Item, None]]:
        """Ask all models for as long as the block lasts, which reads what they say (see `fanout`). The items end with a
        `GatewayError` when fewer models answered than the terms ask for. The record is handed over before the items
        end, or, when the caller leaves before that, at the end of the block."""
        until = self._bounds.source_until(asyncio.get_running_loop().time())
        for ledger in self.ledgers:
            ledger.until = until
        sources = [Source(*pair) for pair in zip(self.ledgers, self._refused, strict=True)]
        status, code = InternalError.status, InternalError.code
        self.account.admit()
        try:
            async with fanout(mesh, sources) as items:
                yield self._follow(items)
        except asyncio.CancelledError:
            status, code = CLIENT_GONE_STATUS, "client_gone"
            raise
        finally:
            if self.record is None:
                self._close(status, code)

    async def _follow(self, items: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
        async with aclosing(items):
            async for item in items:
                if isinstance(item, Ended):
                    error = self._bounds.explained(item.error, self.models[item.source])
                    self.errors[item.source] = error
                    item = Ended(item.source, error)
                yield item
        failures = {m: e for m, e in zip(self.models, self.errors, strict=True) if e is not None}
        error = self._bounds.too_few(len(self.models), failures)
        if error is None:
            self._close(200, None)
            return
        self._close(error.status, error.code)
        error.details["refunded"] = refunded(self.account)
        raise error

    def best(self) -> Best:
        """Of the models that answered. Ties go to the one named first."""
        answered = [
            (model, ledger.record)
            for model, ledger, error in zip(self.models, self.ledgers, self.errors, strict=True)
            if ledger.record is not None and error is None
        ]
        priced = [one for one in answered if one[1].cost_nanousd is not None]
        return Best(
            min(answered, key=lambda one: one[1].latency_ms, default=_NOBODY)[0],
            max(answered, key=lambda one: one[1].output_tokens, default=_NOBODY)[0],
            min(priced, key=lambda one: one[1].cost_nanousd or 0, default=_NOBODY)[0],
        )

    def all_warnings(self) -> list[Warned]:
        """Those of the request, then each model's with its name."""
        return self.account.all_warnings()

    def _close(self, status: int, code: str | None) -> None:
        self.account.said = side_by_side(self.ledgers)
        self.account.close(status, code)


_NOBODY: tuple[None, None] = (None, None)
