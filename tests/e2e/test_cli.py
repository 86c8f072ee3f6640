"""The `llmwise` command, run as a person would: a mistake is one line on stderr and never a traceback."""

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import pytest
from typer.testing import CliRunner, Result

from llmwise.cli.main import app
from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, llmwise, play, running, settings, write_config

Caller: TypeAlias = dict[str, str]

ONE_LINE = {"COLUMNS": "300"}
PLAYED = {"providers": {"played": {"kind": "scripted"}}, "models": [{"id": "m", "provider": "played"}]}


def here(*arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    """The command in this process, which saves its start; what is in our own environment is not for it."""
    ours = {name: None for name in os.environ if name.endswith("_API_KEY") or name.startswith("LLMWISE")}
    return CliRunner().invoke(app(), arguments, env={**ours, **(environ or {})})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The file of a small, valid configuration."""
    return write_config(tmp_path / "llmwise.toml", PLAYED)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[server\n", "not TOML"),
        ("[server]\nprot = 1\n", "server.prot = 1: unknown key; did you mean 'port'?"),
        ("[providers.deepseek]\napi_key = 'sk-secret'\n", "providers.deepseek.api_key = '***': a secret is named"),
        ("[providers.deepseek]\n[auto]\ndefault = 'deepseek-v33'\n", "auto.default = 'deepseek-v33'"),
    ],
    ids=["not-toml", "unknown-key", "secret", "unknown-default"],
)
def test_serve_refuses_a_wrong_configuration_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    """`tests/unit/test_config.py` has all that can be wrong with one."""
    file = tmp_path / "llmwise.toml"
    file.write_text(text)
    done = llmwise("serve", "--config", str(file), "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"llmwise: {file}: ")
    assert says in line
    assert "sk-secret" not in line
    assert not (tmp_path / "llmwise.db").exists()


def test_a_configuration_that_is_not_there_is_one_line() -> None:
    for command in ("serve", "models", "keys list"):
        done = here(*command.split(), "--config", "nowhere.toml")
        assert done.exit_code == 1
        (line,) = done.stderr.splitlines()
        assert line == "llmwise: nowhere.toml: no such file; create it, or name another by --config or LLMWISE_CONFIG"


def test_a_port_in_use_is_one_line(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = llmwise("serve", "--config", str(config), "--port", port)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"llmwise: can't listen on 127.0.0.1:{port}: Address already in use; choose another")
    assert "mm_sk_" not in done.stdout, "the key would be shown for a gateway that does not serve"


def test_a_key_is_still_shown_after_a_start_that_failed(config: Path) -> None:
    """It is shown once; a start that could not serve must not have used that up unseen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        llmwise("serve", "--config", str(config), "--port", str(taken.getsockname()[1]))
    with running(config.parent, PLAYED) as gateway:
        assert gateway.key is not None


def test_a_database_that_can_t_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "llmwise.db").write_text("this is no database, and long enough to be seen as none" * 20)
    file = write_config(tmp_path / "llmwise.toml", PLAYED)
    for command in ("serve --port 0", "keys list"):
        done = here(*command.split(), "--config", str(file))
        assert done.exit_code == 1
        (line,) = done.stderr.splitlines()
        assert "llmwise.db" in line


def test_a_spool_that_can_t_be_used_is_one_line_and_uses_up_no_key(tmp_path: Path) -> None:
    (tmp_path / "llmwise.db-spool").write_text("a file where a folder belongs")
    file = write_config(tmp_path / "llmwise.toml", PLAYED)
    done = here("serve", "--port", "0", "--config", str(file))
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert "the spool can't be opened" in line
    assert done.stdout == "", "no key was made"


@pytest.mark.parametrize(
    "arguments",
    [
        ("srve",),
        ("serve", "--prot", "1"),
        ("serve", "--port", "99999"),
        ("serve", "--port", "http"),
        ("serve", "--workers", "0"),
        ("keys", "make"),
        ("keys", "create"),
        ("mock", "--port", "99999"),
        ("quickstart", "--port", "99999"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_code_2_and_no_traceback(arguments: tuple[str, ...]) -> None:
    done = here(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Error" in done.stderr
    assert isinstance(done.exception, SystemExit)


def test_the_version_and_the_help_are_there() -> None:
    assert re.fullmatch(r"llmwise \d+\.\d+\.\d+\n", llmwise("--version").stdout)
    done = here("--help")
    assert done.exit_code == 0
    for command in ("serve", "quickstart", "mock", "chat", "models", "explain", "doctor", "keys"):
        assert command in done.stdout


# --- keys ---


def test_keys_are_made_listed_and_revoked_while_the_gateway_runs(gateway: Gateway) -> None:
    config = str(gateway.config)
    made = here("keys", "create", "--config", config, "--name", "by-hand", "--admin")
    assert (made.exit_code, made.stderr) == (0, "")
    assert re.fullmatch(r"mm_sk_[0-9a-f]{64}\n", made.stdout), "the raw key alone, for scripts"
    raw = made.stdout.strip()
    with gateway.client(raw) as client:
        assert client.get("/api/v1/keys/info").json()["admin"] is True
        listed = here("keys", "list", "--config", config).stdout
        (row,) = [line for line in listed.splitlines() if "by-hand" in line]
        assert raw[:12] in row
        assert raw not in listed
        revoked = here("keys", "revoke", "by-hand", "--config", config)
        assert (revoked.exit_code, revoked.stdout) == (0, "")
        assert "by-hand" in revoked.stderr
        (row,) = [line for line in here("keys", "list", "--config", config).stdout.splitlines() if "by-hand" in line]
        assert "revoked" in row


def test_a_key_that_is_not_there_or_has_no_name_is_one_line(config: Path) -> None:
    for arguments in (("revoke", "nobody"), ("create", "--name", " ")):
        done = here("keys", *arguments, "--config", str(config))
        assert done.exit_code == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("llmwise: ")


# --- what the configuration offers ---


def test_models_lists_what_the_configuration_offers(tmp_path: Path) -> None:
    config = write_config(tmp_path / "llmwise.toml", settings("http://127.0.0.1:9"))
    done = here("models", "--config", str(config))
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [
        "gpt-5.2",
        "claude-sonnet-4.5",
        "gemini-3-flash",
        "deepseek-v3",
    ]
    found = here("models", "--config", str(config), "--find", "sonnet").stdout.splitlines()
    assert [line.split()[0] for line in found[1:]] == ["claude-sonnet-4.5"]


def test_without_a_file_the_environment_says_what_is_offered(tmp_path: Path) -> None:
    done = here("models", environ={"DEEPSEEK_API_KEY": "sk-x"})
    providers = {line.split()[1] for line in done.stdout.splitlines()[1:]}
    assert providers == {"deepseek", "local"}


def test_doctor_finds_what_is_wrong(tmp_path: Path, mock: ScriptedServer) -> None:
    config = write_config(tmp_path / "llmwise.toml", settings(mock.url))
    sound = here("doctor", "--config", str(config), environ=ONE_LINE)
    assert sound.exit_code == 0, sound.stdout
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    write_config(config, settings(f"http://127.0.0.1:{port}", ["gpt-5.2"]))
    sick = here("doctor", "--config", str(config), environ=ONE_LINE)
    assert sick.exit_code == 1
    assert f"openai: can't reach 127.0.0.1:{port}" in sick.stdout
    write_config(config, {**PLAYED, "auto": {"default": "n"}})
    assert "auto.default = 'n'" in here("doctor", "--config", str(config), environ=ONE_LINE).stdout
    config.write_text("[server\n")
    broken = here("doctor", "--config", str(config), environ=ONE_LINE)
    assert broken.exit_code == 1
    assert "not TOML" in broken.stdout
    assert "Traceback" not in sound.stderr + sick.stderr + broken.stderr


# --- talking to a gateway ---


@pytest.fixture
def caller(gateway: Gateway) -> Caller:
    """The environment of someone who has an address and a key."""
    return {"LLMWISE_BASE_URL": gateway.url, "LLMWISE_API_KEY": gateway.key or "", "COLUMNS": "300"}


def test_chat_prints_the_answer_to_stdout_and_the_route_to_stderr(mock: ScriptedServer, caller: Caller) -> None:
    play(mock, {"model": "gpt-5.2", "fault": "status", "status": 503}, defaults={"text": "Forty-two."})
    done = here("chat", "What is six times seven?", "-m", "gpt-5.2", "-f", "gemini-3-flash", environ=caller)
    assert (done.exit_code, done.stdout) == (0, "Forty-two.\n")
    assert "gpt-5.2 failed" in done.stderr
    assert "gemini-3-flash success" in done.stderr


def test_explain_shows_the_decision(mock: ScriptedServer, caller: Caller) -> None:
    done = here("explain", "Translate 'good morning' into French.", environ=caller)
    assert done.exit_code == 0
    assert "heuristic_routing" in done.stdout
    assert "gemini-3-flash" in done.stdout
    assert mock.requests == []


@pytest.mark.parametrize("command", ["chat", "explain"])
def test_what_a_gateway_refuses_is_one_line(caller: Caller, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for changed, says in (
        ({"LLMWISE_API_KEY": ""}, "no key"),
        ({"LLMWISE_API_KEY": "mm_sk_" + "0" * 64}, "no valid API key"),
        ({"LLMWISE_BASE_URL": nobody}, nobody.removeprefix("http://")),
    ):
        done = here(command, "hi", environ=caller | changed)
        assert done.exit_code == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("llmwise: ")
        assert says in line
    done = here(command, "hi", "-m", "gpt-5.22", environ=caller)
    assert (done.exit_code, len(done.stderr.splitlines())) == (1, 1)
    assert "'gpt-5.2'" in done.stderr


def test_workers_do_not_each_run_the_local_model(tmp_path: Path) -> None:
    config = write_config(tmp_path / "llmwise.toml", {"providers": {"local": {}}})
    for arguments, advice in (
        (("--config", str(config)), "leave [providers.local] out"),
        ((), "write a configuration"),
    ):
        done = here("serve", "--workers", "2", "--port", "0", *arguments, environ={"HOME": str(tmp_path)})
        assert (done.exit_code, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("llmwise: 2 workers would run the local model 2 times: ")
        assert advice in line
    assert [file.name for file in tmp_path.iterdir()] == ["llmwise.toml"]
