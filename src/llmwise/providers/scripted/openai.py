"""OpenAI Chat Completions, as a server speaks it.

https://platform.openai.com/docs/api-reference/chat and .../chat-streaming (read 2026-11-22). Reasoning goes into
`reasoning_content`, DeepSeek's field that most compatible servers share.
"""

import base64
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from llmwise.domain.events import FinishReason
from llmwise.domain.requests import ResponseFormat, Tool, ToolChoice
from llmwise.domain.usage import TokenUsage
from llmwise.providers.scripted.answers import (
    EMBEDDING_DIMENSIONS,
    FINGERPRINT,
    Answer,
    Call,
    Question,
    argument_pieces,
    pieces,
    roughly_tokens,
    vector,
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

_FINISH: dict[FinishReason, str] = {"unknown": "scripted_unknown"}
_TYPES = {403: "permission_error", 429: "requests", 503: "service_unavailable", 529: "overloaded_error"}
_CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}


class _Part(Struct):
    type: str = "text"
    text: str = ""


class _Message(Struct):
    role: str
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class _Function(Struct):
    name: str
    description: str | None = None
    parameters: JSONObject | None = None


class _Tool(Struct):
    type: str = "function"
    function: _Function | None = None
    custom: _Function | None = None

    @property
    def named(self) -> _Function:
        return self.function or self.custom or _Function(self.type)


class _Name(Struct):
    name: str


class _Choice(Struct):
    type: str = "function"
    function: _Name | None = None
    custom: _Name | None = None


class _Schema(Struct):
    name: str = ""
    schema: JSONObject | None = None


class _Format(Struct):
    type: str
    json_schema: _Schema | None = None


class _StreamOptions(Struct):
    include_usage: bool = False


class _Request(Struct):
    model: str
    messages: list[_Message]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Choice | None = None
    response_format: _Format | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    stop: str | list[str] | None = None


class _EmbeddingRequest(Struct):
    model: str
    input: str | list[str | int | list[int]]
    encoding_format: str = "float"
    dimensions: int | None = None


_decode = msgspec.json.Decoder(_Request).decode
_decode_embeddings = msgspec.json.Decoder(_EmbeddingRequest).decode


class OpenAI:
    """See `Dialect`."""

    name = "openai"
    too_long = Refusal(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
        "Please reduce the length of the messages. (scripted)",
        "context_length_exceeded",
    )

    def question(self, call: HTTPCall) -> Question:
        try:
            request = _decode(call.body)
        except msgspec.MsgspecError as error:
            raise BadRequest(str(error)) from error
        if not request.messages:
            raise BadRequest("Invalid 'messages': empty array. Expected an array with minimum length 1.")
        if request.max_tokens is not None and request.max_completion_tokens is not None:
            raise BadRequest("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
        stop = request.stop
        return Question(
            model=request.model,
            stream=bool(request.stream),
            asked=next((message.text for message in reversed(request.messages) if message.role == "user"), ""),
            input_tokens=sum(roughly_tokens(message.text) for message in request.messages),
            tools=tuple(
                Tool(tool.named.name, tool.named.description, tool.named.parameters) for tool in request.tools or ()
            ),
            tool_choice=_tool_choice(request.tool_choice),
            tool_result=request.messages[-1].role == "tool",
            response_format=_response_format(request.response_format),
            max_tokens=request.max_completion_tokens or request.max_tokens,
            stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            report_usage=request.stream_options is not None and request.stream_options.include_usage,
            custom=frozenset(tool.custom.name for tool in request.tools or () if tool.custom is not None),
            logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        )

    def body(self, question: Question, answer: Answer) -> bytes:
        message: JSONObject = {"role": "assistant", "content": answer.text if not answer.calls else None}
        message["refusal"] = None
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        if answer.calls:
            message["tool_calls"] = [_call(question, call) for call in answer.calls]
        logprobs = _logprobs(question, *pieces(answer.text))
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": _finish(answer)}
        whole = _envelope(answer, "chat.completion") | {"choices": [choice]}
        if answer.usage is not None:
            whole["usage"] = _usage(answer.usage)
        return encoded(whole)

    def frames(self, question: Question, answer: Answer) -> list[Frame]:
        return list(self._frames(question, answer))

    def text_frame(self, question: Question, answer: Answer, text: str) -> Frame:
        return _chunk(question, answer, {"content": text}, content=True, logprobs=_logprobs(question, text))

    def error(self, refusal: Refusal) -> bytes:
        status = refusal.status
        kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        code = refusal.code or _CODES.get(status)
        return encoded(
            {"error": {"message": described(refusal, ERROR_WORDS), "type": kind, "param": None, "code": code}}
        )

    def error_frame(self, refusal: Refusal) -> Frame:
        return Frame(self.error(refusal))

    def models(self, names: Sequence[str]) -> bytes:
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "llmwise-scripted"} for name in names]
        return encoded({"object": "list", "data": rows})

    def _frames(self, question: Question, answer: Answer) -> Iterator[Frame]:
        yield _chunk(question, answer, {"role": "assistant", "content": None if answer.calls else "", "refusal": None})
        for piece in pieces(answer.reasoning):
            yield _chunk(question, answer, {"reasoning_content": piece}, content=True)
        for piece in pieces(answer.text):
            yield self.text_frame(question, answer, piece)
        for index, call in enumerate(answer.calls):
            opening = {"index": index} | _call(question, call, arguments="")
            yield _chunk(question, answer, {"tool_calls": [opening]}, content=True)
            for piece in argument_pieces(call.arguments):
                part = (
                    {"custom": {"input": piece}} if call.name in question.custom else {"function": {"arguments": piece}}
                )
                fragment = {"index": index} | part
                yield _chunk(question, answer, {"tool_calls": [fragment]}, content=True)
        yield _chunk(question, answer, {}, finish=_finish(answer))
        if question.report_usage and answer.usage is not None:
            report = _envelope(answer, "chat.completion.chunk") | {"choices": [], "usage": _usage(answer.usage)}
            yield Frame(encoded(report), closing=True)
        yield Frame(b"[DONE]", closing=True)


def embeddings(call: HTTPCall) -> tuple[str, bytes]:
    """The model's name, and vectors that depend on the text alone, of length 1 and without meaning. Raises
    `BadRequest`."""
    try:
        request = _decode_embeddings(call.body)
    except msgspec.MsgspecError as error:
        raise BadRequest(str(error)) from error
    given = request.input
    inputs: list[Any] = list(given) if isinstance(given, list) and not _is_tokens(given) else [given]
    rows, tokens = [], 0
    for index, text in enumerate(inputs):
        numbers = vector(str(text), request.dimensions or EMBEDDING_DIMENSIONS)
        tokens += roughly_tokens(text) if isinstance(text, str) else len(text)
        packed = request.encoding_format == "base64"
        shown = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode() if packed else numbers
        rows.append({"object": "embedding", "index": index, "embedding": shown})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return request.model, encoded({"object": "list", "data": rows, "model": request.model, "usage": usage})


def _is_tokens(given: Sequence[object]) -> bool:
    return bool(given) and isinstance(given[0], int)


def _tool_choice(choice: str | _Choice | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(choice)
        case _Choice():
            named = choice.function or choice.custom
            return ToolChoice("required") if named is None else ToolChoice("tool", named.name)
        case _:
            raise BadRequest(f"Invalid value: {choice!r}. Supported values are: 'none', 'auto', and 'required'.")


def _response_format(wanted: _Format | None) -> ResponseFormat | None:
    if wanted is None:
        return None
    if wanted.type == "json_schema":
        if wanted.json_schema is None or wanted.json_schema.schema is None:
            raise BadRequest("Missing required parameter: 'response_format.json_schema.schema'.")
        return ResponseFormat("json_schema", wanted.json_schema.schema, wanted.json_schema.name)
    return ResponseFormat("json_object" if wanted.type == "json_object" else "text")


def _envelope(answer: Answer, kind: str) -> JSONObject:
    return {
        "id": answer.id,
        "object": kind,
        "created": answer.created_s,
        "model": answer.model,
        "system_fingerprint": FINGERPRINT,
    }


def _chunk(
    question: Question,
    answer: Answer,
    delta: JSONObject,
    *,
    content: bool = False,
    finish: str | None = None,
    logprobs: JSONObject | None = None,
) -> Frame:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    chunk = _envelope(answer, "chat.completion.chunk") | {"choices": [choice]}
    if question.report_usage:
        chunk["usage"] = None
    return Frame(encoded(chunk), content=content, closing=finish is not None)


def _logprobs(question: Question, *tokens: str) -> JSONObject | None:
    """Made up: the chosen token is the likeliest, each other half as likely as the one before."""
    if question.logprobs is None:
        return None
    content = []
    for token in tokens:
        ranked = [token, *(f"{token}{rank}" for rank in range(1, question.logprobs))]
        top = [{"token": t, "logprob": -0.7 * (rank + 1), "bytes": list(t.encode())} for rank, t in enumerate(ranked)]
        content.append(top[0] | {"top_logprobs": top[: question.logprobs]})
    return {"content": content, "refusal": None}


def _call(question: Question, call: Call, arguments: str | None = None) -> JSONObject:
    shown = call.arguments if arguments is None else arguments
    if call.name in question.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": shown}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": shown}}


def _finish(answer: Answer) -> str:
    return _FINISH.get(answer.finish, answer.finish)


def _usage(usage: TokenUsage) -> JSONObject:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
