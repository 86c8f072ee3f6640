"""POST /api/v1/compare: one question to several models at once, streamed or whole.

    stream  chunk* of all models, interleaved; chunk(done), or chunk(error, done), per model; summary done [DONE]
    failed  ... error [DONE]: every model failed

Until some model has said something, a model's failure is kept back: if all fail, the answer is an error with a status.
"""

from collections.abc import Sequence
from contextlib import aclosing

import msgspec
from msgspec.structs import asdict

from llmwise.api.admission import credits_charged, credits_remaining, reserve
from llmwise.api.errors import native_body, native_fields
from llmwise.api.http import JSON, Caller, ClientGone, Receive, Scope, Send, admit, decode, read_body, refuse, respond
from llmwise.api.native import memory, panel
from llmwise.api.native.events import COMPAT_DONE, COMPAT_KEEP_ALIVE, DONE, compat_frame, frame
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, KEEP_ALIVE, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.domain.errors import GatewayError
from llmwise.domain.events import Event
from llmwise.orchestration.chat import Answer, joined
from llmwise.orchestration.compare import Comparison
from llmwise.orchestration.estimates import Call, check_affordable, estimated
from llmwise.orchestration.fanout import Batch, Item
from llmwise.orchestration.settlement import refunded
from llmwise.routing.needs import needs_of
from llmwise.wire import native

_decoder = msgspec.json.Decoder(native.CompareBody)
_encode = msgspec.json.Encoder().encode


async def compare(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "compare")
        body = await read_body(services, scope, receive)
        given = decode(_decoder, body)
        request, recalled = await panel.question(services, caller, given, given.models, panel.fields_of(body))
        bounds = panel.bounds_of(given, len(given.models))
        comparison = Comparison(
            panel.contenders(services, caller.key, given.models, request, given.fallback),
            id=request_id,
            key_id=caller.key.id,
            request=request,
            dialect="native",
            rate_of=services.catalog.rate,
            clock=services.clock,
            recorder=services.recorder,
            handling=services.handling(caller.principal),
            bounds=bounds,
        )
        comparison.account.told(recalled)
        calls = [Call("source", ledger.plan.attempts[0].target) for ledger in comparison.ledgers]
        estimate = estimated(calls, needs_of(request), services.catalog.rate, services.clock.unix_ms())
        if given.dry_run:
            headers = [JSON, *panel.identity(request_id), *caller.headers()]
            answer = panel.estimate_answer(estimate, request_id, "compare", comparison.warnings)
            await respond(send, 200, headers, answer)
            return
        check_affordable(estimate, bounds.max_cost_nanousd)
        await reserve(services, caller, comparison.account, likely_nanousd=estimate.likely_nanousd)
        watch = CallerWatch(scope, receive)
        try:
            if request.stream:
                await _stream(services, scope, send, caller, comparison)
            else:
                answers = await _whole(services, comparison)
                headers = [JSON, *panel.identity(comparison.id), *caller.headers()]
                await respond(send, 200, headers, _encode(_answer(answers, comparison)))
        finally:
            watch.stop()
        await memory.remember(services, caller, comparison.account)
    except GatewayError as error:
        await refuse(send, error, request_id, native_body, caller)
    except ClientGone:
        return


async def _stream(services: Services, scope: Scope, send: Send, caller: Caller, comparison: Comparison) -> None:
    compat = scope.get("llmwise.compat", False)
    async with comparison.run(services.mesh) as items:
        await stream(
            send,
            items,
            CompareStream(comparison, compat=compat),
            lambda: [EVENT_STREAM, NO_CACHE, NO_BUFFERING, *panel.identity(comparison.id), *caller.headers()],
            heartbeat_s=services.heartbeat_s,
            keep_alive=COMPAT_KEEP_ALIVE if compat else KEEP_ALIVE,
        )


async def _whole(services: Services, comparison: Comparison) -> list[Answer | None]:
    """Each model's answer, `None` where it failed."""
    said: list[list[Event]] = [[] for _ in comparison.models]
    async with comparison.run(services.mesh) as items, aclosing(items):
        async for item in items:
            if isinstance(item, Batch):
                said[item.source] += item.events
    return [joined(events) if error is None else None for events, error in zip(said, comparison.errors, strict=True)]


class CompareStream:
    """Renders a comparison. State: each model's chunks, and the failures that are kept back."""

    __slots__ = ("_begun", "_comparison", "_done", "_frame", "_held", "_sources")

    def __init__(self, comparison: Comparison, *, compat: bool) -> None:
        self._comparison = comparison
        self._frame = compat_frame if compat else frame
        self._done = COMPAT_DONE if compat else DONE
        self._sources = [
            panel.SourceChunks(ledger, model, compat=compat)
            for ledger, model in zip(comparison.ledgers, comparison.models, strict=True)
        ]
        self._begun = False
        self._held: list[bytes] = []

    def render(self, item: Item, /) -> bytes:
        source = self._sources[item.source]
        if isinstance(item, Batch):
            said = source.batch(item.events)
        else:
            said = source.ended(item.error)
            if item.error is not None and not self._begun:
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
        fields = {
            "event": "error",
            **native_fields(error, self._comparison.id),
            "refunded": refunded(self._comparison.account),
        }
        return self._frame(fields) + self._done

    def _done_event(self) -> native.CompareDoneEvent:
        record = self._comparison.record
        assert record is not None, "the record is made before the stream ends"
        return native.CompareDoneEvent(
            event="done",
            id=record.id,
            latency_ms=record.latency_ms,
            cost=panel.usd(record.cost_nanousd),
            credits_charged=credits_charged(self._comparison.account),
            credits_remaining=credits_remaining(self._comparison.account),
            byok=record.byok,
            conversation_id=record.conversation_id,
            semantic_memory_used=self._comparison.account.recalled.hits > 0,
            semantic_memory_hits=self._comparison.account.recalled.hits,
            warnings=panel.warnings(self._comparison.all_warnings()),
        )


def summary_of(comparison: Comparison) -> native.CompareSummary:
    """The models that answered, side by side."""
    best = comparison.best()
    models = {}
    for name, ledger, error in zip(comparison.models, comparison.ledgers, comparison.errors, strict=True):
        record = ledger.record
        if error is None and record is not None:
            models[name] = native.ModelSummary(record.latency_ms, record.output_tokens, panel.usd(record.cost_nanousd))
    return native.CompareSummary(best.fastest, best.longest, best.cheapest, models)


def _answer(answers: Sequence[Answer | None], comparison: Comparison) -> native.CompareAnswer:
    record = comparison.record
    assert record is not None
    return native.CompareAnswer(
        id=record.id,
        mode="compare",
        responses=[_response(index, answer, comparison) for index, answer in enumerate(answers)],
        summary=summary_of(comparison),
        latency_ms=record.latency_ms,
        cost=panel.usd(record.cost_nanousd),
        credits_charged=credits_charged(comparison.account),
        credits_remaining=credits_remaining(comparison.account),
        conversation_id=record.conversation_id,
        semantic_memory_used=comparison.account.recalled.hits > 0,
        semantic_memory_hits=comparison.account.recalled.hits,
        warnings=panel.warnings(comparison.warnings),
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
        cost=panel.usd(record.cost_nanousd),
        finish_reason=None,
        provider=record.provider or ledger.plan.attempts[0].target.provider,
        resolved_model=record.model or comparison.models[index],
        reasoning=None,
        tool_calls=None,
        usage_estimated=record.usage_estimated,
        warnings=panel.warnings(ledger.warnings),
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
