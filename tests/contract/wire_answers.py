"""One answer in the stream of each family, as its provider would send it."""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw, Struct
from msgspec.json import encode

from bench.replay.recorded import Exchange, Format


class Answer(Struct, frozen=True):
    """`calls` are names and JSON texts of arguments; `buckets` are input, read, written, output and thinking tokens,
    disjoint but for the last, which lies inside the output."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    buckets: tuple[int, int, int, int, int] = (5, 0, 0, 3, 0)


def exchange(format: Format, response: str, *, provider: str | None = None, stream: bool = True) -> Exchange:
    """As if it had been recorded."""
    names = {"chat": "openai", "responses": "openai", "anthropic": "anthropic", "gemini": "gemini"}
    paths = {
        "chat": "/v1/chat/completions",
        "responses": "/v1/responses",
        "anthropic": "/v1/messages",
        "gemini": "/v1beta/models/m:streamGenerateContent",
    }
    return Exchange(
        id="made",
        case="made",
        turn=0,
        provider=provider or names[format],
        path=paths[format],
        stream=stream,
        request={"model": "m"},
        status=200,
        response_headers={},
        response=response,
    )


def sse(*events: Any, named: bool = False, end: str = "") -> str:
    """Server-sent events of JSON; `named` by their type."""
    blocks = []
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        data = encode(event).decode().replace("\n", "\ndata: ")  # arguments may hold line ends
        blocks.append(f"{name}data: {data}\n\n")
    return "".join(blocks) + end


DONE = "data: [DONE]\n\n"


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def call(index: int, arguments: str, id: str | None = None, name: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"index": index, "function": function} | ({"id": id, "type": "function"} if id else {})


def pieces(text: str) -> list[str]:
    """In threes, which cuts numbers, escapes and pairs of brackets."""
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def stream(format: Format, answer: Answer) -> str:
    return {"chat": _chat, "anthropic": _anthropic, "gemini": _gemini, "responses": _responses}[format](answer)


def _chat(answer: Answer) -> str:
    fresh, read, written, output, thinking = answer.buckets
    events = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"reasoning_content": piece}) for piece in pieces(answer.reasoning)]
    events += [chunk({"content": piece}) for piece in pieces(answer.text)]
    for index, (name, arguments) in enumerate(answer.calls):
        events.append(chunk({"tool_calls": [call(index, "", f"call_{index}", name)]}))
        events += [chunk({"tool_calls": [call(index, piece)]}) for piece in pieces(arguments)]
    events.append(chunk({}, "tool_calls" if answer.calls else "stop"))
    prompt = fresh + read + written
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens_details": {"reasoning_tokens": thinking},
    }
    return sse(*events, {**chunk({}), "choices": [], "usage": usage}, end=DONE)


def _anthropic(answer: Answer) -> str:
    fresh, read, written, output, thinking = answer.buckets
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if answer.reasoning:
        deltas: list[dict[str, Any]] = [{"type": "thinking_delta", "thinking": p} for p in pieces(answer.reasoning)]
        deltas.append({"type": "signature_delta", "signature": "c2ln"})
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if answer.text:
        blocks.append(
            ({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(answer.text)])
        )
    for index, (name, arguments) in enumerate(answer.calls):
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces(arguments)]
        blocks.append(({"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}, deltas))
    usage = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": written},
        "output_tokens": 1,
    }
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}, {"type": "ping"}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    reason = "tool_use" if answer.calls else "end_turn"
    said = {"output_tokens": output, "output_tokens_details": {"thinking_tokens": thinking}}
    events.append({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": said})
    return sse(*events, {"type": "message_stop"}, named=True)


def gemini(parts: Sequence[Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r", **more}


def _gemini(answer: Answer) -> str:
    """One part a chunk, the same name again and again, no id, the arguments whole: as Gemini does it."""
    fresh, read, _, output, thinking = answer.buckets
    events = [gemini([{"text": piece, "thought": True}]) for piece in pieces(answer.reasoning)]
    events += [gemini([{"text": piece}]) for piece in pieces(answer.text)]
    for name, arguments in answer.calls:
        events.append(gemini([{"functionCall": {"name": name, "args": Raw(arguments.encode())}}]))
    usage = {
        "promptTokenCount": fresh + read,
        "cachedContentTokenCount": read,
        "candidatesTokenCount": output - thinking,
        "thoughtsTokenCount": thinking,
        "totalTokenCount": fresh + read + output,
    }
    return sse(*events, gemini([{"text": ""}], "STOP", usageMetadata=usage))


def _responses(answer: Answer) -> str:
    fresh, read, written, output, thinking = answer.buckets
    events: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []

    def place(**more: Any) -> dict[str, Any]:
        return {"output_index": len(items), **more}

    if answer.text:
        item: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress"}
        whole = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        events.append({"type": "response.output_item.added", **place(item={**item, "content": []})})
        kind = {"type": "response.output_text.delta"}
        events += [{**kind, **place(item_id="msg_1", content_index=0, delta=piece)} for piece in pieces(answer.text)]
        done = {**item, "status": "completed", "content": [whole]}
        events.append({"type": "response.output_item.done", **place(item=done)})
        items.append(done)
    for index, (name, arguments) in enumerate(answer.calls):
        item = {"type": "function_call", "id": f"fc_{index}", "call_id": f"call_{index}", "name": name, "arguments": ""}
        events.append({"type": "response.output_item.added", **place(item={**item, "status": "in_progress"})})
        kind = {"type": "response.function_call_arguments.delta"}
        events += [{**kind, **place(item_id=f"fc_{index}", delta=piece)} for piece in pieces(arguments)]
        done = {**item, "arguments": arguments, "status": "completed"}
        events.append({"type": "response.output_item.done", **place(item=done)})
        items.append(done)
    prompt = fresh + read + written
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "output": items,
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": thinking},
            "total_tokens": prompt + output,
        },
    }
    begun = {"type": "response.created", "response": {**response, "status": "in_progress", "output": [], "usage": None}}
    ended = {"type": "response.completed", "response": {**response, "status": "completed"}}
    every = [{**event, "sequence_number": number} for number, event in enumerate([begun, *events, ended])]
    return sse(*every, named=True)
