"""The optimizer through its API: reports, versions, trials, replay, feedback, past decisions."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, asked, play, running, scripted, settings

O = "/api/v1/optimization"  # noqa: E741  # the prefix of every path below


def ask(client: httpx.Client, question: str = "What is up?", **fields: Any) -> dict[str, Any]:
    response = client.post("/api/v1/chat", json=asked(question, stream=False, **fields))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.fixture(scope="module")
def taught(gateway: Gateway, providers: ScriptedServer) -> str:
    """A version learned from 120 questions to two models, the dearer of which is today's. What they are asked is code
    for sure, so that the class has one name."""
    play(providers, defaults={"text": "def add(a, b): return a + b"})
    code = "Write a Python function that adds two numbers and returns the result.\n```python\ndef add(a, b):\n```"
    with gateway.client() as client:
        for _ in range(70):
            ask(client, code, model="claude-sonnet-4.5")
        for _ in range(60):
            ask(client, code, model="deepseek-v3")
        # What sixty answers can show of a rate is within some ten points.
        client.put(f"{O}/policy", json={"guard_points": 0.15})
        made = client.post(f"{O}/evaluate", json={"goal": "cost"}).json()
    assert made["enough"], made["notes"]
    version: str = made["policy_version"]
    return version


def test_the_report_recommends_the_cheaper_model_where_it_answers_as_well(client: httpx.Client, taught: str) -> None:
    made = client.get(f"{O}/report", params={"goal": "cost", "days": 1, "persist_snapshot": "true"}).json()
    (task,) = [task for task in made["tasks"] if task["task_type"] == "code"]
    assert (task["today"], task["primary"]) == ("claude-sonnet-4.5", "deepseek-v3")
    assert made["recommended"]["primary_model"] == "deepseek-v3"
    assert {reason["code"] for reason in task["reasons"]} >= {"recommended", "guard_on_success"}
    assert (
        client.get(f"{O}/snapshots", params={"goal": "cost"}).json()["items"][0]["snapshot_id"] == made["snapshot_id"]
    )
    assert client.get(f"{O}/snapshots", params={"goal": "latency"}).json()["items"] == []


def test_a_model_with_too_few_calls_is_nowhere_in_the_report(client: httpx.Client, taught: str) -> None:
    some = client.get(f"{O}/report", params={"goal": "cost", "min_calls_per_model": 65}).json()
    assert [row["model"] for row in some["models"]] == ["claude-sonnet-4.5"]
    assert {task["primary"] for task in some["tasks"]} == {"claude-sonnet-4.5"}
    none = client.get(f"{O}/report", params={"goal": "cost", "min_calls_per_model": 1_000_000}).json()
    assert (none["models"], none["tasks"], none["recommended"], none["enough"]) == ([], [], None, False)


def test_an_adopted_policy_decides_and_is_returned_from(client: httpx.Client, taught: str) -> None:
    code = "Write a Python function that adds two numbers and returns the result.\n```python\ndef add(a, b):\n```"
    before = ask(client, code, model="auto", optimization_goal="cost")
    assert before["auto_strategy"] == "heuristic_routing"
    assert client.post(f"{O}/policies/{taught}/adopt").json()["adopted"] == {"cost": taught}
    again = client.post(f"{O}/policies/{taught}/adopt")
    assert (again.status_code, again.json()["code"]) == (409, "already_adopted")
    after = ask(client, code, model="auto", optimization_goal="cost")
    assert (after["auto_strategy"], after["resolved_model"]) == ("historical_optimization", "deepseek-v3")
    told = client.get(f"/api/v1/route/explain/{after['id']}").json()
    assert told["decision"]["policy_version"] == taught
    assert told["decision"]["propensity"] == 1.0
    assert told["planned"][0] == "deepseek-v3"
    assert {candidate["model"] for candidate in told["decision"]["candidates"]} >= {"gpt-5.2", "deepseek-v3"}
    assert client.post(f"{O}/return").json()["adopted"] == {}
    assert ask(client, code, model="auto", optimization_goal="cost")["auto_strategy"] == "heuristic_routing"
    nothing = client.post(f"{O}/return")
    assert (nothing.status_code, nothing.json()["code"]) == (409, "nothing_adopted")
    listed = client.get(f"{O}/policies").json()
    assert [event["what"] for event in listed["events"]][:2] == ["given_back", "adopted"]


def test_a_shadow_decides_nothing_and_says_what_it_would_have_done(client: httpx.Client, taught: str) -> None:
    code = "Write a Python function that adds two numbers and returns the result.\n```python\ndef add(a, b):\n```"
    assert client.post(f"{O}/policies/{taught}/trial", json={"stage": "shadow"}).status_code == 200
    answer = ask(client, code, model="auto", optimization_goal="cost")
    assert answer["auto_strategy"] == "heuristic_routing"
    told = client.get(f"/api/v1/route/explain/{answer['id']}").json()["decision"]["trial"]
    assert told == {"version": taught, "arm": "shadow", "would": "deepseek-v3"}
    so_far = client.get(f"{O}/trial").json()
    assert so_far["result"]["requests"] >= 1
    assert so_far["result"]["verdict"] == "running"
    assert client.request("DELETE", f"{O}/trial").json()["trial"] is None
    assert client.get(f"{O}/trial").json()["code"] == "no_trial"


def test_a_canary_decides_for_its_share_of_conversations(client: httpx.Client, taught: str) -> None:
    code = "Write a Python function that adds two numbers and returns the result.\n```python\ndef add(a, b):\n```"
    client.post(f"{O}/policies/{taught}/trial", json={"stage": "canary", "share": 0.5})
    arms = []
    for number in range(12):
        answer = ask(client, code, model="auto", optimization_goal="cost", conversation_id=None)
        told = client.get(f"/api/v1/route/explain/{answer['id']}").json()["decision"]
        arms.append((told["trial"]["arm"], answer["auto_strategy"]))
        assert number < 12
    assert set(arms) == {("canary", "historical_optimization"), ("control", "heuristic_routing")}
    assert client.post(f"{O}/policies/{taught}/adopt", json={"guard_days": 7}).json()["trial"] is None
    client.post(f"{O}/return")
    events = [event["what"] for event in client.get(f"{O}/policies").json()["events"]]
    assert (events[0], {*events[1:3]}, events[3]) == ("given_back", {"adopted", "ended"}, "canary")


def test_the_policys_settings_hold_and_can_be_sent_back(client: httpx.Client) -> None:
    found = client.get(f"{O}/policy").json()
    assert (found["goal"], found["max_fallbacks"], found["enabled"]) == ("balanced", 2, True)
    changed = client.put(
        f"{O}/policy", json={**found, "goal": "cost", "max_fallbacks": 0, "models": ["gpt-5.2"]}
    ).json()
    assert (changed["goal"], changed["max_fallbacks"], changed["models"]) == ("cost", 0, ["gpt-5.2"])
    answer = ask(client, model="auto")
    assert (answer["resolved_model"], answer["optimization_goal"], answer["trace"]) == ("gpt-5.2", "cost", None)
    back = client.put(f"{O}/policy", json={"goal": None, "max_fallbacks": None, "models": None}).json()
    assert back["configured"] == ["goal", "max_fallbacks", "models"]


def test_a_replay_says_where_past_requests_would_go(client: httpx.Client, taught: str) -> None:
    for response in (
        client.post(f"{O}/replay", json={"days": 1, "sample_size": 20}),
        client.post(f"{O}/replay", params={"days": 1, "sample_size": 20}),
        client.post(f"{O}/replay", json={}),
    ):
        made = response.json()
        assert response.status_code == 200, made
        assert made["replayed"] == min(made["sample_size"], made["sampled"]) >= 20
        assert len(made["items"]) == made["replayed"]
        assert made["cost"] > 0


def test_feedback_is_kept_and_the_last_word_counts(client: httpx.Client) -> None:
    id = ask(client, model="gpt-5.2")["id"]
    assert client.post("/api/v1/feedback", json={"request_id": id, "score": 0.25}).json()["value"] == 0.25
    client.post("/api/v1/feedback", json={"request_id": id, "thumbs": "up", "comment": "good"})
    told = client.get(f"/api/v1/route/explain/{id}").json()
    assert [(signal["name"], signal["value"]) for signal in told["signals"]] == [("score", 0.25), ("thumbs", 1.0)]
    assert told["quality"] == 1.0
    client.post("/api/v1/feedback", json={"request_id": id, "regenerate": True})
    assert client.get(f"/api/v1/route/explain/{id}").json()["quality"] == 0.0


FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "required": ["a"]}}}


@pytest.mark.parametrize(("text", "passed"), [('{"a": 1}', True), ('{"b": 1}', False), ("no json", False)])
def test_an_answer_is_checked_against_the_form_it_was_asked_for(
    client: httpx.Client, mock: ScriptedServer, text: str, passed: bool
) -> None:
    play(mock, defaults={"text": text})
    id = ask(client, model="gpt-5.2", response_format=FORM)["id"]
    told = client.get(f"/api/v1/route/explain/{id}").json()
    assert told["checks"]["json"] is passed
    assert told["quality"] == float(passed)


BAD: list[tuple[str, str, dict[str, Any] | None, int, str, str | None]] = [
    ("GET", f"{O}/report?days=0", None, 422, "validation_error", "days"),
    ("GET", f"{O}/report?days=91", None, 422, "validation_error", "days"),
    ("GET", f"{O}/report?goal=fame", None, 422, "validation_error", "goal"),
    ("GET", f"{O}/report?min_calls_per_model=0", None, 422, "validation_error", "min_calls_per_model"),
    ("GET", f"{O}/report?colour=red", None, 422, "validation_error", "colour"),
    ("GET", f"{O}/snapshots?limit=0", None, 422, "validation_error", "limit"),
    ("GET", f"{O}/alerts?limit=x", None, 422, "validation_error", "limit"),
    ("PUT", f"{O}/policy", {"goal": "fame"}, 422, "validation_error", "goal"),
    ("PUT", f"{O}/policy", {"max_fallbacks": 9}, 422, "validation_error", "max_fallbacks"),
    ("PUT", f"{O}/policy", {"explore": 0.2}, 422, "validation_error", "explore"),
    ("PUT", f"{O}/policy", {"models": ["nobody"]}, 404, "model_not_found", None),
    ("PUT", f"{O}/policy", {"colour": "red"}, 422, "validation_error", "colour"),
    ("POST", f"{O}/evaluate", {"days": 0}, 422, "validation_error", "days"),
    ("POST", f"{O}/policies/x/adopt", {"guard_days": 31}, 422, "validation_error", "guard_days"),
    ("POST", f"{O}/replay", {"policy": "cost-0"}, 404, "policy_not_found", None),
    ("POST", f"{O}/replay", {"days": 91}, 422, "validation_error", "days"),
    ("POST", f"{O}/replay", {"sample_size": 19}, 422, "validation_error", "sample_size"),
    ("POST", f"{O}/replay?sample_size=301", None, 422, "validation_error", "sample_size"),
    ("POST", f"{O}/policies/none/adopt", None, 404, "policy_not_found", None),
    ("POST", f"{O}/policies/none/trial", {"stage": "full"}, 422, "validation_error", "stage"),
    ("POST", f"{O}/policies/none/trial", {"share": 0.9}, 422, "validation_error", "share"),
    ("DELETE", f"{O}/trial", None, 404, "no_trial", None),
    ("POST", "/api/v1/feedback", {"request_id": "req_none", "score": 1}, 404, "not_found", None),
    ("POST", "/api/v1/feedback", {"request_id": "req_none", "score": 2}, 422, "validation_error", "score"),
    ("POST", "/api/v1/feedback", {"request_id": "req_none"}, 422, "validation_error", "score"),
    ("POST", "/api/v1/feedback", {"request_id": "r", "comment": "a\0b"}, 422, "validation_error", "comment"),
    ("POST", f"{O}/rerun", {"judge": "a\0b", "max_usd": 1}, 422, "validation_error", "judge"),
    ("POST", f"{O}/test-suites", {"name": "a\0b"}, 422, "validation_error", "name"),
    ("POST", "/api/v1/feedback", {"request_id": "r", "score": 1, "thumbs": "up"}, 422, "validation_error", "thumbs"),
    ("POST", "/api/v1/feedback", {"request_id": "r", "regenerate": False}, 422, "validation_error", "regenerate"),
    ("GET", "/api/v1/route/explain/req_none", None, 404, "not_found", None),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "param"), BAD, ids=lambda value: str(value)[:60])
def test_what_is_wrong_is_said_with_a_code_and_the_field(
    client: httpx.Client, method: str, path: str, body: dict[str, Any] | None, status: int, code: str, param: str | None
) -> None:
    response = client.request(method, path, json=body)
    told = response.json()
    assert (response.status_code, told["code"], told.get("param")) == (status, code, param), told


@pytest.fixture(scope="module")
def plain(gateway: Gateway) -> Iterator[httpx.Client]:
    """A key that is no administrator's."""
    with gateway.client() as client:
        key = client.post("/api/v1/keys/generate", json={"name": "plain"}).json()["key"]
    with gateway.client(key) as client:
        yield client


def test_a_plain_key_reads_its_own_and_changes_nothing(client: httpx.Client, plain: httpx.Client, taught: str) -> None:
    assert plain.get(f"{O}/report").json()["requests"] == 0
    told = plain.get(f"{O}/policies").json()
    assert (told["items"][0]["version"], told["items"][0]["tasks"]) == (taught, {"code": "deepseek-v3"})
    assert told["events"] == [], "who changed what and why is an administrator's"
    for method, path in (
        ("GET", f"{O}/policies/{taught}"),
        ("GET", f"{O}/trial"),
        ("GET", f"{O}/alerts"),
        ("PUT", f"{O}/policy"),
        ("POST", f"{O}/evaluate"),
        ("POST", f"{O}/policies/{taught}/adopt"),
        ("POST", f"{O}/return"),
        ("DELETE", f"{O}/trial"),
    ):
        response = plain.request(method, path, json={} if method in ("PUT", "POST") else None)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden"), path
    other = ask(client, model="gpt-5.2")["id"]
    assert plain.get(f"/api/v1/route/explain/{other}").status_code == 404
    assert plain.post("/api/v1/feedback", json={"request_id": other, "score": 1}).status_code == 404


def test_what_is_in_force_outlives_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("restart")
    with scripted() as mock:
        with running(folder, settings(mock.url)) as first:
            key = first.key
            with first.client() as client:
                client.put(f"{O}/policy", json={"goal": "latency", "explore": 0.05})
        with running(folder, settings(mock.url)) as second, second.client(key) as client:
            found = client.get(f"{O}/policy").json()
            assert (found["goal"], found["explore"]) == ("latency", 0.05)
            assert ask(client, model="auto")["optimization_goal"] == "latency"


def test_where_no_text_is_kept_a_decision_quotes_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("kept")
    with scripted() as mock, running(folder, settings(mock.url, storage={"keep_text": False})) as gateway:
        with gateway.client() as client:
            id = ask(client, "Translate this poem into French, please.", model="auto")["id"]
            told = client.get(f"/api/v1/route/explain/{id}").json()
            assert told["decision"]["signals"] == []
            assert told["decision"]["candidates"]
            assert not client.post("/api/v1/feedback", json={"request_id": id, "comment": "bad"}).json()["kept_comment"]
        for word in ("ranslate", "poem", '"bad"'):
            assert all(word.encode() not in file.read_bytes() for file in folder.glob("llmwise.db*") if file.is_file())
