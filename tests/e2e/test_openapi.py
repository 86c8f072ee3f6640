"""The document that describes the API, and the page to read it."""

import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from llmwise.api.routes import ROUTES
from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, asked, play


@pytest.fixture(scope="module")
def document(gateway: Gateway) -> dict[str, Any]:
    response = httpx.get(f"{gateway.url}/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


def schema_of(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]})


def answer_schema(document: dict[str, Any], path: str, method: str, status: int = 200) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path][method]["responses"][str(status)]["content"]["application/json"]
    return dict(found["schema"])


def test_the_document_is_openapi_3_1(document: dict[str, Any]) -> None:
    OPENAPI_31_VALIDATOR.validate(document)
    assert document["openapi"].startswith("3.1")


def test_every_schema_in_it_is_a_json_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_route_is_in_it_and_nothing_else(document: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert described == {(route.method, route.path.replace(":path}", "}")) for route in ROUTES}
    ids = [operation["operationId"] for operations in document["paths"].values() for operation in operations.values()]
    assert len(set(ids)) == len(ids)


def test_an_upload_is_described_as_what_it_is(document: dict[str, Any]) -> None:
    upload = document["paths"]["/api/v1/audit/import"]["post"]["requestBody"]
    assert upload["content"] == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    assert "gzip" in upload["description"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert names
    assert names <= set(document["components"]["schemas"])


def test_what_needs_a_key_says_so(document: dict[str, Any], gateway: Gateway) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            status = httpx.request(method, gateway.url + path.replace("{request_id}", "x")).status_code
            assert (status == 401) == bool(operation["security"]), path


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "/api/v1/chat", asked(model="gpt-5.2", stream=False, routing={"fallback": ["gemini-3-flash"]})),
        ("post", "/api/v1/chat", asked(model="auto", stream=False)),
        ("post", "/api/v1/route/explain", asked(model="auto")),
        ("post", "/v1/chat/completions", asked(model="gpt-5.2")),
        ("post", "/v1/messages", asked(model="gpt-5.2", max_tokens=100)),
        ("post", "/v1/messages/count_tokens", asked(model="gpt-5.2")),
        ("post", "/api/v1/keys/generate", {"name": "x"}),
        ("get", "/api/v1/models", None),
        ("get", "/api/v1/health/targets", None),
        ("get", "/api/v1/history", None),
        ("get", "/api/v1/usage/summary", None),
        ("get", "/api/v1/usage/recent", None),
        ("get", "/api/v1/keys/info", None),
        ("get", "/v1/models", None),
        ("get", "/healthz", None),
        ("get", "/readyz", None),
    ],
)
def test_answers_are_what_it_says(
    document: dict[str, Any], client: httpx.Client, mock: ScriptedServer, method: str, path: str, body: Any
) -> None:
    response = client.request(method, path, json=body)
    assert response.status_code == 200
    schema_of(document, answer_schema(document, path, method)).validate(response.json())


def test_one_request_of_the_history_is_what_it_says(
    document: dict[str, Any], client: httpx.Client, mock: ScriptedServer
) -> None:
    play(mock, {"model": "gpt-5.2", "fault": "status", "status": 500})
    body = asked(model="gpt-5.2", stream=False, routing={"fallback": ["gemini-3-flash"]})
    request_id = client.post("/api/v1/chat", json=body).headers["x-request-id"]
    detail = client.get(f"/api/v1/history/{request_id}").json()
    schema_of(document, answer_schema(document, "/api/v1/history/{request_id}", "get")).validate(detail)


def test_refusals_are_what_it_says(document: dict[str, Any], client: httpx.Client) -> None:
    for path, status in (("/api/v1/chat", 422), ("/v1/chat/completions", 400), ("/v1/messages", 400)):
        response = client.post(path, json={})
        assert response.status_code == status
        schema_of(document, answer_schema(document, path, "post", status)).validate(response.json())


def test_its_example_works_as_it_is(document: dict[str, Any], client: httpx.Client, mock: ScriptedServer) -> None:
    for path in ("/api/v1/chat", "/v1/chat/completions", "/v1/messages"):
        example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert client.post(path, json=example).status_code == 200


class Fetches(HTMLParser):
    """What a browser would fetch or run for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe", "object", "embed", "video", "audio", "source", "base"}:
            self.found.append(tag)
        self.found += [name for name, _ in attrs if name in {"src", "srcset", "onload"} or name.startswith("on")]


def test_the_page_shows_every_path_and_fetches_nothing(gateway: Gateway, document: dict[str, Any]) -> None:
    response = httpx.get(f"{gateway.url}/docs")
    assert response.headers["content-type"].startswith("text/html")
    parser = Fetches()
    parser.feed(response.text)
    assert parser.found == []
    assert "url(" not in response.text
    assert "@import" not in response.text
    for path in document["paths"]:
        assert f"<code>{path}</code>" in response.text
