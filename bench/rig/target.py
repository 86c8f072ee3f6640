"""What can be measured: each file in targets/ holds `TARGETS`, a list of these."""

import importlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent
RUN = ROOT / "run"
MOCK_PORT = int(os.environ.get("MOCK_PORT", "9100"))


@dataclass(frozen=True)
class Target:
    """One gateway. Strings may hold {ROOT}, {RUN}, {NAME}, {PORT}, {MOCK}, {MOCK_PORT}, {CONFIG}, {LLMWISE}
    and {LLMWISE_PYTHON}.

    start           argv; empty: the load generator talks to the mock itself
    needs           files or commands without which the target is skipped
    config          a file of targets/conf/: copied to run/ with the placeholders replaced, its path is {CONFIG}
    prepare         shell commands before the start, neither pinned nor timed
    headers         "Name: value", sent with each request; headers_file: one that holds such lines after `prepare`
    port_file       holds the port, for a gateway that chooses its own
    body            fields laid over body.json and body_stream.json, body_stream over the latter alone; None removes
    answer          what a good answer that doesn't stream contains
    end             what follows "data:" in the last line of a good stream
    health          a path that answers 200 as soon as the gateway is up
    settle_s        seconds after each measurement in which its CPU still counts: work put off is work
    module, python  what `import` costs: the module's name, and the interpreter that has it
    version         shell command
    """

    name: str
    port: int = 0
    start: list[str] = field(default_factory=list)
    path: str = "/v1/chat/completions"
    needs: list[str] = field(default_factory=list)
    config: str | None = None
    prepare: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    headers: list[str] = field(default_factory=list)
    headers_file: str | None = None
    port_file: str | None = None
    body: dict[str, object] = field(default_factory=dict)
    body_stream: dict[str, object] = field(default_factory=dict)
    answer: bytes = b'"choices"'
    end: str = " [DONE]"
    health: str | None = None
    start_timeout_s: float = 120.0
    settle_s: float = 0.0
    module: str | None = None
    python: str = ""
    version: str = ""

    def fill(self, text: str, port: int | None = None) -> str:
        values = {
            "ROOT": str(ROOT),
            "RUN": str(RUN),
            "NAME": self.name,
            "PORT": str(port or self.port),
            "MOCK": f"http://127.0.0.1:{MOCK_PORT}",
            "MOCK_PORT": str(MOCK_PORT),
            "CONFIG": str(RUN / f"{self.name}{Path(self.config or '').suffix}"),
            "LLMWISE": llmwise(),
            "LLMWISE_PYTHON": str(Path(llmwise()).parent / "python"),
        }
        for name, value in values.items():
            text = text.replace("{" + name + "}", value)
        return text

    def missing(self) -> str | None:
        """What of `needs` isn't there."""
        return next((need for need in map(self.fill, self.needs) if shutil.which(need) is None), None)

    def version_line(self) -> str:
        if not self.version:
            return ""
        done = subprocess.run(self.fill(self.version), shell=True, capture_output=True, text=True, check=False)
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0].strip() if lines else ""


def llmwise() -> str:
    """The gateway under test: $LLMWISE, the checkout's virtual environment, or the one on the path."""
    beside = ROOT.parent.parent / ".venv" / "bin" / "llmwise"
    return os.environ.get("LLMWISE") or (str(beside) if beside.exists() else shutil.which("llmwise") or "llmwise")


def all_targets() -> dict[str, Target]:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    modules = [importlib.import_module(f"targets.{file.stem}") for file in sorted((ROOT / "targets").glob("*.py"))]
    return {target.name: target for module in modules for target in module.TARGETS}
