"""How a blend is made: its strategy, the sources and what each is asked, and who writes."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.errors import GatewayError, UnsupportedInput
from llmwise.domain.messages import Message, Text
from llmwise.domain.models import ModelCard
from llmwise.domain.plan import Plan
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.estimates import Call
from llmwise.orchestration.panel import Question, plainly
from llmwise.routing.needs import lacks, needs_of

Strategy: TypeAlias = Literal["consensus", "council", "best_of", "chain", "moa", "self_moa"]

DEFAULT_LAYERS = 2
"""Of moa: rounds of answers before the synthesis; two are the paper's MoA-Lite (arXiv 2406.04692)."""

DEFAULT_SAMPLES = 4
"""Of self_moa; most of the gain comes with the first few (arXiv 2502.00674)."""

WARMEST = 1.0
"""The samples' temperatures rise in equal steps from the caller's own, or 0.7, to this one."""
USUAL_TEMPERATURE = 0.7


class Recipe(Struct, frozen=True):
    """How one blend is made. `sources` are the models' plans, with the fallbacks of each; `writers` the synthesizer and
    its stand-ins, in order."""

    strategy: Strategy
    sources: tuple[Question, ...]
    writers: tuple[ModelCard, ...]
    layers: int = DEFAULT_LAYERS
    samples: int = DEFAULT_SAMPLES

    @property
    def synthesizer(self) -> str:
        return self.writers[0].id

    def calls(self) -> list[Call]:
        """The calls that a blend of this recipe makes when nothing fails. Certain is the first round: what follows it
        may be spared, when all have said the same or the money is spent."""
        cards = [question.plan.attempts[0].target for question in self.sources]
        width, writer = len(cards), self.writers[0]
        match self.strategy:
            case "chain":
                links = [*cards, *([writer] if writer.id != cards[-1].id else [])]
                drafts = [Call("source", card, min(n, 1), certain=n == 0) for n, card in enumerate(links[:-1])]
                return [*drafts, Call("synthesis", links[-1], 1, certain=False)]
            case "moa":
                later = [Call("source", card, width, certain=False) for card in cards] * (self.layers - 1)
                sources = [*(Call("source", card) for card in cards), *later]
            case "self_moa":
                width = self.samples
                sources = [Call("source", cards[0])] * width
            case _:
                sources = [Call("source", card) for card in cards]
        return [*sources, Call("synthesis", writer, width, certain=False)]

    def varied(self, roles: Sequence[str]) -> list[Question]:
        """The samples of self_moa."""
        (question,) = self.sources
        count = self.samples
        given = question.request.sampling.temperature
        coolest = USUAL_TEMPERATURE if given is None else given
        step = max(0.0, WARMEST - coolest) / (count - 1)
        fixed = question.plan.attempts[0].target.capabilities.reasoning and given is None
        warmth = [None if fixed else round(coolest + n * step, 2) for n in range(count)]
        requests = [_in_role(question.request, roles[n % len(roles)], warmth[n]) for n in range(count)]
        return [replace(question, request=request) for request in requests]


def question_of(plan: Plan, request: ChatRequest, refused: GatewayError | None = None) -> Question:
    """A source's question: the caller's, without what only the answer to the caller is for (tools, a form)."""
    card = plan.attempts[0].target
    asked = replace(plainly(request, card.id), tools=(), tool_choice=None, response_format=None)
    return Question(plan, asked, refused)


def writers_of(
    request: ChatRequest, cards: Sequence[ModelCard], named: ModelCard | None = None
) -> tuple[ModelCard, ...]:
    """Who writes the answer, and who stands in: the model that was named, else the best rated of the set, then the
    others by their rating; ties go to the one listed first. Raises `UnsupportedInput` when the one that was named can't
    take the request, or none can."""
    needs = needs_of(request)
    if named is not None and (reason := lacks(named, needs, context=False)) is not None:
        raise UnsupportedInput(f"synthesizer: {reason.detail}", reason=reason.reason, param="synthesizer")
    able = [card for card in cards if lacks(card, needs, context=False) is None]
    ranked = sorted(able, key=lambda card: -card.quality)
    found = dict.fromkeys([*([] if named is None else [named]), *ranked])
    if not found:
        raise UnsupportedInput("no model of the set can take this request")
    return tuple(found)


def _in_role(request: ChatRequest, role: str, temperature: float | None) -> ChatRequest:
    messages = (Message("system", (Text(role),)), *request.messages) if role else request.messages
    return replace(request, messages=messages, sampling=replace(request.sampling, temperature=temperature))
