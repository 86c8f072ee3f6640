"""`llmwise secrets`: master keys, which accounts' own keys of providers are encrypted with."""

import typer

from llmwise.cli.failing import ConfigOption, fail, user_errors
from llmwise.config import load
from llmwise.storage import settings
from llmwise.storage.database import Database
from llmwise.storage.sealing import Sealer, SealingError, new_master


def new() -> None:
    """Make a master key. It goes to stdout and nowhere else; put it where [secrets] keys can name it."""
    try:
        typer.echo(new_master())
    except SealingError as error:
        fail(str(error))


def rotate(config: ConfigOption = None) -> None:
    """Encrypt all provider keys anew, with the first of [secrets] keys. Then the others can go, and gateways that run
    be restarted or reloaded."""
    with user_errors():
        loaded = load(config)
        if not loaded.secrets.keys:
            fail("[secrets] keys names no master key: make one with `llmwise secrets new`")
        database = Database.open(loaded.storage.url)
        database.migrate()
        try:
            count = database.write(settings.reseal, Sealer(loaded.secrets.keys).again)
        except SealingError as error:
            fail(f"{error}; nothing has changed")
        database.close()
    typer.echo(f"{count} provider keys are encrypted with the first of {len(loaded.secrets.keys)} master keys")
