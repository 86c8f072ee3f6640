"""What a request needs of a model."""

import pytest

from llmwise.domain.messages import Document, Image, Message, Part, Text, ToolResult
from llmwise.domain.models import Capabilities, ModelCard
from llmwise.domain.requests import ChatRequest, ResponseFormat, Sampling, Tool
from llmwise.routing.needs import CONTEXT_MARGIN, TOKENS_PER_IMAGE, TYPICAL_OUTPUT_TOKENS, Needs, lacks, needs_of

ABLE = Capabilities(vision=True, documents=True)


def request(*parts: Part, **fields: object) -> ChatRequest:
    return ChatRequest("m", (Message("user", parts or (Text("hi"),)),), **fields)  # type: ignore[arg-type]


def test_a_plain_question_needs_nothing_but_room() -> None:
    needs = needs_of(request(Text("word " * 400)))
    assert 300 <= needs.prompt_tokens <= 700
    assert needs == Needs(needs.prompt_tokens, TYPICAL_OUTPUT_TOKENS)


def test_every_need_is_seen() -> None:
    assert needs_of(request(Image(url="https://x"))).vision
    assert needs_of(request(Image(url="https://x"))).prompt_tokens == TOKENS_PER_IMAGE
    assert needs_of(request(Document(url="https://x"))).documents
    assert needs_of(request(tools=(Tool("f"),))).tools
    assert needs_of(request(response_format=ResponseFormat("json_schema", {}))).json_schema
    assert needs_of(request(response_format=ResponseFormat("json_object"))).json_object
    assert needs_of(request(sampling=Sampling(max_tokens=7))).output_tokens == 7
    answer = ToolResult("c", (Text("word " * 400),))
    assert needs_of(ChatRequest("m", (Message("tool", (answer,)),))).prompt_tokens > 300


@pytest.mark.parametrize(
    ("needs", "card", "reason"),
    [
        (Needs(1, 1, vision=True), Capabilities(), "no_vision"),
        (Needs(1, 1, documents=True), Capabilities(), "no_documents"),
        (Needs(1, 1, tools=True), Capabilities(tools=False), "no_tools"),
        (Needs(1, 1, json_schema=True), Capabilities(json_schema=False), "no_json_schema"),
        (Needs(1, 1, json_object=True), Capabilities(json_schema=False, json_object=False), "no_json_object"),
    ],
)
def test_a_model_that_lacks_something_is_told_apart_by_a_stable_reason(
    needs: Needs, card: Capabilities, reason: str
) -> None:
    dropped = lacks(ModelCard("m", "p", "m", capabilities=card), needs)
    assert dropped is not None
    assert (dropped.model, dropped.reason) == ("m", reason)
    assert dropped.detail.startswith("m does not take ")
    assert lacks(ModelCard("m", "p", "m", capabilities=ABLE), needs) is None


def test_a_schema_is_as_good_as_json_mode() -> None:
    card = ModelCard("m", "p", "m", capabilities=Capabilities(json_schema=True, json_object=False))
    assert lacks(card, Needs(1, 1, json_object=True)) is None


def test_a_window_rules_a_model_out_only_beyond_the_error_of_the_estimate() -> None:
    card = ModelCard("m", "p", "m", context_window=1000)
    most = int(1000 * CONTEXT_MARGIN)
    assert lacks(card, Needs(most, 1)) is None
    dropped = lacks(card, Needs(most + 1, 1))
    assert dropped is not None
    assert dropped.reason == "context_window"
    assert lacks(card, Needs(most + 1, 1), context=False) is None
