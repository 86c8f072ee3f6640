"""What the gateway adds to an answer in a dialect of another's: the `llmwise` object, which their clients ignore."""

from typing import Any

from msgspec.json import Encoder

from llmwise.api.http import Headers
from llmwise.domain.events import Routed
from llmwise.domain.money import NANO_PER_USD, to_usd
from llmwise.orchestration.settlement import Ledger

_encode = Encoder().encode


def with_account(body: bytes, ledger: Ledger) -> bytes:
    """A provider's JSON object as it came, with the `llmwise` object in it."""
    return body.rstrip()[:-1] + b',"llmwise":' + _encode(account(ledger)) + b"}"


def model_of(ledger: Ledger) -> str:
    """The model that an answer names: the one that answered. A composed model is named as it was asked, as its stream
    is, which begins before it is known who writes; `account` says who wrote."""
    plan, final = ledger.plan, ledger.final
    return plan.attempts[0].target.id if plan.composed or final is None else final.model


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
    record, plan = ledger.record, ledger.plan
    steps = ledger.steps
    if ledger.branches:
        steps = steps + [step for branch in ledger.branches for step in branch.steps]
    target = plan.attempts[0].target
    for step in reversed(steps):
        if step.status == "success":
            target = next((each.target for each in plan.attempts if each.target.id == step.model), target)
            break
    headers = [
        (b"x-llmwise-model", target.id.encode("ascii", "replace")),
        (b"x-llmwise-provider", target.provider.encode("ascii", "replace")),
        (b"x-llmwise-route", ",".join(map(_step, steps)).encode("ascii", "replace") or target.id.encode()),
        (b"x-llmwise-warnings", b"%d" % len(ledger.all_warnings())),
    ]
    if record is not None and record.cost_nanousd is not None:
        headers.append((b"x-llmwise-cost", b"%.9f" % (record.cost_nanousd / NANO_PER_USD)))
    return headers


def _step(step: Routed) -> str:
    return f"{step.model}={step.status}" + (f"({step.reason})" if step.reason else "")
