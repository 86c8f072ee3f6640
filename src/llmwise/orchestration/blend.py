"""One answer made from those of several models.

    consensus, council, best_of   all are asked at once, a synthesizer makes one answer of theirs
    chain                         one after the other works on the draft of the one before; the last one's is the answer
    moa                           `layers` rounds, each of which reads the round before; then the synthesizer
    self_moa                      one model `samples` times, at different temperatures and from different sides

What fails on the way is left out and said; what is left is enough, down to one answer, which is given as it is. The
synthesizer's stand-ins are the other models of the set, best first. Sources answer freely: when the caller wants JSON,
an answer that isn't that JSON is never given as it is, but written anew, and without a writer the blend fails.
"""

from collections.abc import Sequence
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.errors import GatewayError
from llmwise.domain.events import CONTENT, Event, Finished, TextDelta, Warned
from llmwise.domain.models import ModelCard
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.bounds import Bounds
from llmwise.orchestration.checks import has_form
from llmwise.orchestration.estimates import Estimate, estimated
from llmwise.orchestration.fanout import Batch
from llmwise.orchestration.material import Mark, merging, new_mark
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.panel import Emit, Panel, Question, Said, kept, says
from llmwise.orchestration.prompts import Name, Prompts
from llmwise.orchestration.recipe import Recipe
from llmwise.orchestration.settlement import Ledger
from llmwise.routing.needs import needs_of


class Begun(Struct, frozen=True):
    """A source is asked. Numbers and layers as in `Said`. Not said before some source answers: until then all may fail,
    and that is to be an error with a status."""

    number: int
    layer: int
    model: str


class Synthesizing(Struct, frozen=True):
    """The answers are here; `model` begins to write. The last such word counts: a stand-in may follow."""

    model: str


Item: TypeAlias = "Begun | Said | Synthesizing | Sequence[Event]"
"""What a blend yields: when each source begins and how it ends, who writes, and then the answer's events."""


class Blend:
    """One blend under way. `sources` are those that have ended, `writer` the model whose text is the answer; the
    account's `record` is set when it has ended."""

    def __init__(
        self,
        recipe: Recipe,
        request: ChatRequest,
        account: Ledger,
        prompts: Prompts,
        bounds: Bounds,
        mark: Mark = new_mark,
    ) -> None:
        self.recipe = recipe
        self.account = account
        self.sources: list[Said] = []
        self.writer: str | None = None
        self.candidates = 0
        self._alive = False  # some source has begun to answer
        self._begun = False  # the caller holds a part of the answer
        self._request = request
        self.prompts = prompts
        self.bounds = bounds
        self._mark = mark

    @property
    def source_models(self) -> list[str]:
        """The models that answered, each once."""
        return list(dict.fromkeys(said.model for said in self.sources if said.error is None))

    @property
    def synthesis_nanousd(self) -> int | None:
        """What the call that wrote the answer cost beside the `sources`; `None` where no price is known."""
        listed = {id(said.ledger) for said in self.sources}
        costs = [a.cost_nanousd for b in self.account.branches if id(b) not in listed for a in b.attempts]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def answering(self) -> str:
        """Whose text the answer is, or will be, as far as is known."""
        return self.writer or self.recipe.synthesizer

    def estimate(self) -> Estimate:
        """What it will cost; asks no model."""
        return estimated(self.recipe.calls(), needs_of(self._request), self.account)

    async def run(self, mesh: Mesh, emit: Emit[Item]) -> None:
        """Raises the `GatewayError` that leaves the caller without an answer. The record is handed over in any case."""
        with kept(self.account):
            panel = Panel(self.account, mesh, self.bounds)
            if self.recipe.strategy == "chain":
                await self._chain(panel, emit)
            else:
                await self._write(panel, await self._gather(panel, emit), emit)

    async def _gather(self, panel: Panel, emit: Emit[Item]) -> list[Said]:
        recipe = self.recipe
        if recipe.strategy == "self_moa":
            return await self._round(panel, recipe.varied(self.prompts.roles.all), emit)
        answers = await self._round(panel, recipe.sources, emit)
        for _ in range(1, recipe.layers if recipe.strategy == "moa" else 1):
            questions = [self._after(question, answers, "layer") for question in recipe.sources]
            if not panel.affords(questions):
                self._warn("max_cost", "layers", "the rest of the layers was left out: max_cost is spent")
                break
            later = [said for said in await self._ask(panel, questions, emit) if said.error is None]
            if not later:
                self._warn("layer_failed", "layers", "a layer without any answer was passed over")
                break
            answers = later
        return answers

    async def _round(self, panel: Panel, questions: Sequence[Question], emit: Emit[Item]) -> list[Said]:
        """The first answers. Raises when there are fewer than `min_sources`."""
        said = await self._ask(panel, questions, emit)
        failures = {_named(one, said): one.error for one in said if one.error is not None}
        error = self.bounds.too_few(len(said), failures)
        if error is not None:
            raise error
        return [one for one in said if one.error is None]

    async def _ask(self, panel: Panel, questions: Sequence[Question], emit: Emit[Item]) -> list[Said]:
        first, ended_already = len(panel.said), set[int]()

        async def begin(layer: int) -> None:
            for number, question in enumerate(questions, start=first):
                if question.refused is None and number not in ended_already:
                    await emit(Begun(number, layer, question.model))

        async def heard(batch: Batch) -> None:
            if not self._alive and any(type(event) in CONTENT for event in batch.events):
                self._alive = True
                await begin(panel.layer)

        async def ended(said: Said) -> None:
            ended_already.add(said.number)
            self.sources.append(said)
            await emit(said)

        if self._alive:
            await begin(panel.layer + 1)

        return await panel.ask(questions, on_text=heard, on_end=ended)

    async def _chain(self, panel: Panel, emit: Emit[Item]) -> None:
        sources = self.recipe.sources
        last = sources[-1] if self.recipe.synthesizer == sources[-1].model else None  # a source that writes the answer
        draft: Said | None = None
        failures: dict[str, GatewayError] = {}
        for link in sources if last is None else sources[:-1]:
            question = link if draft is None else self._after(link, [draft], "chain")
            if draft is not None and not panel.affords([question]):
                enough = len(self.source_models) >= self.bounds.min_sources
                if enough and self._can_stand(draft):
                    self._warn("max_cost", "models", "the rest of the chain was left out: max_cost is spent")
                    return await self._give(draft, emit)
            (said,) = await self._ask(panel, [question], emit)
            if said.error is None:
                draft = said
            else:
                failures[said.model] = said.error
        too_few = self.bounds.too_few(len(sources), failures)
        if too_few is not None:
            raise too_few
        if last is None:
            assert draft is not None, "else all have failed"
            return await self._write(panel, [draft], emit, prompt="chain")
        needed = len(sources) - len(failures) == self.bounds.min_sources
        try:
            if draft is None:
                return await self._alone(panel, last, emit)
            cards = tuple(dict.fromkeys([last.plan.attempts[0].target, *self.recipe.writers]))
            await self._write(panel, [draft], emit, cards[:1] if needed else cards, "chain", may_give=not needed)
        except GatewayError as error:
            if not needed or self._begun:
                raise
            failures[last.model] = error
            raise self.bounds.too_few(len(sources), failures) or error from error

    async def _alone(self, panel: Panel, last: Question, emit: Emit[Item]) -> None:
        """Of a chain without any draft: its last link, asked the caller's question as it is."""
        if last.refused is not None:
            raise last.refused
        asked = replace(last.request, response_format=self._request.response_format)
        await self._relay(panel, replace(last, request=asked), emit, announced=False)
        self._warn("one_source", "models", f"only {last.model} answered: its answer is given as it is")

    async def _write(
        self,
        panel: Panel,
        answers: Sequence[Said],
        emit: Emit[Item],
        writers: tuple[ModelCard, ...] | None = None,
        prompt: Name | None = None,
        *,
        may_give: bool = True,
    ) -> None:
        """Make one answer of those that there are, or give the best as it is where there is nothing else to do and it
        `may_give` it. Else it raises what ended the last writer."""
        self.candidates = len(answers)
        given = [said for said in answers if may_give and self._can_stand(said)]
        best = max(given, key=lambda said: said.ledger.plan.attempts[0].target.quality, default=None)
        strategy = self.recipe.strategy
        if prompt is None and len(answers) == 1:
            prompt = "chain"  # which is about one draft
            done = "its answer is given as it is" if best is not None else "its answer is put into the form asked for"
            self._warn("one_source", "models", f"only {answers[0].model} answered: {done}")
            if best is not None:
                return await self._give(best, emit)
        elif prompt is None and best is not None and strategy != "council" and _all_the_same(answers):
            self._warn("same_answers", "models", "all answers are the same: there was nothing to make of them")
            return await self._give(best, emit)
        writers = writers or self.recipe.writers
        name: Name = prompt or ("consensus" if strategy in ("moa", "self_moa") else strategy)  # type: ignore[assignment]
        texts = [said.text for said in answers]
        for card, stand_in in zip(writers, (*writers[1:], None), strict=True):
            asked = merging(self._request, self.prompts.system(name), texts, card, self._mark)
            question = Question(_plan(card), asked)
            if best is not None and not panel.affords([question]):
                self._warn("max_cost", "synthesizer", f"max_cost is spent: the answer is {best.model}'s as it is")
                return await self._give(best, emit)
            try:
                await emit(Synthesizing(card.id))
                await self._relay(panel, question, emit)
                return None
            except GatewayError as error:
                if self._begun or (stand_in is None and best is None):
                    raise
                if stand_in is None:
                    assert best is not None
                    told = f"{card.id}: {error.message}; the answer is {best.model}'s as it is"
                    self._warn("synthesis_failed", "synthesizer", told)
                    return await self._give(best, emit)
                self._warn("stand_in", "synthesizer", f"{card.id}: {error.message}; {stand_in.id} stands in")
        return None

    def _can_stand(self, said: Said) -> bool:
        """Whether a source's answer can be the caller's: a source isn't asked for the form that this must have."""
        wanted = self._request.response_format
        return wanted is None or wanted.kind == "text" or has_form(self._request, said.text) is True

    async def _relay(self, panel: Panel, question: Question, emit: Emit[Item], *, announced: bool = True) -> None:
        """`announced`: the caller knows who writes. Else it is told when the first content comes: should that fail, the
        error still has a status."""

        async def pass_on(batch: Sequence[Event]) -> None:
            nonlocal announced
            if not announced and any(type(event) in CONTENT for event in batch):
                announced = True
                await emit(Synthesizing(question.model))
            self._begun = self._begun or any(says(event) for event in batch)
            await emit(batch)

        self.writer = question.model
        try:
            said = await panel.relay(question, pass_on)
        except GatewayError:
            if panel.failed is not None:
                self.sources.append(panel.failed)
                if not self._begun:
                    await emit(panel.failed)
            raise
        self.writer = said.model
        if self.recipe.strategy == "chain" and any(question.model == link.model for link in self.recipe.sources):
            self.sources.append(said)

    async def _give(self, said: Said, emit: Emit[Item]) -> None:
        self.writer = said.model
        self.account.final = said.ledger.final
        self.account.said = said.text
        await emit((TextDelta(said.text), said.finish or Finished("stop")))

    def _after(self, question: Question, answers: Sequence[Said], name: Name) -> Question:
        card = question.plan.attempts[0].target
        texts = [said.text for said in answers]
        return replace(question, request=merging(question.request, self.prompts.system(name), texts, card, self._mark))

    def _warn(self, code: str, field: str, message: str) -> None:
        self.account.warnings.append(Warned(code, field, message))


def _all_the_same(answers: Sequence[Said]) -> bool:
    return len({" ".join(said.text.split()) for said in answers}) == 1


def _plan(card: ModelCard) -> Plan:
    return Plan((PlannedAttempt(card, "synthesizer"),))


def _named(said: Said, among: Sequence[Said]) -> str:
    """Its model; a sample's number besides, where several are of one model."""
    one_model = len({other.model for other in among}) < len(among)
    return f"{said.model} #{said.number + 1}" if one_model else said.model
