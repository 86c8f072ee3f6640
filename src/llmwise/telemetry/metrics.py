"""Prometheus metrics, made from the records of settled requests: the hot path appends, a scrape does the sums."""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from llmwise.domain.money import to_usd
from llmwise.domain.ports import Recorder
from llmwise.domain.records import Admission, AttemptRecord, LedgerEntry, RequestRecord

LATENCY_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
FIRST_TOKEN_BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
FOLD_AT = 256
"""Records waiting for a scrape; with this many, which hold texts, they are summed up without one."""


class Histogram:
    """Counts by bucket and label; a bucket's bound belongs to it. Seconds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts: dict[str, list[int]] = {}
        self.sums: Counter[str] = Counter()

    def observe(self, label: str, seconds: float) -> None:
        counts = self.counts.get(label)
        if counts is None:
            counts = self.counts[label] = [0] * (len(self.bounds) + 1)
        counts[bisect_left(self.bounds, seconds)] += 1
        self.sums[label] += seconds  # type: ignore[assignment]  # a Counter adds floats as well

    def family(self, name: str, text: str) -> Metric:
        family = HistogramMetricFamily(name, text, labels=["model"])
        for label, counts in self.counts.items():
            total, buckets = 0, []
            for bound, count in zip((*map(str, self.bounds), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric([label], buckets, self.sums[label])
        return family


class Metrics(Collector):
    """A recorder. Labels are the catalog's models and stable words only, so that their number is bounded."""

    def __init__(self) -> None:
        self.circuits_open: Mapping[str, bool] = {}
        self.records_waiting = 0
        self.records_lost = 0
        self.state_away = False
        self.budget_refusals: Counter[tuple[str, ...]] = Counter()
        self.budget_warnings: Counter[tuple[str, ...]] = Counter()
        self.warned: set[str] = set()
        """The soft budgets that the log has been told of, by period."""
        self._waiting: deque[tuple[RequestRecord, Sequence[AttemptRecord]]] = deque()
        self._requests: Counter[tuple[str, ...]] = Counter()
        self._attempts: Counter[tuple[str, ...]] = Counter()
        self._tokens: Counter[tuple[str, ...]] = Counter()
        self._cost_nanousd: Counter[tuple[str, ...]] = Counter()
        self._unpriced: Counter[tuple[str, ...]] = Counter()
        self._latency = Histogram(LATENCY_BUCKETS_S)
        self._first_token = Histogram(FIRST_TOKEN_BUCKETS_S)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def admit(self, admission: Admission) -> None:
        """Only what has ended is counted."""

    def record(
        self, request: RequestRecord, attempts: Sequence[AttemptRecord], entries: Sequence[LedgerEntry] = ()
    ) -> None:
        self._waiting.append((request, attempts))
        if len(self._waiting) >= FOLD_AT:
            self._fold()

    def render(self) -> bytes:
        """The exposition format's text."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        self._fold()
        yield _counter("requests", "Requests settled.", ("dialect", "model", "status"), self._requests.items())
        yield _counter("attempts", "Attempts settled.", ("provider", "model", "outcome"), self._attempts.items())
        yield _counter("tokens", "Tokens, in disjoint buckets.", ("model", "bucket"), self._tokens.items())
        costs = [(labels, to_usd(cost)) for labels, cost in self._cost_nanousd.items()]
        yield _counter("cost_usd", "Cost of the models whose price is known, USD.", ("model",), costs)
        yield _counter("unpriced_requests", "Requests whose cost is not known.", ("model",), self._unpriced.items())
        yield self._latency.family("llmwise_request_duration_seconds", "From a request's arrival to its last byte.")
        yield self._first_token.family("llmwise_first_token_seconds", "From a request's arrival to its first content.")
        circuits = GaugeMetricFamily("llmwise_circuit_open", "1 while a target is left alone.", labels=["model"])
        for model, is_open in self.circuits_open.items():
            circuits.add_metric([model], float(is_open))
        yield circuits
        text = "Settled requests that are not in the database yet."
        yield GaugeMetricFamily("llmwise_records_waiting", text, value=self.records_waiting)
        text = "Settled requests that no database will ever hold: neither disk nor memory had room."
        yield CounterMetricFamily("llmwise_records_lost", text, value=self.records_lost)
        text = "1 while the shared state does not answer and limits are this process's own."
        yield GaugeMetricFamily("llmwise_state_away", text, value=float(self.state_away))
        refused, warned = self.budget_refusals.items(), self.budget_warnings.items()
        yield _counter("budget_refusals", "Requests refused by a hard budget.", ("owner", "period"), refused)
        yield _counter("budget_warnings", "Requests let in over a soft budget.", ("owner", "period"), warned)

    def _fold(self) -> None:
        while self._waiting:
            request, attempts = self._waiting.popleft()
            model = request.model or "none"
            self._requests[request.dialect, model, str(request.status)] += 1
            self._latency.observe(model, request.latency_ms / 1000)
            if request.ttft_ms is not None:
                self._first_token.observe(model, request.ttft_ms / 1000)
            if request.cost_nanousd is None:
                self._unpriced[(model,)] += 1
            for attempt in attempts:
                name = attempt.model
                self._attempts[attempt.provider, name, attempt.outcome] += 1
                self._tokens[name, "input"] += attempt.input_tokens
                self._tokens[name, "output"] += attempt.output_tokens
                if attempt.cache_read_tokens or attempt.cache_write_tokens:
                    self._tokens[name, "cache_read"] += attempt.cache_read_tokens
                    self._tokens[name, "cache_write"] += attempt.cache_write_tokens
                if attempt.cost_nanousd is not None:
                    self._cost_nanousd[(name,)] += attempt.cost_nanousd


def _counter(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"llmwise_{name}", text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family


class Recorders:
    """Hands every record to two recorders."""

    def __init__(self, first: Recorder, second: Recorder) -> None:
        self._admitters = (first.admit, second.admit)
        self._first = first.record
        self._second = second.record

    def admit(self, admission: Admission) -> None:
        for admit in self._admitters:
            admit(admission)

    def record(
        self, request: RequestRecord, attempts: Sequence[AttemptRecord], entries: Sequence[LedgerEntry] = ()
    ) -> None:
        self._first(request, attempts, entries)
        self._second(request, attempts, entries)
