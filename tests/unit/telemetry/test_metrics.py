"""Metrics, made from records."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmwise.domain.records import AttemptRecord, RequestRecord
from llmwise.telemetry.metrics import FOLD_AT, LATENCY_BUCKETS_S, Histogram, Metrics, Recorders

ATTEMPT = AttemptRecord(
    *("r.0", "r", 0, "m", "p", "sent", None, "complete", None, None, 0, 900, 120),
    *(100, 30, 5, 50, 20, False, 2_000_000, "stop"),
)
REQUEST = RequestRecord(
    id="r",
    key_id="k",
    created_at_ms=0,
    mode="chat",
    dialect="native",
    stream=False,
    requested_model="auto",
    model="m",
    provider="p",
    status=200,
    code=None,
    finish_reason="stop",
    attempts=1,
    latency_ms=1000,
    ttft_ms=200,
    input_tokens=100,
    cache_read_tokens=30,
    cache_write_tokens=5,
    output_tokens=50,
    reasoning_tokens=20,
    usage_estimated=False,
    cost_nanousd=2_000_000,
    task_type=None,
    confidence=None,
    auto_strategy=None,
    goal=None,
    conversation_id=None,
    route=None,
    warnings=None,
    prompt=None,
    answer=None,
)


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and labels."""

    def samples() -> Iterator[tuple[tuple[str, ...], float]]:
        for family in text_string_to_metric_families(metrics.render().decode()):
            for sample in family.samples:
                yield (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))), sample.value

    return dict(samples())


def with_records(*records: tuple[RequestRecord, tuple[AttemptRecord, ...]]) -> dict[tuple[str, ...], float]:
    metrics = Metrics()
    for request, attempts in records:
        metrics.record(request, attempts)
    return values(metrics)


def changed(record: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(record, **fields)


def test_a_request_is_counted_by_dialect_model_and_status() -> None:
    failed = changed(REQUEST, status=502, model=None, ttft_ms=None, cost_nanousd=None)
    found = with_records((REQUEST, (ATTEMPT,)), (REQUEST, (ATTEMPT,)), (failed, ()))
    name = "llmwise_requests_total"
    assert found[name, "dialect=native", "model=m", "status=200"] == 2
    assert found[name, "dialect=native", "model=none", "status=502"] == 1
    assert found["llmwise_unpriced_requests_total", "model=none"] == 1


def test_tokens_money_and_attempts_are_booked_where_they_arose() -> None:
    first = changed(ATTEMPT, model="down", provider="q", outcome="provider_error", input_tokens=7, cost_nanousd=None)
    found = with_records((changed(REQUEST, attempts=2), (first, ATTEMPT)))
    assert found["llmwise_attempts_total", "model=down", "outcome=provider_error", "provider=q"] == 1
    assert found["llmwise_attempts_total", "model=m", "outcome=complete", "provider=p"] == 1
    tokens = {labels[1:]: value for labels, value in found.items() if labels[0] == "llmwise_tokens_total"}
    assert tokens["bucket=input", "model=m"] == 100
    assert tokens["bucket=output", "model=m"] == 50
    assert tokens["bucket=cache_read", "model=m"] == 30
    assert tokens["bucket=cache_write", "model=m"] == 5
    assert tokens["bucket=input", "model=down"] == 7
    assert found["llmwise_cost_usd_total", "model=m"] == pytest.approx(0.002)
    assert ("llmwise_cost_usd_total", "model=down") not in found  # its cost is not known, which is not zero


def test_times_fall_into_their_buckets() -> None:
    found = with_records(
        (REQUEST, ()), (changed(REQUEST, latency_ms=1001), ()), (changed(REQUEST, latency_ms=999_000), ())
    )
    bucket = {key[1]: value for key, value in found.items() if key[0] == "llmwise_request_duration_seconds_bucket"}
    assert (bucket["le=0.5"], bucket["le=1.0"], bucket["le=2.5"], bucket["le=300.0"], bucket["le=+Inf"]) == (
        0,
        1,
        2,
        2,
        3,
    )
    assert found["llmwise_request_duration_seconds_count", "model=m"] == 3
    assert found["llmwise_request_duration_seconds_sum", "model=m"] == pytest.approx(1001.001)
    assert found["llmwise_first_token_seconds_count", "model=m"] == 3


def test_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for seconds in (1.0, 1.0001, 2.0, 2.1):
        histogram.observe("m", seconds)
    assert histogram.counts["m"] == [1, 2, 1]
    assert sorted(LATENCY_BUCKETS_S) == list(LATENCY_BUCKETS_S)


def test_a_scrape_changes_nothing() -> None:
    metrics = Metrics()
    metrics.record(REQUEST, (ATTEMPT,))
    assert values(metrics) == values(metrics)


def test_without_a_scrape_what_waits_is_bounded() -> None:
    metrics = Metrics()
    for _ in range(FOLD_AT * 2 + 1):
        metrics.record(REQUEST, (ATTEMPT,))
        assert len(metrics._waiting) < FOLD_AT
    assert values(metrics)["llmwise_requests_total", "dialect=native", "model=m", "status=200"] == FOLD_AT * 2 + 1


def test_circuits_and_waiting_records_are_gauges() -> None:
    metrics = Metrics()
    metrics.circuits_open = {"m": True, "n": False}
    metrics.records_waiting = 4
    found = values(metrics)
    assert (found["llmwise_circuit_open", "model=m"], found["llmwise_circuit_open", "model=n"]) == (1, 0)
    assert found["llmwise_records_waiting",] == 4


def test_both_recorders_get_every_record() -> None:
    first, second = Metrics(), Metrics()
    Recorders(first, second).record(REQUEST, (ATTEMPT,))
    assert values(first) == values(second) != values(Metrics())
