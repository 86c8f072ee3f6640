"""POST /api/v1/chat: one question, one answer, streamed or whole."""

import msgspec

from llmwise.api.admission import credits_charged, credits_remaining, reserve
from llmwise.api.errors import native_body
from llmwise.api.http import (
    JSON,
    Caller,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    admit,
    check_depth,
    decode,
    read_body,
    refuse,
    respond,
)
from llmwise.api.intake import planned
from llmwise.api.native import conversations, memory
from llmwise.api.native.events import (
    COMPAT_KEEP_ALIVE,
    NativeStream,
    auto_of,
    trace_steps,
    warnings_of,
)
from llmwise.api.native.translate import to_request
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, KEEP_ALIVE, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.domain.errors import GatewayError
from llmwise.domain.money import to_usd
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.chat import Answer, answer
from llmwise.orchestration.settlement import Ledger
from llmwise.wire import native

_decoder = msgspec.json.Decoder(native.ChatBody)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


async def chat(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "chat")
        body = await read_body(services, scope, receive)
        request, given = parse(body)
        await conversations.check_known(services, caller, given.conversation_id)
        request, recalled = await memory.recall(
            services,
            caller,
            request,
            wanted=given.semantic_memory,
            top_k=given.semantic_top_k,
            min_score=given.semantic_min_score,
        )
        request, plan = await planned(services, caller.key, scope["headers"], request)
        ledger = services.ledger(caller.principal, request_id, request, plan, "native")
        ledger.told(recalled)
        await reserve(services, caller, ledger)
        watch = CallerWatch(scope, receive)
        try:
            if request.stream:
                await _stream(services, scope, send, caller, ledger)
            else:
                result = await answer(services.continuity, request, ledger)
                await respond(send, 200, _headers(caller, ledger), _encode(_answer(result, ledger)))
        finally:
            watch.stop()
        await memory.remember(services, caller, ledger)
    except GatewayError as error:
        await refuse(send, error, request_id, native_body, caller)
    except ClientGone:
        return


def parse(body: bytes) -> tuple[ChatRequest, native.ChatBody]:
    """A native body as a domain request, and as it came. Raises `InvalidJSON`, `Unprocessable`."""
    given = decode(_decoder, body)
    for index, tool in enumerate(given.tools or ()):
        check_depth(tool.function.parameters, f"tools[{index}].function.parameters")
    if given.response_format is not None and given.response_format.json_schema is not None:
        check_depth(given.response_format.json_schema.schema, "response_format.json_schema.schema")
    return to_request(given, {name: bytes(raw) for name, raw in _fields.decode(body).items()}), given


async def _stream(services: Services, scope: Scope, send: Send, caller: Caller, ledger: Ledger) -> None:
    compat = scope.get("llmwise.compat", False)
    await stream(
        send,
        services.continuity.run(ledger.request, ledger),
        NativeStream(ledger, compat=compat, credits_remaining=lambda: credits_remaining(ledger)),
        lambda: [EVENT_STREAM, NO_CACHE, NO_BUFFERING, *_identity(ledger), *caller.headers()],
        heartbeat_s=services.heartbeat_s,
        keep_alive=COMPAT_KEEP_ALIVE if compat else KEEP_ALIVE,
    )


def _identity(ledger: Ledger) -> Headers:
    return [(b"x-request-id", ledger.id.encode())]


def _headers(caller: Caller, ledger: Ledger) -> Headers:
    return [JSON, *_identity(ledger), *caller.headers()]


def _answer(result: Answer, ledger: Ledger) -> native.ChatAnswer:
    record, final, auto = ledger.record, ledger.final, ledger.plan.auto
    assert record is not None
    assert final is not None
    return native.ChatAnswer(
        id=record.id,
        model=final.model,
        content=result.text or result.refusal or "",
        prompt_tokens=final.input_tokens + final.cache_read_tokens + final.cache_write_tokens,
        completion_tokens=final.output_tokens,
        latency_ms=record.latency_ms,
        cost=None if record.cost_nanousd is None else to_usd(record.cost_nanousd),
        credits_charged=credits_charged(ledger),
        credits_remaining=credits_remaining(ledger),
        finish_reason=result.finish.reason,
        mode="chat",
        conversation_id=record.conversation_id,
        resolved_model=final.model,
        auto_strategy=record.auto_strategy,
        optimization_goal=record.goal,
        provider=final.provider,
        ttft_ms=record.ttft_ms,
        cached_tokens=final.cache_read_tokens,
        reasoning_tokens=final.reasoning_tokens,
        tool_calls=[native.ToolCall(call.id, native.Function(call.name, call.arguments)) for call in result.tool_calls]
        or None,
        reasoning="\n\n".join(block.text for block in result.reasoning if block.text) or None,
        usage_estimated=final.usage_estimated,
        trace=trace_steps(result.trace.steps) if result.trace is not None else None,
        auto=auto_of(auto),
        warnings=warnings_of(ledger),
        byok=record.byok,
        semantic_memory_used=ledger.recalled.hits > 0,
        semantic_memory_hits=ledger.recalled.hits,
    )
