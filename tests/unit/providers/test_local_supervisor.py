"""The supervisor on real child processes that stand in for the model's server."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llmwise.providers.local.server import MISSING_DEPENDENCY
from llmwise.providers.local.supervisor import Backoff, NotServing, Supervisor

QUICK = Backoff(first_s=0.01, longest_s=0.02, steady_s=60)

SERVE = """
import os, sys
key = sys.stdin.readline().strip()
print("READY http://child/" + str(os.getpid()), flush=True)
sys.stdin.read()
"""


def supervisor(backoff: Backoff = QUICK, start_timeout_s: float = 20) -> Supervisor:
    return Supervisor(
        "the child", key="k-1", environ=dict(os.environ), start_timeout_s=start_timeout_s, backoff=backoff
    )


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


@asynccontextmanager
async def running(watched: Supervisor, command: list[str]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(watched.run(command))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def play(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    """Another process makes it true; the scenario's deadline is the limit."""
    while not condition():  # noqa: ASYNC110  # nothing of ours is told
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_request_waits_until_the_child_is_ready() -> None:
    async def scenario() -> None:
        watched = supervisor()
        waiting = asyncio.create_task(watched.address())
        async with running(watched, python(SERVE)):
            assert await waiting == f"http://child/{watched.pid}"
            states = [watched.state]
        assert [*states, watched.state] == ["ready", "stopped"]

    play(scenario())


def test_a_killed_child_is_started_again_and_requests_wait_for_it() -> None:
    async def scenario() -> None:
        watched = supervisor()
        async with running(watched, python(SERVE)):
            first = await watched.address()
            assert watched.pid is not None
            os.kill(watched.pid, signal.SIGKILL)
            await until(lambda: watched.starts == 2)
            assert await watched.address() != first

    play(scenario())


def test_a_child_that_cannot_start_is_reported_with_its_last_words_and_tried_again(tmp_path: Path) -> None:
    flag = tmp_path / "second time"
    script = f"""
import pathlib, sys
flag = pathlib.Path({str(flag)!r})
if not flag.exists():
    flag.touch()
    sys.exit("the model file is broken")
{SERVE}"""

    async def scenario() -> None:
        watched = supervisor(Backoff(first_s=0.01, longest_s=0.01))
        async with running(watched, python(script)):
            with pytest.raises(NotServing, match=r"status 1: the model file is broken"):
                await watched.address()
            await until(lambda: watched.state == "ready")
            assert await watched.address()

    play(scenario())


def test_a_child_that_is_never_ready_is_ended() -> None:
    async def scenario() -> None:
        watched = supervisor(start_timeout_s=0.2)
        async with running(watched, python("import sys; sys.stdin.read()")):
            with pytest.raises(NotServing, match=r"not ready within 0\.2 s"):
                await watched.address()

    play(scenario())


def test_a_missing_dependency_is_not_tried_again() -> None:
    async def scenario() -> None:
        watched = supervisor()
        await watched.run(
            python(f"import sys; print('pip install it', file=sys.stderr); sys.exit({MISSING_DEPENDENCY})")
        )
        assert watched.starts == 1
        with pytest.raises(NotServing, match="pip install it") as caught:
            await watched.address()
        assert caught.value.final

    play(scenario())


def test_a_command_that_does_not_exist_is_a_failure_and_no_crash() -> None:
    async def scenario() -> None:
        watched = supervisor()
        async with running(watched, ["/nonexistent/server"]):
            with pytest.raises(NotServing, match="can't be started"):
                await watched.address()

    play(scenario())


def test_cancelling_ends_the_child() -> None:
    async def scenario() -> None:
        watched = supervisor()
        async with running(watched, python(SERVE)):
            await watched.address()
            pid = watched.pid
            assert pid is not None
        assert not alive(pid)
        with pytest.raises(NotServing, match="has been stopped"):
            await watched.address()

    play(scenario())


def test_a_child_that_ignores_sigterm_is_killed() -> None:
    async def scenario() -> None:
        watched = supervisor()
        deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVE}\nsignal.pause()"
        async with running(watched, python(deaf)):
            await watched.address()
            pid = watched.pid
            assert pid is not None
        assert not alive(pid)

    play(scenario())


def test_the_key_is_told_on_standard_input_only() -> None:
    script = """
import os, sys
key = sys.stdin.readline().strip()
assert key == "k-1", key
assert "k-1" not in sys.argv and "k-1" not in os.environ.values()
print("READY http://child", flush=True)
sys.stdin.read()
"""

    async def scenario() -> None:
        watched = supervisor()
        async with running(watched, python(script)):
            assert await watched.address() == "http://child"

    play(scenario())


def test_a_child_that_writes_much_is_not_held_up() -> None:
    chatty = SERVE.replace("sys.stdin.read()", "sys.stderr.write('x' * 1_000_000 + '\\n' * 5000)\nos._exit(0)")

    async def scenario() -> None:
        watched = supervisor()
        async with running(watched, python(chatty)):
            await until(lambda: watched.starts == 2)

    play(scenario())


def test_pauses_grow_to_a_bound() -> None:
    backoff = Backoff(first_s=0.25, longest_s=30)
    assert [backoff.pause_s(failures) for failures in range(6)] == [0, 0.25, 0.5, 1, 2, 4]
    assert backoff.pause_s(10_000) == 30
