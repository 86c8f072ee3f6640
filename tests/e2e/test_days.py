"""A provider that turns slow, dear, bad or broken in a simulated day: noticed, routed around, returned to. And a policy
on trial that is worse: given up by itself."""

import asyncio
from pathlib import Path

import pytest
from msgspec.json import decode, encode
from msgspec.structs import replace

from llmwise.api.native.suites import OwnedRun
from llmwise.api.rounds import Rounds
from llmwise.insights import control as controls
from llmwise.insights.alerts import Alert
from llmwise.insights.policy import Policy, TaskPolicy
from llmwise.insights.settings import AlertSettings, QualitySettings
from llmwise.insights.suites import Result, Run
from llmwise.storage.insights import Document, Signal
from llmwise.storage.keeper import RetentionSettings

from .days import Behaviour, World, world

HOUR = 60
EPISODES = {
    "latency": (5 * HOUR, 7 * HOUR, Behaviour(latency_ms=3200)),
    "cost": (10 * HOUR, 12 * HOUR, Behaviour(cost_nanousd=100_000)),
    "quality": (14 * HOUR, 16 * HOUR, Behaviour(right=0.4)),
    "errors": (18 * HOUR, 20 * HOUR, Behaviour(answers=0.5)),
}
NOTICED_MINUTES = 12
BACK_MINUTES = 220
A_MINUTE = 6
STEP_MINUTES = 3
"""Between two rounds: in life it is a quarter of one."""


def truth(model: str, minute: int) -> Behaviour:
    for since, until, ill in EPISODES.values():
        if model == "alpha" and since <= minute < until:
            return ill
    return Behaviour()


def policy(version: str, primary: str) -> Policy:
    task = TaskPolicy("code", True, primary, primary, ("gamma",), 500, 500.0, (), ())
    return Policy(version, "balanced", 0, 0.02, 0.95, {"code": task})


async def put_in_force(one: World, version: str, primary: str, guard_days: float = 0.0) -> None:
    body = encode(policy(version, primary)).decode()
    now_ms = one.clock.unix_ms()
    await one.services.store.put_document(Document("policy", version, now_ms, now_ms, body))
    change = lambda control: controls.adopt(control, "balanced", version, now_ms, guard_days=guard_days)  # noqa: E731
    await one.services.steering.change(change, one.services.planner.settings, now_ms)


@pytest.mark.timeout(180)
def test_a_provider_that_turns_slow_dear_bad_or_broken_is_routed_around_and_returned_to(tmp_path: Path) -> None:
    async def day() -> None:
        async with world(tmp_path, truth) as one:
            await put_in_force(one, "balanced-1", "alpha")
            for _ in range(24 * HOUR // STEP_MINUTES):
                await one.go_on(STEP_MINUTES, A_MINUTE)
            _, documents = await one.services.store.latest_documents("alert", 100)
            alerts = [decode(document.body, type=Alert) for document in documents]
            begin_ms = one.clock.now_ms - 24 * HOUR * 60_000
            told = {}
            for alert in alerts:
                assert (alert.model, alert.task_type) == ("alpha", "code"), alert
                assert alert.ended_at_ms is not None, alert
                told[alert.metric] = (
                    (alert.began_at_ms - begin_ms) // 60_000,
                    (alert.ended_at_ms - begin_ms) // 60_000,
                )
            assert len(alerts) == len(EPISODES), alerts
            for metric, (since, until, _) in EPISODES.items():
                began, ended = told[metric]  # type: ignore[index]  # a metric is a word
                assert since <= began <= since + NOTICED_MINUTES, (metric, told)
                assert until <= ended <= until + BACK_MINUTES, (metric, told)
                assert one.share("alpha", since - 60, since) == 1.0
                assert one.share("alpha", began + STEP_MINUTES, until) < 0.15, metric
                assert one.share("alpha", ended + STEP_MINUTES, min(ended + 60, 24 * HOUR)) == 1.0

    asyncio.run(day())


@pytest.mark.parametrize(
    ("right", "what", "adopted"), [(0.6, "given_up", "balanced-1"), (0.97, "adopted", "balanced-2")]
)
def test_a_canary_ends_by_itself(right: float, what: str, adopted: str, tmp_path: Path) -> None:
    def truth(model: str, minute: int) -> Behaviour:
        return Behaviour(right=right, answers=right) if model == "beta" else Behaviour()

    async def trial() -> None:
        async with world(tmp_path, truth) as one:
            one.rounds.alerts = type(one.rounds.alerts)(avoid=False)
            await put_in_force(one, "balanced-1", "alpha")
            store, now_ms = one.services.store, one.clock.unix_ms()
            body = encode(policy("balanced-2", "beta")).decode()
            await store.put_document(Document("policy", "balanced-2", now_ms, now_ms, body))
            state = controls.TrialState("balanced-2", "balanced", "canary", 0.5, 0.1, True, now_ms)
            auto = one.services.planner.settings
            await one.services.steering.change(lambda control: controls.begin(control, state), auto, now_ms)
            for _ in range(60):
                await one.go_on(1, 40)
                if one.services.steering.control.trial is None:
                    break
            control = one.services.steering.control
            assert control.trial is None
            assert control.adopted == {"balanced": adopted}
            _, events = await store.latest_documents("event", 1)
            assert decode(events[0].body)["what"] == what
            asked = {one.plan(f"t{number}").attempts[0].target.id for number in range(30)}
            assert asked == {"beta" if what == "adopted" else "alpha"}

    asyncio.run(trial())


@pytest.mark.parametrize(("right", "events"), [(0.6, ["given_back"]), (0.97, ["kept"])])
def test_an_adopted_policy_under_guard_is_given_back_when_it_turns_out_worse(
    right: float, events: list[str], tmp_path: Path
) -> None:
    """Nobody tried it before, and it is found out while a tenth of the conversations stays with the one before."""

    def truth(model: str, minute: int) -> Behaviour:
        return Behaviour(right=right, answers=right) if model == "beta" else Behaviour()

    async def week() -> None:
        async with world(tmp_path, truth) as one:
            one.rounds.alerts = type(one.rounds.alerts)(avoid=False)
            await put_in_force(one, "balanced-1", "alpha")
            await put_in_force(one, "balanced-2", "beta", guard_days=25 / (24 * HOUR))
            held = {one.plan(f"t{number}").attempts[0].target.id for number in range(60)}
            assert held == {"alpha", "beta"}
            for _ in range(26):
                await one.go_on(1, 40)
                if one.services.steering.control.guard is None:
                    break
            control = one.services.steering.control
            assert control.guard is None
            assert control.adopted == {"balanced": "balanced-2" if events == ["kept"] else "balanced-1"}
            _, documents = await one.services.store.latest_documents("event", 9)
            assert [decode(event.body)["what"] for event in documents] == events
            asked = {one.plan(f"t{number}").attempts[0].target.id for number in range(30)}
            assert asked == {"beta" if events == ["kept"] else "alpha"}
            assert 0.8 < one.share("beta", 0, 10) < 0.97

    asyncio.run(week())


def test_what_is_said_of_answers_later_is_noticed_too(tmp_path: Path) -> None:
    """The answers look as ever; only users, an hour later, say that they are no good any more."""

    async def days() -> None:
        async with world(tmp_path, lambda model, minute: Behaviour(answers=1.0, right=1.0)) as one:
            await put_in_force(one, "balanced-1", "alpha")
            store = one.services.store
            for hour in range(6):
                began_ms = one.clock.now_ms
                for _ in range(4):
                    await one.go_on(15, 2)
                settled = await store.settled_between(began_ms, one.clock.now_ms, 1000)
                told = [s for s in settled if s.request.model == "alpha"]
                one.clock.now_ms += HOUR * 60_000  # nobody asks, and then they say what they think
                value = 1.0 if hour < 4 else 0.0
                await store.add_signals(
                    [
                        Signal(f"fb_{one_.request.id}", one_.request.id, one.clock.now_ms, "user", "thumbs", value)
                        for one_ in told
                    ]
                )
                await one.rounds.round()
                one.minute += HOUR
                _, documents = await store.latest_documents("alert", 9)
                alerts = [decode(document.body, type=Alert) for document in documents]
                assert [(a.metric, a.model) for a in alerts] == ([] if hour < 4 else [("quality", "alpha")])
                assert hour != 4 or alerts[0].began_at_ms == one.clock.now_ms, "when it was said"

    asyncio.run(days())


def test_the_texts_of_old_test_runs_are_forgotten_by_their_age(tmp_path: Path) -> None:
    result = Result("1", "alpha", True, (), "req_1", None, 5, 9, "a text")
    run = Run("run_1", "ste_1", "s", 1, None, 0, 0, "passed", (), (result,), 5)

    async def kept() -> None:
        async with world(tmp_path, lambda model, minute: Behaviour()) as one:
            store, now_ms = one.services.store, one.clock.unix_ms()
            for id, at in (("old", now_ms - 3 * 86_400_000), ("new", now_ms - 86_400_000)):
                body = encode(OwnedRun("acct", replace(run, id=id))).decode()
                await store.put_document(Document("run", id, at, at, body))
            one.services = replace(one.services, retention=RetentionSettings(keep_text_days=2))
            rounds = Rounds(lambda: one.services, "test", AlertSettings(), QualitySettings())
            await rounds.forget()
            _, documents = await store.latest_documents("run", 9)
            answers = [decode(document.body, type=OwnedRun).run.results[0].answer for document in documents]
            assert answers == ["a text", None]

    asyncio.run(kept())
