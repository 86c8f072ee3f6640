"""POST /api/v1/blend: one answer made from those of several models, streamed or whole.

    stream  source* synthesizing chunk+ chunk(done) done [DONE]
    failed  ... error [DONE]

A `source` event comes as each source begins to answer (`started`), and as it ends (`complete`, `failed`). Until some
source has begun, failures are kept back: if all fail, the answer is an error with a status.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from llmwise.api.http import Caller, Receive, Scope, Send
from llmwise.api.native import panel, sources
from llmwise.api.native.events import COMPAT_DONE, DONE, compat_frame, frame
from llmwise.api.services import Services
from llmwise.domain.errors import GatewayError, InvalidRequest
from llmwise.domain.events import RefusalDelta, TextDelta
from llmwise.domain.ids import RequestId
from llmwise.orchestration.blend import Begun, Blend, Item, Synthesizing
from llmwise.orchestration.panel import Said
from llmwise.orchestration.recipe import DEFAULT_LAYERS, DEFAULT_SAMPLES, Recipe, question_of, writers_of
from llmwise.wire import native

_decoder = msgspec.json.Decoder(native.BlendBody)


async def blend(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    await panel.serve(services, scope, receive, send, "blend", _decoder, prepared, BlendStream, _answer)


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
    asked = panel.contenders(services, caller.key, given.models, request, given)
    cards = [one.plan.attempts[0].target for one in asked]
    named = None
    if given.synthesizer is not None:
        named = panel.permitted(services, caller.key, given.synthesizer, "synthesizer")
    elif given.strategy == "chain":
        named = cards[-1]
    recipe = Recipe(
        given.strategy,
        tuple(question_of(one.plan, request, one.refused) for one in asked),
        writers_of(request, cards, named),
        given.layers or DEFAULT_LAYERS,
        given.samples or DEFAULT_SAMPLES,
    )
    account = panel.account_of(services, caller, request_id, request, asked, "blend", recalled)
    bounds = panel.bounds_of(given, recipe.samples if given.strategy == "self_moa" else len(cards))
    return Blend(recipe, replace(request, passthrough=None), account, services.prompts, bounds)


class BlendStream:
    """Renders a blend. State: the writer's chunks, and the sources that are kept back while none has begun."""

    __slots__ = ("_begun", "_blend", "_chunks", "_compat", "_done", "_frame", "_held")

    def __init__(self, blending: Blend, compat: bool) -> None:
        self._blend = blending
        self._compat = compat
        self._frame = compat_frame if compat else frame
        self._done = COMPAT_DONE if compat else DONE
        self._begun = False
        self._held: list[bytes] = []
        self._chunks: sources.SourceChunks | None = None

    def render(self, item: Item, /) -> bytes:
        if isinstance(item, Begun):
            self._begun = True
            elapsed_ms = self._blend.account.elapsed_ms()
            return self._release() + self._frame(
                native.SourceBegunEvent("source", item.model, "started", item.layer, elapsed_ms)
            )
        if isinstance(item, Said):
            self._held.append(self._frame(native.SourceEvent(**sources.source_fields(item))))
            return self._release() if self._begun else b""
        if isinstance(item, Synthesizing):
            self._chunks = sources.SourceChunks(self._blend.account, item.model, compat=self._compat)
            return self._release() + self._frame(native.SynthesizingEvent("synthesizing", item.model))
        if self._chunks is None:  # nothing is synthesized: a source's answer is given as it is
            self._chunks = sources.SourceChunks(self._blend.account, self._blend.answering, compat=self._compat)
        said = self._chunks.batch(item)
        return self._release() + said if said else b""

    def end(self) -> bytes:
        assert self._chunks is not None, "a blend that succeeded has an answer"
        return self._chunks.ended(None) + self._frame(self._done_event()) + self._done

    def fail(self, error: GatewayError) -> bytes:
        return self._release() + sources.failed_event(self._blend.account, error, self._frame) + self._done

    def _release(self) -> bytes:
        held, self._held = self._held, []
        return b"".join(held)

    def _done_event(self) -> native.BlendDoneEvent:
        blending = self._blend
        return native.BlendDoneEvent(
            event="done",
            resolved_model=blending.answering,
            byok=sources.byok(blending.account),
            **_fields(blending),
        )


def _answer(blending: Blend, items: Sequence[Item]) -> native.BlendAnswer:
    batches = [item for item in items if not isinstance(item, Begun | Said | Synthesizing)]
    events = [event for batch in batches for event in batch]
    return native.BlendAnswer(
        mode="blend",
        content="".join(event.text for event in events if isinstance(event, TextDelta | RefusalDelta)),
        synthesis_cost=sources.usd(blending.synthesis_nanousd),
        sources=[sources.source_result(said) for said in sorted(blending.sources, key=lambda said: said.number)],
        **_fields(blending),
    )


def _fields(blending: Blend) -> dict[str, Any]:
    """What the answer and the last event have in common."""
    recipe, record = blending.recipe, blending.account.record
    return {
        **sources.account_fields(blending.account),
        "finish_reason": (record and record.finish_reason) or "unknown",
        "strategy": recipe.strategy,
        "source_models": blending.source_models,
        "synthesizer": blending.answering,
        "candidates": blending.candidates,
        "layers": recipe.layers if recipe.strategy == "moa" else None,
        "samples": recipe.samples if recipe.strategy == "self_moa" else None,
        "prompts": blending.prompts.version,
    }
