"""A month of a team's requests, invented from real prompts, as a request log: to try `llmwise audit` on.

    python bench/audit_month.py --out month.jsonl.gz [--requests 12000]

Four fifths go to one expensive model, as is usual where nobody looks. Prompts are those of `bench/data/classification`
(licences there); times, tokens and latencies are drawn at random. Costs are left out: the importer prices them.
"""

import argparse
import gzip
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

PROMPTS = Path(__file__).parent / "data" / "classification"
START = datetime(2026, 10, 1, tzinfo=UTC)
MODELS = (("gpt-5.2", 0.8), ("claude-sonnet-4-5", 0.12), ("gpt-4o-mini", 0.08))


def prompts() -> list[str]:
    found = []
    for file in sorted(PROMPTS.glob("*.jsonl*")):
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
            found += [
                text for line in lines if (text := json.loads(line).get("prompt") or json.loads(line).get("text"))
            ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=12_000)
    given = parser.parse_args()
    draw, texts = random.Random(7), prompts()
    at, number = START, 0
    with gzip.open(given.out, "wt") as file:
        while number < given.requests:
            at += timedelta(seconds=draw.expovariate(given.requests / (30 * 86_400)))
            if at.weekday() >= 5 and draw.random() < 0.7:
                continue
            prompt = draw.choice(texts)
            model = draw.choices([name for name, _ in MODELS], [share for _, share in MODELS])[0]
            input_tokens = len(prompt) // 4 + draw.choice((20, 300, 1500))
            output = max(round(draw.lognormvariate(5.4, 0.9)), 1)
            first = round(draw.lognormvariate(6.4, 0.5))
            line = {
                "id": f"r{number}",
                "created_at": at.isoformat(),
                "model": model,
                "input_tokens": input_tokens,
                "cached_tokens": input_tokens // 2 if input_tokens > 1000 else 0,
                "output_tokens": output,
                "latency_ms": first + output * draw.randint(8, 18),
                "ttft_ms": first,
                "prompt": prompt[:4000],
                "conversation_id": f"c{number // 3}",
            }
            if draw.random() < 0.01:
                line |= {"status": 500, "output_tokens": 0}
            file.write(json.dumps(line) + "\n")
            number += 1


if __name__ == "__main__":
    main()
