"""What a 9-way comparison costs beside nine single streams: CPU of the gateway's own process, per request; and what
memory it takes while its reader is slow.

    python bench/compare_cost.py [--requests 60] [--models 9] [--tokens 50] [--slow-s 20]

A gateway and a scripted provider run as processes of their own on this machine. Both kinds of request ask the same
models for the same stream (53 events with the default of 50 tokens) over kept connections, in turns, so that a busy
machine burdens both alike. The figure is user and system time of the gateway's process, from /proc by way of psutil; it
moves far less with what else runs than wall time does.

Then one reader takes 1 kB a second of a comparison whose models have 10 MB to say each, for `--slow-s` seconds. Told is
the resident memory of the gateway's process: before, when the buffers are full (after a quarter of the time), and the
most after that.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

LLMWISE = (sys.executable, "-m", "llmwise")
ROUNDS = 5
QUESTION = [{"role": "user", "content": "What is up?"}]
LONG = " ".join(["x" * 4000] * 2500)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--requests", type=int, default=60, help="comparisons in all; streams are as many per model")
    options.add_argument("--models", type=int, default=9)
    options.add_argument("--tokens", type=int, default=50)
    options.add_argument("--slow-s", type=float, default=20, help="how long the slow reader reads")
    given = options.parse_args()
    names = [f"m{n}" for n in range(given.models)]
    with gateway_on(f"tokens = {given.tokens}", names) as (gateway, url, key):
        report(*asyncio.run(measured(gateway, url, key, names, given.requests)), given.models)
    with gateway_on(f'text = "{LONG}"', names) as (gateway, url, key):
        print(json.dumps(slowly_read(gateway, url, key, names, given.slow_s)))


@contextmanager
def gateway_on(defaults: str, names: list[str]) -> Iterator[tuple[psutil.Process, str, str]]:
    """A gateway whose models all do what `defaults` say."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "mock.toml"
        script.write_text(f"[defaults]\n{defaults}\n")
        with process("mock", "--port", "0", "--script", str(script)) as (_, mock_url, _):
            config = folder / "llmwise.toml"
            config.write_text(configuration(mock_url, names))
            with process("serve", "--port", "0", "--config", str(config)) as gateway:
                yield gateway


def slowly_read(gateway: psutil.Process, url: str, key: str, names: list[str], seconds: float) -> dict[str, float]:
    """The gateway's resident memory, in MB, while somebody takes 1 kB a second."""
    body = json.dumps({"models": names, "messages": QUESTION}).encode()
    lines = (
        "POST /api/v1/compare HTTP/1.1",
        "host: gateway",
        f"authorization: Bearer {key}",
        f"content-length: {len(body)}",
        "content-type: application/json",
    )
    host, port = url.removeprefix("http://").split(":")
    before = gateway.memory_info().rss
    seen: list[int] = []
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert connection.recv(100), "the stream has ended"
            seen.append(gateway.memory_info().rss)
            time.sleep(0.1)
    full = seen[len(seen) // 4]
    names_mb = {"rss_mb_before": before, "rss_mb_buffers_full": full, "rss_mb_most_after": max(seen[len(seen) // 4 :])}
    return {"slow_reader_s": seconds, **{name: round(size / 1e6, 2) for name, size in names_mb.items()}}


def configuration(mock_url: str, names: list[str]) -> str:
    limits = "\n".join(f"{work} = 1_000_000" for work in ("chat", "compare", "blend", "judge", "other", "burst"))
    models = "".join(f'[[models]]\nid = "{name}"\nprovider = "mock"\n' for name in names)
    return f'[limits]\n{limits}\n[providers.mock]\nkind = "openai"\nbase_url = "{mock_url}/v1"\n{models}'


async def measured(
    gateway: psutil.Process, url: str, key: str, names: list[str], requests: int
) -> tuple[list[float], list[float]]:
    """CPU microseconds of one stream and of one comparison, by round."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:

        async def streams() -> None:
            for name in names:
                await read(client, "/api/v1/chat", {"model": name, "messages": QUESTION})

        async def comparison() -> None:
            await read(client, "/api/v1/compare", {"models": names, "messages": QUESTION})

        single, compared = [], []
        await streams()
        await comparison()
        for _ in range(ROUNDS):
            count = max(1, requests // ROUNDS)
            single.append(await cpu_us(gateway, streams, count) / len(names))
            compared.append(await cpu_us(gateway, comparison, count))
        return single, compared


async def read(client: httpx.AsyncClient, path: str, body: object) -> None:
    async with client.stream("POST", path, json=body) as response:
        data = await response.aread()
    assert response.status_code == 200, data
    assert data.endswith(b"data: [DONE]\n\n"), data[-300:]
    assert b'"error"' not in data


async def cpu_us(process: psutil.Process, work, count: int) -> float:  # type: ignore[no-untyped-def]  # an async function
    before = sum(process.cpu_times()[:2])
    for _ in range(count):
        await work()
    return float(sum(process.cpu_times()[:2]) - before) / count * 1e6


def report(single: list[float], compared: list[float], models: int) -> None:
    one, many = statistics.median(single), statistics.median(compared)
    print(
        json.dumps(
            {
                "models": models,
                "cpu_us_one_stream": round(one),
                "cpu_us_comparison": round(many),
                "over_n_streams_percent": round((many / (models * one) - 1) * 100, 1),
                "rounds_percent": [
                    round((c / (models * s) - 1) * 100, 1) for s, c in zip(single, compared, strict=True)
                ],
            }
        )
    )


@contextmanager
def process(*words: str) -> Iterator[tuple[psutil.Process, str, str]]:
    """A command that listens; its process, address, and the key that it prints at its first start."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with subprocess.Popen([*LLMWISE, *words], stdout=subprocess.PIPE, text=True, env=kept) as child:
        try:
            url = key = ""
            assert child.stdout is not None
            while not url:
                line = child.stdout.readline()
                assert line, f"{words[0]} did not start"
                key = line.strip() if line.strip().startswith("mm_sk_") else key
                url = next((word for word in line.split() if word.startswith("http://")), "")
            yield psutil.Process(child.pid), url.rstrip("/.,"), key
        finally:
            child.terminate()


if __name__ == "__main__":
    main()
