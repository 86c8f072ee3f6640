"""OpenAI's batch files: what was asked (input) and what came of it (output and error file), paired by `custom_id`.

https://platform.openai.com/docs/guides/batch (read 2026-11-22). An input line has no time, no id of its own and cost
nothing until it was answered: it only adds its question to the output's request. A `custom_id` is unique within one
batch alone, so that files are paired within one import: give both. Batches cost half the list price.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from llmwise.domain.usage import TokenUsage
from llmwise.insights.audit.drafts import Malformed, RequestDraft, count, moment, part
from llmwise.insights.audit.messages import needs_in, prompt_of

SOURCE = "openai-batch"
MOST_WAITING = 200_000
"""Questions held until their answer comes; a batch has at most 50,000. Older ones are let go."""


class Asked(Struct):
    """An input line."""

    custom_id: str
    body: dict[str, Any]
    method: str | None = None
    url: str | None = None


class Details(Struct):
    cached_tokens: Any = None


class Usage(Struct):
    """Of chat completions (`prompt_tokens`), or of responses (`input_tokens`)."""

    prompt_tokens: Any = None
    completion_tokens: Any = None
    input_tokens: Any = None
    output_tokens: Any = None
    prompt_tokens_details: Details | None = None
    input_tokens_details: Details | None = None


class Body(Struct):
    id: str | None = None
    model: str | None = None
    created: float | None = None
    created_at: float | None = None
    usage: Usage | None = None


class Response(Struct):
    status_code: int = 0
    body: Body | None = None


class Line(Struct):
    """A line of the input (`body`), or of the output or error file (`id`, `response`, `error`)."""

    custom_id: str
    id: str | None = None
    body: dict[str, Any] | None = None
    response: Response | None = None
    error: Any = None


class Pairing:
    """The questions that wait for their answer, across the files of one import."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str | None, str | None, str | None]] = {}
        self.unanswered = 0

    def line(self, value: Line) -> Iterator[RequestDraft]:
        if value.body is not None and value.response is None:
            self._ask(value.custom_id, value.body)
            return
        if value.id is None:
            raise Malformed("id: an output line has one")
        yield self._answer(value.id, value.custom_id, value.response)

    def end(self) -> int:
        """How many questions no line answered."""
        return self.unanswered + len(self._waiting)

    def _ask(self, custom_id: str, body: dict[str, Any]) -> None:
        if len(self._waiting) >= MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]
            self.unanswered += 1
        model = body.get("model")
        self._waiting[custom_id] = (prompt_of(body), needs_in(body), model if isinstance(model, str) else None)

    def _answer(self, id: str, custom_id: str, response: Response | None) -> RequestDraft:
        prompt, needs, asked_model = self._waiting.pop(custom_id, (None, None, None))
        body = (response and response.body) or Body()
        usage = body.usage or Usage()
        details = usage.prompt_tokens_details or usage.input_tokens_details or Details()
        whole = count(usage.input_tokens if usage.prompt_tokens is None else usage.prompt_tokens, "prompt_tokens")
        output = usage.output_tokens if usage.completion_tokens is None else usage.completion_tokens
        read = count(details.cached_tokens, "cached_tokens")
        at = body.created or body.created_at
        if at is None:
            raise Malformed("no response.body.created: a request without an answer has no time and cost nothing")
        return RequestDraft(
            SOURCE,
            id,
            moment(at, "created"),
            body.model or asked_model,
            TokenUsage(
                input=part(whole, read, "cached_tokens"), cache_read=read, output=count(output, "completion_tokens")
            ),
            external_id=body.id or id,
            provider="openai",
            failed=response is None or response.status_code >= 400,
            half=True,
            prompt=prompt,
            needs=needs,
        )
