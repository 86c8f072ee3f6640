"""OpenAI's Responses API, as a server speaks it.

https://platform.openai.com/docs/api-reference/responses and .../responses-streaming (read 2026-11-22). Reasoning is an
item with a summary and, in place of encrypted content, a fixed word.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from llmwise.domain.requests import ResponseFormat, Tool, ToolChoice
from llmwise.domain.usage import TokenUsage
from llmwise.providers.scripted.answers import (
    SIGNATURE,
    Answer,
    Call,
    Question,
    argument_pieces,
    pieces,
    roughly_tokens,
)
from llmwise.providers.scripted.dialect import BadRequest, Frame, HTTPCall, JSONObject, Refusal, encoded
from llmwise.providers.scripted.openai import OpenAI

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_CODES = {429: "rate_limit_exceeded"}


class _Part(Struct):
    type: str = "input_text"
    text: str = ""


class _Item(Struct):
    type: str | None = None
    role: str | None = None
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""


class _Tool(Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: JSONObject | None = None


class _Choice(Struct):
    type: str
    name: str | None = None


class _Format(Struct):
    type: str = "text"
    name: str | None = None
    schema: JSONObject | None = None


class _Text(Struct):
    format: _Format | None = None


class _Request(Struct):
    model: str
    input: str | list[_Item]
    instructions: str | None = None
    stream: bool | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _Choice | None = None
    text: _Text | None = None
    max_output_tokens: int | None = None
    store: bool | None = None
    previous_response_id: str | None = None


_decode = msgspec.json.Decoder(_Request).decode


class Responses(OpenAI):
    """See `Dialect`. Errors and the list of models are those of OpenAI's other format."""

    name = "responses"

    def question(self, call: HTTPCall) -> Question:
        try:
            request = _decode(call.body)
        except msgspec.MsgspecError as error:
            raise BadRequest(str(error)) from error
        if request.max_output_tokens is not None and request.max_output_tokens < 16:
            raise BadRequest("Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16.")
        items = [_Item(role="user", content=request.input)] if isinstance(request.input, str) else request.input
        if not items:
            raise BadRequest("Invalid 'input': empty array. Expected an array with minimum length 1.")
        prompt = [request.instructions or "", *(item.text for item in items)]
        return Question(
            model=request.model,
            stream=bool(request.stream),
            asked=next((item.text for item in reversed(items) if item.role == "user"), ""),
            input_tokens=sum(roughly_tokens(text) for text in prompt),
            tools=tuple(
                Tool(tool.name, tool.description, tool.parameters)
                for tool in request.tools or ()
                if tool.type == "function" and tool.name is not None
            ),
            tool_choice=_tool_choice(request.tool_choice),
            tool_result=items[-1].type == "function_call_output",
            response_format=_response_format(request.text.format if request.text is not None else None),
            max_tokens=request.max_output_tokens,
        )

    def body(self, question: Question, answer: Answer) -> bytes:
        return encoded(_response(answer, _items(answer), _status(answer)))

    def frames(self, question: Question, answer: Answer) -> list[Frame]:
        numbered = enumerate(_frames(answer))
        return [_frame(fields | {"sequence_number": n}, content, closing) for n, (fields, content, closing) in numbered]

    def text_frame(self, question: Question, answer: Answer, text: str) -> Frame:
        index = 1 if answer.reasoning else 0
        place = {"item_id": f"msg_{answer.id}", "output_index": index, "content_index": 0}
        delta = {"type": "response.output_text.delta", **place, "delta": text, "logprobs": [], "sequence_number": 0}
        return _frame(delta, content=True)

    def error_frame(self, refusal: Refusal) -> Frame:
        error: Any = msgspec.json.decode(self.error(refusal))["error"]
        if refusal.status in _CODES or refusal.status >= 500:
            error["code"] = _CODES.get(refusal.status, error["code"])
        return _frame({"type": "error", "sequence_number": 0, "error": error})

    def models(self, names: Sequence[str]) -> bytes:
        return super().models(names)


def reasoning_item(answer: Answer) -> JSONObject:
    """The thinking of an answer, which goes back as it is."""
    summary = [{"type": "summary_text", "text": answer.reasoning}]
    return {"id": f"rs_{answer.id}", "type": "reasoning", "summary": summary, "encrypted_content": SIGNATURE}


def _frame(fields: JSONObject, content: bool = False, closing: bool = False) -> Frame:
    return Frame(encoded(fields), fields["type"], content, closing)


def _frames(answer: Answer) -> Iterator[tuple[JSONObject, bool, bool]]:
    """Each event without its number, whether it holds content, and whether it closes the answer."""
    started = _response(answer, [], "in_progress")
    yield {"type": "response.created", "response": started}, False, False
    yield {"type": "response.in_progress", "response": started}, False, False
    items = _items(answer)
    for index, item in enumerate(items):
        place = {"item_id": item["id"], "output_index": index}
        opening = {"type": "response.output_item.added", "output_index": index}
        closing = False
        match item["type"]:
            case "reasoning":
                yield opening | {"item": item | {"summary": []}}, False, False
                yield from _summary(answer.reasoning, place | {"summary_index": 0})
            case "message":
                closing = not answer.calls
                yield opening | {"item": item | {"status": "in_progress", "content": []}}, False, False
                yield from _said(answer.text, place | {"content_index": 0}, closing)
            case _:
                closing = index == len(items) - 1
                yield opening | {"item": item | {"status": "in_progress", "arguments": ""}}, False, False
                yield from _called(item, place, closing)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}, False, closing
    status = _status(answer)
    yield {"type": f"response.{status}", "response": _response(answer, items, status)}, False, True


def _summary(text: str, place: JSONObject) -> Iterator[tuple[JSONObject, bool, bool]]:
    kind = "response.reasoning_summary"
    part = {"type": "summary_text", "text": text}
    yield {"type": f"{kind}_part.added", **place, "part": part | {"text": ""}}, False, False
    for piece in pieces(text):
        yield {"type": f"{kind}_text.delta", **place, "delta": piece}, True, False
    yield {"type": f"{kind}_text.done", **place, "text": text}, False, False
    yield {"type": f"{kind}_part.done", **place, "part": part}, False, False


def _said(text: str, place: JSONObject, closing: bool) -> Iterator[tuple[JSONObject, bool, bool]]:
    part = _text_part(text)
    yield {"type": "response.content_part.added", **place, "part": part | {"text": ""}}, False, False
    for piece in pieces(text):
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}, True, False
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}, False, closing
    yield {"type": "response.content_part.done", **place, "part": part}, False, closing


def _called(item: JSONObject, place: JSONObject, closing: bool) -> Iterator[tuple[JSONObject, bool, bool]]:
    kind = "response.function_call_arguments"
    for piece in argument_pieces(item["arguments"]):
        yield {"type": f"{kind}.delta", **place, "delta": piece}, True, False
    whole = {"name": item["name"], "arguments": item["arguments"]}
    yield {"type": f"{kind}.done", **place, **whole}, False, closing


def _items(answer: Answer) -> list[JSONObject]:
    items: list[JSONObject] = []
    if answer.reasoning:
        items.append(reasoning_item(answer))
    if answer.text or not answer.calls:
        status = "incomplete" if _status(answer) == "incomplete" else "completed"
        message = {"role": "assistant", "status": status, "content": [_text_part(answer.text)]}
        items.append({"id": f"msg_{answer.id}", "type": "message", **message})
    return items + [_call(call) for call in answer.calls]


def _text_part(text: str) -> JSONObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _call(call: Call) -> JSONObject:
    said = {"call_id": call.id, "name": call.name, "arguments": call.arguments, "status": "completed"}
    return {"id": f"fc_{call.id}", "type": "function_call", **said}


def _status(answer: Answer) -> str:
    return "incomplete" if answer.finish in _INCOMPLETE or answer.finish == "unknown" else "completed"


def _response(answer: Answer, items: list[JSONObject], status: str) -> JSONObject:
    incomplete = {"reason": _INCOMPLETE.get(answer.finish, "scripted_unknown")} if status == "incomplete" else None
    usage = None if status == "in_progress" or answer.usage is None else _usage(answer.usage)
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": answer.created_s,
        "status": status,
        "error": None,
        "incomplete_details": incomplete,
        "instructions": None,
        "metadata": {},
        "model": answer.model,
        "output": items,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    }


def _usage(usage: TokenUsage) -> JSONObject:
    written = usage.cache_write_5m + usage.cache_write_1h
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": written},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }


def _tool_choice(choice: str | _Choice | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(choice)
        case _Choice(type="function", name=str() as name):
            return ToolChoice("tool", name)
        case _Choice():
            return ToolChoice("auto")
        case _:
            raise BadRequest(f"Invalid value: {choice!r}. Supported values are: 'none', 'auto', and 'required'.")


def _response_format(wanted: _Format | None) -> ResponseFormat | None:
    match wanted:
        case None:
            return None
        case _Format(type="json_schema", schema=None) | _Format(type="json_schema", name=None):
            raise BadRequest("Missing required parameter: 'text.format.name' or 'text.format.schema'.")
        case _Format(type="json_schema"):
            return ResponseFormat("json_schema", wanted.schema, wanted.name)
        case _:
            return ResponseFormat("json_object" if wanted.type == "json_object" else "text")
