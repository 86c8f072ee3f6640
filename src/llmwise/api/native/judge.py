"""POST /api/v1/judge: several models answer, another one scores their answers; streamed or whole.

    stream  chunk* of all contestants, interleaved; chunk(done), or chunk(error, done), per contestant; verdict done
            [DONE]
    failed  ... error [DONE]: every contestant failed, or the judge did; `contestants` then holds what they said

Until some contestant has said something, a contestant's failure is kept back: if all fail, the answer is an error with
a status.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from llmwise.api.http import Caller, Receive, Scope, Send
from llmwise.api.native import panel, sources
from llmwise.api.services import Services
from llmwise.domain.errors import InvalidRequest
from llmwise.domain.ids import RequestId
from llmwise.orchestration.judge import Item, Judgement, Verdict
from llmwise.orchestration.panel import plainly
from llmwise.wire import native

_decoder = msgspec.json.Decoder(native.JudgeBody)


async def judge(services: Services, scope: Scope, receive: Receive, send: Send) -> None:
    """The whole request, from the key to the last byte."""
    await panel.serve(services, scope, receive, send, "judge", _decoder, prepared, JudgeStream, _answer)


async def prepared(
    services: Services, caller: Caller, request_id: RequestId, given: native.JudgeBody, body: bytes
) -> Judgement:
    """The judgement that a body asks for. Raises the `CallerError` that says what is wrong with it."""
    card = panel.permitted(services, caller.key, given.judge, "judge")
    request, recalled = await panel.question(services, caller, given, given.contestants, panel.fields_of(body))
    asked = panel.contenders(services, caller.key, given.contestants, request, given, param="contestants")
    if any(attempt.target.id == card.id for contestant in asked for attempt in contestant.plan.attempts):
        raise InvalidRequest(
            f"judge = {given.judge!r}: is one of the contestants, and nobody judges his own answer; name another model",
            param="judge",
        )
    return Judgement(
        [replace(one, request=plainly(one.request, one.model)) for one in asked],
        card,
        given.criteria or (),
        request,
        panel.account_of(services, caller, request_id, request, asked, "judge", recalled),
        services.prompts,
        panel.bounds_of(given, len(asked)),
    )


class JudgeStream(sources.SideBySide):
    """Renders a judgement."""

    __slots__ = ()

    def __init__(self, judging: Judgement, compat: bool) -> None:
        super().__init__(judging.account, judging.models, compat=compat)

    def render(self, item: Item, /) -> bytes:
        if isinstance(item, Verdict):
            return self.frame(native.VerdictEvent(**_verdict_fields(item)))
        return super().render(item)


def _verdict_fields(verdict: Verdict) -> dict[str, Any]:
    return {
        "winner": verdict.winner,
        "scores": [native.VerdictScore(s.model, s.rank, s.score, s.reasoning) for s in verdict.scores],
        "overall": verdict.overall,
        "tied": list(verdict.tied),
        "disagreement": verdict.disagreement,
        "orders": [native.VerdictOrder(list(one.order), list(one.scores)) for one in verdict.readings],
    }


def _answer(judging: Judgement, items: Sequence[Item]) -> native.JudgeAnswer:
    account, verdict = judging.account, judging.verdict
    assert verdict is not None
    results = [sources.source_result(said) for said in judging.contestants]
    judged = [b.record.cost_nanousd for b in account.branches[len(results) :] if b.record is not None]
    return native.JudgeAnswer(
        mode="judge",
        verdict=native.Verdict(**_verdict_fields(verdict)),
        winner_response=next(result for result in results if result.model == verdict.winner),
        contestants=results,
        judge=judging.judge.id,
        criteria=list(judging.criteria),
        prompts=judging.prompts.version,
        judge_cost=None if None in judged else sources.usd(sum(cost for cost in judged if cost is not None)),
        **sources.account_fields(account),
    )
