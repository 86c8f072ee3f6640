"""A cue to what happens on the wire, step by step: pure, so that every fault is a list that can be looked at."""

from collections.abc import Iterator
from email.utils import formatdate
from typing import TypeAlias, assert_never

import msgspec
from msgspec import Struct

from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.answers import Answer, Question
from llmwise.providers.scripted.dialect import Dialect, Frame, Refusal, refusal_of
from llmwise.providers.scripted.script import Cue

JSON = "application/json"
SSE = "text/event-stream; charset=utf-8"
PAGE = b"<!doctype html><title>Scripted page</title><h1>Scripted page</h1><p>This is not the API that you wanted."


class Wait(Struct, frozen=True):
    """Nothing, for so long."""

    seconds: float


class Forever(Struct, frozen=True):
    """Nothing, until the client leaves."""


class Head(Struct, frozen=True):
    """Status and headers. `length` is the Content-Length, whatever follows; `None` is a body in chunks."""

    status: int
    content_type: str
    length: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Data(Struct, frozen=True):
    """Some of the body, flushed."""

    data: bytes


class End(Struct, frozen=True):
    """The body is over, as HTTP wants it."""


class Close(Struct, frozen=True):
    """The connection is over, whatever HTTP wants."""

    reset: bool = False


Step: TypeAlias = Wait | Forever | Head | Data | End | Close


class Tokens(Struct, frozen=True):
    """A streamed answer, or with `question.stream` unset a whole one."""

    question: Question
    answer: Answer


Reply: TypeAlias = Tokens | bytes
"""What a request gets if nothing goes wrong: an answer, or a body that is no answer of a model (counts, embeddings)."""


def steps(cue: Cue, dialect: Dialect, reply: Reply, now_s: float) -> Iterator[Step]:
    """All of one request's answer; `End`, `Close` and `Forever` come last.

    `now_s` is Unix time, for a Retry-After that is a date.
    """
    rule, settings = cue.rule, cue.settings
    yield from _wait((settings.latency_ms or 0) / 1000)
    match rule:
        case faults.Hang():
            yield Forever()
        case faults.Refuse():
            yield Close(rule.reset)
        case faults.RateLimit() | faults.Status() | faults.Overloaded() | faults.ContextTooLong():
            refusal = refusal_of(rule, dialect)
            form = rule.retry_after_form if isinstance(rule, faults.RateLimit) else "seconds"
            headers = _retry_after(refusal.retry_after_s, form, now_s)
            yield from answered_with(dialect.error(refusal), refusal.status, headers=headers)
        case faults.WrongContentType():
            yield from answered_with(PAGE, content_type="text/html; charset=utf-8")
        case faults.Trickle():
            yield from _trickled(_answered(cue, dialect, reply), rule)
        case (
            faults.Normal()
            | faults.HangFirstEvent()
            | faults.Cut()
            | faults.Stall()
            | faults.Malformed()
            | faults.ErrorIn200()
            | faults.Oversized()
            | faults.NoTerminal()
            | faults.NoUsage()
            | faults.Keepalive()
            | faults.Crlf()
        ):
            yield from _answered(cue, dialect, reply)
        case _:
            assert_never(rule)


def answered_with(
    body: bytes, status: int = 200, content_type: str = JSON, headers: tuple[tuple[str, str], ...] = ()
) -> Iterator[Step]:
    """`body`, at once and whole."""
    yield Head(status, content_type, len(body), headers)
    yield Data(body)
    yield End()


def _answered(cue: Cue, dialect: Dialect, reply: Reply) -> Iterator[Step]:
    if isinstance(reply, Tokens):
        if reply.question.stream:
            return _streamed(cue, dialect, reply)
        pace = cue.settings.tokens_per_second
        spoken = 0 if reply.answer.usage is None else reply.answer.usage.output
        seconds = (cue.settings.first_event_ms or 0) / 1000 + (spoken / pace if pace else 0)
        return _whole(cue, dialect, dialect.body(reply.question, reply.answer), seconds)
    return _whole(cue, dialect, reply, 0)


def _streamed(cue: Cue, dialect: Dialect, reply: Tokens) -> Iterator[Step]:
    """The fault comes once `after` content frames are out, at the latest before the closing ones."""
    rule, settings = cue.rule, cue.settings
    after: int | None = getattr(rule, "after", None)
    gap = 1 / settings.tokens_per_second if settings.tokens_per_second else 0.0
    eol = b"\r\n" if isinstance(rule, faults.Crlf) else b"\n"
    keepalive = rule if isinstance(rule, faults.Keepalive) else None
    yield Head(200, SSE)
    if isinstance(rule, faults.HangFirstEvent):
        yield Forever()
    yield from _wait((settings.first_event_ms or 0) / 1000)
    if keepalive is not None:
        for _ in range(keepalive.count):
            yield Data(b": keep-alive\n\n")
            yield from _wait(keepalive.gap_ms / 1000)
    content = 0
    for frame in dialect.frames(reply.question, reply.answer):
        if after is not None and (content >= after or frame.closing):
            yield from _struck(rule, dialect, reply)
            if not isinstance(rule, faults.Malformed | faults.Oversized):
                return
            after = None
        if frame.closing and isinstance(rule, faults.NoTerminal):
            break
        if frame.content and content:
            yield from _wait(gap)
        yield Data(b": keep-alive\n\n" + frame.sse() if keepalive and content else frame.sse(eol))
        content += frame.content
    yield End()


def _struck(rule: faults.AnyRule, dialect: Dialect, reply: Tokens) -> Iterator[Step]:
    """What happens amid a stream."""
    match rule:
        case faults.Cut():
            yield Close(rule.reset)
        case faults.Stall():
            yield Forever()
        case faults.ErrorIn200():
            yield Data(dialect.error_frame(Refusal(rule.status, rule.message)).sse())
            yield End()
        case faults.Malformed():
            whole = dialect.text_frame(reply.question, reply.answer, " malformed")
            yield Data(Frame(whole.data[: len(whole.data) * 2 // 3], whole.event).sse())
        case faults.Oversized():
            yield Data(dialect.text_frame(reply.question, reply.answer, "x" * rule.bytes).sse())


def _whole(cue: Cue, dialect: Dialect, body: bytes, seconds: float) -> Iterator[Step]:
    """An answer that is not streamed; `seconds` is how long it takes to make."""
    rule = cue.rule
    head = Head(200, JSON, len(body))
    yield from _wait(seconds)
    match rule:
        case faults.HangFirstEvent():
            yield head
            yield Forever()
        case faults.Cut() | faults.Stall():
            yield head
            yield Data(body[: len(body) // 2])
            yield Close(rule.reset) if isinstance(rule, faults.Cut) else Forever()
        case faults.Malformed():
            yield from answered_with(body.replace(b":", b"=", 2))
        case faults.NoTerminal():
            yield from answered_with(body[: len(body) // 2])
        case faults.ErrorIn200():
            yield from answered_with(dialect.error(Refusal(rule.status, rule.message)))
        case faults.Keepalive():
            yield Head(200, JSON)
            for _ in range(rule.count):
                yield Data(b"\n")
                yield from _wait(rule.gap_ms / 1000)
            yield Data(body)
            yield End()
        case faults.Crlf():
            yield from answered_with(msgspec.json.format(body, indent=2).replace(b"\n", b"\r\n"))
        case _:
            yield from answered_with(body)


def _trickled(whole: Iterator[Step], rule: faults.Trickle) -> Iterator[Step]:
    for step in whole:
        if not isinstance(step, Data):
            yield step
            continue
        for start in range(0, len(step.data), rule.piece_bytes):
            yield Data(step.data[start : start + rule.piece_bytes])
            yield from _wait(rule.gap_ms / 1000)


def _wait(seconds: float) -> Iterator[Step]:
    if seconds > 0:
        yield Wait(seconds)


def _retry_after(seconds: float | None, form: str, now_s: float) -> tuple[tuple[str, str], ...]:
    """The header, in one of the three forms that providers use. A date has whole seconds: it is rounded up."""
    if seconds is None:
        return ()
    match form:
        case "date":
            return (("retry-after", formatdate(-int(-(now_s + seconds) // 1), usegmt=True)),)
        case "ms":
            return (("retry-after-ms", f"{seconds * 1000:g}"),)
        case _:
            return (("retry-after", f"{seconds:g}"),)
