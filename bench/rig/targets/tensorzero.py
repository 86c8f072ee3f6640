"""TensorZero: its wheel holds the whole Rust gateway, which the Python process only starts (on a port it chooses)."""

from target import Target

TARGETS = [
    Target(
        name="tensorzero",
        needs=["{ROOT}/venv-tensorzero/bin/python"],
        config="tensorzero.toml",
        start=[
            "{ROOT}/venv-tensorzero/bin/python",
            "{ROOT}/targets/conf/tensorzero_http.py",
            "{CONFIG}",
            "{RUN}/tensorzero.port",
        ],
        port_file="{RUN}/tensorzero.port",
        path="/openai/v1/chat/completions",
        body={"model": "tensorzero::model_name::gpt-4o-mini"},
        headers=["Authorization: Bearer none"],
        module="tensorzero",
        python="{ROOT}/venv-tensorzero/bin/python",
        version="{ROOT}/venv-tensorzero/bin/pip show tensorzero | grep Version",
    )
]
