"""POST /api/v1/compare: one question to several models at once, streamed or whole.

    stream  chunk* of all models, interleaved; chunk(done), or chunk(error, done), per model; summary done [DONE]
    failed  ... error [DONE]: too few models answered

Until some model has said something, a model's failure is kept back: if all fail, the answer is an error with a status.
"""

from collections import defaultdict
from collections.abc import Sequence

import msgspec
from msgspec.structs import asdict

from llmwise.api.http import Caller, Receive, Scope, Send
from llmwise.api.native import panel, sources
from llmwise.api.services import Services
from llmwise.domain.events import Event
from llmwise.domain.ids import RequestId
from llmwise.orchestration.chat import joined
from llmwise.orchestration.compare import Comparison, Item
from llmwise.orchestration.fanout import Batch
from llmwise.orchestration.panel import Said
from llmwise.wire import native

_decoder = msgspec.json.Decoder(native.CompareBody)


async def compare(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    await panel.serve(services, scope, receive, send, "compare", _decoder, prepared, CompareStream, _answer)


async def prepared(
    services: Services, caller: Caller, request_id: RequestId, given: native.CompareBody, body: bytes
) -> Comparison:
    """The comparison that a body asks for. Raises the `CallerError` that says what is wrong with it."""
    request, recalled = await panel.question(services, caller, given, given.models, panel.fields_of(body))
    asked = panel.contenders(services, caller.key, given.models, request, given)
    account = panel.account_of(services, caller, request_id, request, asked, "compare", recalled)
    return Comparison(asked, request, account, panel.bounds_of(given, len(asked)))


class CompareStream(sources.SideBySide):
    """Renders a comparison."""

    __slots__ = ("_comparison",)

    def __init__(self, comparison: Comparison, compat: bool) -> None:
        super().__init__(comparison.account, comparison.models, compat=compat)
        self._comparison = comparison

    def end(self) -> bytes:
        return self.frame(native.SummaryEvent("summary", **asdict(summary_of(self._comparison)))) + super().end()


def summary_of(comparison: Comparison) -> native.CompareSummary:
    """The models that answered, side by side."""
    best = comparison.best()
    models = {}
    for one in comparison.said:
        record = one.ledger.record
        if one.error is None and record is not None:
            cost = sources.usd(record.cost_nanousd)
            models[one.model] = native.ModelSummary(record.latency_ms, record.output_tokens, cost)
    return native.CompareSummary(best.fastest, best.longest, best.cheapest, models)


def _answer(comparison: Comparison, items: Sequence[Item]) -> native.CompareAnswer:
    events: defaultdict[int, list[Event]] = defaultdict(list)
    for item in items:
        if isinstance(item, Batch):
            events[item.source] += item.events
    fields = sources.account_fields(comparison.account)
    fields["warnings"] = sources.warnings(comparison.account.warnings)  # each response has its own
    return native.CompareAnswer(
        mode="compare",
        responses=[_response(said, events[said.number]) for said in comparison.said],
        summary=summary_of(comparison),
        **fields,
    )


def _response(said: Said, events: Sequence[Event]) -> native.CompareResponse:
    ledger, error = said.ledger, said.error
    record = ledger.record
    assert record is not None, "a source that has ended is closed"
    response = native.CompareResponse(
        model=said.model,
        content="",
        latency_ms=record.latency_ms,
        ttft_ms=record.ttft_ms,
        prompt_tokens=record.input_tokens + record.cache_read_tokens + record.cache_write_tokens,
        completion_tokens=record.output_tokens,
        cost=sources.usd(record.cost_nanousd),
        finish_reason=None,
        provider=record.provider or ledger.plan.attempts[0].target.provider,
        resolved_model=record.model or said.model,
        reasoning=None,
        tool_calls=None,
        usage_estimated=record.usage_estimated,
        warnings=sources.warnings(ledger.warnings),
    )
    if error is not None:
        response.error, response.code, response.status_code = error.message, error.code, error.status
        return response
    answer = joined(events)
    response.content = answer.text or answer.refusal or ""
    response.finish_reason = answer.finish.reason
    response.reasoning = "\n\n".join(block.text for block in answer.reasoning if block.text) or None
    calls = [native.ToolCall(call.id, native.Function(call.name, call.arguments)) for call in answer.tool_calls]
    response.tool_calls = calls or None
    return response
