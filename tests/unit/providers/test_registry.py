"""The table of vendors."""

from urllib.parse import urlsplit

import pytest

from llmwise.domain.errors import InvalidRequest
from llmwise.providers.registry import VENDORS, resolve


@pytest.mark.parametrize("name", VENDORS)
def test_a_row_is_complete(name: str) -> None:
    vendor = VENDORS[name]
    url = urlsplit(vendor.base_url)
    assert vendor.name == name == name.lower()
    assert not vendor.base_url.endswith("/")
    if vendor.local:
        assert (url.scheme, url.hostname, vendor.auth) == ("http", "127.0.0.1", "none")
    else:
        assert url.scheme == "https"
        assert vendor.env is not None
        assert vendor.env.endswith("_API_KEY")
        assert vendor.auth != "none"


def test_a_name_is_found_whatever_its_case() -> None:
    assert resolve("OpenRouter").name == "openrouter"


def test_each_family_shows_its_key_its_own_way() -> None:
    assert (resolve("openai").auth, resolve("anthropic").auth, resolve("gemini").auth) == (
        "bearer",
        "x-api-key",
        "x-goog-api-key",
    )


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(InvalidRequest, match="Did you mean mistral") as caught:
        resolve("mistrall")
    assert caught.value.code == "unknown_provider"
    assert caught.value.details["near"] == ["mistral"]


def test_a_name_far_from_all_gets_the_list() -> None:
    with pytest.raises(InvalidRequest, match="Known: anthropic, cerebras"):
        resolve("zzzz")
