"""`llmwise keys`: make, list, rotate and revoke API keys in the database; a running gateway sees it in seconds."""

import re
import time
from datetime import UTC, datetime
from typing import Annotated, cast, get_args

import typer
from msgspec.json import encode

from llmwise.cli.failing import ConfigOption, fail, user_errors
from llmwise.config import load
from llmwise.domain.access import DEFAULT_ACCOUNT, Access, Budget, Period, access_of
from llmwise.domain.money import from_usd, to_usd
from llmwise.domain.records import Mode
from llmwise.storage.rows import KeyRow
from llmwise.storage.store import OfflineKeys

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
MODES: tuple[Mode, ...] = ("chat", "compare", "blend", "judge")

KeyArgument = Annotated[str, typer.Argument(help="The key's id, its name, or the beginning that `list` shows.")]


def create(
    name: Annotated[str, typer.Option("--name", help="Whose key it is; for you to tell keys apart.")],
    config: ConfigOption = None,
    admin: Annotated[bool, typer.Option("--admin", help="May make and revoke keys, and see all usage.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="What a model can't take is refused, not left out with a warning.")
    ] = False,
    account: Annotated[str, typer.Option("--account", help="The account that pays for it.")] = DEFAULT_ACCOUNT,
    models: Annotated[
        str | None, typer.Option("--models", metavar="A,B", help="May ask these models only.", show_default=False)
    ] = None,
    modes: Annotated[
        str | None,
        typer.Option("--modes", metavar="A,B", help=f"Of {', '.join(MODES)} these only.", show_default=False),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="WHEN", help="90s, 30m, 12h, 30d, 8w, or a date: 2027-01-31.", show_default=False
        ),
    ] = None,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", metavar="USD[/PERIOD]", help="Refuse beyond it: 5/day, 20/week, 50/month, 100."),
    ] = None,
    soft_budget: Annotated[
        list[str] | None, typer.Option("--soft-budget", metavar="USD[/PERIOD]", help="Warn beyond it.")
    ] = None,
    rpm: Annotated[int | None, typer.Option("--rpm", min=1, help="Requests a minute, of each mode.")] = None,
    burst: Annotated[int | None, typer.Option("--burst", min=1, help="Requests in 10 s, over all modes.")] = None,
    tpm: Annotated[int | None, typer.Option("--tpm", min=1, help="Tokens a minute.")] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", min=1, help="Requests at the same time.")] = None,
) -> None:
    """Make a key. The raw key alone goes to stdout; it is kept nowhere and can't be shown again."""
    now_ms = _now_ms()
    access = Access(
        models=None if models is None else tuple(_words(models)),
        modes=None if modes is None else tuple([_mode(word) for word in _words(modes)]),
        budgets=(
            *(_budget(text, hard=True) for text in budget or ()),
            *(_budget(text, hard=False) for text in soft_budget or ()),
        ),
        requests_per_minute=rpm,
        burst=burst,
        tokens_per_minute=tpm,
        concurrency=concurrency,
        strict=strict,
    )
    settings = None if access == Access() else encode(access).decode()
    expires_at_ms = None if expires is None else _when(expires, now_ms)
    with user_errors(), _keys(config) as keys:
        _, raw = keys.create(name, admin, now_ms, settings, account_id=account, expires_at_ms=expires_at_ms)
    typer.echo(raw)


def list_(config: ConfigOption = None) -> None:
    """List the keys, without their secrets."""
    from rich.table import Column, Table

    from llmwise.cli.tables import show

    with user_errors(), _keys(config) as keys:
        rows = keys.list()
    now_ms = _now_ms()
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
            _state(row, now_ms),
        )
    show(table)


def show_(key: KeyArgument, config: ConfigOption = None) -> None:
    """Show what a key may do, without its secret."""
    with user_errors(), _keys(config) as keys:
        row = keys.one(key.rstrip("…"))
    access, now_ms = access_of(row.settings), _now_ms()
    grace = row.previous_until_ms is not None and now_ms < row.previous_until_ms
    for name, value in (
        ("id", row.id),
        ("name", row.name),
        ("key", f"{row.prefix}…"),
        ("account", row.account_id),
        ("administrator", "yes" if row.admin else "no"),
        ("state", _state(row, now_ms)),
        ("made", _date(row.created_at_ms)),
        ("expires", _date(row.expires_at_ms) or "never"),
        ("old secret", f"works until {_date(row.previous_until_ms)}" if grace else "none"),
        ("models", "all" if access.models is None else ", ".join(access.models)),
        ("modes", "all" if access.modes is None else ", ".join(access.modes)),
        ("budgets", "; ".join(map(_budget_text, access.budgets)) or "none of its own"),
        ("requests a minute", access.requests_per_minute or "as configured"),
        ("burst in 10 s", access.burst or "as configured"),
        ("tokens a minute", access.tokens_per_minute or "unbounded"),
        ("at the same time", access.concurrency or "unbounded"),
        ("strict", "yes" if access.strict else "no"),
    ):
        typer.echo(f"{name:18} {value}")


def rotate(
    key: KeyArgument,
    config: ConfigOption = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="So long the old secret still works; 0 ends it at once.")
    ] = "24h",
) -> None:
    """Give a key a new secret, which alone goes to stdout. The old one works until the grace period ends."""
    grace_ms = 0 if grace == "0" else _seconds(grace) * 1000
    with user_errors(), _keys(config) as keys:
        row, raw = keys.rotate(key.rstrip("…"), _now_ms(), grace_ms)
    typer.echo(raw)
    until = "works no more" if row.previous_until_ms is None else f"works until {_date(row.previous_until_ms)}"
    typer.echo(f"rotated {row.id} ({row.name}); the old secret {until}", err=True)


def revoke(key: KeyArgument, config: ConfigOption = None) -> None:
    """Revoke a key. A running gateway refuses it within five seconds."""
    with user_errors(), _keys(config) as keys:
        row = keys.revoke(key.rstrip("…"), _now_ms())
    typer.echo(f"revoked {row.id} ({row.name})", err=True)


def _keys(config: ConfigOption) -> OfflineKeys:
    settings = load(config, secrets=False)
    if not settings.storage.url:
        fail("no database: set [storage] url")
    return OfflineKeys.open(settings.storage.url)


def _state(row: KeyRow, now_ms: int) -> str:
    if row.revoked_at_ms is not None:
        return "revoked"
    return "works" if row.works(now_ms, row.hash) else "expired"


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        fail(f"{text!r} names nothing: write names with commas between them")
    return words


def _mode(word: str) -> Mode:
    found = next((mode for mode in MODES if mode == word), None)
    return found or fail(f"--modes {word!r}: there are {', '.join(MODES)}")


def _budget(text: str, *, hard: bool) -> Budget:
    match = re.fullmatch(r"(\d+(?:\.\d{1,9})?)(?:/(\w+))?", text)
    if match is not None and (match[2] or "total") in get_args(Period):
        return Budget(cast("Period", match[2] or "total"), from_usd(match[1]), hard)
    return fail(f"budget {text!r}: write USD and a period, like 5/day, 20/week or 50/month; without one it is in all")


def _budget_text(budget: Budget) -> str:
    period = "in all" if budget.period == "total" else f"a {budget.period}"
    return f"{to_usd(budget.limit_nanousd):g} USD {period}{'' if budget.hard else ' (warns)'}"


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d+)([smhdw])", text)
    if match is None:
        fail(f"{text!r} is no time: write it like 90s, 30m, 12h, 30d or 8w")
    return int(match[1]) * SECONDS[match[2]]


def _when(text: str, now_ms: int) -> int:
    try:
        day = datetime.fromisoformat(text)
    except ValueError:
        return now_ms + _seconds(text) * 1000
    when_ms = int((day if day.tzinfo is not None else day.replace(tzinfo=UTC)).timestamp() * 1000)
    if when_ms <= now_ms:
        fail(f"--expires {text}: is past")
    return when_ms


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _date(unix_ms: int | None) -> str:
    return "" if unix_ms is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_ms / 1000))
