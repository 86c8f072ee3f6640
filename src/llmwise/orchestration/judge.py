"""Several models answer, another one scores their answers: without names, and from every place.

A model as judge prefers what stands first (arXiv 2306.05685), so it reads the answers in as many orders as there are,
at the same time, and the scores are the means of the readings. Each order begins one answer further on, so that each
answer stands once in every place, and what a place is worth cancels out; forwards and backwards would do that for two
answers only. Where the readings name different winners, that is said.
What can be decided without a judge is: a single answer that is left, and answers that are all the same.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias, TypeVar

from msgspec import Struct

from llmwise.domain.errors import GatewayError, UpstreamInvalid
from llmwise.domain.events import Warned
from llmwise.domain.models import ModelCard
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.bounds import Bounds
from llmwise.orchestration.estimates import Call, Estimate, estimated
from llmwise.orchestration.fanout import Batch
from llmwise.orchestration.material import Mark, again, judging, new_mark
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.panel import Emit, Panel, Question, Said, kept, side_by_side
from llmwise.orchestration.prompts import Prompts
from llmwise.orchestration.readings import Reading, keyed, reading_by
from llmwise.orchestration.settlement import Ledger
from llmwise.routing.needs import needs_of

DEFAULT_CRITERIA = (
    "Correctness: what is claimed is true, and reasoning and calculations hold.",
    "Completeness: everything that was asked is answered.",
    "Usefulness: clear, to the point, in the form that was asked for.",
)

T = TypeVar("T")


class Score(Struct, frozen=True):
    """`score` is 0 to 10, the mean over the readings; `None` when there was nothing to compare with. Equal scores share
    a `rank`, from 1."""

    model: str
    rank: int
    score: float | None
    reasoning: str


class Verdict(Struct, frozen=True):
    """`scores` are in the order of their ranks. `tied`: the models that share the first rank, when several do; the
    `winner` is then the one of them whose worst reading was best, and of those the one named first. `disagreement`: no
    model was the best of all readings; the texts are then those of all, each with its order, else of the first."""

    winner: str
    scores: tuple[Score, ...]
    overall: str
    readings: tuple[Reading, ...] = ()
    tied: tuple[str, ...] = ()
    disagreement: bool = False


Item: TypeAlias = Batch | Said | Verdict
"""What a judgement yields: the contestants' events, how each ended, and the verdict."""


class Judgement:
    """One judgement under way. `contestants` are those that have ended; `verdict` is set when there is one, the
    account's `record` when it has ended."""

    def __init__(
        self,
        contestants: Sequence[Question],
        judge: ModelCard,
        criteria: Sequence[str],
        request: ChatRequest,
        account: Ledger,
        prompts: Prompts,
        bounds: Bounds,
        mark: Mark = new_mark,
    ) -> None:
        self.models = [question.model for question in contestants]
        self.judge = judge
        self.criteria = tuple(criteria) or DEFAULT_CRITERIA
        self.account = account
        self.contestants: list[Said] = []
        self.verdict: Verdict | None = None
        self._questions = contestants
        self._request = request
        self.prompts = prompts
        self.bounds = bounds
        self._mark = mark

    def estimate(self) -> Estimate:
        """What it will cost; asks no model."""
        cards = [question.plan.attempts[0].target for question in self._questions]
        readings = [Call("judge", self.judge, len(cards), certain=False)] * len(cards)
        return estimated([*(Call("source", card) for card in cards), *readings], needs_of(self._request), self.account)

    async def run(self, mesh: Mesh, emit: Emit[Item]) -> None:
        """Raises the `GatewayError` that leaves the caller without a verdict; what the contestants said is then in its
        details. The record is handed over in any case."""
        with kept(self.account):
            panel = Panel(self.account, mesh, self.bounds)
            try:
                answers = await self._gather(panel, emit)
                self.verdict = await self._decide(panel, answers)
            finally:
                self.account.said = self._words(panel)
            await emit(self.verdict)

    async def _gather(self, panel: Panel, emit: Emit[Item]) -> list[Said]:
        async def ended(said: Said) -> None:
            self.contestants.append(said)
            await emit(said)

        said = await panel.ask(self._questions, on_text=emit, on_end=ended)
        self.contestants.sort(key=lambda one: one.number)
        error = self.bounds.too_few(len(said), {one.model: one.error for one in said if one.error is not None})
        if error is not None:
            raise error
        return [one for one in said if one.error is None]

    async def _decide(self, panel: Panel, answers: Sequence[Said]) -> Verdict:
        models = tuple(said.model for said in answers)
        if len(answers) == 1:
            self._warn("one_source", "contestants", f"only {models[0]} answered: there was nothing to compare")
            return Verdict(models[0], (Score(models[0], 1, None, "The only one that answered."),), "Not judged.")
        if len({" ".join(said.text.split()) for said in answers}) == 1:
            self._warn("same_answers", "contestants", "all answers are the same: no judge was asked")
            scores = tuple(Score(model, 1, None, "The same answer as the others'.") for model in models)
            return Verdict(models[0], scores, "All answers are the same.", tied=models)
        try:
            readings = await self._read(panel, orders_of(answers))
        except GatewayError as error:
            raise self._without_verdict(error) from error
        return verdict_of(models, readings)

    async def _read(self, panel: Panel, orders: Sequence[Sequence[Said]]) -> list[Reading]:
        """The judge's readings, asked for at once; what is no verdict is asked for once more. Raises when none of them
        can be had."""
        plan = Plan((PlannedAttempt(self.judge, "judge"),))
        system = self.prompts.system("judge")
        questions = [
            Question(
                plan,
                judging(self._request, system, self.criteria, [one.text for one in order], self.judge, self._mark),
            )
            for order in orders
        ]
        said = await panel.ask(questions)
        shown = [*(one.text for one in orders[0]), *(message.text for message in self._request.messages)]

        def reading(number: int) -> Reading | None:
            return reading_by(said[number].text, [one.model for one in orders[number]], shown)

        readings = [reading(n) for n in range(len(orders))]
        unread = [n for n, one in enumerate(said) if readings[n] is None and _code(one) in (None, "empty_answer")]
        if unread:
            prompt = self.prompts.system("again")
            repeats = [Question(plan, again(questions[n].request, said[n].text, prompt)) for n in unread]
            for n, one in zip(unread, await panel.ask(repeats), strict=True):
                said[n] = one
                readings[n] = reading(n)
        found = [one for one in readings if one is not None]
        if not found:
            failed = next((one.error for one in said if _code(one) not in (None, "empty_answer")), None)
            raise failed or UpstreamInvalid(
                f"{self.judge.id} gave no verdict that can be read, asked twice; name another judge",
                provider=self.judge.provider,
                code="judge_invalid",
            )
        if len(found) < len(orders):
            spent = any(_code(one) == "max_cost_spent" for one in said)
            code, why = ("max_cost", "max_cost is spent") if spent else ("orders_missing", "a reading failed")
            self._warn(
                code,
                "judge",
                f"{why}: the answers were read in {len(found)} of {len(orders)} orders; which stood first may count",
            )
        return found

    def _without_verdict(self, error: GatewayError) -> GatewayError:
        kept = [
            {"model": one.model, "status": "failed" if one.error is not None else "complete", "content": one.text}
            for one in self.contestants
        ]
        details = {**error.details, "contestants": kept, "judge": self.judge.id, "refunded": True}
        return type(error)(
            f"no verdict: {error.message}",
            provider=error.provider,
            upstream_status=error.upstream_status,
            retry_after_s=error.retry_after_s,
            reason=error.reason,
            code=error.code,
            **details,
        )

    def _words(self, panel: Panel) -> str | None:
        ledgers = [said.ledger for said in self.contestants]
        answers = side_by_side(ledgers) if ledgers else None
        if answers is None or self.verdict is None:
            return answers
        return f"The verdict: {self.verdict.winner}. {self.verdict.overall}\n\n{answers}"

    def _warn(self, code: str, field: str, message: str) -> None:
        self.account.warnings.append(Warned(code, field, message))


def _code(said: Said) -> str | None:
    return None if said.error is None else said.error.code


def orders_of(answers: Sequence[T]) -> list[list[T]]:
    """The orders in which a judge reads: each answer once in every place (a cyclic Latin square); of two, both."""
    return [[*answers[first:], *answers[:first]] for first in range(len(answers))]


def verdict_of(models: Sequence[str], readings: Sequence[Reading]) -> Verdict:
    """The verdict of one reading or more of the same answers. `models` are in the order in which they were named."""
    scores = {m: [r.scores[r.order.index(m)] for r in readings] for m in models}
    means = {m: round(sum(given) / len(given), 2) for m, given in scores.items()}
    disagreement = not set.intersection(*(reading.best for reading in readings))
    heard = readings if disagreement else readings[:1]
    ranked = sorted(models, key=lambda m: (-means[m], -min(scores[m])))  # stable: then as they were named
    found: list[Score] = []
    for mean, group in groupby(ranked, key=lambda m: means[m]):
        rank = len(found) + 1
        found += [Score(m, rank, mean, _together([(r.reasons[r.order.index(m)], r) for r in heard])) for m in group]
    tied = tuple(score.model for score in found if score.rank == 1)
    return Verdict(
        found[0].model,
        tuple(found),
        _together([(reading.overall, reading) for reading in heard]),
        tuple(readings),
        tied if len(tied) > 1 else (),
        disagreement,
    )


def _together(told: Sequence[tuple[str, Reading]]) -> str:
    """The readings' words on one thing, a paragraph each. The same words of two readings mean different models."""
    return "\n\n".join(keyed(text, one.order, always=len(told) > 1) for text, one in told if text)
