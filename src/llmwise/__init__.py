"""llmwise: an open, self-hosted gateway to many models, and the SDK to talk to it.

    import os
    from llmwise import LLMWise

    client = LLMWise(os.environ["LLMWISE_API_KEY"])  # and LLMWISE_BASE_URL=http://localhost:8080
    answer = client.chat(model="auto", messages=[{"role": "user", "content": "Hello"}])
    print(answer["content"])

The names below are loaded from `llmwise.client` on first use: importing the package, which every part of
the gateway does, takes a fraction of a millisecond and not the time of httpx.
"""

# ruff: noqa: F403, F405 (every name but the version is one of llmwise.client's)
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmwise.client import *

    __version__: str

__all__ = [
    "Answer",
    "AnswerList",
    "AsyncLLMWise",
    "AsyncStream",
    "AuthenticationError",
    "BadRequestError",
    "ChatAnswer",
    "ConnectionFailedError",
    "ContentBlock",
    "Head",
    "LLMWise",
    "LLMWiseError",
    "Message",
    "NotFoundError",
    "OutOfCreditError",
    "PermissionDeniedError",
    "RateLimitedError",
    "RoutingConfig",
    "Stream",
    "StreamCutError",
    "StreamEvent",
    "TimedOutError",
    "TooLargeError",
    "UnexpectedAnswerError",
    "UnprocessableError",
    "UpstreamError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'llmwise' has no attribute {name!r}")
    value = _version() if name == "__version__" else getattr(import_module("llmwise.client"), name)
    globals()[name] = value
    return value


def _version() -> str:
    metadata = import_module("importlib.metadata")
    try:
        return str(metadata.version("llmwise"))
    except metadata.PackageNotFoundError:  # a checkout on the path, not installed
        return "0"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
