"""The configuration: one frozen tree, composed of each component's own settings; the only reader of its file and of the
environment.

Secrets are never values in the file: `env:NAME` or `file:PATH`. What is wrong is said with the key's path, the value
and the nearest right name. Without a file the gateway offers what the environment names, and the local model.
"""

import os
import re
import tomllib
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from llmwise.api.limits import CreditSettings, LimitSettings
from llmwise.catalog.load import CatalogSettings
from llmwise.catalog.rows import ModelSettings
from llmwise.domain.validation import (
    Misfit,
    did_you_mean,
    field_of,
    fields_at,
    misfit,
    shown,
    types_at,
    value_at,
    words_at,
)
from llmwise.insights.settings import AlertSettings, QualitySettings
from llmwise.orchestration.compose import BlendSettings, CascadeSettings
from llmwise.orchestration.copilot import CopilotSettings
from llmwise.orchestration.deadlines import TimeoutSettings
from llmwise.orchestration.redaction import PatternError, PrivacySettings, redactor
from llmwise.orchestration.remembering import MemorySettings
from llmwise.providers.local.weights import default_cache
from llmwise.providers.registry import VENDORS
from llmwise.routing.auto import GUIDE_MAP, AutoSettings
from llmwise.routing.breaker import BreakerSettings
from llmwise.routing.chains import ChainSettings
from llmwise.state.port import StateSettings
from llmwise.state.turns import ContinuitySettings

Kind: TypeAlias = Literal["openai", "responses", "anthropic", "gemini", "local", "minilm", "scripted"]

DEFAULT_DIRECTORY = Path.home() / ".llmwise"
DEFAULT_PORT = 8080
MAX_SECONDS = 30 * 24 * 3600

CLIENTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "redis": ("valkey", ("valkey://", "valkeys://", "redis://", "rediss://", "unix://")),
    "psycopg": ("postgres", ("postgresql://",)),
}
"""By the module of a server's client: the extra that brings it, and how the server's addresses begin."""

SERVER_URLS: Mapping[str, tuple[str, ...]] = {
    "ollama": ("OLLAMA_BASE_URL", "OLLAMA_HOST"),
    "vllm": ("VLLM_BASE_URL",),
    "lmstudio": ("LMSTUDIO_BASE_URL", "LM_STUDIO_BASE_URL"),
}
"""Where the environment names a model server on the user's own machines; OLLAMA_HOST is Ollama's own."""


class ConfigError(Exception):
    """The configuration can't be used. The message names the key's path, the value and what to do."""


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[server]`: the door. Only a restart changes it.

    host                address to listen on
    port                0 takes a free one
    workers             processes; with [state] memory:// circuits and limits are each one's own
    max_body_bytes      a request's body at most
    max_header_bytes    a request's headers at most
    header_read_s       how long a caller may take to send its headers
    body_read_s         how long it may take to send its body
    write_s             how long it may stop reading an answer before it is taken for gone
    drain_s             at the end, how long requests in flight may go on, and records be written
    trusted_proxies     addresses whose X-Forwarded-For is believed
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    workers: int = 1
    max_body_bytes: int = 32 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    header_read_s: float = 10.0
    body_read_s: float = 30.0
    write_s: float = 60.0
    drain_s: float = 30.0
    trusted_proxies: list[str] = []


class StorageSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[storage]`: what lasts. Only a restart changes it.

    url         `sqlite:///PATH`, relative to the configuration's folder; absent: `llmwise.db` there, or in `~/.llmwise`
                without a configuration. `postgresql://USER@HOST/NAME`, or `env:NAME` or `file:PATH` of one that holds
                a password
    spool       folder of the records that are not in the database yet, on a disk that outlives the process; absent:
                the database's file with `-spool` behind it, or `llmwise-spool` in the configuration's folder
    keep_text   keep questions and answers for the history; without it only metadata is stored
    keep_text_days      texts older than this are forgotten, their records stay; absent: never
    keep_records_days   records older than this are deleted; the ledger of credits stays; absent: never
    """

    url: str = ""
    spool: str = ""
    keep_text: bool = True
    keep_text_days: int | None = None
    keep_records_days: int | None = None


class SecretSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[secrets]`: the master keys that accounts' provider keys are encrypted with; without one accounts have none.

    keys    `env:NAME` or `file:PATH`, the newest first, made by `llmwise secrets new`. In this struct they have been
            looked up
    """

    keys: list[str] = []

    def __repr__(self) -> str:
        return f"SecretSettings({len(self.keys)} keys)"


class ProviderSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[providers.NAME]`: one connection each. A NAME that is a known vendor's brings its `kind` and `base_url` along.

    kind        the wire format
    base_url    where it is; required of an OpenAI-compatible server that is no known vendor
    api_key     `env:NAME` or `file:PATH`, never the secret itself. In this struct it has been looked up
    script      a scripted provider's file, relative to the configuration's folder
    proxy       `http://[user:password@]host:port`; the environment's proxies are not looked at
    """

    kind: Kind | None = None
    base_url: str | None = None
    api_key: str | None = None
    script: str | None = None
    proxy: str | None = None

    def __repr__(self) -> str:
        key = "***" if self.api_key else None
        return f"ProviderSettings(kind={self.kind!r}, base_url={self.base_url!r}, api_key={key})"


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole tree. `source` is the file it was read from, `None` when there is none."""

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    state: StateSettings = StateSettings()
    providers: dict[str, ProviderSettings] = {}
    models: list[ModelSettings] = []
    catalog: CatalogSettings = CatalogSettings()
    breaker: BreakerSettings = BreakerSettings()
    timeouts: TimeoutSettings = TimeoutSettings()
    auto: AutoSettings = AutoSettings()
    chains: dict[str, ChainSettings] = {}
    blend: dict[str, BlendSettings] = {}
    cascade: dict[str, CascadeSettings] = {}
    prompts: dict[str, str] = {}
    limits: LimitSettings = LimitSettings()
    credits: CreditSettings = CreditSettings()
    continuity: ContinuitySettings = ContinuitySettings()
    secrets: SecretSettings = SecretSettings()
    privacy: PrivacySettings = PrivacySettings()
    memory: MemorySettings = MemorySettings()
    copilot: CopilotSettings = CopilotSettings()
    alerts: AlertSettings = AlertSettings()
    quality: QualitySettings = QualitySettings()
    source: str | None = None


def load(
    path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None, *, secrets: bool = True
) -> Config:
    """Read the configuration from `path`, else from `LLMWISE_CONFIG`, else make it of the environment. Without
    `secrets` they are not looked up: for commands that talk to no provider.

    Raises `ConfigError`; nothing is half read.
    """
    env = os.environ if environ is None else environ
    chosen = path or env.get("LLMWISE_CONFIG")
    if not chosen:
        return _without_a_file(env)
    file = Path(chosen)
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; create it, or name another by --config or LLMWISE_CONFIG") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: can't be read: {error}") from error
    return parse(text, source=str(file), environ=env, secrets=secrets)


def environment() -> Mapping[str, str]:
    """The process's environment, for a child process that inherits it."""
    return dict(os.environ)


def cache_directory() -> Path:
    """Where downloaded model weights are kept: `LLMWISE_CACHE`, else below the user's cache."""
    return default_cache(os.environ)


def parse(text: str, *, source: str, environ: Mapping[str, str], secrets: bool = True) -> Config:
    """The tree that `text` (TOML) describes, checked whole. Relative paths in it are relative to `source`."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    if "source" in tree:
        raise ConfigError(f"{source}: source: unknown key")
    try:
        config = msgspec.convert({**tree, "source": source}, Config, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error), tree)}") from error
    return _checked(config, environ if secrets else None)


def _checked(config: Config, environ: Mapping[str, str] | None) -> Config:
    source = config.source or "environment"
    folder = Path(source).parent if config.source else DEFAULT_DIRECTORY

    def wrong(path: str, value: object, advice: str) -> ConfigError:
        return ConfigError(f"{source}: {path} = {value!r}: {advice}")

    server, limits = config.server, config.limits
    for path, value, least, most in (
        ("server.port", server.port, 0, 65535),
        ("server.workers", server.workers, 1, 256),
        ("server.max_body_bytes", server.max_body_bytes, 1024, 1 << 30),
        ("server.max_header_bytes", server.max_header_bytes, 1024, 1 << 20),
        ("breaker.failures", config.breaker.failures, 1, 1000),
        ("continuity.max_bytes", config.continuity.max_bytes, 0, 1 << 40),
        ("auto.max_fallbacks", config.auto.max_fallbacks, 0, 8),
        ("auto.min_confidence", config.auto.min_confidence, 0, 1),
        ("quality.share", config.quality.share, 0, 1),
        ("quality.max_usd_per_day", config.quality.max_usd_per_day, 0, 10_000),
    ):
        if not least <= value <= most:
            raise wrong(path, value, f"must be between {least} and {most}")
    for section in ("server", "breaker", "timeouts", "continuity"):
        for name, seconds in msgspec.structs.asdict(getattr(config, section)).items():
            if name.endswith("_s") and seconds is not None and not 0 < seconds <= MAX_SECONDS:
                raise wrong(f"{section}.{name}", seconds, f"must be more than 0 and at most {MAX_SECONDS} (30 days)")
    for name, count in msgspec.structs.asdict(limits).items():
        if name != "enabled" and count < 1:
            raise wrong(f"limits.{name}", count, "must be more than 0; `enabled = false` counts nothing")
    for task in config.auto.map:
        if task not in GUIDE_MAP:
            near = did_you_mean(task, GUIDE_MAP) or f"; known: {', '.join(GUIDE_MAP)}"
            raise wrong(f"auto.map.{task}", config.auto.map[task], f"unknown task type{near}")
    state = msgspec.structs.replace(config.state, url=_state_url(config.state, environ, folder, wrong))
    if not 0 <= config.credits.margin <= 100:
        raise wrong("credits.margin", config.credits.margin, "must be between 0 and 100")

    try:
        redactor(config.privacy.redact)
    except PatternError as error:
        raise wrong("privacy.redact", config.privacy.redact, str(error)) from error
    for name in ("keep_text_days", "keep_records_days"):
        days = getattr(config.storage, name)
        if days is not None and not 1 <= days <= 36_500:
            raise wrong(f"storage.{name}", days, "must be between 1 and 36500; leave it out to keep all")
    if not 0 <= config.memory.min_score <= 1:
        raise wrong("memory.min_score", config.memory.min_score, "must be between 0 and 1")

    providers = {name: _provider(name, settings, environ, folder, wrong) for name, settings in config.providers.items()}
    _check_models(config, providers, wrong)
    return msgspec.structs.replace(
        config,
        providers=providers,
        storage=_storage(config.storage, environ, folder, wrong),
        state=state,
        secrets=_secrets(config.secrets, environ, folder, wrong),
        alerts=_alerts(config.alerts, environ, folder, wrong),
        catalog=CatalogSettings(config.catalog.prices and str(folder / Path(config.catalog.prices).expanduser())),
    )


def _alerts(settings: AlertSettings, environ: Mapping[str, str] | None, folder: Path, wrong: Any) -> AlertSettings:
    """With the secret looked up."""
    if settings.webhook is not None and not _is_address(settings.webhook, ("http", "https")):
        raise wrong("alerts.webhook", settings.webhook, "must begin with http:// or https:// and name a host")
    secret = None if environ is None else _secret(settings.secret, "alerts.secret", environ, folder, wrong)
    return msgspec.structs.replace(settings, secret=secret)


def _secrets(settings: SecretSettings, environ: Mapping[str, str] | None, folder: Path, wrong: Any) -> SecretSettings:
    if environ is None:
        return SecretSettings()
    found = []
    for index, named in enumerate(settings.keys):
        path = f"secrets.keys[{index}]"
        key = _secret(named, path, environ, folder, wrong) or ""
        try:
            sound = len(urlsafe_b64decode(key)) == 32
        except ValueError:
            sound = False
        if not sound:
            raise wrong(path, named, "what it names is no master key: make one with `llmwise secrets new`")
        found.append(key)
    return SecretSettings(found)


def _state_url(settings: StateSettings, environ: Mapping[str, str] | None, folder: Path, wrong: Any) -> str:
    url = settings.url
    if url.startswith(("env:", "file:")):
        url = "" if environ is None else _secret(url, "state.url", environ, folder, wrong) or ""
        _check_client("state.url", url, wrong)
        return url
    if not url.startswith(("memory://", *CLIENTS["redis"][1])):
        raise wrong("state.url", url, "must be memory://, valkey://HOST:PORT/0, valkeys:// (TLS) or unix:///PATH")
    if "@" in url:
        raise wrong("state.url", "***", "a password is named, never written here: env:NAME or file:PATH of the URL")
    if not 0.001 <= settings.timeout_s <= 10:
        raise wrong("state.timeout_s", settings.timeout_s, "must be between 0.001 and 10")
    _check_client("state.url", url, wrong)
    return url


def _check_client(path: str, url: str, wrong: Any) -> None:
    """What talks to a server is installed on demand."""
    for module, (extra, schemes) in CLIENTS.items():
        if url.startswith(schemes) and find_spec(module) is None:
            raise wrong(path, "***" if "@" in url else url, f"needs its client: pip install 'llmwise[{extra}]'")


def _storage(settings: StorageSettings, environ: Mapping[str, str] | None, folder: Path, wrong: Any) -> StorageSettings:
    """With the database's URL and the spool's folder in full; a database in memory has no spool."""
    url = settings.url or f"sqlite:///{folder / 'llmwise.db'}"
    if url.startswith(("env:", "file:")):
        url = "" if environ is None else _secret(url, "storage.url", environ, folder, wrong) or ""
    elif url.startswith("postgresql://") and urlsplit(url).password:
        raise wrong("storage.url", "***", "a password is named, never written here: env:NAME or file:PATH of the URL")
    _check_client("storage.url", url, wrong)
    spool = folder / "llmwise-spool"
    if url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
        if path == ":memory:":
            return msgspec.structs.replace(settings, url=url, spool="")
        file = folder / Path(path).expanduser()
        url, spool = f"sqlite:///{file}", file.with_name(f"{file.name}-spool")
    elif url and not url.startswith("postgresql://"):
        given = "***" if "@" in url else url
        raise wrong("storage.url", given, "must be sqlite:///PATH or postgresql://USER@HOST/NAME")
    if settings.spool:
        spool = folder / Path(settings.spool).expanduser()
    return msgspec.structs.replace(settings, url=url, spool=str(spool))


def _check_models(config: Config, providers: Mapping[str, ProviderSettings], wrong: Any) -> None:
    seen: dict[str, int] = {}
    for index, model in enumerate(config.models):
        path = f"models[{index}]"
        if model.provider is not None and model.provider not in providers:
            advice = f"no [providers.{model.provider}]{did_you_mean(model.provider, providers)}"
            raise wrong(f"{path}.provider", model.provider, advice)
        if model.id in seen:
            raise wrong(f"{path}.id", model.id, f"models[{seen[model.id]}] has this id already; ids are unique")
        seen[model.id] = index


def _provider(
    name: str, settings: ProviderSettings, environ: Mapping[str, str] | None, folder: Path, wrong: Any
) -> ProviderSettings:
    path = f"providers.{name}"
    row = VENDORS.get(name)
    own: Kind | None = "local" if name == "local" else "minilm" if name == "minilm" else None
    kind = settings.kind or (row.family if row is not None else own)
    if kind is None:
        raise wrong(
            f"{path}.kind", None, f"say which kind: one of {', '.join(get_args(Kind))}{did_you_mean(name, VENDORS)}"
        )
    base_url = settings.base_url or (row.base_url if row is not None and row.family == kind else None)
    if base_url is None and kind in ("anthropic", "gemini"):
        base_url = VENDORS[kind].base_url
    if base_url is None and kind == "responses":  # OpenAI's own, unless another vendor speaks it too
        base_url = (row or VENDORS["openai"]).base_url
    if base_url is None and kind == "openai":
        known = ", ".join(sorted(VENDORS))
        raise wrong(f"{path}.base_url", None, f"is required, unless the provider's name is one of {known}")
    if base_url is not None and not _is_address(base_url, ("http", "https")):
        raise wrong(f"{path}.base_url", base_url, "must begin with http:// or https:// and name a host")
    if settings.proxy is not None and not _is_address(settings.proxy, ("http",)):
        raise wrong(f"{path}.proxy", "***", "must be http://[user:password@]host:port")
    api_key = None if environ is None else _secret(settings.api_key, f"{path}.api_key", environ, folder, wrong)
    script = str(folder / settings.script) if settings.script else None
    return ProviderSettings(kind, base_url and base_url.rstrip("/"), api_key, script, settings.proxy)


def _is_address(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is none
        return False


def _secret(value: str | None, path: str, environ: Mapping[str, str], folder: Path, wrong: Any) -> str | None:
    if value is None:
        return None
    scheme, _, rest = value.partition(":")
    if scheme == "env" and rest:
        secret = environ.get(rest, "").strip()
        if not secret:
            raise wrong(path, value, f"the environment variable {rest} is not set or empty; set it to the secret")
        return secret
    if scheme == "file" and rest:
        file = folder / Path(rest).expanduser()
        try:
            secret = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise wrong(path, value, f"the file can't be read: {error}") from error
        if not secret:
            raise wrong(path, value, "the file is empty")
        return secret
    raise wrong(path, "***", "a secret is named, never written here: env:NAME or file:PATH")


def _without_a_file(env: Mapping[str, str]) -> Config:
    providers: dict[str, ProviderSettings] = {}
    for name, vendor in VENDORS.items():
        if vendor.env and env.get(vendor.env, "").strip():
            providers[name] = ProviderSettings(vendor.family, vendor.base_url, f"env:{vendor.env}")
    for name, variables in SERVER_URLS.items():
        url = next((value for variable in variables if (value := env.get(variable, "").strip())), None)
        if url is not None:
            providers[name] = ProviderSettings("openai", _server_url(url))
    providers["local"] = ProviderSettings("local")
    return _checked(Config(providers=providers), env)


def _server_url(url: str) -> str:
    """`OLLAMA_HOST` may be `host:port`; all of these servers speak OpenAI's format below /v1."""
    url = url if "://" in url else f"http://{url}"
    return url if re.search(r"/v\d+/?$", url) else url.rstrip("/") + "/v1"


def _explain(message: str, tree: Mapping[str, Any]) -> str:
    """msgspec's message, with the path in TOML's terms, the value, and the nearest right name for an unknown key."""
    wrong = misfit(message)
    if wrong.in_map:  # in a table of tables: msgspec does not say under which name
        wrong = msgspec.structs.replace(wrong, keys=_find(tree, wrong))
    value = value_at(tree, wrong.keys)
    if wrong.missing:
        return f"{wrong.path}: is required"
    if wrong.unknown:
        known = [field for field in fields_at(Config, wrong.keys) if field != "source"]
        near = did_you_mean(wrong.unknown, known) or f"; known: {', '.join(known)}"
        return f"{wrong.path} = {shown(field_of(value, wrong.unknown))}: unknown key{near}"
    given = "***" if wrong.keys and wrong.keys[-1] == "api_key" else shown(value)
    if wrong.what.startswith("invalid enum value"):
        options = words_at(Config, wrong.keys)
        return f"{wrong.path} = {given}: must be one of {', '.join(options)}{did_you_mean(str(value), options)}"
    return f"{wrong.path} = {given}: {wrong.what}"


def _find(tree: Mapping[str, Any], wrong: Misfit) -> tuple[str | int, ...]:
    """The way to the first entry of a table of tables that fails like `wrong`."""
    table = value_at(tree, wrong.keys)
    for name, entry in table.items() if isinstance(table, Mapping) else ():
        keys = (*wrong.keys, name)
        try:
            msgspec.convert(entry, types_at(Config, keys)[0], strict=True)
        except msgspec.ValidationError as error:
            return (*keys, *misfit(str(error)).keys)
    return wrong.keys
