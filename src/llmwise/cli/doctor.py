"""`llmwise doctor`: checks what can be wrong with a set-up, and says how to mend it."""

import asyncio
import importlib.util
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import typer
from msgspec import Struct
from rich.console import Console
from rich.markup import escape

from llmwise.app import catalog_of, check
from llmwise.cli.failing import ConfigOption
from llmwise.config import Config, ConfigError, cache_directory, load
from llmwise.providers.local.weights import SMOLLM2
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.store import OfflineKeys

Mark: TypeAlias = Literal["ok", "note", "wrong"]
MARKS: dict[Mark, str] = {"ok": "[green]ok[/green]   ", "note": "[yellow]note[/yellow] ", "wrong": "[red]wrong[/red]"}
CONNECT_S = 3.0


class Finding(Struct, frozen=True):
    mark: Mark
    what: str
    remedy: str = ""


def doctor(config: ConfigOption = None) -> None:
    """Check configuration, database, providers' addresses and the local model; exit code 1 if one is wrong."""
    out = Console(highlight=False)
    wrong = False
    for finding in _findings(config):
        wrong = wrong or finding.mark == "wrong"
        remedy = f"\n      -> {escape(finding.remedy)}" if finding.remedy else ""
        out.print(f"{MARKS[finding.mark]} {escape(finding.what)}{remedy}")
    if wrong:
        raise typer.Exit(1)


def _findings(path: ConfigOption) -> Iterator[Finding]:
    yield Finding("ok", f"Python {sys.version.split()[0]}")
    try:
        config = load(path)
    except ConfigError as error:
        yield Finding("wrong", str(error))
        return
    yield Finding("ok", f"configuration: {config.source or 'none; what the environment names'}")
    try:
        now_ms = time.time_ns() // 1_000_000
        check(config, now_ms)
        catalog = catalog_of(config, now_ms)
    except ConfigError as error:
        yield Finding("wrong", str(error))
        return
    unpriced = [card.id for card in catalog.models if card.rate is None]
    yield Finding("ok" if catalog.models else "wrong", f"{len(catalog.models)} models on offer")
    if unpriced:
        yield Finding(
            "note",
            f"no price known for {', '.join(unpriced[:5])}{' ...' if len(unpriced) > 5 else ''}",
            "set input_price and output_price in their [[models]] entries; until then their cost is not known",
        )
    yield from _database(config)
    yield from asyncio.run(_providers(config))
    yield _port(config)


def _database(config: Config) -> Iterator[Finding]:
    file = Path(config.storage.url.removeprefix("sqlite:///"))
    if config.storage.url.startswith("sqlite:///") and not file.exists():
        yield Finding("note", f"no database yet: {file}", "`llmwise serve` makes it, and prints an administrator's key")
        return
    try:
        with OfflineKeys.open(config.storage.url) as keys:
            shown = keys.url
            rows = [row for row in keys.list() if row.revoked_at_ms is None]
    except StorageUnavailable as error:
        yield Finding("wrong", str(error))
        return
    yield Finding("ok", f"database {shown}")
    if not rows:
        yield Finding("note", "no API key yet", "`llmwise serve` prints one at its first start")


async def _providers(config: Config) -> list[Finding]:
    return list(await asyncio.gather(*(_provider(name, config) for name in config.providers)))


async def _provider(name: str, config: Config) -> Finding:
    settings = config.providers[name]
    if settings.kind == "local":
        if importlib.util.find_spec("xllamacpp") is None:
            return Finding("wrong", f"{name}: xllamacpp is not installed", "pip install 'llmwise[local]'")
        if not (cache_directory() / SMOLLM2.file).exists():
            return Finding("note", f"{name}: the weights are not there yet", "they are fetched at the first start")
        return Finding("ok", f"{name}: {SMOLLM2.name}, a demonstration model")
    if settings.base_url is None:
        return Finding("ok", f"{name}: {settings.kind}")
    address = urlsplit(settings.base_url)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(address.hostname, port)
        writer.close()
    except (OSError, TimeoutError) as error:
        reason = str(error) or f"no answer in {CONNECT_S:g} s"
        return Finding(
            "wrong", f"{name}: can't reach {address.hostname}:{port}: {reason}", "check base_url and network"
        )
    if settings.api_key is None and address.scheme == "https":
        return Finding("note", f"{name}: reachable, but no api_key", f'set providers.{name}.api_key = "env:NAME"')
    return Finding("ok", f"{name}: {address.hostname}:{port} answers")


def _port(config: Config) -> Finding:
    with socket.socket() as probe:
        try:
            probe.bind((config.server.host, config.server.port))
        except OSError:
            return Finding(
                "note",
                f"port {config.server.port} is taken: a gateway runs already, or something else does",
                "choose another with --port",
            )
    free_mb = shutil.disk_usage(".").free // 1_000_000
    return Finding("ok" if free_mb > 500 else "note", f"port {config.server.port} is free, {free_mb} MB of disk too")
