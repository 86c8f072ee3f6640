"""POST /api/v1/judge: several models answer, another one scores their answers; streamed or whole.

    stream  chunk* of all contestants, interleaved; chunk(done), or chunk(error, done), per contestant; verdict done
            [DONE]
    failed  ... error [DONE]: every contestant failed, or the judge did; `contestants` then holds what they said

Until some contestant has said something, a contestant's failure is kept back: if all fail, the answer is an error with
a status.
"""

from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from llmwise.api.admission import credits_charged, credits_remaining, reserve
from llmwise.api.errors import native_body, native_fields
from llmwise.api.http import JSON, Caller, ClientGone, Receive, Scope, Send, admit, decode, read_body, refuse, respond
from llmwise.api.native import memory, panel
from llmwise.api.native.events import COMPAT_DONE, COMPAT_KEEP_ALIVE, DONE, compat_frame, frame
from llmwise.api.services import Services
from llmwise.api.streaming import EVENT_STREAM, KEEP_ALIVE, NO_BUFFERING, NO_CACHE, CallerWatch, stream
from llmwise.domain.errors import GatewayError, InvalidRequest
from llmwise.domain.ids import RequestId
from llmwise.domain.requests import AUTO
from llmwise.orchestration.estimates import check_affordable
from llmwise.orchestration.fanout import Batch
from llmwise.orchestration.judge import Item, Judgement, Verdict
from llmwise.orchestration.panel import Question, Said, piped, plainly
from llmwise.orchestration.settlement import refunded
from llmwise.wire import native

_decoder = msgspec.json.Decoder(native.JudgeBody)
_encode = msgspec.json.Encoder().encode


async def judge(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    request_id = services.new_request_id()
    caller: Caller | None = None
    try:
        caller = await admit(services, scope["headers"], "judge")
        body = await read_body(services, scope, receive)
        given = decode(_decoder, body)
        judging = await prepared(services, caller, request_id, given, body)
        estimate = judging.estimate()
        headers = [*panel.identity(request_id), *caller.headers()]
        if given.dry_run:
            answer = panel.estimate_answer(estimate, request_id, "judge", judging.account.warnings)
            await respond(send, 200, [JSON, *headers], answer)
            return
        check_affordable(estimate, judging.bounds.max_cost_nanousd)
        await reserve(services, caller, judging.account, likely_nanousd=estimate.likely_nanousd)
        headers += caller.notes
        watch = CallerWatch(scope, receive)
        try:
            items = piped(partial(judging.run, services.mesh))
            if given.stream:
                compat = scope.get("llmwise.compat", False)
                await stream(
                    send,
                    items,
                    JudgeStream(judging, compat=compat),
                    lambda: [EVENT_STREAM, NO_CACHE, NO_BUFFERING, *headers],
                    heartbeat_s=services.heartbeat_s,
                    keep_alive=COMPAT_KEEP_ALIVE if compat else KEEP_ALIVE,
                )
            else:
                async with aclosing(items):
                    async for _ in items:
                        pass
                await respond(send, 200, [JSON, *headers], _encode(_answer(judging)))
        finally:
            watch.stop()
        await memory.remember(services, caller, judging.account)
    except GatewayError as error:
        await refuse(send, error, request_id, native_body, caller)
    except ClientGone:
        return


async def prepared(
    services: Services, caller: Caller, request_id: RequestId, given: native.JudgeBody, body: bytes
) -> Judgement:
    """The judgement that a body asks for. Raises the `CallerError` that says what is wrong with it."""
    if given.judge == AUTO:
        raise InvalidRequest("judge = 'auto': name the model that judges", param="judge")
    card = panel.permitted(services, caller.key, given.judge)
    request, recalled = await panel.question(services, caller, given, given.contestants, panel.fields_of(body))
    asked = panel.contenders(services, caller.key, given.contestants, request, given.fallback, param="contestants")
    if any(attempt.target.id == card.id for contender in asked for attempt in contender.plan.attempts):
        raise InvalidRequest(
            f"judge = {given.judge!r}: is one of the contestants, and nobody judges his own answer; name another model",
            param="judge",
        )
    account = panel.account_of(services, caller, request_id, request, given.contestants, "judge")
    account.told(recalled)
    return Judgement(
        [Question(one.plan, plainly(request, one.model), one.refused) for one in asked],
        card,
        given.criteria or (),
        request,
        account,
        services.prompts,
        panel.bounds_of(given, len(asked)),
    )


class JudgeStream:
    """Renders a judgement. State: each contestant's chunks, and the failures that are kept back."""

    __slots__ = ("_begun", "_compat", "_done", "_frame", "_held", "_judging", "_sources")

    def __init__(self, judging: Judgement, *, compat: bool) -> None:
        self._judging = judging
        self._frame = compat_frame if compat else frame
        self._done = COMPAT_DONE if compat else DONE
        self._begun = False
        self._held: list[bytes] = []
        self._sources: list[panel.SourceChunks | None] = [None] * len(judging.models)
        self._compat = compat

    def render(self, item: Item, /) -> bytes:
        if isinstance(item, Verdict):
            return self._release() + self._frame(native.VerdictEvent(**_verdict_fields(item)))
        number = item.source if isinstance(item, Batch) else item.number
        chunks = self._chunks(number)
        said = chunks.batch(item.events) if isinstance(item, Batch) else chunks.ended(item.error)
        if isinstance(item, Said) and item.error is not None and not self._begun:
            self._held.append(said)
            return b""
        return self._release() + said if said else b""

    def end(self) -> bytes:
        return self._frame(self._done_event()) + self._done

    def fail(self, error: GatewayError) -> bytes:
        fields = {
            "event": "error",
            **native_fields(error, self._judging.account.id),
            "refunded": refunded(self._judging.account),
        }
        return self._frame(fields) + self._done

    def _chunks(self, number: int) -> panel.SourceChunks:
        chunks = self._sources[number]
        if chunks is None:
            ledger = self._judging.account.branches[number]
            chunks = panel.SourceChunks(ledger, self._judging.models[number], compat=self._compat)
            self._sources[number] = chunks
        return chunks

    def _release(self) -> bytes:
        self._begun = True
        held, self._held = self._held, []
        return b"".join(held)

    def _done_event(self) -> native.CompareDoneEvent:
        account = self._judging.account
        record = account.record
        assert record is not None, "the record is made before the stream ends"
        return native.CompareDoneEvent(
            event="done",
            id=record.id,
            latency_ms=record.latency_ms,
            cost=panel.usd(record.cost_nanousd),
            credits_charged=credits_charged(self._judging.account),
            credits_remaining=credits_remaining(self._judging.account),
            byok=record.byok,
            conversation_id=record.conversation_id,
            semantic_memory_used=account.recalled.hits > 0,
            semantic_memory_hits=account.recalled.hits,
            warnings=panel.warnings(account.all_warnings()),
        )


def _verdict_fields(verdict: Verdict) -> dict[str, Any]:
    return {
        "winner": verdict.winner,
        "scores": [native.VerdictScore(s.model, s.rank, s.score, s.reasoning) for s in verdict.scores],
        "overall": verdict.overall,
        "tied": list(verdict.tied),
        "disagreement": verdict.disagreement,
        "orders": [native.VerdictOrder(list(one.order), list(one.scores)) for one in verdict.readings],
    }


def _answer(judging: Judgement) -> native.JudgeAnswer:
    account, record, verdict = judging.account, judging.account.record, judging.verdict
    assert record is not None
    assert verdict is not None
    results = [panel.source_result(said) for said in judging.contestants]
    contested = len(judging.contestants)
    judged = [b.record.cost_nanousd for b in account.branches[contested:] if b.record is not None]
    return native.JudgeAnswer(
        id=record.id,
        mode="judge",
        verdict=native.Verdict(**_verdict_fields(verdict)),
        winner_response=next(result for result in results if result.model == verdict.winner),
        contestants=results,
        judge=judging.judge.id,
        criteria=list(judging.criteria),
        prompts=judging.prompts.version,
        latency_ms=record.latency_ms,
        judge_cost=None if None in judged else panel.usd(sum(cost for cost in judged if cost is not None)),
        cost=panel.usd(record.cost_nanousd),
        credits_charged=credits_charged(judging.account),
        credits_remaining=credits_remaining(judging.account),
        conversation_id=record.conversation_id,
        semantic_memory_used=judging.account.recalled.hits > 0,
        semantic_memory_hits=judging.account.recalled.hits,
        warnings=panel.warnings(account.all_warnings()),
    )
