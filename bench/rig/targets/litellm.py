"""LiteLLM's proxy as its quick start shows it, and with its own advice for production.

One uvicorn worker, a master key, no database; `litellm_prod` follows docs.litellm.ai/docs/proxy/prod (2026-11) as
far as that applies without a database. The key below is this bench's own and opens nothing.
"""

from dataclasses import replace

from target import Target

LITELLM = Target(
    name="litellm",
    port=9210,
    needs=["{ROOT}/venv-litellm/bin/litellm"],
    config="litellm.yaml",
    start=["{ROOT}/venv-litellm/bin/litellm", "--config", "{CONFIG}", "--host", "127.0.0.1", "--port", "{PORT}"],
    env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"},  # else it loads prices from the network
    headers=["Authorization: Bearer sk-bench-only"],
    health="/health/liveliness",
    module="litellm",
    python="{ROOT}/venv-litellm/bin/python",
    version="{ROOT}/venv-litellm/bin/pip show litellm | grep Version",
)

TARGETS = [
    LITELLM,
    replace(
        LITELLM,
        name="litellm_prod",
        port=9211,
        config="litellm_prod.yaml",
        start=[*LITELLM.start, "--num_workers", "1"],
        env=LITELLM.env | {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"},
    ),
]
