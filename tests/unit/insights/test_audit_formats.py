"""Every export that is understood, from samples as their makers document them (`tests/data/audit`)."""

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from llmwise.catalog.load import load
from llmwise.insights.audit import files
from llmwise.insights.audit.drafts import Malformed, count, moment, money
from llmwise.insights.audit.files import Input, Unreadable
from llmwise.insights.audit.formats import FORMATS, UnknownFormat, layout, recognise
from llmwise.insights.audit.importer import Imported, Reading, in_order
from llmwise.insights.audit.openai_batch import Pairing
from llmwise.insights.audit.prices import Prices
from llmwise.insights.audit.requests_jsonl import SCHEMA
from llmwise.storage.audit import ImportedRequest, ImportedUsage

DATA = Path(__file__).parents[2] / "data" / "audit"
NOW_MS = 1_795_300_000_000
NOV_1_MS = 1_793_491_200_000
PRICES = Prices(load((), {}, unix_ms=NOW_MS), NOW_MS)

SAMPLES = {
    "openai_usage.json": "openai-usage",
    "openai_costs.json": "openai-usage",
    "openai_activity.csv": "openai-activity-csv",
    "openai_costs.csv": "openai-costs-csv",
    "anthropic_usage.json": "anthropic-usage",
    "anthropic_costs.json": "anthropic-usage",
    "anthropic_usage.csv": "anthropic-usage-csv",
    "anthropic_costs.csv": "anthropic-costs-csv",
    "litellm.json": "litellm",
    "batch_input.jsonl": "openai-batch",
    "batch_output.jsonl": "openai-batch",
    "requests.jsonl": "requests",
}


def given(data: bytes | str, name: str = "file") -> Input:
    return Input(name, io.BytesIO(data if isinstance(data, bytes) else data.encode()))


def sample(name: str) -> Input:
    return given((DATA / name).read_bytes(), name)


def read(*inputs: Input) -> tuple[list[ImportedUsage | ImportedRequest], Imported]:
    """All rows, and the result of the last file."""
    pairing = Pairing()
    rows: list[ImportedUsage | ImportedRequest] = []
    for file in in_order(list(inputs)):
        reading = Reading(file, PRICES, pairing, NOW_MS)
        for batch in reading.batches():
            rows += batch
    return rows, reading.result


def usage(*inputs: Input) -> list[ImportedUsage]:
    return [row for row in read(*inputs)[0] if isinstance(row, ImportedUsage)]


def requests(*inputs: Input) -> list[ImportedRequest]:
    return [row for row in read(*inputs)[0] if isinstance(row, ImportedRequest)]


def tokens(rows: Sequence[ImportedUsage | ImportedRequest]) -> list[tuple[int, int, int, int]]:
    return [(r.input_tokens, r.cache_read_tokens, r.cache_write_tokens, r.output_tokens) for r in rows]


@pytest.mark.parametrize(("name", "format"), SAMPLES.items())
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_each_sample_is_recognised_for_what_it_is(name: str, format: str, packed: bool) -> None:
    data = (DATA / name).read_bytes()
    assert recognise(given(gzip.compress(data) if packed else data)).name == format


def test_openais_usage_has_its_buckets_disjoint_and_its_batches_at_half_the_price() -> None:
    rows = usage(sample("openai_usage.json"))
    assert tokens(rows) == [(800_000, 200_000, 0, 50_000), (300_000, 0, 0, 10_000), (10_000, 30_000, 0, 2_000)]
    assert [row.cost_nanousd for row in rows] == [2_750_000_000, 425_000_000, 4_950_000]
    assert [row.requests for row in rows] == [500, 100, 20]
    assert {row.priced_by for row in rows} == {"catalog"}
    assert rows[0].starts_at_ms == NOV_1_MS
    assert rows[0].cut == "1d by batch,model,project_id,service_tier"


def test_what_has_no_tokens_is_left_out_and_said_so() -> None:
    _, result = read(sample("openai_usage.json"))
    assert result.rejected == 1
    assert result.rejections[0].reason == "bucket 1, result 3: usage of images has no tokens: left out"
    assert list(result.reasons) == ["usage of images has no tokens: left out"]


def test_openais_costs_are_taken_to_the_nano_dollar() -> None:
    rows = usage(sample("openai_costs.json"))
    assert [(row.kind, row.model, row.cost_nanousd) for row in rows] == [
        ("cost", "gpt-4o-2024-08-06", 1_750_000_000),
        ("cost", "gpt-4o-2024-08-06", 400_000_000),
        ("cost", None, 60_000_000),
    ]


def test_openais_dashboard_exports_count_in_decimals_and_leave_days_empty() -> None:
    rows = usage(sample("openai_activity.csv"))
    assert [row.requests for row in rows] == [10, 8, 1]
    assert tokens(rows) == [(53_440, 5_760, 0, 10_646), (38_072, 8_192, 0, 60_000), (5_783, 0, 0, 16_000)]
    assert len({row.id for row in rows}) == 3  # two of them differ in their counts alone
    costs = usage(sample("openai_costs.csv"))
    assert [(row.model, row.cost_nanousd) for row in costs] == [(None, 895_874_000), ("gpt-5-2025-08-07", 561_771_250)]


def test_anthropics_usage_prices_both_kinds_of_cache_writes() -> None:
    rows = usage(sample("anthropic_usage.json"))
    assert tokens(rows) == [(1_500, 200, 1_500, 500), (2_000, 0, 0, 1_000)]
    assert [row.cost_nanousd for row in rows] == [19_935_000, 10_500_000]
    assert [row.requests for row in rows] == [None, None]  # the report does not count them, which is not zero


def test_anthropics_costs_are_cents_and_their_names_are_models() -> None:
    assert [row.cost_nanousd for row in usage(sample("anthropic_costs.json"))] == [1_237_891_200, 500_000_000]
    rows = usage(sample("anthropic_costs.csv"))
    assert [row.cost_nanousd for row in rows] == [50_000_000, 20_000_000, 100_000_000]
    assert [PRICES.shown(row.model) for row in rows] == ["claude-haiku-4.5", "claude-haiku-4.5", "claude-sonnet-4.5"]
    rows = usage(sample("anthropic_usage.csv"))
    assert tokens(rows) == [(46_981, 2_000, 16_069, 16_932), (50_000, 0, 0, 2_000)]


def test_litellms_logs_tell_time_task_and_cost() -> None:
    first, unpriced, failed = requests(sample("litellm.json"))
    assert (first.cost_nanousd, first.priced_by) == (1_192_500, "export")
    assert (first.latency_ms, first.ttft_ms) == (2_500, 400)
    assert first.task_type == "translation_multilingual"
    assert tokens([first]) == [(201, 128, 0, 100)]
    assert (unpriced.cost_nanousd, unpriced.ttft_ms, unpriced.task_type) == (None, None, None)
    assert (failed.failed, failed.cost_nanousd) == (True, 0)


def test_litellms_logs_are_the_same_as_lines_and_as_csv() -> None:
    whole = json.loads((DATA / "litellm.json").read_text())
    lines = given("".join(json.dumps(row) + "\n" for row in whole))
    text = io.StringIO()
    columns = list(whole[0])
    text.write(",".join(columns) + "\n")
    for row in whole:
        told = [row.get(column) for column in columns]
        cells = ["" if cell is None else cell if isinstance(cell, str) else json.dumps(cell) for cell in told]
        text.write(",".join('"' + cell.replace('"', '""') + '"' for cell in cells) + "\n")
    array = requests(sample("litellm.json"))
    assert requests(lines) == array
    assert requests(given(text.getvalue())) == array


def test_a_batchs_answers_find_their_questions_whatever_file_comes_first() -> None:
    both = requests(sample("batch_output.jsonl"), sample("batch_input.jsonl"))
    assert [(row.task_type, row.output_tokens) for row in both] == [("code", 15), ("summarization", 29)]
    assert tokens(both)[1] == (120, 100, 0, 29)
    # half of 24 * 0.15 + 15 * 0.6 dollars per million
    assert both[0].cost_nanousd == 6_300
    alone = requests(sample("batch_output.jsonl"))
    assert [row.task_type for row in alone] == [None, None]
    assert [row.id for row in alone] == [row.id for row in both]


def test_our_own_format_takes_a_prompt_or_messages() -> None:
    rows, result = read(sample("requests.jsonl"))
    first, second, third = (row for row in rows if isinstance(row, ImportedRequest))
    assert (first.cost_nanousd, first.priced_by) == (4_000_000, "export")
    assert tokens([first]) == [(600, 400, 0, 200)]
    assert (first.task_type, second.task_type) == ("translation_multilingual", "math")
    assert (second.cost_nanousd, second.priced_by) == (10_250_000, "catalog")
    assert third.failed
    assert result.rejected == 0


def test_our_own_formats_schema_fits_its_sample() -> None:
    import jsonschema

    for line in (DATA / "requests.jsonl").read_text().splitlines():
        jsonschema.validate(json.loads(line), SCHEMA)


def test_prompts_are_classified_and_not_kept() -> None:
    rows = requests(sample("litellm.json"), sample("batch_input.jsonl"), sample("batch_output.jsonl"))
    assert b"bonjour" not in msgspec.json.encode(rows)
    for secret in (b"good morning", b"reverses a list"):
        assert secret not in msgspec.json.encode(rows)


def test_broken_lines_are_told_by_number_and_the_rest_is_read() -> None:
    good = (DATA / "requests.jsonl").read_text().splitlines()
    told = '"model": "m", "output_tokens": 1'
    lines = [
        "{not json",
        good[0],
        "",
        '{"id": "x"}',
        good[1],
        f'{{"created_at": "yesterday", "input_tokens": 1, {told}}}',
        f'{{"created_at": 1793696460, "input_tokens": 1, "cached_tokens": 2, {told}}}',
        f'{{"created_at": 1793696460, "input_tokens": 1, "tokens": 3, {told}}}',
        f'{{"created_at": 1793696460, "input_tokens": -1, {told}}}',
        "[1]",
        good[2] + " trailing",
    ]
    rows, result = read(given("\n".join(lines)))
    assert [row.created_at_ms for row in rows if isinstance(row, ImportedRequest)] == [1793696400000, 1793696460000]
    assert [one.line for one in result.rejections] == [1, 4, 6, 7, 8, 9, 10, 11]
    reasons = {one.line: one.reason for one in result.rejections}
    assert "created_at = 'yesterday': not a time" in reasons[6]
    assert "more than the 1 that it is a part of" in reasons[7]
    assert "tokens" in reasons[8]
    assert result.rejected == 8


def test_what_was_left_out_is_counted_whole_and_shown_in_part() -> None:
    good = (DATA / "requests.jsonl").read_text().splitlines()[0]
    _, result = read(given("\n".join([good] + ["{broken"] * 5_000)))
    assert result.rejected == 5_000
    assert len(result.rejections) == 20
    assert sum(result.reasons.values()) == 5_000
    assert len(result.reasons) <= 51


LINE = '{"created_at": "2026-11-03T09:00:00Z", "model": "gpt-4o", "input_tokens": 1, "output_tokens": 1'


def rejected(text: str) -> list[str]:
    return [f"{one.line}: {one.reason}" for one in read(given(text))[1].rejections]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (', "cost_usd": -0.5', "a request costs nothing or more"),
        (', "cost_usd": 1000001', "over 1,000,000 USD"),
        (', "input_tokens": 1000000000001', "<= 1000000000000"),
        (', "model": "gpt\\u00004"', "has control characters"),
        (', "conversation_id": "a\\u0000"', "has control characters"),
    ],
)
def test_a_line_that_would_break_a_report_is_refused_by_number(told: str, said: str) -> None:
    (reason,) = rejected(f"{LINE}}}\n{LINE}{told}}}\n")
    assert reason.startswith("2: ")
    assert said in reason


def test_negative_costs_are_refused_in_csv_and_from_litellm_and_stay_credits_in_a_bill() -> None:
    head = "created_at,model,input_tokens,output_tokens,cost_usd\n"
    assert "a request costs nothing or more" in rejected(head + "2026-11-03T09:00:00Z,gpt-4o,1,1,-1\n")[0]
    head = "request_id,startTime,spend,model\n"
    assert "a request costs nothing or more" in rejected(head + "a,2026-11-03T09:00:00Z,-1,gpt-4o\n")[0]
    bill = (DATA / "openai_costs.csv").read_text().replace("0.895874", "-0.895874")
    assert usage(given(bill))[0].cost_nanousd == -895_874_000


def test_the_dearest_row_that_is_accepted_is_a_64_bit_amount() -> None:
    most = LINE.replace("gpt-4o", "o1-pro").replace(" 1", f" {10**12}")
    (row,) = requests(given(most + "}"))
    assert row.cost_nanousd is not None
    assert 10**17 < row.cost_nanousd < 2**63


def test_a_bad_bucket_is_told_by_its_place_and_the_others_are_read() -> None:
    page = json.loads((DATA / "openai_usage.json").read_text())
    whole = len(usage(sample("openai_usage.json")))
    first = page["data"][0]
    page["data"] = [{**first, "start_time": -1}, *page["data"]]
    page["data"][1]["results"][0]["input_tokens"] = -4
    _, result = read(given(json.dumps([page], indent=1)))
    assert (result.unit, result.records) == ("entry", whole - 1)
    assert [(one.line, one.reason.split(":")[0]) for one in result.rejections[:2]] == [
        (1, "bucket 1"),
        (1, "bucket 2, result 1"),
    ]
    costs = json.loads((DATA / "anthropic_costs.json").read_text())
    costs["data"][0]["results"][-1]["currency"] = "EUR"
    last = len(costs["data"][0]["results"])
    (reason,) = rejected(json.dumps(costs, indent=1))
    assert reason.startswith(f"1: bucket 1, result {last}: currency")


def test_an_entry_of_an_array_is_told_by_its_number() -> None:
    rows = json.loads((DATA / "litellm.json").read_text())
    rows[1]["startTime"] = "never"
    _, result = read(given(json.dumps(rows)))
    assert (result.unit, [one.line for one in result.rejections]) == ("entry", [2])


def test_a_csv_with_a_long_prompt_counts() -> None:
    head = "request_id,startTime,spend,prompt_tokens,completion_tokens,model,messages\n"
    long = json.dumps([{"role": "user", "content": "Summarize this: " + "word " * 60_000}]).replace('"', '""')
    rows, result = read(given(f'{head}a,2026-11-03T09:00:00Z,0.5,60000,9,gpt-4o,"{long}"\n'))
    assert (len(rows), result.rejected) == (1, 0)
    assert requests(given(f'{head}a,2026-11-03T09:00:00Z,0.5,60000,9,gpt-4o,"{long}"\n'))[0].task_type is not None


def test_lines_without_an_id_that_look_alike_are_counted() -> None:
    twins = f"{LINE}}}\n" * 4
    named = f'{LINE}, "id": "a"}}\n' * 2
    _, result = read(given(twins + named))
    assert result.alike == 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x7fELF\x02\x01\x01\0\0\r\0\rcode" * 50, "is no text"),
        (b"created_at,model,input_tokens,output_tokens\r2026-11-03T09:00:00Z,gpt-4o,1,1\r", "a carriage return alone"),
        (gzip.compress(gzip.compress(LINE.encode() + b"}")), "is compressed twice"),
        ("created_at,model,input_tokens,output_tokens\r\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("a,b\n".encode("utf-16-le"), "is no text"),
        (b'a,"' + b"x" * 140_000, "neither JSON nor a CSV"),
    ],
)
def test_a_file_that_is_no_proper_text_is_told_why(data: bytes, said: str) -> None:
    with pytest.raises(UnknownFormat, match=said):
        recognise(given(data))


@pytest.mark.parametrize("hostile", [b"\x00" * 100, b"[" * 100_000, b"{" * 100_000, b'{"request_id": "\xff\xfe"'])
def test_hostile_files_end_in_a_clear_error(hostile: bytes) -> None:
    with pytest.raises(UnknownFormat):
        read(given(hostile))


def test_a_line_without_end_is_one_bad_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_LINE_BYTES", 4096)
    good = (DATA / "requests.jsonl").read_bytes().splitlines(keepends=True)
    rows, result = read(given(good[0] + b'{"id": "' + b"x" * 20_000 + b'"}\n' + good[1]))
    assert len(rows) == 2
    assert [(one.line, one.reason) for one in result.rejections] == [(2, "the line is over 4096 bytes")]


def test_a_file_that_unpacks_without_end_is_stopped() -> None:
    bomb = (DATA / "requests.jsonl").read_bytes() + b" " * 50_000_000
    with pytest.raises(Unreadable, match="over 1000000 bytes"):
        Reading(
            Input("bomb", io.BytesIO(gzip.compress(bomb)), 1_000_000), PRICES, Pairing(), NOW_MS
        ).batches().__next__()


def test_a_cut_off_gzip_says_so() -> None:
    packed = gzip.compress(b"".join((DATA / "requests.jsonl").read_bytes() for _ in range(2_000)))
    with pytest.raises(Unreadable, match="can't be read"):
        read(given(packed[: len(packed) // 2]))


def test_a_cut_off_array_keeps_what_came_before() -> None:
    text = (DATA / "litellm.json").read_text()
    rows, result = read(given(text[: text.index('"5a1f-failed"')]))
    assert len(rows) == 2
    assert result.rejections[0].line == 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "is empty"),
        ("date,clicks\n1,2\n", "its first line is date, clicks"),
        ('{"hello": "world"}', '"hello"'),
        ('[{"foo": 1}]', '"foo"'),
        ("just text", "just text"),
    ],
)
def test_an_unknown_file_is_told_what_it_looks_like_and_what_is_understood(data: str, said: str) -> None:
    with pytest.raises(UnknownFormat) as failure:
        recognise(given(data))
    assert said in str(failure.value)
    if data:
        assert all(format.title in str(failure.value) for format in FORMATS)


def test_pages_may_stand_in_lines_in_an_array_or_after_another() -> None:
    page = json.loads((DATA / "openai_usage.json").read_text())
    first = {**page, "data": page["data"][:2]}
    second = {**page, "data": page["data"][2:]}
    whole = usage(sample("openai_usage.json"))
    for text in (
        json.dumps(first) + "\n" + json.dumps(second) + "\n",
        json.dumps([first, second], indent=1),
        json.dumps(first, indent=2) + "\n" + json.dumps(second, indent=2),
    ):
        assert usage(given(text)) == whole
    assert layout(given(json.dumps(first) + "\n" + json.dumps(second)), FORMATS[0]) == "lines"


def test_an_array_does_not_depend_on_how_it_was_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = requests(sample("litellm.json"))
    for size in (1, 2, 3, 7, 64, 1000):
        monkeypatch.setattr(files, "CHUNK_BYTES", size)
        assert requests(sample("litellm.json")) == whole


def test_a_csv_may_have_semicolons_a_mark_and_windows_lines() -> None:
    text = (DATA / "openai_activity.csv").read_text()
    turned = b"\xef\xbb\xbf" + text.replace(",", ";").replace("\n", "\r\n").encode()
    assert usage(given(turned)) == usage(sample("openai_activity.csv"))


def test_joined_csv_files_with_their_header_twice_count_once() -> None:
    text = (DATA / "anthropic_usage.csv").read_text()
    ids = [row.id for row in usage(given(text + text))]
    assert len(ids) == 4
    assert len(set(ids)) == 2


def test_a_json_bucket_and_a_csv_row_of_the_same_are_the_same() -> None:
    row = {
        "object": "organization.usage.completions.result", "input_tokens": 59_200, "output_tokens": 10_646,
        "input_cached_tokens": 5_760, "num_model_requests": 10, "project_id": "proj_a", "user_id": "user-1",
        "api_key_id": "key_1", "model": "gpt-4o-2024-08-06", "batch": False, "service_tier": "default",
    }  # fmt: skip
    bucket = {"object": "bucket", "start_time": 1793491200, "end_time": 1793577600, "results": [row]}
    page = given(json.dumps({"object": "page", "data": [bucket], "has_more": False, "next_page": None}))
    assert usage(page)[0] == usage(sample("openai_activity.csv"))[0]


@pytest.mark.parametrize(
    ("name", "card"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("azure/gpt-4o-mini", "gpt-4o-mini"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4.5"),
        ("bedrock/anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4.5"),
        ("Claude Haiku 4.5", "claude-haiku-4.5"),
        ("nobody/knows-this-one", "nobody/knows-this-one"),
    ],
)
def test_a_model_is_known_by_the_names_that_exports_give_it(name: str, card: str) -> None:
    assert PRICES.shown(name) == card


def test_numbers_that_are_none_are_refused() -> None:
    assert [count(value, "n") for value in (None, "", 5, "5", "5.0", 5.0)] == [0, 0, 5, 5, 5, 5]
    bad: list[object] = ["-1", -1, "1.5", "many", "1e99", "nan", "inf", 10**16]
    for value in bad:
        with pytest.raises(Malformed):
            count(value, "n")
    assert [money(value, "m") for value in (None, "", 0, "0.0000000014", -1)] == [None, None, 0, 1, -1_000_000_000]
    bad = ["free", "nan", "inf", 1e12]
    for value in bad:
        with pytest.raises(Malformed):
            money(value, "m")
    assert moment("2026-11-01", "t") == moment(1793491200, "t") == moment("2026-11-01T01:00:00+01:00", "t") == NOV_1_MS
    bad = ["", "soon", -5, 1e20, "2026-13-01"]
    for value in bad:
        with pytest.raises(Malformed):
            moment(value, "t")
