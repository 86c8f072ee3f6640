"""Chains by name: what they mean, and what is said about one that can't be."""

from collections.abc import Mapping
from typing import Any

import pytest

from llmwise.app import check
from llmwise.config import ConfigError, parse
from llmwise.domain.errors import Forbidden, UnsupportedInput
from llmwise.domain.messages import Image, Message, Text
from llmwise.domain.plan import Origin, Plan
from llmwise.domain.requests import ChatRequest, Routing
from llmwise.routing.auto import AutoSettings
from llmwise.routing.chains import ChainError, ChainSettings, chains_of
from llmwise.routing.health import UNSEEN, Health
from llmwise.routing.planner import Planner, View

from .test_planner import catalog_of, entry

NO_TURN = {"turn": lambda chain: 0, "now": 0.0}


def settings(**chains: Any) -> dict[str, ChainSettings]:
    return {
        name: chain if isinstance(chain, ChainSettings) else ChainSettings(list(chain))
        for name, chain in chains.items()
    }


def planner(**chains: Any) -> Planner:
    offered = catalog_of([entry(name, "two" if name > "b" else "one", quality=0.9) for name in "abcdefghij"])
    return Planner(offered, AutoSettings(), chains_of(settings(**chains), offered))


def plan(planner: Planner, model: str, *, view: Mapping[str, Any] | None = None, **fields: Any) -> Plan:
    fields.setdefault("messages", (Message("user", (Text("Hello"),)),))
    given = {"health": {}, **NO_TURN, **(view or {})}
    return planner.plan(ChatRequest(model, **fields), View(**given))


def order(plan: Plan) -> list[str]:
    return [attempt.target.id for attempt in plan.attempts]


def test_a_chain_s_models_are_tried_in_its_order_and_the_caller_sees_the_route() -> None:
    made = plan(planner(fast=["b", "a"]), "Fast")
    assert order(made) == ["b", "a"]
    assert made.chain
    assert made.attempts[0].reason == "chain fast (rate-limit)"


def test_a_chain_has_a_strategy_of_its_own() -> None:
    first = Health(ttft_ms=900.0), Health(ttft_ms=100.0)
    chained = planner(fast=ChainSettings(["a", "b"], "latency"))
    made = plan(chained, "fast", view={"health": {"a": first[0], "b": first[1], "c": UNSEEN}})
    assert (order(made), made.strategy) == (["b", "a"], "latency")


def test_a_request_s_own_routing_goes_behind_the_chain_and_orders_it() -> None:
    health = {"a": Health(ttft_ms=900.0), "b": Health(ttft_ms=100.0), "c": Health(ttft_ms=10.0)}
    made = plan(planner(fast=["a", "b"]), "fast", view={"health": health}, routing=Routing(("c",), "latency"))
    assert order(made) == ["c", "b", "a"]
    made = plan(planner(fast=["a", "b"]), "c", routing=Routing(("fast", "b")))
    assert order(made) == ["c", "a", "b"]


def test_a_chain_in_a_chain_stands_for_its_models() -> None:
    assert order(plan(planner(all=["c", "fast"], fast=["a", "b"]), "all")) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("chains", "told"),
    [
        ({"fast": ["a", "nope"]}, "chains.fast.models[1] = 'nope': there is no model 'nope'"),
        ({"fast": ["a", "slow"], "slow": ["b", "fast"]}, "goes in a circle: fast -> slow -> fast"),
        ({"fast": ["fast"]}, "chains.fast.models[0] = 'fast': goes in a circle: fast -> fast"),
        ({"fast": ["a", "A"]}, "chains.fast.models[1] = 'A': a is in the chain already"),
        ({"x": ["a", "y"], "y": ["b", "a"]}, "chains.x.models[1] = 'y': a is in the chain already"),
        ({"fast": list("abcdefghi")}, "9 models; 1 to 8 make a chain"),
        ({"fast": []}, "0 models; 1 to 8 make a chain"),
        ({"a": ["b"]}, "chains.a = ['b']: the model a has this name"),
        ({"auto": ["a"]}, "a chain needs a name of its own"),
        ({"fast": ["auto"]}, "Auto chooses by itself"),
        ({"my_chain": ["a"], "My-Chain": ["b"]}, "is the same name as 'My-Chain'"),
        ({"fast": ["a"], "slow": ["fats"]}, "did you mean 'fast'?"),
    ],
)
def test_a_chain_that_can_t_be_is_told(chains: dict[str, list[str]], told: str) -> None:
    with pytest.raises(ChainError) as failure:
        planner(**chains)
    assert told in str(failure.value)


def test_the_configuration_s_error_names_its_file() -> None:
    text = '[providers.m]\nkind = "scripted"\n[[models]]\nid = "a"\nprovider = "m"\n[chains.fast]\nmodels = ["b"]\n'
    config = parse(text, source="/etc/llmwise.toml", environ={})
    with pytest.raises(ConfigError, match=r"^/etc/llmwise.toml: chains.fast.models\[0\] = 'b': there is no model"):
        check(config, 0)


@pytest.mark.parametrize("text", ['[chains.fast]\nmodel = ["a"]', '[chains.fast]\nmodels = ["a"]\nstrategy = "best"'])
def test_a_chain_s_settings_are_checked(text: str) -> None:
    with pytest.raises(ConfigError, match=r"chains\.fast"):
        parse(text, source="x.toml", environ={})


def test_a_key_s_list_and_a_request_s_needs_narrow_a_chain() -> None:
    chained = planner(fast=["a", "b"])
    assert order(plan(chained, "fast", view={"allowed": {"b"}})) == ["b"]
    with pytest.raises(Forbidden):
        plan(chained, "fast", view={"allowed": {"c"}})
    with pytest.raises(UnsupportedInput):
        plan(chained, "fast", messages=(Message("user", (Image(url="https://x/i"),)),))


@pytest.mark.parametrize("model", ["fast", "auto"])
def test_the_model_that_made_the_open_calls_goes_first(model: str) -> None:
    chained = planner(fast=["a", "b", "c"])
    made = plan(chained, model, view={"origin": Origin("c", "anthropic")})
    assert order(made)[0] == "c"
    assert "continues the tool loop" in made.attempts[0].reason
    assert order(plan(chained, model, view={"origin": Origin("gone", "anthropic")})) == order(plan(chained, model))


@pytest.mark.parametrize("model", ["fast", "auto"])
def test_a_loop_of_a_known_family_stays_in_it(model: str) -> None:
    families = {"one": "openai", "two": "gemini"}
    made = plan(planner(fast=["a", "b", "c"]), model, view={"origin": Origin(None, "gemini"), "families": families})
    assert order(made)[0] == "c"


def test_a_named_model_is_asked_whoever_made_the_calls() -> None:
    assert order(plan(planner(), "a", view={"origin": Origin("c", "anthropic")})) == ["a"]
