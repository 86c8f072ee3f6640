"""Measure gateways side by side. See README.md.

bench.py list | check [NAME...] | run [NAME...] | report FILE...
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import report
from processes import Gateway, Mock, rss_mb
from target import ROOT, Target, all_targets

DEFAULT = ["direct", "nginx", "llmwise", "tensorzero", "litellm"]
RATE = 100  # requests per second of the paced measurement


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["list", "check", "run", "report"])
    parser.add_argument("names", nargs="*", help=f"targets (default: {' '.join(DEFAULT)}), or files to report")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=ROOT / "results.jsonl", help="results are appended")
    parser.add_argument("--quick", action="store_true", help="0.4 of the time, for a look")
    options = parser.parse_intermixed_args()
    targets = all_targets()
    if options.command == "report":
        print(report.render(report.read([Path(name) for name in options.names] or [options.out])))
        return 0
    if unknown := set(options.names) - set(targets):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(targets)}")
    if options.command == "list":
        for target in targets.values():
            print(f"{target.name:16} {'needs ' + missing if (missing := target.missing()) else ''}")
        return 0
    chosen = []
    for name in options.names or DEFAULT:
        if missing := targets[name].missing():
            print(f"SKIPPED {name}: {missing} is missing (setup.sh says why)", flush=True)
        else:
            chosen.append(targets[name])
    if options.command == "check":
        return max([check(target) for target in chosen], default=1)
    failed = 0
    for number in range(options.rounds):
        for target in chosen:
            result: dict[str, Any] = {"target": target.name, "round": number, "version": target.version_line()}
            try:
                result |= measure(target, 0.4 if options.quick else 1.0)
            except (RuntimeError, OSError, ValueError, subprocess.SubprocessError) as error:
                result["error"] = str(error)[:400]
                failed = 1
            with options.out.open("a") as out:
                out.write(json.dumps(result) + "\n")
            print(f"{number + 1}/{options.rounds} {report.one_line(result)}", flush=True)
    print("\n" + report.render(report.read([options.out])))
    return failed


def measure(target: Target, scale: float) -> dict[str, Any]:
    """About 22 seconds at scale 1."""

    def seconds(full: float) -> float:
        return max(1.0, round(full * scale, 1))

    with Mock() as mock, Gateway(target) as gateway:
        leader = gateway.process.pid if gateway.process is not None else 0
        result: dict[str, Any] = {"when": time.strftime("%Y-%m-%d %H:%M:%S"), "import_s": import_s(target)}
        result |= {"health_s": gateway.health_s, "cold_s": gateway.cold_s}
        time.sleep(0.5)
        result["idle_mb"] = rss_mb(leader) if leader else None
        gateway.load(mock, 8, seconds(1.5))  # warm up
        gateway.load(mock, 4, 1, stream=True)
        for name, at_once, full in (("c1", 1, 2.0), ("c16", 16, 3.0), ("c64", 64, 3.0)):
            result[name] = gateway.load(mock, at_once, seconds(full))
        result["paced"] = gateway.load(mock, 16, seconds(3), rate=RATE)
        result["burst"] = gateway.load(mock, 16, seconds(2.5), stream=True)
        mock.pace(5000)
        result["live"] = gateway.load(mock, 16, seconds(3), stream=True)
        result["after_mb"] = rss_mb(leader) if leader else None
        return result


def import_s(target: Target) -> float | None:
    """Median of five fresh interpreters."""
    if target.module is None:
        return None
    code = f"import time; a = time.perf_counter(); import {target.module}; print(time.perf_counter() - a)"
    runs = [
        subprocess.run([target.fill(target.python), "-c", code], capture_output=True, text=True, check=False)
        for _ in range(5)
    ]
    times = [float(run.stdout.split()[-1]) for run in runs if run.returncode == 0]
    return statistics.median(times) if times else None


def check(target: Target) -> int:
    """Start it, ask once each way, and show what came."""
    try:
        with Mock(), Gateway(target) as gateway:
            plain = gateway.ask("POST", target.path, gateway.bodies[False].read_bytes())
            stream = gateway.ask("POST", target.path, gateway.bodies[True].read_bytes())
            print(
                f"{target.name}: cold {gateway.cold_s or 0:.2f} s; plain {plain[0]}, {len(plain[1])} bytes; "
                f"stream {stream[0]}, {stream[1].count(b'data:')} events, [DONE] {b'data: [DONE]' in stream[1]}",
                flush=True,
            )
            return int(not (plain[0] == stream[0] == 200 and b"data: [DONE]" in stream[1]))
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        print(f"{target.name}: FAILED: {error}", flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
