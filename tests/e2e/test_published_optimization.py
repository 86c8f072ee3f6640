"""The published clients' optimization, suites and schedules methods, unchanged, against a running gateway."""

import os
from pathlib import Path
from typing import Any

import pytest

from .gateway import asked, running, scripted, settings
from .published import clients

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("published")]  # the first run installs


@pytest.mark.parametrize("client", ["python", "node"])
def test_every_optimization_method_of_a_published_client_works(client: str, tmp_path: Path) -> None:
    run = {"python": clients.python_optimization, "node": clients.node_optimization}[client]
    try:
        clients.python() if client == "python" else clients.node_modules()
    except clients.NotInstallable as error:
        if os.environ.get("LLMWISE_TESTS_REQUIRE_PUBLISHED"):
            raise
        pytest.skip(str(error))
    with scripted({"defaults": {"text": "Canberra, 391"}}) as mock, running(tmp_path, settings(mock.url)) as gateway:
        with gateway.client() as http:
            for _ in range(25):
                http.post(
                    "/api/v1/chat", json=asked("What is the capital of Australia?", model="gpt-5.2", stream=False)
                )
        assert gateway.key is not None
        found: dict[str, Any] = run(gateway.url, gateway.key)
    assert set(found.pop("report")) >= {"goal", "days", "recommended", "tasks", "models", "policy_version"}
    assert found == {
        "goal": "cost",
        "evaluate": "cost",
        "snapshots": 2,
        "alerts": 0,
        "replay": 20 if client == "python" else 25,
        "suite": "renamed",
        "suites": 1,
        "run": ["passed", 2],
        "runs": 1,
        "csv": 3,
        "schedule": False,
        "schedules": 1,
        "scheduled_run": True,
    }
