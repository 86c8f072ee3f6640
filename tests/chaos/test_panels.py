"""Several models on one question, and faults: each fault × one source, all of them, the judge × streamed and whole,
for compare, blend and judge. What is left is answered, what fails is told and not paid for, there is one end, and
nothing goes on behind it."""

import asyncio
import json
from typing import Any

import pytest

from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import AnyRule

from .gateways import Served, asked, events_of, until

pytestmark = pytest.mark.anyio

MODELS = ["openai-1", "anthropic-1", "gemini-1"]
JUDGE = "gemini-2"
SCORES = [{"answer": label, "reasoning": "Hm.", "score": score} for label, score in (("A", 8), ("B", 4))]
DIFFERENT = [faults.Normal(model=name, text=f"{name} says so") for name in MODELS]  # else there is nothing to judge
VERDICT = faults.Normal(model=JUDGE, text=json.dumps({"scores": SCORES, "overall": "A."}))
BODIES: dict[str, dict[str, Any]] = {
    "compare": {"models": MODELS},
    "blend": {"models": MODELS, "synthesizer": JUDGE},
    "judge": {"contestants": MODELS, "judge": JUDGE},
}
FAULTS: list[type[AnyRule]] = [faults.Refuse, faults.Status, faults.Stall, faults.Hang, faults.Cut]

both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
every_panel = pytest.mark.parametrize("panel", sorted(BODIES))
every_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.__name__))


def of(fault: type[AnyRule], model: str) -> AnyRule:
    """It strikes amid the answer where it can."""
    if fault is faults.Status:
        return faults.Status(model=model, status=503)
    return fault(model=model, after=1) if fault in (faults.Stall, faults.Cut) else fault(model=model)


class Told:
    """What the caller was told: the sources by their models, the error if that is the end, and the events between."""

    def __init__(self, panel: str, status: int, content: bytes, *, stream: bool) -> None:
        self.events = events_of(content) if stream and status == 200 else []  # which has exactly one [DONE], at its end
        self.error: dict[str, Any] | None = None
        self.sources: dict[str, dict[str, Any]] = {}
        if self.events:
            ends = [event for event in self.events if event.get("event") in ("done", "error")]
            assert ends == self.events[-1:], "one terminal event, and it is the last"
            self.error = ends[0] if ends[0]["event"] == "error" else None
            for event in self.events:
                if (event.get("event") == "source" and event["status"] != "started") or (
                    panel != "blend" and event.get("done")
                ):
                    self.sources[event["model"]] = event
        else:
            answer = json.loads(content)
            self.error = answer if status >= 400 else None
            for name in ("responses", "sources", "contestants"):
                self.sources |= {one["model"]: one for one in answer.get(name, ())}

    @property
    def failed(self) -> set[str]:
        return {model for model, one in self.sources.items() if "error" in one}


async def ask(served: Served, panel: str, *, stream: bool) -> tuple[Told, dict[str, Any]]:
    """What was told, and the record of it, once nothing goes on any more."""
    body = asked("", stream=stream) | BODIES[panel]
    del body["model"]
    response = await served.client.post(f"/api/v1/{panel}", json=body)
    told = Told(panel, response.status_code, response.content, stream=stream)
    await until(lambda: not any(server.in_flight for server in served.servers))
    await until(lambda: served.in_flight == 0)
    names = [task.get_name() for task in asyncio.all_tasks()]
    assert "panel" not in names
    assert not any("_drive" in str(task.get_coro()) for task in asyncio.all_tasks())
    return told, await served.settled_request(response.headers["x-request-id"])


@every_panel
@every_fault
@both
async def test_a_source_that_fails_leaves_the_others_their_answer(
    panel: str, fault: type[AnyRule], stream: bool, hasty: Served
) -> None:
    hasty.play(of(fault, MODELS[0]), *DIFFERENT[1:], VERDICT)
    told, record = await ask(hasty, panel, stream=stream)
    assert told.error is None
    assert (told.failed, set(told.sources)) == ({MODELS[0]}, set(MODELS))
    assert told.sources[MODELS[0]]["status_code"] >= 500
    assert record["status_code"] == 200
    paid = {attempt["model"]: attempt["paid_by"] for attempt in record["attempt_list"]}
    assert paid.pop(MODELS[0]) != "caller"
    assert set(paid.values()) == {"caller"}


@every_panel
@every_fault
@both
async def test_if_all_fail_it_is_an_error_and_costs_nothing(
    panel: str, fault: type[AnyRule], stream: bool, hasty: Served
) -> None:
    hasty.play(of(fault, "*-1"), VERDICT)
    told, record = await ask(hasty, panel, stream=stream)
    assert told.error is not None
    assert (told.error["code"], told.error["refunded"], set(told.error["failures"])) == (
        "all_failed",
        True,
        set(MODELS),
    )
    assert (record["code"], record["credits_charged"]) == ("all_failed", 0)
    assert not any(attempt["model"] == JUDGE or attempt["paid_by"] == "caller" for attempt in record["attempt_list"])


@every_fault
@both
async def test_a_judge_that_fails_leaves_the_answers(fault: type[AnyRule], stream: bool, hasty: Served) -> None:
    hasty.play(*DIFFERENT, of(fault, JUDGE))
    told, record = await ask(hasty, "judge", stream=stream)
    check_unjudged(told, record)


@both
async def test_a_judge_without_sense_leaves_the_answers(stream: bool, hasty: Served) -> None:
    hasty.play(*DIFFERENT, faults.Normal(model=JUDGE, text="I like them all!"))
    told, record = await ask(hasty, "judge", stream=stream)
    check_unjudged(told, record)
    assert told.error is not None
    assert told.error["code"] == "judge_invalid"
    assert sum(attempt["model"] == JUDGE for attempt in record["attempt_list"]) == 2 * len(MODELS), "each order twice"


def check_unjudged(told: Told, record: dict[str, Any]) -> None:
    assert told.error is not None
    kept = {one["model"]: one["content"] for one in told.error["contestants"]}
    assert kept == {model: f"{model} says so" for model in MODELS}
    assert (told.error["refunded"], record["code"]) == (False, told.error["code"])
    assert record["credits_charged"] > 0


@both
@every_fault
async def test_a_writer_that_fails_has_a_stand_in_or_ends_the_stream(
    fault: type[AnyRule], stream: bool, hasty: Served
) -> None:
    """Before its first word another one writes; after it the caller holds half an answer."""
    hasty.play(*DIFFERENT, of(fault, JUDGE))
    told, record = await ask(hasty, "blend", stream=stream)
    if stream and fault in (faults.Stall, faults.Cut):
        assert told.error is not None
        assert (told.error["refunded"], record["code"]) == (False, told.error["code"])
    else:
        assert told.error is None
        assert "stand_in" in json.dumps(record["warnings"])
