"""Cheap first: a model is asked, a rule looks at its answer, and only what the rule doubts goes up to the next model.

    format   costs nothing: the answer has ended by itself, says something, is no refusal, and what should be JSON is
    check    the model that answered is asked, in a conversation of its own, how likely its answer is right
    judge    another model is asked that

`check` is the default. A model's estimate of whether a *given* answer is true is informative where the tone of the
answer is not (Kadavath et al. 2022, https://arxiv.org/abs/2207.05221), and the small model's check costs little beside
the large one's answer (AutoMix, https://arxiv.org/abs/2310.12963). Token probabilities would be cheaper still, but most
providers don't give them. The formal rule goes before the other two; a check that can't be read counts as doubt.

What is not the last model's is held back until the rule has spoken, so a stream begins later; the last model streams.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.domain.errors import GatewayError, UnsupportedInput
from llmwise.domain.events import CONTENT, Event, RefusalDelta, Started, ToolCallDelta, Warned
from llmwise.domain.models import ModelCard
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.bounds import Bounds, all_failed
from llmwise.orchestration.checks import checks
from llmwise.orchestration.fanout import Batch
from llmwise.orchestration.material import Mark, checking, new_mark
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.panel import Emit, Panel, Question, Said, kept, plainly
from llmwise.orchestration.prompts import Prompts
from llmwise.orchestration.readings import confidence_by
from llmwise.orchestration.settlement import Ledger
from llmwise.routing.needs import lacks, needs_of

Rule: TypeAlias = Literal["format", "check", "judge"]

SURE = 0.7
"""The default threshold; models overrate their own answers, so that a half would let nearly everything pass."""


class Steps(Struct, frozen=True):
    """A cascade, looked up. `judge` is set for the rule `judge` alone; `threshold` is a confidence, 0 to 1."""

    cards: tuple[ModelCard, ...]
    rule: Rule = "check"
    threshold: float = SURE
    judge: ModelCard | None = None


class Cascade:
    """One cascade under way. The account's record is handed over when it has ended."""

    def __init__(
        self,
        steps: Steps,
        request: ChatRequest,
        account: Ledger,
        prompts: Prompts,
        bounds: Bounds,
        mark: Mark = new_mark,
    ) -> None:
        self.steps = steps
        self.account = account
        self._request = request
        self._prompts = prompts
        self._bounds = bounds
        self._mark = mark

    async def run(self, mesh: Mesh, emit: Emit[Sequence[Event]]) -> None:
        """Raises the `GatewayError` that leaves the caller without an answer."""
        with kept(self.account):
            needs = needs_of(self._request)
            cards: list[ModelCard] = []
            for card in self.steps.cards:
                lacking = lacks(card, needs, context=False)
                if lacking is None:
                    cards.append(card)
                else:
                    self._warn("level_skipped", card.id, lacking.detail)
            if not cards:
                raise UnsupportedInput("no model of the cascade can take this request")
            panel = Panel(self.account, mesh, self._bounds)
            failures: dict[str, GatewayError] = {}
            doubted: tuple[Said, list[Sequence[Event]]] | None = None
            for card in cards[:-1]:
                said, heard = await self._try(panel, card, emit)
                if said.error is not None:
                    failures[card.id] = said.error
                    self._warn("level_failed", card.id, f"{card.id}: {said.error.message}")
                    continue
                doubt = await self._doubt(panel, card, said, heard)
                if doubt is None:
                    await self._give(said, heard, emit)
                    return
                doubted = said, heard
                if not panel.affords([_question(cards[cards.index(card) + 1], self._request)]):
                    self._warn("max_cost", "models", f"{doubt}; it is given all the same: max_cost is spent")
                    await self._give(said, heard, emit)
                    return
            await self._last(panel, cards[-1], doubted, failures, emit)

    async def _try(
        self, panel: Panel, card: ModelCard, emit: Emit[Sequence[Event]]
    ) -> tuple[Said, list[Sequence[Event]]]:
        """Its answer, held back; of its begin the caller may know, and wait with patience."""
        heard: list[Sequence[Event]] = []

        async def hear(batch: Batch) -> None:
            if not heard:
                await emit((Started(),))
            heard.append(batch.events)

        (said,) = await panel.ask([_question(card, self._request)], on_text=hear)
        return said, heard

    async def _doubt(self, panel: Panel, card: ModelCard, said: Said, heard: Sequence[Sequence[Event]]) -> str | None:
        """Why the answer should go up, or `None`."""
        events = [event for batch in heard for event in batch]
        fault = _fault(self._request, said, events)
        if fault is not None:
            return f"{card.id}: {fault}"
        if self.steps.rule == "format" or any(isinstance(event, ToolCallDelta) for event in events):
            return None
        checker = self.steps.judge or card
        asked = checking(self._request, self._prompts.system("check"), said.text, checker, self._mark)
        (checked,) = await panel.ask([Question(Plan((PlannedAttempt(checker, "check"),)), asked)])
        shown = [said.text, *(message.text for message in self._request.messages)]
        confidence = confidence_by(checked.text, shown) if checked.error is None else None
        if confidence is None:
            return f"{card.id}: {checker.id} gave no estimate of its answer"
        if confidence < self.steps.threshold:
            return f"{card.id}: {checker.id} is {confidence:g} sure of its answer"
        return None

    async def _last(
        self,
        panel: Panel,
        card: ModelCard,
        doubted: tuple[Said, list[Sequence[Event]]] | None,
        failures: dict[str, GatewayError],
        emit: Emit[Sequence[Event]],
    ) -> None:
        begun = False

        async def pass_on(batch: Sequence[Event]) -> None:
            nonlocal begun
            begun = begun or any(type(event) in CONTENT for event in batch)
            await emit(batch)

        try:
            await panel.relay(_question(card, self._request), pass_on)
        except GatewayError as error:
            if begun:
                raise
            if doubted is None:
                raise (all_failed({**failures, card.id: error}) if failures else error) from error
            said, heard = doubted
            self._warn("level_failed", card.id, f"{error.message}; the answer is {said.model}'s, which was doubted")
            await self._give(said, heard, emit)

    async def _give(self, said: Said, heard: Sequence[Sequence[Event]], emit: Emit[Sequence[Event]]) -> None:
        self.account.final = said.ledger.final
        self.account.said = said.text
        for batch in heard:
            await emit(batch)

    def _warn(self, code: str, field: str, message: str) -> None:
        self.account.warnings.append(Warned(code, field, message))


def _question(card: ModelCard, request: ChatRequest) -> Question:
    return Question(Plan((PlannedAttempt(card, "cascade"),)), plainly(request, card.id))


def _fault(request: ChatRequest, said: Said, events: Sequence[Event]) -> str | None:
    """What is formally wrong with an answer, or `None`."""
    if said.finish is None or said.finish.reason not in ("stop", "tool_calls"):
        return f"the answer ended with {said.finish.reason if said.finish else 'nothing'!r}"
    if any(isinstance(event, RefusalDelta) for event in events):
        return "it refused"
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    if not calls and not said.text.strip():
        return "the answer is empty"
    found = checks(request, said.text, calls, said.finish, refused=False)
    if found is not None and found.json is False:
        return "the answer is not the JSON that was asked for"
    if found is not None and found.tools is False:
        return "it calls a tool with arguments that don't fit, or one that wasn't offered"
    return None
