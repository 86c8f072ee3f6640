"""Composed models in the configuration: what is refused, how one shows, and who may use it."""

from pathlib import Path

import pytest

from llmwise.app import catalog_of, check, compositions_in, planner_of, prompts_of
from llmwise.config import Config, ConfigError, parse
from llmwise.domain.errors import Forbidden, InvalidRequest, UnsupportedInput
from llmwise.domain.requests import Routing, Tool
from llmwise.routing.planner import Planner, View

from .panels import asking

MODELS = """
[providers.p]
kind = "openai"
base_url = "http://127.0.0.1:1/v1"
[[models]]
id = "a"
provider = "p"
quality = 0.4
context_window = 1000
capabilities = { vision = true, tools = false }
[[models]]
id = "b"
provider = "p"
quality = 0.9
context_window = 9000
capabilities = { vision = false, tools = true }
[[models]]
id = "e"
provider = "p"
kind = "embedding"
"""
BLEND = '[blend.x]\nmodels = ["a", "b"]\n'
CASCADE = '[cascade.y]\nmodels = ["a", "b"]\n'
VIEW = View({}, lambda names: 0, 0.0)


def configured(tmp_path: Path, text: str) -> Config:
    return parse(MODELS + text, source=str(tmp_path / "llmwise.toml"), environ={})


def planner(tmp_path: Path, text: str) -> Planner:
    config = configured(tmp_path, text)
    return planner_of(config, catalog_of(config, 0))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[blend.x]\nmodels = ["a"]', "blend.x.models = ('a',): self_moa takes exactly one model"),
        ('[blend.x]\nmodels = ["a", "b"]\nstrategy = "self_moa"', "self_moa takes exactly one model"),
        ('[blend.x]\nmodels = ["a", "c"]', "blend.x.models[1] = 'c': there is no model 'c'"),
        ('[blend.x]\nmodels = ["a", "a"]', "blend.x.models[1] = 'a': is named twice"),
        ('[blend.x]\nmodels = ["a", "b"]\nsynthesizer = "z"', "blend.x.synthesizer = 'z'"),
        ('[blend.x]\nmodels = ["a", "b"]\nmin_sources = 3', "blend.x.min_sources = 3"),
        ('[blend.x]\nmodels = ["a", "b"]\nstrategy = "mix"', "must be one of consensus"),
        ('[blend.x]\nmodels = ["a", "b"]\nlayer = 2', "did you mean 'layers'"),
        ('[cascade.y]\nmodels = ["a", "b"]\nrule = "judge"', "cascade.y.judge = None: the rule 'judge' needs one"),
        ('[cascade.y]\nmodels = ["a", "b"]\njudge = "b"', "cascade.y.judge = 'b'"),
        ('[cascade.y]\nmodels = ["a", "b"]\nthreshold = 7.0', "cascade.y.threshold = 7.0"),
        ('[cascade.y]\nmodels = ["a"]', "cascade.y.models"),
        ('[blend.x]\nmodels = ["a", "auto"]', "blend.x.models[1] = 'auto': is no single model"),
        ('[blend.x]\nmodels = ["a", "blend:x"]', "blend.x.models[1] = 'blend:x': is no single model"),
        ('[blend.x]\nmodels = ["a", "e"]', "blend.x.models[1] = 'e': e makes vectors"),
        ('[blend.x]\nmodels = ["a", "b"]\nlayers = 3', "blend.x.layers = 3: only moa has layers"),
        ('[blend.x]\nmodels = ["a", "b"]\nmax_cost = 1.0', "no price is known for a, b, so no bound can be kept"),
        ('[blend."x y"]\nmodels = ["a", "b"]', "blend.x y = 'x y': a name has letters"),
        (
            '[cascade.y]\nmodels = ["a", "b"]\nrule = "judge"\njudge = "a"',
            "cascade.y.judge = 'a': judges its own answer",
        ),
        ('[cascade.y]\nmodels = ["a", "b"]\nmax_cost = 1.0', "cascade.y.max_cost = 1.0: no price"),
        ('[prompts]\njudge = " "', "prompts.judge: is empty"),
        ('[prompts]\njugde = "?"', "prompts.jugde: unknown prompt; did you mean 'judge'?"),
    ],
)
def test_what_can_not_be_composed_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(configured(tmp_path, text), 0)
    assert words in str(refused.value)


def test_a_blend_can_do_what_all_can_and_a_cascade_what_one_can(tmp_path: Path) -> None:
    config = configured(tmp_path, BLEND + CASCADE)
    blend, cascade = compositions_in(config, catalog_of(config, 0)).values()
    assert (blend.card.id, blend.card.context_window, blend.card.quality) == ("blend:x", 1000, 0.9)
    assert (blend.card.capabilities.vision, blend.card.capabilities.tools) == (False, False)
    assert (cascade.card.id, cascade.card.context_window) == ("cascade:y", 9000)
    assert (cascade.card.capabilities.vision, cascade.card.capabilities.tools) == (True, True)


def test_a_composed_model_s_price_is_that_of_all_its_calls(tmp_path: Path) -> None:
    text = MODELS.replace('provider = "p"\n', 'provider = "p"\ninput_price = 1.0\noutput_price = 2.0\n')
    blends = '[blend.m]\nmodels = ["a", "b"]\nstrategy = "moa"\nlayers = 3\n'
    config = parse(text + BLEND + blends + CASCADE, source=str(tmp_path / "llmwise.toml"), environ={})
    made = compositions_in(config, catalog_of(config, 0))
    prices = {name: one.card.rate and (one.card.rate.input, one.card.rate.output) for name, one in made.items()}
    usd = 1_000_000_000
    assert prices == {"blend:x": (3 * usd, 6 * usd), "blend:m": (7 * usd, 14 * usd), "cascade:y": (2 * usd, 4 * usd)}


def test_a_composed_model_is_planned_as_one_target(tmp_path: Path) -> None:
    made = planner(tmp_path, BLEND + CASCADE)
    plan = made.plan(asking().__class__("blend:x", asking().messages), VIEW)
    assert plan.composed
    assert [attempt.target.id for attempt in plan.attempts] == ["blend:x"]
    assert not made.plan(asking(), VIEW).composed
    with pytest.raises(UnsupportedInput, match="blend:x does not take tools"):
        made.plan(asking().__class__("blend:x", asking().messages, tools=(Tool("f"),)), VIEW)
    with pytest.raises(InvalidRequest, match="has none"):
        made.plan(asking().__class__("cascade:y", asking().messages, routing=Routing(("a",))), VIEW)


def test_a_key_needs_the_composed_model_on_its_list_and_not_the_models_in_it(tmp_path: Path) -> None:
    made = planner(tmp_path, BLEND)
    request = asking().__class__("blend:x", asking().messages)
    assert made.plan(request, View({}, lambda names: 0, 0.0, allowed={"blend:x"})).composed
    with pytest.raises(Forbidden):
        made.plan(request, View({}, lambda names: 0, 0.0, allowed={"a", "b"}))


def test_own_prompts_take_the_place_of_the_built_in_ones(tmp_path: Path) -> None:
    prompts = prompts_of(configured(tmp_path, '[prompts]\njudge = "Be kind."'))
    assert prompts.system("judge") == "Be kind."
    assert prompts.version.endswith("+own")
