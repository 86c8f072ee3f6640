"""The catalog's raw material: rows of `models.toml` and the configuration's `[[models]]` tables."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from llmwise.catalog.prices import PriceFile
from llmwise.domain.models import Kind, Tier

Ability: TypeAlias = Literal["vision", "documents", "tools", "json_schema", "json_object", "reasoning"]
Tokens: TypeAlias = Annotated[int, Meta(gt=0)]
Price: TypeAlias = float | str
"""USD per million tokens; text where a float would lose a digit."""


class CatalogError(ValueError):
    """The configuration, or `models.toml`, contradicts itself. `path` leads to the place, `value` stands there."""

    def __init__(self, path: str, value: object, problem: str) -> None:
        super().__init__(f"{path} = {value!r}: {problem}")
        self.path = path
        self.value = value


class CapabilitySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What a model can do, where it differs from what is known of it; `None` leaves that as it is."""

    vision: bool | None = None
    documents: bool | None = None
    tools: bool | None = None
    json_schema: bool | None = None
    json_object: bool | None = None
    reasoning: bool | None = None


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[models]]` table of the configuration. One that names a built-in model starts from its facts; `load` says
    what is inherited. Prices are in USD per million tokens, all of them stated or all inherited.

    id                      the name in requests, unique
    provider                a configured provider's name; absent: the first one of the built-in model's vendor
    upstream                the model's name there; absent: the built-in model's, else `id`
    name                    what to show to people
    aliases                 other names for it
    context_window          tokens of prompt and answer together
    max_output              tokens of an answer
    capabilities            a table of true and false: what differs from what is known of the model
    tier                    for display
    quality                 how good an answer to expect, 0 to 1; what Auto compares by
    input_price             for fresh input; 0 is a price
    output_price            for output, thinking included
    cache_read_price        for input read from the provider's cache; absent: `input_price`
    cache_write_price       for input written to it; absent: `input_price`
    cache_write_1h_price    the same, where it is kept for an hour; absent: `cache_write_price`
    kind                    `chat`, or `embedding`: it makes vectors of texts (/v1/embeddings), and no answers
    enabled                 false takes a built-in model off the list
    """

    id: Annotated[str, Meta(min_length=1, max_length=100)]
    provider: str | None = None
    upstream: str | None = None
    name: str | None = None
    aliases: tuple[str, ...] | None = None
    context_window: Tokens | None = None
    max_output: Tokens | None = None
    capabilities: CapabilitySettings = CapabilitySettings()
    tier: Tier | None = None
    quality: Annotated[float, Meta(ge=0, le=1)] | None = None
    input_price: Price | None = None
    output_price: Price | None = None
    cache_read_price: Price | None = None
    cache_write_price: Price | None = None
    cache_write_1h_price: Price | None = None
    kind: Kind | None = None
    enabled: bool = True


class BuiltinModel(Struct, frozen=True, forbid_unknown_fields=True):
    """One table of `models.toml`, whose head says what the fields mean."""

    id: str
    vendor: str
    upstream: str
    name: str
    context_window: Tokens
    capabilities: tuple[Ability, ...]
    tier: Tier
    quality: Annotated[float, Meta(ge=0, le=1)]
    source: str | None = None
    retrieved: date | None = None
    aliases: tuple[str, ...] = ()
    serves: str | None = None
    max_output: Tokens | None = None
    retires: date | None = None
    kind: Kind = "chat"
    free: bool = False
    demonstration: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.id, *self.aliases)


class Builtin(Struct, frozen=True):
    """What came with the package: models in order of preference within a vendor, and prices."""

    models: tuple[BuiltinModel, ...]
    prices: PriceFile


class _ModelsFile(Struct, frozen=True, forbid_unknown_fields=True):
    models: tuple[BuiltinModel, ...]


def read_models() -> tuple[BuiltinModel, ...]:
    """The rows of `models.toml`."""
    return msgspec.toml.decode(Path(__file__).with_name("models.toml").read_bytes(), type=_ModelsFile).models
