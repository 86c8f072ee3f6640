"""The import contracts of pyproject.toml hold, and each of them bites: a probe breaks it on purpose."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

PROBES = {
    "Imports point down": ("routing/planner.py", "import llmwise.orchestration.mesh"),
    "Only the composition root, the configuration and the commands name providers": (
        "orchestration/mesh.py",
        "import llmwise.providers.http",
    ),
    "Values and decisions do no I/O": ("routing/auto.py", "import asyncio"),
    "Providers don't know each other": ("providers/gemini/request.py", "import llmwise.providers.anthropic.request"),
    "Providers don't plan": ("providers/http.py", "import llmwise.catalog.cost"),
    "Dialects don't know each other": ("api/openai/translate.py", "import llmwise.api.native.translate"),
    "The client stands alone": ("client/errors.py", "import msgspec"),
    "Nothing below the commands uses the client": ("api/auth.py", "import llmwise.client"),
    "No cycles": ("domain/messages.py", "import llmwise.wire.sse\nimport llmwise.domain.requests"),
}


def lint(source: Path) -> str:
    ran = subprocess.run(
        [str(LINT), "--config", str(ROOT / "pyproject.toml"), "--no-cache"],
        env={**os.environ, "PYTHONPATH": str(source), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    return ran.stdout + ran.stderr


def test_every_contract_has_its_probe() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert [contract["name"] for contract in contracts] == list(PROBES)


def test_the_tree_keeps_every_contract() -> None:
    assert f"Contracts: {len(PROBES)} kept, 0 broken." in lint(ROOT / "src")


@pytest.mark.parametrize("contract", PROBES)
def test_a_contract_bites(contract: str, tmp_path: Path) -> None:
    module, line = PROBES[contract]
    shutil.copytree(ROOT / "src" / "llmwise", tmp_path / "llmwise", ignore=shutil.ignore_patterns("__pycache__"))
    probe = tmp_path / "llmwise" / module
    probe.write_text(probe.read_text() + f"\n{line}\n")
    assert f"{contract} BROKEN" in lint(tmp_path)
