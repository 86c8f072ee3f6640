"""Which models a server on the user's own machines has: asked once at start, since no catalog can know.

Ollama, vLLM and LM Studio list theirs at GET /models, as OpenAI does. They are free to use, and what they can do is
assumed carefully; a [[models]] entry says it better, and then nothing is asked.
"""

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from llmwise.catalog.rows import ModelSettings
from llmwise.config import Config, ConfigError, ProviderSettings
from llmwise.providers.registry import VENDORS
from llmwise.providers.transport import Transport, TransportError
from llmwise.wire.openai import MODELS

log = logging.getLogger(__name__)

ANSWER_S = 3.0


def to_ask(config: Config) -> dict[str, ProviderSettings]:
    """The configured model servers that no [[models]] entry speaks of."""
    spoken_of = {model.provider for model in config.models}
    return {
        name: settings
        for name, settings in config.providers.items()
        if name in VENDORS and VENDORS[name].local and name not in spoken_of
    }


async def with_discovered(config: Config) -> Config:
    """`config` with an entry for each model that the servers list. One that does not answer is left out and logged."""
    found = await asyncio.gather(*(_ask(name, settings) for name, settings in to_ask(config).items()))
    models: dict[str, ModelSettings] = {}
    for entry in (entry for entries in found for entry in entries):
        # Two servers may have the same model: the second one's goes by its server's name.
        name = entry.id if entry.id not in models else f"{entry.provider}/{entry.id}"
        models[name] = msgspec.structs.replace(entry, id=name, upstream=entry.id)
    return msgspec.structs.replace(config, models=[*config.models, *models.values()]) if models else config


async def _ask(name: str, settings: ProviderSettings) -> Sequence[ModelSettings]:
    transport = Transport(connect_timeout_s=ANSWER_S, proxy=settings.proxy)
    try:
        async with asyncio.timeout(ANSWER_S):
            response = await transport.send("GET", f"{settings.base_url}/models", (), b"", stream=False)
            if response.status != 200:
                raise ConfigError(f"GET /models answered {response.status}")
            listed = MODELS.decode(await response.read())
    except (ConfigError, TransportError, TimeoutError, msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = str(error) or f"no answer in {ANSWER_S:g} s"
        log.warning("%s at %s offers no models now: %s; reload (SIGHUP) to ask again", name, settings.base_url, reason)
        return ()
    finally:
        await transport.aclose()
    return [ModelSettings(id=row.id, provider=name, input_price=0, output_price=0) for row in listed.data]
