"""What compare, blend and judge share at the door: the models they name, their bounds, estimates, and how a source is
told of, whole and in chunks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Struct
from msgspec.json import encode
from msgspec.structs import replace

from llmwise.api.http import Caller, Headers
from llmwise.api.native import conversations, memory
from llmwise.api.native.events import compat_frame, frame, last_chunk, tool_call
from llmwise.api.native.translate import to_request
from llmwise.api.services import Services
from llmwise.domain.errors import GatewayError, Unprocessable, UnsupportedInput
from llmwise.domain.events import Event, ReasoningDelta, RefusalDelta, TextDelta, ToolCallDelta, Verbatim, Warned
from llmwise.domain.ids import RequestId
from llmwise.domain.models import ModelCard
from llmwise.domain.money import from_usd, to_credits, to_usd
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.records import Mode
from llmwise.domain.requests import AUTO, ChatRequest, Routing
from llmwise.orchestration.compare import Contender
from llmwise.orchestration.estimates import Estimate
from llmwise.orchestration.handling import Recall
from llmwise.orchestration.panel import Bounds, Said
from llmwise.orchestration.settlement import Ledger
from llmwise.storage.rows import KeyRow
from llmwise.wire import native


class PanelBody(Protocol):
    """The fields that the three bodies share."""

    messages: list[native.Message]
    temperature: float | None
    max_tokens: int | None
    stream: bool
    semantic_memory: bool | None
    semantic_top_k: int | None
    semantic_min_score: float | None
    conversation_id: str | None
    fallback: dict[str, list[str]] | None
    source_timeout_s: float | None
    min_sources: int | None
    max_cost: float | None
    dry_run: bool


async def question(
    services: Services, caller: Caller, body: PanelBody, models: Sequence[str], fields: Mapping[str, msgspec.Raw]
) -> tuple[ChatRequest, Recall]:
    """The question to each model, with what is remembered, if it asks for that. `fields` is the body as it came. Raises
    `NotFound` for a conversation that isn't there."""
    await conversations.check_known(services, caller, body.conversation_id)
    chat = native.ChatBody(
        model=models[0],
        messages=body.messages,
        temperature=body.temperature,
        max_tokens=body.max_tokens,
        stream=body.stream,
        conversation_id=body.conversation_id,
    )
    request = to_request(chat, {name: bytes(raw) for name, raw in fields.items()})
    return await memory.recall(
        services,
        caller,
        request,
        wanted=body.semantic_memory and not body.dry_run,
        top_k=body.semantic_top_k,
        min_score=body.semantic_min_score,
    )


def bounds_of(body: PanelBody, asked: int) -> Bounds:
    """Raises `Unprocessable` for more answers than models."""
    least = body.min_sources or 1
    if least > asked:
        raise Unprocessable(f"min_sources = {least}: only {asked} are asked", param="min_sources")
    return Bounds(body.source_timeout_s, least, None if body.max_cost is None else from_usd(body.max_cost))


def contenders(
    services: Services,
    key: KeyRow,
    models: Sequence[str],
    request: ChatRequest,
    fallback: Mapping[str, Sequence[str]] | None = None,
    *,
    param: str = "models",
) -> list[Contender]:
    """A plan for each model. One that can't take the request is a contender that was refused. Raises `UnknownModel`,
    and `Unprocessable` for a model named twice, for `auto`, and for a fallback of a model that isn't asked."""
    view = services.view(key)
    seen: dict[str, str] = {}
    found = []
    stand_ins = {services.catalog.resolve(name).id: tuple(names) for name, names in (fallback or {}).items()}
    for index, name in enumerate(models):
        if name == AUTO:
            raise Unprocessable(f"{param}[{index}] = 'auto': name the models to ask", param=f"{param}[{index}]")
        card = services.catalog.resolve(name)
        if card.id in seen:
            raise Unprocessable(
                f"{param}[{index}] = {name!r}: is {card.id}, which {seen[card.id]!r} names already; leave one out",
                param=f"{param}[{index}]",
            )
        seen[card.id] = name
        chain = stand_ins.pop(card.id, None)
        routing = None if chain is None else Routing(chain)
        try:
            plan = services.planner.plan(replace(request, model=card.id, routing=routing), view)
            found.append(Contender(replace(plan, chain=False)))
        except UnsupportedInput as error:
            found.append(Contender(Plan((PlannedAttempt(card, "requested"),)), error))
    for name in stand_ins:
        raise Unprocessable(f"fallback.{name}: {name} is none of {param}", param=f"fallback.{name}")
    return found


def permitted(services: Services, key: KeyRow, name: str) -> ModelCard:
    """The model that is named to write or to judge. Raises `UnknownModel` and `Forbidden`, as for any other."""
    card = services.catalog.resolve(name)
    services.planner.plan(ChatRequest(card.id, ()), services.view(key))
    return card


def account_of(
    services: Services,
    caller: Caller,
    id: RequestId,
    request: ChatRequest,
    models: Sequence[str],
    mode: Mode,
) -> Ledger:
    """The ledger of a whole panel; its runs are branches of it."""
    cards = [services.catalog.resolve(model) for model in models]
    return services.ledger(
        caller.principal,
        id,
        replace(request, model=", ".join(card.id for card in cards)),
        Plan(tuple(PlannedAttempt(card, "requested") for card in cards)),
        "native",
        mode=mode,
    )


def identity(id: str) -> Headers:
    return [(b"x-request-id", id.encode())]


def estimate_answer(estimate: Estimate, id: str, mode: Mode, warned: Sequence[Warned]) -> bytes:
    """The answer to `dry_run`."""
    likely = estimate.likely_nanousd
    calls = [
        native.CallCost(
            one.call.role, one.call.card.id, one.call.certain, usd(one.least_nanousd), usd(one.likely_nanousd)
        )
        for one in estimate.calls
    ]
    return encode(
        native.EstimateAnswer(
            id,
            mode,
            True,
            usd(estimate.least_nanousd),
            usd(likely),
            credits(likely),
            calls,
            warnings(warned),
        )
    )


def source_result(said: Said) -> native.SourceResult:
    """A source that has ended."""
    return native.SourceResult(**source_fields(said))


def source_fields(said: Said) -> dict[str, Any]:
    record, error = said.ledger.record, said.error
    assert record is not None, "a source that has ended is closed"
    return {
        "model": said.model,
        "status": "complete" if error is None else "failed",
        "layer": said.layer,
        "content": said.text,
        "latency_ms": record.latency_ms,
        "ttft_ms": record.ttft_ms,
        "prompt_tokens": record.input_tokens + record.cache_read_tokens + record.cache_write_tokens,
        "completion_tokens": record.output_tokens,
        "cost": usd(record.cost_nanousd),
        "finish_reason": said.finish.reason if said.finish is not None and error is None else None,
        "provider": record.provider or said.ledger.plan.attempts[0].target.provider,
        "resolved_model": record.model or said.model,
        "error": UNSET if error is None else error.message,
        "code": UNSET if error is None else error.code,
        "status_code": UNSET if error is None else error.status,
    }


class SourceChunks:
    """Renders one source of many as plain chunks. State: the text's length, and what is the same in every chunk."""

    __slots__ = ("_frame", "_head", "_ledger", "_length", "_model")

    def __init__(self, ledger: Ledger, model: str, *, compat: bool) -> None:
        self._ledger = ledger
        self._model = model
        self._frame: Callable[[Struct | dict[str, Any]], bytes] = compat_frame if compat else frame
        self._length = 0
        self._head = b"" if compat else b'data: {"model":%b,"delta":' % encode(model)

    def batch(self, events: Sequence[Event]) -> bytes:
        if len(events) == 1 and self._head and type(events[0]) is TextDelta:  # nearly every batch of a stream
            return self._text(events[0].text)
        return b"".join([self._event(event) for event in events])

    def ended(self, error: GatewayError | None) -> bytes:
        if error is None:
            return self._frame(last_chunk(self._ledger, self._model, self._length))
        return self._frame(
            native.FailedChunk(
                self._model,
                "",
                True,
                self._ledger.elapsed_ms(),
                self._length,
                error.message,
                error.code,
                error.status,
                error.provider,
                error.retry_after_s,
            )
        )

    def _text(self, text: str) -> bytes:
        """`_chunk` of a text, put together of what is the same in every chunk and what is not."""
        delta = encode(text)
        if b"\xe2\x80" in delta or b"\xc2\x85" in delta:
            return self._frame(self._chunk(text))
        self._length += len(text)
        elapsed_ms = self._ledger.elapsed_ms()
        return b'%b%b,"done":false,"latency_ms":%d,"content_length":%d}\n\n' % (
            self._head,
            delta,
            elapsed_ms,
            self._length,
        )

    def _event(self, event: Event) -> bytes:
        match event:
            case TextDelta() | RefusalDelta():
                return self._frame(self._chunk(event.text))
            case ReasoningDelta(text=text) if text:
                chunk = self._chunk("")
                chunk.reasoning = text
                return self._frame(chunk)
            case ToolCallDelta():
                chunk = self._chunk("")
                chunk.tool_calls = [tool_call(event)]
                return self._frame(chunk)
            case Verbatim(said=said):
                return self.batch(said)
            case _:
                return b""

    def _chunk(self, delta: str) -> native.PlainChunk:
        self._length += len(delta)
        return native.PlainChunk(self._model, delta, False, self._ledger.elapsed_ms(), self._length)


def usd(cost_nanousd: int | None) -> float | None:
    return None if cost_nanousd is None else to_usd(cost_nanousd)


def credits(cost_nanousd: int | None) -> float | None:
    return None if cost_nanousd is None else to_credits(cost_nanousd)


def warnings(warned: Sequence[Warned]) -> list[native.Warning]:
    return [native.Warning(one.code, one.field, one.message) for one in warned]


def fields_of(body: bytes) -> dict[str, msgspec.Raw]:
    """The body's top-level fields as they came."""
    return _fields.decode(body)


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
