"""Test suites, their runs and schedules, through the API."""

import csv
import io
import time
from typing import Any

import httpx
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import play, running, scripted, settings, wait_for

O = "/api/v1/optimization"  # noqa: E741  # the prefix of every path below

CASES = [
    {"name": "greets", "prompt": "Say hello.", "checks": [{"type": "contains", "value": "HELLO"}]},
    {"name": "digits", "prompt": "A number?", "checks": [{"type": "regex", "value": r"\d{3}"}]},
]


def suite(client: httpx.Client, **fields: Any) -> dict[str, Any]:
    body = {"name": "smoke", "models": ["gpt-5.2", "deepseek-v3"], "cases": CASES, **fields}
    response = client.post(f"{O}/test-suites", json=body)
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def test_a_run_asks_every_model_every_case_and_records_each(client: httpx.Client, mock: ScriptedServer) -> None:
    play(
        mock,
        {"model": "deepseek-flash", "text": "hello"},
        defaults={"text": "hello 123"},
    )
    made = suite(client)
    run = client.post(f"{O}/test-suites/{made['id']}/run", json={}).json()
    rates = {model["model"]: model["pass_rate"] for model in run["models"]}
    assert rates == {"gpt-5.2": 1.0, "deepseek-v3": 0.5}
    assert run["status"] == "failed"
    assert run["cost"] > 0
    failed = [result for result in run["results"] if not result["passed"]]
    assert [(r["case"], r["model"], r["outcomes"][0]["detail"]) for r in failed] == [
        ("digits", "deepseek-v3", "does not match '\\\\d{3}'")
    ]
    record = client.get(f"/api/v1/history/{failed[0]['request_id']}").json()
    assert (record["mode"], record["conversation_id"]) == ("chat", f"llmwise-suite-{run['id']}")
    assert client.get(f"{O}/test-runs").json()["items"][0]["id"] == run["id"]


def test_the_csv_has_a_line_a_result(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, defaults={"text": "hello 123"})
    made = suite(client, cases=[{**CASES[0], "name": "=SUM(A1)"}, CASES[1]])
    run = client.post(f"{O}/test-suites/{made['id']}/run").json()
    response = client.get(f"{O}/test-runs/{run['id']}/csv")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert len(rows) == 4
    assert {row["passed"] for row in rows} == {"true"}
    assert rows[0]["case"] == "'=SUM(A1)"


def test_a_model_that_fails_fails_its_cases_and_no_others(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, {"model": "deepseek-flash", "fault": "status", "status": 400}, defaults={"text": "hello 123"})
    run = client.post(f"{O}/test-suites/{suite(client)['id']}/run").json()
    errors = {model["model"]: model["errors"] for model in run["models"]}
    assert errors == {"gpt-5.2": 0, "deepseek-v3": 2}
    assert {r["error"].partition(":")[0] for r in run["results"] if r["error"]} == {"invalid_request"}


def test_a_judge_grades(client: httpx.Client, mock: ScriptedServer) -> None:
    cases = [{"prompt": "Write.", "checks": [{"type": "judge", "value": "Polite.", "min_score": 6}]}]
    made = suite(client, cases=cases, models=["deepseek-v3"], judge="gpt-5.2")
    for said, passed, detail in (
        ('{"score": 8}', True, "8 of 10, 6 needed"),
        ('```json\n{"score": 5}\n```', False, "5 of 10, 6 needed"),
        ("fine!", False, "the judge's answer is no score"),
    ):
        play(mock, {"model": "gpt-5.2", "text": said}, defaults={"text": "Dear Sir"})
        (result,) = client.post(f"{O}/test-suites/{made['id']}/run").json()["results"]
        assert (result["passed"], result["outcomes"][0]["detail"]) == (passed, detail)


def test_a_run_stops_at_its_limit(client: httpx.Client, mock: ScriptedServer) -> None:
    play(mock, defaults={"text": "hello 123"})
    made = suite(client, max_usd=0.000001)
    run = client.post(f"{O}/test-suites/{made['id']}/run").json()
    assert run["status"] == "stopped"
    assert len(run["results"]) == 1
    assert run["note"].startswith("ended early")
    assert sum(model["skipped"] for model in run["models"]) == 3


def test_a_template_fills_a_suite_and_a_change_makes_a_version(client: httpx.Client, mock: ScriptedServer) -> None:
    templates = client.get(f"{O}/test-templates").json()["items"]
    for template in templates:
        made = client.post(f"{O}/test-suites", json={"template": template["id"], "judge": "gpt-5.2"}).json()
        assert (made["name"], made["models"], made["version"]) == (template["name"], ["auto"], 1)
    changed = client.put(f"{O}/test-suites/{made['id']}", json={"threshold": 0.5}).json()
    assert (changed["threshold"], changed["version"], changed["name"]) == (0.5, 2, made["name"])


def test_a_suite_belongs_to_its_account(client: httpx.Client) -> None:
    client.post("/api/v1/accounts", json={"id": "others"})
    raw = client.post("/api/v1/keys/generate", json={"name": "other", "account_id": "others"}).json()["key"]
    made = suite(client)
    with httpx.Client(base_url=client.base_url, headers={"authorization": f"Bearer {raw}"}) as other:
        assert other.get(f"{O}/test-suites").json() == {"total": 0, "items": []}
        assert other.post(f"{O}/test-suites/{made['id']}/run").status_code == 404
        assert other.put(f"{O}/test-suites/{made['id']}", json={}).status_code == 404
        body = {"suite_id": made["id"]}
        assert other.post(f"{O}/regression-schedules", json=body).status_code == 404


def test_a_schedule_runs_when_it_is_due_and_a_restart_keeps_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A schedule of every minute, made due by turning back the time that its row says: the next round runs it."""
    import sqlite3

    folder = tmp_path_factory.mktemp("schedules")
    with scripted({"defaults": {"text": "hello 123"}}) as mock:
        tree = settings(mock.url)
        with running(folder, tree) as first, first.client() as client:
            key = first.key
            made = suite(client, models=["gpt-5.2"])
            schedule = client.post(
                f"{O}/regression-schedules",
                json={"suite_id": made["id"], "cron": "0 6 * * *", "timezone": "Europe/Vienna"},
            ).json()
            assert schedule["next_run_at_ms"] > time.time() * 1000
            now = client.post(f"{O}/regression-schedules/{schedule['id']}/run", json={}).json()
            assert (now["status"], now["schedule_id"]) == ("passed", schedule["id"])
        with sqlite3.connect(folder / "llmwise.db") as database:
            changed = database.execute(
                "UPDATE documents SET body = json_set(body, '$.next_run_at_ms', 1) WHERE id = ?", (schedule["id"],)
            )
            assert changed.rowcount == 1
            database.execute("DELETE FROM leases")
        database.close()
        with running(folder, tree) as second, second.client(key) as client:

            def ran() -> bool:
                found: list[dict[str, Any]] = client.get(f"{O}/test-runs").json()["items"]
                return len(found) == 2

            wait_for(ran, 15, lambda: client.get(f"{O}/regression-schedules").text)
            (row,) = client.get(f"{O}/regression-schedules").json()["items"]
            assert (row["last_status"], row["last_error"]) == ("passed", None)
            assert row["next_run_at_ms"] > time.time() * 1000
            off = client.put(f"{O}/regression-schedules/{schedule['id']}", json={"enabled": False}).json()
            assert off["next_run_at_ms"] is None


def test_only_its_maker_and_administrators_change_what_runs_in_its_name(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """What a key may not ask itself it must not have asked by a schedule of somebody with more rights."""
    import sqlite3

    folder = tmp_path_factory.mktemp("rights")
    with (
        scripted({"defaults": {"text": "hello 123"}}) as mock,
        running(folder, settings(mock.url)) as gateway,
        gateway.client() as admin,
    ):
        body = {"name": "bound", "models": ["deepseek-v3"], "modes": ["chat"]}
        bound = admin.post("/api/v1/keys/generate", json=body).json()["key"]
        its = suite(admin, models=["deepseek-v3"])
        path = f"{O}/test-suites/{its['id']}"
        planned = admin.post(f"{O}/regression-schedules", json={"suite_id": its["id"]}).json()
        schedule = f"{O}/regression-schedules/{planned['id']}"
        body = {"name": "no chat", "modes": ["compare"]}
        with gateway.client(admin.post("/api/v1/keys/generate", json=body).json()["key"]) as other:
            assert other.post(f"{path}/run").json()["code"] == "mode_not_allowed"
        with gateway.client(bound) as other:
            assert other.get(f"{O}/test-suites").json()["total"] == 1, "an account reads its own"
            for method, where in (("PUT", path), ("PUT", schedule), ("POST", f"{schedule}/run")):
                refused = other.request(method, where, json={})
                assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), where
            run = other.post(f"{path}/run", json={"models": ["gpt-5.2"]}).json()
            assert run["models"][0]["errors"] == len(CASES), "by its own rights"
            mine = suite(other, models=["deepseek-v3"])
            assert other.put(f"{O}/test-suites/{mine['id']}", json={"threshold": 0.5}).status_code == 200
            own = other.post(f"{O}/regression-schedules", json={"suite_id": mine["id"]}).json()
            # An administrator takes it over, and then it is changed behind the administrator's back.
            body = {"suite_id": mine["id"]}
            refused = admin.post(f"{O}/regression-schedules", json=body)
            assert (refused.status_code, refused.json()["code"]) == (409, "suite_changed")
            assert admin.put(f"{O}/test-suites/{mine['id']}", json={}).status_code == 200
            taken = admin.post(f"{O}/regression-schedules", json=body).json()
            assert other.post(f"{O}/regression-schedules/{own['id']}/run", json={}).json()["status"] == "passed"
            other.put(f"{O}/test-suites/{mine['id']}", json={"models": ["gpt-5.2"]})
        with sqlite3.connect(folder / "llmwise.db") as database:
            ids = (own["id"], taken["id"])
            database.execute(
                "UPDATE documents SET body = json_set(body, '$.next_run_at_ms', 1) WHERE id IN (?, ?)", ids
            )
        database.close()

        def rows() -> dict[str, Any]:
            found = admin.get(f"{O}/regression-schedules").json()["items"]
            return {row["id"]: row for row in found}

        wait_for(lambda: all(rows()[id]["last_run_at_ms"] for id in ids), 30, lambda: str(rows()))
        assert rows()[taken["id"]]["last_error"].startswith("suite_changed")
        wait_for(lambda: rows()[own["id"]]["last_status"] == "failed", 30, lambda: str(rows()))
        runs = admin.get(f"{O}/test-runs").json()["items"]
        assert next(run for run in runs if run["schedule_id"] == own["id"])["models"][0]["errors"] == len(CASES)


def test_a_check_by_a_judge_needs_one(client: httpx.Client) -> None:
    cases = [{"prompt": "Write.", "checks": [{"type": "judge", "value": "Polite."}]}]
    refused = client.post(f"{O}/test-suites", json={"name": "x", "cases": cases})
    assert (refused.status_code, refused.json()["param"]) == (422, "cases[0].checks[0]")
    made = suite(client, cases=cases, judge="gpt-5.2")
    assert client.put(f"{O}/test-suites/{made['id']}", json={"judge": None}).status_code == 422
    own = [{"prompt": "Write.", "checks": [{"type": "judge", "value": "Polite.", "judge": "gpt-5.2"}]}]
    assert client.put(f"{O}/test-suites/{made['id']}", json={"judge": None, "cases": own}).status_code == 200


CASE = CASES[0]
NO_CHECK = {"prompt": "x", "checks": []}


def checked(**check: Any) -> dict[str, Any]:
    return {"name": "x", "cases": [{"prompt": "x", "checks": [check]}]}


CHECK = "cases[0].checks[0]"
BAD: list[tuple[str, str, dict[str, Any], int, str, str | None]] = [
    ("POST", "test-suites", {"cases": [CASE]}, 422, "validation_error", "name"),
    ("POST", "test-suites", {"name": "x"}, 422, "validation_error", "cases"),
    ("POST", "test-suites", {"name": "x", "cases": []}, 422, "validation_error", "cases"),
    ("POST", "test-suites", {"template": "none"}, 422, "validation_error", "template"),
    ("POST", "test-suites", {"name": "x", "cases": [NO_CHECK]}, 422, "validation_error", "cases[0].checks"),
    ("POST", "test-suites", {"name": "x", "cases": [CASE], "models": ["nobody"]}, 404, "model_not_found", None),
    ("POST", "test-suites", {"name": "x", "cases": [CASE], "judge": "nobody"}, 404, "model_not_found", None),
    ("POST", "test-suites", {"name": "x", "cases": [CASE], "threshold": 2}, 422, "validation_error", "threshold"),
    ("POST", "test-suites", {"name": "x", "cases": [CASE], "max_usd": 0}, 422, "validation_error", "max_usd"),
    ("POST", "test-suites", checked(type="smells"), 422, "validation_error", f"{CHECK}.type"),
    ("POST", "test-suites", checked(type="contains"), 422, "validation_error", f"{CHECK}.value"),
    ("POST", "test-suites", checked(type="regex", value="("), 422, "invalid_pattern", f"{CHECK}.value"),
    ("POST", "test-suites", checked(type="regex", value="(?=a)b"), 422, "invalid_pattern", f"{CHECK}.value"),
    ("POST", "test-suites", checked(type="json_schema"), 422, "validation_error", f"{CHECK}.schema"),
    (
        "POST", "test-suites", checked(type="json_schema", schema={"type": "x"}),
        422, "invalid_schema", f"{CHECK}.schema",
    ),
    (
        "POST", "test-suites", checked(type="json_schema", schema={"$ref": "http://127.0.0.1:1/x"}),
        422, "invalid_schema", f"{CHECK}.schema",
    ),
    ("PUT", "test-suites/none", {"name": "x"}, 404, "not_found", None),
    ("POST", "test-suites/none/run", {}, 404, "not_found", None),
    ("GET", "test-runs/none/csv", {}, 404, "not_found", None),
    ("GET", "test-runs?limit=0", {}, 422, "validation_error", "limit"),
    ("POST", "regression-schedules", {}, 422, "validation_error", "suite_id"),
    ("POST", "regression-schedules", {"suite_id": "none"}, 404, "not_found", None),
    ("PUT", "regression-schedules/none", {}, 404, "not_found", None),
    ("POST", "regression-schedules/none/run", {}, 404, "not_found", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "param"), BAD, ids=lambda value: str(value)[:60])
def test_what_is_wrong_is_said_with_a_code_and_the_field(
    client: httpx.Client, method: str, path: str, body: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    response = client.request(method, f"{O}/{path}", json=body if method != "GET" else None)
    told = response.json()
    assert (response.status_code, told["code"], told.get("param")) == (status, code, param), told


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"cron": "every day"}, "invalid_cron", "cron"),
        ({"cron": "0 0 31 2 *"}, "invalid_cron", "cron"),
        ({"cron": "* * *"}, "invalid_cron", "cron"),
        ({"cron": "@daily"}, "invalid_cron", "cron"),
        ({"cron": "* * * * * *"}, "invalid_cron", "cron"),
        ({"timezone": "Mars/Olympus"}, "invalid_timezone", "timezone"),
        ({"timezone": "../etc/passwd"}, "invalid_timezone", "timezone"),
    ],
)
def test_a_time_that_is_none_is_refused(client: httpx.Client, fields: dict[str, Any], code: str, param: str) -> None:
    body = {"suite_id": suite(client)["id"], **fields}
    response = client.post(f"{O}/regression-schedules", json=body)
    told = response.json()
    assert (response.status_code, told["code"], told["param"]) == (422, code, param), told
