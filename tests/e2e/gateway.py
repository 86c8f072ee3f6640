"""Real gateways for end-to-end tests: `llmwise serve` as a process of its own, scripted providers behind it.

The providers are reached over HTTP in their own formats, so that nothing in between is left out: OpenAI's for
`gpt-5.2` and `deepseek-v3`, Anthropic's for `claude-sonnet-4.5`, Gemini's for `gemini-3-flash`.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import msgspec
import pytest

from llmwise.providers.scripted import parse_script
from llmwise.providers.scripted.server import ScriptedServer

STARTS_WITHIN_S = 40.0
"""Half a second on a free machine; tests run beside each other on busy ones."""

GUIDE_MODELS = ("gpt-5.2", "claude-sonnet-4.5", "gemini-3-flash", "deepseek-v3")
SENT = {
    "claude-sonnet-4.5": "claude-sonnet-4-5",
    "gemini-3-flash": "gemini-3-flash-preview",
    "deepseek-v3": "deepseek-flash",
}
"""What the guide's models are called at their providers, where that differs."""

UNLIMITED = dict.fromkeys(("chat", "compare", "blend", "judge", "other", "burst"), 1_000_000)

LLMWISE = (sys.executable, "-m", "llmwise")


def environment(**variables: str) -> dict[str, str]:
    """A bare one: no provider's key of the person who runs the tests finds its way into a gateway."""
    kept = ("PATH", "HOME", "LANG", "LLMWISE_CACHE", "LLMWISE_TESTS_CACHE")
    return {name: os.environ[name] for name in kept if name in os.environ} | variables


def settings(mock_url: str, offer: Sequence[str] = GUIDE_MODELS, **sections: Any) -> dict[str, Any]:
    """A configuration that offers these of the guide's models, all played by the mock; `sections` add to it or replace
    what it has."""
    providers = {
        "gpt-5.2": ("openai", f"{mock_url}/v1"),
        "claude-sonnet-4.5": ("anthropic", f"{mock_url}/v1"),
        "gemini-3-flash": ("gemini", f"{mock_url}/v1beta"),
        "deepseek-v3": ("deepseek", mock_url),
    }
    return {
        "limits": UNLIMITED,
        "providers": {name: {"base_url": url} for name, url in (providers[model] for model in offer)},
        "models": [{"id": model} for model in offer],
        **sections,
    }


@contextmanager
def scripted(script: Mapping[str, Any] | None = None) -> Iterator[ScriptedServer]:
    """The scripted provider, listening in a thread of this process."""
    server = ScriptedServer(parse_script(script or {}))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scripted", daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def play(server: ScriptedServer, *rules: Mapping[str, Any], **script: Any) -> None:
    """What the providers do from now on: `rules` and the script's other tables; nothing of them is a normal answer."""
    server.set_script(parse_script({"rule": list(rules), **script}))
    server.journal.clear()


@dataclass
class Gateway:
    """A gateway that serves. `key` is the administrator's, as its first start printed it; `printed` all it printed."""

    process: "subprocess.Popen[str]"
    url: str
    key: str | None
    config: Path
    log_file: Path
    printed: str

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def client(self, key: str | None = None) -> httpx.Client:
        """A client with the administrator's key, or another."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)

    def connect(self) -> socket.socket:
        """A bare connection, for requests that no client would send."""
        host, port = self.url.removeprefix("http://").split(":")
        return socket.create_connection((host, int(port)), timeout=15)

    def rewrite(self, tree: Mapping[str, Any]) -> None:
        write_config(self.config, tree)

    def hang_up(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    def await_log(self, text: str, times: int = 1, within_s: float = 10) -> None:
        """Wait until the log holds `text` that often."""
        wait_for(lambda: self.log.count(text) >= times, within_s, lambda: f"no {text!r} in the log:\n{self.log}")

    def stop(self, within_s: float = 20) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.process.wait(within_s)


def write_config(file: Path, tree: Mapping[str, Any]) -> Path:
    file.write_text("".join(f"{name} = {toml(value)}\n" for name, value in tree.items()))
    return file


def toml(value: Any) -> str:
    """A value as TOML writes it, tables inline."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def wait_for(holds: Any, within_s: float, otherwise: Any) -> None:
    deadline = monotonic() + within_s
    while not holds():
        assert monotonic() < deadline, otherwise()
        sleep(0.01)


@contextmanager
def running(
    folder: Path,
    tree: Mapping[str, Any],
    *options: str,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """`llmwise serve` with this configuration, until the block ends; it must end by itself when told to, without a
    traceback in its log."""
    config = write_config(folder / "llmwise.toml", tree)
    with serving(folder, "--config", str(config), *options, environ=environ or environment()) as gateway:
        gateway.config = config
        yield gateway


@contextmanager
def serving(folder: Path, *options: str, environ: Mapping[str, str]) -> Iterator[Gateway]:
    """`llmwise serve` with these options and no others but a free port."""
    log_file = folder / "log.txt"
    command = [*LLMWISE, "serve", "--port", "0", *options]
    with (
        log_file.open("w") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=dict(environ), cwd=folder
        ) as process,
    ):
        try:
            gateway = _started(process, log_file)
            yield gateway
            if process.poll() is None:
                gateway.stop()
        finally:
            if process.poll() is None:
                process.kill()
    assert "Traceback" not in gateway.log, gateway.log


def _started(process: "subprocess.Popen[str]", log_file: Path) -> Gateway:
    assert process.stdout is not None
    printed: list[str] = []
    url = key = None
    while url is None:
        line = process.stdout.readline()
        assert line, f"the gateway did not start:\n{''.join(printed)}{log_file.read_text()}"
        printed.append(line)
        if line.strip().startswith("mm_sk_"):
            key = line.strip()
        if line.startswith("llmwise serves on "):
            url = line.split()[3]
    gateway = Gateway(process, url, key, Path(), log_file, "".join(printed))

    # Who has read the address is not turned away: the port is open, and the first request waits for the start.
    try:
        assert httpx.get(f"{url}/healthz", timeout=STARTS_WITHIN_S).status_code == 200
    except httpx.TransportError as error:
        pytest.fail(f"{url}/healthz: {error!r}:\n{gateway.log}")
    return gateway


def llmwise(
    *arguments: str, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """A command, run to its end; `environ` is added to a bare environment."""
    return subprocess.run(
        [*LLMWISE, *arguments], capture_output=True, text=True, timeout=50, env=environment(**(environ or {})), cwd=cwd
    )


def data_of(body: bytes | str) -> Sequence[str]:
    """The `data` of each server-sent event, as a standard parser reads them."""
    text = body if isinstance(body, str) else body.decode()
    events = []
    for block in text.split("\n\n"):
        lines = [line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")]
        if lines:
            events.append("\n".join(lines))
    return events


def events_of(body: bytes | str) -> list[dict[str, Any]]:
    """The events of a native stream, which must end with `[DONE]`."""
    data = data_of(body)
    assert data[-1] == "[DONE]", data[-3:]
    return [msgspec.json.decode(text) for text in data[:-1]]


def asked(question: str = "What is up?", **fields: Any) -> dict[str, Any]:
    """A body for `/chat` and `/v1/chat/completions`."""
    return {"messages": [{"role": "user", "content": question}], **fields}
