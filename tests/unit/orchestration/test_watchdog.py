import asyncio

import pytest

from llmwise.orchestration.deadlines import NEVER, TICK_S, Watchdog

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def waited_too_long(watchdog: Watchdog, wait_s: float) -> bool:
    """Wait for what never comes, as the engine waits for a provider."""
    loop, watch = asyncio.get_running_loop(), watchdog.watch()
    try:
        watch.until = loop.time() + wait_s
        await loop.create_future()
    except asyncio.CancelledError:
        if not watch.expired():
            raise
        return True
    finally:
        watch.stop()
    return False


async def test_a_wait_ends_at_its_instant_and_not_before() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await waited_too_long(Watchdog(), 2 * TICK_S)
    assert 2 * TICK_S <= loop.time() - began < 2


async def test_the_task_goes_on_afterwards() -> None:
    assert await waited_too_long(Watchdog(), 0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    task = asyncio.create_task(waited_too_long(Watchdog(), 60))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_from_elsewhere_wins_over_one_of_the_watch() -> None:
    watchdog = Watchdog()
    task = asyncio.create_task(waited_too_long(watchdog, 60))
    await asyncio.sleep(0)
    (watch,) = watchdog._watches
    task.cancel()
    watch.expire()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_and_the_end_of_the_time_at_once_leave_no_cancellation_behind() -> None:
    watch = Watchdog().watch()
    loop = asyncio.get_running_loop()
    came = loop.create_future()
    loop.call_soon(came.set_result, 1)
    loop.call_soon(watch.expire)
    caught = False
    try:
        watch.until = NEVER
        await came
        if watch.fired:
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        caught = watch.expired()
    assert caught
    await asyncio.sleep(0)


async def test_the_timer_stops_when_nobody_waits() -> None:
    watchdog = Watchdog()
    assert await waited_too_long(watchdog, 0)
    async with asyncio.timeout(5):
        while watchdog._going_round:  # noqa: ASYNC110  # a timer's end has no event
            await asyncio.sleep(TICK_S)


async def test_many_wait_on_one_timer() -> None:
    watchdog = Watchdog()
    assert all(await asyncio.gather(*(waited_too_long(watchdog, i / 1000) for i in range(100))))
    assert not watchdog._watches
