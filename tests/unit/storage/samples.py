"""Records to store, whole by default, and a clock that tests move."""

from typing import Any

from msgspec.structs import replace

from llmwise.domain.ids import attempt_id, request_id
from llmwise.domain.records import AttemptRecord, RequestRecord

NOW_MS = 1_795_000_000_000

_REQUEST = RequestRecord(
    id="",
    key_id="key_a",
    created_at_ms=NOW_MS,
    mode="chat",
    dialect="openai",
    stream=True,
    requested_model="auto",
    model="gpt-5.2",
    provider="openai",
    status=200,
    code=None,
    finish_reason="stop",
    attempts=1,
    latency_ms=812,
    ttft_ms=211,
    input_tokens=1200,
    cache_read_tokens=400,
    cache_write_tokens=0,
    output_tokens=300,
    reasoning_tokens=100,
    usage_estimated=False,
    cost_nanousd=123_456,
    task_type="code",
    confidence=0.8,
    auto_strategy="heuristic_routing",
    goal="balanced",
    conversation_id=None,
    route="[]",
    warnings=None,
    prompt="Why is the sky blue?",
    answer="Because 50% of it is_blue.",
)

_ATTEMPT = AttemptRecord(
    id="",
    request_id="",
    number=0,
    model="gpt-5.2",
    provider="openai",
    sent_model="gpt-5.2",
    answered_model="gpt-5.2-2026-01-01",
    outcome="complete",
    code=None,
    upstream_status=200,
    started_at_ms=NOW_MS,
    latency_ms=800,
    ttft_ms=211,
    input_tokens=1200,
    cache_read_tokens=400,
    cache_write_tokens=0,
    output_tokens=300,
    reasoning_tokens=100,
    usage_estimated=False,
    cost_nanousd=123_456,
    finish_reason="stop",
)


def request(number: int, **changes: Any) -> RequestRecord:
    """The `number`-th request, one millisecond after the one before."""
    identity = request_id(NOW_MS + number, abs(number))
    return replace(_REQUEST, **{"id": identity, "created_at_ms": NOW_MS + number, **changes})


def attempt(of: RequestRecord, number: int = 0, **changes: Any) -> AttemptRecord:
    identity = attempt_id(of.id, number)  # type: ignore[arg-type]  # the record holds plain text
    return replace(_ATTEMPT, **{"id": identity, "request_id": of.id, "number": number, **changes})


class ManualClock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def unix_ms(self) -> int:
        return NOW_MS + int(self.now_s * 1000)
