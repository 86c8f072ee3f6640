"""The published clients: installed once, from pins and hashes, and run against a gateway.

`python tests/e2e/published/clients.py` installs both and prints where they are. They go to
`~/.cache/llmwise-tests`, or where LLMWISE_TESTS_CACHE says, and stay there.

The scripts beside this file are what runs: `python_smoke.py` with PyPI's `llmwise` 0.1.2, `node_smoke.mjs`
with npm's. Each makes the calls that the gateway must serve and prints one line of JSON.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class NotInstallable(Exception):
    """The client can't be had here: no registry in reach, or no npm."""


def python() -> Path:
    """The interpreter of an environment with the published Python client. Raises `NotInstallable`."""
    pins = HERE / "requirements.txt"
    with _installed("python", [pins]) as (folder, missing):
        interpreter = folder / "bin" / "python"
        if missing:
            _run(sys.executable, "-m", "venv", "--clear", str(folder))
            pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            _run(str(interpreter), *pip, "--require-hashes", "--only-binary", ":all:", "-r", str(pins))
    return interpreter


def node_modules() -> Path:
    """The `node_modules` folder with the published TypeScript client. Raises `NotInstallable`."""
    manifest, lock = HERE / "package.json", HERE / "package-lock.json"
    with _installed("node", [manifest, lock]) as (folder, missing):
        if missing:
            shutil.copy(manifest, folder)
            shutil.copy(lock, folder)
            _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
    return folder / "node_modules"


def python_smoke(base_url: str, api_key: str, *options: str) -> dict[str, Any]:
    """What `python_smoke.py` found; its docstring lists the options. Raises `CalledProcessError`."""
    return _smoke([str(python()), str(HERE / "python_smoke.py"), *options], base_url, api_key)


def node_smoke(base_url: str, api_key: str, *options: str) -> dict[str, Any]:
    """What `node_smoke.mjs` found; its comment lists the options. Raises `CalledProcessError`."""
    return _smoke(["node", str(HERE / "node_smoke.mjs"), *options], base_url, api_key, NODE_MODULES=str(node_modules()))


def python_panels(base_url: str, api_key: str) -> dict[str, Any]:
    """What `python_panels.py` found. Raises `CalledProcessError`."""
    return _smoke([str(python()), "-I", str(HERE / "python_panels.py")], base_url, api_key)


def node_panels(base_url: str, api_key: str) -> dict[str, Any]:
    """What `node_panels.mjs` found. Raises `CalledProcessError`."""
    return _smoke(["node", str(HERE / "node_panels.mjs")], base_url, api_key, NODE_MODULES=str(node_modules()))


def python_optimization(base_url: str, api_key: str) -> dict[str, Any]:
    """What `python_optimization.py` found. Raises `CalledProcessError`."""
    return _smoke([str(python()), "-I", str(HERE / "python_optimization.py")], base_url, api_key)


def node_optimization(base_url: str, api_key: str) -> dict[str, Any]:
    """What `node_optimization.mjs` found. Raises `CalledProcessError`."""
    return _smoke(["node", str(HERE / "node_optimization.mjs")], base_url, api_key, NODE_MODULES=str(node_modules()))


def _smoke(command: Sequence[str], base_url: str, api_key: str, **variables: str) -> dict[str, Any]:
    environment = os.environ | {"LLMWISE_BASE_URL": base_url, "LLMWISE_API_KEY": api_key} | variables
    environment.pop("PYTHONPATH", None)  # or the script would import our package instead of the published one
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    found: dict[str, Any] = json.loads(output.stdout)
    return found


@contextmanager
def _installed(name: str, pins: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """A folder named by its pins, and whether it must be filled; one process at a time."""
    digest = hashlib.sha256(b"".join(pin.read_bytes() for pin in pins)).hexdigest()[:12]
    cache = Path(os.environ.get("LLMWISE_TESTS_CACHE") or Path.home() / ".cache" / "llmwise-tests")
    folder = cache / f"published-{name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    ready = folder.with_suffix(".ready")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder, not ready.exists()
        ready.touch()


def _run(*command: str, cwd: Path | None = None) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=240)
    except FileNotFoundError as exc:
        raise NotInstallable(f"{command[0]} is not installed") from exc
    except subprocess.CalledProcessError as exc:
        raise NotInstallable(f"{' '.join(command)}: {exc.stderr.strip()}") from exc


if __name__ == "__main__":
    print(json.dumps({"python": str(python()), "node_modules": str(node_modules())}))
