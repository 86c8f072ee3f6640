"""Start a gateway and the mock, drive the load, and account for every CPU nanosecond (Linux only)."""

import http.client
import json
import os
import shlex
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from target import MOCK_PORT, ROOT, RUN, Target

CPUS = sorted(os.sched_getaffinity(0))
GATEWAY_CPU, LOAD_CPU = str(CPUS[0]), str(CPUS[1 % len(CPUS)])
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LOGS = ROOT / "logs"


# CPU and memory of a session: each gateway is started in one of its own, with all its processes.


def session(leader: int) -> dict[int, list[str]]:
    """The fields of /proc/PID/stat after the command's name, for each live process of the session."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        fields = stat[stat.rindex(")") + 2 :].split()
        if int(fields[3]) == leader:
            found[int(pid)] = fields
    return found


def cpu_s(leader: int) -> float:
    """User and system seconds of the session.

    Of a live process by the kernel's clock for it (all its threads, ended ones too, in ns; /proc shows the same in
    ticks of 10 ms); of its reaped children by cutime and cstime.
    """
    total = 0.0
    for pid, fields in session(leader).items():
        try:
            total += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            total += (int(fields[11]) + int(fields[12])) * TICK_S
        total += (int(fields[13]) + int(fields[14])) * TICK_S
    return total


def rss_mb(leader: int) -> float:
    pages = 0
    for pid in session(leader):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return round(pages * PAGE / 2**20, 1)


def machine_busy_s() -> float:
    fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) * TICK_S


def pinned(cpu: str, argv: list[str]) -> list[str]:
    return ["taskset", "-c", cpu, *argv]


class Mock:
    """The upstream, shared by the measurements of one target."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            pinned(LOAD_CPU, [str(ROOT / "bin/mock")]),
            env=dict(os.environ, MOCK_PORT=str(MOCK_PORT)),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _ in range(100):
            try:
                self.get("/_stats")
                return self
            except OSError:
                time.sleep(0.02)
        raise SystemExit(f"the mock did not start on port {MOCK_PORT}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def get(self, path: str) -> Any:
        if self.process.poll() is not None:
            raise SystemExit(f"the mock ended: is port {MOCK_PORT} taken? (MOCK_PORT sets another)")
        return json.load(urllib.request.urlopen(f"http://127.0.0.1:{MOCK_PORT}{path}", timeout=5))

    def pace(self, gap_us: int) -> None:
        """Time between the events of a stream; 0: back to back."""
        self.get(f"/_ctl?delay_ms=0&gap_us={gap_us}")


class Gateway:
    """A running target. `health_s` and `cold_s`: from its start to the first 200 of its health path, and answer."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.port = target.port or MOCK_PORT
        self.process: subprocess.Popen[bytes] | None = None
        self.health_s: float | None = None
        self.cold_s: float | None = None
        self.headers: list[str] = []
        RUN.mkdir(exist_ok=True)
        LOGS.mkdir(exist_ok=True)
        self.log = LOGS / f"{target.name}.log"
        self.bodies = {stream: self._write_body(stream) for stream in (False, True)}

    def __enter__(self) -> Self:
        target = self.target
        if not target.start:
            return self
        if target.config is not None:
            text = (ROOT / "targets/conf" / target.config).read_text()
            Path(target.fill("{CONFIG}")).write_text(target.fill(text))
        env = dict(os.environ, **{name: target.fill(value) for name, value in target.env.items()})
        with self.log.open("wb") as log:
            for command in target.prepare:
                subprocess.run(target.fill(command), shell=True, cwd=ROOT, env=env, check=True, stdout=log, stderr=log)
            if target.port_file is not None:
                Path(target.fill(target.port_file)).unlink(missing_ok=True)
            started = time.monotonic()
            self.process = subprocess.Popen(
                pinned(GATEWAY_CPU, [target.fill(word) for word in target.start]),
                cwd=ROOT, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            self._wait(started)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _wait(self, started: float) -> None:
        target, process, seen = self.target, self.process, "nothing"
        assert process is not None
        while (now := time.monotonic() - started) < target.start_timeout_s:
            if process.poll() is not None:
                raise RuntimeError(f"it ended with {process.returncode}, see {self.log.relative_to(ROOT)}")
            try:
                if target.port_file is not None:
                    self.port = int(Path(target.fill(target.port_file)).read_text())
                if target.headers_file is not None:
                    self.headers = Path(target.fill(target.headers_file)).read_text().strip().splitlines()
                else:
                    self.headers = [target.fill(line) for line in target.headers]
                if target.health is not None and self.health_s is None:
                    status, answer = self.ask("GET", target.health)
                    if status != 200:
                        raise OSError(f"{target.health}: {status}")
                    self.health_s = now
                status, answer = self.ask("POST", target.path, self.bodies[False].read_bytes())
                if status == 200 and target.answer in answer:
                    self.cold_s = time.monotonic() - started
                    return
                seen = f"{status} {answer[:300]!r}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                seen = repr(error)
            time.sleep(0.01)
        raise RuntimeError(f"not ready after {target.start_timeout_s:g} s: {seen}")

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            fields = dict(line.split(": ", 1) for line in self.headers)
            connection.request(method, path, body=body, headers={"Content-Type": "application/json", **fields})
            response = connection.getresponse()
            return response.status, response.read(200_000)
        finally:
            connection.close()

    def stop(self) -> None:
        if self.process is None:
            return
        for sign, wait_s in ((signal.SIGTERM, 6), (signal.SIGKILL, 3)):
            for pid in session(self.process.pid):
                try:
                    os.kill(pid, sign)
                except OSError:
                    continue
            end = time.monotonic() + wait_s
            while time.monotonic() < end:
                self.process.poll()
                if all(fields[0] == "Z" for fields in session(self.process.pid).values()):
                    break
                time.sleep(0.05)
        self.process.wait()

    def load(self, mock: Mock, at_once: int, seconds: float, *, rate: int = 0, stream: bool = False) -> dict[str, Any]:
        """Drive it, and say what the load generator saw and what the CPU of each side was."""
        argv = [str(ROOT / "bin/lg"), "-p", str(self.port), "-u", self.target.path]
        argv += ["-c", str(at_once), "-d", str(seconds), "-b", str(self.bodies[stream])]
        argv += ["-r", str(rate)] * bool(rate) + ["-s", "-e", self.target.end] * stream
        argv += [word for header in self.headers for word in ("-H", header)]
        leader = self.process.pid if self.process is not None else 0
        cpu, mock_cpu, busy, began = (
            cpu_s(leader) if leader else 0.0,
            cpu_s(mock.process.pid),
            machine_busy_s(),
            time.monotonic(),
        )
        done = subprocess.run(pinned(LOAD_CPU, argv), capture_output=True, text=True, timeout=seconds + 20, check=False)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(argv)}: {done.stderr}")
        result: dict[str, Any] = json.loads(done.stdout)
        took, busy, mock_cpu = time.monotonic() - began, machine_busy_s() - busy, cpu_s(mock.process.pid) - mock_cpu
        if leader and self.target.settle_s:
            time.sleep(self.target.settle_s)
        cpu = cpu_s(leader) - cpu if leader else 0.0
        answers = result["ok"] + result["bad"]
        return result | {
            "us_per_request": round(cpu / answers * 1e6, 1) if answers else None,
            "gateway_cores": round(cpu / took, 2),
            "load_cores": round((mock_cpu + result["cpu_s"]) / took, 2),
            "foreign_cores": round((busy - cpu - mock_cpu - result["cpu_s"]) / took, 2),
        }

    def _write_body(self, stream: bool) -> Path:
        body = json.loads((ROOT / ("body_stream.json" if stream else "body.json")).read_text())
        body |= self.target.body | (self.target.body_stream if stream else {})
        path = RUN / f"{self.target.name}.{'stream' if stream else 'plain'}.json"
        kept = {name: value for name, value in body.items() if value is not None}
        path.write_text(json.dumps(kept, separators=(",", ":")))
        return path
