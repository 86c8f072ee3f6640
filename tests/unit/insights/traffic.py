"""Made-up traffic with a known truth."""

import random
from collections.abc import Mapping
from typing import Any

from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.insights.dataset import Row


class Truth:
    """Of a model on a task: chance of success, mean quality, cost in nano-USD, median latency in ms."""

    def __init__(self, quality: float, cost: int, latency_ms: float = 500, success: float = 0.98) -> None:
        self.quality, self.cost, self.latency_ms, self.success = quality, cost, latency_ms, success


PROVIDERS = {"dear": "one", "cheap": "two", "twin": "one", "fast": "three"}


def traffic(
    truths: Mapping[str, Mapping[str, Truth]], n: int, seed: int = 0, *, judged: bool = True, today: str = "dear"
) -> list[Row]:
    """`n` first attempts per task, spread evenly over its models, and a second one at another model after a failure."""
    rng = random.Random(seed)
    rows = []
    for task, models in truths.items():
        for at in range(n):
            model = rng.choice([*models, today])
            chance = (1 + (model == today)) / (len(models) + 1)
            rows.append(_row(rng, task, model, models[model], None, f"{task}{at}", chance, judged))
            if rows[-1].success is False:
                other = rng.choice([name for name in models if name != model] or [model])
                rows.append(_row(rng, task, other, models[other], model, f"{task}{at}", None, judged))
    return rows


def _row(
    rng: random.Random,
    task: str,
    model: str,
    truth: Truth,
    after: str | None,
    conversation: str,
    propensity: float | None,
    judged: bool,
) -> Row:
    success = rng.random() < truth.success
    return Row(
        task_type=task,
        model=model,
        provider=PROVIDERS[model],
        after=after,
        success=success,
        quality=float(rng.random() < truth.quality) if judged and success else None,
        cost_nanousd=round(truth.cost * rng.uniform(0.5, 1.5)),
        latency_ms=round(truth.latency_ms * rng.lognormvariate(0, 0.3)),
        ttft_ms=None,
        propensity=propensity if judged else None,
        explored=None,
        policy_version=None,
        conversation=conversation,
        created_at_ms=0,
    )


def request(**fields: Any) -> RequestRecord:
    known: dict[str, Any] = dict.fromkeys(RequestRecord.__struct_fields__)
    known |= {"id": "r1", "mode": "chat", "task_type": "code", "created_at_ms": 5} | fields
    return RequestRecord(**known)


def attempt(model: str, outcome: str = "complete", **fields: Any) -> AttemptRecord:
    known: dict[str, Any] = dict.fromkeys(AttemptRecord.__struct_fields__)
    known |= {"model": model, "provider": f"of-{model}", "outcome": outcome, "latency_ms": 100, "cost_nanousd": 7}
    return AttemptRecord(**(known | fields))
