"""A comparison's account: one record with every model's attempts, who did best, and what a total failure says."""

import asyncio
from contextlib import aclosing
from functools import partial
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
from llmwise.domain.models import Rate
from llmwise.orchestration.bounds import Bounds, all_failed
from llmwise.orchestration.compare import Best, Comparison
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.orchestration.fanout import WAITING
from llmwise.orchestration.handling import Handling
from llmwise.orchestration.panel import piped
from llmwise.orchestration.settlement import MAX_KEPT_CHARS
from llmwise.providers.scripted import script as faults
from llmwise.providers.scripted.script import AnyRule, Settings, Usage

from .engines import ANSWER, until
from .panels import Endless, Panels, nothing_runs

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(20)]

CHEAP = Rate(input=1, output=1)


async def play(*rules: AnyRule, **options: Any) -> tuple[Panels, Comparison]:
    panels = Panels(*rules)
    run = panels.comparison(**options)
    assert await panels.play_out(run) is None
    return panels, run


async def test_one_record_holds_all_attempts_numbered_through() -> None:
    usage = Usage(input=10, output=5)
    panels, run = await play(faults.Cut(model="a", after=1), faults.Normal(usage=usage))
    ((record, attempts),) = panels.kept.settled
    assert record is run.account.record
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
    panels, run = await play(rates={"b": None, "c": CHEAP})
    ((record, _),) = panels.kept.settled
    assert record.cost_nanousd is None
    assert run.best().cheapest == "c", "among those with a price"


async def test_the_best_are_of_those_that_answered() -> None:
    rules: list[AnyRule] = [
        faults.Status(model="a", status=503),
        faults.Normal(model="b", usage=Usage(output=7)),
        faults.Normal(model="c", usage=Usage(output=9)),
    ]
    _, run = await play(*rules, rates={"a": CHEAP})
    assert run.best() == Best(fastest="b", longest="c", cheapest="b")


async def test_warnings_name_their_model() -> None:
    panels = Panels()
    run = panels.comparison()
    run.account.warnings.append(Warned("not_built", "semantic_memory", "later"))
    async with aclosing(piped(partial(run.run, panels.mesh))) as items:
        await anext(items)
        run.account.branches[1].warnings.append(Warned("dropped", "seed", "it takes none"))
        _ = [item async for item in items]
    kept = msgspec.json.decode(panels.record.warnings or "", type=list[Warned])
    assert [warned.message for warned in kept] == ["later", "b: it takes none"]


async def test_no_text_is_kept_where_none_may_be() -> None:
    panels = Panels()
    run = panels.comparison()
    run.account.handling = Handling(keep_text=False)
    await panels.play_out(run)
    assert (panels.record.prompt, panels.record.answer) == (None, None)


async def test_what_is_kept_of_the_answers_has_a_bound_and_all_have_a_part() -> None:
    panels = Panels(settings=Settings(text="x" * MAX_KEPT_CHARS))
    await panels.play_out(panels.comparison())
    answer = panels.record.answer or ""
    assert len(answer) <= MAX_KEPT_CHARS
    assert all(f"## {name}\n\nx" in answer for name in "abc")


async def test_if_all_fail_it_ends_with_an_error_and_the_record_has_it() -> None:
    panels = Panels(faults.Status(model="a", status=500), faults.HangFirstEvent())
    run = panels.comparison(refused={"c": UnsupportedInput("it is blind")})
    error = await panels.play_out(run)
    assert error is not None
    assert (error.code, error.status) == ("all_failed", 400)
    assert {model: told["code"] for model, told in error.details["failures"].items()} == {
        "a": "upstream_error",
        "b": "upstream_timeout",
        "c": "unsupported_input",
    }
    ((record, attempts),) = panels.kept.settled
    assert (record.status, record.code, record.cost_nanousd) == (400, "all_failed", 0)
    assert [attempt.model for attempt in attempts] == ["a", "b"]
    assert run.best() == Best(None, None, None)


@pytest.mark.parametrize("min_sources", [2, 3])
async def test_an_answer_without_text_is_a_failure(min_sources: int) -> None:
    panels = Panels(replies={"a": " \n"})
    run = panels.comparison(bounds=Bounds(min_sources=min_sources))
    error = await panels.play_out(run)
    assert [one.error.code if one.error else None for one in run.said] == ["empty_answer", None, None]
    assert "a" not in (run.best().fastest or "")
    if min_sources == 2:
        assert error is None
    else:
        assert error is not None
        assert (error.code, set(error.details["failures"])) == ("too_few_sources", {"a"})


async def test_a_caller_that_leaves_is_written_down_once() -> None:
    panels = Panels(faults.Hang())
    reader = asyncio.create_task(panels.play_out(panels.comparison()))
    await until(lambda: len(panels.reached) == 3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    ((record, attempts),) = panels.kept.settled
    assert (record.status, record.code) == (499, "client_gone")
    assert [attempt.outcome for attempt in attempts] == ["client_gone"] * 3
    assert nothing_runs()


async def test_while_nobody_reads_no_more_is_read_than_the_queues_hold() -> None:
    """So memory is bounded by them and the sockets' buffers, however much nine models have to say."""
    endless = Endless()
    panels = Panels(providers=dict.fromkeys("abcdefghi", endless), timeouts=TimeoutSettings())
    async with aclosing(piped(partial(panels.comparison("abcdefghi").run, panels.mesh))) as items:
        for given in range(1, 400):
            await anext(items)
            if given % 100 == 0:  # now nobody reads
                for _ in range(2000):
                    await asyncio.sleep(0)
                assert endless.read - given <= 2 * WAITING + 9 + 1, "two queues, and one batch in each source's hands"
    assert nothing_runs()


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
