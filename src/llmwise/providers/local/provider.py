"""The local model as a `Provider`: the OpenAI family over HTTP, to a child process that is looked after here."""

import asyncio
import logging
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, structs

from llmwise.domain.errors import UpstreamTimeout, UpstreamUnreachable
from llmwise.domain.messages import Family, Message, Text
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Exchange, Provider
from llmwise.domain.requests import ChatRequest
from llmwise.providers.local import server
from llmwise.providers.local.supervisor import NotServing, State, Supervisor
from llmwise.providers.local.weights import SMOLLM2, Download, Phase, WeightsError, ensure, pip_download

log = logging.getLogger(__name__)

Connect: TypeAlias = Callable[[str, str], Provider]
"""From a base URL (`http://127.0.0.1:4711/v1`) and a key to a provider of the OpenAI family."""

SYSTEM_TEXT = "You are a helpful assistant."
"""Sent when the caller has no system message. The model's own default makes it talk nonsense."""

MAX_TOKENS = 512
TEMPERATURE = 0.2
"""Assumed when the caller says nothing: left to its defaults, so small a model may ramble to the end of its window."""

MISSING = "the local model needs xllamacpp: pip install 'llmwise[local]'"


class LocalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`threads` is by default half of the cores. A request can use `slot_tokens` of prompt and answer, and `slots`
    requests run at a time, more wait. `start_timeout_s` is for the model's loading, and for how long a request waits
    for it; `retry_s` passes after a failed download."""

    slots: Annotated[int, Meta(ge=1, le=64)] = 4
    slot_tokens: Annotated[int, Meta(ge=256, le=8192)] = 2048
    threads: Annotated[int, Meta(ge=1)] | None = None
    start_timeout_s: Annotated[float, Meta(gt=0)] = 60.0
    retry_s: Annotated[float, Meta(gt=0)] = 60.0


class LocalProvider:
    """`run` is the model's life: fetch, start, keep alive. It is for the application's task group, which begins it and
    goes on to serve; a request that comes early waits. Without `run` no request is ever answered."""

    family: Family = "openai"

    def __init__(
        self,
        name: str,
        *,
        cache: Path,
        connect: Connect,
        environ: Mapping[str, str],
        settings: LocalSettings | None = None,
        download: Download | None = None,
    ) -> None:
        self.name = name
        self._cache = cache
        self._connect = connect
        self._settings = settings or LocalSettings()
        self._environ = without_secrets(environ)
        self._download = download or pip_download(self._environ)
        self._key = secrets.token_urlsafe(32)
        self._supervisor = Supervisor(
            "the local model",
            key=self._key,
            environ=self._environ,
            start_timeout_s=self._settings.start_timeout_s,
        )
        self._fetching: tuple[Phase, int, int] | None = None
        self._http: tuple[str, Provider] | None = None

    @property
    def state(self) -> State:
        return self._supervisor.state

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        return self._supervisor.pid

    @property
    def fetching(self) -> tuple[Phase, int, int] | None:
        """What is being done to the weights: the phase, bytes done, bytes in all. `None` when nothing is."""
        return self._fetching

    async def run(self) -> None:
        """Returns only if the model can't ever run here; cancel it to end the child."""
        if find_spec("xllamacpp") is None:
            log.error(MISSING)
            await self._supervisor.fail(MISSING, final=True)
            return
        path = await self._weights()
        await self._supervisor.run(self._command(path))

    async def send(self, request: ChatRequest, target: ModelCard) -> Exchange:
        request = with_system_text(request)
        provider = await self._at(await self._address())
        try:
            return await provider.send(request, target)
        except UpstreamUnreachable:
            # The server closes connections after streamed answers although it says that it keeps them (xllamacpp
            # 2026.10, seen 2026-11-22): a request on such a one never reached it. Or the child has just died.
            provider = await self._at(await self._address())
            return await provider.send(request, target)

    async def aclose(self) -> None:
        if self._http is not None:
            await self._http[1].aclose()

    async def _address(self) -> str:
        try:
            async with asyncio.timeout(self._settings.start_timeout_s):
                return await self._supervisor.address()
        except NotServing as error:
            raise UpstreamUnreachable(str(error), provider=self.name) from error
        except TimeoutError as error:
            raise UpstreamTimeout(self._waiting_for(), provider=self.name, reason="connect") from error

    async def _at(self, address: str) -> Provider:
        """The HTTP provider for the child as it is now. A child that was started again has another port, and what is
        open to the old one is broken."""
        old = self._http
        if old is not None and old[0] == address:
            return old[1]
        provider = self._connect(f"{address}/v1", self._key)
        self._http = (address, provider)
        if old is not None:
            await old[1].aclose()
        return provider

    async def _weights(self) -> Path:
        while True:
            try:
                return await ensure(SMOLLM2, self._cache, self._download, self._progress)
            except WeightsError as error:
                log.error("%s", error)
                await self._supervisor.fail(str(error))
            finally:
                self._fetching = None
            await asyncio.sleep(self._settings.retry_s)

    def _progress(self, phase: Phase, done: int, total: int) -> None:
        self._fetching = (phase, done, total)

    def _waiting_for(self) -> str:
        if self._fetching is None:
            return f"the local model was not ready within {self._settings.start_timeout_s:g} s; try again"
        phase, done, total = self._fetching
        return f"the local model is still {phase} its weights, {done / 1e6:.0f} of {total / 1e6:.0f} MB; try again soon"

    def _command(self, path: Path) -> list[str]:
        settings = self._settings
        threads = settings.threads or max(1, (os.cpu_count() or 2) // 2)
        options = {
            "--model": str(path),
            "--name": SMOLLM2.name,
            "--slots": str(settings.slots),
            "--slot-tokens": str(settings.slot_tokens),
            "--threads": str(threads),
        }
        return [sys.executable, "-m", server.__name__, *(word for option in options.items() for word in option)]


def with_system_text(request: ChatRequest) -> ChatRequest:
    """`request` with a system message and a sober sampling where it says none, and without the caller's own body, which
    lacks them too."""
    messages = request.messages
    if not any(message.role == "system" for message in messages):
        messages = (Message("system", (Text(SYSTEM_TEXT),)), *messages)
    sampling = request.sampling
    if sampling.max_tokens is None:
        sampling = structs.replace(sampling, max_tokens=MAX_TOKENS)
    if sampling.temperature is None and sampling.top_p is None:
        sampling = structs.replace(sampling, temperature=TEMPERATURE)
    return structs.replace(request, messages=messages, sampling=sampling, passthrough=None)


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for processes that have no business with providers' keys."""
    secret = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
    return {name: value for name, value in environ.items() if not any(word in name.upper() for word in secret)}
