"""Schemathesis makes requests out of the OpenAPI document, right ones and wrong ones, and finds no 500.

Bounded and repeatable: the seed is fixed, and no database of examples is kept.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case

from llmwise.api.routes import ROUTES
from llmwise.providers.scripted.server import ScriptedServer

from .gateway import GUIDE_MODELS, Gateway, asked, environment

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SEED = 20261122
APART = (
    "/api/v1/keys/revoke",  # these two would end the key that asks
    "/api/v1/keys/rotate",
    "/api/v1/judge",  # a scripted judge's verdict is none, which is the provider's failure: 502
    "/api/v1/credits/confirm-checkout",  # 501 until a part is set up, which is no failure
    "/api/v1/settings/copilot/ask",
    "/api/v1/settings/keys",
)

pytestmark = pytest.mark.timeout(120)


def test_no_request_made_from_the_document_meets_a_500(gateway: Gateway, mock: ScriptedServer, tmp_path: Path) -> None:
    """The providers answer normally: any status from 500 on would be the gateway's own. `APART` is left out."""
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{gateway.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {gateway.key}"),
            *(word for path in APART for word in ("--exclude-path", path)),
            *("--checks", CHECKS, "--max-examples", "15", "--seed", str(SEED), "--generation-database", "none"),
            *("--phases", "examples,coverage,fuzzing", "--no-color", "--continue-on-failure", "--warnings", "off"),
        ],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    tried = sum(route.path not in APART for route in ROUTES)
    assert f"{tried} passed" in done.stdout, "every operation was tried"
    assert "Traceback" not in gateway.log


@pytest.mark.parametrize("path", ["/api/v1/chat", "/v1/chat/completions", "/v1/messages"])
def test_whatever_the_document_allows_is_answered_or_refused_by_a_real_model_s_name(
    gateway: Gateway, mock: ScriptedServer, path: str
) -> None:
    """A made-up model's name ends at the catalog. With a real one the rest of the body goes through the planner, the
    provider's format and the answer's."""
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    statuses: list[int] = []

    @seed(SEED)
    @settings(
        max_examples=40,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path]["POST"].as_strategy())
    def ask(case: Case[Any]) -> None:
        if not isinstance(case.body, dict):
            return
        case.body["model"] = GUIDE_MODELS[len(statuses) % len(GUIDE_MODELS)]
        case.body.pop("routing", None)  # its made-up fallbacks would end at the catalog too
        if len(statuses) % 2:  # OpenAI's roles and counts are any text and number there: most made-up ones end early
            case.body |= {"messages": asked()["messages"]} | ({"n": 1} if "n" in case.body else {})
            if path == "/v1/messages":  # its tools are any value in the document, since Anthropic adds kinds of them
                case.body = {key: value for key, value in case.body.items() if key not in ("tools", "thinking")}
        response = case.call(headers={"Authorization": f"Bearer {gateway.key}"})
        statuses.append(response.status_code)
        assert response.status_code in {200, 400, 404, 422}, response.content  # 404: a made-up conversation

    ask()
    assert statuses.count(200) >= 10, statuses
    assert "Traceback" not in gateway.log
