"""The package: cheap to import, and everything of the SDK within reach."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import llmwise
from llmwise import client

IMPORT = """
import sys, time
def blocked(event, args):
    if event.startswith("socket."):
        raise RuntimeError(f"network at import: {event}")
sys.addaudithook(blocked)
began = time.perf_counter()
import llmwise
took_ms = (time.perf_counter() - began) * 1000
assert took_ms < 150, took_ms
loaded = sys.modules.keys() & {"httpx", "asyncio", "llmwise.client"}
assert not loaded, loaded
llmwise.LLMWise
assert "httpx" in sys.modules
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_is_cheap_and_touches_no_network() -> None:
    run(IMPORT)


def test_the_client_needs_httpx_and_nothing_else_of_the_package() -> None:
    run("""
import sys
import llmwise.client
ours = {name for name in sys.modules if name.startswith("llmwise") and not name.startswith("llmwise.client")}
assert ours == {"llmwise"}, ours
foreign = sys.modules.keys() & {"msgspec", "starlette", "uvicorn", "pyreqwest", "sqlalchemy"}
assert not foreign, foreign
""")


def test_the_package_exports_the_clients_names() -> None:
    assert set(llmwise.__all__) == {*client.__all__, "__version__"}
    assert set(llmwise.__all__) <= set(dir(llmwise))
    for name in client.__all__:
        assert getattr(llmwise, name) is getattr(client, name)


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert llmwise.__version__ == project["version"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        llmwise.nope  # noqa: B018
