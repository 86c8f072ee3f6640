"""Both embeddings codecs against recorded exchanges, and what they refuse."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from llmwise.domain.errors import UnsupportedInput, UpstreamInvalid, UpstreamNoModel
from llmwise.domain.events import AttemptEvent, Embedded, Finished, Started, UsageReport
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import EmbeddingCodec
from llmwise.domain.requests import EmbeddingRequest, Passthrough
from llmwise.domain.usage import TokenUsage
from llmwise.providers import anthropic, gemini
from llmwise.providers.failures import from_response
from llmwise.providers.openai import OpenAICodec
from llmwise.providers.transport import Headers

RECORDED: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "golden" / "embeddings" / "exchanges.json").read_text()
)
GEMINI = gemini.CODEC
assert isinstance(GEMINI, EmbeddingCodec)


def request_of(case: dict[str, Any]) -> tuple[EmbeddingCodec, EmbeddingRequest, ModelCard]:
    """The recorded request as ours. A Gemini task is nothing that OpenAI's dialect can say."""
    sent = case["request"]
    if case["provider"] == "openai":
        model = sent["model"]
        return OpenAICodec(), EmbeddingRequest(model, tuple(sent["input"]), packed=True), ModelCard(model, "p", model)
    batch = sent.get("requests", [sent])
    for one in batch:
        one.pop("taskType", None)
    model = case["path"].split("/models/")[1].split(":")[0]
    inputs = tuple(one["content"]["parts"][0]["text"] for one in batch)
    assert isinstance(GEMINI, EmbeddingCodec)
    asked = EmbeddingRequest(model, inputs, dimensions=batch[0].get("outputDimensionality"))
    return GEMINI, asked, ModelCard(model, "p", model)


def asked(*inputs: str | tuple[int, ...], **fields: Any) -> EmbeddingRequest:
    return EmbeddingRequest("m", inputs or ("a",), **fields)


CARD = ModelCard("m", "p", "m")


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "vertex-one-text"])
def test_what_is_sent_is_what_was_recorded(name: str) -> None:
    codec, request, card = request_of(RECORDED[name])
    outgoing = codec.encode_embedding(request, card)
    assert json.loads(outgoing.body) == RECORDED[name]["request"]
    assert RECORDED[name]["path"].endswith(outgoing.path)
    assert outgoing.warnings == ()


@pytest.mark.parametrize("name", [name for name, case in RECORDED.items() if case["status"] == 200])
def test_a_recorded_answer_has_a_vector_for_each_text_and_its_tokens(name: str) -> None:
    case = RECORDED[name]
    codec, request, _ = request_of(case)
    events = codec.decode_embedding(json.dumps(case["response"]).encode(), request)
    assert isinstance(events[0], Started)
    assert events[-1] == Finished("stop")
    (embedded,) = [event for event in events if isinstance(event, Embedded)]
    assert len(embedded.vectors) == len(request.inputs)
    for vector in embedded.vectors:
        assert len(struct.unpack("<8f", base64.b64decode(vector)) if isinstance(vector, str) else vector) == 8
    tokens = {"openai-two-texts": 2, "gemini-usage": 7, "vertex-one-text": 11}.get(name)
    reports = [event.usage for event in events if isinstance(event, UsageReport)]
    assert reports == ([] if tokens is None else [TokenUsage(input=tokens)])


@pytest.mark.parametrize("name", [name for name, case in RECORDED.items() if case["status"] == 404])
def test_a_recorded_refusal_says_that_there_is_no_such_model(name: str) -> None:
    case = RECORDED[name]
    body = json.dumps(case["response"]).encode()
    error = from_response(case["status"], Headers([]), body, provider="p", secret=None)
    assert isinstance(error, UpstreamNoModel)


def test_vectors_are_put_in_the_order_of_their_indices() -> None:
    body = {"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]}
    assert vectors(OpenAICodec().decode_embedding(json.dumps(body).encode(), asked("a", "b"))) == ([1.0], [2.0])


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b"\xff",
        b'{"data": []}',
        b'{"data": [{"embedding": []}]}',
        b'{"data": [{"embedding": [1], "index": 1}]}',
        b'{"data": [{"embedding": [1]}, {"embedding": [2]}]}',
        b'{"data": [{"embedding": {"float": [1]}}]}',
    ],
)
def test_an_answer_whose_vectors_are_not_those_of_the_texts_is_invalid(body: bytes) -> None:
    with pytest.raises(UpstreamInvalid):
        OpenAICodec().decode_embedding(body, asked())


@pytest.mark.parametrize("body", [b"{}", b'{"embeddings": []}', b'{"embeddings": [{"values": "x"}]}', b"x"])
def test_an_answer_of_gemini_without_the_vectors_is_invalid(body: bytes) -> None:
    assert isinstance(GEMINI, EmbeddingCodec)
    with pytest.raises(UpstreamInvalid):
        GEMINI.decode_embedding(body, asked())


def test_unknown_fields_go_to_openai_and_are_told_lost_at_gemini() -> None:
    own = Passthrough("openai", {"model": b'"m"', "input": b'"a"', "brand_new": b'{"a":1}', "user": b'"u"'})
    request = asked(user="u", passthrough=own)
    assert json.loads(OpenAICodec().encode_embedding(request, CARD).body)["brand_new"] == {"a": 1}
    assert isinstance(GEMINI, EmbeddingCodec)
    told = GEMINI.encode_embedding(request, CARD).warnings
    assert {(warned.code, warned.field) for warned in told} == {("dropped", "brand_new"), ("noted", "user")}
    with pytest.raises(UnsupportedInput, match="brand_new"):
        GEMINI.encode_embedding(asked(strict=True, passthrough=own), CARD)


def test_mistral_has_another_name_for_dimensions() -> None:
    sent = json.loads(OpenAICodec("mistral").encode_embedding(asked(dimensions=256, packed=True, user="u"), CARD).body)
    assert sent == {"model": "m", "input": ["a"], "output_dimension": 256}


def test_tokens_are_for_openai_only() -> None:
    assert json.loads(OpenAICodec().encode_embedding(asked((1, 2)), CARD).body)["input"] == [[1, 2]]
    assert isinstance(GEMINI, EmbeddingCodec)
    with pytest.raises(UnsupportedInput, match="tokens"):
        GEMINI.encode_embedding(asked((1, 2)), CARD)


def test_anthropic_makes_no_vectors() -> None:
    assert not isinstance(anthropic.CODEC, EmbeddingCodec)


def vectors(events: list[AttemptEvent]) -> tuple[Any, ...]:
    (found,) = [event.vectors for event in events if isinstance(event, Embedded)]
    return found
