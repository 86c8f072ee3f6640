"""The composition root: the only module that names concrete providers, stores, states and recorders.

`Runtime` holds what outlives a configuration (the database, circuits, metrics); `Runtime.configure` makes the
`Services` of one configuration, and a reload makes the next while requests in flight finish on theirs.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from msgspec import Struct

from llmwise.api.auth import Authenticator
from llmwise.api.limits import RateLimiter
from llmwise.api.server import Gateway
from llmwise.api.services import Edge, Services
from llmwise.catalog.load import load as load_catalog
from llmwise.catalog.lookup import Catalog
from llmwise.catalog.rows import CatalogError
from llmwise.clock import SystemClock, new_request_id
from llmwise.config import Config, ConfigError, ProviderSettings, cache_directory, environment
from llmwise.config import load as load_config
from llmwise.discovery import with_discovered
from llmwise.domain.errors import UnknownModel
from llmwise.domain.ports import Codec, Provider
from llmwise.orchestration.mesh import Mesh
from llmwise.providers import anthropic, gemini
from llmwise.providers.http import Endpoint, HttpProvider
from llmwise.providers.local.provider import LocalProvider
from llmwise.providers.openai import OpenAICodec
from llmwise.providers.registry import VENDORS
from llmwise.providers.scripted import Script, ScriptedProvider, ScriptError, load_script
from llmwise.providers.transport import Transport
from llmwise.routing.planner import Planner
from llmwise.state.memory import MemoryState
from llmwise.storage.store import Store
from llmwise.storage.writer import Writer
from llmwise.telemetry.metrics import Metrics, Recorders

log = logging.getLogger(__name__)


class Opened(Struct, frozen=True):
    """A provider and the settings it was made of, so that a reload keeps what did not change. `life` is the task of one
    that has a life of its own (the local model's process)."""

    settings: tuple[object, ...]
    provider: Provider
    life: asyncio.Task[None] | None

    async def close(self) -> None:
        if self.life is not None:
            self.life.cancel()
            await asyncio.wait([self.life])
        await self.provider.aclose()


class Runtime:
    """What lives as long as the process."""

    def __init__(self, config: Config, store: Store) -> None:
        self.config = config
        self.clock = SystemClock()
        self.store = store
        self.state = MemoryState(self.clock, config.breaker)
        self.metrics = Metrics()
        self.writer = Writer(store, self.clock)
        self.authenticator = Authenticator(store, self.clock.monotonic)
        self._opened: dict[str, Opened] = {}
        self._writing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write records. The store is migrated already."""
        self._writing = asyncio.create_task(self.writer.run(), name="writer")

    async def stop(self, drain_s: float) -> None:
        """Write what is settled, let go of the providers and of the database."""
        await self.writer.drain(drain_s)
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=drain_s)
        await _close_all([*self._opened.values()])
        await self.store.close()

    async def configure(self, config: Config) -> Services:
        """The services of a configuration. Raises `ConfigError`, and then nothing has changed."""
        catalog = catalog_of(config, self.clock.unix_ms())
        planner = planner_of(config, catalog)
        opened = {name: self._open(name, settings, config) for name, settings in config.providers.items()}
        gone = [old for name, old in self._opened.items() if opened.get(name) is not old]
        self._opened = opened
        self.state.settings = config.breaker
        self.config = config
        providers = {name: entry.provider for name, entry in opened.items()}
        services = Services(
            catalog=catalog,
            planner=planner,
            mesh=Mesh(providers, self.state, config.timeouts),
            state=self.state,
            store=self.store,
            writer=self.writer,
            recorder=Recorders(self.writer, self.metrics),
            authenticator=self.authenticator,
            limiter=RateLimiter(config.limits, self.clock.monotonic),
            clock=self.clock,
            metrics=self.metrics,
            providers=providers,
            new_request_id=new_request_id,
            edge=Edge(config.server.max_body_bytes, config.server.body_read_s),
            keep_text=config.storage.keep_text,
        )
        if gone:
            # Requests in flight may still be using them; none outlives the total deadline.
            loop = asyncio.get_running_loop()
            loop.call_later(config.timeouts.total_s + 1, lambda: loop.create_task(_close_all(gone)))
        return services

    def _open(self, name: str, settings: ProviderSettings, config: Config) -> Opened:
        key = (settings, config.timeouts.connect_s)
        old = self._opened.get(name)
        if old is not None and old.settings == key:
            return old
        provider = open_provider(name, settings, config.timeouts.connect_s)
        life = asyncio.create_task(provider.run(), name=name) if isinstance(provider, LocalProvider) else None
        return Opened(key, provider, life)


async def _close_all(opened: Sequence[Opened]) -> None:
    for each in opened:
        await each.close()


def catalog_of(config: Config, unix_ms: int) -> Catalog:
    """The models that a configuration offers. Raises `ConfigError`."""
    vendors = {name: vendor_of(name, settings) for name, settings in config.providers.items()}
    try:
        return load_catalog(config.models, vendors, unix_ms=unix_ms)
    except CatalogError as error:
        raise ConfigError(f"{config.source or 'environment'}: {error}") from error


def planner_of(config: Config, catalog: Catalog) -> Planner:
    """The planner of a configuration. Raises `ConfigError`, naming the key whose model is not on offer."""
    auto = config.auto
    named = [("default", auto.default), *((f"map.{task}", name) for task, name in auto.map.items())]
    named += [(f"models[{index}]", name) for index, name in enumerate(auto.models)]
    for key, name in named:
        try:
            if name is not None:
                catalog.resolve(name)
        except UnknownModel as error:
            raise ConfigError(f"{config.source or 'environment'}: auto.{key} = {name!r}: {error.message}") from error
    return Planner(catalog, auto)


def check(config: Config, unix_ms: int) -> None:
    """Everything that can be wrong with a configuration before anything is opened. Raises `ConfigError`."""
    planner_of(config, catalog_of(config, unix_ms))
    for name, settings in config.providers.items():
        if settings.kind == "scripted":
            _script(name, settings)


def vendor_of(name: str, settings: ProviderSettings) -> str:
    """Which vendor's models a provider offers: by its name, or by its kind."""
    if settings.kind in ("local", "scripted", "anthropic", "gemini"):
        return settings.kind
    return name


def open_provider(name: str, settings: ProviderSettings, connect_s: float) -> Provider:
    """The provider of a configured connection. Nothing is contacted yet."""
    match settings.kind:
        case "scripted":
            return ScriptedProvider(name, _script(name, settings))
        case "local":
            return LocalProvider(
                name,
                cache=cache_directory(),
                connect=lambda base_url, key: _http(
                    Endpoint(name, base_url, key), OpenAICodec("local"), connect_s, None
                ),
                environ=environment(),
            )
        case kind:
            assert kind is not None, "checked by the configuration"
            assert settings.base_url is not None, "checked by the configuration"
            row = VENDORS.get(name)
            auth = row.auth if row is not None and row.family == kind else VENDORS[kind].auth
            if auth == "none" and settings.api_key is not None:
                auth = "bearer"  # a server on one's own machine that was told to ask for a key
            endpoint = Endpoint(name, settings.base_url, settings.api_key, auth)
            return _http(endpoint, codec_of(kind, name), connect_s, settings.proxy)


def _script(name: str, settings: ProviderSettings) -> Script:
    try:
        return load_script(Path(settings.script)) if settings.script else Script()
    except ScriptError as error:
        raise ConfigError(f"providers.{name}.script = {settings.script!r}: {error}") from error


def codec_of(kind: str, vendor: str) -> Codec:
    """The wire format of a kind of provider; `vendor` picks an OpenAI-compatible one's accent."""
    return {"anthropic": anthropic.CODEC, "gemini": gemini.CODEC}.get(kind) or OpenAICodec(vendor)


def _http(endpoint: Endpoint, codec: Codec, connect_s: float, proxy: str | None) -> HttpProvider:
    return HttpProvider(endpoint, codec, Transport(connect_timeout_s=connect_s, proxy=proxy))


async def open_runtime(config: Config) -> Runtime:
    """Open the database, bring its schema up to date, start writing. Raises `StorageUnavailable`."""
    store = Store.open(config.storage.url)
    await store.migrate()
    runtime = Runtime(config, store)
    await runtime.start()
    return runtime


def asgi(config: Config) -> Gateway:
    """The application of one process. SIGHUP reads the configuration's file again: valid, it takes the place of the old
    one for every request that comes after; not valid, it is refused whole and said so in the log."""

    async def lifespan(gateway: Gateway) -> AsyncIterator[None]:
        runtime = await open_runtime(config)
        gateway.services = await runtime.configure(await with_discovered(config))
        loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[None]] = set()

        def hang_up() -> None:
            task = loop.create_task(_reload(gateway, runtime))
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            await runtime.stop(config.server.drain_s)

    return Gateway(lifespan)


FIXED = ("server", "storage", "state")
"""Sections that only a restart can change: the sockets and the database are open."""


async def _reload(gateway: Gateway, runtime: Runtime) -> None:
    old = runtime.config
    try:
        new = load_config(old.source)
        for section in FIXED:
            if getattr(new, section) != getattr(old, section):
                raise ConfigError(f"{new.source}: [{section}] has changed, which needs a restart")
        gateway.services = await runtime.configure(await with_discovered(new))
    except Exception as error:
        log.error("configuration not reloaded, the old one stays: %s", error)
    else:
        log.warning("configuration reloaded from %s", new.source or "the environment")
