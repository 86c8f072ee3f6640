"""A team that asks one expensive model everything: its questions, the models it could ask, and what they cost.

Questions and outcomes (what each model makes of a question, 0..1, and what that costs) are data; see bench/data. The
prices are those that the outcomes' costs were computed with; tokens are made so that tokens times price is the cost.
Latencies are assumptions, about right for the model's size when it was current, and decide nothing here.
"""

import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from routing_train import Outcome, read_outcomes

PRICES: Final[Mapping[str, tuple[float, float]]] = {
    "gpt-4-1106-preview": (10.0, 30.0),
    "claude-v1": (8.0, 24.0),
    "claude-v2": (8.0, 24.0),
    "claude-instant-v1": (0.8, 2.4),
    "gpt-3.5-turbo-1106": (1.0, 2.0),
    "llama-2-70b-chat": (0.9, 0.9),
    "Yi-34B-Chat": (0.8, 0.8),
    "code-llama-instruct-34b-chat": (0.776, 0.776),
    "mixtral-8x7b-chat": (0.6, 0.6),
    "WizardLM-13B-V1.2": (0.3, 0.3),
    "mistral-7b-chat": (0.2, 0.2),
    "Mixtral-8x7B-Instruct-v0.1": (0.24, 0.24),
    "llama-3.3-nemotron-super-49b-v1": (0.9, 0.9),
    "llama-3.1-nemotron-51b-instruct": (0.9, 0.9),
    "llama3-chatqa-1.5-70b": (0.9, 0.9),
    "llama-3.1-8b-instruct": (0.2, 0.2),
    "qwen2.5-7b-instruct": (0.2, 0.2),
    "mistral-7b-instruct-v0.3": (0.2, 0.2),
    "codegemma-7b": (0.2, 0.2),
    "llama3-chatqa-1.5-8b": (0.2, 0.2),
    "gemma-2-9b-it": (0.1, 0.1),
}
"""USD per million tokens, input and output. RouterBench's are in its paper (https://arxiv.org/abs/2403.12031, 2024),
the others in the sources that bench/data/README.md names."""

UNKNOWN_PRICE: Final = (1.0, 1.0)
INPUT_SHARE: Final = 0.6
"""At most so much of an answer's cost is its question's."""
CANDIDATE_SHARE: Final = 0.6
"""A model is worth a look if its prices are at most this share of today's model's."""


class Made(NamedTuple):
    """What a model made of a question. `quality` 0..1, `cost` in USD, and the tokens that cost so much."""

    quality: float
    cost: float
    input_tokens: int
    output_tokens: int


class Team(NamedTuple):
    """`today` answers everything now. `made` is by question, then by model; models by their short names."""

    name: str
    questions: list[str]
    made: dict[str, dict[str, Made]]
    today: str
    models: list[str]

    @property
    def candidates(self) -> list[str]:
        """Cheaper by their list prices, the cheapest last: all that the team knows of them beforehand."""
        most = CANDIDATE_SHARE * sum(price_of(self.today))
        cheaper = [model for model in self.models if model != self.today and sum(price_of(model)) <= most]
        return sorted(cheaper, key=lambda model: (-sum(price_of(model)), model))

    def mean(self, model: str) -> Made:
        of = [answers[model] for answers in self.made.values()]
        return Made(*(statistics.fmean(column) for column in zip(*of, strict=True)))  # type: ignore[arg-type]  # means


def team_of(folder: Path, name: str | None) -> Team:
    """The team whose questions are outcomes/NAME.jsonl of `folder` (without a name: the eleven models, or the set with
    the most). Its model is the one with the best mean score, of those as good the dearer."""
    sets = read_outcomes(folder)
    if not sets:
        sys.exit(f"{folder}: no outcomes/*.jsonl")
    if name is None:
        by_size = max(sets, key=lambda one: (len(sets[one][0].models), len(sets[one])))
        name = "routerbench_subset" if "routerbench_subset" in sets else by_size
    if name not in sets:
        sys.exit(f"no set {name!r} in {folder}; there are: {', '.join(sets)}")
    made = {row.prompt: _made(row) for row in sets[name] if row.prompt.strip()}
    models = sorted(next(iter(made.values())))
    team = Team(name, [*made], made, "", models)
    best = max(models, key=lambda m: (round(team.mean(m).quality, 6), team.mean(m).cost))
    return team._replace(today=best)


def price_of(model: str) -> tuple[float, float]:
    return PRICES.get(model, UNKNOWN_PRICE)


def latency_ms(model: str) -> float:
    """Until an answer is whole."""
    return 400 + 120 * sum(price_of(model))


def shortest_mix(team: Team, floor: float) -> tuple[str, float]:
    """The control: the single model, or mix of one with today's, that costs least at `floor` of today's quality, chosen
    after the fact and blind to the question. Its name and what it saves."""
    today = team.mean(team.today)
    found = ("", 0.0)
    for model in team.candidates:
        other = team.mean(model)
        lost = today.quality - other.quality
        share = 1.0 if lost <= 0 else min(1.0, (1 - floor) * today.quality / lost)
        found = max(found, (model, share * (1 - other.cost / today.cost)), key=lambda pair: pair[1])
    return found


def _made(row: Outcome) -> dict[str, Made]:
    return {short(model): _tokens(row.prompt, short(model), one.score, one.cost) for model, one in row.models.items()}


def short(model: str) -> str:
    return model.rsplit("/", 1)[-1]


def _tokens(question: str, model: str, quality: float, cost: float) -> Made:
    """Input by the question's length, as far as the cost allows; the rest is answer."""
    per_input, per_output = (price / 1e6 for price in price_of(model))
    given = max(1, min(len(question) // 4 + 1, int(INPUT_SHARE * cost / per_input)))
    said = max(1, round((cost - given * per_input) / per_output))
    return Made(quality, given * per_input + said * per_output, given, said)


def draws(team: Team, count: int, seed: int, part: Sequence[str] | None = None) -> list[str]:
    """`count` questions as the team asks them: drawn from all that it has, again and again."""
    rng = random.Random(seed)
    return rng.choices(part or team.questions, k=count)
