"""From a request to a plan. What Auto makes of a class is `test_auto`'s matter."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest

from llmwise.catalog import load
from llmwise.catalog.lookup import Catalog
from llmwise.catalog.rows import CapabilitySettings, ModelSettings
from llmwise.domain.errors import Forbidden, Unavailable, UnknownModel, UnsupportedInput
from llmwise.domain.messages import Image, Message, Text
from llmwise.domain.plan import Plan
from llmwise.domain.requests import ChatRequest, EmbeddingRequest, ResponseFormat, Routing, Tool
from llmwise.routing.auto import AutoSettings
from llmwise.routing.chains import ChainSettings, chains_of
from llmwise.routing.health import Health
from llmwise.routing.planner import Planner, View


def entry(name: str, provider: str = "one", **fields: Any) -> ModelSettings:
    return ModelSettings(id=name, provider=provider, input_price=1, output_price=1, **fields)


ENTRIES = (
    entry("a", quality=0.9),
    entry("b", quality=0.9),
    entry("c", "two", quality=0.9),
    entry("blind", "two", capabilities=CapabilitySettings(tools=False, vision=False), quality=0.9, context_window=100),
    entry("seeing", "two", capabilities=CapabilitySettings(vision=True), quality=0.9),
)


def catalog_of(entries: Sequence[ModelSettings] = ENTRIES) -> Catalog:
    providers = {"one": "scripted", "two": "scripted"} if entries else {}
    return load(entries, providers, unix_ms=0)


def planner(**settings: Any) -> Planner:
    return Planner(catalog_of(), AutoSettings(**settings))


def view(
    health: Mapping[str, Health] | None = None,
    turn: Callable[[tuple[str, ...]], int] = lambda chain: 0,
    now: float = 0.0,
    allowed: Collection[str] | None = None,
) -> View:
    return View(health or {}, turn, now, allowed)


def asking(model: str, *parts: Any, **fields: Any) -> ChatRequest:
    return ChatRequest(model, (Message("user", parts or (Text("hi"),)),), **fields)


def names(plan: Any) -> list[str]:
    return [attempt.target.id for attempt in plan.attempts]


IMAGE = Image(url="https://x")


# --- one model ---


def test_a_named_model_is_the_plan() -> None:
    plan = planner().plan(asking("a"), view())
    assert (names(plan), plan.chain, plan.auto, plan.attempts[0].reason) == (["a"], False, None, "requested")


def test_the_plan_of_a_single_model_is_made_once() -> None:
    one = planner()
    assert one.plan(asking("a"), view()) is one.plan(asking("A"), view())


def test_an_unknown_name_is_refused_with_near_ones() -> None:
    with pytest.raises(UnknownModel, match=r"did you mean 'seeing'"):
        planner().plan(asking("seing"), view())


def test_a_named_model_that_can_t_take_the_request_refuses_it() -> None:
    for request, reason in (
        (asking("blind", IMAGE), "no_vision"),
        (asking("blind", tools=(Tool("f"),)), "no_tools"),
    ):
        with pytest.raises(UnsupportedInput, match="blind does not take") as caught:
            planner().plan(request, view())
        assert caught.value.reason == reason


def test_the_window_of_a_named_model_is_left_to_its_provider_to_judge() -> None:
    long = Text("word " * 1000)
    assert names(planner().plan(asking("blind", long), view())) == ["blind"]
    plan = planner().plan(asking("a", long, routing=Routing(("blind", "c"))), view())
    assert names(plan) == ["a", "c"]
    assert [(one.model, one.reason) for one in plan.dropped] == [("blind", "context_window")]


# --- a chain ---


def test_a_chain_is_the_named_model_and_its_fallbacks_each_once() -> None:
    plan = planner().plan(asking("a", routing=Routing(("c", "a", "C", "b"))), view())
    assert names(plan) == ["a", "c", "b"]
    assert plan.chain
    assert [attempt.reason for attempt in plan.attempts] == ["requested", *["fallback (rate-limit)"] * 2]


def test_a_chain_of_one_is_a_chain_still() -> None:
    plan = planner().plan(asking("a", routing=Routing()), view())
    assert (names(plan), plan.chain) == (["a"], True)


def test_an_unknown_fallback_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(UnknownModel):
        planner().plan(asking("a", routing=Routing(("nobody",))), view())


def test_what_can_t_take_the_request_is_left_out_with_its_reason() -> None:
    plan = planner().plan(asking("a", IMAGE, routing=Routing(("blind", "seeing"))), view())
    assert names(plan) == ["seeing"]
    assert [(one.model, one.reason) for one in plan.dropped] == [("a", "no_vision"), ("blind", "no_vision")]
    assert plan.attempts[0].reason == "fallback (rate-limit)"


def test_strategies_order_the_chain() -> None:
    def order(strategy: Any, **world: Any) -> list[str]:
        return names(planner().plan(asking("a", routing=Routing(("b", "c"), strategy)), view(**world)))

    assert order("rate-limit", health={"a": Health(limited_until=5.0)}, now=1.0) == ["b", "c", "a"]
    assert order("latency", health={"c": Health(ttft_ms=10.0), "a": Health(ttft_ms=20.0)}) == ["c", "a", "b"]
    assert order("round-robin", turn=lambda chain: 1) == ["b", "c", "a"]


def test_the_cheapest_comes_first_by_the_prices_of_the_catalog() -> None:
    dear = ModelSettings(id="dear", provider="one", input_price=9, output_price=9)
    unpriced = ModelSettings(id="unpriced", provider="one")
    one = Planner(catalog_of((unpriced, dear, entry("cheap"))), AutoSettings())
    assert names(one.plan(asking("unpriced", routing=Routing(("dear", "cheap"), "cost")), view())) == [
        "cheap",
        "dear",
        "unpriced",
    ]


def test_turns_are_counted_by_chain_and_only_for_round_robin() -> None:
    counted: list[tuple[str, ...]] = []

    def turn(chain: tuple[str, ...]) -> int:
        counted.append(chain)
        return len(counted)

    for strategy in ("rate-limit", "latency", "cost", "round-robin"):
        planner().plan(asking("a", routing=Routing(("b",), strategy)), view(turn=turn))
    assert counted == [("a", "b")]


# --- a key's list ---


def test_a_key_s_list_narrows_a_configured_chain() -> None:
    catalog = catalog_of()
    chains = chains_of({"safe": ChainSettings(["a", "b", "c"])}, catalog)
    chaining = Planner(catalog, AutoSettings(), chains)
    for request in (asking("safe"), asking("b", routing=Routing(("safe",)))):
        plan = chaining.plan(request, view(allowed={"b", "c"}))
        assert names(plan) == ["b", "c"]
        assert [(one.model, one.reason) for one in plan.dropped] == [("a", "not_allowed")]
    with pytest.raises(Forbidden, match="may not use a, b, c"):
        chaining.plan(asking("safe"), view(allowed={"seeing"}))


@pytest.mark.parametrize(
    "request_",
    [
        asking("a"),
        asking("a", routing=Routing(("b",))),
        asking("b", routing=Routing(("a",))),
        asking("auto", routing=Routing(("a",))),
        EmbeddingRequest("a", ("hi",), routing=Routing(("b",))),
    ],
    ids=["alone", "first", "fallback", "auto's fallback", "embedding"],
)
def test_a_model_that_a_request_names_must_be_on_the_key_s_list(request_: ChatRequest | EmbeddingRequest) -> None:
    kind = "embedding" if isinstance(request_, EmbeddingRequest) else "chat"
    planned = Planner(catalog_of([entry("a", kind=kind), entry("b", kind=kind)]), AutoSettings())
    ask: Callable[[Any, View], Plan] = planned.embedding if kind == "embedding" else planned.plan
    with pytest.raises(Forbidden, match="may not use a") as caught:
        ask(request_, view(allowed={"b"}))
    assert caught.value.code == "model_not_allowed"


def test_auto_s_own_fallbacks_must_be_able_too() -> None:
    request = asking("auto", IMAGE, routing=Routing(("blind", "seeing", "b")))
    plan = Planner(catalog_of(), AutoSettings(models=["seeing"])).plan(request, view())
    assert names(plan) == ["seeing"]
    assert [(one.model, one.reason) for one in plan.dropped] == [("blind", "no_vision"), ("b", "no_vision")]


def test_a_key_s_list_narrows_auto() -> None:
    plan = planner().plan(asking("auto"), view(allowed={"c"}))
    assert names(plan) == ["c"]
    with pytest.raises(Forbidden):
        planner().plan(asking("auto"), view(allowed=set()))


# --- auto ---


def test_auto_attaches_a_chain_and_spreads_it_over_providers() -> None:
    plan = planner().plan(asking("auto"), view())
    first, second, third = plan.attempts
    assert plan.chain
    assert plan.auto is not None
    assert second.target.provider != first.target.provider
    assert third.target.id not in {first.target.id, second.target.id}
    assert plan.auto.reasons[-1] == first.reason


def test_auto_without_fallbacks_is_one_model_and_no_chain() -> None:
    plan = planner(max_fallbacks=0).plan(asking("auto"), view())
    assert (len(plan.attempts), plan.chain) == (1, False)


def test_auto_takes_the_caller_s_fallbacks_before_its_own() -> None:
    plan = planner().plan(asking("auto", routing=Routing(("seeing", "seeing"))), view())
    assert names(plan)[1:] in (["seeing"], [])
    assert plan.chain


def test_auto_only_takes_what_can_do_it_and_says_why_not_the_others() -> None:
    plan = planner().plan(asking("auto", IMAGE), view())
    assert names(plan) == ["seeing"]
    assert {one.model: one.reason for one in plan.dropped} == dict.fromkeys(("a", "b", "c", "blind"), "no_vision")
    assert plan.auto is not None
    assert [one.model for one in plan.auto.candidates] == ["seeing"]


def test_auto_keeps_to_the_candidates_of_the_configuration() -> None:
    assert names(planner(models=["b", "C"]).plan(asking("auto"), view())) == ["b", "c"]


def test_auto_with_nothing_that_can_do_it_says_what_each_lacks() -> None:
    with pytest.raises(UnsupportedInput, match="no model can take this request: a does not take images; b") as caught:
        planner(models=["a", "b"]).plan(asking("auto", IMAGE), view())
    assert caught.value.reason == "no_vision"


def test_auto_without_any_model_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="no model is configured") as caught:
        Planner(catalog_of(()), AutoSettings()).plan(asking("auto"), view())
    assert caught.value.code == "no_models"


def test_a_goal_of_the_request_goes_before_the_configuration_s() -> None:
    for goal, used in ((None, "latency"), ("cost", "cost")):
        auto = planner(goal="latency").plan(asking("auto", goal=goal), view()).auto
        assert auto is not None
        assert auto.goal == used


def test_the_settings_names_are_resolved_once() -> None:
    settings = planner(default="A", map={"code": "B"}, models=["a", "b"]).settings
    assert (settings.default, settings.map) == ("a", {"code": "b"})
    with pytest.raises(UnknownModel):
        planner(default="nobody")


def test_the_class_is_that_of_the_last_thing_the_user_said() -> None:
    one = planner()
    code = Message("user", (Text("Write a Python function that reverses a linked list."),))
    greeting = Message("user", (Text("Hello!"),))
    reply = Message("assistant", (Text("def f(): pass"),))
    said = one.classify(ChatRequest("auto", (code, reply, greeting)))
    assert said == one.classify(ChatRequest("auto", (greeting,)))
    assert one.classify(ChatRequest("auto", (greeting, reply, code, reply))) == one.classify(
        ChatRequest("auto", (code,))
    )


def test_the_same_values_give_the_same_plan() -> None:
    request = asking("auto", response_format=ResponseFormat("json_object"))
    assert planner().plan(request, view()) == planner().plan(request, view())
