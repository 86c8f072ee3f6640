"""POST /api/v1/blend: one answer made from those of several models, streamed or whole.

    stream  source* synthesizing chunk+ chunk(done) done [DONE]
    failed  ... error [DONE]

A `source` event comes as each source begins to answer (`started`), and as it ends (`complete`, `failed`). Until some
source has begun, failures are kept back: if all fail, the answer is an error with a status.
"""

from collections.abc import Sequence
from contextlib import aclosing
from functools import partial

import msgspec
from msgspec.structs import replace

from llmwise.api.admission import credits_charged, credits_remaining, reserve
from llmwise.api.errors import native_body, native_fields
from llmwise.api.http import JSON, Caller, ClientGone, Receive, Scope, Send, admit, decode, read_body, refuse, respond
from llmwise.api.native import memory, panel
from llmwise.api.native.events import COMPAT_DONE, COMPAT_KEEP_ALIVE, DONE, compat_frame, frame
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, KEEP_ALIVE, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.domain.errors import GatewayError, InvalidRequest
from llmwise.domain.events import Finished, RefusalDelta, TextDelta
from llmwise.domain.ids import RequestId
from llmwise.domain.models import ModelCard
from llmwise.orchestration.blend import (
    DEFAULT_LAYERS,
    DEFAULT_SAMPLES,
    Begun,
    Blend,
    Item,
    Recipe,
    Synthesizing,
    question_of,
    writers_of,
)
from llmwise.orchestration.estimates import check_affordable
from llmwise.orchestration.panel import Said, piped
from llmwise.orchestration.settlement import refunded
from llmwise.wire import native

_decoder = msgspec.json.Decoder(native.BlendBody)
_encode = msgspec.json.Encoder().encode


async def blend(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "blend")
        body = await read_body(services, scope, receive)
        given = decode(_decoder, body)
        blending = await prepared(services, caller, request_id, given, body)
        estimate = blending.estimate()
        headers = [*panel.identity(request_id), *caller.headers()]
        if given.dry_run:
            answer = panel.estimate_answer(estimate, request_id, "blend", blending.account.warnings)
            await respond(send, 200, [JSON, *headers], answer)
            return
        check_affordable(estimate, blending.bounds.max_cost_nanousd)
        await reserve(services, caller, blending.account, likely_nanousd=estimate.likely_nanousd)
        headers += caller.notes
        watch = CallerWatch(scope, receive)
        try:
            items = piped(partial(blending.run, services.mesh))
            if given.stream:
                compat = scope.get("llmwise.compat", False)
                await stream(
                    send,
                    items,
                    BlendStream(blending, compat=compat),
                    lambda: [EVENT_STREAM, NO_CACHE, NO_BUFFERING, *headers],
                    heartbeat_s=services.heartbeat_s,
                    keep_alive=COMPAT_KEEP_ALIVE if compat else KEEP_ALIVE,
                )
            else:
                whole = _Whole()
                async with aclosing(items):
                    async for item in items:
                        whole.take(item)
                await respond(send, 200, [JSON, *headers], _encode(_answer(blending, whole)))
        finally:
            watch.stop()
        await memory.remember(services, caller, blending.account)
    except GatewayError as error:
        await refuse(send, error, request_id, native_body, caller)
    except ClientGone:
        return


async def prepared(
    services: Services, caller: Caller, request_id: RequestId, given: native.BlendBody, body: bytes
) -> Blend:
    """The blend that a body asks for. Raises the `CallerError` that says what is wrong with it."""
    if given.strategy == "self_moa" and len(given.models) != 1:
        raise InvalidRequest(f"models: self_moa takes exactly one model, not {len(given.models)}", param="models")
    if given.strategy != "self_moa" and len(given.models) == 1:
        raise InvalidRequest(
            f"models: {given.strategy} takes 2 to 6 models; one model answers through /chat, or strategy 'self_moa'",
            param="models",
        )
    for name, strategy in (("layers", "moa"), ("samples", "self_moa")):
        if getattr(given, name) is not None and given.strategy != strategy:
            raise InvalidRequest(f"{name}: only {strategy} has {name}, not {given.strategy}", param=name)
    request, recalled = await panel.question(services, caller, given, given.models, panel.fields_of(body))
    asked = panel.contenders(services, caller.key, given.models, request, given.fallback)
    cards = [contender.plan.attempts[0].target for contender in asked]
    named = None if given.synthesizer is None else panel.permitted(services, caller.key, given.synthesizer)
    recipe = Recipe(
        given.strategy,
        tuple(question_of(contender.plan, request, contender.refused) for contender in asked),
        writers_of(request, cards, _last(cards, named) if given.strategy == "chain" else named),
        given.layers or DEFAULT_LAYERS,
        given.samples or DEFAULT_SAMPLES,
    )
    account = panel.account_of(services, caller, request_id, request, given.models, "blend")
    account.told(recalled)
    bounds = panel.bounds_of(given, recipe.samples if given.strategy == "self_moa" else len(cards))
    return Blend(recipe, replace(request, passthrough=None), account, services.prompts, bounds)


def _last(cards: Sequence[ModelCard], named: ModelCard | None) -> ModelCard:
    """A chain's answer is its last link's, unless a synthesizer is named."""
    return named or cards[-1]


class _Whole:
    """The answer of a blend, collected."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.finish: Finished | None = None

    def take(self, item: Item) -> None:
        if isinstance(item, Begun | Said | Synthesizing):
            return
        for event in item:
            if isinstance(event, TextDelta | RefusalDelta):
                self.text.append(event.text)
            elif isinstance(event, Finished):
                self.finish = event


class BlendStream:
    """Renders a blend. State: the writer's chunks, and the sources that are kept back while none has begun."""

    __slots__ = ("_begun", "_blend", "_chunks", "_compat", "_done", "_finish", "_frame", "_held")

    def __init__(self, blending: Blend, *, compat: bool) -> None:
        self._blend = blending
        self._compat = compat
        self._frame = compat_frame if compat else frame
        self._done = COMPAT_DONE if compat else DONE
        self._begun = False
        self._held: list[bytes] = []
        self._chunks: panel.SourceChunks | None = None
        self._finish: Finished | None = None

    def render(self, item: Item, /) -> bytes:
        if isinstance(item, Begun):
            self._begun = True
            elapsed_ms = self._blend.account.elapsed_ms()
            return self._release() + self._frame(
                native.SourceBegunEvent("source", item.model, "started", item.layer, elapsed_ms)
            )
        if isinstance(item, Said):
            self._held.append(self._frame(native.SourceEvent(**panel.source_fields(item))))
            return self._release() if self._begun else b""
        if isinstance(item, Synthesizing):
            self._chunks = panel.SourceChunks(self._blend.account, item.model, compat=self._compat)
            return self._release() + self._frame(native.SynthesizingEvent("synthesizing", item.model))
        if self._chunks is None:  # nothing is synthesized: a source's answer is given as it is
            self._chunks = panel.SourceChunks(self._blend.account, self._blend.answering, compat=self._compat)
        for event in item:
            if isinstance(event, Finished):
                self._finish = event
        said = self._chunks.batch(item)
        return self._release() + said if said else b""

    def end(self) -> bytes:
        assert self._chunks is not None, "a blend that succeeded has an answer"
        return self._chunks.ended(None) + self._frame(self._done_event()) + self._done

    def fail(self, error: GatewayError) -> bytes:
        fields = {
            "event": "error",
            **native_fields(error, self._blend.account.id),
            "refunded": refunded(self._blend.account),
        }
        return self._release() + self._frame(fields) + self._done

    def _release(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)

    def _done_event(self) -> native.BlendDoneEvent:
        blending, account = self._blend, self._blend.account
        record = account.record
        assert record is not None, "the record is made before the stream ends"
        return native.BlendDoneEvent(
            event="done",
            id=record.id,
            strategy=blending.recipe.strategy,
            source_models=blending.source_models,
            synthesizer=blending.answering,
            resolved_model=blending.answering,
            latency_ms=record.latency_ms,
            candidates=blending.candidates,
            layers=_layers(blending),
            samples=_samples(blending),
            prompts=blending.prompts.version,
            finish_reason=record.finish_reason or "unknown",
            cost=panel.usd(record.cost_nanousd),
            credits_charged=credits_charged(self._blend.account),
            credits_remaining=credits_remaining(self._blend.account),
            byok=record.byok,
            conversation_id=record.conversation_id,
            semantic_memory_used=account.recalled.hits > 0,
            semantic_memory_hits=account.recalled.hits,
            warnings=panel.warnings(account.all_warnings()),
        )


def _answer(blending: Blend, whole: _Whole) -> native.BlendAnswer:
    account, record = blending.account, blending.account.record
    assert record is not None
    return native.BlendAnswer(
        id=record.id,
        mode="blend",
        content="".join(whole.text),
        strategy=blending.recipe.strategy,
        source_models=blending.source_models,
        synthesizer=blending.answering,
        latency_ms=record.latency_ms,
        candidates=blending.candidates,
        layers=_layers(blending),
        samples=_samples(blending),
        prompts=blending.prompts.version,
        finish_reason=whole.finish.reason if whole.finish is not None else "unknown",
        synthesis_cost=panel.usd(blending.synthesis_nanousd),
        cost=panel.usd(record.cost_nanousd),
        credits_charged=credits_charged(blending.account),
        credits_remaining=credits_remaining(blending.account),
        conversation_id=record.conversation_id,
        semantic_memory_used=blending.account.recalled.hits > 0,
        semantic_memory_hits=blending.account.recalled.hits,
        sources=[panel.source_result(said) for said in sorted(blending.sources, key=lambda said: said.number)],
        warnings=panel.warnings(account.all_warnings()),
    )


def _layers(blending: Blend) -> int | None:
    return blending.recipe.layers if blending.recipe.strategy == "moa" else None


def _samples(blending: Blend) -> int | None:
    return blending.recipe.samples if blending.recipe.strategy == "self_moa" else None
