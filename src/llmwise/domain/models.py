"""A model as the gateway knows it: names, abilities, limits and price."""

from typing import Literal, TypeAlias

from msgspec import Struct

Kind: TypeAlias = Literal["chat", "embedding"]
Tier: TypeAlias = Literal["economy", "standard", "premium"]


class Rate(Struct, frozen=True):
    """Prices in nano-USD per million tokens. Zero is a price. A cache price that is `None` is the `input` price.

    1 USD per million tokens is 1,000,000,000 here. `above` gives another rate for the whole request once its
    prompt is longer than `threshold` tokens (Gemini's long-context price).
    """

    input: int
    output: int
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    threshold: int | None = None
    above: "Rate | None" = None


class Capabilities(Struct, frozen=True):
    """What a model can take and do. A planner drops a model that lacks what the request needs."""

    vision: bool = False
    documents: bool = False
    tools: bool = True
    json_schema: bool = True
    json_object: bool = True
    reasoning: bool = False


class ModelCard(Struct, frozen=True):
    """One model at one provider: a target.

    `id` is the name in the catalog, unique; `provider` names the configured connection; `upstream` is the model's
    name there. `rate` is `None` where no price is known, which is not free. `quality` is a prior in 0..1 (how good
    an answer to expect without evidence), `speed` tokens per second as published, for planning only. `kind` says what
    it does: answer in a conversation, or make vectors of texts.
    """

    id: str
    provider: str
    upstream: str
    name: str = ""
    vendor: str = ""
    aliases: tuple[str, ...] = ()
    context_window: int = 8192
    max_output: int | None = None
    capabilities: Capabilities = Capabilities()
    rate: Rate | None = None
    tier: Tier = "standard"
    quality: float = 0.5
    demonstration: bool = False
    kind: Kind = "chat"
    source: str | None = None
