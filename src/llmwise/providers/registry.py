"""Where the vendors live: a row each, so that an OpenAI-compatible one more is a line and not a module.

A row says nothing about models (`profiles` does) and holds no secret: `env` names the variable that the configuration
reads the key from.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal, TypeAlias

from msgspec import Struct

from llmwise.domain.errors import InvalidRequest
from llmwise.domain.messages import Family

Auth: TypeAlias = Literal["bearer", "x-api-key", "x-goog-api-key", "none"]
"""How the key is shown: `Authorization: Bearer`, Anthropic's `x-api-key`, Google's `x-goog-api-key`, not at all."""


class Vendor(Struct, frozen=True):
    """One vendor. `base_url` has no trailing slash; a codec's path follows it. `env` is `None` where no key is needed
    (a server on this machine)."""

    name: str
    family: Family
    base_url: str
    env: str | None
    auth: Auth = "bearer"

    @property
    def local(self) -> bool:
        """Runs on the reader's own machine: no key, no price."""
        return self.env is None


def _rows(vendors: Iterable[Vendor]) -> Mapping[str, Vendor]:
    return MappingProxyType({vendor.name: vendor for vendor in vendors})


VENDORS: Mapping[str, Vendor] = _rows(
    (
        # https://platform.openai.com/docs/api-reference (2026-11-22)
        Vendor("openai", "openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        # https://platform.claude.com/docs/en/api/overview (2026-11-22)
        Vendor("anthropic", "anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", "x-api-key"),
        # https://ai.google.dev/api (2026-11-22)
        Vendor(
            "gemini", "gemini", "https://generativelanguage.googleapis.com/v1beta", "GEMINI_API_KEY", "x-goog-api-key"
        ),
        # https://api-docs.deepseek.com (2026-11-22): the version is not part of the path
        Vendor("deepseek", "openai", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
        # https://docs.mistral.ai/api (2026-11-22)
        Vendor("mistral", "openai", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        # https://docs.x.ai/docs/api-reference (2026-11-22)
        Vendor("xai", "openai", "https://api.x.ai/v1", "XAI_API_KEY"),
        # https://console.groq.com/docs/openai (2026-11-22)
        Vendor("groq", "openai", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        # https://docs.together.ai/docs/openai-api-compatibility (2026-11-22)
        Vendor("together", "openai", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        # https://docs.fireworks.ai/tools-sdks/openai-compatibility (2026-11-22)
        Vendor("fireworks", "openai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
        # https://inference-docs.cerebras.ai/resources/openai (2026-11-22)
        Vendor("cerebras", "openai", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
        # https://platform.moonshot.ai/docs (2026-11-22)
        Vendor("moonshot", "openai", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
        # https://docs.z.ai/guides/overview/quick-start (2026-11-22)
        Vendor("zai", "openai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY"),
        # https://openrouter.ai/docs/quickstart (2026-11-22)
        Vendor("openrouter", "openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        # https://docs.ollama.com/api/openai-compatibility (2026-11-22)
        Vendor("ollama", "openai", "http://127.0.0.1:11434/v1", None, "none"),
        # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html (2026-11-22)
        Vendor("vllm", "openai", "http://127.0.0.1:8000/v1", None, "none"),
        # https://lmstudio.ai/docs/app/api/endpoints/openai (2026-11-22)
        Vendor("lmstudio", "openai", "http://127.0.0.1:1234/v1", None, "none"),
    )
)


def resolve(name: str) -> Vendor:
    """The row of `name`, whatever its case. Raises `InvalidRequest` (`unknown_provider`), naming what comes near."""
    vendor = VENDORS.get(name.lower())
    if vendor is not None:
        return vendor
    near = get_close_matches(name.lower(), VENDORS, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(sorted(VENDORS))}."
    message = f"no provider of the name {name!r}. {hint} Another OpenAI-compatible server needs a base_url."
    raise InvalidRequest(message, code="unknown_provider", near=near)
