"""The composition root: the only module that names concrete providers, stores, states and recorders.

`Runtime` holds what outlives a configuration (the database, circuits, metrics); `Runtime.configure` makes the
`Services` of one configuration, and a reload makes the next while requests in flight finish on theirs.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import FrameType
from uuid import uuid4

from msgspec import DecodeError, Struct

from llmwise.api.auth import Authenticator, unreadable
from llmwise.api.limits import RateLimiter
from llmwise.api.rounds import Rounds
from llmwise.api.server import Gateway
from llmwise.api.services import Edge, Services
from llmwise.catalog.load import load as load_catalog
from llmwise.catalog.lookup import Catalog
from llmwise.catalog.rows import CatalogError
from llmwise.clock import SystemClock, new_request_id
from llmwise.config import Config, ConfigError, ProviderSettings, cache_directory, environment
from llmwise.config import load as load_config
from llmwise.discovery import with_discovered
from llmwise.domain.errors import CallerError, UnknownModel
from llmwise.domain.models import Kind
from llmwise.domain.ports import Clock, Codec, Provider
from llmwise.domain.requests import AUTO
from llmwise.domain.validation import did_you_mean
from llmwise.insights.control import Steering
from llmwise.orchestration.compose import Composer, Composition, CompositionError, compositions_of
from llmwise.orchestration.continuity import Continuity
from llmwise.orchestration.handling import Handling
from llmwise.orchestration.mesh import Mesh
from llmwise.orchestration.prompts import BUILT_IN, NAMES, Prompts
from llmwise.orchestration.redaction import redactor
from llmwise.providers import anthropic, gemini, responses
from llmwise.providers.by_model import ByModel
from llmwise.providers.http import Endpoint, HttpProvider
from llmwise.providers.local.provider import LocalProvider
from llmwise.providers.minilm.provider import MiniLMProvider
from llmwise.providers.openai import OpenAICodec
from llmwise.providers.registry import VENDORS
from llmwise.providers.scripted import Script, ScriptedProvider, ScriptError, load_script
from llmwise.providers.transport import Transport
from llmwise.routing.chains import ChainError, chains_of
from llmwise.routing.planner import Planner
from llmwise.state.memory import MemoryState
from llmwise.state.port import OPENING_S, Purse, SharedState, Spent
from llmwise.state.turns import MemoryTurns
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.keeper import Keeper, RetentionSettings
from llmwise.storage.sealing import Sealer, SealingError
from llmwise.storage.spool import Spool
from llmwise.storage.store import Store
from llmwise.storage.writer import Writer
from llmwise.telemetry.metrics import Metrics, Recorders

log = logging.getLogger(__name__)

CONNECT_S = 2.0
"""How long a start waits for the shared state; then it begins with limits of its own."""


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

    def __init__(self, config: Config, store: Store, spool: Spool | None = None) -> None:
        self.config = config
        self.clock = SystemClock()
        self.store = store
        self.state = open_state(config, self.clock, self._spent)
        self.turns = MemoryTurns(config.continuity, self.clock.monotonic)
        self.metrics = Metrics()
        self.writer = Writer(store, self.clock, spool=spool, on_replayed=self.state.replayed)
        self.authenticator = Authenticator(store, self.clock)
        self.steering = Steering(store)
        self.rounds: Rounds | None = None
        self.keeper = Keeper(
            store,
            self.clock,
            RetentionSettings(config.storage.keep_text_days, config.storage.keep_records_days),
        )
        self._opened: dict[str, Opened] = {}
        self._writing: asyncio.Task[None] | None = None
        self._sharing: asyncio.Task[None] | None = None
        self._learning: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write records. The store is migrated already."""
        self._writing = asyncio.create_task(self.writer.run(), name="writer")
        self._sharing = asyncio.create_task(self.state.run(), name="state")
        self._keeping = asyncio.create_task(self.keeper.run(), name="retention")
        await self.state.ready(CONNECT_S)

    async def learn(self, services: Callable[[], Services]) -> None:
        """Begin the optimizer's rounds, with what steers Auto read once; `services` gives those in force."""
        self.rounds = Rounds(services, uuid4().hex, self.config.alerts, self.config.quality)
        await self.rounds.refresh()
        self._learning = asyncio.create_task(self.rounds.run(), name="rounds")

    async def stop(self, drain_s: float) -> None:
        """Write what is settled, let go of the providers and of the database."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        await self.writer.drain(drain_s)
        await self.state.close(drain_s)
        if self._sharing is not None:
            self._sharing.cancel()
            await asyncio.wait([self._sharing])
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=drain_s)
        await _close_all([*self._opened.values()])
        await self.store.close()

    async def _spent(self, purse: Purse, since_ms: int) -> int:
        """What the ledger says, after all that this process has settled is in it."""
        if not await self.writer.flush(OPENING_S / 2):
            raise StorageUnavailable(self.store.url, "it is behind with the records", "wait until it has caught up")
        return await self.store.spent(purse.account_id, purse.owner if purse.kind == "key" else None, since_ms)

    async def configure(self, config: Config) -> Services:
        """The services of a configuration. Raises `ConfigError`, and then nothing has changed."""
        catalog = catalog_of(config, self.clock.unix_ms())
        planner = planner_of(config, catalog)
        compositions, prompts = compositions_in(config, catalog), prompts_of(config)
        sealer = sealer_of(config)
        _check_helpers(config, catalog)
        opened = {name: self._open(name, settings, config) for name, settings in config.providers.items()}
        gone = [old for name, old in self._opened.items() if opened.get(name) is not old]
        self._opened = opened
        self.state.settings = config.breaker
        self.turns.settings = config.continuity
        self.config = config
        if self.rounds is not None:
            self.rounds.alerts, self.rounds.quality = config.alerts, config.quality
        self.authenticator.open_key = unreadable if sealer is None else sealer.open
        self.authenticator.forget()
        providers = {name: entry.provider for name, entry in opened.items()}
        mesh = Mesh(providers, self.state, config.timeouts)
        services = Services(
            catalog=catalog,
            planner=planner,
            mesh=mesh,
            continuity=Continuity(Composer(mesh, compositions, prompts), self.turns, providers),
            prompts=prompts,
            state=self.state,
            store=self.store,
            writer=self.writer,
            recorder=Recorders(self.writer, self.metrics),
            steering=self.steering,
            authenticator=self.authenticator,
            limiter=RateLimiter(config.limits, self.state),
            clock=self.clock,
            metrics=self.metrics,
            providers=providers,
            new_request_id=new_request_id,
            edge=Edge(config.server.max_body_bytes, config.server.body_read_s),
            kept=Handling(config.storage.keep_text, redact=redactor(config.privacy.redact)),
            sealer=sealer,
            memory=config.memory,
            copilot=config.copilot,
            retention=self.keeper.settings,
            margin=config.credits.margin,
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


def open_state(config: Config, clock: Clock, spent: Spent) -> SharedState:
    """The state that the configuration names; nothing is contacted yet."""
    if config.state.url.startswith("memory://"):
        return MemoryState(clock, config.breaker, spent, strict=config.state.strict)
    from llmwise.state.valkey import ValkeyState  # only who shares needs its client

    return ValkeyState(config.state, clock, config.breaker, spent)


def catalog_of(config: Config, unix_ms: int) -> Catalog:
    """The models that a configuration offers. Raises `ConfigError`."""
    prices = Path(config.catalog.prices) if config.catalog.prices else None
    vendors = {name: vendor_of(name, settings) for name, settings in config.providers.items()}
    try:
        return load_catalog(config.models, vendors, unix_ms=unix_ms, prices_file=prices)
    except CatalogError as error:
        raise ConfigError(f"{config.source or 'environment'}: {error}") from error
    except (OSError, DecodeError) as error:
        advice = "write it by `llmwise catalog update --apply`, or take the key out"
        raise ConfigError(f"{config.source}: catalog.prices = {str(prices)!r}: {error}; {advice}") from error


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
    try:
        chains = chains_of(config.chains, catalog)
    except ChainError as error:
        raise ConfigError(f"{config.source or 'environment'}: {error}") from error
    composed = [composition.card for composition in compositions_in(config, catalog).values()]
    return Planner(catalog, auto, chains, composed)


def compositions_in(config: Config, catalog: Catalog) -> dict[str, Composition]:
    """The blends and cascades of a configuration. Raises `ConfigError`."""
    try:
        return compositions_of(config.blend, config.cascade, catalog)
    except CompositionError as error:
        raise ConfigError(f"{config.source or 'environment'}: {error}") from error


def sealer_of(config: Config) -> Sealer | None:
    """What accounts' provider keys are encrypted with; `None` without a master key. Raises `ConfigError`."""
    try:
        return Sealer(config.secrets.keys) if config.secrets.keys else None
    except SealingError as error:
        raise ConfigError(f"{config.source or 'environment'}: secrets.keys: {error}") from error


def _check_helpers(config: Config, catalog: Catalog) -> None:
    """The models that the gateway asks for its own ends are on offer. Raises `ConfigError`."""
    helpers: tuple[tuple[str, str | None, Kind], ...] = (
        ("memory.model", config.memory.model, "embedding"),
        ("copilot.model", config.copilot.model, "chat"),
        ("quality.judge", config.quality.judge, "chat"),
    )
    for key, name, kind in helpers:
        if name is None or (kind == "chat" and name == AUTO):
            continue
        try:
            catalog.resolve(name, kind)
        except CallerError as error:
            raise ConfigError(f"{config.source or 'environment'}: {key} = {name!r}: {error.message}") from error


def prompts_of(config: Config) -> Prompts:
    """The built-in texts, with the configuration's own in place. Raises `ConfigError`."""
    try:
        return BUILT_IN.with_own(config.prompts)
    except KeyError as error:
        name = str(error.args[0])
        near = did_you_mean(name, NAMES) or f"; known: {', '.join(NAMES)}"
        raise ConfigError(f"{config.source or 'environment'}: prompts.{name}: unknown prompt{near}") from None
    except ValueError as error:
        advice = "is empty; write what the model is to be told, or leave it out"
        raise ConfigError(f"{config.source or 'environment'}: prompts.{error}: {advice}") from None


def check(config: Config, unix_ms: int) -> None:
    """Everything that can be wrong with a configuration before anything is opened. Raises `ConfigError`."""
    planner_of(config, catalog_of(config, unix_ms))
    prompts_of(config)
    sealer_of(config)
    _check_helpers(config, catalog_of(config, unix_ms))
    for name, settings in config.providers.items():
        if settings.kind == "scripted":
            _script(name, settings)


def vendor_of(name: str, settings: ProviderSettings) -> str:
    """Which vendor's models a provider offers: by its name, or by its kind."""
    if settings.kind in ("local", "minilm", "scripted", "anthropic", "gemini"):
        return settings.kind
    if settings.kind == "responses" and name not in VENDORS:
        return "openai"  # whose API it is
    return name


def open_provider(name: str, settings: ProviderSettings, connect_s: float) -> Provider:
    """The provider of a configured connection. Nothing is contacted yet."""
    match settings.kind:
        case "scripted":
            return ScriptedProvider(name, _script(name, settings))
        case "minilm":
            return MiniLMProvider(name)
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
            auth = row.auth if row is not None and row.family == kind else (VENDORS.get(kind) or VENDORS["openai"]).auth
            if auth == "none" and settings.api_key is not None:
                auth = "bearer"  # a server on one's own machine that was told to ask for a key
            endpoint = Endpoint(name, settings.base_url, settings.api_key, auth)
            http = _http(endpoint, codec_of(kind, name), connect_s, settings.proxy)
            if kind == name == "openai":  # some of its models are in the Responses API alone
                return ByModel(name, http, _http(endpoint, responses.CODEC, connect_s, settings.proxy))
            return http


def _script(name: str, settings: ProviderSettings) -> Script:
    try:
        return load_script(Path(settings.script)) if settings.script else Script()
    except ScriptError as error:
        raise ConfigError(f"providers.{name}.script = {settings.script!r}: {error}") from error


def codec_of(kind: str, vendor: str) -> Codec:
    """The wire format of a kind of provider; `vendor` picks an OpenAI-compatible one's accent."""
    codecs = {"anthropic": anthropic.CODEC, "gemini": gemini.CODEC, "responses": responses.CODEC}
    return codecs.get(kind) or OpenAICodec(vendor)


def _http(endpoint: Endpoint, codec: Codec, connect_s: float, proxy: str | None) -> HttpProvider:
    return HttpProvider(endpoint, codec, Transport(connect_timeout_s=connect_s, proxy=proxy))


async def open_runtime(config: Config) -> Runtime:
    """Open the database, bring its schema up to date, claim a spool, start writing. Raises `StorageUnavailable`."""
    store = Store.open(config.storage.url)
    await store.migrate()
    spool = Spool.claim(Path(config.storage.spool)) if config.storage.spool else None
    runtime = Runtime(config, store, spool)
    await runtime.start()
    return runtime


def asgi(config: Config) -> Gateway:
    """The application of one process. SIGHUP reads the configuration's file again: valid, it takes the place of the old
    one for every request that comes after; not valid, it is refused whole and said so in the log."""

    async def lifespan(gateway: Gateway) -> AsyncIterator[None]:
        runtime = await open_runtime(config)
        gateway.services = await runtime.configure(await with_discovered(config))
        await runtime.learn(lambda: in_force(gateway))
        loop = asyncio.get_running_loop()
        reloads: set[asyncio.Task[None]] = set()

        def hang_up() -> None:
            task = loop.create_task(_reload(gateway, runtime))
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        def end(signal_number: int, frame: FrameType | None) -> None:
            """The server has been told to stop: it waits for the requests under way, and then cancels them. A little
            earlier they are ended in good order, so that a stream still says why it ends."""
            if callable(stop_serving):
                stop_serving(signal_number, frame)
            loop.call_soon_threadsafe(loop.call_later, ENDING_AT * config.server.drain_s, end_requests)

        def end_requests() -> None:
            assert gateway.services is not None
            gateway.services.mesh.end()

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        stop_serving = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, end)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            signal.signal(signal.SIGTERM, stop_serving)
            await runtime.stop(config.server.drain_s)

    return Gateway(lifespan)


def in_force(gateway: Gateway) -> Services:
    """The services of the configuration in force."""
    assert gateway.services is not None, "they are made before anything asks"
    return gateway.services


ENDING_AT = 0.9
"""Of the time that requests in flight may go on after SIGTERM: when they are told that the gateway is ending."""

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
