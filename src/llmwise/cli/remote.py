"""Commands that talk to a running gateway through the SDK: where it is, and what its errors look like."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from llmwise.cli.failing import fail
from llmwise.client import ConnectionFailedError, LLMWise, LLMWiseError, StreamCutError, TimedOutError

DEFAULT_URL = "http://127.0.0.1:8080"

UrlOption = Annotated[
    str, typer.Option("--url", envvar="LLMWISE_BASE_URL", help="The gateway's address.", show_default=True)
]
KeyOption = Annotated[
    str | None, typer.Option("--key", envvar="LLMWISE_API_KEY", help="Your key (mm_sk_...).", show_default=False)
]


@contextmanager
def gateway(url: str, key: str | None) -> Iterator[LLMWise]:
    """A client for the gateway; what it refuses ends the command in one line."""
    if not key:
        fail("no key: set LLMWISE_API_KEY or give --key; `llmwise keys create --name NAME` makes one")
    try:
        with LLMWise(key, base_url=url) as client:
            yield client
    except (StreamCutError, TimedOutError) as error:
        fail(str(error))
    except ConnectionFailedError as error:
        fail(f"no gateway at {url}: {error}; start one with `llmwise serve`, or name another with --url")
    except LLMWiseError as error:
        fail(str(error))
    except UnicodeEncodeError:
        fail("the key holds letters that no key has: it is mm_sk_ and 64 hexadecimal digits")
    except ValueError as error:
        fail(f"{url!r} is no gateway's address ({error}); it looks like {DEFAULT_URL}")
