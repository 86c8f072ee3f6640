"""The command table. Only the module of the command that is called is imported, so that `serve` starts at once."""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

COMMANDS = (
    "serve",
    "quickstart",
    "mock",
    "conformance",
    "chat",
    "compare",
    "blend",
    "judge",
    "models",
    "explain",
    "doctor",
)
POLICY = {
    "show": "show",
    "report": "report",
    "propose": "propose",
    "list": "list_",
    "try": "try_",
    "trial": "trial",
    "end": "end",
    "adopt": "adopt",
    "return": "give_back",
    "replay": "replay",
    "alerts": "alerts",
}
SUITE = {"list": "list_", "templates": "templates", "create": "create", "run": "run", "runs": "runs", "csv": "csv"}
AUDIT = {"import": "import_", "report": "report", "remove": "remove"}
DB = ("migrate", "check", "backup", "restore")
SECRETS = ("new", "rotate")
KEYS = {"create": "create", "list": "list_", "show": "show_", "rotate": "rotate", "revoke": "revoke"}
MISSING = "the gateway's parts are not installed; run: pip install 'llmwise[gateway]'"


def main() -> None:
    """The `llmwise` command. A user's mistake ends in one line and exit code 1 or 2, never in a traceback."""
    try:
        import typer  # noqa: F401  # only to say what is missing
    except ModuleNotFoundError:
        sys.exit(f"llmwise: {MISSING}")
    app()()


def app() -> Any:
    """The Typer application."""
    import typer

    table = typer.Typer(
        name="llmwise",
        help="One endpoint in front of every model: an open, self-hosted LLM gateway.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # help texts name [sections], which are no markup
    )

    @table.callback(invoke_without_command=True)
    def root(
        show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    ) -> None:
        if show_version:
            print(f"llmwise {version('llmwise')}")
            raise typer.Exit

    groups = ("keys", "secrets", "db", "audit", "catalog", "policy", "suite")
    called = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in (*COMMANDS, *groups) else None
    for name in COMMANDS:
        if called in (None, name):
            table.command(name)(_command(name, name))
    if called in (None, "keys"):
        keys = typer.Typer(help="API keys: made, rotated and revoked in the database, also while the gateway runs.")
        for name, function in KEYS.items():
            keys.command(name)(_command("keys", function))
        table.add_typer(keys, name="keys", no_args_is_help=True)
    if called in (None, "policy"):
        policy = typer.Typer(help="Policies learned from the logs: propose, try, adopt, return; on a running gateway.")
        for name, function in POLICY.items():
            policy.command(name)(_command("policy", function))
        table.add_typer(policy, name="policy", no_args_is_help=True)
    if called in (None, "suite"):
        suite = typer.Typer(help="Test suites over several models; on a running gateway.")
        for name, function in SUITE.items():
            suite.command(name)(_command("suite", function))
        table.add_typer(suite, name="suite", no_args_is_help=True)
    if called in (None, "audit"):
        audit = typer.Typer(
            help="What you spend on models, from exports and from the gateway; what routing would save."
        )
        for name, function in AUDIT.items():
            audit.command(name)(_command("audit", function))
        table.add_typer(audit, name="audit", no_args_is_help=True)
    if called in (None, "catalog"):
        catalog = typer.Typer(help="Models and prices: what newer prices change, and what they mean for your policies.")
        catalog.command("update")(_command("catalog", "update"))
        catalog.callback()(lambda: None)  # with a single command Typer would leave its name out
        table.add_typer(catalog, name="catalog", no_args_is_help=True)
    if called in (None, "secrets"):
        secrets = typer.Typer(help="Master keys, which accounts' keys of providers are encrypted with.")
        for name in SECRETS:
            secrets.command(name)(_command("secrets", name))
        table.add_typer(secrets, name="secrets", no_args_is_help=True)
    if called in (None, "db"):
        db = typer.Typer(help="The database: schema, health, backup and restore, on SQLite and PostgreSQL.")
        for name in DB:
            db.command(name)(_command("db", name))
        table.add_typer(db, name="db", no_args_is_help=True)
    return table


def _command(module: str, name: str) -> Callable[..., Any]:
    return getattr(import_module(f"llmwise.cli.{module}"), name)  # type: ignore[no-any-return]  # by the table above
