"""Prometheus metrics, made from the records of settled requests: the hot path appends, a scrape does the sums."""

from collections import deque
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from llmwise.domain.money import to_usd
from llmwise.domain.records import AttemptRecord, RequestRecord

LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
FIRST_TOKEN_BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)
FOLD_AT = 10_000
"""Records waiting for a scrape; beyond this many they are summed up without one."""


class Metrics:
    """A recorder. Labels are the catalog's models and stable words only, so that their number is bounded."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._waiting: deque[tuple[RequestRecord, Sequence[AttemptRecord]]] = deque()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"llmwise_{name}", text, labels, registry=self.registry)

        self._requests = counter("requests", "Requests settled.", "dialect", "model", "status")
        self._attempts = counter("attempts", "Attempts settled.", "provider", "model", "outcome")
        self._tokens = counter("tokens", "Tokens, in disjoint buckets.", "model", "bucket")
        self._cost = counter("cost_usd", "Cost of the models with a known price, USD.", "model")
        self._unpriced = counter("unpriced_requests", "Requests whose cost is not known.", "model")
        self._latency = Histogram(
            "llmwise_request_duration_seconds",
            "From the request's arrival to its last byte.",
            ["model"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._first_token = Histogram(
            "llmwise_first_token_seconds",
            "From the request's arrival to its first content.",
            ["model"],
            buckets=FIRST_TOKEN_BUCKETS_S,
            registry=self.registry,
        )
        self.circuits_open = Gauge("llmwise_circuit_open", "1 while a target is left alone.", ["model"])
        self.registry.register(self.circuits_open)
        self.records_waiting = Gauge(
            "llmwise_records_waiting", "Records not in the database yet.", registry=self.registry
        )

    def record(self, request: RequestRecord, attempts: Sequence[AttemptRecord]) -> None:
        self._waiting.append((request, attempts))
        if len(self._waiting) >= FOLD_AT:
            self._fold()

    def render(self) -> bytes:
        """The exposition format's text."""
        self._fold()
        return generate_latest(self.registry)

    def _fold(self) -> None:
        while self._waiting:
            request, attempts = self._waiting.popleft()
            model = request.model or "none"
            self._requests.labels(request.dialect, model, str(request.status)).inc()
            self._latency.labels(model).observe(request.latency_ms / 1000)
            if request.ttft_ms is not None:
                self._first_token.labels(model).observe(request.ttft_ms / 1000)
            for attempt in attempts:
                self._attempts.labels(attempt.provider, attempt.model, attempt.outcome).inc()
                for bucket, tokens in (
                    ("input", attempt.input_tokens),
                    ("cache_read", attempt.cache_read_tokens),
                    ("cache_write", attempt.cache_write_tokens),
                    ("output", attempt.output_tokens),
                ):
                    if tokens:
                        self._tokens.labels(attempt.model, bucket).inc(tokens)
                if attempt.cost_nanousd:
                    self._cost.labels(attempt.model).inc(to_usd(attempt.cost_nanousd))
            if request.cost_nanousd is None:
                self._unpriced.labels(model).inc()


class Recorders:
    """Hands every record to each of several recorders."""

    def __init__(self, *recorders: "Metrics | object") -> None:
        self._record = [recorder.record for recorder in recorders]  # type: ignore[union-attr]

    def record(self, request: RequestRecord, attempts: Sequence[AttemptRecord]) -> None:
        for record in self._record:
            record(request, attempts)
