"""The values that cross the SDK's border: what a caller passes in, and what comes back.

Answers and events are real `dict`s and `list`s of plain JSON, typed `dict[str, Any]`, because code
written for the published clients annotates them so. `ChatAnswer` and `StreamEvent` describe the keys;
`cast` to them where an editor's help is wanted. They are not the declared return types: every key of an
event is optional, so a type checker would refuse `event["delta"]` in the loop that the guides show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

import httpx

JsonDict: TypeAlias = dict[str, Any]

Role = Literal["system", "user", "assistant", "tool"]


class TextBlock(TypedDict):
    type: Literal["text"]
    text: str


class ImageUrl(TypedDict):
    url: str
    """`https://...`, or a `data:` URL with the image's bytes in base64."""


class ImageBlock(TypedDict):
    type: Literal["image_url"]
    image_url: ImageUrl


ContentBlock: TypeAlias = TextBlock | ImageBlock
MessageContent: TypeAlias = str | list[ContentBlock]


class Message(TypedDict):
    role: Role
    content: MessageContent | None
    """None only beside `tool_calls`."""
    name: NotRequired[str]
    tool_calls: NotRequired[list[JsonDict]]
    """On an assistant's turn: the calls it asked for, in OpenAI's shape."""
    tool_call_id: NotRequired[str]
    """On a tool's turn: the call that it answers."""


MessageLike: TypeAlias = Message | Mapping[str, Any]


class RoutingConfig(TypedDict, total=False):
    fallback: list[str]
    """Models to try after `model`, in order; at most eight."""
    strategy: str
    """`rate-limit` (default), `latency`, `cost` or `round-robin`."""


RoutingLike: TypeAlias = RoutingConfig | Mapping[str, Any]


class Loss(TypedDict):
    """Something the target could not take, or that came back changed: `code` is stable, `field` names what."""

    code: str
    field: str
    message: str


class ChatAnswer(TypedDict, total=False):
    """The keys of `chat()`'s answer."""

    id: str
    model: str
    content: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """The part of `prompt_tokens` that the provider read from its cache."""
    reasoning_tokens: int
    latency_ms: float
    ttft_ms: float
    """From the request to the first token."""
    cost: float
    """In US dollars, what the provider takes."""
    credits_charged: float
    """100 credits are one US dollar."""
    credits_remaining: float
    finish_reason: str | None
    mode: str
    provider: str
    conversation_id: str | None
    resolved_model: str
    """The model that answered, when it isn't the requested one."""
    auto_strategy: str | None
    optimization_goal: str | None
    tool_calls: list[JsonDict]
    trace: list[JsonDict]
    """One entry per attempt, in order."""
    auto: JsonDict
    warnings: list[Loss]


class StreamEvent(TypedDict, total=False):
    """The keys of a stream's events.

    A piece of text has `delta` and `model`. Everything else is named by `event`: `route`, `trace`,
    `summary`, `source`, `synthesizing`, `verdict`, `error`, and at the end `done`.
    """

    event: str
    model: str
    delta: str
    done: bool
    """True on a model's last chunk, which carries its numbers."""
    status: str
    """Of a `route` event: `trying`, `failed`, `skipped` or `success`."""
    reason: str
    error: str
    code: str
    status_code: int
    refunded: bool
    latency_ms: float
    ttft_ms: float
    content_length: int
    prompt_tokens: int
    completion_tokens: int
    tokens_per_second: float
    cost: float
    finish_reason: str | None
    credits_charged: float
    credits_remaining: float
    byok: bool
    conversation_id: str | None
    resolved_model: str
    auto_strategy: str | None
    optimization_goal: str | None
    final_model: str | None
    attempts: int
    trace: list[JsonDict]
    saved_ms: float
    terminal_error: str | None


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of the HTTP response that an answer or a stream came in."""

    status_code: int
    headers: httpx.Headers

    @property
    def request_id(self) -> str | None:
        """The gateway's id of the request, to be quoted in a report; None from a server without one."""
        request_id: str | None = self.headers.get("x-request-id")
        return request_id


class _Headed:
    head: Head

    @property
    def status_code(self) -> int:
        return self.head.status_code

    @property
    def headers(self) -> httpx.Headers:
        return self.head.headers

    @property
    def request_id(self) -> str | None:
        return self.head.request_id


class Answer(_Headed, JsonDict):
    """An answer that is a JSON object: a `dict` that also knows its response.

    `answer["content"]` is the body; `answer.headers`, `answer.status_code` and `answer.request_id` are
    the response's. They belong to this answer alone, so threads that share a client don't mix them up.
    """

    def __init__(self, body: JsonDict, head: Head) -> None:
        super().__init__(body)
        self.head = head


class AnswerList(_Headed, list[JsonDict]):
    """An answer that is a JSON array: a `list` that also knows its response, as `Answer` does."""

    def __init__(self, body: list[JsonDict], head: Head) -> None:
        super().__init__(body)
        self.head = head
