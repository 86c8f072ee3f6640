"""The cases: what is asked, what the provider does, and what has to come of both.

They come from what broke in public gateways. A check yields what is wrong, one sentence each; a case passes when there
is nothing. Everything is judged by what was on the wire.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from llmwise.conformance import said, sent
from llmwise.conformance.questions import Call, Dialect, Question, Tool
from llmwise.conformance.said import Failed, Said, Unreadable
from llmwise.conformance.sent import Sent

Way: TypeAlias = Literal["ask", "no key", "bad key", "no JSON", "no model", "leave"]
"""How it is asked: plainly, with something wrong, or by a caller that leaves before the end."""


class Asked(Struct, frozen=True):
    """A request as it reached the provider, and the format that it came in: a gateway may choose among a provider's."""

    family: str
    body: dict[str, Any]


class Outcome(Struct, frozen=True):
    """What came back, and what reached the provider, oldest first. `left_after_ms` is how long the provider's call
    went on after its caller had left; `None`: it was never ended."""

    dialect: Dialect
    family: str
    stream: bool
    status: int
    headers: Mapping[str, str]
    text: str
    asked: tuple[Asked, ...] = ()
    left_after_ms: float | None = None

    @property
    def said(self) -> Said:
        """Raises `Failed` or `Unreadable`."""
        return said.read(self.dialect, self.text, stream=self.stream)

    @property
    def sent(self) -> Sent:
        return sent.read(self.asked[-1].family, self.asked[-1].body)


Check: TypeAlias = Callable[[Outcome], Iterator[str]]


class Case(Struct, frozen=True):
    """`script` is the provider's (see `llmwise mock`). `scripted`: what the provider answers matters, so that a server
    without one behind it is not asked. `unless` names the families and dialects that can't say such a thing."""

    name: str
    check: Check
    question: Question = Question()
    script: Mapping[str, Any] = {}
    modes: tuple[bool, ...] = (False, True)
    way: Way = "ask"
    scripted: bool = True
    unless: frozenset[str] = frozenset()


def cases() -> list[Case]:
    """All but the golden ones."""
    return [*ANSWERS, *REQUESTS, *FAILURES, *CALLERS]


# --- checks -----------------------------------------------------------------------------------------------------------


def readable(outcome: Outcome) -> Iterator[str]:
    """It is an answer, and in the dialect's own grammar from the first to the last byte."""
    if outcome.status != 200:
        yield f"status {outcome.status}: {outcome.text[:160]}"
        return
    try:
        _ = outcome.said
    except (Failed, Unreadable) as error:
        yield f"{type(error).__name__}: {error}"


def answers(outcome: Outcome) -> Iterator[str]:
    """It is an answer that says something."""
    wrong = list(readable(outcome))
    yield from wrong
    if not wrong and not outcome.said.text and not outcome.said.calls:
        yield "an empty answer"


def says(**expected: Any) -> Check:
    """The answer is one, and each of these fields of `Said` is as expected."""

    def check(outcome: Outcome) -> Iterator[str]:
        wrong = list(readable(outcome))
        yield from wrong
        if wrong:
            return
        got = outcome.said
        for name, value in expected.items():
            if getattr(got, name) != value:
                yield f"{name} is {getattr(got, name)!r:.120}, not {value!r:.120}"

    return check


def calls(count: int) -> Check:
    """So many calls of the tools offered, each with an id of its own and arguments that its schema takes."""

    def check(outcome: Outcome) -> Iterator[str]:
        wrong = list(answers(outcome))
        yield from wrong
        if wrong:
            return
        got = outcome.said
        if len(got.calls) != count:
            yield f"{len(got.calls)} tool calls, not {count}"
        if len({call.id for call in got.calls}) != len(got.calls) or not all(call.id for call in got.calls):
            yield f"ids are missing or given twice: {[call.id for call in got.calls]}"
        for call in got.calls:
            if call.name not in (tool.name for tool in TOOLS):
                yield f"a call of {call.name!r}, which was not offered"
            try:
                if not isinstance(json.loads(call.arguments), dict):
                    yield f"arguments are no object: {call.arguments!r:.80}"
            except ValueError:
                yield f"arguments are not JSON: {call.arguments!r:.80}"
        if got.finish != "tool_calls":
            yield f"finish is {got.finish}, not tool_calls"

    return check


def sends(**expected: Any) -> Check:
    """It is answered, and each of these fields of `Sent` reached the provider as expected."""

    def check(outcome: Outcome) -> Iterator[str]:
        if outcome.status != 200:
            yield f"status {outcome.status}: {outcome.text[:160]}"
            return
        got = outcome.sent
        for name, value in expected.items():
            if getattr(got, name) != value:
                yield f"the provider was sent {name} {getattr(got, name)!r:.100}, not {value!r:.100}"

    return check


def forms(outcome: Outcome) -> Iterator[str]:
    """The schema reached the provider, in its own words: what its format doesn't take may be left out."""
    if outcome.status != 200:
        yield f"status {outcome.status}: {outcome.text[:160]}"
        return
    got = outcome.sent.schema
    if not isinstance(got, dict) or list(got.get("properties") or ()) != ["city"]:
        yield f"the provider was sent the schema {got!r:.120}"


def mentions(*words: str) -> Check:
    """All of these reached the provider, in this order."""

    def check(outcome: Outcome) -> Iterator[str]:
        if outcome.status != 200:
            yield f"status {outcome.status}: {outcome.text[:160]}"
            return
        at = 0
        for word in words:
            found = outcome.sent.text.find(word, at)
            if found < 0:
                yield f"the provider was not sent {word!r} in its place"
            at = max(at, found)

    return check


def tokens(outcome: Outcome) -> Iterator[str]:
    wrong = list(answers(outcome))
    yield from wrong
    if wrong:
        return
    got = outcome.said.tokens
    if got is None:
        yield "no usage"
        return
    for name, value in (("prompt", 100), ("cache_read", 30), ("output", 50)):
        if getattr(got, name) != value:
            yield f"{name} tokens are {getattr(got, name)}, not {value}"


def no_usage_unasked(outcome: Outcome) -> Iterator[str]:
    yield from answers(outcome)
    if any(chunk.get("usage") for chunk in said.documents(outcome.text)):
        yield "a usage chunk that was not asked for"


def not_nothing(outcome: Outcome) -> Iterator[str]:
    """A provider that reports no tokens did not use none."""
    yield from answers(outcome)
    try:
        got = outcome.said.tokens
    except (Failed, Unreadable):
        return
    if got is not None and got.output == 0:
        yield "no usage was reported, and 0 tokens were made of it"


def broken(outcome: Outcome) -> Iterator[str]:
    """An answer that broke off is an error, and no answer that looks whole."""
    if outcome.status != 200:
        yield from envelope(outcome)
        return
    try:
        got = outcome.said
    except (Failed, Unreadable):
        return
    yield f"the broken answer ends like a whole one: finish {got.finish}, {len(got.text)} characters"


def refused(*allowed: int) -> Check:
    """An error with one of these statuses, in the dialect's envelope."""

    def check(outcome: Outcome) -> Iterator[str]:
        if outcome.status not in allowed:
            yield f"status {outcome.status}, not {' or '.join(map(str, allowed))}: {outcome.text[:120]}"
            return
        yield from envelope(outcome)

    return check


def limited(outcome: Outcome) -> Iterator[str]:
    yield from refused(429)(outcome)
    if outcome.status == 429 and outcome.headers.get("retry-after") is None:
        yield "429 without the provider's Retry-After"


def envelope(outcome: Outcome) -> Iterator[str]:
    """The error is in the dialect's own envelope."""
    try:
        body = json.loads(outcome.text)
        error = body["error"]
        if outcome.dialect == "anthropic":
            good = body["type"] == "error" and isinstance(error["type"], str) and isinstance(error["message"], str)
        elif outcome.dialect == "native":
            good = isinstance(error, str) and isinstance(body["code"], str)
        else:
            good = isinstance(error["message"], str) and "type" in error
    except (ValueError, KeyError, TypeError):
        good = False
    if not good:
        yield f"the error is not in the dialect's envelope: {outcome.text[:120]}"


def lets_go(outcome: Outcome) -> Iterator[str]:
    if not outcome.asked:
        yield "nothing reached the provider"
    elif outcome.left_after_ms is None:
        yield "the provider's call went on after the caller had left"


# --- the cases --------------------------------------------------------------------------------------------------------


def answering(text: str | None = None, **settings: Any) -> dict[str, Any]:
    return {"defaults": settings if text is None else {"text": text, **settings}}


def failing(fault: str, text: str | None = None, **parameters: Any) -> dict[str, Any]:
    return {**answering(text), "rule": [{"fault": fault, **parameters}]}


CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo"]}}, "required": ["city"]}
TOOLS = (Tool("weather", CITY), Tool("local_time", CITY))
OFFERED = Question(tools=TOOLS)
ODD = 'Grüße,\nC:\\new "quoted" \u2028 \u0000ff 🦉 </s> data: [DONE]'
LONG = " ".join(f"word{n}" for n in range(300))
EARLIER = (
    Call("call_a1", "weather", '{"city": "Oslo"}', "rain-first"),
    Call("call_b2", "local_time", '{"city": "Oslo"}', "noon-second"),
)
FORM = {**CITY, "additionalProperties": False}
NOT_CHAT = frozenset({"responses", "anthropic", "native"})
NO_STOP = frozenset({"responses", "> responses"})
"""The Responses API has no stop sequences."""

ANSWERS = [
    Case("text", says(text="Oslo.", finish="stop"), script=answering("Oslo.")),
    Case("any text at all", answers, scripted=False),
    Case("odd characters", says(text=ODD), script=answering(ODD)),
    Case("300 pieces", says(text=LONG), script=answering(LONG)),
    Case("one tool call", calls(1), OFFERED, answering(tool_calls=1)),
    Case("three parallel tool calls", calls(3), OFFERED, answering(tool_calls=3)),
    Case("cut off by max_tokens", says(finish="length"), script=answering(finish="length")),
    Case("stopped by a filter", says(finish="content_filter", text=""), script=answering("", finish="content_filter")),
    Case("thinking", says(reasoning="Norway.", text="Oslo."), script=answering("Oslo.", reasoning="Norway.")),
    Case("token buckets", tokens, script=answering(usage={"input": 70, "cache_read": 30, "output": 50})),
    Case("usage only if asked for", no_usage_unasked, Question(usage=False), modes=(True,), unless=NOT_CHAT),
    Case("no usage reported", not_nothing, script=failing("no_usage")),
    Case("comments in the stream", says(text=LONG), script=failing("keepalive", LONG, gap_ms=0)),
    Case("CRLF", says(text=ODD), script=failing("crlf", ODD)),
    Case("byte by byte", says(text=ODD), script=failing("trickle", ODD, gap_ms=0)),
]

REQUESTS = [
    Case("system message", mentions("Answer in Norse.", "capital of Norway"), Question(system="Answer in Norse.")),
    Case("tools with their schema", sends(tools={tool.name: tool.schema for tool in TOOLS}), OFFERED),
    Case("a tool must be called", sends(must_call=True), Question(tools=TOOLS, must_call=True)),
    Case(
        "tool results, in order",
        mentions("of Norway", "rain-first", "noon-second"),
        Question(tools=TOOLS, calls=EARLIER),
    ),
    Case("an image", sends(images=1), Question(image=True)),
    Case("JSON Schema", forms, Question(schema=FORM), answering('{"city":"Oslo"}')),
    Case("temperature 0.7 stays", sends(temperature=0.7, max_tokens=1000), Question(temperature=0.7)),
    Case("stop sequences", sends(stop=("END", "###")), Question(stop=("END", "###")), unless=NO_STOP),
]

FAILURES = [
    Case("cut in the middle", broken, script=failing("cut", LONG, after=5)),
    Case("no terminal frame", broken, script=failing("no_terminal", LONG)),
    Case("malformed frame", broken, script=failing("malformed", LONG, after=5)),
    Case("an error inside a 200", broken, script=failing("error_in_200", LONG, after=5)),
    Case("429 with Retry-After", limited, script=failing("rate_limit", retry_after=7)),
    Case("500", refused(500, 502, 503), script=failing("status", status=500)),
    Case("529", refused(503, 529), script=failing("overloaded")),
    Case("the prompt is too long", refused(400, 413, 422), script=failing("context_too_long")),
    Case("a web page for an answer", refused(500, 502, 503), script=failing("wrong_content_type")),
]

CALLERS = [
    Case("no key", refused(401, 403), way="no key", modes=(False,), scripted=False),
    Case("a key that is none", refused(400, 401, 403), way="bad key", modes=(False,), scripted=False),
    Case("a body that is no JSON", refused(400, 422), way="no JSON", modes=(False,), scripted=False),
    Case("a model that is not there", refused(400, 404), way="no model", scripted=False),
    Case("the caller leaves", lets_go, way="leave", script=answering(LONG, tokens_per_second=20)),
]
