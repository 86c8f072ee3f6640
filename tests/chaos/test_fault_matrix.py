"""Every fault × stream and whole × first and last in the chain × each upstream format, through a real gateway:
the requests that reached each upstream, the events in order, the final status, one end.

The three formats are asked at the same time, each at targets of its own.
"""

import asyncio
from itertools import groupby
from typing import Any, Literal, TypeAlias

import pytest
from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.usage import MOST_TOKENS
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import AnyRule, Settings, Usage

from .gateways import ANSWER, DIALECTS, Served, asked, events_of

pytestmark = pytest.mark.anyio

Course: TypeAlias = Literal["answers", "moves on", "ends", "breaks"]
"""What a target with a fault means: an answer all the same; a failure before the first content that another target may
mend, or that none can; half an answer."""


class Due(Struct, frozen=True):
    """What is due for a fault. `status` and `code` are what the caller gets if nothing comes after; `upstream` are the
    status codes that the route may name (formats differ in what an error inside a 200 tells)."""

    course: Course
    status: int = 200
    code: str | None = None
    upstream: frozenset[int] = frozenset()


def moves(status: int, code: str, *upstream: int) -> Due:
    return Due("moves on", status, code, frozenset(upstream or (status,)))


def breaks(status: int, code: str, *upstream: int) -> Due:
    return Due("breaks", status, code, frozenset(upstream or (status,)))


ANSWERS = Due("answers")
LATE = moves(504, "upstream_timeout")
CUT = moves(502, "upstream_cut")
INVALID = moves(502, "upstream_invalid_response")
UNREACHABLE = moves(502, "upstream_unreachable")
LIMITED = moves(429, "upstream_rate_limited")
BUSY = moves(529, "upstream_overloaded")


class Case(Struct, frozen=True):
    """A fault, and what it means for a streamed and for a whole answer (`None`: another case has it already). `waits`
    marks one that a time-out ends."""

    name: str
    rule: AnyRule
    stream: Due
    whole: Due | None
    waits: bool = False

    def due(self, stream: bool) -> Due:
        due = self.stream if stream else self.whole
        assert due is not None
        return due


def same(name: str, rule: AnyRule, due: Due, *, waits: bool = False) -> Case:
    return Case(name, rule, due, due, waits)


def broken(status: int) -> Due:
    return moves(502, "upstream_error", status)


CASES = [
    same("none", faults.Normal(), ANSWERS),
    same("latency", faults.Normal(latency_ms=60), ANSWERS),
    same("first event late", faults.Normal(first_event_ms=60), ANSWERS),
    same("tokens per second", faults.Normal(tokens_per_second=100), ANSWERS),
    same("trickle", faults.Trickle(piece_bytes=16, gap_ms=0.5), ANSWERS),
    same("keepalive", faults.Keepalive(), ANSWERS),
    same("crlf", faults.Crlf(), ANSWERS),
    same("no usage", faults.NoUsage(), ANSWERS),
    same("429", faults.RateLimit(), LIMITED),
    same("429 with Retry-After", faults.RateLimit(retry_after=7), LIMITED),
    same("429 with Retry-After date", faults.RateLimit(retry_after=7, retry_after_form="date"), LIMITED),
    same("500", faults.Status(status=500), broken(500)),
    same("502", faults.Status(status=502), broken(502)),
    same("503", faults.Status(status=503), moves(529, "upstream_overloaded", 503)),
    same("504", faults.Status(status=504), moves(504, "upstream_timeout", 504)),
    same("408", faults.Status(status=408), moves(504, "upstream_timeout", 408)),
    same("529", faults.Overloaded(), BUSY),
    same("400", faults.Status(status=400), Due("ends", 400, "invalid_request", frozenset({400}))),
    same("401", faults.Status(status=401), moves(502, "upstream_unauthorized", 401)),
    same("404", faults.Status(status=404), moves(502, "upstream_model_missing", 404)),
    same("context too long", faults.ContextTooLong(), moves(400, "context_length_exceeded", 400)),
    same("refuse", faults.Refuse(), UNREACHABLE),
    same("refuse, closed", faults.Refuse(reset=False), UNREACHABLE),
    same("hang", faults.Hang(), LATE, waits=True),
    same("hang before the first event", faults.HangFirstEvent(), LATE, waits=True),
    same("stall before the first content", faults.Stall(after=0), LATE, waits=True),
    Case("stall", faults.Stall(after=2), breaks(504, "upstream_timeout"), LATE, waits=True),
    same("cut before the first content", faults.Cut(after=0), CUT),
    Case("cut after the first content", faults.Cut(after=1), breaks(502, "upstream_cut"), CUT),
    Case("cut", faults.Cut(after=3), breaks(502, "upstream_cut"), CUT),
    Case("cut by a reset", faults.Cut(after=3, reset=True), breaks(502, "upstream_cut"), CUT),
    same("malformed before the first content", faults.Malformed(after=0), INVALID),
    Case("malformed", faults.Malformed(after=2), breaks(502, "upstream_invalid_response"), INVALID),
    same("error in 200 before the first content", faults.ErrorIn200(after=0), moves(502, "upstream_error", 500, 502)),
    Case(
        "error in 200",
        faults.ErrorIn200(after=2),
        breaks(502, "upstream_error", 500, 502),
        moves(502, "upstream_error", 500, 502),
    ),
    Case(
        "rate limit in 200",
        faults.ErrorIn200(after=2, status=429),
        breaks(429, "upstream_rate_limited"),
        LIMITED,
    ),
    same("wrong content type", faults.WrongContentType(), moves(502, "upstream_invalid_response", 200)),
    Case("no terminal frame", faults.NoTerminal(), breaks(502, "upstream_cut"), INVALID),
    same("oversized", faults.Oversized(after=0, bytes=9 << 20), INVALID),
    Case("oversized amid", faults.Oversized(after=2, bytes=9 << 20), breaks(502, "upstream_invalid_response"), None),
]
WHOLE_TOO_LARGE = 33 << 20
"""Over the transport's limit of a whole body, which is over that of a frame."""

every_fault = pytest.mark.parametrize(
    ("case", "stream"),
    [
        pytest.param(case, stream, id=f"{case.name.replace(' ', '-')}-{'stream' if stream else 'whole'}")
        for case in CASES
        for stream in (True, False)
        if stream or case.whole is not None
    ],
)
both_places = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])


def scripted(case: Case, *, stream: bool, target: int) -> AnyRule:
    rule = replace(case.rule, model=f"*-{target}")
    if isinstance(rule, faults.Oversized) and not stream:
        return replace(rule, bytes=WHOLE_TOO_LARGE)
    return rule


def stage(case: Case, patient: Served, hasty: Served, *, stream: bool, last: bool) -> Served:
    """The gateway that the case needs, with its script playing: the fault at the first target, or at the second one
    behind a first that fails."""
    served = hasty if case.waits else patient
    if last:
        failing = faults.Status(model="*-1", status=500)
        served.play(failing, scripted(case, stream=stream, target=2))
    else:
        served.play(scripted(case, stream=stream, target=1))
    return served


class Expected(Struct, frozen=True):
    """What a chain of two comes to."""

    answered: str | None
    """The model whose text the caller gets, all or (`whole` unset) half of it."""
    whole: bool
    steps: list[tuple[str, str]]
    reached: tuple[int, int]
    status: int
    code: str | None


def expected(due: Due, dialect: str, *, last: bool) -> Expected:
    first, second = f"{dialect}-1", f"{dialect}-2"
    before = [(first, "failed")] if last else []
    target = second if last else first
    reached = (1, 1) if last else (1, 0)
    match due.course:
        case "answers":
            return Expected(target, True, [*before, (target, "success")], reached, 200, None)
        case "breaks":
            steps = [*before, (target, "success"), (target, "failed")]
            return Expected(target, False, steps, reached, due.status, due.code)
        case "moves on" if not last:
            return Expected(second, True, [(first, "failed"), (second, "success")], (1, 1), 200, None)
        case _:
            return Expected(None, False, [*before, (target, "failed")], reached, due.status, due.code)


def trying(steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Steps as route events tell them: each attempt is announced first."""
    told: list[tuple[str, str]] = []
    for step in steps:
        if not told or told[-1][0] != step[0]:
            told.append((step[0], "trying"))
        told.append(step)
    return told


@every_fault
@both_places
async def test_a_native_chain(case: Case, stream: bool, last: bool, patient: Served, hasty: Served) -> None:
    served = stage(case, patient, hasty, stream=stream, last=last)
    due = case.due(stream)

    async def ask(dialect: str) -> None:
        body = asked(f"{dialect}-1", f"{dialect}-2", stream=stream)
        response = await served.client.post("/api/v1/chat", json=body)
        want = expected(due, dialect, last=last)
        if stream:
            assert response.status_code == 200
            check_native_stream(events_of(response.content), want, due)
        elif want.status == 200:
            answer = response.json()
            assert (response.status_code, answer["model"], answer["content"]) == (200, want.answered, ANSWER)
            assert [(step["model"], step["status"]) for step in answer["trace"]] == want.steps
        else:
            assert (response.status_code, response.json()["code"]) == (want.status, want.code), response.text
        assert served.reached(dialect) == want.reached

    await asyncio.gather(*map(ask, DIALECTS))
    assert served.in_flight == 0


def check_native_stream(events: list[dict[str, Any]], want: Expected, due: Due) -> None:
    kinds = [kind for kind, _ in groupby(event["event"] for event in events)]
    end = "done" if want.status == 200 else "error"
    if want.answered is None:
        assert kinds == ["route", "trace", end]
    elif want.whole:
        assert kinds == ["route", "chunk", "trace", end]
    else:
        assert kinds == ["route", "chunk", "route", "trace", end]
    routes = [event for event in events if event["event"] == "route"]
    assert [(route["model"], route["status"]) for route in routes] == trying(want.steps)
    chunks = [event for event in events if event["event"] == "chunk"]
    text = "".join(chunk["delta"] for chunk in chunks)
    assert {chunk["model"] for chunk in chunks} <= {want.answered}
    assert sum(bool(chunk.get("done")) for chunk in chunks) == int(want.whole), "only a whole answer is said to be done"
    assert text == ANSWER if want.whole else ANSWER.startswith(text)
    assert bool(text) == (want.answered is not None)
    trace = events[-2]
    assert trace["attempts"] == len({model for model, _ in want.steps})
    assert [(step["model"], step["status"]) for step in trace["trace"]] == want.steps
    assert trace["final_model"] == (want.answered if want.whole else None)
    assert bool(trace.get("terminal_error")) == (not want.whole)
    failed = [route for route in routes if route["status"] == "failed"]
    if due.course != "answers":
        assert failed[-1]["status_code"] in due.upstream
        assert failed[-1]["error"]
        assert failed[-1]["reason"]
    if end == "error":
        error = events[-1]
        assert (error["status_code"], error["code"]) == (want.status, want.code)
        assert error["refunded"] is True
        assert error["error"] == trace["terminal_error"]


@every_fault
@both_places
async def test_an_openai_chain(case: Case, stream: bool, last: bool, patient: Served, hasty: Served) -> None:
    served = stage(case, patient, hasty, stream=stream, last=last)
    due = case.due(stream)

    async def ask(dialect: str) -> None:
        body = asked(f"{dialect}-1", f"{dialect}-2", stream=stream)
        response = await served.client.post("/v1/chat/completions", json=body)
        want = expected(due, dialect, last=last)
        if want.answered is None:  # nothing was said yet: the error is a status
            assert (response.status_code, response.json()["error"]["code"]) == (want.status, want.code), response.text
        elif stream:
            assert response.status_code == 200
            check_openai_stream(events_of(response.content), want)
        else:
            answer = response.json()
            assert (response.status_code, answer["model"]) == (200, want.answered)
            assert answer["choices"][0]["message"]["content"] == ANSWER
            assert [(step["model"], step["status"]) for step in answer["llmwise"]["route"]] == want.steps
        assert served.reached(dialect) == want.reached

    await asyncio.gather(*map(ask, DIALECTS))
    assert served.in_flight == 0


def check_openai_stream(chunks: list[dict[str, Any]], want: Expected) -> None:
    if not want.whole:
        assert chunks.pop()["error"]["code"] == want.code
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert {chunk["model"] for chunk in chunks} == {want.answered}
    assert text == ANSWER if want.whole else ANSWER.startswith(text)
    finishes = [choice["finish_reason"] for choice in choices if choice["finish_reason"] is not None]
    assert finishes == (["stop"] if want.whole else [])
    if want.whole:
        steps = chunks[-1]["llmwise"]["route"]
        assert [(step["model"], step["status"]) for step in steps] == want.steps


@every_fault
async def test_one_model_without_a_chain(case: Case, stream: bool, patient: Served, hasty: Served) -> None:
    """Before the first content an error is a status; after it, an event and then the end."""
    served = stage(case, patient, hasty, stream=stream, last=False)
    due = case.due(stream)

    async def ask(dialect: str) -> None:
        response = await served.client.post("/api/v1/chat", json=asked(f"{dialect}-1", stream=stream))
        if due.course in ("moves on", "ends"):
            body = response.json()
            assert (response.status_code, body["code"], body["status_code"]) == (due.status, due.code, due.status)
            if isinstance(case.rule, faults.RateLimit) and case.rule.retry_after:
                assert 6 <= int(response.headers["retry-after"]) <= 8
        elif not stream:
            assert (response.status_code, response.json()["content"]) == (200, ANSWER)
        else:
            assert response.status_code == 200
            check_plain_stream(events_of(response.content), due)
        assert served.reached(dialect) == (1, 0)
        record = await served.settled_request(response.headers["x-request-id"])
        assert (record["status_code"], record["code"]) == (due.status, due.code)
        assert record["attempts"] == 1
        if isinstance(case.rule, faults.NoUsage):
            assert record["usage_estimated"]

    await asyncio.gather(*map(ask, DIALECTS))


def check_plain_stream(events: list[dict[str, Any]], due: Due) -> None:
    chunks, end = events[:-1], events[-1]
    assert not any("event" in chunk for chunk in chunks)
    text = "".join(chunk["delta"] for chunk in chunks)
    if due.course == "answers":
        assert end["event"] == "done"
        assert text == ANSWER
        assert [chunk["done"] for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    else:
        assert (end["event"], end["status_code"], end["code"]) == ("error", due.status, due.code)
        assert text
        assert ANSWER.startswith(text)
        assert not any(chunk["done"] for chunk in chunks)


def test_the_matrix_holds_every_fault_of_the_script() -> None:
    assert {case.rule.fault for case in CASES} == {rule.__struct_config__.tag for rule in faults.Rule.__subclasses__()}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("said", "kept"), [(2**70, MOST_TOKENS), (-5, 0)])
async def test_a_provider_that_reports_absurd_usage_gets_a_record_that_can_be_kept(
    patient: Served, said: int, kept: int, stream: bool
) -> None:
    patient.play(settings=Settings(text=ANSWER, usage=Usage(input=said, output=said)))
    for dialect in DIALECTS:
        answer = await patient.client.post("/api/v1/chat", json=asked(f"{dialect}-1", stream=stream))
        assert answer.status_code == 200, answer.text
        record = await patient.settled_request(answer.headers["x-request-id"])
        assert (record["prompt_tokens"], record["completion_tokens"]) == (kept, kept), dialect
