"""From a name to a model, and what is said where there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwise.catalog import load
from llmwise.domain.errors import UnknownModel

CATALOG = load(providers={"openai": "openai", "anthropic": "anthropic"}, unix_ms=1_795_305_600_000)


@pytest.mark.parametrize(
    "name",
    [
        "claude-sonnet-4.5",
        "claude-sonnet-4-5",
        "Claude_Sonnet_4.5",
        "claude-sonnet-4-5-20250929",
        "anthropic/claude-sonnet-4.5",
        "anthropic/claude-sonnet-4-5-20250929",
        "ANTHROPIC/Claude-Sonnet-4-5",
    ],
)
def test_a_model_has_many_names(name: str) -> None:
    assert CATALOG.resolve(name).id == "claude-sonnet-4.5"


def unknown(name: str) -> UnknownModel:
    with pytest.raises(UnknownModel) as caught:
        CATALOG.resolve(name)
    return caught.value


def test_an_unknown_name_is_told_with_the_nearest_ones() -> None:
    error = unknown("claude-sonet-4.5")
    assert error.status == 404
    assert error.details["model"] == "claude-sonet-4.5"
    assert error.details["did_you_mean"][0] == "claude-sonnet-4.5"
    assert len(error.details["did_you_mean"]) == 3
    assert "'claude-sonet-4.5'" in error.message


def test_a_known_model_without_its_provider_is_told_what_is_missing() -> None:
    error = unknown("gemini-3-flash")
    assert error.details["vendor"] == "gemini"
    assert "no provider of 'gemini' is configured" in error.message


def test_a_dated_name_that_means_another_version_is_not_taken_for_this_one() -> None:
    assert CATALOG.get("gpt-4o-2024-05-13") is None


def test_with_no_provider_at_all_that_is_what_is_said() -> None:
    with pytest.raises(UnknownModel, match="no provider is configured"):
        load(unix_ms=0).resolve("my-model")


def test_an_endless_name_is_cut_before_it_is_compared_or_repeated() -> None:
    assert len(unknown("x" * 1_000_000).message) < 250


@given(st.text(max_size=200))
def test_any_text_is_a_model_or_an_unknown_model(name: str) -> None:
    known = CATALOG.get(name)
    if known is None:
        assert unknown(name).details["model"] == name[:100]
    else:
        assert CATALOG.resolve(name) is known
