"""Gemini `generateContent` and `streamGenerateContent`, as a server speaks them.

https://ai.google.dev/api/generate-content (read 2026-11-22). Streams are served as server-sent events only (`alt=sse`).
Schemas in the OpenAPI dialect (`parameters`, `responseSchema`) with words that Gemini does not know are refused.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from llmwise.domain.events import FinishReason
from llmwise.domain.requests import ResponseFormat, Tool, ToolChoice
from llmwise.domain.usage import TokenUsage
from llmwise.providers.scripted.answers import (
    EMBEDDING_DIMENSIONS,
    SIGNATURE,
    Answer,
    Call,
    Question,
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

_FINISH: dict[FinishReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "unknown": "SCRIPTED_UNKNOWN",
}
_STATUS = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_UNKNOWN_WORDS = ("$schema", "$ref", "$defs", "additionalProperties", "const")
_MODES: dict[str, Any] = {"AUTO": "auto", "ANY": "required", "NONE": "none", "VALIDATED": "auto"}


class _Response(Struct):
    name: str = ""


class _Part(Struct, rename="camel"):
    text: str | None = None
    function_call: _Response | None = None
    function_response: _Response | None = None


class _Content(Struct):
    parts: list[_Part] = []
    role: str | None = None


class _Function(Struct, rename="camel"):
    name: str
    description: str | None = None
    parameters: JSONObject | None = None
    parameters_json_schema: JSONObject | None = None


class _Tool(Struct, rename="camel"):
    function_declarations: list[_Function] | None = None


class _FunctionCalling(Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class _ToolConfig(Struct, rename="camel"):
    function_calling_config: _FunctionCalling | None = None


class _Generation(Struct, rename="camel"):
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    response_mime_type: str | None = None
    response_schema: JSONObject | None = None
    response_json_schema: JSONObject | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None


class _Request(Struct, rename="camel"):
    contents: list[_Content]
    system_instruction: _Content | None = None
    tools: list[_Tool] | None = None
    tool_config: _ToolConfig | None = None
    generation_config: _Generation | None = None


class _EmbedContent(Struct, rename="camel"):
    content: _Content
    output_dimensionality: int | None = None


class _Batch(Struct):
    requests: list[_EmbedContent]


_decode = msgspec.json.Decoder(_Request).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode


class Gemini:
    """See `Dialect`."""

    name = "gemini"
    too_long = Refusal(
        400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576). (scripted)"
    )

    def question(self, call: HTTPCall) -> Question:
        request = self._request(call)
        if call.stream and call.query.get("alt") != "sse":
            raise BadRequest("the scripted server streams only with ?alt=sse")
        generation = request.generation_config or _Generation()
        functions = [function for tool in request.tools or () for function in tool.function_declarations or ()]
        for schema in (generation.response_schema, *(function.parameters for function in functions)):
            _refuse_unknown_words(schema)
        return Question(
            model=call.model or "",
            stream=call.stream,
            asked=next((_text(c) for c in reversed(request.contents) if c.role in {None, "user"} and _text(c)), ""),
            input_tokens=_input_tokens(request),
            tools=tuple(
                Tool(function.name, function.description, function.parameters_json_schema or function.parameters)
                for function in functions
            ),
            tool_choice=_tool_choice(request.tool_config),
            tool_result=any(part.function_response is not None for part in request.contents[-1].parts),
            response_format=_response_format(generation),
            max_tokens=generation.max_output_tokens,
            stop=tuple(generation.stop_sequences or ()),
            logprobs=(generation.logprobs or 0) if generation.response_logprobs else None,
        )

    def count_tokens(self, call: HTTPCall) -> tuple[str, bytes]:
        """The model's name and the answer. Raises `BadRequest`."""
        return call.model or "", encoded({"totalTokens": _input_tokens(self._request(call))})

    def embeddings(self, call: HTTPCall) -> tuple[str, bytes]:
        """The model's name and the answer. Raises `BadRequest`."""
        try:
            batch = _decode_batch(call.body)
        except msgspec.MsgspecError as error:
            raise BadRequest(str(error)) from error
        rows = [
            {"values": vector(_text(one.content), one.output_dimensionality or EMBEDDING_DIMENSIONS)}
            for one in batch.requests
        ]
        tokens = sum(roughly_tokens(_text(one.content)) for one in batch.requests)
        return call.model or "", encoded({"embeddings": rows, "usageMetadata": {"promptTokenCount": tokens}})

    def body(self, question: Question, answer: Answer) -> bytes:
        parts: list[JSONObject] = []
        if answer.reasoning:
            parts.append({"text": answer.reasoning, "thought": True})
        if answer.text or not answer.calls:
            parts.append({"text": answer.text})
        parts += [_call(call, signed=not number and bool(answer.reasoning)) for number, call in enumerate(answer.calls)]
        logprobs = _logprobs(question, *pieces(answer.text))
        return _chunk(answer, parts, finish=True, usage=answer.usage, logprobs=logprobs)

    def frames(self, question: Question, answer: Answer) -> list[Frame]:
        return list(self._frames(question, answer))

    def text_frame(self, question: Question, answer: Answer, text: str) -> Frame:
        return Frame(_chunk(answer, [{"text": text}], logprobs=_logprobs(question, text)), content=True)

    def error(self, refusal: Refusal) -> bytes:
        status = refusal.status
        word = refusal.code or _STATUS.get(status, "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
        inner: JSONObject = {"code": status, "message": described(refusal, ERROR_WORDS), "status": word}
        if refusal.retry_after_s is not None:
            delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{refusal.retry_after_s:g}s"}
            inner["details"] = [delay]
        return encoded({"error": inner})

    def error_frame(self, refusal: Refusal) -> Frame:
        return Frame(self.error(refusal))

    def models(self, names: Sequence[str]) -> bytes:
        methods = ["generateContent", "streamGenerateContent", "countTokens"]
        rows = [
            {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods} for name in names
        ]
        return encoded({"models": rows})

    def _request(self, call: HTTPCall) -> _Request:
        try:
            request = _decode(call.body)
        except msgspec.MsgspecError as error:
            raise BadRequest(str(error)) from error
        if not request.contents:
            raise BadRequest("* GenerateContentRequest.contents: contents is not specified")
        for asked, answered in zip(request.contents, request.contents[1:], strict=False):
            calls = sum(part.function_call is not None for part in asked.parts)
            responses = sum(part.function_response is not None for part in answered.parts)
            if calls != responses and (calls or responses):
                raise BadRequest(
                    "Please ensure that the number of function response parts is equal to the number of function call "
                    "parts of the function call turn."
                )
        return request

    def _frames(self, question: Question, answer: Answer) -> Iterator[Frame]:
        for piece in pieces(answer.reasoning):
            yield Frame(_chunk(answer, [{"text": piece, "thought": True}]), content=True)
        for piece in pieces(answer.text):
            yield self.text_frame(question, answer, piece)
        for number, call in enumerate(answer.calls):
            part = _call(call, signed=not number and bool(answer.reasoning))
            yield Frame(_chunk(answer, [part]), content=True)
        yield Frame(_chunk(answer, [{"text": ""}], finish=True, usage=answer.usage), closing=True)


def _text(content: _Content | None) -> str:
    return "" if content is None else "\n".join(part.text for part in content.parts if part.text)


def _input_tokens(request: _Request) -> int:
    return sum(roughly_tokens(_text(content)) for content in (request.system_instruction, *request.contents))


def _refuse_unknown_words(schema: object) -> None:
    """Words count where a schema stands, not as names of properties."""
    if isinstance(schema, list):
        for item in schema:
            _refuse_unknown_words(item)
    if not isinstance(schema, dict):
        return
    for word in _UNKNOWN_WORDS:
        if word in schema:
            raise BadRequest(f'Invalid JSON payload received. Unknown name "{word}" in a schema: Cannot find field.')
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            for property_ in value.values():
                _refuse_unknown_words(property_)
        elif key in {"items", "anyOf", "prefixItems"}:
            _refuse_unknown_words(value)


def _tool_choice(config: _ToolConfig | None) -> ToolChoice | None:
    calling = None if config is None else config.function_calling_config
    if calling is None or calling.mode is None:
        return None
    if calling.mode not in _MODES:
        raise BadRequest(f"Invalid value at 'tool_config.function_calling_config.mode': {calling.mode!r}")
    if calling.mode == "ANY" and calling.allowed_function_names:
        return ToolChoice("tool", calling.allowed_function_names[0])
    return ToolChoice(_MODES[calling.mode])


def _response_format(generation: _Generation) -> ResponseFormat | None:
    schema = generation.response_json_schema or generation.response_schema
    if schema is not None:
        return ResponseFormat("json_schema", schema)
    return ResponseFormat("json_object") if generation.response_mime_type == "application/json" else None


def _call(call: Call, *, signed: bool) -> JSONObject:
    """No id: Gemini gives none, and tells calls apart by their order. After thinking the first of a turn is signed."""
    part: JSONObject = {"functionCall": {"name": call.name, "args": msgspec.Raw(call.arguments.encode())}}
    return {**part, "thoughtSignature": SIGNATURE} if signed else part


def _logprobs(question: Question, *tokens: str) -> JSONObject | None:
    """Made up: the chosen token is the likeliest, each other half as likely as the one before."""
    if question.logprobs is None:
        return None
    chosen, top = [], []
    for token in tokens:
        ranked = [token, *(f"{token}{rank}" for rank in range(1, question.logprobs))]
        rows = [{"token": t, "tokenId": rank, "logProbability": -0.7 * (rank + 1)} for rank, t in enumerate(ranked)]
        chosen.append(rows[0])
        top.append({"candidates": rows[: question.logprobs]})
    return {"chosenCandidates": chosen, "topCandidates": top}


def _chunk(
    answer: Answer,
    parts: list[JSONObject],
    *,
    finish: bool = False,
    usage: TokenUsage | None = None,
    logprobs: JSONObject | None = None,
) -> bytes:
    candidate: JSONObject = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if logprobs is not None:
        candidate["logprobsResult"] = logprobs
    if finish:
        candidate["finishReason"] = _FINISH[answer.finish]
    chunk: JSONObject = {"candidates": [candidate], "modelVersion": answer.model, "responseId": answer.id}
    if usage is not None:
        chunk["usageMetadata"] = _usage(usage)
    return encoded(chunk)


def _usage(usage: TokenUsage) -> JSONObject:
    """Thoughts beside the candidates' tokens, cached tokens inside the prompt's."""
    return {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.output - usage.reasoning,
        "totalTokenCount": usage.total,
        "cachedContentTokenCount": usage.cache_read,
        "thoughtsTokenCount": usage.reasoning,
    }
