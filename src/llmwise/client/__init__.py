"""The SDK: a client for the gateway's native API, and a drop-in for the published `llmwise` 0.1.2.

It needs httpx and nothing else of this package; `llmwise` re-exports what is below. The names and
arguments of the published clients are kept, and its defects are mended: an error before a stream is a
typed error and not `httpx.ResponseNotRead`, an error inside it and a stream that is cut are raised,
`Retry-After` is honoured, response headers are within reach, an id can't change the path.
"""

from llmwise.client.asynchronous import AsyncLLMWise, AsyncStream
from llmwise.client.errors import (
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    LLMWiseError,
    NotFoundError,
    OutOfCreditError,
    PermissionDeniedError,
    RateLimitedError,
    StreamCutError,
    TimedOutError,
    TooLargeError,
    UnexpectedAnswerError,
    UnprocessableError,
    UpstreamError,
)
from llmwise.client.shapes import (
    Answer,
    AnswerList,
    ChatAnswer,
    ContentBlock,
    Head,
    Message,
    RoutingConfig,
    StreamEvent,
)
from llmwise.client.sync import LLMWise, Stream

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
]
