"""Embeddings of a running gateway, through the official `openai` client: OpenAI's and Gemini's behind it."""

import base64
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, play, running, scripted, settings

SMALL, LARGE, GEMINI, MISTRAL = (
    "text-embedding-3-small",
    "text-embedding-3-large",
    "gemini-embedding-2",
    "mistral-embed",
)


@pytest.fixture(scope="module")
def providers() -> Iterator[ScriptedServer]:
    with scripted() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(providers: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    tree = settings(providers.url, breaker={"failures": 3, "hard_down_s": 0.001})
    tree["providers"]["mistral"] = {"base_url": f"{providers.url}/v1"}
    tree["models"] += [{"id": SMALL}, {"id": LARGE}, {"id": GEMINI, "aliases": ["vectors"]}, {"id": MISTRAL}]
    with running(tmp_path_factory.mktemp("gateway"), tree) as gateway:
        yield gateway


@pytest.fixture
def official(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.mark.parametrize("model", [SMALL, GEMINI, MISTRAL])
def test_texts_become_vectors_in_their_order(official: openai.OpenAI, mock: ScriptedServer, model: str) -> None:
    one = official.embeddings.create(model=model, input="hello", dimensions=32)
    two = official.embeddings.create(model=model, input=["other", "hello"], dimensions=32)
    assert [row.index for row in two.data] == [0, 1]
    assert two.data[1].embedding == one.data[0].embedding != two.data[0].embedding
    assert len(one.data[0].embedding) == (64 if model == MISTRAL else 32)  # Mistral's own name is not the mock's
    assert one.model == model
    assert (two.usage.prompt_tokens, two.usage.total_tokens) == (4, 4)


@pytest.mark.parametrize("model", [SMALL, GEMINI, MISTRAL])
def test_the_same_vector_comes_as_numbers_and_as_base64(
    official: openai.OpenAI, mock: ScriptedServer, model: str
) -> None:
    floats = official.embeddings.create(model=model, input="hello", encoding_format="float").data[0].embedding
    packed: Any = official.embeddings.create(model=model, input="hello", encoding_format="base64").data[0].embedding
    assert list(struct.unpack(f"<{len(floats)}f", base64.b64decode(packed))) == pytest.approx(floats, abs=1e-7)


def test_base64_is_asked_of_openai_and_of_nobody_else(official: openai.OpenAI, mock: ScriptedServer) -> None:
    for model in (SMALL, MISTRAL):
        official.embeddings.create(model=model, input="hello")  # the official client asks for base64
    asked_openai, asked_mistral = mock.requests
    assert asked_openai.json == {"model": SMALL, "input": ["hello"], "encoding_format": "base64"}
    assert asked_mistral.json == {"model": MISTRAL, "input": ["hello"]}


def test_a_provider_that_answers_in_the_other_form_is_converted(client: httpx.Client, mock: ScriptedServer) -> None:
    body = {"model": SMALL, "input": "hello", "encoding_format": "float"}
    assert all(isinstance(number, float) for number in _vector(client.post("/v1/embeddings", json=body)))
    body = {"model": GEMINI, "input": "hello", "encoding_format": "base64"}
    assert isinstance(_vector(client.post("/v1/embeddings", json=body)), str)


def test_tokens_reach_openai_and_are_refused_for_gemini(official: openai.OpenAI, mock: ScriptedServer) -> None:
    one = official.embeddings.create(model=SMALL, input=[15339, 1917])
    two = official.embeddings.create(model=SMALL, input=[[15339], [1917, 1]])
    assert (len(one.data), len(two.data), two.usage.prompt_tokens) == (1, 2, 3)
    assert [entry.json["input"] for entry in mock.requests] == [[[15339, 1917]], [[15339], [1917, 1]]]
    with pytest.raises(openai.BadRequestError, match="tokens") as caught:
        official.embeddings.create(model=GEMINI, input=[15339, 1917])
    assert caught.value.code == "unsupported_input"


def test_a_failure_moves_on_along_the_chain_that_the_caller_names(
    official: openai.OpenAI, mock: ScriptedServer
) -> None:
    play(mock, {"model": SMALL, "fault": "status", "status": 503})
    chain = {"routing": {"fallback": [LARGE]}}
    raw = official.embeddings.with_raw_response.create(model=SMALL, input="hello", extra_body=chain)
    answer: Any = raw.parse()
    assert answer.model == raw.headers["x-llmwise-model"] == LARGE
    assert [(step["model"], step["status"]) for step in answer.llmwise["route"]] == [
        (SMALL, "failed"),
        (LARGE, "success"),
    ]
    assert raw.headers["x-llmwise-route"] == f"{SMALL}=failed(upstream_overloaded),{LARGE}=success"
    with pytest.raises(openai.InternalServerError):
        official.embeddings.create(model=SMALL, input="hello")  # without a chain nobody else is asked


def test_the_circuit_of_an_embedding_model_opens_like_any_other(official: openai.OpenAI, mock: ScriptedServer) -> None:
    play(mock, {"model": LARGE, "fault": "status", "status": 500})
    codes = []
    for _ in range(4):
        with pytest.raises(openai.InternalServerError) as caught:
            official.embeddings.create(model=LARGE, input="hello")
        codes.append(caught.value.code)
    assert codes == ["upstream_error"] * 3 + ["circuit_open"]
    assert len(mock.requests) == 3


def test_the_account_has_tokens_cost_and_mode(
    official: openai.OpenAI, client: httpx.Client, mock: ScriptedServer
) -> None:
    raw = official.embeddings.with_raw_response.create(model=SMALL, input="x" * 4000)
    answer: Any = raw.parse()
    assert answer.usage.prompt_tokens == 1000
    assert answer.llmwise["cost_usd"] == 1000 * 0.02 / 1e6
    assert raw.headers["x-llmwise-cost"] == "0.000020000"
    item = client.get(f"/api/v1/history/{raw.headers['x-request-id']}").json()
    assert (item["mode"], item["model"], item["provider"]) == ("embedding", SMALL, "openai")
    assert (item["prompt_tokens"], item["completion_tokens"], item["attempts"]) == (1000, 0, 1)


def test_a_model_of_the_other_kind_is_refused_before_anybody_is_asked(
    official: openai.OpenAI, mock: ScriptedServer
) -> None:
    with pytest.raises(openai.BadRequestError, match="chat model") as caught:
        official.embeddings.create(model="gpt-5.2", input="hello")
    assert (caught.value.code, caught.value.param) == ("not_an_embedding_model", "model")
    chat: Any = official.chat.completions.create
    user = [{"role": "user", "content": "hi"}]
    chain = {"routing": {"fallback": ["vectors"]}}
    for asked in ({"model": SMALL}, {"model": "gpt-5.2", "extra_body": chain}):
        with pytest.raises(openai.BadRequestError, match="/v1/embeddings") as caught:
            chat(messages=user, **asked)
        assert caught.value.code == "not_a_chat_model"
    with pytest.raises(openai.BadRequestError, match="auto"):
        official.embeddings.create(model="auto", input="hello")
    assert mock.requests == []


def test_auto_and_the_native_list_know_nothing_of_embedding_models(client: httpx.Client) -> None:
    question = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
    for answer in (client.post("/api/v1/route/explain", json=question), client.get("/api/v1/models")):
        assert answer.status_code == 200, answer.text
        assert "gpt-5.2" in answer.text
        assert "embed" not in answer.text
    assert SMALL in {row["id"] for row in client.get("/v1/models").json()["data"]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({}, "input"),
        ({"input": "a", "routing": {"fallback": [SMALL] * 2, "nope": 1}}, "routing.nope"),
    ],
)
def test_a_bad_request_names_its_field(client: httpx.Client, body: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/embeddings", json={"model": SMALL, **body})
    assert answer.status_code == 400, answer.text
    assert param in answer.json()["error"]["message"]


def test_a_page_instead_of_vectors_is_no_answer(official: openai.OpenAI, mock: ScriptedServer) -> None:
    play(mock, {"model": MISTRAL, "fault": "malformed"})
    with pytest.raises(openai.InternalServerError) as caught:
        official.embeddings.create(model=MISTRAL, input="hello")
    assert caught.value.code in {"upstream_invalid_response", "upstream_cut"}


def _vector(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()["data"][0]["embedding"]
