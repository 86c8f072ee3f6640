"""What an answer says, read straight from the wire: of the provider's recording and of the gateway's answer alike.

Written from the formats' documents and without the gateway's own codecs, so that a mistake in those can't hide here.
Where two recordings of one format differ (a stream and a whole answer), both end in the same `Said`.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct


class Failed(Exception):
    """The answer is an error that came with a 200, maybe behind a part of an answer."""


class Unreadable(Exception):
    """The answer breaks its own format: no terminal frame, a block that was never opened, text that is no JSON."""


class Call(Struct, frozen=True):
    """A tool call. `arguments` is JSON text, byte for byte as it was written."""

    id: str
    name: str
    arguments: str


class Tokens(Struct, frozen=True):
    """`prompt` is all input, cached or not; `reasoning` lies inside `output`. `None`: no place for it."""

    prompt: int
    output: int
    cache_read: int = 0
    cache_write: int | None = 0
    reasoning: int = 0


class Said(Struct, frozen=True):
    """`also` are the kinds of everything else in the answer: server tools' blocks, citations, logprobs, files.
    `warnings` are the gateway's, as `code field: message`."""

    text: str = ""
    refusal: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    finish: str = "unknown"
    tokens: Tokens | None = None
    estimated: bool = False
    also: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()


FINISH: Mapping[str, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "model_length": "length",
    "sensitive": "content_filter",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "LANGUAGE": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
}


def frames(body: str) -> Iterator[tuple[str | None, str]]:
    """The name and the data of each server-sent event."""
    for block in re.split(r"\r\n\r\n|\n\n|\r\r", body.lstrip("\ufeff")):
        name: str | None = None
        data: list[str] = []
        for line in re.split(r"\r\n|\n|\r", block):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "event":
                name = value
            elif field == "data":
                data.append(value)
        if data:
            yield name, "\n".join(data)


def documents(body: str) -> list[dict[str, Any]]:
    """The JSON of each event but `[DONE]`."""
    return [json.loads(data) for _, data in frames(body) if data != "[DONE]"]


def read(kind: str, body: str, *, stream: bool) -> Said:
    """An answer in the format `kind`. Raises `Failed`, or `Unreadable`."""
    try:
        return _READERS[kind, stream](body)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, msgspec.DecodeError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


# --- Chat Completions -------------------------------------------------------------------------------------------------


def _chat_whole(body: str) -> Said:
    answer = json.loads(body)
    choice = answer["choices"][0]
    return _chat([choice["message"]], choice, answer.get("usage"), answer)


def _chat_stream(body: str) -> Said:
    chunks = documents(body)
    for chunk in chunks:
        if chunk.get("error"):
            raise Failed(str(chunk["error"]))
    choices = [choice for chunk in chunks for choice in chunk.get("choices") or () if not choice.get("index")]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    usages = usages or [groq["usage"] for chunk in chunks if (groq := chunk.get("x_groq") or {}).get("usage")]
    extra: dict[str, Any] = next((chunk for chunk in chunks if "llmwise" in chunk), {})
    if not body.rstrip().endswith("[DONE]") and not any(choice.get("finish_reason") for choice in choices):
        raise Unreadable("the stream ended without a reason and without [DONE]")
    said = [choice["delta"] for choice in choices if choice.get("delta")]
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    joined = {
        "finish_reason": reasons[-1] if reasons else None,
        "logprobs": next((choice["logprobs"] for choice in choices if choice.get("logprobs")), None),
    }
    return _chat(said, joined, usages[-1] if usages else None, extra)


def _chat(
    pieces: Sequence[dict[str, Any]], choice: dict[str, Any], usage: dict[str, Any] | None, extra: dict[str, Any]
) -> Said:
    text, refusal, reasoning, also = "", "", "", set()
    calls: dict[int, list[str]] = {}
    for piece in pieces:
        content = piece.get("content")
        if isinstance(content, list):
            for part in content:
                if part["type"] == "thinking":
                    thinking = part["thinking"]
                    reasoning += thinking if isinstance(thinking, str) else "".join(p.get("text", "") for p in thinking)
                else:
                    text += part.get("text") or ""
        else:
            text += content or ""
        refusal += piece.get("refusal") or ""
        details = piece.get("reasoning_details") or ()
        reasoning += (
            piece.get("reasoning_content")
            or piece.get("reasoning")
            or "".join(detail.get("text") or detail.get("summary") or "" for detail in details)
        )
        for position, call in enumerate(piece.get("tool_calls") or ()):
            held = calls.setdefault(call.get("index", position) or 0, ["", "", ""])
            function = call.get("function") or {}
            held[0] = held[0] or call.get("id") or ""
            held[1] = held[1] or function.get("name") or ""
            held[2] += function.get("arguments") or ""
        also |= {kind for kind in ("annotations", "audio", "images", "executed_tools") if piece.get(kind)}
    if choice.get("logprobs") and any(choice["logprobs"].values()):
        also.add("logprobs")
    return Said(
        text,
        refusal,
        reasoning,
        tuple(Call(id, name, arguments) for id, name, arguments in calls.values()),
        _finish(choice.get("finish_reason"), bool(calls)),
        None if usage is None else _chat_tokens(usage),
        also=frozenset(also),
        **_ours(extra.get("llmwise")),
    )


def _chat_tokens(usage: dict[str, Any]) -> Tokens:
    """`cache_write_tokens` and the cached ones lie inside the prompt's."""
    details = usage.get("prompt_tokens_details") or {}
    read = details.get("cached_tokens")
    for name in ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"):
        read = usage.get(name) if read is None else read
    written = min(details.get("cache_write_tokens") or 0, usage["prompt_tokens"] - (read or 0))
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    output = usage.get("completion_tokens") or 0
    if reasoning and usage.get("total_tokens") == usage["prompt_tokens"] + output + reasoning:
        output += reasoning
    return Tokens(usage["prompt_tokens"], output, read or 0, written, min(reasoning, output))


# --- Anthropic --------------------------------------------------------------------------------------------------------


def _anthropic_whole(body: str) -> Said:
    message = msgspec.json.decode(body, type=dict[str, Raw])
    blocks = [(msgspec.json.decode(raw), raw) for raw in msgspec.json.decode(message["content"], type=list[Raw])]
    return _anthropic(blocks, json.loads(body))


def _anthropic_stream(body: str) -> Said:
    """Holds the grammar as well: one block open at a time, everything closed, one `message_stop` at the end."""
    message: dict[str, Any] = {}
    blocks: list[tuple[dict[str, Any], Raw]] = []
    block: dict[str, Any] | None = None
    pieces: list[str] = []
    ended = False
    for event in documents(body):
        if ended:
            raise Unreadable(f"{event['type']} after message_stop")
        match event["type"]:
            case "message_start":
                message |= event["message"]
            case "content_block_start":
                if block is not None:
                    raise Unreadable("a block was opened inside another")
                if event["index"] != len(blocks):
                    raise Unreadable(f"block {len(blocks)} has the index {event['index']}")
                block, pieces = dict(event["content_block"]), []
            case "content_block_delta":
                if block is None:
                    raise Unreadable("a delta outside of a block")
                _anthropic_delta(block, event["delta"], pieces)
            case "content_block_stop":
                if block is None:
                    raise Unreadable("a block was closed twice")
                fields = {name: Raw(msgspec.json.encode(value)) for name, value in block.items()}
                if pieces:  # text that may not be JSON
                    block["arguments"] = "".join(pieces)
                blocks.append((block, Raw(msgspec.json.encode(fields))))
                block = None
            case "message_delta":
                message |= event["delta"]
                usage = {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
                message["usage"] = (message.get("usage") or {}) | usage
                message |= {"llmwise": event["llmwise"]} if "llmwise" in event else {}
            case "message_stop":
                ended = True
            case "error":
                raise Failed(str(event["error"]))
    if not ended or block is not None:
        raise Unreadable("the stream ended before message_stop")
    return _anthropic(blocks, message)


def _anthropic_delta(block: dict[str, Any], delta: dict[str, Any], pieces: list[str]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "input_json_delta":
            pieces.append(delta["partial_json"])
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]


def _anthropic(blocks: Sequence[tuple[dict[str, Any], Raw]], message: dict[str, Any]) -> Said:
    text, reasoning, calls, also = "", "", [], set()
    for block, raw in blocks:
        match block["type"]:
            case "text":
                text += block["text"]
                if block.get("citations"):
                    also.add("citation")
            case "thinking":
                reasoning += block["thinking"]
            case "tool_use":
                fields = msgspec.json.decode(raw, type=dict[str, Raw])
                arguments = block.get("arguments") or bytes(fields["input"]).decode()
                calls.append(Call(block["id"], block["name"], arguments))
            case "redacted_thinking":
                pass  # a proof without words
            case kind:
                also.add(kind)
    usage = message["usage"]
    read = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or sum((usage.get("cache_creation") or {}).values())
    thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    tokens = Tokens(usage["input_tokens"] + read + written, usage["output_tokens"], read, written, thought)
    finish = _finish(message.get("stop_reason"), bool(calls))
    return Said(
        text, "", reasoning, tuple(calls), finish, tokens, also=frozenset(also), **_ours(message.get("llmwise"))
    )


# --- Gemini -----------------------------------------------------------------------------------------------------------


def _gemini_whole(body: str) -> Said:
    return _gemini([body])


def _gemini_stream(body: str) -> Said:
    return _gemini([data for _, data in frames(body)])


def _gemini(bodies: Sequence[str]) -> Said:
    text, reasoning, finish, calls, also = "", "", None, list[Call](), set()
    usage: dict[str, Any] = {}
    for body in bodies:
        response = json.loads(body)
        if response.get("error"):
            raise Failed(str(response["error"]))
        usage = response.get("usageMetadata") or usage
        if reason := (response.get("promptFeedback") or {}).get("blockReason"):
            finish = FINISH.get(reason, "content_filter")
        for candidate in response.get("candidates") or ():
            if candidate.get("index"):
                continue
            finish = candidate.get("finishReason") or finish
            also |= {key for key in ("groundingMetadata", "citationMetadata") if candidate.get(key)}
            also |= {"logprobs"} if (candidate.get("logprobsResult") or {}).get("chosenCandidates") else set()
        for part in _gemini_parts(body):
            if "text" in part:
                words = msgspec.json.decode(part["text"])
                thought = "thought" in part and msgspec.json.decode(part["thought"])
                reasoning, text = (reasoning + words, text) if thought else (reasoning, text + words)
            elif "functionCall" in part:
                call = msgspec.json.decode(part["functionCall"], type=dict[str, Raw])
                arguments = bytes(call.get("args", Raw(b"{}"))).decode()
                id = msgspec.json.decode(call["id"]) if "id" in call else ""
                calls.append(Call(id, msgspec.json.decode(call["name"]), arguments))
            else:
                also |= set(part) - {"thought", "thoughtSignature"}
    if finish is None:
        raise Unreadable("the answer ended without a finish reason")
    tokens = None
    if "promptTokenCount" in usage or "candidatesTokenCount" in usage:
        thoughts, tools = usage.get("thoughtsTokenCount") or 0, usage.get("toolUsePromptTokenCount") or 0
        tokens = Tokens(
            (usage.get("promptTokenCount") or 0) + tools,
            (usage.get("candidatesTokenCount") or 0) + thoughts,
            usage.get("cachedContentTokenCount") or 0,
            0,
            thoughts,
        )
    return Said(
        text,
        "",
        reasoning,
        tuple(calls),
        _finish(finish, bool(calls)),
        tokens,
        also=frozenset(also - {"usageMetadata"}),
    )


def _gemini_parts(body: str) -> Iterator[dict[str, Raw]]:
    response = msgspec.json.decode(body, type=dict[str, Raw])
    candidates = msgspec.json.decode(response.get("candidates", Raw(b"[]")), type=list[dict[str, Raw]])
    if candidates and "content" in candidates[0]:
        content = msgspec.json.decode(candidates[0]["content"], type=dict[str, Raw])
        yield from msgspec.json.decode(content.get("parts", Raw(b"[]")), type=list[dict[str, Raw]])


# --- Responses --------------------------------------------------------------------------------------------------------


def _responses_whole(body: str) -> Said:
    response = json.loads(body)
    return _responses(response["output"], response)


def _responses_stream(body: str) -> Said:
    """The items as they were finished. What the deltas say has to be what the finished item says."""
    items: dict[int, dict[str, Any]] = {}
    deltas: dict[tuple[int, str], str] = {}
    terminal: list[dict[str, Any]] = []
    for event in documents(body):
        kind = event["type"]
        if terminal:
            raise Unreadable(f"{kind} after {terminal[0]['type']}")
        if kind == "response.output_item.done":
            items[event["output_index"]] = event["item"]
        elif kind in ("response.output_text.delta", "response.function_call_arguments.delta"):
            key = (event["output_index"], kind)
            deltas[key] = deltas.get(key, "") + event["delta"]
        elif kind in ("response.completed", "response.incomplete"):
            terminal.append(event)
        elif kind in ("response.failed", "error"):
            raise Failed(str(event))
    if not terminal:
        raise Unreadable("the stream ended without response.completed")
    response = terminal[0]["response"]
    output = [items[index] for index in sorted(items)] or response["output"]
    for (index, kind), streamed in deltas.items():
        item = items.get(index) or {}
        whole = item.get("arguments") if "arguments" in kind else _responses_text(item)
        if whole != streamed:
            raise Unreadable(f"{kind} of item {index} say {streamed[:40]!r}, the item {str(whole)[:40]!r}")
    return _responses(output, response)


def _responses_text(item: dict[str, Any]) -> str:
    return "".join(part.get("text") or "" for part in item.get("content") or () if part["type"] == "output_text")


def _responses(output: Sequence[dict[str, Any]], response: dict[str, Any]) -> Said:
    text, refusal, reasoning, calls, also = "", "", "", [], set()
    for item in output:
        match item["type"]:
            case "message":
                text += _responses_text(item)
                refusal += "".join(part["refusal"] for part in item["content"] if part["type"] == "refusal")
                also |= {"annotation" for part in item["content"] if part.get("annotations")}
                also |= {"logprobs" for part in item["content"] if part.get("logprobs")}
            case "reasoning":
                parts = item.get("content") or item.get("summary") or ()
                reasoning += "".join(part.get("text") or "" for part in parts)
            case "function_call":
                calls.append(Call(item["call_id"], item["name"], item["arguments"]))
            case kind:
                also.add(kind)
    if response.get("status") in ("queued", "in_progress", "failed", "cancelled"):
        raise Failed(f"the response is {response['status']}")
    finish = "stop" if response.get("status") in ("completed", "complete", None) else "unknown"
    if response.get("status") == "incomplete":
        reason = (response.get("incomplete_details") or {}).get("reason")
        finish = {"max_output_tokens": "length", "content_filter": "content_filter"}.get(str(reason), "unknown")
    tokens = None
    if usage := response.get("usage"):
        details = usage.get("input_tokens_details") or {}
        tokens = Tokens(
            usage["input_tokens"],
            usage["output_tokens"],
            details.get("cached_tokens") or 0,
            details.get("cache_write_tokens") or 0,
            (usage.get("output_tokens_details") or {}).get("reasoning_tokens") or 0,
        )
    finish = "tool_calls" if finish == "stop" and calls else finish
    return Said(
        text, refusal, reasoning, tuple(calls), finish, tokens, also=frozenset(also), **_ours(response.get("llmwise"))
    )


# --- native -----------------------------------------------------------------------------------------------------------


def _native_whole(body: str) -> Said:
    answer = json.loads(body)
    calls = [Call(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in answer["tool_calls"] or ()]
    return _native(answer["content"], answer["reasoning"] or "", calls, answer, answer)


def _native_stream(body: str) -> Said:
    events = documents(body)
    if failed := [event for event in events if event.get("event") == "error"]:
        raise Failed(str(failed[0]))
    text = "".join(event.get("delta") or "" for event in events)
    reasoning = "".join(event.get("reasoning") or "" for event in events)
    fragments = [{"tool_calls": event["tool_calls"]} for event in events if event.get("tool_calls")]
    last = [event for event in events if event.get("done") is True]
    done = [event for event in events if event.get("event") == "done"]
    if len(last) != 1 or len(done) != 1 or not body.endswith("data: [DONE]\n\n"):
        raise Unreadable(f"{len(last)} last chunks, {len(done)} done events, or no [DONE] at the end")
    return _native(text, reasoning, _chat(fragments, {}, None, {}).calls, last[0], done[0])


def _native(text: str, reasoning: str, calls: Sequence[Call], usage: dict[str, Any], account: dict[str, Any]) -> Said:
    tokens = Tokens(
        usage["prompt_tokens"], usage["completion_tokens"], account["cached_tokens"], None, account["reasoning_tokens"]
    )
    return Said(
        text, "", reasoning, tuple(calls), account["finish_reason"], tokens,
        **_ours(account),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------------


def _finish(raw: str | None, called: bool) -> str:
    """OpenAI says `stop` after a forced call, and Gemini after every one."""
    reason = FINISH.get(raw or "", "unknown")
    return "tool_calls" if reason == "stop" and called else reason


def _ours(account: dict[str, Any] | None) -> dict[str, Any]:
    if account is None:
        return {}
    warnings = tuple(f"{w['code']} {w['field']}: {w['message']}" for w in account.get("warnings") or ())
    return {"warnings": warnings, "estimated": bool(account.get("usage_estimated"))}


_READERS: Mapping[tuple[str, bool], Callable[[str], Said]] = {
    ("chat", False): _chat_whole,
    ("chat", True): _chat_stream,
    ("anthropic", False): _anthropic_whole,
    ("anthropic", True): _anthropic_stream,
    ("gemini", False): _gemini_whole,
    ("gemini", True): _gemini_stream,
    ("responses", False): _responses_whole,
    ("responses", True): _responses_stream,
    ("native", False): _native_whole,
    ("native", True): _native_stream,
}
