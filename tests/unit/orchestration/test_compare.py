"""A comparison's account: one record with every model's attempts, who did best, and what a total failure says."""

import asyncio
from typing import Any

import msgspec
import pytest

from llmwise.domain.errors import (
    CircuitOpen,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    UnsupportedInput,
    UpstreamRateLimited,
    UpstreamServerError,
    UpstreamTimeout,
)
from llmwise.domain.events import Warned
from llmwise.domain.ids import RequestId
from llmwise.domain.messages import Message, Text
from llmwise.domain.models import ModelCard, Rate
from llmwise.domain.plan import Plan, PlannedAttempt
from llmwise.domain.requests import ChatRequest
from llmwise.orchestration.compare import Best, Comparison, Contender
from llmwise.orchestration.handling import Handling
from llmwise.orchestration.panel import all_failed
from llmwise.orchestration.settlement import MAX_KEPT_CHARS
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import AnyRule, Settings, Usage

from .engines import ANSWER, PRICE, Engine, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(20)]

CHEAP = Rate(input=1, output=1)


def comparison(
    engine: Engine,
    rates: list[Rate | None] | None = None,
    refused: dict[str, GatewayError] | None = None,
    *,
    keep_text: bool = True,
) -> Comparison:
    plans = [
        Plan((PlannedAttempt(ModelCard(name, name, name, rate=rate), "requested"),))
        for name, rate in zip("abc", rates or [PRICE] * 3, strict=True)
    ]
    return Comparison(
        [Contender(plan, (refused or {}).get(name)) for name, plan in zip("abc", plans, strict=True)],
        id=RequestId("req_1"),
        key_id="key_test",
        request=ChatRequest("a", (Message("user", (Text("What is up?"),)),), stream=True),
        dialect="native",
        rate_of=lambda card, unix_ms: card.rate,
        clock=engine.clock,
        recorder=engine.kept,
        handling=Handling(keep_text),
    )


async def play(*rules: AnyRule, **options: Any) -> tuple[Engine, Comparison]:
    engine = Engine(rules)
    run = comparison(engine, **options)
    async with run.run(engine.mesh) as items:
        async for _ in items:
            pass
    return engine, run


async def test_one_record_holds_all_attempts_numbered_through() -> None:
    usage = Usage(input=10, output=5)
    engine, run = await play(faults.Cut(model="a", after=1), faults.Normal(usage=usage))
    ((record, attempts),) = engine.kept.settled
    assert record is run.record
    assert [(attempt.id, attempt.number, attempt.model) for attempt in attempts] == [
        ("req_1.0", 0, "a"),
        ("req_1.1", 1, "b"),
        ("req_1.2", 2, "c"),
    ]
    assert {attempt.request_id for attempt in attempts} == {"req_1"}
    assert (record.mode, record.status, record.requested_model) == ("compare", 200, "a, b, c")
    assert record.attempts == 3
    assert (record.model, record.provider, record.finish_reason) == (None, None, None)
    assert record.input_tokens == sum(attempt.input_tokens for attempt in attempts)
    assert record.cost_nanousd == sum(attempt.cost_nanousd or 0 for attempt in attempts)
    assert record.usage_estimated, "that of the answer that was cut"
    assert record.answer is not None
    assert f"## b\n\n{ANSWER}\n\n## c\n\n{ANSWER}" in record.answer


async def test_one_model_without_a_price_makes_the_sum_unknown() -> None:
    engine, run = await play(rates=[PRICE, None, CHEAP])
    ((record, _),) = engine.kept.settled
    assert record.cost_nanousd is None
    assert run.best().cheapest == "c", "among those with a price"


async def test_the_best_are_of_those_that_answered() -> None:
    rules: list[AnyRule] = [
        faults.Status(model="a", status=503),
        faults.Normal(model="b", usage=Usage(output=7)),
        faults.Normal(model="c", usage=Usage(output=9)),
    ]
    _, run = await play(*rules, rates=[CHEAP, PRICE, PRICE])
    assert run.best() == Best(fastest="b", longest="c", cheapest="b")


async def test_warnings_name_their_model() -> None:
    engine = Engine()
    run = comparison(engine)
    run.warnings.append(Warned("not_built", "semantic_memory", "later"))
    run.ledgers[1].warnings.append(Warned("dropped", "seed", "it takes none"))
    async with run.run(engine.mesh) as items:
        _ = [item async for item in items]
    ((record, _),) = engine.kept.settled
    kept = msgspec.json.decode(record.warnings or "", type=list[Warned])
    assert [warned.message for warned in kept] == ["later", "b: it takes none"]


async def test_no_text_is_kept_where_none_may_be() -> None:
    engine, _ = await play(keep_text=False)
    ((record, _),) = engine.kept.settled
    assert (record.prompt, record.answer) == (None, None)


async def test_what_is_kept_of_the_answers_has_a_bound_and_all_have_a_part() -> None:
    engine = Engine(settings=Settings(text="x" * MAX_KEPT_CHARS))
    run = comparison(engine)
    async with run.run(engine.mesh) as items:
        _ = [item async for item in items]
    assert run.record is not None
    answer = run.record.answer or ""
    assert len(answer) <= MAX_KEPT_CHARS
    assert all(f"## {name}\n\nx" in answer for name in "abc")


async def test_if_all_fail_the_items_end_with_an_error_and_the_record_has_it() -> None:
    engine = Engine([faults.Status(model="a", status=500), faults.HangFirstEvent()])
    run = comparison(engine, refused={"c": UnsupportedInput("it is blind")})
    with pytest.raises(GatewayError) as caught:
        async with run.run(engine.mesh) as items:
            _ = [item async for item in items]
    error = caught.value
    assert (error.code, error.status) == ("all_failed", 400)
    assert {model: told["code"] for model, told in error.details["failures"].items()} == {
        "a": "upstream_error",
        "b": "upstream_timeout",
        "c": "unsupported_input",
    }
    ((record, attempts),) = engine.kept.settled
    assert (record.status, record.code, record.cost_nanousd) == (400, "all_failed", 0)
    assert [attempt.model for attempt in attempts] == ["a", "b"]
    assert run.best() == Best(None, None, None)


async def test_a_caller_that_leaves_is_written_down_once() -> None:
    engine = Engine([faults.Hang()])
    run = comparison(engine)

    async def read() -> None:
        async with run.run(engine.mesh) as items:
            _ = [item async for item in items]

    reader = asyncio.create_task(read())
    await until(lambda: len(engine.reached) == 3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    ((record, attempts),) = engine.kept.settled
    assert (record.status, record.code) == (499, "client_gone")
    assert [attempt.outcome for attempt in attempts] == ["client_gone"] * 3


CIRCUIT = CircuitOpen("left alone", retry_after_s=9)
LATE = UpstreamTimeout("nothing came")
BROKEN = UpstreamServerError("it broke", upstream_status=500)
LIMITED = UpstreamRateLimited("slow down", upstream_status=429, retry_after_s=7)
BAD = InvalidRequest("bad", upstream_status=400)
OVER = DeadlineExceeded("too long")


@pytest.mark.parametrize(
    ("failures", "telling"),
    [
        ([CIRCUIT, LATE], LATE),
        ([LATE, BROKEN], BROKEN),
        ([BROKEN, LIMITED], BROKEN),
        ([LIMITED, BROKEN], LIMITED),
        ([LIMITED, BAD], BAD),
        ([CIRCUIT, OVER], OVER),
        ([CIRCUIT, CIRCUIT], CIRCUIT),
    ],
)
def test_a_total_failure_has_the_status_of_the_one_that_says_most(
    failures: list[GatewayError], telling: GatewayError
) -> None:
    error = all_failed(dict(zip("ab", failures, strict=True)))
    assert (error.status, error.code, error.reason) == (telling.status, "all_failed", telling.code)
    assert error.retry_after_s == telling.retry_after_s
    assert error.details["refunded"] is True
    assert all(failure.message in error.message for failure in failures)
