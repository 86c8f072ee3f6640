"""Importing the package is cheap and touches nothing; every module imports by itself."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import llmwise

SOURCE = Path(llmwise.__file__).parent

NO_NETWORK = """
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit("importing llmwise opened a socket")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)


def test_importing_the_package_touches_no_network_and_loads_no_gateway() -> None:
    ran = run(
        NO_NETWORK
        + "import llmwise; llmwise.LLMWise('mm_sk_x', base_url='http://127.0.0.1:1');"
        + "heavy = {'uvicorn', 'starlette', 'sqlalchemy', 'msgspec', 'llmwise.api', 'llmwise.app'} & set(sys.modules);"
        + "assert not heavy, heavy"
    )
    assert ran.returncode == 0, ran.stderr


def test_the_bare_import_loads_nothing_but_itself_and_the_standard_library() -> None:
    ran = run("import sys; import llmwise; print(*sys.modules)")
    loaded = {name.split(".")[0] for name in ran.stdout.split()}
    # What a virtual environment's own .pth files load is not ours.
    assert "httpx" not in loaded
    assert not {"msgspec", "uvicorn", "starlette", "sqlalchemy"} & loaded


def test_every_module_imports_by_itself() -> None:
    names = [module.name for module in pkgutil.walk_packages([str(SOURCE)], "llmwise.")]
    skipped = {"llmwise.__main__", "llmwise.storage.migrations.env"}  # they run when they are imported
    names = [name for name in names if name not in skipped and ".migrations.versions." not in name]
    code = "import importlib, sys\nfor name in {}:\n    importlib.import_module(name)\n"
    # In one process per package: an import that works only after another one would hide within a package at most.
    packages: dict[str, list[str]] = {}
    for name in names:
        packages.setdefault(name.split(".")[1], []).append(name)
    for members in packages.values():
        ran = run(code.format(members[::-1]))
        assert ran.returncode == 0, ran.stderr
