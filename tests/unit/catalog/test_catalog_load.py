"""What is on offer: built-in models, the configuration's entries, and whose a name is."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec
import pytest

from llmwise.catalog import Builtin, Catalog, CatalogError, ModelSettings, build_catalog
from llmwise.catalog.prices import PriceFile, read
from llmwise.catalog.rows import read_models
from llmwise.domain.errors import InvalidRequest
from llmwise.domain.models import Capabilities, Rate

NOW = 1_795_305_600_000  # 2026-11-22 00:00 UTC
BUILTIN = Builtin(read_models(), read())
OPENAI = {"openai": "openai"}


def catalog(*entries: Mapping[str, Any], providers: Mapping[str, str] = OPENAI) -> Catalog:
    return build_catalog(BUILTIN, msgspec.convert(entries, list[ModelSettings]), providers, unix_ms=NOW)


def refused(*entries: Mapping[str, Any], providers: Mapping[str, str] = OPENAI) -> CatalogError:
    with pytest.raises(CatalogError) as caught:
        catalog(*entries, providers=providers)
    return caught.value


def test_the_built_in_rows_are_sourced_and_agree_with_each_other() -> None:
    everything = catalog(providers={model.vendor: model.vendor for model in BUILTIN.models})
    assert len(everything) == len(BUILTIN.models)
    for model in BUILTIN.models:
        assert model.source
        assert model.retrieved
        assert everything.resolve(model.id, model.kind).id == model.id
        assert model.max_output is None or model.max_output <= model.context_window


@pytest.mark.parametrize(
    ("name", "vendor"),
    [
        ("gpt-5.2", "openai"),
        ("claude-sonnet-4.5", "anthropic"),
        ("gemini-3-flash", "gemini"),
        ("deepseek-v3", "deepseek"),
    ],
)
def test_the_four_models_of_the_guide_are_there(name: str, vendor: str) -> None:
    card = catalog(providers={vendor: vendor}).resolve(name)
    assert (card.id, card.provider, card.vendor) == (name, vendor, vendor)
    assert card.rate is not None


def test_only_models_of_configured_providers_are_on_offer() -> None:
    assert {card.vendor for card in catalog()} == {"openai"}
    assert len(catalog(providers={})) == 0


def test_the_local_model_is_free_and_says_that_it_is_a_demonstration() -> None:
    card = catalog(providers={"local": "local"}).resolve("local")
    assert card.rate == Rate(0, 0)
    assert card.demonstration
    assert card.context_window == 2048
    assert not card.capabilities.tools
    assert not card.capabilities.vision
    assert card.capabilities.json_schema


def test_a_model_that_is_switched_off_soon_says_when() -> None:
    assert catalog(providers={"a": "anthropic"}).retirements["claude-sonnet-4.5"] == date(2026, 11, 30)


def test_a_price_that_changes_is_the_one_of_the_time_asked_for() -> None:
    offered = catalog(providers={"g": "gemini"})
    card = offered.resolve("gemini-3.8-flash")
    assert card.rate == offered.rate(card, NOW)
    later = offered.rate(card, NOW + 60 * 86_400_000)
    assert later is not None
    assert card.rate is not None
    assert later.input == 2 * card.rate.input
    steady = offered.resolve("gemini-2.5-pro")
    assert offered.rate(steady, 0) is steady.rate


def test_an_entry_inherits_the_facts_of_the_model_it_names_and_overrides_what_it_states() -> None:
    built_in = catalog().resolve("gpt-5.2")
    card = catalog({"id": "gpt-5.2", "quality": 0.4, "capabilities": {"vision": False}}).resolve("gpt-5.2")
    assert card.quality == 0.4
    assert card.capabilities == msgspec.structs.replace(built_in.capabilities, vision=False)
    assert (card.context_window, card.rate, card.aliases) == (
        built_in.context_window,
        built_in.rate,
        built_in.aliases,
    )


def test_an_entry_takes_the_place_of_the_built_in_model_of_its_id() -> None:
    offered = catalog({"id": "gpt-5.2", "quality": 0.4})
    assert [card.id for card in offered if card.provider == "openai"] == ["gpt-5.2"]
    assert offered.resolve("gpt-5.2").quality == 0.4


def test_to_list_models_of_a_provider_is_to_choose_them() -> None:
    offered = catalog({"id": "mine", "provider": "openai"})
    assert [card.id for card in offered if card.provider == "openai"] == ["mine"]


def test_an_entry_takes_nothing_from_the_other_providers() -> None:
    def others(*entries: dict[str, Any]) -> list[str]:
        return [card.id for card in catalog(*entries) if card.provider != "openai"]

    assert others({"id": "mine", "provider": "openai"}) == others()


def test_an_entry_under_a_name_of_its_own_inherits_by_what_it_sends() -> None:
    fast = catalog({"id": "fast", "provider": "openai", "upstream": "gpt-5-mini"}).resolve("fast")
    mini = catalog().resolve("gpt-5-mini")
    assert fast.upstream == "gpt-5-mini"
    assert (fast.rate, fast.capabilities, fast.aliases) == (mini.rate, mini.capabilities, ())


def test_an_entry_for_a_dated_name_inherits_too() -> None:
    card = catalog({"id": "pinned", "provider": "openai", "upstream": "gpt-5.2-2025-12-11"}).resolve("pinned")
    assert card.upstream == "gpt-5.2-2025-12-11"
    assert card.context_window == 400_000


def test_an_entry_at_a_host_gets_the_hosts_name_for_the_model_and_the_hosts_price() -> None:
    card = catalog({"id": "claude-sonnet-4.5", "provider": "or"}, providers={"or": "openrouter"}).resolve(
        "claude-sonnet-4.5"
    )
    assert (card.id, card.upstream) == ("claude-sonnet-4.5", "anthropic/claude-sonnet-4.5")
    assert card.rate == catalog(providers={"or": "openrouter"}).resolve("openrouter/claude-sonnet-4.5").rate


def test_another_vendors_model_lends_its_abilities_but_not_its_price() -> None:
    card = catalog({"id": "gpt-5.2", "provider": "azure"}, providers={"azure": "azure"}).resolve("gpt-5.2")
    assert card.capabilities.vision
    assert card.upstream == "gpt-5.2"
    assert card.rate is None


def test_a_model_that_nothing_is_known_of_gets_careful_defaults() -> None:
    card = catalog({"id": "mine", "provider": "x"}, providers={"x": "vllm"}).resolve("mine")
    assert card.capabilities == Capabilities(vision=False, documents=False, reasoning=False)
    assert (card.context_window, card.max_output, card.rate, card.quality) == (8192, None, None, 0.5)


def test_a_model_that_only_the_prices_know_is_priced() -> None:
    card = catalog({"id": "old", "provider": "openai", "upstream": "gpt-4-turbo"}).resolve("old")
    assert card.rate == Rate(10_000_000_000, 30_000_000_000)


def test_stated_prices_are_exact_and_inherit_nothing() -> None:
    card = catalog({"id": "gpt-5.2", "input_price": 0.15, "output_price": "0.6", "cache_write_price": 0}).resolve(
        "gpt-5.2"
    )
    assert card.rate == Rate(150_000_000, 600_000_000, cache_read=None, cache_write_5m=0, cache_write_1h=0)


def test_a_stated_price_does_not_change_with_time() -> None:
    entry = {"id": "gemini-3.8-flash", "input_price": 1, "output_price": 2}
    offered = catalog(entry, providers={"g": "gemini"})
    card = offered.resolve("gemini-3.8-flash")
    assert offered.rate(card, NOW + 60 * 86_400_000) is card.rate


def test_a_disabled_entry_hides_the_built_in_model() -> None:
    offered = catalog({"id": "GPT-5.2", "enabled": False})
    assert offered.get("gpt-5.2") is None
    assert len(offered) == len(catalog()) - 1


def test_an_alias_of_an_entry_moves_another_providers_built_in_model_aside() -> None:
    entry = {"id": "mine", "provider": "us", "aliases": ["gpt-5.2"]}
    offered = catalog(entry, providers={"eu": "openai", "us": "openai"})
    assert offered.resolve("gpt-5.2").id == "mine"
    assert offered.resolve("eu/gpt-5.2").upstream == "gpt-5.2"
    assert all(offered.get(card.id) is card for card in offered)


def test_the_second_provider_of_a_vendor_offers_its_models_under_its_own_name() -> None:
    offered = catalog(providers={"eu": "openai", "us": "openai"})
    assert offered.resolve("gpt-5.2").provider == "eu"
    assert offered.resolve("us/gpt-5.2").provider == "us"
    assert offered.resolve("eu/gpt-5.2") is offered.resolve("openai/gpt-5.2") is offered.resolve("gpt-5.2")
    assert all(offered.get(card.id) is card for card in offered)


def test_an_entry_at_the_second_provider_leaves_the_first_ones_model_reachable() -> None:
    offered = catalog({"id": "gpt-5.2", "provider": "us"}, providers={"eu": "openai", "us": "openai"})
    assert offered.resolve("gpt-5.2").provider == "us"
    assert offered.resolve("eu/gpt-5.2").provider == "eu"


def test_without_the_makers_provider_a_host_serves_its_model() -> None:
    offered = catalog(providers={"or": "openrouter"})
    for name in ("gpt-5.2", "claude-sonnet-4.5", "gemini-3-flash", "deepseek-v3", "anthropic/claude-sonnet-4.5"):
        assert offered.resolve(name).provider == "or"


def test_with_the_makers_provider_its_own_model_is_meant_in_any_order() -> None:
    offered = catalog(providers={"or": "openrouter", "openai": "openai"})
    assert offered.resolve("gpt-5.2").provider == "openai"
    assert offered.resolve("openai/gpt-5.2").provider == "openai"
    assert offered.resolve("or/openai/gpt-5.2").provider == "or"


def test_two_entries_of_one_name_clash() -> None:
    error = refused({"id": "gpt-5.2"}, {"id": "mine", "provider": "openai", "aliases": ["GPT-5-2"]})
    assert (error.path, error.value) == ("models[1]", "GPT-5-2")
    assert "'gpt-5.2'" in str(error)


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"id": "auto", "provider": "openai"}, "models[0].id"),
        ({"id": "mine"}, "models[0].id"),
        ({"id": "claude-opus-5"}, "models[0].id"),
        ({"id": "mine", "provider": "opnai"}, "models[0].provider"),
        ({"id": "gpt-5.2", "input_price": 1}, "models[0].output_price"),
        ({"id": "gpt-5.2", "input_price": -1, "output_price": 1}, "models[0].input_price"),
        ({"id": "gpt-5.2", "input_price": "cheap", "output_price": 1}, "models[0].input_price"),
        ({"id": "gpt-5.2", "input_price": "NaN", "output_price": 1}, "models[0].input_price"),
    ],
)
def test_a_mistake_is_refused_with_its_place(entry: dict[str, Any], path: str) -> None:
    assert refused(entry).path == path


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="contextwindow"):
        msgspec.convert({"id": "x", "contextwindow": 1}, ModelSettings)


def test_the_catalog_says_where_its_prices_are_from() -> None:
    empty = Builtin((), PriceFile("test", date(2026, 1, 2), {}))
    assert build_catalog(empty, (), {}, unix_ms=0).prices_source == "test, 2026-01-02"


def test_an_embedding_model_is_told_from_a_chat_model_by_name_and_price() -> None:
    offered = catalog(providers={"openai": "openai"})
    card = offered.resolve("text-embedding-3-small", "embedding")
    assert card.rate == Rate(input=20_000_000, output=0)
    assert offered.resolve("text-embedding-3-small", None) is card
    with pytest.raises(InvalidRequest, match="/v1/embeddings") as caught:
        offered.resolve("text-embedding-3-small")
    assert caught.value.code == "not_a_chat_model"
    with pytest.raises(InvalidRequest, match="chat model") as caught:
        offered.resolve("gpt-5.2", "embedding")
    assert caught.value.code == "not_an_embedding_model"


def test_an_entry_says_that_its_model_makes_vectors() -> None:
    offered = catalog({"id": "mine", "provider": "openai", "kind": "embedding"})
    assert offered.resolve("mine", "embedding").kind == "embedding"
