"""Recorded answers, served by the provider that gave them and read in every dialect.

What an answer has to say is read from the recording by `said`, and so is what the gateway made of it. A difference is a
failure, unless the gateway's own warnings own up to it.
"""

import json
import random
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from llmwise.conformance.said import Failed, Said, Unreadable, read

from .gateway import KINDS, Recorded, Replay, Target
from .recorded import Exchange
from .schemas import OpenAI

Mode: TypeAlias = Literal["whole", "stream", "bytes", "random"]
"""How the caller asks, and how the recorded stream was cut on its way in."""

PATHS: Mapping[str, str] = {
    "native": "/api/v1/chat",
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "anthropic": "/v1/messages",
}

RANDOM_CUTS = 3
"""So many times each stream is cut at random."""


class Verdict(Struct, frozen=True):
    """How one exchange fared in one cell of the table. `lost` was owned up to, `wrong` was not."""

    exchange: str
    row: str
    column: str
    wrong: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def target(exchange: Exchange, *, cut: bool = False) -> Target:
    """The model that gave the answer: its vendor by name, where the name says what it speaks."""
    assert exchange.format is not None
    provider = exchange.provider + ("-responses" if exchange.format == "responses" else "")
    if exchange.format == "embeddings":
        kind = "gemini" if exchange.provider in ("gemini", "vertex") else "openai"
        return Target(provider, exchange.model, kind, cut, embeds=True)
    return Target(provider, exchange.model, KINDS[exchange.format], cut)


def question(dialect: str, model: str, *, stream: bool) -> dict[str, Any]:
    """The same question in every dialect; what counts is the answer."""
    body: dict[str, Any] = {"model": model, "stream": stream}
    asked = [{"role": "user", "content": "What was recorded?"}]
    match dialect:
        case "responses":
            return body | {"input": asked}
        case "anthropic":
            return body | {"messages": asked, "max_tokens": 4096}
        case "chat" if stream:
            return body | {"messages": asked, "stream_options": {"include_usage": True}}
        case _:
            return body | {"messages": asked}


def cuts_of(size: int, mode: Mode, seed: str) -> Iterator[Sequence[int]]:
    """Where to cut a body of `size` bytes."""
    if size < 2:
        yield ()
    elif mode == "bytes":
        yield range(1, size)
    elif mode == "random":
        draw = random.Random(seed)
        for _ in range(RANDOM_CUTS):
            yield sorted(draw.sample(range(1, size), min(size - 1, draw.randint(1, 40))))


async def replay(
    gateway: Replay, exchange: Exchange, dialects: Iterable[str], openai: OpenAI | None
) -> AsyncIterator[Verdict]:
    """Every cell of one exchange."""
    assert exchange.format is not None
    recorded = Recorded(exchange.status, headers_of(exchange), exchange.response.encode())
    expected = None
    if exchange.status == 200:
        with suppress(Failed, Unreadable):  # then the caller gets an error too
            expected = read(exchange.format, exchange.response, stream=exchange.stream)
    gateway.upstream.answer = gateway.cutter.answer = recorded
    for dialect in dialects:
        for mode in ("whole", "stream", "bytes", "random"):
            if mode in ("bytes", "random") and not (exchange.stream and exchange.status == 200):
                continue
            verdict = Verdict(exchange.id, exchange.place, f"{dialect} {mode}")
            for cuts in cuts_of(len(recorded.body), mode, exchange.id) if mode in ("bytes", "random") else [None]:
                gateway.cutter.cuts = cuts or ()
                aim = target(exchange, cut=cuts is not None)
                body = question(dialect, aim.id, stream=mode != "whole")
                answer = await gateway.ask(PATHS[dialect], body)
                if expected is None and exchange.status != 200:
                    allowed = STATUS.get(exchange.status, (502, 529))
                    verdict = _refused(verdict, answer.status_code, dialect, answer.text, allowed)
                elif expected is None:
                    verdict = _broken(verdict, dialect, answer.status_code, answer.text)
                elif answer.status_code != 200:
                    verdict = _and(verdict, wrong=[f"status {answer.status_code}: {answer.text[:200]}"])
                else:
                    same = dialect == exchange.format
                    verdict = _judged(verdict, expected, answer.text, dialect, mode != "whole", same)
                    if openai is not None and not same:
                        verdict = _and(verdict, wrong=openai.answer(dialect, answer.text, stream=mode != "whole"))
            yield verdict


def headers_of(exchange: Exchange) -> dict[str, str]:
    """Without the recorder's own: what was compressed on the wire is plain here."""
    gone = ("content-length", "content-encoding", "transfer-encoding", "connection")
    kept = {name: value for name, value in exchange.response_headers.items() if name.lower() not in gone}
    return {**kept, "content-type": kept.get("content-type", exchange.content_type)}


def _and(verdict: Verdict, wrong: Iterable[str] = (), lost: Iterable[str] = ()) -> Verdict:
    return Verdict(
        verdict.exchange,
        verdict.row,
        verdict.column,
        tuple(dict.fromkeys((*verdict.wrong, *wrong))),
        tuple(dict.fromkeys((*verdict.lost, *lost))),
    )


def _judged(verdict: Verdict, expected: Said, body: str, dialect: str, stream: bool, same: bool) -> Verdict:
    try:
        got = read(dialect, body, stream=stream)
    except (Failed, Unreadable) as error:
        return _and(verdict, wrong=[f"{type(error).__name__.lower()}: {error}"])
    found = list(differences(expected, got, dialect, same))
    once = body.endswith("data: [DONE]\n\n") and body.count("[DONE]\n") == 1
    if stream and dialect in ("chat", "native") and not once:
        found.append(("there is not exactly one [DONE], at the end", False))
    return _and(
        verdict,
        wrong=[text for text, owned in found if not owned],
        lost=[text for text, owned in found if owned],
    )


def differences(expected: Said, got: Said, dialect: str, same: bool) -> Iterator[tuple[str, bool]]:
    """Each difference, and whether the gateway's warnings tell of it. `same`: the caller speaks the provider's own
    format, and nothing at all is lost."""

    def owned(*words: str) -> bool:
        return any(word in warning for warning in got.warnings for word in words)

    for what, said, heard in (
        ("text", expected.text + expected.refusal, got.text + got.refusal),
        ("reasoning", _joined(expected.reasoning), _joined(got.reasoning)),
    ):
        if said != heard:
            yield f"{what}: {_shown(said, heard)}", owned(what)
    if len(expected.calls) != len(got.calls):
        yield f"{len(got.calls)} tool calls instead of {len(expected.calls)}", owned("tool_call")
    for number, (call, made) in enumerate(zip(expected.calls, got.calls, strict=False)):
        if made.name != call.name:
            yield f"call {number} is named {made.name!r}, not {call.name!r}", False
        wanted = (call.arguments,) if call.arguments.strip() else (("", "{}") if same else ("{}",))
        if made.arguments not in wanted:
            yield f"call {number}: {_shown(call.arguments, made.arguments)}", owned("tool_call")
        if call.id and made.id != call.id:
            yield f"call {number} has the id {made.id!r}, not {call.id!r}", owned("tool_call")
        if not made.id:
            yield f"call {number} has no id", False
    ids = [made.id for made in got.calls]
    if len(set(ids)) != len(ids):
        yield f"ids of calls are not unique: {ids}", False
    refused = bool(expected.refusal) and got.finish == "content_filter"  # Anthropic's word for it
    if expected.finish != got.finish and not refused:
        yield f"finish: {got.finish} instead of {expected.finish}", owned("finish_reason")
    yield from _tokens(expected, got)
    for kind in sorted(expected.also - got.also):
        yield f"{kind}: left out", owned(kind)


def _tokens(expected: Said, got: Said) -> Iterator[tuple[str, bool]]:
    if expected.tokens is None:
        if got.tokens is not None and not got.estimated:
            yield "tokens: none were reported, and these are not marked as estimated", False
        return
    if got.tokens is None:
        yield "tokens: none", False
        return
    for name in ("prompt", "output", "cache_read", "cache_write", "reasoning"):
        said, heard = getattr(expected.tokens, name), getattr(got.tokens, name)
        if said != heard and heard is not None:
            yield f"tokens.{name}: {heard} instead of {said}", any("usage" in warning for warning in got.warnings)


def _joined(text: str) -> str:
    """Blocks of thinking are joined by blank lines where the dialect has one text for them."""
    return "".join(text.split())


def _shown(said: str, heard: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(said, heard, strict=False)) if a != b), min(len(said), len(heard)))
    start = max(0, at - 20)
    return f"{heard[start : at + 40]!r} instead of {said[start : at + 40]!r}"


STATUS: Mapping[int, tuple[int, ...]] = {400: (400,), 401: (502,), 403: (502,), 404: (404, 502), 429: (429,)}
"""What a caller gets for a provider's refusal: our key or our catalog is at fault for 401 to 404, not the caller."""


def _refused(verdict: Verdict, status: int, dialect: str, body: str, allowed: Sequence[int]) -> Verdict:
    wrong = []
    if status not in allowed:
        wrong.append(f"status {status}, and not {allowed}: {body[:200]}")
    try:
        envelope = _envelope(dialect, body)
    except (ValueError, KeyError, TypeError) as error:
        return _and(verdict, wrong=[f"no error of the dialect: {error!r} in {body[:100]}"])
    if not envelope:
        wrong.append("an error without a message")
    return _and(verdict, wrong=wrong)


def _broken(verdict: Verdict, dialect: str, status: int, body: str) -> Verdict:
    """An error inside a 200 is a status before anything was said, and an event after it: never a good end."""
    if status != 200:
        return _refused(verdict, status, dialect, body, allowed=range(400, 600))
    try:
        read(dialect, body, stream=True)
    except Failed:
        return verdict
    except Unreadable as error:
        return _and(verdict, wrong=[f"unreadable: {error}"])
    return _and(verdict, wrong=["the provider's error became a good answer"])


def _envelope(dialect: str, body: str) -> str:
    error = json.loads(body)
    match dialect:
        case "native":
            assert error["code"]
            return str(error["error"])
        case "anthropic":
            assert error["type"] == "error"
            assert error["error"]["type"]
            return str(error["error"]["message"])
        case _:
            assert error["error"]["type"]
            return str(error["error"]["message"])
