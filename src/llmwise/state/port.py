"""What all requests share, and replicas too where there are several: circuits, limits, budgets.

    circuits   asked on the hot path without waiting: each replica has a copy
    limits     counted and refused in one step
    budgets    set aside before a request runs (`reserve`), replaced by what it cost after it (`settle`)

A budget refuses when what is spent and set aside has reached its limit. A request is therefore let in on the last cent,
and a budget is overrun by at most one reservation, however many requests come at once.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct
from msgspec.structs import force_setattr

from llmwise.domain.access import Period
from llmwise.domain.errors import BreakerEffect, Unavailable
from llmwise.domain.records import LedgerEntry, RequestRecord
from llmwise.routing.breaker import Admission, Breaker, BreakerSettings
from llmwise.routing.health import Health

LEASE_S = 3600.0
"""What a replica that died had set aside is free again after this: longer than any request lasts."""

TOKENS_WINDOW_S = 60

OPENING_S = 2.0
"""How long a purse's first request in a period waits for the ledger."""

UNREADABLE_S = 5.0
"""After a ledger that can't be read, so long nobody asks it again: a purse begins with nothing spent meanwhile."""


class StateSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[state]`: circuits, limits and budgets. Only a restart changes it.

    url         `memory://`: of this process alone; `valkey://HOST:PORT/0` (`valkeys://` over TLS, `unix:///PATH`):
                shared by all that name it
    timeout_s   how long a request waits for the shared state before it goes by this process's own
    prefix      of all keys there, so that two gateways can share a server
    strict      true: while what is left of a hard budget can't be known (the shared state is away, or without one the
                ledger can't be read), a request that it bounds is refused (503, `state_unavailable`). false: it goes
                by what this process knows to be left, as others do by theirs
    """

    url: str = "memory://"
    timeout_s: float = 0.05
    prefix: str = "llmwise:"
    strict: bool = False


class Window(Struct, frozen=True, gc=False):
    """At most `limit` in each `seconds`, from one full multiple of them to the next. `name` is what is counted."""

    name: str
    limit: int
    seconds: int


class Counted(Struct, frozen=True, gc=False):
    """How the first of the windows stands after the request. Refused: the window that did it, how it stands, and
    nothing was counted. `reset_s` is until its end."""

    window: Window
    used: int
    reset_s: float
    refused: bool = False


class Purse(Struct, frozen=True, gc=False):
    """What one key or account spends in one period. Above `soft_nanousd` it is warned of, from `hard_nanousd` on
    refused; `None`: never. `id` follows from the rest; a request looks it up a dozen times."""

    kind: Literal["key", "account"]
    owner: str
    account_id: str
    period: Period
    hard_nanousd: int | None = None
    soft_nanousd: int | None = None
    id: str = ""

    def __post_init__(self) -> None:
        force_setattr(self, "id", f"{self.kind}:{self.owner}:{self.period}")


class Standing(Struct, frozen=True, gc=False):
    """How a purse stands. `start_ms` and `ends_ms` bound its period; `None`: it never ends."""

    purse: Purse
    spent_nanousd: int
    reserved_nanousd: int
    start_ms: int
    ends_ms: int | None

    @property
    def exhausted(self) -> bool:
        """Refuses."""
        limit = self.purse.hard_nanousd
        return limit is not None and self.spent_nanousd + self.reserved_nanousd >= limit

    @property
    def warns(self) -> bool:
        limit = self.purse.soft_nanousd
        return limit is not None and self.spent_nanousd + self.reserved_nanousd >= limit


class Claim(Struct, frozen=True, gc=False):
    """What a request asks for before it runs. `tokens` is what its prompt has; both bounds may be `None`."""

    id: str
    key_id: str
    created_at_ms: int
    purses: tuple[Purse, ...] = ()
    amount_nanousd: int = 0
    tokens: int = 0
    tokens_per_minute: int | None = None
    concurrency: int | None = None

    @property
    def asks(self) -> bool:
        """Whether there is anything to ask: most keys are unlimited."""
        return bool(self.purses) or self.tokens_per_minute is not None or self.concurrency is not None


Refused: TypeAlias = Literal["budget", "tokens", "concurrency"]


class Verdict(Struct, frozen=True, gc=False):
    """`refused` is `None` when all was set aside, and nothing was when not; then `by` says which budget it was.

    `standings` are as it was before this request. `bound` is the limit that refused tokens or concurrency, and
    `retry_after_s` when to come again. `shared` says whether the claim is known beyond this process.
    """

    claim: Claim
    refused: Refused | None = None
    standings: tuple[Standing, ...] = ()
    by: Standing | None = None
    bound: int = 0
    retry_after_s: float = 0.0
    tokens_used: int = 0
    shared: bool = False


Spent: TypeAlias = Callable[[Purse, int], Awaitable[int]]
"""What a purse's owner has spent since a time (Unix ms), in nano-USD: the ledger's word, asked when a purse is first
used. May raise when the ledger can't be read."""


async def nothing_spent(purse: Purse, since_ms: int) -> int:
    """Without a ledger."""
    return 0


def unknown_budget() -> Unavailable:
    """The refusal of `StateSettings.strict`."""
    return Unavailable(
        "what is left of the budget is not known just now, and nothing is spent without: try again",
        code="state_unavailable",
        retry_after_s=1.0,
    )


class SharedState(Protocol):
    """Circuits never wait; `count` and `reserve` wait for at most `StateSettings.timeout_s`; `settle` never waits and
    never raises."""

    settings: BreakerSettings

    @property
    def away(self) -> str | None:
        """Why this process goes by its own limits just now; `None` while nothing is wrong."""
        ...

    def admit(self, target: str) -> Admission: ...

    def report(
        self,
        target: str,
        effect: BreakerEffect | None,
        *,
        probe: int = 0,
        ttft_ms: float | None = None,
        latency_ms: float | None = None,
        retry_after_s: float | None = None,
        limited: bool = False,
        reason: str | None = None,
    ) -> None: ...

    def health(self) -> Mapping[str, Health]: ...

    def breaker(self, target: str) -> Breaker: ...

    def turn(self, chain: tuple[str, ...]) -> int: ...

    async def count(self, subject: str, windows: Sequence[Window]) -> Counted:
        """Count one request in every window, or in none."""
        ...

    async def reserve(self, claim: Claim) -> Verdict:
        """Set aside all that is claimed, or nothing. Raises `Unavailable` for a hard budget that only the shared state
        may tell (`StateSettings.strict`) and can't."""
        ...

    def settle(self, verdict: Verdict, charged_nanousd: int, tokens: int) -> None:
        """End a claim that was granted: it cost so much and took so many tokens in all. Once for each claim."""
        ...

    def replayed(self, record: RequestRecord, entries: Sequence[LedgerEntry]) -> None:
        """A request of a process that died: what it set aside is free, and what it cost is spent, unless that process
        had still said so itself."""
        ...

    async def standings(self, purses: Sequence[Purse], now_ms: int) -> tuple[Standing, ...]: ...

    async def ready(self, within_s: float) -> bool:
        """Whether it is shared by now; waits for it so long."""
        ...

    async def run(self) -> None:
        """Keep up with the others, until cancelled."""
        ...

    async def close(self, within_s: float) -> None:
        """Tell the others what they don't know yet, and let go."""
        ...
