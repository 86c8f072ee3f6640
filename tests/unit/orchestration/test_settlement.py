"""What a request costs, and who says so: usage, estimates, sums, and one settlement for each end."""

import pytest

from llmwise.catalog.cost import estimate_tokens
from llmwise.domain.errors import (
    DeadlineExceeded,
    GatewayError,
    InternalError,
    InvalidRequest,
    UpstreamCut,
    UpstreamServerError,
    UpstreamTimeout,
)
from llmwise.domain.events import Finished, ReasoningDelta, Started, TextDelta, ToolCallDelta, UsageReport, Warned
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.records import AttemptRecord, Outcome, RequestRecord
from llmwise.domain.usage import TokenUsage
from llmwise.orchestration.handling import Handling
from llmwise.orchestration.settlement import (
    ALL_FAILED,
    MAX_KEPT_CHARS,
    TERMS,
    Attempt,
    Ledger,
    outcome_of,
    owed_nanousd,
    payer_of,
)

from .engines import Engine

PRICE = Rate(input=1_000_000_000, output=2_000_000_000)
"""One dollar a million tokens in, two out: 1,000 and 2,000 nano-USD a token."""


def opened(engine: Engine, model: str = "a", rate: Rate | None = PRICE) -> tuple[Ledger, Attempt]:
    ledger = engine.ledger("ab")
    return ledger, ledger.open(ModelCard(model, model, model, rate=rate), 0)


def settled(engine: Engine) -> tuple[RequestRecord, tuple[AttemptRecord, ...]]:
    [one] = engine.kept.settled
    return one


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (UpstreamCut("x"), "cut"),
        (UpstreamTimeout("x"), "timeout"),
        (DeadlineExceeded("x"), "cut"),
        (UpstreamServerError("x"), "provider_error"),
        (InternalError("x"), "provider_error"),
        (InvalidRequest("x"), "rejected"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_an_errors_class_says_how_the_attempt_ended(error: GatewayError, outcome: Outcome) -> None:
    assert outcome_of(error) == outcome
    assert outcome_of(error, impatient=True) == ("client_gone" if isinstance(error, DeadlineExceeded) else outcome)


def test_reported_usage_is_booked_and_priced() -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    attempt.observe(TextDelta("hi"))
    attempt.observe(Finished("stop"))
    attempt.observe(UsageReport(TokenUsage(input=10, output=5)))
    ledger.settle(attempt, "complete")
    ledger.close(200)
    record, _ = settled(engine)
    assert (record.input_tokens, record.output_tokens, record.usage_estimated) == (10, 5, False)
    assert record.cost_nanousd == 10 * 1000 + 5 * 2000


def test_the_last_report_counts_and_reports_are_not_added_up() -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    for output in (1, 4, 9):
        attempt.observe(UsageReport(TokenUsage(input=10, output=output)))
    attempt.observe(Finished("stop"))
    assert ledger.settle(attempt, "complete").output_tokens == 9


def test_a_complete_answer_without_usage_is_estimated_and_marked() -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    attempt.observe(TextDelta("a whole answer of some words"))
    attempt.observe(ToolCallDelta(0, "1", "f", '{"argument": "value"}'))
    attempt.observe(Finished("stop"))
    record = ledger.settle(attempt, "complete")
    assert record.usage_estimated
    assert record.input_tokens > 0
    assert record.output_tokens == estimate_tokens("a whole answer of some words") + 21 // 4


ESTIMATED = {outcome for outcome, terms in TERMS.items() if terms.estimate != "never"}


@pytest.mark.parametrize("outcome", sorted(TERMS))
def test_unreported_usage_is_estimated_only_where_the_provider_worked(outcome: Outcome) -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    attempt.observe(TextDelta("half an answer"))
    record = ledger.settle(attempt, outcome)
    assert {"complete", "client_gone", "cut", "timeout"} == ESTIMATED
    assert (record.output_tokens > 0) == (outcome in ESTIMATED)
    assert record.usage_estimated == (outcome in ESTIMATED)
    assert (record.cost_nanousd or 0) == record.input_tokens * 1000 + record.output_tokens * 2000


@pytest.mark.parametrize("outcome", sorted(TERMS))
def test_before_anything_came_a_time_out_costs_nothing(outcome: Outcome) -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    record = ledger.settle(attempt, outcome)
    assert record.usage_estimated == bool(record.cost_nanousd) == (outcome in ESTIMATED - {"timeout"})


@pytest.mark.parametrize("begun", [ToolCallDelta(0, "1", "f", ""), ReasoningDelta("Hm, let me see.")])
def test_a_call_or_a_thought_is_a_beginning_too(begun: ToolCallDelta | ReasoningDelta) -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    attempt.observe(begun)
    assert ledger.settle(attempt, "timeout").usage_estimated


@pytest.mark.parametrize(("code", "payer", "owed"), [(None, "caller", 7), (ALL_FAILED, "operator", 0)])
def test_who_pays_for_an_attempt_is_who_owes_it(code: str | None, payer: str, owed: int) -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    attempt.observe(UsageReport(TokenUsage(input=7)))
    record = ledger.settle(attempt, "complete")
    assert (payer_of(record, code), owed_nanousd([record], code)) == (payer, owed * 1000)


@pytest.mark.parametrize("outcome", ["cut", "client_gone", "timeout"])
def test_a_report_that_lags_behind_what_came_of_a_broken_answer_is_made_up_to_it(outcome: Outcome) -> None:
    """Anthropic reports the prompt and one token of output at the start, the rest only at the end."""
    engine = Engine()
    ledger, attempt = opened(engine)
    attempt.observe(UsageReport(TokenUsage(input=100, cache_read=50, output=1)))
    attempt.observe(TextDelta("word " * 400))
    record = ledger.settle(attempt, outcome)
    assert (record.input_tokens, record.cache_read_tokens) == (100, 50)
    assert record.output_tokens == estimate_tokens("word " * 400)
    assert record.usage_estimated


def test_a_report_of_a_complete_answer_is_believed_however_short() -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    attempt.observe(TextDelta("word " * 400))
    attempt.observe(UsageReport(TokenUsage(input=1, output=1)))
    attempt.observe(Finished("stop"))
    record = ledger.settle(attempt, "complete")
    assert (record.output_tokens, record.usage_estimated) == (1, False)


def test_a_model_without_a_price_has_no_cost_and_makes_the_requests_cost_unknown() -> None:
    engine = Engine()
    ledger, attempt = opened(engine, rate=None)
    attempt.observe(UsageReport(TokenUsage(input=10, output=5)))
    ledger.settle(attempt, "cut", UpstreamCut("cut"))
    second = ledger.open(ModelCard("b", "b", "b", rate=PRICE), 0)
    second.observe(UsageReport(TokenUsage(input=10, output=5)))
    second.observe(Finished("stop"))
    ledger.settle(second, "complete")
    ledger.close(200)
    record, attempts = settled(engine)
    assert [attempt.cost_nanousd for attempt in attempts] == [None, 20_000]
    assert record.cost_nanousd is None
    assert (record.input_tokens, record.output_tokens) == (20, 10)


def test_an_unpriced_attempt_that_used_nothing_leaves_the_cost_known() -> None:
    engine = Engine()
    ledger, attempt = opened(engine, rate=None)
    ledger.settle(attempt, "provider_error", UpstreamServerError("down"))
    second = ledger.open(ModelCard("b", "b", "b", rate=PRICE), 0)
    second.observe(UsageReport(TokenUsage(input=10, output=5)))
    second.observe(Finished("stop"))
    ledger.settle(second, "complete")
    assert ledger.close(200).cost_nanousd == 20_000


def test_a_failed_attempt_that_only_read_the_cache_is_in_the_sum() -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    attempt.observe(UsageReport(TokenUsage(cache_read=1000)))
    paid = ledger.settle(attempt, "provider_error", UpstreamServerError("broke"))
    assert paid.cost_nanousd == 1_000_000
    assert ledger.close(502, "upstream_error").cost_nanousd == 1_000_000


def test_a_free_model_costs_nothing_and_says_so() -> None:
    engine = Engine()
    ledger, attempt = opened(engine, rate=Rate(input=0, output=0))
    attempt.observe(UsageReport(TokenUsage(input=10, output=5)))
    attempt.observe(Finished("stop"))
    ledger.settle(attempt, "complete")
    assert ledger.close(200).cost_nanousd == 0


def test_an_attempt_is_settled_once() -> None:
    ledger, attempt = opened(Engine())
    ledger.settle(attempt, "complete")
    with pytest.raises(AssertionError, match="settled once"):
        ledger.settle(attempt, "cut")


def test_a_request_is_closed_once_and_recorded_once() -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    ledger.settle(attempt, "complete")
    ledger.close(200)
    with pytest.raises(AssertionError, match="closed once"):
        ledger.close(200)
    assert len(engine.kept.settled) == 1


def test_a_request_is_not_closed_with_an_attempt_open() -> None:
    ledger, _ = opened(Engine())
    with pytest.raises(AssertionError, match="still open"):
        ledger.close(200)


def test_two_attempts_are_never_open_at_once() -> None:
    ledger, attempt = opened(Engine())
    with pytest.raises(AssertionError, match="still open"):
        ledger.open(attempt.card, 0)


def test_the_record_names_the_last_attempts_model_and_times_count_from_the_request() -> None:
    engine = Engine()
    ledger = engine.ledger("ab")
    first = ledger.open(ModelCard("a", "pa", "ua", rate=PRICE), 0)
    engine.clock.now += 2.0
    ledger.settle(first, "timeout", UpstreamTimeout("late", upstream_status=504))
    second = ledger.open(ModelCard("b", "pb", "ub", rate=PRICE), 0)
    second.observe(Started("id", "b-2026"))
    second.ttft_ms = 300
    engine.clock.now += 0.5
    second.observe(Finished("length"))
    ledger.settle(second, "complete")
    ledger.close(200)
    record, attempts = settled(engine)
    assert (record.requested_model, record.model, record.provider, record.finish_reason) == ("a", "b", "pb", "length")
    assert (record.attempts, record.latency_ms, record.ttft_ms) == (2, 2500, 2300)
    assert [(a.number, a.sent_model, a.answered_model) for a in attempts] == [(0, "ua", None), (1, "ub", "b-2026")]
    assert [(a.latency_ms, a.code, a.upstream_status) for a in attempts] == [
        (2000, "upstream_timeout", 504),
        (500, None, None),
    ]
    assert len({a.id for a in attempts}) == 2
    assert {a.request_id for a in attempts} == {record.id}


def test_texts_are_kept_within_bounds_and_not_at_all_when_told() -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    attempt.observe(TextDelta("x" * (MAX_KEPT_CHARS + 5)))
    ledger.settle(attempt, "complete")
    record = ledger.close(200)
    assert record.prompt == "What is up?"
    assert len(record.answer or "") == MAX_KEPT_CHARS

    given = engine.ledger("a")
    private = Ledger(
        id=given.id,
        key_id="k",
        request=given.request,
        plan=given.plan,
        dialect="native",
        rate_of=given.rate_of,
        clock=engine.clock,
        recorder=engine.kept,
        handling=Handling(keep_text=False),
    )
    attempt = private.open(given.plan.attempts[0].target, 0)
    attempt.observe(TextDelta("secret"))
    private.settle(attempt, "complete")
    record = private.close(200)
    assert (record.prompt, record.answer) == (None, None)


def test_warnings_are_in_the_record() -> None:
    engine = Engine()
    ledger, attempt = opened(engine)
    ledger.warnings.append(Warned("dropped", "seed", "this model takes no seed"))
    ledger.settle(attempt, "complete")
    assert '"seed"' in (ledger.close(200).warnings or "")
