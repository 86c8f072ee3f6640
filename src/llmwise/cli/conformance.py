"""`llmwise conformance`: the conformance kit against a gateway or a server that runs, or against this one."""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, cast, get_args

import httpx
import typer
from msgspec.json import encode
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from llmwise.cli.failing import fail
from llmwise.cli.tables import show
from llmwise.conformance.questions import Dialect
from llmwise.conformance.report import failures, markdown, table
from llmwise.conformance.run import Cell, Tested, asked_of, models_of, run
from llmwise.providers.scripted.server import ScriptedServer

FAMILIES = {
    "openai": "gpt-4.1",
    "responses": "gpt-4.1",
    "anthropic": "claude-opus-4-6",
    "gemini": "gemini-2.5-pro",
}
"""Each wire format, and the name of a model there that takes everything the cases ask."""

ANY = "any"
STARTS_WITHIN_S = 40

CONFIG = """\
[server]
port = 0
[storage]
url = "sqlite:///conformance.db"
keep_text = false
[limits]
chat = 1_000_000
other = 1_000_000
burst = 1_000_000
[breaker]
failures = 1000
hard_down_s = 0.001
"""
"""This gateway under test: nothing limits it, and no circuit opens, so that each case finds it as the last one did."""


def conformance(
    base_url: Annotated[
        str | None, typer.Option(help="What to test; without it, this gateway, started for it.")
    ] = None,
    dialect: Annotated[
        list[str] | None, typer.Option(help="chat, responses, anthropic or native; several times. Default: chat.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="FAMILY=NAME, or NAME where no provider is scripted.")
    ] = None,
    api_key: Annotated[str | None, typer.Option(envvar="LLMWISE_CONFORMANCE_KEY")] = None,
    upstream_port: Annotated[
        int | None, typer.Option(help="Where the gateway looks for its providers: the scripted one listens there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The cells, as JSON.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="The table, as Markdown.")] = False,
) -> None:
    """Ask what broke in public gateways, and print who gets it right. Exit code 1 if anything is wrong."""
    dialects = [_dialect(name) for name in dialect or ()]
    if base_url is None:
        with tempfile.TemporaryDirectory(prefix="llmwise-conformance-") as folder:
            cells = asyncio.run(_ours(Path(folder), dialects or list(get_args(Dialect))))
    else:
        names = dict(_model(text) for text in model or ())
        tested = Tested(base_url, names or {ANY: _first(base_url, api_key)}, dialects or ["chat"], api_key)
        if upstream_port is not None and ANY in tested.models:
            fail("with a scripted provider each --model needs its family: openai=NAME, anthropic=NAME, ...")
        cells = asyncio.run(_theirs(tested, upstream_port))
    if as_json:
        typer.echo(encode(cells))
    elif as_markdown:
        typer.echo(markdown(cells))
    else:
        show(table(cells))
        for line in failures(cells):
            typer.echo(line)
    raise typer.Exit(1 if failures(cells) else 0)


def _dialect(name: str) -> Dialect:
    if name not in get_args(Dialect):
        fail(f"--dialect {name}: is none of {', '.join(get_args(Dialect))}")
    return cast(Dialect, name)


def _model(text: str) -> tuple[str, str]:
    family, equals, name = text.partition("=")
    if not equals:
        return ANY, text
    if family not in FAMILIES or not name:
        fail(f"--model {text}: give FAMILY=NAME, the family one of {', '.join(FAMILIES)}")
    return family, name


def _first(base_url: str, key: str | None) -> str:
    """The first model that the server lists."""
    url = base_url.rstrip("/").removesuffix("/v1") + "/v1/models"
    try:
        answer = httpx.get(url, headers={"authorization": f"Bearer {key}"} if key else {}, timeout=10)
        return models_of(answer.content)[0]
    except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
        fail(f"{url} lists no models ({type(error).__name__}); name one with --model")


async def _theirs(tested: Tested, port: int | None) -> list[Cell]:
    if port is None:
        return await _watched(tested, None)
    try:
        async with ScriptedServer(port=port) as upstream:
            return await _watched(tested, upstream)
    except OSError as error:
        fail(f"can't listen on port {port} for the gateway's providers: {error.strerror or error}")


async def _ours(folder: Path, dialects: Sequence[Dialect]) -> list[Cell]:
    async with ScriptedServer() as upstream:
        config = folder / "llmwise.toml"
        config.write_text(CONFIG + "".join(_provider(family, upstream.url) for family in FAMILIES))
        key = _run("keys", "create", "--config", str(config), "--name", "conformance")
        found = re.search(r"mm_sk_[0-9a-f]{64}", key)
        assert found is not None, "a new key is shown"
        with _serving(config) as url:
            models = {family: f"conformance-{family}" for family in FAMILIES}
            return await _watched(Tested(url, models, dialects, found[0]), upstream)


def _provider(family: str, upstream: str) -> str:
    base_url = upstream + ("/v1beta" if family == "gemini" else "/v1")
    return f"""
[providers.conformance-{family}]
kind = "{family}"
base_url = "{base_url}"
[[models]]
id = "conformance-{family}"
provider = "conformance-{family}"
upstream = "{FAMILIES[family]}"
context_window = 128_000
max_output = 4096
capabilities = {{ vision = true, tools = true, json_schema = true, reasoning = true }}
"""


def _run(*arguments: str) -> str:
    ended = subprocess.run([sys.executable, "-m", "llmwise", *arguments], capture_output=True, text=True)
    if ended.returncode:
        fail(f"llmwise {arguments[0]}: {ended.stderr.strip()}")
    return ended.stdout


@contextmanager
def _serving(config: Path) -> Iterator[str]:
    """This gateway as a process of its own, until the block ends."""
    command = [sys.executable, "-m", "llmwise", "serve", "--config", str(config), "--port", "0"]
    log = config.with_name("serve.log")
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=dict(os.environ))
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(STARTS_WITHIN_S)


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Where the gateway listens. It says so a moment before it does."""
    until = time.monotonic() + STARTS_WITHIN_S
    while (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())) is None or not _is_up(found[0]):
        if time.monotonic() > until or process.poll() is not None:
            fail(f"the gateway did not start: {log.read_text()[-400:]}")
        time.sleep(0.05)
    return found[0]


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).is_success
    except httpx.HTTPError:
        return False


async def _watched(tested: Tested, upstream: ScriptedServer | None) -> list[Cell]:
    """The cells, with a bar on the terminal while they are asked."""
    notes = Console(stderr=True)
    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )
    cells = []
    with shown:
        task = shown.add_task("conformance", total=len(asked_of(tested, upstream)))
        async for cell in run(tested, upstream):
            cells.append(cell)
            shown.update(task, advance=1, description=cell.case)
    return cells
