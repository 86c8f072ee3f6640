"""What the gateway adds to an answer in a dialect of another's: the `llmwise` object, which their clients ignore."""

from typing import Any

from llmwise.domain.money import to_usd
from llmwise.orchestration.settlement import Ledger


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
        fields["route"] = ledger.steps
    if ledger.plan.auto is not None:
        auto = ledger.plan.auto
        fields["auto"] = {"task_type": auto.task_type, "confidence": auto.confidence, "reasons": auto.reasons}
    if ledger.warnings:
        fields["warnings"] = ledger.warnings
    return fields
