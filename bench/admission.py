"""What limits and budgets cost a request with state in memory: CPU µs, least of several runs.

    python bench/admission.py

`door`: authentication from the cache and the rate limits. `plain`: a key without budgets, charged at the end.
`budgets`: four purses set aside and settled, three ledger entries made.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from llmwise.api.admission import Hold
from llmwise.api.auth import principal_of
from llmwise.api.limits import LimitSettings, RateLimiter
from llmwise.clock import SystemClock
from llmwise.domain.ids import KeyId
from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.routing.breaker import BreakerSettings
from llmwise.state.memory import MemoryState
from llmwise.state.port import Claim, Purse
from llmwise.storage.rows import KeyRow

ROUNDS, CALLS = 7, 20_000
LARGE = 10**15


async def least_us(call: Callable[[int], Awaitable[object]]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for number in range(CALLS):
            await call(number)
        best = min(best, time.process_time() - began)
    return best / CALLS * 1e6


async def main() -> None:
    state = MemoryState(SystemClock(), BreakerSettings())
    principal = principal_of(KeyRow(KeyId("key"), "k", "h", "mm_sk_", False, 0, None, None), None)
    limiter = RateLimiter(LimitSettings(chat=LARGE, burst=LARGE), state)
    periods: Any = ("day", "month")
    kinds: Any = ("key", "account")
    purses = tuple(Purse(kind, kind, "a", period, hard_nanousd=LARGE) for kind in kinds for period in periods)
    claim = Claim("req", "key", state._clock.unix_ms(), purses, 10_000_000)
    fields: dict[str, Any] = dict.fromkeys(RequestRecord.__struct_fields__)
    request = RequestRecord(**fields | {"id": "req", "created_at_ms": claim.created_at_ms})
    zeros: dict[str, Any] = dict.fromkeys(AttemptRecord.__struct_fields__, 0)
    attempts = [AttemptRecord(**zeros | {"outcome": "complete", "cost_nanousd": 5_000_000})]

    async def door(number: int) -> None:
        await limiter.count(principal, "chat")

    async def plain(number: int) -> None:
        Hold(state, "key", "a", None, None, 1.0).settle(request, attempts)

    async def budgets(number: int) -> None:
        own = replace(claim, id=number)
        Hold(state, "key", "a", own, await state.reserve(own), 1.0).settle(request, attempts)

    for case in (door, plain, budgets):
        print(f"{case.__name__:8} {await least_us(case):5.2f} µs a request")


if __name__ == "__main__":
    asyncio.run(main())
