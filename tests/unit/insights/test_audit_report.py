"""From imported and live rows to a report: idempotent, nothing twice, nothing guessed."""

import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from llmwise.catalog.load import load
from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.insights.audit.files import Input
from llmwise.insights.audit.importer import Reading, in_order
from llmwise.insights.audit.openai_batch import Pairing
from llmwise.insights.audit.prices import Prices
from llmwise.insights.intervals import Estimate, Interval
from llmwise.insights.page import page
from llmwise.insights.policy import Option, Policy, TaskPolicy
from llmwise.insights.report import Report, Sums, report
from llmwise.routing.auto import QUALITY_BAR, AutoSettings
from llmwise.storage import audit, ledger
from llmwise.storage.audit import Added
from llmwise.storage.database import Database

DATA = Path(__file__).parents[2] / "data" / "audit"
NOW_MS = 1_795_300_000_000
NOV_1_MS = 1_793_491_200_000
DAY_MS = 86_400_000
VENDORS = {"openai": "openai", "anthropic": "anthropic", "gemini": "gemini", "deepseek": "deepseek"}
PRICES = Prices(load((), VENDORS, unix_ms=NOW_MS), NOW_MS)


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database.open("sqlite:///:memory:")
    database.migrate()
    yield database
    database.close()


def bring(database: Database, *files: str | bytes, now_ms: int = NOW_MS) -> Added:
    """Import samples by name, or bytes."""
    inputs = [Input("x", io.BytesIO(file if isinstance(file, bytes) else (DATA / file).read_bytes())) for file in files]
    pairing, added = Pairing(), Added()
    for file in in_order(inputs):
        for rows in Reading(file, PRICES, pairing, now_ms).batches():
            added += database.write(audit.add, rows)
    return added


def made(database: Database, source: str | None = None, policy: Policy | None = None) -> Report:
    known = database.read(audit.everything, 0, NOW_MS + DAY_MS, 4_000)
    return report(known, PRICES, AutoSettings(), source, policy)


def log(*lines: dict[str, object]) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def line(number: int, **fields: object) -> dict[str, object]:
    return {
        "id": f"r{number}",
        "created_at": 1793696400 + number,
        "model": "gpt-5.2",
        "input_tokens": 100,
        "output_tokens": 50,
        **fields,
    }


def live(
    id: str, *, model: str | None = "gpt-4o", attempts: int = 1, cost: int | None = 1000, **other: object
) -> RequestRecord:
    record = RequestRecord(
        id, "key_1", NOV_1_MS + 5, "chat", "native", False, "auto", model, "openai", 200, None, "stop", attempts, 900,
        200, 10, 5, 0, 20, 0, False, cost, "code", 0.9, None, None, None, None, None, None, None,
    )  # fmt: skip
    return replace(record, **other)


EVERY = [
    "openai_usage.json", "openai_costs.json", "openai_activity.csv", "openai_costs.csv", "anthropic_usage.json",
    "anthropic_costs.json", "anthropic_usage.csv", "anthropic_costs.csv", "litellm.json", "requests.jsonl",
]  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_a_second_import_changes_nothing(database: Database, name: str) -> None:
    first = bring(database, name)
    before = made(database)
    assert first.new > 0
    assert bring(database, name, now_ms=NOW_MS + 1) == Added(unchanged=first.new)
    assert made(database) == before


def test_a_batch_twice_and_then_without_its_questions_changes_nothing(database: Database) -> None:
    assert bring(database, "batch_input.jsonl", "batch_output.jsonl") == Added(new=2)
    assert bring(database, "batch_output.jsonl", "batch_input.jsonl") == Added(unchanged=2)
    assert bring(database, "batch_output.jsonl") == Added(unchanged=2)  # it knows less, and replaces nothing
    assert {share.name for share in made(database).tasks} == {"code", "summarization"}


def test_questions_that_come_later_complete_the_answers(database: Database) -> None:
    assert bring(database, "batch_output.jsonl") == Added(new=2)
    assert bring(database, "batch_output.jsonl", "batch_input.jsonl") == Added(replaced=2)


def test_an_overlapping_export_adds_only_what_is_new_and_replaces_what_has_grown(database: Database) -> None:
    pages = json.loads((DATA / "openai_usage.json").read_text())
    bring(database, "openai_usage.json")
    pages["data"][0]["results"][0]["num_model_requests"] = 700  # the day had not ended
    pages["data"][0]["results"][0]["output_tokens"] = 60_000
    more = json.loads(json.dumps(pages["data"][2]))
    more["start_time"], more["end_time"] = 1793750400, 1793836800
    pages["data"].append(more)
    assert bring(database, json.dumps(pages).encode()) == Added(new=1, replaced=1, unchanged=2)
    totals = made(database).totals
    assert totals.requests == 700 + 100 + 20 + 20
    assert totals.output_tokens == 60_000 + 10_000 + 2_000 + 2_000


def test_totals_are_exact_to_the_token_and_the_nano_dollar(database: Database) -> None:
    bring(database, "openai_usage.json")
    assert made(database).totals == Sums(
        requests=620,
        input_tokens=1_340_000,
        cached_tokens=230_000,
        output_tokens=62_000,
        total_tokens=1_402_000,
        cost_nanousd=2_750_000_000 + 425_000_000 + 4_950_000,
        list_price_nanousd=2_750_000_000 + 425_000_000 + 4_950_000,
    )


def test_ten_thousand_requests_add_up_to_the_last_nano_dollar(database: Database) -> None:
    bring(database, log(*(line(n, model="gpt-4o", input_tokens=n % 97, output_tokens=n % 89) for n in range(10_000))))
    found = made(database).totals
    assert found.requests == 10_000
    assert found.input_tokens == sum(n % 97 for n in range(10_000))
    assert found.output_tokens == sum(n % 89 for n in range(10_000))
    assert found.cost_nanousd == sum(n % 97 * 2_500 + n % 89 * 10_000 for n in range(10_000))


def test_billed_amounts_go_before_list_prices_and_are_not_added_to_them(database: Database) -> None:
    bring(database, "openai_usage.json", "openai_costs.json")
    found = made(database)
    day = {share.name: share.sums.cost_nanousd for share in found.days}
    assert day == {"2026-11-01": 2_210_000_000, "2026-11-03": 4_950_000}
    assert found.totals.input_tokens == 1_340_000
    assert any("cost export" in note for note in found.notes)


def test_one_day_in_two_groupings_counts_once_and_the_last_one_counts(database: Database) -> None:
    bring(database, "openai_usage.json")
    bucket = {
        "object": "bucket", "start_time": 1793491200, "end_time": 1793577600,
        "results": [{"object": "organization.usage.completions.result", "input_tokens": 7, "output_tokens": 3,
                     "num_model_requests": 1}],
    }  # fmt: skip
    bring(database, json.dumps({"object": "page", "data": [bucket]}).encode(), now_ms=NOW_MS + 1)
    found = made(database)
    assert found.totals.requests == 1 + 20
    assert any("groupings" in note for note in found.notes)
    assert any(text.startswith("Models") for text in found.unknown)


def test_logs_of_a_day_that_the_providers_report_covers_are_not_added_to_it(database: Database) -> None:
    bring(database, "openai_usage.json")
    alone = made(database).totals
    bring(database, "litellm.json")  # one request of OpenAI on November 1st, one failed on the 2nd, one of nobody's
    found = made(database)
    assert found.totals.cost_nanousd == alone.cost_nanousd
    assert found.totals.requests == alone.requests + 2
    assert {share.name: share.sums.requests for share in found.sources} == {"openai": 620, "litellm": 3}
    assert made(database, "litellm").totals.cost_nanousd == 1_192_500
    assert any("not added to it again" in note for note in found.notes)


def test_a_logged_request_of_the_gateways_own_counts_once(database: Database) -> None:
    database.write(ledger.insert, [live("req_1")], [])
    bring(database, log(line(1, id="req_1"), line(2)))
    assert made(database).totals.requests == 2
    assert made(database, "gateway").totals == Sums(1, 0, 15, 5, 0, 20, 35, 1000, 0, 0)


def test_what_several_models_answered_is_booked_on_each_of_them(database: Database) -> None:
    attempts = [
        AttemptRecord(
            f"req_2.{n}", "req_2", n, model, "openai", model, model, "complete", None, 200, NOV_1_MS + 5, 800, 100,
            5, 0, 0, 10, 0, False, 400 + n, "stop",
        )
        for n, model in enumerate(("gpt-4o", "gpt-4o-mini"))
    ]  # fmt: skip
    request = live("req_2", model=None, attempts=2, cost=801, mode="compare", input_tokens=10, cache_read_tokens=0)
    database.write(ledger.insert, [request], attempts)
    found = made(database)
    assert found.totals == Sums(1, 0, 10, 0, 0, 20, 30, 801, 0, 0)
    assert {share.name: share.sums.cost_nanousd for share in found.models if share.sums.cost_nanousd} == {
        "gpt-4o": 400,
        "gpt-4o-mini": 401,
    }


def test_what_has_no_price_is_counted_and_not_free(database: Database) -> None:
    bring(database, log(line(1, model="nobody-knows")))
    found = made(database)
    assert found.totals.unpriced == 1
    assert found.totals.cost_nanousd == 0
    assert any("no price is known" in text for text in found.unknown)


def test_an_empty_database_says_what_to_do(database: Database) -> None:
    found = made(database)
    assert found.empty
    assert found.advice is not None
    assert "llmwise audit import" in found.advice
    assert "llmwise audit import" in page(found, datetime.now(UTC))
    bring(database, "litellm.json")
    assert "there is: litellm" in (made(database, "gateway").advice or "")


def test_what_the_input_cannot_tell_is_said(database: Database) -> None:
    bring(database, "anthropic_usage.json")
    found = made(database)
    for word in ("Requests:", "Task types", "Latency", "list prices"):
        assert any(word in text for text in found.unknown), word
    assert found.tasks == ()
    assert found.simple is None
    assert found.what_if is not None
    assert found.what_if.basis == "tokens"
    assert found.what_if.verdict.startswith("can't tell what routing would save")
    assert found.what_if.scenarios == ()


def test_percentiles_are_exact_and_failures_are_not_timed(database: Database) -> None:
    lines = [line(n, latency_ms=n, ttft_ms=n // 10) for n in range(1, 101)]
    bring(database, log(*lines, line(200, latency_ms=1, status=500)))
    speed = made(database).speed[0]
    assert speed.latency is not None
    assert (speed.latency.n, speed.latency.p50_ms, speed.latency.p95_ms, speed.latency.p99_ms) == (100, 50, 95, 99)
    assert speed.first_token is not None
    assert speed.first_token.p50_ms == 5


SIMPLE = "What is the capital of France?"
HARD = "Prove by induction that the sum of the first n odd numbers is n squared, and derive a closed form."


def mixed(requests: int) -> bytes:
    """Half simple questions, half proofs, all on an expensive model."""
    return log(
        *(
            line(n, prompt=SIMPLE if n % 2 else HARD, conversation_id=f"c{n // 2}", input_tokens=400)
            for n in range(requests)
        )
    )


def test_the_saving_has_an_interval_its_controls_and_its_assumptions(database: Database) -> None:
    bring(database, mixed(400))
    found = made(database).what_if
    assert found is not None
    assert found.basis == "requests"
    assert found.compared == found.total == 400
    by = {one.name: one for one in found.scenarios}
    assert list(by) == ["today", "auto", "random", "best single"]
    auto = by["auto"]
    assert auto.interval is not None
    assert auto.interval.low <= auto.saving <= auto.interval.high
    assert auto.saving == pytest.approx(1 - auto.cost_nanousd / by["today"].cost_nanousd, abs=1e-6)
    assert auto.saving > 0.2
    assert auto.below_bar == 0
    assert by["random"].models == auto.models
    assert by["random"].quality == pytest.approx(auto.quality)  # one prior a model: no class is told from another
    assert (by["best single"].quality or 0) >= (auto.quality or 1)
    assert any("prior" in text for text in found.assumptions)
    assert found.answer_length is not None
    assert found.answer_length.low <= auto.saving <= found.answer_length.high
    assert sum(one.requests for one in found.moved) <= 400


def test_the_policy_in_force_decides_and_its_evidence_is_the_quality(database: Database) -> None:
    bring(database, mixed(400))
    heuristic = made(database).what_if
    assert heuristic is not None
    assert (heuristic.policy, heuristic.measured) == (None, 0.0)
    tasks = {moved.task_type for moved in heuristic.moved}
    quality = {"gpt-5.2": 0.8, "gpt-5-nano": 0.79}

    def estimated(value: float) -> Estimate:
        return Estimate(value, Interval(value, value), 0.01, 500, 500.0)

    options = tuple(
        Option(model, "openai", 500, 500.0, None, None, None, estimated(value), True, True, None)
        for model, value in quality.items()
    )
    rows = {task: TaskPolicy(task, True, "gpt-5.2", "gpt-5-nano", (), 500, 500.0, options, ()) for task in QUALITY_BAR}
    policy = Policy("balanced-7", "balanced", 0, 0.02, 0.95, rows)
    found = made(database, policy=policy).what_if
    assert found is not None
    assert found.policy == "balanced-7"
    by = {one.name: one for one in found.scenarios}
    assert by["auto"].models["gpt-5-nano"] > 0.4
    assert tasks <= {moved.task_type for moved in found.moved if moved.to == "gpt-5-nano"}
    assert "balanced-7" in found.assumptions[0]
    assert found.measured == 1
    assert by["today"].quality == pytest.approx(0.8)
    assert 0.79 <= (by["auto"].quality or 0) < 0.8
    assert "evidence" in found.assumptions[-1]
    assert "Whether quality would stay is not in these data" in heuristic.limits[-1]
    assert not any("Whether quality" in text or "less than 98%" in text for text in found.limits)
    bad = tuple(replace(one, quality=estimated(0.7)) if one.model == "gpt-5-nano" else one for one in options)
    worse = replace(policy, tasks={task: replace(row, options=bad) for task, row in rows.items()})
    told = made(database, policy=worse)
    assert told.what_if is not None
    assert any(re.search(r"Quality would be \d\d\.\d% of today's, less than 98%", text) for text in told.what_if.limits)
    assert "less than 98%" in page(told, datetime.now(UTC))
    other = made(database, policy=replace(policy, goal="cost")).what_if
    assert other is not None
    assert other.policy is None, "it is in force for another goal"


def test_where_nothing_can_be_saved_is_said(database: Database) -> None:
    bring(database, mixed(400))
    known = database.read(audit.everything, 0, NOW_MS + DAY_MS, 4_000)
    found = report(known, PRICES, AutoSettings(models=["gpt-5.2"])).what_if
    assert found is not None
    assert found.moved == ()
    assert found.limits[0].startswith("Nothing is saved on ")
    assert "(200)" in found.limits[0]


def test_simple_tasks_on_an_expensive_model_are_counted(database: Database) -> None:
    bring(database, mixed(100))
    simple = made(database).simple
    assert simple is not None
    assert (simple.requests, simple.on_expensive) == (50, 50)
    assert simple.models == ("gpt-5.2",)


def test_a_few_requests_are_not_enough_to_tell_a_saving(database: Database) -> None:
    bring(database, mixed(20))
    found = made(database).what_if
    assert found is not None
    assert found.verdict.startswith("not enough data")
    assert [one.name for one in found.scenarios] == ["today"]


def test_requests_of_one_conversation_tell_nothing_of_others(database: Database) -> None:
    bring(database, log(*(line(n, prompt=SIMPLE, conversation_id="c") for n in range(80))))
    found = made(database).what_if
    assert found is not None
    assert "one conversation" in found.verdict
    assert b"null" not in msgspec.json.encode(found.scenarios[0].saving)


class Tags(HTMLParser):
    """What a page loads, and whether its elements close."""

    VOID = ("meta", "br", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "data", "action", "style")]
        assert tag not in ("script", "iframe", "link", "img", "object", "embed"), tag

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_loads_nothing_and_escapes_what_came_from_a_file(database: Database) -> None:
    evil = "<script>alert(1)</script>"
    bring(database, mixed(100), log(line(500, model=evil, cost_usd=1.5)), "openai_usage.json")
    text = page(made(database), datetime(2026, 11, 22, tzinfo=UTC))
    tags = Tags()
    tags.feed(text)
    tags.close()
    assert tags.open == []
    assert tags.loads == []
    assert evil not in text
    assert "&lt;script&gt;" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text
    for word in ("What routing would save", "Spend per day", "Models", "Task types", "same models by lot"):
        assert word in text
