"""The configuration: what a file means, what the environment offers without one, and what is said of a wrong one."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from llmwise.app import catalog_of, check
from llmwise.config import Config, ConfigError, load, parse
from llmwise.providers.registry import VENDORS

PLAYED = '[providers.played]\nkind = "scripted"\n[[models]]\nid = "played-model"\nprovider = "played"\n'


def read(text: str, environ: Mapping[str, str] | None = None, folder: Path = Path("/etc/llmwise")) -> Config:
    return parse(text, source=str(folder / "llmwise.toml"), environ=environ or {})


def with_provider(text: str) -> str:
    return f"[providers.other]\n{text}"


WRONG = {
    # its form
    "not TOML": ("[server\n", ("not TOML",)),
    "an unknown section": ("[sever]\n", ("sever = {}", "unknown key", "did you mean 'server'?")),
    "an unknown section like no other": ("[zzz]\n", ("zzz = {}", "unknown key", "known: server, storage")),
    "an unknown key": ("[server]\nprot = 1", ("server.prot = 1", "unknown key", "did you mean 'port'?")),
    "an unknown key of a provider": (
        with_provider('kind = "local"\nurl = "x"'),
        ("providers.other.url = 'x'", "unknown"),
    ),
    "an unknown key of a model": ('[[models]]\nid = "m"\nmodel = 1', ("models[0].model = 1", "unknown key")),
    "an unknown ability": (
        '[[models]]\nid = "m"\ncapabilities = {visions = true}',
        ("models[0].capabilities.visions = True", "did you mean 'vision'?"),
    ),
    "the source": ('source = "x"', ("source: unknown key",)),
    "a wrong type": ('[server]\nport = "http"', ("server.port = 'http'", "expected `int`")),
    "a wrong type of a provider": (with_provider("kind = 1"), ("providers.other.kind = 1", "expected `str | null`")),
    "a wrong type of a model": ("[[models]]\nid = 1", ("models[0].id = 1", "expected `str`")),
    "a wrong type in the map": ("[auto.map]\ncode = 1", ("auto.map.code = 1", "expected `str`")),
    # its numbers
    "a port out of range": ("[server]\nport = 70000", ("server.port = 70000", "between 0 and 65535")),
    "no workers": ("[server]\nworkers = 0", ("server.workers = 0", "between 1 and 256")),
    "a tiny body": ("[server]\nmax_body_bytes = 10", ("server.max_body_bytes = 10", "between 1024")),
    "no failures": ("[breaker]\nfailures = 0", ("breaker.failures = 0", "between 1 and 1000")),
    "no time": ("[timeouts]\ntotal_s = 0", ("timeouts.total_s = 0", "more than 0")),
    "a negative time": ("[timeouts]\nanswer_s = -1.0", ("timeouts.answer_s = -1.0", "more than 0")),
    "a negative drain": ("[server]\ndrain_s = -1.0", ("server.drain_s = -1.0", "more than 0")),
    "a negative pause": ("[breaker]\nhard_down_s = -1.0", ("breaker.hard_down_s = -1.0", "more than 0")),
    "no number": ("[timeouts]\nidle_s = nan", ("timeouts.idle_s = nan", "more than 0")),
    "endless": ("[timeouts]\ntotal_s = inf", ("timeouts.total_s = inf", "at most 2592000 (30 days)")),
    "no limit": ("[limits]\nchat = 0", ("limits.chat = 0", "enabled = false")),
    "too many fallbacks": ("[auto]\nmax_fallbacks = 9", ("auto.max_fallbacks = 9", "between 0 and 8")),
    "too sure": ("[auto]\nmin_confidence = 1.5", ("auto.min_confidence = 1.5", "between 0 and 1")),
    # secrets
    "a secret in the file": (
        '[providers.openai]\napi_key = "sk-secret"',
        ("providers.openai.api_key = '***'", "env:NAME or file:PATH"),
    ),
    "a secret in the file by mistake": (
        '[providers.openai]\napi_key = ["sk-secret"]',
        ("providers.openai.api_key = ***",),
    ),
    "a secret that is not set": (
        '[providers.openai]\napi_key = "env:NOT_SET"',
        ("'env:NOT_SET'", "environment variable NOT_SET is not set or empty; set it"),
    ),
    "a secret's file that is not there": (
        '[providers.openai]\napi_key = "file:gone"',
        ("providers.openai.api_key = 'file:gone'", "can't be read", "/etc/llmwise/gone"),
    ),
    # providers
    "an unknown kind": (with_provider('kind = "antropic"'), ("kind = 'antropic'", "did you mean 'anthropic'?")),
    "no kind": ('[providers.opnai]\nbase_url = "http://x"', ("providers.opnai.kind", "say which kind", "'openai'")),
    "no address": (with_provider('kind = "openai"'), ("providers.other.base_url", "is required")),
    "no address that is one": (
        with_provider('kind = "openai"\nbase_url = "localhost:1"'),
        ("providers.other.base_url = 'localhost:1'", "http:// or https://"),
    ),
    # models
    "two models of one id": (
        PLAYED + '[[models]]\nid = "played-model"\nprovider = "played"',
        ("models[1].id = 'played-model'", "models[0] has this id already"),
    ),
    "a model of nobody": (
        PLAYED + '[[models]]\nid = "n"\nprovider = "plaid"',
        ("models[1].provider = 'plaid'", "did you mean 'played'?"),
    ),
    "a model without an id": (PLAYED + '[[models]]\nprovider = "played"', ("models[1].id: is required",)),
    "a model called auto": (PLAYED + '[[models]]\nid = "auto"\nprovider = "played"', ("models[1].id = 'auto'",)),
    "a model that no provider of ours has": ('[[models]]\nid = "gpt-5.2"', ("models[0].id = 'gpt-5.2'", "'openai'")),
    "a price that is none": (
        PLAYED + '[[models]]\nid = "n"\nprovider = "played"\ninput_price = "dear"\noutput_price = 1',
        ("models[1].input_price = 'dear'", "USD per million tokens"),
    ),
    "half a price": (
        PLAYED + '[[models]]\nid = "n"\nprovider = "played"\ninput_price = 1',
        ("models[1].output_price", "state this one too"),
    ),
    # auto
    "an unknown default": (
        PLAYED + '[auto]\ndefault = "played-modal"',
        ("auto.default = 'played-modal'", "'played-model'"),
    ),
    "an unknown candidate": (PLAYED + '[auto]\nmodels = ["x"]', ("auto.models[0] = 'x'", "no model 'x'")),
    "an unknown model in the map": (PLAYED + '[auto.map]\ncode = "x"', ("auto.map.code = 'x'",)),
    "an unknown task in the map": (
        PLAYED + '[auto.map]\ncoed = "played-model"',
        ("auto.map.coed", "did you mean 'code'?"),
    ),
    "an unknown goal": ('[auto]\ngoal = "cheap"', ("auto.goal = 'cheap'", "balanced, latency, cost, reliability")),
    # the rest
    "a state elsewhere": ('[state]\nurl = "etcd://x"', ("state.url = 'etcd://x'", "memory://", "valkey://")),
    "a database of another kind": ('[storage]\nurl = "mysql://x"', ("storage.url = 'mysql://x'", "sqlite:///PATH")),
    "a script that is not there": (
        '[providers.played]\nkind = "scripted"\nscript = "s.toml"',
        ("providers.played.script", "/etc/llmwise/s.toml"),
    ),
}
"""What is wrong, and pieces of what is said of it: the key's path, the value, the remedy."""


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_is_refused_by_key_value_and_remedy(name: str) -> None:
    text, says = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        check(read(text), unix_ms=0)
    message = str(caught.value)
    for piece in says:
        assert piece in message
    assert "\n" not in message or "not TOML" in message
    assert "sk-secret" not in message
    assert "msgspec" not in message


def test_a_file_that_is_not_there_or_not_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: no such file; create it"):
        load(tmp_path / "nowhere.toml", {})
    with pytest.raises(ConfigError, match=r"can't be read"):
        load(tmp_path, {})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"can't be read"):
        load(tmp_path / "binary.toml", {})


# --- what a file means ---


def test_an_empty_file_is_all_defaults() -> None:
    config = read("")
    assert (config.server.host, config.server.port, config.server.workers) == ("127.0.0.1", 8080, 1)
    assert (config.limits.chat, config.limits.other, config.limits.burst) == (90, 180, 90)
    assert (config.breaker.failures, config.breaker.open_s) == (3, 30.0)
    assert config.providers == {}
    assert config.storage.url == "sqlite:////etc/llmwise/llmwise.db"


def test_the_file_is_found_by_its_argument_then_by_the_environment(tmp_path: Path) -> None:
    named, other = tmp_path / "named.toml", tmp_path / "other.toml"
    named.write_text("[server]\nport = 1")
    other.write_text("[server]\nport = 2")
    assert load(named, {"LLMWISE_CONFIG": str(other)}).server.port == 1
    assert load(None, {"LLMWISE_CONFIG": str(other)}).server.port == 2
    assert load(named, {}).source == str(named)


def test_a_known_vendor_s_name_brings_its_format_and_address() -> None:
    config = read('[providers.deepseek]\n[providers.anthropic]\nbase_url = "http://proxy/v1/"\n[providers.local]')
    deepseek, anthropic, local = (config.providers[name] for name in ("deepseek", "anthropic", "local"))
    assert (deepseek.kind, deepseek.base_url) == ("openai", VENDORS["deepseek"].base_url)
    assert (anthropic.kind, anthropic.base_url) == ("anthropic", "http://proxy/v1")
    assert local.kind == "local"


def test_an_own_name_says_its_kind_and_takes_the_vendor_s_address_where_there_is_one() -> None:
    config = read(
        '[providers.backup]\nkind = "anthropic"\n[providers.mine]\nkind = "openai"\nbase_url = "http://h:1/v1"'
    )
    assert config.providers["backup"].base_url == VENDORS["anthropic"].base_url
    assert config.providers["mine"].base_url == "http://h:1/v1"


def test_secrets_come_from_the_environment_or_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "key.txt").write_text("sk-from-file\n")
    text = '[providers.openai]\napi_key = "env:MY_KEY"\n[providers.deepseek]\napi_key = "file:key.txt"'
    config = read(text, {"MY_KEY": " sk-from-env "}, tmp_path)
    assert config.providers["openai"].api_key == "sk-from-env"
    assert config.providers["deepseek"].api_key == "sk-from-file"
    assert "sk-from" not in repr(config)
    (tmp_path / "key.txt").write_text(" \n")
    with pytest.raises(ConfigError, match="the file is empty"):
        read(text, {"MY_KEY": "x"}, tmp_path)


def test_paths_are_relative_to_the_configuration_s_folder(tmp_path: Path) -> None:
    text = '[storage]\nurl = "sqlite:///data/x.db"\n[providers.played]\nkind = "scripted"\nscript = "play.toml"'
    config = read(text, folder=tmp_path)
    assert config.storage.url == f"sqlite:///{tmp_path}/data/x.db"
    assert config.providers["played"].script == str(tmp_path / "play.toml")
    assert read('[storage]\nurl = "sqlite:////var/x.db"', folder=tmp_path).storage.url == "sqlite:////var/x.db"
    assert read('[storage]\nurl = "sqlite:///:memory:"', folder=tmp_path).storage.url == "sqlite:///:memory:"


# --- without a file ---


def test_without_a_file_and_without_keys_there_is_the_local_model() -> None:
    config = load(None, {})
    assert list(config.providers) == ["local"]
    assert config.source is None
    (card,) = catalog_of(config, 0)
    assert (card.provider, card.demonstration) == ("local", True)


@pytest.mark.parametrize("name", [name for name, vendor in VENDORS.items() if vendor.env])
def test_without_a_file_a_vendor_s_usual_key_offers_its_models(name: str) -> None:
    variable = VENDORS[name].env
    assert variable is not None
    config = load(None, {variable: "sk-x"})
    assert list(config.providers) == [name, "local"]
    settings = config.providers[name]
    assert (settings.api_key, settings.base_url) == ("sk-x", VENDORS[name].base_url)
    assert any(card.provider == name for card in catalog_of(config, 0))
    assert list(load(None, {variable: " "}).providers) == ["local"], "an empty variable is none"


@pytest.mark.parametrize(
    ("variable", "value", "name", "base_url"),
    [
        ("OLLAMA_BASE_URL", "http://box:11434", "ollama", "http://box:11434/v1"),
        ("OLLAMA_HOST", "box:11434", "ollama", "http://box:11434/v1"),
        ("VLLM_BASE_URL", "http://box:8000/v1/", "vllm", "http://box:8000/v1"),
        ("LMSTUDIO_BASE_URL", "https://box", "lmstudio", "https://box/v1"),
        ("LM_STUDIO_BASE_URL", "http://box:1234/", "lmstudio", "http://box:1234/v1"),
    ],
)
def test_without_a_file_a_model_server_is_found_by_its_address(
    variable: str, value: str, name: str, base_url: str
) -> None:
    config = load(None, {variable: value})
    assert list(config.providers) == [name, "local"]
    assert (config.providers[name].kind, config.providers[name].base_url) == ("openai", base_url)
    assert config.providers[name].api_key is None


@pytest.mark.parametrize(
    ("section", "module", "says"),
    [
        ('[state]\nurl = "valkey://h:6379/0"', "redis", "state.url = 'valkey://h:6379/0': needs its client"),
        ('[storage]\nurl = "postgresql://h/llmwise"', "psycopg", "pip install 'llmwise[postgres]'"),
    ],
)
def test_a_client_that_is_not_installed_is_asked_for_by_its_extra(
    monkeypatch: pytest.MonkeyPatch, section: str, module: str, says: str
) -> None:
    read(section)
    monkeypatch.setattr("llmwise.config.find_spec", lambda name: None if name == module else name)
    with pytest.raises(ConfigError) as raised:
        read(section)
    assert says in str(raised.value)
