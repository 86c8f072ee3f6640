"""The engine's side of a rerun: a judge model that grades answers in pairs, each pair in both orders, without names.

A judge prefers what stands first, so that every pair is read forwards and backwards and the scores are means
(`orchestration.judge`). What is no verdict grades nothing: the question then counts for nobody.
"""

from collections import defaultdict
from collections.abc import Mapping

from llmwise.catalog.cost import estimate, estimate_tokens
from llmwise.domain.messages import Message, Text
from llmwise.domain.models import ModelCard
from llmwise.domain.requests import ChatRequest
from llmwise.insights.rerun import Grade, Past
from llmwise.insights.suites import Ask
from llmwise.orchestration.judge import DEFAULT_CRITERIA
from llmwise.orchestration.material import judging
from llmwise.orchestration.prompts import BUILT_IN, Prompts
from llmwise.orchestration.readings import HIGHEST, reading_by

MOST_VERDICT_TOKENS = 1000
"""Of a judge's answer on a pair: it is asked for a sentence or two on each."""


def pairwise(ask: Ask, judge: ModelCard, prompts: Prompts = BUILT_IN) -> Grade:
    """Grades by `judge`, asked through `ask`. The first of the answers, today's, stands in every pair; its grade is the
    mean over them."""

    async def grade(question: str, answers: Mapping[str, str]) -> tuple[Mapping[str, float], int]:
        first, *others = answers
        scores: dict[str, list[float]] = defaultdict(list)
        cost = 0
        different = [model for model in others if answers[first].split() != answers[model].split()]
        for other in others:
            if other not in different:  # word for word the same: one list of scores for both
                scores[other] = scores[first]
        # Where all are the same there is nothing to compare, but a pair still says how good they are.
        for other in different or others[:1]:
            shown = (question, answers[first], answers[other])
            for pair in ((first, other), (other, first)):
                request = judging(
                    ChatRequest(judge.id, (Message("user", (Text(question),)),)),
                    prompts.system("judge"),
                    DEFAULT_CRITERIA,
                    [answers[model] for model in pair],
                    judge,
                )
                system, asked = (message.text for message in request.messages)
                said = await ask(judge.id, system, asked, MOST_VERDICT_TOKENS)
                cost += said.cost_nanousd or 0
                reading = None if said.error is not None else reading_by(said.text, pair, shown)
                if reading is None:
                    return {}, cost
                for model, score in zip(reading.order, reading.scores, strict=True):
                    scores[model].append(score / HIGHEST)
        return {model: sum(given) / len(given) for model, given in scores.items()}, cost

    return grade


SPARE = 2.0
"""Prompts are counted by an estimate: a provider that counts twice as many tokens is still within the limit."""
FRAME_TOKENS = 700
"""Of what stands around a question, and around two answers."""


def priciest(card: ModelCard, judge: ModelCard, past: Past, max_tokens: int) -> int:
    """The most that an answer of `card` and its grading may cost, in nano-USD. Both have a price."""
    question, old = (round(SPARE * estimate_tokens(text)) for text in (past.question, past.answer))
    answer = estimate(question + FRAME_TOKENS, max_tokens, card.rate)
    verdict = estimate(question + old + max_tokens + FRAME_TOKENS, MOST_VERDICT_TOKENS, judge.rate)
    assert answer is not None
    assert verdict is not None
    return answer + 2 * verdict
