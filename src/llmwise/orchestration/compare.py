"""One question to several models at once, side by side.

The history has one entry for a comparison, of mode `compare`. Its attempts are those of all models, numbered through in
the models' order, its sums are theirs, and its answer holds every model's text below the model's name. It names no
single model as the one that answered.
"""

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct

from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.bounds import Bounds
from llmwise.orchestration.estimates import Call, Estimate, estimated
from llmwise.orchestration.fanout import Batch
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.panel import Emit, Panel, Question, Said, kept, side_by_side
from llmwise.orchestration.settlement import Ledger
from llmwise.routing.needs import needs_of


class Best(Struct, frozen=True):
    """Which model did best, among those that answered. `longest` is by tokens; `None`: there is none, or no price."""

    fastest: str | None
    longest: str | None
    cheapest: str | None


Item: TypeAlias = Batch | Said
"""What a comparison yields: the models' events, and how each ended."""


class Comparison:
    """One comparison under way. `said` are the models that have ended, at the end in the order asked; the account's
    `record` is set when it has ended."""

    def __init__(self, questions: Sequence[Question], request: ChatRequest, account: Ledger, bounds: Bounds) -> None:
        self.models = [question.model for question in questions]
        self.account = account
        self.bounds = bounds
        self.said: list[Said] = []
        self._questions = questions
        self._request = request

    def estimate(self) -> Estimate:
        """What it will cost; asks no model."""
        calls = [Call("source", question.plan.attempts[0].target) for question in self._questions]
        return estimated(calls, needs_of(self._request), self.account)

    async def run(self, mesh: Mesh, emit: Emit[Item]) -> None:
        """Raises the `GatewayError` that too few answers are. The record is handed over in any case."""

        async def ended(said: Said) -> None:
            self.said.append(said)
            await emit(said)

        with kept(self.account):
            panel = Panel(self.account, mesh, self.bounds)
            try:
                await panel.ask(self._questions, on_text=emit, on_end=ended)
            finally:
                self.account.said = side_by_side(self.account.branches)
            self.said.sort(key=lambda one: one.number)
            error = self.bounds.too_few(len(self.said), {one.model: one.error for one in self.said if one.error})
            if error is not None:
                raise error

    def best(self) -> Best:
        """Of the models that answered. Ties go to the one named first."""
        answered = [(one.model, one.ledger.record) for one in self.said if one.error is None]
        ended = [(model, record) for model, record in answered if record is not None]
        priced = [one for one in ended if one[1].cost_nanousd is not None]
        return Best(
            min(ended, key=lambda one: one[1].latency_ms, default=_NOBODY)[0],
            max(ended, key=lambda one: one[1].output_tokens, default=_NOBODY)[0],
            min(priced, key=lambda one: one[1].cost_nanousd or 0, default=_NOBODY)[0],
        )


_NOBODY: tuple[None, None] = (None, None)
