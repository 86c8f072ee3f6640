"""`llmwise mock`: the scripted provider as a process of its own."""

import asyncio
import errno
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from llmwise.providers.scripted.parsing import ScriptError, load_script
from llmwise.providers.scripted.script import Script
from llmwise.providers.scripted.server import ScriptedServer

_new_loop: Callable[[], asyncio.AbstractEventLoop] | None
try:
    import uvloop
except ImportError:  # it has no wheels for Windows
    _new_loop = None
else:
    _new_loop = uvloop.new_event_loop


def mock(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8090,
    script: Annotated[Path | None, typer.Option(help="TOML or JSON. Without it: answer normally.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve scripted answers and faults in the formats of OpenAI, Anthropic and Gemini. No model is asked."""
    try:
        playing = Script() if script is None else load_script(script)
    except ScriptError as error:
        _fail(str(error))
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_serve(playing, host, port))
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "the port is in use, choose another one or 0" if taken else error.strerror or str(error)
        _fail(f"can't listen on {host}:{port}: {reason}")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(message: str) -> NoReturn:
    typer.echo(f"llmwise mock: {message}", err=True)
    raise typer.Exit(1)


async def _serve(script: Script, host: str, port: int) -> None:
    """Until SIGTERM or SIGINT; then every connection is aborted."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt
            loop.add_signal_handler(number, stop.set)
    async with ScriptedServer(script, host=host, port=port) as server:
        sys.stdout.write(f"llmwise mock (scripted, no model behind it) listening on {server.url}\n")
        sys.stdout.flush()
        await stop.wait()
