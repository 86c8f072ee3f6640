"""What several runs of the engine that are one request may take: each its time, together their cost, and how many of
them have to answer."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from msgspec import Struct

from llmwise.domain.errors import (
    CircuitOpen,
    DeadlineExceeded,
    GatewayError,
    InternalError,
    InvalidRequest,
    Unavailable,
)
from llmwise.domain.events import Event
from llmwise.domain.money import to_usd
from llmwise.domain.plan import Plan
from llmwise.domain.requests import ChatRequest, Request
from llmwise.orchestration.continuity import Engine
from llmwise.orchestration.estimates import expected
from llmwise.orchestration.settlement import ALL_FAILED, Ledger


class Bounds(Struct, frozen=True):
    """What a call to several models may take.

    source_timeout_s    so long a source may take to its end, in seconds; `None`: the request's total alone
    min_sources         with fewer answers than this the call fails
    max_cost_nanousd    no further model is asked once this is spent; `None`: unbounded
    own                 the caller has set them, and not the configuration
    """

    source_timeout_s: float | None = None
    min_sources: int = 1
    max_cost_nanousd: int | None = None
    own: bool = False

    def explained(self, error: GatewayError | None, model: str) -> GatewayError | None:
        """The error that ended a source; the engine's deadline is, for a bounded source, most often its own bound."""
        if self.source_timeout_s is None or not isinstance(error, DeadlineExceeded):
            return error
        return DeadlineExceeded(
            f"{model} did not end within {self.source_timeout_s:g} s (source_timeout_s)", code="source_timeout"
        )

    def too_few(self, asked: int, failures: Mapping[str, GatewayError]) -> GatewayError | None:
        """The call's error when `failures` of the models `asked` leave fewer answers than `min_sources`."""
        left = asked - len(failures)
        if left == 0:
            return all_failed(failures)
        if left >= self.min_sources:
            return None
        return all_failed(failures, f"{left} of {asked} models answered, min_sources is {self.min_sources}")


UNBOUNDED = Bounds()


class Bounded:
    """The engine under the bounds of one request, whose ledger is `account`: its runs are branches of that.

    A run has `source_timeout_s` from its own beginning. It begins when `max_cost` has room for what is spent, the most
    that the runs under way will cost (`estimates.expected`), and its own prompt. Until then it waits for others to end;
    with none under way it fails (`max_cost_spent`), but for the first to cost anything. So only the last one to begin
    can go beyond the bound, as far as no other answer is longer than was reckoned with.
    """

    def __init__(self, engine: Engine, account: Ledger, bounds: Bounds) -> None:
        self._engine = engine
        self._account = account
        self._bounds = bounds
        self._until = asyncio.get_running_loop().time() + engine.total_s
        self._under_way: dict[Ledger, int] = {}  # and the most that each will cost
        self._ended = asyncio.Event()

    @property
    def total_s(self) -> float:
        return self._engine.total_s

    def affords(self, runs: Sequence[tuple[Plan, ChatRequest]]) -> bool:
        """Whether what is spent leaves room for the prompts of these."""
        return self._lacks(sum(expected(*run, self._account)[0] for run in runs)) <= 0

    def run(self, request: Request, ledger: Ledger) -> AsyncGenerator[Sequence[Event], None]:
        if self._bounds.max_cost_nanousd is not None:
            return self._in_turn(request, ledger)
        self._begin(ledger)
        return self._engine.run(request, ledger)

    async def _in_turn(self, request: Request, ledger: Ledger) -> AsyncGenerator[Sequence[Event], None]:
        assert isinstance(request, ChatRequest), "several models are asked to chat"
        prompt, most = expected(ledger.plan, request, ledger)
        while (lacking := self._lacks(prompt)) > 0 and (self._under_way or self._spent):
            if not self._under_way:
                error = _no_room(ledger, lacking)
                ledger.close(error.status, error.code)
                raise error
            self._ended.clear()
            await self._ended.wait()
            ledger.begin()
        self._under_way[ledger] = most
        self._begin(ledger)
        try:
            async with aclosing(self._engine.run(request, ledger)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            del self._under_way[ledger]
            self._ended.set()

    def _begin(self, ledger: Ledger) -> None:
        ledger.until = self._until
        allowed_s = self._bounds.source_timeout_s
        if allowed_s is not None:
            ledger.until = min(self._until, asyncio.get_running_loop().time() + allowed_s)
            ledger.impatient = self._bounds.own and ledger.until < self._until

    @property
    def _spent(self) -> int:
        """In nano-USD, as far as prices are known."""
        return sum(attempt.cost_nanousd or 0 for attempt in self._account.attempts)

    def _lacks(self, more: int) -> int:
        """By how many nano-USD `more` would go beyond the bound; nothing or less: it fits."""
        most = self._bounds.max_cost_nanousd
        return 0 if most is None else self._spent + sum(self._under_way.values()) + more - most


def _no_room(ledger: Ledger, lacking: int) -> InvalidRequest:
    model = ledger.plan.attempts[0].target.id
    return InvalidRequest(
        f"{model} was not asked: max_cost is spent, and at least {to_usd(lacking):.3g} USD are lacking; raise it, or "
        "ask fewer or cheaper models",
        code="max_cost_spent",
        param="max_cost",
    )


def all_failed(failures: Mapping[str, GatewayError], what: str | None = None) -> GatewayError:
    """What a panel is answered with when no model answered, or too few: the class, and so the status, of the failure
    that says most, and all of them under `failures`. What the caller has to change says most, then what a provider
    said."""
    telling = min(failures.values(), key=_silence)
    return type(telling)(
        f"{what or f'all {len(failures)} models failed'}; "
        + "; ".join(f"{model}: {error.message}" for model, error in failures.items()),
        code=ALL_FAILED if what is None else "too_few_sources",
        retry_after_s=telling.retry_after_s,
        reason=telling.code,
        failures={
            model: {"error": error.message, "code": error.code, "status_code": error.status}
            for model, error in failures.items()
        },
        refunded=True,  # as far as is known here; `kept` knows what was charged
    )


def _silence(error: GatewayError) -> int:
    if error.caller_fault:
        return 0
    if error.upstream_status is not None:
        return 1
    if isinstance(error, CircuitOpen):
        return 4
    return 3 if isinstance(error, Unavailable | DeadlineExceeded | InternalError) else 2
