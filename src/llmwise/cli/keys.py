"""`llmwise keys`: make, list and revoke API keys in the database; a running gateway sees it in seconds."""

import time
from typing import Annotated

import typer

from llmwise.cli.failing import ConfigOption, fail, user_errors
from llmwise.config import load
from llmwise.storage.store import OfflineKeys


def create(
    name: Annotated[str, typer.Option("--name", help="Whose key it is; for you to tell keys apart.")],
    config: ConfigOption = None,
    admin: Annotated[bool, typer.Option("--admin", help="May make and revoke keys, and see all usage.")] = False,
) -> None:
    """Make a key. The raw key alone goes to stdout; it is kept nowhere and can't be shown again."""
    with user_errors(), _keys(config) as keys:
        _, raw = keys.create(name, admin, _now_ms())
    typer.echo(raw)


def list_(config: ConfigOption = None) -> None:
    """List the keys, without their secrets."""
    from rich.table import Column, Table

    from llmwise.cli.tables import show

    with user_errors(), _keys(config) as keys:
        rows = keys.list()
    table = Table(
        Column("id", no_wrap=True), "name", Column("key", no_wrap=True), "admin", "made", "last used", "state", box=None
    )
    for row in rows:
        table.add_row(
            row.id,
            row.name,
            f"{row.prefix}…",
            "yes" if row.admin else "",
            _date(row.created_at_ms),
            _date(row.last_used_at_ms),
            "revoked" if row.revoked_at_ms is not None else "works",
        )
    show(table)


def revoke(
    key: Annotated[str, typer.Argument(help="The key's id, its name, or the beginning that `list` shows.")],
    config: ConfigOption = None,
) -> None:
    """Revoke a key. A running gateway refuses it within five seconds."""
    with user_errors(), _keys(config) as keys:
        row = keys.revoke(key.rstrip("…"), _now_ms())
    typer.echo(f"revoked {row.id} ({row.name})", err=True)


def _keys(config: ConfigOption) -> OfflineKeys:
    settings = load(config, secrets=False)
    if not settings.storage.url:
        fail("no database: set [storage] url")
    return OfflineKeys.open(settings.storage.url)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _date(unix_ms: int | None) -> str:
    return "" if unix_ms is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_ms / 1000))
