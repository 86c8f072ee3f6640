"""POST /api/v1/compare: one question to several models at once, streamed or whole.

    stream  chunk* of all models, interleaved; chunk(done), or chunk(error, done), per model; summary done [DONE]
    failed  ... error [DONE]: every model failed

Until some model has said something, a model's failure is kept back: if all fail, the answer is an error with a status.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import msgspec
from msgspec.structs import asdict

from llmwise.api.errors import native_body, native_fields
from llmwise.api.http import (
    JSON,
    Caller,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    admit,
    decode,
    read_body,
    refuse,
    respond,
)
from llmwise.api.native.chat import NOT_BUILT
from llmwise.api.native.events import (
    COMPAT_DONE,
    COMPAT_KEEP_ALIVE,
    DONE,
    compat_frame,
    frame,
    last_chunk,
    tool_call,
)
from llmwise.api.native.translate import to_request
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, KEEP_ALIVE, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.domain.errors import GatewayError, Unprocessable, UnsupportedInput
from llmwise.domain.events import Event, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta, Warned
from llmwise.domain.money import to_credits, to_usd
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.requests import AUTO, ChatRequest
from llmwise.orchestration.chat import Answer, join
from llmwise.orchestration.compare import Comparison, Contender
from llmwise.orchestration.fanout import Batch, Item
from llmwise.wire import native

_decoder = msgspec.json.Decoder(native.CompareBody)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


async def compare(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "compare")
        body = await read_body(services, scope, receive)
        models, request, warnings = parse(body)
        comparison = Comparison(
            contenders(services, models, request),
            id=request_id,
            key_id=caller.key.id,
            request=request,
            dialect="native",
            rate_of=services.catalog.rate,
            clock=services.clock,
            recorder=services.recorder,
            keep_text=services.keep_text,
        )
        comparison.warnings += warnings
        watch = CallerWatch(scope, receive)
        try:
            if request.stream:
                await _stream(services, scope, send, caller, comparison)
            else:
                answers = await _whole(services, comparison)
                headers = [JSON, *_identity(comparison), *caller.headers()]
                await respond(send, 200, headers, _encode(_answer(answers, comparison)))
        finally:
            watch.stop()
    except GatewayError as error:
        await refuse(send, error, request_id, native_body, caller)
    except ClientGone:
        return


def parse(body: bytes) -> tuple[list[str], ChatRequest, list[Warned]]:
    """The models, the question to each, and what of it is not built yet. Raises `InvalidJSON` and `Unprocessable`."""
    given = decode(_decoder, body)
    chat = native.ChatBody(
        model=given.models[0],
        messages=given.messages,
        temperature=given.temperature,
        max_tokens=given.max_tokens,
        stream=given.stream,
        conversation_id=given.conversation_id,
    )
    request = to_request(chat, {name: bytes(raw) for name, raw in _fields.decode(body).items()})
    asked = (("semantic_memory", given.semantic_memory), ("conversation_id", given.conversation_id is not None))
    return (
        given.models,
        request,
        [Warned("not_built", name, f"{name}: {NOT_BUILT}") for name, wanted in asked if wanted],
    )


def contenders(services: Services, models: Sequence[str], request: ChatRequest) -> list[Contender]:
    """A plan for each model. One that can't take the request is a contender that was refused. Raises `UnknownModel`,
    and `Unprocessable` for a model named twice and for `auto`."""
    view = services.view()
    seen: dict[str, str] = {}
    found = []
    for index, name in enumerate(models):
        if name == AUTO:
            raise Unprocessable(f"models[{index}] = 'auto': name the models to compare", param=f"models[{index}]")
        card = services.catalog.resolve(name)
        if card.id in seen:
            raise Unprocessable(
                f"models[{index}] = {name!r}: is {card.id}, which {seen[card.id]!r} names already; leave one out",
                param=f"models[{index}]",
            )
        seen[card.id] = name
        try:
            found.append(Contender(services.planner.plan(msgspec.structs.replace(request, model=card.id), view)))
        except UnsupportedInput as error:
            found.append(Contender(Plan((PlannedAttempt(card, "requested"),)), error))
    return found


async def _stream(services: Services, scope: Scope, send: Send, caller: Caller, comparison: Comparison) -> None:
    compat = scope.get("llmwise.compat", False)
    async with comparison.run(services.mesh) as items:
        await stream(
            send,
            items,
            CompareStream(comparison, compat=compat),
            lambda: [EVENT_STREAM, NO_CACHE, NO_BUFFERING, *_identity(comparison), *caller.headers()],
            heartbeat_s=services.heartbeat_s,
            keep_alive=COMPAT_KEEP_ALIVE if compat else KEEP_ALIVE,
        )


async def _whole(services: Services, comparison: Comparison) -> list[Answer | None]:
    """Each model's answer, `None` where it failed."""
    said: list[list[Sequence[Event]]] = [[] for _ in comparison.models]
    async with comparison.run(services.mesh) as items, aclosing(items):
        async for item in items:
            if isinstance(item, Batch):
                said[item.source].append(item.events)
    return [
        await join(_again(batches)) if error is None else None
        for batches, error in zip(said, comparison.errors, strict=True)
    ]


async def _again(batches: Sequence[Sequence[Event]]) -> AsyncIterator[Sequence[Event]]:
    for batch in batches:
        yield batch


class CompareStream:
    """Renders a comparison. State: the length of each model's text, and the failures that are kept back."""

    __slots__ = ("_begun", "_comparison", "_done", "_frame", "_held", "_lengths")

    def __init__(self, comparison: Comparison, *, compat: bool) -> None:
        self._comparison = comparison
        self._frame = compat_frame if compat else frame
        self._done = COMPAT_DONE if compat else DONE
        self._lengths = [0] * len(comparison.models)
        self._begun = False
        self._held: list[bytes] = []

    def render(self, item: Item, /) -> bytes:
        source = item.source
        if isinstance(item, Batch):
            said = b"".join([self._event(source, event) for event in item.events])
        elif item.error is None:
            said = self._frame(last_chunk(self._comparison.ledgers[source], self._model(source), self._lengths[source]))
        else:
            said = self._frame(self._failed(source, item.error))
            if not self._begun:
                self._held.append(said)
                return b""
        if said and not self._begun:
            self._begun = True
            return b"".join([*self._held, said])
        return said

    def end(self) -> bytes:
        summary = native.SummaryEvent("summary", **asdict(summary_of(self._comparison)))
        return self._frame(summary) + self._frame(self._done_event()) + self._done

    def fail(self, error: GatewayError) -> bytes:
        fields = {"event": "error", **native_fields(error, self._comparison.id), "refunded": True}
        return self._frame(fields) + self._done

    def _model(self, source: int) -> str:
        return self._comparison.models[source]

    def _event(self, source: int, event: Event) -> bytes:
        match event:
            case TextDelta() | RefusalDelta():
                return self._frame(self._chunk(source, event.text))
            case ReasoningDelta(text=text) if text:
                chunk = self._chunk(source, "")
                chunk.reasoning = text
                return self._frame(chunk)
            case ToolCallDelta():
                chunk = self._chunk(source, "")
                chunk.tool_calls = [tool_call(event)]
                return self._frame(chunk)
            case _:
                return b""

    def _chunk(self, source: int, delta: str) -> native.PlainChunk:
        self._lengths[source] += len(delta)
        elapsed_ms = self._comparison.ledgers[source].elapsed_ms()
        return native.PlainChunk(self._model(source), delta, False, elapsed_ms, self._lengths[source])

    def _failed(self, source: int, error: GatewayError) -> native.FailedChunk:
        return native.FailedChunk(
            self._model(source),
            "",
            True,
            self._comparison.ledgers[source].elapsed_ms(),
            self._lengths[source],
            error.message,
            error.code,
            error.status,
            error.provider,
            error.retry_after_s,
        )

    def _done_event(self) -> native.CompareDoneEvent:
        record = self._comparison.record
        assert record is not None, "the record is made before the stream ends"
        return native.CompareDoneEvent(
            event="done",
            id=record.id,
            latency_ms=record.latency_ms,
            cost=_usd(record.cost_nanousd),
            credits_charged=None if record.cost_nanousd is None else to_credits(record.cost_nanousd),
            credits_remaining=None,
            byok=False,
            conversation_id=record.conversation_id,
            semantic_memory_used=False,
            semantic_memory_hits=0,
            warnings=_warnings(self._comparison.all_warnings()),
        )


def summary_of(comparison: Comparison) -> native.CompareSummary:
    """The models that answered, side by side."""
    best = comparison.best()
    models = {}
    for ledger, error in zip(comparison.ledgers, comparison.errors, strict=True):
        record = ledger.record
        if error is None and record is not None and record.model is not None:
            models[record.model] = native.ModelSummary(
                record.latency_ms, record.output_tokens, _usd(record.cost_nanousd)
            )
    return native.CompareSummary(best.fastest, best.longest, best.cheapest, models)


def _identity(comparison: Comparison) -> Headers:
    return [(b"x-request-id", comparison.id.encode())]


def _answer(answers: Sequence[Answer | None], comparison: Comparison) -> native.CompareAnswer:
    record = comparison.record
    assert record is not None
    return native.CompareAnswer(
        id=record.id,
        mode="compare",
        responses=[_response(index, answer, comparison) for index, answer in enumerate(answers)],
        summary=summary_of(comparison),
        latency_ms=record.latency_ms,
        cost=_usd(record.cost_nanousd),
        credits_charged=None if record.cost_nanousd is None else to_credits(record.cost_nanousd),
        credits_remaining=None,
        conversation_id=record.conversation_id,
        semantic_memory_used=False,
        semantic_memory_hits=0,
        warnings=_warnings(comparison.warnings),
    )


def _response(index: int, answer: Answer | None, comparison: Comparison) -> native.CompareResponse:
    ledger, error = comparison.ledgers[index], comparison.errors[index]
    record = ledger.record
    assert record is not None
    response = native.CompareResponse(
        model=comparison.models[index],
        content="",
        latency_ms=record.latency_ms,
        ttft_ms=record.ttft_ms,
        prompt_tokens=record.input_tokens + record.cache_read_tokens + record.cache_write_tokens,
        completion_tokens=record.output_tokens,
        cost=_usd(record.cost_nanousd),
        finish_reason=None,
        provider=ledger.plan.attempts[0].target.provider,
        reasoning=None,
        tool_calls=None,
        usage_estimated=record.usage_estimated,
        warnings=_warnings(ledger.warnings),
    )
    if error is not None:
        response.error, response.code, response.status_code = error.message, error.code, error.status
    if answer is not None:
        response.content = answer.text or answer.refusal or ""
        response.finish_reason = answer.finish.reason
        response.reasoning = "\n\n".join(block.text for block in answer.reasoning if block.text) or None
        calls = [native.ToolCall(call.id, native.Function(call.name, call.arguments)) for call in answer.tool_calls]
        response.tool_calls = calls or None
    return response


def _usd(cost_nanousd: int | None) -> float | None:
    return None if cost_nanousd is None else to_usd(cost_nanousd)


def _warnings(warned: Sequence[Warned]) -> list[native.Warning]:
    return [native.Warning(one.code, one.field, one.message) for one in warned]
