"""What the gateway adds to an answer in a dialect of another's: the `llmwise` object, which their clients ignore."""

from typing import Any

from msgspec.json import Encoder

from llmwise.api.http import Headers
from llmwise.domain.money import NANO_PER_USD, to_usd
from llmwise.orchestration.settlement import Ledger

_encode = Encoder().encode


def with_account(body: bytes, ledger: Ledger) -> bytes:
    """A provider's JSON object as it came, with the `llmwise` object in it."""
    return body.rstrip()[:-1] + b',"llmwise":' + _encode(account(ledger)) + b"}"


def account(ledger: Ledger) -> dict[str, Any]:
    """Who answered, at what cost, by which way, with what lost. Only for a request that has ended."""
    record = ledger.record
    assert record is not None
    fields: dict[str, Any] = {
        "request_id": record.id,
        "provider": record.provider,
        "model": record.model,
        "cost_usd": None if record.cost_nanousd is None else to_usd(record.cost_nanousd),
    }
    if record.usage_estimated:
        fields["usage_estimated"] = True
    if ledger.plan.chain:
        fields["route"] = ledger.steps + [step for branch in ledger.branches for step in branch.steps]
    if ledger.plan.auto is not None:
        auto = ledger.plan.auto
        fields["auto"] = {"task_type": auto.task_type, "confidence": auto.confidence, "reasons": auto.reasons}
    if warnings := ledger.all_warnings():
        fields["warnings"] = warnings
    return fields


def answer_headers(ledger: Ledger) -> Headers:
    """The same in short, for those who see headers only; the names are in the documentation of the API.

    Before a stream's first byte it says what is known by then: the model that has begun to answer, and the steps and
    losses so far. The cost is known at the end, and so a whole answer's alone; without a price there is none.
    """
    record = ledger.record
    taken = [*ledger.steps, *(step for branch in ledger.branches for step in branch.steps)]
    answered = [step.model for step in taken if step.status == "success"]
    by_id = {planned.target.id: planned.target for planned in ledger.plan.attempts}
    target = by_id.get(answered[-1] if answered else "", ledger.plan.attempts[0].target)
    steps = [f"{step.model}={step.status}{f'({step.reason})' if step.reason else ''}" for step in taken]
    fields = {
        "x-llmwise-model": target.id,
        "x-llmwise-provider": target.provider,
        "x-llmwise-route": ",".join(steps) or target.id,
        "x-llmwise-warnings": str(len(ledger.all_warnings())),
    }
    if record is not None and record.cost_nanousd is not None:
        fields["x-llmwise-cost"] = f"{record.cost_nanousd / NANO_PER_USD:.9f}"
    return [(name.encode(), value.encode("ascii", "replace")) for name, value in fields.items()]
