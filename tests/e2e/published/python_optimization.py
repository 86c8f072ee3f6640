"""Every optimization, suite and schedule method of the published Python client, once; one line of JSON says what came
back. Runs as python_smoke.py does. A call that fails ends it with a traceback: all must work."""

from __future__ import annotations

import json
import sys
from typing import Any

from llmwise import LLMWise


def main() -> None:
    found: dict[str, Any] = {}
    with LLMWise() as client:
        policy = client.optimization_policy()
        found["goal"] = client.optimization_update_policy({**policy, "goal": "cost"})["goal"]
        found["report"] = sorted(client.optimization_report(goal="cost", days=7, persist_snapshot=True))
        found["evaluate"] = client.optimization_evaluate()["goal"]
        found["snapshots"] = client.optimization_snapshots(goal="cost")["total"]
        found["alerts"] = client.optimization_alerts()["total"]
        found["replay"] = client.optimization_replay(days=7, sample_size=20)["sampled"]
        template = client.optimization_test_templates()["items"][0]
        suite = client.optimization_create_test_suite(
            {"name": "facts", "cases": template["cases"], "models": ["gpt-5.2"]}
        )
        found["suite"] = client.optimization_update_test_suite(suite["id"], {"name": "renamed"})["name"]
        found["suites"] = client.optimization_test_suites()["total"]
        run = client.optimization_run_test_suite(suite["id"])
        found["run"] = [run["status"], len(run["results"])]
        found["runs"] = client.optimization_test_runs()["total"]
        found["csv"] = len(client.optimization_test_run_csv(run["id"]).splitlines())
        schedule = client.optimization_create_regression_schedule({"suite_id": suite["id"], "cron": "0 6 * * *"})
        found["schedule"] = client.optimization_update_regression_schedule(schedule["id"], {"enabled": False})[
            "enabled"
        ]
        found["schedules"] = client.optimization_regression_schedules()["total"]
        found["scheduled_run"] = (
            client.optimization_run_regression_schedule(schedule["id"])["schedule_id"] == schedule["id"]
        )
    json.dump(found, sys.stdout)
    print()


if __name__ == "__main__":
    main()
