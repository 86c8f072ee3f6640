"""`deploy/haproxy.cfg` in front of three gateways that are processes of their own, where HAProxy is installed."""

import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from llmwise.providers.scripted.server import ScriptedServer
from tests.e2e.gateway import Gateway, asked, data_of, play, running, scripted, settings, wait_for

from .test_files import HAPROXY

HAPROXY_BINARY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

pytestmark = pytest.mark.skipif(HAPROXY_BINARY is None, reason="HAProxy is not installed (apt-get install haproxy)")


@dataclass
class Balanced:
    gateways: list[Gateway]
    url: str
    headers: dict[str, str]
    provider: ScriptedServer

    def served(self, gateway: Gateway) -> float:
        """How many requests a gateway has answered, as it says itself."""
        text = httpx.get(f"{gateway.url}/metrics", timeout=20).text
        return sum(float(value) for value in re.findall(r"^llmwise_requests_total\{.*\} (\S+)$", text, re.MULTILINE))

    def ask(self, client: httpx.Client) -> httpx.Response:
        return client.post(f"{self.url}/api/v1/chat", json=asked(model="gpt-5.2", stream=False), headers=self.headers)


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[Balanced]:
    with ExitStack() as stack:
        provider = stack.enter_context(scripted())
        gateways = []
        storage = {"url": f"sqlite:///{tmp_path / 'llmwise.db'}"}
        for number in range(3):
            (folder := tmp_path / str(number)).mkdir()
            tree = settings(provider.url, ["gpt-5.2"], storage=storage | {"spool": "spool"})
            gateways.append(stack.enter_context(running(folder, tree)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        stack.enter_context(haproxy(tmp_path, port, [gateway.url for gateway in gateways]))
        yield Balanced(gateways, f"http://127.0.0.1:{port}", {"authorization": f"Bearer {gateways[0].key}"}, provider)


def written(port: int, urls: list[str]) -> str:
    """The file, with a free port, and with replicas that are named instead of looked up."""
    servers = "\n".join(f"    server replica{n} {url.removeprefix('http://')} check" for n, url in enumerate(urls, 1))
    text, bound = re.subn(r"bind :8000", f"bind 127.0.0.1:{port}", HAPROXY)
    text, named = re.subn(r"^    server-template .*$", servers, text, flags=re.MULTILINE)
    assert (bound, named) == (1, 1)
    return text


class haproxy:  # noqa: N801  # a context manager
    """It serves, until the block ends."""

    def __init__(self, folder: Path, port: int, urls: list[str]) -> None:
        self._file, self._port = folder / "haproxy.cfg", port
        self._file.write_text(written(port, urls))

    def __enter__(self) -> None:
        assert HAPROXY_BINARY is not None
        with (self._file.parent / "haproxy.log").open("wb") as log:
            self._process = subprocess.Popen([HAPROXY_BINARY, "-f", str(self._file)], stdout=log, stderr=log)
        wait_for(self._answers, 20, lambda: (self._file.parent / "haproxy.log").read_text())

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self._port}/v1/models").status_code == 401
        except httpx.TransportError:
            return False

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def test_the_file_itself_is_valid() -> None:
    assert HAPROXY_BINARY is not None
    file = Path(__file__).parents[2] / "deploy" / "haproxy.cfg"
    checked = subprocess.run([HAPROXY_BINARY, "-c", "-f", str(file)], capture_output=True, text=True, timeout=20)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr


def test_requests_go_to_all_streams_are_not_held_back_and_operators_paths_stay_inside(balanced: Balanced) -> None:
    with httpx.Client(timeout=20) as client:
        assert [balanced.ask(client).status_code for _ in range(12)] == [200] * 12
        assert all(balanced.served(gateway) >= 2 for gateway in balanced.gateways)
        for path in ("/metrics", "/readyz", "/healthz", "/docs", "/openapi.json", "/"):
            assert client.get(f"{balanced.url}{path}").status_code == 404
        # The provider falls silent in the middle of its answer: what came before is here all the same.
        play(balanced.provider, {"fault": "stall", "after": 3})
        body = asked(model="gpt-5.2", stream=True)
        with client.stream("POST", f"{balanced.url}/api/v1/chat", json=body, headers=balanced.headers) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            came = ""
            for piece in answer.iter_text():
                came += piece
                if any('"delta"' in data for data in data_of(came)):
                    break
            else:
                pytest.fail(f"the stream ended: {came}")


def test_callers_notice_nothing_of_a_replica_that_is_killed_or_drains(balanced: Balanced) -> None:
    play(balanced.provider, defaults={"latency_ms": 20})
    failed: list[object] = []
    done = threading.Event()
    answered = [0] * 4

    def call(number: int) -> None:
        with httpx.Client(timeout=20) as client:
            while not done.is_set():
                try:
                    answer = balanced.ask(client)
                    if answer.status_code != 200:
                        failed.append((answer.status_code, answer.text))
                except httpx.TransportError as error:
                    failed.append(error)
                answered[number] += 1

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()

    def more(count: int) -> None:
        enough = sum(answered) + count
        wait_for(lambda: sum(answered) >= enough or not any(c.is_alive() for c in callers), 20, lambda: failed)

    try:
        more(40)
        balanced.gateways[1].process.send_signal(signal.SIGTERM)
        more(80)
        assert failed == []
        assert balanced.gateways[1].process.wait(20) == 0
        balanced.gateways[2].process.kill()
        more(80)
    finally:
        done.set()
        for caller in callers:
            caller.join(30)
    # What was on its way in the killed one is lost with it: at most one of each caller.
    assert len(failed) <= len(callers), failed
    assert balanced.served(balanced.gateways[0]) > 0
