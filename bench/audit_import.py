"""How long an import takes and how much memory: a million rows of LiteLLM's spend log, or of another format.

    python bench/audit_import.py --rows 1000000 [--format litellm-json|litellm-array|requests|openai-csv] [--prompts]

Makes the file, then runs the command `llmwise audit import` on it in a process of its own, once and once more, and
reports wall time, peak resident memory and what the command said. `--prompts` adds a question to each row, of 1,000
different ones, so that classification is part of it.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

MODELS = (("gpt-4o", "openai"), ("gpt-4o-mini", "openai"), ("claude-sonnet-4-5", "anthropic"))
START = datetime(2026, 10, 1, tzinfo=UTC)


def litellm(rows: int, prompts: bool) -> Iterator[dict[str, object]]:
    """Rows in the order of time, a month of them."""
    draw = random.Random(1)
    step = timedelta(days=30) / rows
    for number in range(rows):
        model, provider = draw.choice(MODELS)
        at = START + number * step
        took = timedelta(milliseconds=draw.randint(200, 9000))
        prompt, output = draw.randint(20, 4000), draw.randint(1, 900)
        row: dict[str, object] = {
            "request_id": f"chatcmpl-{number:012d}",
            "call_type": "acompletion",
            "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
            "spend": round(prompt * 2.5e-6 + output * 1e-5, 9),
            "total_tokens": prompt + output,
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "startTime": at.isoformat(),
            "endTime": (at + took).isoformat(),
            "completionStartTime": (at + took / 4).isoformat(),
            "model": model,
            "custom_llm_provider": provider,
            "cache_hit": "False",
            "metadata": {"status": "success", "usage_object": {"prompt_tokens": prompt}},
            "messages": {},
        }
        if prompts:
            question = f"Summarize the {draw.randint(1, 1000)}th paragraph of this report in three sentences."
            row["messages"] = [{"role": "user", "content": question}]
        yield row


def write(path: Path, format: str, rows: int, prompts: bool) -> None:
    with path.open("w") as file:
        if format == "openai-csv":
            file.write(
                "start_time,end_time,project_id,num_model_requests,model,input_tokens,output_tokens,input_cached_tokens\n"
            )
            draw = random.Random(1)
            for number in range(rows):
                start = 1_790_812_800 + number // 100 * 60
                counts = f"{draw.randint(1, 9)}.0,gpt-4o,{draw.randint(900, 9999)}.0,50.0,64.0"
                file.write(f"{start},{start + 60},proj_{number % 100},{counts}\n")
            return
        separator = ",\n" if format == "litellm-array" else "\n"
        file.write("[" if format == "litellm-array" else "")
        for number, row in enumerate(litellm(rows, prompts)):
            if format == "requests":
                row = {
                    "id": row["request_id"],
                    "created_at": row["startTime"],
                    "model": row["model"],
                    "input_tokens": row["prompt_tokens"],
                    "output_tokens": row["completion_tokens"],
                    "latency_ms": 1200,
                    "messages": row["messages"] or None,
                }
            file.write((separator if number else "") + json.dumps(row))
        file.write("]" if format == "litellm-array" else "\n")


def measured(command: list[str], folder: Path) -> tuple[str, str]:
    """(time and memory, what it printed)."""
    started = time.monotonic()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command}: exit code {process.returncode}")
    wall, cpu = time.monotonic() - started, usage.ru_utime + usage.ru_stime
    return f"{wall:.1f} s ({cpu:.1f} s of CPU), {usage.ru_maxrss / 1024:.0f} MB at the peak", said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument(
        "--format", default="litellm-json", choices=("litellm-json", "litellm-array", "requests", "openai-csv")
    )
    parser.add_argument("--prompts", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / ("export.csv" if given.format == "openai-csv" else "export.jsonl")
        write(file, given.format, given.rows, given.prompts)
        config = folder / "llmwise.toml"
        config.write_text('[storage]\nurl = "sqlite:///audit.db"\n')
        print(f"{given.rows:,} rows of {given.format}, {file.stat().st_size / 1e6:,.0f} MB")
        command = [sys.executable, "-m", "llmwise", "audit", "import", str(file), "--config", str(config), "--json"]
        for run in ("first", "second", "second, read again"):
            took, said = measured([*command, *(["--again"] if "again" in run else [])], folder)
            counts = {k: v for k, v in json.loads(said)["files"][0].items() if type(v) is int and v}
            print(f"{run}: {took}; {counts}")
        report = [sys.executable, "-m", "llmwise", "audit", "report", "--json", "--config", str(config)]
        print(f"report: {measured(report, folder)[0]}")


if __name__ == "__main__":
    main()
