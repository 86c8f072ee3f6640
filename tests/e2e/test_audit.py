"""`llmwise audit` and `/api/v1/audit`: the commands as people run them, and a real gateway."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway import Gateway, asked, llmwise, running, scripted, settings

DATA = Path(__file__).parents[1] / "data" / "audit"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "llmwise.toml"
    file.write_text(f'[storage]\nurl = "sqlite:///{tmp_path}/audit.db"\n')
    return file


def audited(config: Path, *options: str) -> dict[str, Any]:
    done = llmwise("audit", "report", "--json", "--config", str(config), *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def imported(config: Path, *files: Path | str, options: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    done = llmwise("audit", "import", *map(str, files), "--json", "--config", str(config), *options)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["files"]
    return found


def test_an_import_and_its_report_whose_totals_are_plain_integers(config: Path) -> None:
    empty = audited(config)
    assert empty["totals"]["requests"] == 0
    assert "llmwise audit import" in empty["advice"]
    (first,) = imported(config, DATA / "openai_usage.json")
    assert (first["new"], first["rejected"], first["known"]) == (3, 1, False)
    totals = audited(config)["totals"]
    assert totals["requests"] == 620
    assert totals["input_tokens"] == 1_340_000
    assert totals["cached_tokens"] == 230_000
    assert totals["output_tokens"] == 62_000
    assert totals["cost_nanousd"] == 3_179_950_000
    assert all(type(value) is int for value in totals.values())
    assert imported(config, DATA / "openai_usage.json")[0]["known"]
    (again,) = imported(config, DATA / "openai_usage.json", options=("--again",))
    assert (again["new"], again["replaced"], again["unchanged"]) == (0, 0, 3)


def test_a_batchs_files_are_paired_in_any_order_and_packed_files_are_read(config: Path, tmp_path: Path) -> None:
    packed = tmp_path / "out.jsonl.gz"
    packed.write_bytes(gzip.compress((DATA / "batch_output.jsonl").read_bytes()))
    results = imported(config, packed, DATA / "batch_input.jsonl")
    assert sum(one["new"] for one in results) == 2
    assert results[-1]["unanswered"] == 1
    assert {task["name"] for task in audited(config)["tasks"]} == {"code", "summarization"}


def test_a_file_that_is_no_export_ends_in_one_line(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "what.txt"
    file.write_text("date,clicks\n1,2\n")
    for name, said in (("what.txt", "what.txt: neither JSON nor a CSV that I know"), ("missing", "No such file")):
        done = llmwise("audit", "import", str(tmp_path / name), "--config", str(config))
        assert done.returncode == 1
        assert said in done.stderr
        assert done.stderr.startswith("llmwise: ")
        assert len(done.stderr.splitlines()) == 1


def test_nothing_is_written_when_one_of_the_files_is_no_export(config: Path, tmp_path: Path) -> None:
    (tmp_path / "what.txt").write_text("date,clicks\n1,2\n")
    files = (str(DATA / "requests.jsonl"), str(tmp_path / "what.txt"))
    done = llmwise("audit", "import", *files, "--config", str(config))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("; nothing was imported\n")
    assert audited(config)["totals"]["requests"] == 0


def test_what_was_done_before_a_file_turned_out_cut_off_is_said(config: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl.gz"
    packed = gzip.compress((DATA / "requests.jsonl").read_bytes() * 5_000)
    cut.write_bytes(packed[: len(packed) // 2])
    done = llmwise("audit", "import", str(DATA / "litellm.json"), str(cut), "--config", str(config))
    assert done.returncode == 1
    assert "litellm.json: LiteLLM spend logs (JSON array or lines): 3 records: 3 new" in done.stdout
    assert "what was read of it before is imported" in done.stderr


def test_unanswered_questions_are_said_once_and_twins_and_entries_are_named(config: Path, tmp_path: Path) -> None:
    log, spend = tmp_path / "log.jsonl", tmp_path / "spend.json"
    line = '{"created_at": "2026-11-03T09:00:00Z", "model": "gpt-4o", "input_tokens": 1, "output_tokens": 1}\n'
    log.write_text(line * 4)
    spend.write_text((DATA / "litellm.json").read_text().replace('"startTime": "20', '"startTime": "x', 1))
    done = llmwise("audit", "import", str(DATA / "batch_input.jsonl"), str(log), str(spend), "--config", str(config))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("questions of a batch without an answer") == 1
    assert "3 without an id say just what another one says" in done.stdout
    assert "entry 1: startTime" in done.stdout


def test_what_was_imported_can_be_removed_and_imported_again(config: Path) -> None:
    imported(config, DATA / "requests.jsonl")
    done = llmwise("audit", "remove", "requests", "--config", str(config))
    assert (done.returncode, done.stdout) == (0, "3 rows of requests removed\n")
    assert audited(config)["totals"]["requests"] == 0
    assert imported(config, DATA / "requests.jsonl")[0]["new"] == 3
    wrong = llmwise("audit", "remove", "nobody", "--config", str(config))
    assert wrong.returncode == 1
    assert "there are openai, anthropic, litellm, openai-batch, requests" in wrong.stderr


def test_the_report_in_a_terminal_and_as_a_page(config: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text((DATA / "requests.jsonl").read_text() + "{broken\n")
    done = llmwise("audit", "import", str(log), str(DATA / "anthropic_usage.json"), "--config", str(config))
    assert "3 new, 0 replaced, 0 unchanged" in done.stdout
    assert "2 have no cost in the export: priced from the catalog" in done.stdout
    assert "line 4: " in done.stdout
    shown = llmwise("audit", "report", "--config", str(config))
    assert shown.returncode == 0, shown.stderr
    for text in (
        "claude-sonnet-4.5",
        "translation_multilingual",
        "What routing would save",
        "What the input can't tell",
    ):
        assert text in shown.stdout
    page = tmp_path / "report.html"
    one = audited(config, "--source", "anthropic", "--html", str(page))
    assert one["totals"]["output_tokens"] == 1_500
    assert one["what_if"]["basis"] == "tokens"
    assert page.read_text().startswith("<!doctype html>")


def test_a_large_file_streams_and_its_totals_are_exact(config: Path, tmp_path: Path) -> None:
    log = tmp_path / "large.jsonl"
    rows = 30_000
    with log.open("w") as file:
        for n in range(rows):
            at = 1_793_696_400 + n
            file.write(
                f'{{"id":"r{n}","created_at":{at},"model":"gpt-4o","input_tokens":{n % 97},"output_tokens":3}}\n'
            )
            if n % 10_000 == 9_999:
                file.write("{broken\n")
    (result,) = imported(config, log)
    assert (result["new"], result["rejected"]) == (rows, 3)
    assert [one["line"] for one in result["rejections"]] == [10_001, 20_002, 30_003]
    totals = audited(config)["totals"]
    assert totals["input_tokens"] == sum(n % 97 for n in range(rows))
    assert totals["cost_nanousd"] == sum(n % 97 * 2_500 + 30_000 for n in range(rows))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with scripted() as server, running(tmp_path_factory.mktemp("audit"), settings(server.url)) as gateway:
        yield gateway


def test_the_gateways_own_traffic_is_in_the_report_and_agrees_with_the_usage(gateway: Gateway) -> None:
    with gateway.client() as client:
        for _ in range(3):
            answer = client.post(
                "/api/v1/chat", json=asked("Translate 'bread' into Danish.", model="gpt-5.2", stream=False)
            )
            assert answer.status_code == 200, answer.text
        found = client.get("/api/v1/audit/report", params={"source": "gateway"}).json()
        usage = client.get("/api/v1/usage/summary").json()
    assert found["totals"]["requests"] == 3
    assert found["totals"]["input_tokens"] == usage["total_prompt_tokens"]
    assert found["totals"]["output_tokens"] == usage["total_completion_tokens"]
    assert found["totals"]["cost_nanousd"] == round(usage["total_cost"] * 1e9)
    assert found["models"][0]["name"] == "gpt-5.2"
    assert found["speed"][0]["latency"]["n"] == 3


def test_an_administrator_uploads_an_export_as_it_is(gateway: Gateway) -> None:
    data = gzip.compress((DATA / "litellm.json").read_bytes())
    with gateway.client() as client:
        first = client.post("/api/v1/audit/import", params={"name": "spend.json.gz"}, content=data)
        assert first.status_code == 200, first.text
        assert (first.json()["format"], first.json()["new"]) == ("litellm", 3)
        assert client.post("/api/v1/audit/import", content=data).json()["known"] is True
        again = client.post("/api/v1/audit/import", params={"again": "true"}, content=data).json()
        assert again["unchanged"] == 3
        found = client.get("/api/v1/audit/report", params={"source": "litellm"}).json()
        assert found["totals"]["requests"] == 3
        twice = client.post("/api/v1/audit/import", content=gzip.compress(data))
        assert (twice.status_code, twice.json()["code"]) == (400, "unreadable_export")
        refused = client.post("/api/v1/audit/import", content=b"hello")
        assert (refused.status_code, refused.json()["code"]) == (400, "unreadable_export")
        assert "understood are" in refused.json()["error"]


def test_the_audit_is_for_administrators(gateway: Gateway) -> None:
    with gateway.client() as client:
        key = client.post("/api/v1/keys/generate", json={"name": "app"}).json()["key"]
    with gateway.client(key) as client:
        assert client.get("/api/v1/audit/report").status_code == 403
        assert client.post("/api/v1/audit/import", content=b"x").status_code == 403
