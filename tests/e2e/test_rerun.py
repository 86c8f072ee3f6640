"""Past questions really asked again through a real gateway: whom, for how much, graded by whom, with which policy."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from llmwise.cli.main import app
from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, asked, play, running, scripted, settings

O = "/api/v1/optimization"  # noqa: E741  # the prefix of every path below
QUESTIONS = 60
JUDGE = "gemini-3-flash"
VERDICT = '{"scores": [{"answer": "A", "score": 8}, {"answer": "B", "score": 4}], "overall": ""}'
"""Of a judge who likes what stands first: both orders together say that the answers are as good as each other."""

Rig = tuple[Gateway, ScriptedServer]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A gateway whose team has asked one dear model everything."""
    with scripted() as mock, running(tmp_path_factory.mktemp("rerun"), settings(mock.url)) as gateway:
        play(mock, defaults={"text": "return sum(numbers)"})
        with gateway.client() as client:
            for number in range(QUESTIONS):
                question = f"Write a Python function that returns the sum of {number} numbers and prints it."
                body = asked(question, model="claude-sonnet-4.5", stream=False)
                assert client.post("/api/v1/chat", json=body).status_code == 200
        play(
            mock,
            {"model": "gemini-3-flash-preview", "text": VERDICT},
            {"model": "deepseek-flash", "text": "return total"},
        )
        yield gateway, mock


def rerun(gateway: Gateway, **body: Any) -> dict[str, Any]:
    with gateway.client() as client:
        response = client.post(f"{O}/rerun", json={"judge": JUDGE, "max_usd": 1.0, **body}, timeout=60)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def booked(client: httpx.Client, conversation: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    while page := client.get("/api/v1/history", params={"limit": 100, "offset": len(items)}).json()["items"]:
        items += page
    return [item for item in items if item["conversation_id"] == conversation]


@pytest.fixture(scope="module")
def asked_again(rig: Rig) -> dict[str, Any]:
    return rerun(rig[0], models=["deepseek-v3"], sample_size=200)


def test_every_question_is_asked_graded_in_both_orders_and_booked(rig: Rig, asked_again: dict[str, Any]) -> None:
    assert (asked_again["sampled"], asked_again["asked"], asked_again["changed"]) == (QUESTIONS,) * 3
    assert (asked_again["incomplete"], asked_again["unasked"], asked_again["left_out"]) == (0, 0, {})
    with rig[0].client() as client:
        rows = booked(client, asked_again["conversation_id"])
    models = [row["model"] for row in rows]
    assert (models.count("deepseek-v3"), models.count(JUDGE)) == (QUESTIONS, 2 * QUESTIONS)
    assert asked_again["spent"] == pytest.approx(sum(row["cost"] for row in rows))
    assert 0 < asked_again["spent"] <= 1.0


def test_the_answers_carry_a_policy_that_is_replayed_adopted_and_asked_again(
    rig: Rig, asked_again: dict[str, Any]
) -> None:
    gateway, _ = rig
    proposal = asked_again["proposal"]
    assert proposal["saving"]["value"] > 0.5, "as good, and cheaper by far"
    assert proposal["quality_change"]["value"] == pytest.approx(0)
    with gateway.client() as client:
        told = client.post(f"{O}/replay", json={"policy": proposal["version"]}).json()
        assert told["policy_version"] == proposal["version"]
        assert told["changed"] == told["replayed"] == QUESTIONS, "through the planner, with the policy in it"
        assert {row["auto_strategy"] for row in told["items"]} == {"historical_optimization"}
        assert told["estimate"]["moves"] == {"claude-sonnet-4.5 -> deepseek-v3": QUESTIONS}
        assert told["estimate"]["quality"] is None, "nothing was left to chance"
        before = client.post(f"{O}/replay", json={}).json()
        assert before["policy_version"] is None
        assert client.post(f"{O}/policies/{proposal['version']}/adopt", json={}).status_code == 200
        client.put(f"{O}/policy", json={"goal": "cost"}).raise_for_status()
        saving = client.get("/api/v1/audit/report").json()["what_if"]
        assert (saving["policy"], saving["measured"]) == (proposal["version"], 1.0), "what is in force is audited by"
    told = CliRunner().invoke(app(), ["audit", "report", "--json", "--config", str(gateway.config)])
    assert json.loads(told.output)["what_if"]["policy"] == proposal["version"]
    found = rerun(gateway, sample_size=10)
    assert (found["policy_version"], found["asked"], found["changed"]) == (proposal["version"], 10, 10)
    assert found["cost_nanousd"]["change"]["value"] < 0
    assert found["quality"]["was"]["value"] == pytest.approx(0.6)
    assert found["quality"]["change"]["value"] == pytest.approx(0)
    assert found["overall"]["cost_nanousd"]["value"] == pytest.approx(found["cost_nanousd"]["change"]["value"])
    assert found["proposal"] is None
    broke = rerun(gateway, sample_size=10, max_usd=0.000001)
    assert (broke["asked"], broke["unasked"], broke["quality"], broke["overall"]) == (0, 10, None, None)
    assert "No estimate: of 10" in " ".join(broke["notes"])


def test_the_limit_on_the_cost_is_kept_and_what_had_no_room_is_said(rig: Rig, asked_again: dict[str, Any]) -> None:
    """At most a question may cost some tenths of a cent, its grading with it; what it does cost is far less."""
    limit = 0.6 * asked_again["spent"]
    found = rerun(rig[0], models=["deepseek-v3"], max_usd=limit, sample_size=60, max_tokens=500)
    assert 0 < found["asked"] < QUESTIONS
    assert found["unasked"] == QUESTIONS - found["asked"]
    assert found["spent"] <= limit
    with rig[0].client() as client:
        assert sum(row["cost"] for row in booked(client, found["conversation_id"])) == pytest.approx(found["spent"])
    assert "no room" in " ".join(found["notes"])
    nothing = rerun(rig[0], models=["deepseek-v3"], max_usd=0.000001)
    assert (nothing["asked"], nothing["spent"], nothing["proposal"]) == (0, 0, None)


def test_what_the_gateway_asks_itself_is_not_learned_from(rig: Rig, asked_again: dict[str, Any]) -> None:
    with rig[0].client() as client:
        made = client.get(f"{O}/report", params={"goal": "cost"}).json()
        assert made["requests"] == QUESTIONS
        assert [row["model"] for row in made["models"]] == ["claude-sonnet-4.5"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"judge": JUDGE}, 422, "validation_error", "max_usd"),
        ({"max_usd": 1}, 422, "validation_error", "judge"),
        ({"judge": "nobody", "max_usd": 1}, 404, "model_not_found", None),
        ({"judge": JUDGE, "max_usd": 1, "models": ["nobody"]}, 404, "model_not_found", None),
        ({"judge": JUDGE, "max_usd": 1, "policy": "cost-0"}, 404, "policy_not_found", None),
        ({"judge": JUDGE, "max_usd": 1, "policy": "x", "models": ["gpt-5.2"]}, 422, "validation_error", "policy"),
        ({"judge": JUDGE, "max_usd": 0}, 422, "validation_error", "max_usd"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_spent(
    rig: Rig, body: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    with rig[0].client() as client:
        response = client.post(f"{O}/rerun", json=body)
    said = response.json()
    assert (response.status_code, said["code"], said.get("param")) == (status, code, param), said


def test_a_plain_key_may_not_spend_so(rig: Rig) -> None:
    with rig[0].client() as admin:
        key = admin.post("/api/v1/keys/generate", json={"name": "plain"}).json()["key"]
    with rig[0].client(key) as client:
        assert client.post(f"{O}/rerun", json={"judge": JUDGE, "max_usd": 1}).status_code == 403


def test_the_command_line_asks_again_within_its_limit(rig: Rig, tmp_path: Path) -> None:
    gateway, _ = rig
    environ = {"LLMWISE_BASE_URL": gateway.url, "LLMWISE_API_KEY": gateway.key or "", "COLUMNS": "400"}

    def cli(*arguments: str, fails: bool = False) -> str:
        done = CliRunner().invoke(app(), ["policy", "replay", *arguments], env=environ)
        assert done.exit_code == int(fails), (done.output, done.exception)
        return done.output

    said = cli("--rerun", "55", "--max-cost", "1", "--judge", JUDGE, "--model", "deepseek-v3")
    assert "55 of 55 questions asked again for $0." in said
    assert "stay as they are" not in said
    version = said.partition("proposed: ")[2].split()[0]
    assert f"{QUESTIONS} of {QUESTIONS} requests planned anew" in cli(version)
    again = cli(version, "--rerun", "5", "--max-cost", "1", "--judge", JUDGE)
    assert "USD a request: " in again
    assert "quality: 0.600 -> 0.600" in again
    assert "quality: +0.000 (" in again.partition("of those asked again")[2]
    assert "--max-cost" in cli("--rerun", "5", fails=True)
    assert "belong to --rerun" in cli("--judge", JUDGE, fails=True)
