"""Two small compiled gateways with wheels; not part of the default run (`setup.sh rust` installs them)."""

from target import Target

TARGETS = [
    Target(
        name="rolter",
        port=9231,
        needs=["{ROOT}/venv-rust/bin/rolter"],
        config="rolter.toml",
        start=["{ROOT}/venv-rust/bin/rolter", "gateway", "-c", "{CONFIG}", "--host", "127.0.0.1", "--port", "{PORT}"],
        env={"MOCK_KEY": "sk-mock"},
        headers=["Authorization: Bearer sk-bench-only"],
        version="{ROOT}/venv-rust/bin/rolter --version",
    ),
    Target(
        name="ferrogw",  # its default is 20 requests a second per address, and a log line for each: lifted, and off
        port=9230,
        needs=["{ROOT}/venv-rust/bin/ferrogw"],
        config="ferrogw.yaml",
        start=["{ROOT}/venv-rust/bin/ferrogw", "serve"],
        env={
            "GATEWAY_CONFIG": "{CONFIG}",
            "PORT": "{PORT}",
            "HOST": "127.0.0.1",
            "OPENAI_API_KEY": "sk-mock",
            "OPENAI_BASE_URL": "{MOCK}/v1",
            "RATE_LIMIT_RPS": "10000000",
            "RATE_LIMIT_BURST": "10000000",
            "LOG_LEVEL": "warn",
            "MASTER_KEY": "fgw_0123456789abcdef0123456789abcdef",
        },
        headers=["Authorization: Bearer fgw_0123456789abcdef0123456789abcdef"],
        version="{ROOT}/venv-rust/bin/ferrogw version",
    ),
]
