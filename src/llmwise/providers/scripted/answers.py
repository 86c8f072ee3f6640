"""What a scripted provider answers: no model is asked, the answer says so, and the same question gets the same one."""

import hashlib
import json
import re
import struct
from collections.abc import Iterator

from msgspec import Struct

from llmwise.domain.events import FinishReason
from llmwise.domain.requests import ResponseFormat, Tool, ToolChoice
from llmwise.domain.usage import TokenUsage
from llmwise.providers.scripted.instances import instance
from llmwise.providers.scripted.script import Cue, NoUsage, Settings, Usage

LABEL_HEADER = "x-llmwise-scripted"
FINGERPRINT = "scripted"
SIGNATURE = "c2NyaXB0ZWQ="
"""The proof that closes scripted thinking in Anthropic's format: base64 of `scripted`."""

EMBEDDING_DIMENSIONS = 64
_QUOTED_CHARACTERS = 60
_PIECE = re.compile(r"\s*\S+|\s+")


class Question(Struct, frozen=True):
    """As much of a request as an answer depends on. `asked` is the last user turn's text, `tool_result` whether the
    conversation ends in a tool's answer, `report_usage` whether a stream is to report tokens (OpenAI's option).
    `custom` names the tools that take free text (OpenAI's), `logprobs` says how many of the likeliest tokens are wanted
    at each place beside the chosen one; `None`: no probabilities."""

    model: str
    stream: bool
    asked: str
    input_tokens: int
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    tool_result: bool = False
    response_format: ResponseFormat | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    report_usage: bool = True
    custom: frozenset[str] = frozenset()
    logprobs: int | None = None


class Call(Struct, frozen=True):
    """A call of a tool, with an instance of its parameters' schema as `arguments` (JSON text)."""

    id: str
    name: str
    arguments: str


class Answer(Struct, frozen=True):
    """A whole answer. `id` is unique among the requests of one model; `usage` is `None` where none is to be
    reported; `created_s` is Unix time."""

    id: str
    model: str
    reasoning: str
    text: str
    calls: tuple[Call, ...]
    finish: FinishReason
    stop_sequence: str | None
    usage: TokenUsage | None
    created_s: int = 0


def roughly_tokens(text: str) -> int:
    """Four characters a token, the rule of thumb for English."""
    return (len(text) + 3) // 4


def vector(text: str, dimensions: int) -> list[float]:
    """Numbers that depend on the text alone, of length 1 and without meaning."""
    stream = hashlib.shake_128(text.encode()).digest(2 * dimensions)
    raw = [value - 32767.5 for value in struct.unpack(f"<{dimensions}H", stream)]
    length = sum(value * value for value in raw) ** 0.5
    return [value / length for value in raw]


def pieces(text: str) -> list[str]:
    """`text` in words with their leading space: the deltas of a stream, and what counts as a token of an answer."""
    return _PIECE.findall(text)


def argument_pieces(arguments: str, size: int = 12) -> Iterator[str]:
    """A call's arguments as a stream would bring them: cut anywhere. Never none."""
    for start in range(0, len(arguments) or 1, size):
        yield arguments[start : start + size]


def compose(question: Question, cue: Cue, *, now_s: int = 0) -> Answer:
    """The answer to `question` with the settings that are due."""
    settings = cue.settings
    calls = _calls(question, settings, cue.nth)
    text, finish, stop_sequence = ("", "tool_calls", None) if calls else _text(question, settings)
    reasoning = settings.reasoning or ""
    usage = None
    if not isinstance(cue.rule, NoUsage):
        thought = len(pieces(reasoning))
        spoken = len(pieces(text)) + sum(roughly_tokens(call.name + call.arguments) for call in calls)
        counted = TokenUsage(input=question.input_tokens, output=thought + spoken, reasoning=thought)
        usage = (settings.usage or Usage()).over(counted)
    return Answer(
        id=f"scripted-{question.model}-{cue.nth}",
        model=question.model,
        reasoning=reasoning,
        text=text,
        calls=calls,
        finish=settings.finish or finish,
        stop_sequence=stop_sequence,
        usage=usage,
        created_s=now_s,
    )


def _calls(question: Question, settings: Settings, nth: int) -> tuple[Call, ...]:
    choice = question.tool_choice
    mode = "auto" if choice is None else choice.mode
    if not question.tools or question.tool_result or mode == "none":
        return ()
    count = settings.tool_calls if settings.tool_calls is not None else int(mode in {"required", "tool"})
    named = [tool for tool in question.tools if choice is None or choice.name in {None, tool.name}] or question.tools
    tools = (named[i % len(named)] for i in range(count))
    return tuple(
        Call(
            f"call_scripted_{nth}_{i}",
            tool.name,
            _json(instance({"type": "object"} | (tool.parameters or {}))),
        )
        for i, tool in enumerate(tools)
    )


def _text(question: Question, settings: Settings) -> tuple[str, FinishReason, str | None]:
    """The text, why it ends, and the stop sequence that ended it."""
    wanted = question.response_format
    if settings.text is not None:
        text = settings.text
    elif wanted is not None and wanted.kind == "json_schema" and wanted.schema is not None:
        text = _json(instance(wanted.schema))
    elif wanted is not None and wanted.kind != "text":
        text = _json({"scripted": True, "model": question.model})
    else:
        text = _sentence(question)
    if settings.tokens is not None:
        text = text if text.strip() else "scripted"
        while len(words := pieces(text)) < settings.tokens:
            text = f"{text} {text}"
        text = "".join(words[: settings.tokens])
    for stop in question.stop:
        if stop and stop in text:
            return text[: text.index(stop)], "stop", stop
    if question.max_tokens is not None and len(words := pieces(text)) > question.max_tokens:
        return "".join(words[: question.max_tokens]), "length", None
    return text, "stop", None


def _sentence(question: Question) -> str:
    asked = " ".join(question.asked.split())
    if len(asked) > _QUOTED_CHARACTERS:
        asked = asked[:_QUOTED_CHARACTERS] + "…"
    to = "after the tool's result" if question.tool_result else f"to “{asked}”" if asked else "to an empty question"
    return f"Scripted answer for {question.model}, {to}: no model was asked, this text follows a script."


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
