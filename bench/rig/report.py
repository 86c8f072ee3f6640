"""Tables from results: medians over the rounds; CPU first, since it moves least with what else runs."""

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

Result: TypeAlias = dict[str, Any]
PEERS = ("tensorzero", "litellm")
LOADS = ("c1", "c16", "c64", "paced", "burst", "live")


def read(files: Iterable[Path]) -> list[Result]:
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def one_line(result: Result) -> str:
    if "error" in result:
        return f"{result['target']}: FAILED: {result['error']}"
    cpu = ", ".join(f"{load} {_show(result[load]['us_per_request'])}" for load in LOADS)
    wrong = sum(result[load]["bad"] + result[load]["errors"] for load in LOADS)
    noise = max(result[load]["foreign_cores"] for load in LOADS)
    return f"{result['target']}: CPU us {cpu}; bad or failed {wrong}" + (
        f"; {noise} foreign cores" if noise > 0.1 else ""
    )


def render(results: list[Result]) -> str:
    by_target: dict[str, list[Result]] = {}
    for result in results:
        if "error" not in result:
            by_target.setdefault(result["target"], []).append(result)
    order = sorted(
        by_target, key=lambda name: (name != "direct", _median(by_target[name], "c16", "us_per_request") or 0)
    )
    gateways = [name for name in order if name != "direct"]
    peers = [peer for peer in PEERS if peer in by_target]

    def against(name: str, peer: str, load: str) -> str:
        """The target's CPU in multiples of the peer's, round by round."""
        theirs = {result["round"]: result[load]["us_per_request"] for result in by_target[peer]}
        pairs = [(result[load]["us_per_request"], theirs.get(result["round"])) for result in by_target[name]]
        ratios = [mine / other for mine, other in pairs if mine and other]
        return f"{statistics.median(ratios):.2g}×" if ratios else "-"

    def added(name: str, *path: str) -> float | None:
        """Less what the load generator sees at the mock itself, round by round."""
        direct = {result["round"]: result for result in by_target.get("direct", [])}
        values = [
            value - (_at(direct.get(result["round"], {}), *path) or 0)
            for result in by_target[name]
            if (value := _at(result, *path)) is not None
        ]
        return statistics.median(values) if values else None

    cpu_head = ["gateway", "rounds", "1 at once", "16", "64", "stream, burst", "stream, live"]
    cpu_head += [f"of {peer}: {load}" for peer in peers for load in ("c16", "burst", "live")]
    cpu_rows = [
        [
            name,
            str(len(by_target[name])),
            *(_span(by_target[name], load) for load in ("c1", "c16", "c64", "burst", "live")),
        ]
        + [against(name, peer, load) for peer in peers for load in ("c16", "burst", "live")]
        for name in gateways
    ]
    rest_head = [
        "gateway",
        "first token added ms p50 / p99",
        "request added ms p50 / p99, 1 at once",
        "100/s",
        "req/s, 1 core",
    ]
    rest_head += ["idle MB", "MB after", "/healthz s", "first answer s", "import ms", "bad or failed", "version"]
    rest_rows = []
    for name in order:
        rounds = by_target[name]
        best = max(result[load]["rps"] for result in rounds for load in ("c16", "c64"))
        rest_rows.append(
            [
                name,
                _pair(added(name, "live", "ttft_ms", "p50"), added(name, "live", "ttft_ms", "p99")),
                _pair(added(name, "c1", "lat_ms", "p50"), added(name, "c1", "lat_ms", "p99")),
                _pair(added(name, "paced", "lat_ms", "p50"), added(name, "paced", "lat_ms", "p99")),
                _show(best),
                _show(_median(rounds, "idle_mb")),
                _show(_median(rounds, "after_mb")),
                _show(_median(rounds, "health_s"), 2),
                _show(_median(rounds, "cold_s"), 2),
                _show(_median(rounds, "import_s", scale=1000)),
                str(sum(result[load]["bad"] + result[load]["errors"] for result in rounds for load in LOADS)),
                rounds[-1].get("version", "").rpartition(" ")[2],
            ]
        )
    noise = [result[load]["foreign_cores"] for result in results if "error" not in result for load in LOADS]
    parts = [
        "CPU microseconds per request, and per stream of 53 events (burst: back to back; live: 5 ms apart), of all "
        "the gateway's processes, on one core. Median over the rounds and their range; `of PEER`: times that peer's.",
        _table(cpu_head, cpu_rows),
        "Latency is added to what the load generator sees without a gateway. First token: of 16 live streams at once.",
        _table(rest_head, rest_rows),
    ]
    if noise:
        parts.append(f"Other processes used {statistics.median(noise):.2f} cores meanwhile (at most {max(noise):.2f}).")
    failed = sorted({f"{result['target']}: {result['error']}" for result in results if "error" in result})
    return "\n\n".join(parts + [f"FAILED {line}" for line in failed])


def _at(result: Result, *path: str) -> float | None:
    value: Any = result
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return None if value is None else float(value)


def _values(rounds: list[Result], *path: str) -> list[float]:
    return [value for result in rounds if (value := _at(result, *path)) is not None]


def _median(rounds: list[Result], *path: str, scale: float = 1) -> float | None:
    values = _values(rounds, *path)
    return statistics.median(values) * scale if values else None


def _show(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _pair(one: float | None, two: float | None) -> str:
    return f"{_show(one, 2)} / {_show(two, 2)}"


def _span(rounds: list[Result], load: str) -> str:
    values = _values(rounds, load, "us_per_request")
    if not values:
        return "-"
    middle = _show(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({_show(min(values))}-{_show(max(values))})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown, padded to read well in a terminal too."""
    width: Callable[[int], int] = lambda column: max(len(row[column]) for row in [head, *rows])  # noqa: E731
    lines = [
        [cell.rjust(width(i)) if i else cell.ljust(width(i)) for i, cell in enumerate(row)] for row in [head, *rows]
    ]
    rule = ["-" * width(0)] + ["-" * (width(i) - 1) + ":" for i in range(1, len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
