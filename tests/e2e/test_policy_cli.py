"""Policies and suites from the command line, against a running gateway."""

import json
import random
from pathlib import Path

from typer.testing import CliRunner

from llmwise.cli.main import app

from .gateway import asked, running, scripted, settings

O = "/api/v1/optimization"  # noqa: E741  # the prefix of every path below


def test_policies_and_suites_from_the_command_line(tmp_path: Path) -> None:
    code = "Write a Python function that adds two numbers.\n```python\ndef add(a, b):\n```"
    with scripted({"defaults": {"text": "Canberra 391"}}) as mock, running(tmp_path, settings(mock.url)) as gateway:
        environ = {"LLMWISE_BASE_URL": gateway.url, "LLMWISE_API_KEY": gateway.key or "", "COLUMNS": "400"}
        table, runner = app(), CliRunner()

        def cli(*arguments: str, fails: bool = False) -> str:
            """In this process: twenty starts of a program would be most of the test's time."""
            done = runner.invoke(table, arguments, env=environ)
            assert done.exit_code == int(fails), (done.output, done.exception)
            return done.output

        with gateway.client() as client:
            client.put(f"{O}/policy", json={"guard_points": 0.15})
            for model in random.Random(1).sample(["claude-sonnet-4.5"] * 65 + ["deepseek-v3"] * 60, 125):
                client.post("/api/v1/chat", json=asked(code, model=model, stream=False))
        assert "deepseek-v3" in cli("policy", "report", "--goal", "cost")
        version = cli("policy", "propose", "--goal", "cost").split()[-1]
        cli("policy", "try", version, "--canary", "--share", "0.2")
        assert "running" in cli("policy", "trial")
        assert f"in force: {version} for cost" in cli("policy", "adopt", version, "--why", "cheaper")
        assert "under guard" not in cli("policy", "show")
        cli("policy", "return")
        cli("policy", "adopt", version, "--why", "cheaper", "--guard-days", "7")
        assert f"under guard    {version} until 20" in cli("policy", "show")
        assert "cheaper" in cli("policy", "list")
        assert "go elsewhere" in cli("policy", "replay")
        assert "in force: none" in cli("policy", "return")
        assert "nothing to return from" in cli("policy", "return", fails=True)
        cli("policy", "alerts")
        (tmp_path / "suite.json").write_text(json.dumps({"template": "facts", "models": ["gpt-5.2"]}))
        suite = cli("suite", "create", str(tmp_path / "suite.json")).strip()
        assert "passed" in cli("suite", "run", suite)
        assert suite in cli("suite", "list")
        run_id = cli("suite", "runs").split("\n")[1].split()[0]
        assert cli("suite", "csv", run_id).count("gpt-5.2") == 2
        (tmp_path / "bad.json").write_text(json.dumps({"template": "classification", "models": ["gpt-5.2"]}))
        assert "failed" in cli("suite", "run", cli("suite", "create", str(tmp_path / "bad.json")).strip(), fails=True)
