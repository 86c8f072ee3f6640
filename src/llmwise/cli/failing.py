"""What a user's mistake looks like: one line on stderr, and exit code 1."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from llmwise.cli.terminal import printable

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="llmwise.toml; default: $LLMWISE_CONFIG, else what the environment names."),
]


def fail(message: str) -> NoReturn:
    """Say what is wrong and end with exit code 1."""
    typer.echo(f"llmwise: {printable(message)}", err=True)
    raise typer.Exit(1)


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn the errors that a user can mend into their message."""
    from llmwise.config import ConfigError
    from llmwise.domain.errors import GatewayError
    from llmwise.storage.errors import StorageUnavailable

    try:
        yield
    except (ConfigError, StorageUnavailable) as error:
        fail(str(error))
    except GatewayError as error:
        fail(error.message)
