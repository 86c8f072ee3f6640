"""Recorded requests, put to the gateway as their clients put them to the provider, with another family behind.

What reaches the provider has to be valid by its own documents, and has to say what the caller said: every text, call,
result and file. A parameter is sent, translated, or told of in the warnings.
"""

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from .answers import PATHS, Verdict
from .answers import target as target_of
from .gateway import KINDS, Recorded, Replay, Target
from .recorded import Exchange, Format
from .schemas import Anthropic, Gemini, OpenAI

BEHIND: Mapping[Format, tuple[Target, ...]] = {
    "chat": (Target("openai", "gpt-4o", "openai"), Target("openai", "gpt-5.2", "openai")),
    "responses": (
        Target("openai-responses", "gpt-4o", KINDS["responses"]),
        Target("openai-responses", "gpt-5.2", KINDS["responses"]),
    ),
    "anthropic": (
        Target("anthropic", "claude-sonnet-4-0", "anthropic"),
        Target("anthropic", "claude-sonnet-4-5", "anthropic"),
        Target("anthropic", "claude-opus-4-8", "anthropic"),
    ),
    "gemini": (Target("gemini", "gemini-2.5-flash", "gemini"), Target("gemini", "gemini-3.1-pro", "gemini")),
}
"""For each family an older and a newer model: the generations take different things."""

TRANSLATED = frozenset(
    (
        "frequency_penalty",
        "input",
        "instructions",
        "logprobs",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "n",
        "output_config",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "stop_sequences",
        "stream",
        "stream_options",
        "system",
        "temperature",
        "text",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
    )
)
"""What every family has a word for, or a rule for being without. Any other field is a loss that has to be told of."""

_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
_CHAT: dict[str, Any] = {"id": "chatcmpl-1", "created": 1, "model": "m"}
_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "status": "completed",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Yes.", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 1,
        "output_tokens": 1,
        "total_tokens": 2,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}
_ANTHROPIC: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Yes."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
YES: Mapping[Format, bytes] = {
    "chat": json.dumps(
        {
            **_CHAT,
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Yes.", "refusal": None},
                    "finish_reason": "stop",
                    "logprobs": None,
                }
            ],
            "usage": _USAGE,
        }
    ).encode(),
    "responses": json.dumps(_RESPONSE).encode(),
    "anthropic": json.dumps(_ANTHROPIC).encode(),
    "gemini": json.dumps(
        {
            "candidates": [{"content": {"parts": [{"text": "Yes."}], "role": "model"}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
        }
    ).encode(),
}
"""An answer of each family: what a provider says is not looked at here."""


class Schemas:
    """The documents of all families. `openai` is `None` without OpenAI's description."""

    def __init__(self, openai: OpenAI | None) -> None:
        self.openai = openai
        self._anthropic = Anthropic()
        self._gemini = Gemini()

    def faults(self, family: Format, body: Any) -> list[str]:
        match family:
            case "anthropic":
                return self._anthropic.faults(body)
            case "gemini":
                return self._gemini.faults(body)
            case "chat" if self.openai is not None:
                return self.openai.request("CreateChatCompletionRequest", body)
            case "responses" if self.openai is not None:
                return self.openai.request("CreateResponse", body)
            case _:
                return []


def own(exchange: Exchange) -> Target:
    """The model that the request was recorded with, at the provider itself."""
    return target_of(exchange)


def targets(exchange: Exchange, families: Iterable[Format]) -> Iterator[tuple[Format, Target]]:
    """What is put behind a request: its own model, and behind one of OpenAI's or Anthropic's each family's models. The
    other vendors' clients speak an accent of Chat Completions that is only theirs."""
    assert exchange.format is not None
    for family in families:
        if family == exchange.format:
            yield family, own(exchange)
        if exchange.provider in ("openai", "anthropic"):
            for target in BEHIND[family]:
                yield family, target


async def replay(
    gateway: Replay, exchange: Exchange, families: Iterable[Format], schemas: Schemas
) -> AsyncIterator[Verdict]:
    """Every cell of one request: one for each family behind."""
    dialect = exchange.format
    assert dialect is not None
    found: dict[str, Verdict] = {}
    for family, target in targets(exchange, families):
        mine = family == dialect and target == own(exchange)
        column = f"to {family}" + (" itself" if mine else "")
        wrong, lost = await put(gateway, exchange, family, target, schemas, mine=mine)
        before = found.get(column) or Verdict(exchange.id, exchange.place, column)
        found[column] = Verdict(
            exchange.id,
            exchange.place,
            column,
            tuple(dict.fromkeys((*before.wrong, *(f"{target.upstream}: {text}" for text in wrong)))),
            tuple(dict.fromkeys((*before.lost, *lost))),
        )
    for verdict in found.values():
        yield verdict


async def put(
    gateway: Replay, exchange: Exchange, family: Format, target: Target, schemas: Schemas, *, mine: bool
) -> tuple[list[str], list[str]]:
    """What is wrong with what reached `target`, and what was owned up to as lost."""
    assert exchange.format is not None
    gateway.upstream.answer = Recorded(200, {"content-type": "application/json"}, YES[family])
    gateway.upstream.elsewhere = {"/responses": Recorded(200, {"content-type": "application/json"}, YES["responses"])}
    gateway.upstream.received.clear()
    asked = {**exchange.request, "model": target.id, "stream": False}
    asked.pop("stream_options", None)
    beta = {"anthropic-beta": value} if (value := exchange.request_headers.get("anthropic-beta")) else {}
    try:
        answer = await gateway.ask(PATHS[exchange.format], asked, beta)
    finally:
        gateway.upstream.elsewhere = {}
    if answer.status_code != 200:
        error = answer.json().get("error", {})
        if not isinstance(error, dict):
            return [f"an error that is not the dialect's: {answer.status_code} {answer.text[:200]}"], []
        text = f"{answer.status_code} {error.get('code')}: {str(error.get('message'))[:160]}"
        refused = error.get("code") in ("unsupported_input", "unsupported_parameter")
        return ([], [text]) if refused else ([f"refused with {text}"], [])
    if len(gateway.upstream.received) != 1:
        return [f"{len(gateway.upstream.received)} requests reached the provider"], []
    sent = json.loads(gateway.upstream.received[0].body)
    if family == "chat" and gateway.upstream.received[0].path.endswith("/responses"):
        family, mine = "responses", False  # some of OpenAI's models answer nowhere else
    warnings = [f"{w['field']} {w['message']}" for w in answer.json().get("llmwise", {}).get("warnings") or ()]
    known = set(schemas.faults(family, asked)) if family == exchange.format else set()
    wrong = [fault for fault in schemas.faults(family, sent) if fault not in known]
    lost: list[str] = []
    differences = _changed(asked, sent) if mine and exchange.status == 200 else _missing(exchange, asked, sent)
    for words, text in differences:
        (lost if any(word in warning for warning in warnings for word in words) else wrong).append(text)
    return wrong, lost


# --- the same dialect on both sides -----------------------------------------------------------------------------------

_SAME = {"max_tokens": "max_completion_tokens"}


def _changed(asked: dict[str, Any], sent: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Fields that are not what the client said, to the provider that it said them to."""
    for name, value in asked.items():
        if name in ("model", "stream", "stream_options") or value is None or (name, value) == ("n", 1):
            continue
        there = sent.get(name, sent.get(_SAME.get(name, name), sent.get(_backwards(name))))
        if name == "system":
            value, there = _parts(value), _parts(there)
        if _plain(value) != _plain(there):
            yield (name,), f"{name} is changed: {_apart(_plain(value), _plain(there))}"
    added = sent.keys() - asked.keys() - {"model", "stream", "stream_options", *_SAME, *_SAME.values()}
    for name in sorted(added):
        yield (name,), f"{name} is added: {str(sent[name])[:80]}"


def _backwards(name: str) -> str:
    return next((old for old, new in _SAME.items() if new == name), name)


def _plain(value: Any) -> Any:
    """Without nulls, and a text alone as the list of parts that it stands for."""
    if isinstance(value, dict):
        plain = {name: _plain(member) for name, member in value.items() if member is not None}
        if isinstance(plain.get("content"), str) and value.get("role") != "tool":
            plain["content"] = _parts(plain["content"])
        return {name: member for name, member in plain.items() if (name, member) not in _DEFAULTS}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


_DEFAULTS: tuple[tuple[str, object], ...] = (
    ("is_error", False),
    ("ttl", "5m"),
    ("content", []),
    ("prefix", False),
    ("tool_calls", []),
    ("index", 0),
)
"""Members that say what holds without them."""


def _parts(text: Any) -> Any:
    return [{"type": "text", "text": text}] if isinstance(text, str) else text


def _apart(said: Any, heard: Any, where: str = "") -> str:
    """The first place where two values differ."""
    if isinstance(said, dict) and isinstance(heard, dict):
        for name in dict.fromkeys((*said, *heard)):
            if said.get(name) != heard.get(name):
                return _apart(said.get(name), heard.get(name), f"{where}.{name}")
    if isinstance(said, list) and isinstance(heard, list) and len(said) == len(heard):
        for index, (one, other) in enumerate(zip(said, heard, strict=True)):
            if one != other:
                return _apart(one, other, f"{where}[{index}]")
    return f"{where or 'it'} was {str(said)[:100]!r}, is {str(heard)[:100]!r}"


# --- another family behind --------------------------------------------------------------------------------------------


_SERVED = (("include", ["reasoning.encrypted_content"]), ("include", ["message.output_text.logprobs"]))
"""What the gateway itself sees to: thinking comes with its proof, whoever thought, and logprobs are a parameter."""


def _missing(exchange: Exchange, asked: dict[str, Any], sent: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What the client said that did not arrive, each with the words of which one owns up to it."""
    for name, value in asked.items():
        if name not in TRANSLATED and (name, value) not in _SERVED and value and name not in sent:
            yield (name,), f"{name} was left out"
    whole = "\n".join(_strings(sent))
    for words, text in _said(exchange.format, asked):
        if not any(form in whole for form in (text, text.strip(), _canonical(text), _decoded(text))):
            yield words, f"{words[0]} {text[:60]!r} did not arrive"


def _strings(value: Any) -> Iterator[str]:
    """Every text in a body, keys too; JSON inside a text is looked into as well."""
    if isinstance(value, str):
        yield value
        yield _canonical(value)
    elif isinstance(value, dict):
        yield json.dumps(value, sort_keys=True)
        for name, member in value.items():
            yield name
            yield from _strings(member)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _canonical(text: str) -> str:
    """JSON that was written in another way is the same."""
    if text[:1] in ("{", "["):
        try:
            return json.dumps(json.loads(text), sort_keys=True)
        except ValueError:
            pass
    return text


def _decoded(text: str) -> str:
    """A text file may arrive as the text that its base64 stands for."""
    try:
        return b64decode(text, validate=True).decode().strip()
    except ValueError:
        return text


_Saying = tuple[tuple[str, ...], str]


def _said(format: Format | None, asked: dict[str, Any]) -> Iterator[_Saying]:
    """The texts, calls, results and files of a conversation, and the names of its tools."""
    match format:
        case "anthropic":
            yield from _blocks(asked.get("system"))
            for turn in asked["messages"]:
                yield from _blocks(turn["content"])
        case "responses":
            yield from _blocks(asked.get("instructions"))
            given = asked.get("input")
            for item in given if isinstance(given, list) else [{"content": given}]:
                yield from _item(item)
        case _:
            for message in asked["messages"]:
                yield from _blocks(message.get("content"))
                for call in message.get("tool_calls") or ():
                    yield from _call(call["function"]["name"], call["function"]["arguments"])
    for tool in asked.get("tools") or ():
        yield from _tool(tool)


def _tool(tool: dict[str, Any]) -> Iterator[_Saying]:
    function = tool.get("function", tool)
    kind = tool.get("type", "custom")
    name = function.get("name") or kind
    yield (f"tools.{name}", f"tools.{kind}", "tools"), name
    if kind in ("function", "custom") and function.get("description"):
        yield (f"tools.{name}", "tools"), function["description"]


def _item(item: dict[str, Any]) -> Iterator[_Saying]:
    match item.get("type", "message"):
        case "message":
            yield from _blocks(item.get("content"))
        case "function_call":
            yield from _call(item["name"], item["arguments"])
        case "function_call_output":
            for words, text in _blocks(item["output"]):
                yield (*words, "function_call_output"), text
        case "reasoning":
            pass  # goes back to its own provider only
        case kind:
            yield (kind, "input"), kind


def _call(name: str, arguments: str) -> Iterator[_Saying]:
    yield ("tool_call",), name
    yield ("tool_call",), arguments


def _blocks(content: Any) -> Iterator[_Saying]:
    if isinstance(content, str):
        yield ("text",), content
    for block in content if isinstance(content, list) else ():
        match block.get("type"):
            case "text" | "input_text" | "output_text":
                yield ("text",), block["text"]
            case "tool_use":
                yield from _call(block["name"], json.dumps(block["input"]))
            case "tool_result":
                yield from _blocks(block.get("content"))
            case "image" | "document":
                source = block["source"]
                yield (block["type"],), source.get("data") or source.get("url") or source.get("file_id")
            case "image_url":
                yield ("image",), _file(block["image_url"]["url"])
            case "input_image" | "input_file":
                yield (
                    (block["type"], "file", "image"),
                    _file(
                        block.get("image_url")
                        or block.get("file_data")
                        or block.get("file_url")
                        or block.get("file_id")
                    ),
                )
            case "file":
                yield ("file", "document"), _file(block["file"].get("file_data") or block["file"].get("file_id"))
            case "thinking" | "redacted_thinking" | "refusal":
                pass  # goes back to its own provider only
            case kind:
                yield (str(kind), "messages"), str(kind)


def _file(address: str) -> str:
    """The base64 text of a data URL, or the address."""
    return address.partition(",")[2] if address.startswith("data:") else address
