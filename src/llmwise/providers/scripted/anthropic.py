"""Anthropic Messages, as a server speaks it.

https://docs.claude.com/en/api/messages, .../messages-streaming and .../errors (read 2026-11-22). It refuses what the
real one refuses and gateways get wrong: no `max_tokens`, empty text blocks, a forced tool together with thinking.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from llmwise.domain.events import FinishReason
from llmwise.domain.requests import ResponseFormat, Tool, ToolChoice
from llmwise.domain.usage import TokenUsage
from llmwise.providers.scripted.answers import (
    SIGNATURE,
    Answer,
    Question,
    argument_pieces,
    pieces,
    roughly_tokens,
)
from llmwise.providers.scripted.dialect import (
    ERROR_WORDS,
    BadRequest,
    Frame,
    HTTPCall,
    JSONObject,
    Refusal,
    described,
    encoded,
)

_FINISH: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "unknown": "scripted_unknown",
}
_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class _Block(Struct):
    type: str
    text: str | None = None
    content: "str | list[_Block] | None" = None


class _Message(Struct):
    role: str
    content: str | list[_Block]


class _Tool(Struct):
    name: str
    description: str | None = None
    input_schema: JSONObject | None = None


class _Choice(Struct):
    type: str
    name: str | None = None


class _Thinking(Struct):
    type: str


class _Format(Struct):
    type: str
    schema: JSONObject | None = None


class _OutputConfig(Struct):
    format: _Format | None = None


class _Request(Struct):
    model: str
    messages: list[_Message]
    max_tokens: int | None = None
    system: str | list[_Block] | None = None
    stream: bool | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    stop_sequences: list[str] | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None


_decode = msgspec.json.Decoder(_Request).decode
_CHOICES: dict[str, Any] = {"auto": "auto", "any": "required", "none": "none", "tool": "tool"}


class Anthropic:
    """See `Dialect`."""

    name = "anthropic"
    too_long = Refusal(400, "prompt is too long: 210000 tokens > 200000 maximum (scripted)")

    def question(self, call: HTTPCall) -> Question:
        request = self._request(call)
        if request.max_tokens is None:
            raise BadRequest("max_tokens: Field required")
        forced = request.tool_choice is not None and request.tool_choice.type in {"any", "tool"}
        if forced and request.thinking is not None and request.thinking.type != "disabled":
            raise BadRequest("Thinking may not be enabled when tool_choice forces tool use.")
        choice = request.tool_choice
        if choice is not None and choice.type not in _CHOICES:
            raise BadRequest(f"tool_choice: unknown type {choice.type!r}")
        wanted = request.output_config.format if request.output_config is not None else request.output_format
        last = request.messages[-1].content
        return Question(
            model=request.model,
            stream=bool(request.stream),
            asked=next(
                (_text(message.content) for message in reversed(request.messages) if message.role == "user"), ""
            ),
            input_tokens=_input_tokens(request),
            tools=tuple(Tool(tool.name, tool.description, tool.input_schema) for tool in request.tools or ()),
            tool_choice=None if choice is None else ToolChoice(_CHOICES[choice.type], choice.name),
            tool_result=isinstance(last, list) and any(block.type == "tool_result" for block in last),
            response_format=None if wanted is None else ResponseFormat("json_schema", wanted.schema or {}),
            max_tokens=request.max_tokens,
            stop=tuple(request.stop_sequences or ()),
        )

    def count_tokens(self, call: HTTPCall) -> tuple[str, bytes]:
        """The model's name and the answer. Raises `BadRequest`."""
        request = self._request(call)
        return request.model, encoded({"input_tokens": _input_tokens(request)})

    def body(self, question: Question, answer: Answer) -> bytes:
        blocks: list[JSONObject] = []
        if answer.reasoning:
            blocks.append({"type": "thinking", "thinking": answer.reasoning, "signature": SIGNATURE})
        if answer.text:
            blocks.append({"type": "text", "text": answer.text, "citations": None})
        blocks += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": msgspec.Raw(call.arguments.encode())}
            for call in answer.calls
        ]
        message = _message(answer) | {"content": blocks} | _stop(answer)
        if answer.usage is not None:
            message["usage"] = _usage(answer.usage)
        return encoded(message)

    def frames(self, question: Question, answer: Answer) -> list[Frame]:
        return list(self._frames(question, answer))

    def text_frame(self, question: Question, answer: Answer, text: str) -> Frame:
        return _delta(1 if answer.reasoning else 0, {"type": "text_delta", "text": text})

    def error(self, refusal: Refusal) -> bytes:
        status = refusal.status
        kind = refusal.code or _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        inner = {"type": kind, "message": described(refusal, ERROR_WORDS)}
        return encoded({"type": "error", "error": inner, "request_id": "req_scripted"})

    def error_frame(self, refusal: Refusal) -> Frame:
        return Frame(self.error(refusal), "error")

    def models(self, names: Sequence[str]) -> bytes:
        rows = [
            {"type": "model", "id": name, "display_name": f"{name} (scripted)", "created_at": "2026-01-01T00:00:00Z"}
            for name in names
        ]
        ends = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return encoded({"data": rows, "has_more": False} | ends)

    def _request(self, call: HTTPCall) -> _Request:
        if "anthropic-version" not in call.headers:
            raise BadRequest("anthropic-version: header is required")
        try:
            request = _decode(call.body)
        except msgspec.MsgspecError as error:
            raise BadRequest(str(error)) from error
        if not request.messages:
            raise BadRequest("messages: at least one message is required")
        for message in request.messages:
            if _has_empty_text(message.content):
                raise BadRequest("messages: text content blocks must be non-empty")
        return request

    def _frames(self, question: Question, answer: Answer) -> Iterator[Frame]:
        opening = _message(answer) | {"content": [], "stop_reason": None, "stop_sequence": None}
        if answer.usage is not None:
            opening["usage"] = _usage(answer.usage) | {"output_tokens": 1}
        yield _event("message_start", {"message": opening})
        yield _event("ping", {})
        index = 0
        if answer.reasoning:
            yield _event(
                "content_block_start",
                {"index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
            )
            for piece in pieces(answer.reasoning):
                yield _delta(0, {"type": "thinking_delta", "thinking": piece})
            yield _delta(0, {"type": "signature_delta", "signature": SIGNATURE})
            yield _event("content_block_stop", {"index": 0})
            index = 1
        if answer.text:
            yield _event("content_block_start", {"index": index, "content_block": {"type": "text", "text": ""}})
            for piece in pieces(answer.text):
                yield self.text_frame(question, answer, piece)
            yield _event("content_block_stop", {"index": index})
            index += 1
        for number, call in enumerate(answer.calls, index):
            block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            yield _event("content_block_start", {"index": number, "content_block": block}, content=True)
            for piece in argument_pieces(call.arguments):
                yield _delta(number, {"type": "input_json_delta", "partial_json": piece})
            yield _event("content_block_stop", {"index": number})
        ending: JSONObject = {"delta": _stop(answer)}
        if answer.usage is not None:
            ending["usage"] = {"output_tokens": answer.usage.output}
        yield _event("message_delta", ending, closing=True)
        yield _event("message_stop", {}, closing=True)


def _text(content: str | list[_Block] | None) -> str:
    """All text, also inside a tool's results."""
    if not isinstance(content, list):
        return content or ""
    return "\n".join(text for block in content if (text := block.text or _text(block.content)))


def _has_empty_text(content: str | list[_Block] | None) -> bool:
    if not isinstance(content, list):
        return False
    return any((block.type == "text" and not block.text) or _has_empty_text(block.content) for block in content)


def _input_tokens(request: _Request) -> int:
    texts = [_text(request.system), *(_text(message.content) for message in request.messages)]
    return sum(roughly_tokens(text) for text in texts)


def _message(answer: Answer) -> JSONObject:
    return {"id": answer.id, "type": "message", "role": "assistant", "model": answer.model}


def _stop(answer: Answer) -> JSONObject:
    reason = "stop_sequence" if answer.stop_sequence is not None else _FINISH[answer.finish]
    return {"stop_reason": reason, "stop_sequence": answer.stop_sequence}


def _event(name: str, fields: JSONObject, *, content: bool = False, closing: bool = False) -> Frame:
    return Frame(encoded({"type": name} | fields), name, content, closing)


def _delta(index: int, delta: JSONObject) -> Frame:
    return _event("content_block_delta", {"index": index, "delta": delta}, content=True)


def _usage(usage: TokenUsage) -> JSONObject:
    """Cached tokens beside `input_tokens`, not inside."""
    return {
        "input_tokens": usage.input,
        "cache_read_input_tokens": usage.cache_read,
        "cache_creation_input_tokens": usage.cache_write_5m + usage.cache_write_1h,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        },
        "output_tokens": usage.output,
        "service_tier": "standard",
    }
