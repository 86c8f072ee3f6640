"""Real exchanges, played back through a gateway: what came out in each dialect, and what reached each family.

The code is the bench's (`python bench/replay_wire.py --data DIR` runs it over any recordings); the exchanges are the
chosen ones of tests/data/wire.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from bench.replay import answers, requests, vectors
from bench.replay.answers import Verdict, differences
from bench.replay.gateway import Replay, offered, serving
from bench.replay.recorded import Exchange, Format, read, specification
from bench.replay.schemas import Anthropic, Gemini, OpenAI
from bench.replay_wire import targets
from llmwise.conformance.said import Call, Failed, Said, Tokens, Unreadable
from llmwise.conformance.said import read as read_answer

DATA = Path(__file__).parents[1] / "data" / "wire"
EXCHANGES = list(read(DATA))
FAMILIES: list[Format] = [family for family in get_args(Format) if family in requests.BEHIND]

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def gateway(anyio_backend: object, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replay]:
    served = offered()
    families = [family for family in FAMILIES if family in served]
    async with serving(tmp_path_factory.mktemp("replay"), targets(EXCHANGES, families, served)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def openai() -> OpenAI:
    return OpenAI(specification(DATA))


@pytest.fixture(scope="module")
def schemas(openai: OpenAI) -> requests.Schemas:
    return requests.Schemas(openai)


def of(*formats: str) -> list[object]:
    """The exchanges of these formats, as parameters that are named by where they came from."""
    found = [exchange for exchange in EXCHANGES if exchange.format in formats]
    return [pytest.param(exchange, id=f"{exchange.place}-{exchange.id}".replace(" ", "-")) for exchange in found]


def wrong(verdicts: list[Verdict]) -> list[str]:
    return [f"{verdict.column}: {text}" for verdict in verdicts for text in verdict.wrong]


@pytest.mark.parametrize("exchange", of("chat", "responses", "anthropic", "gemini"))
async def test_a_recorded_answer_says_the_same_in_every_dialect_however_it_was_cut(
    gateway: Replay, openai: OpenAI, exchange: Exchange
) -> None:
    if exchange.format not in offered():
        pytest.skip(f"the gateway does not speak {exchange.format} yet")
    dialects = [dialect for dialect in answers.PATHS if dialect in offered()]
    verdicts = [verdict async for verdict in answers.replay(gateway, exchange, dialects, openai)]
    assert len(verdicts) >= 2 * len(dialects)
    assert not wrong(verdicts)


@pytest.mark.parametrize("exchange", of("chat", "responses", "anthropic"))
async def test_a_recorded_request_reaches_every_family_in_its_own_words(
    gateway: Replay, schemas: requests.Schemas, exchange: Exchange
) -> None:
    if exchange.format not in offered():
        pytest.skip(f"the gateway does not speak {exchange.format} yet")
    families = [family for family in FAMILIES if family in offered()]
    verdicts = [verdict async for verdict in requests.replay(gateway, exchange, families, schemas)]
    assert verdicts
    assert not wrong(verdicts)


@pytest.mark.parametrize("exchange", of("embeddings"))
async def test_recorded_vectors_come_out_as_they_were(gateway: Replay, exchange: Exchange) -> None:
    if "embeddings" not in offered():
        pytest.skip("the gateway makes no embeddings yet")
    assert not wrong([verdict async for verdict in vectors.replay(gateway, exchange)])


# --- the judge itself: it has to see what it is there for -------------------------------------------------------------

SAID = Said(
    "Fine.", "", "Hm.", (Call("c1", "go", '{"to": 1}'), Call("c2", "go", "{}")), "tool_calls", Tokens(9, 4, 3, 2, 1)
)
SPOILT: dict[str, dict[str, Any]] = {
    "text": {"text": "Fine"},
    "reasoning": {"reasoning": ""},
    "finish": {"finish": "stop"},
    "a call": {"calls": SAID.calls[:1]},
    "the order of calls": {"calls": SAID.calls[::-1]},
    "the bytes of arguments": {"calls": (Call("c1", "go", '{"to":1}'), SAID.calls[1])},
    "an id": {"calls": (Call("c9", "go", '{"to": 1}'), SAID.calls[1])},
    "the prompt": {"tokens": Tokens(8, 4, 3, 2, 1)},
    "the output": {"tokens": Tokens(9, 5, 3, 2, 1)},
    "cached tokens": {"tokens": Tokens(9, 4, 0, 2, 1)},
    "written tokens": {"tokens": Tokens(9, 4, 3, 0, 1)},
    "thinking tokens": {"tokens": Tokens(9, 4, 3, 2, 0)},
    "all tokens": {"tokens": None},
}


@pytest.mark.parametrize("what", SPOILT)
async def test_the_judge_sees_what_is_missing(what: str) -> None:
    assert not list(differences(SAID, SAID, "chat", same=False))
    spoilt = msgspec.structs.replace(SAID, **SPOILT[what])
    assert any(not owned for _, owned in differences(SAID, spoilt, "chat", same=False))


async def test_a_loss_counts_as_reported_only_when_a_warning_names_it() -> None:
    searched = msgspec.structs.replace(SAID, also=frozenset({"web_search_call"}))
    assert [owned for _, owned in differences(searched, SAID, "chat", same=False)] == [False]
    warned = msgspec.structs.replace(SAID, warnings=("dropped web_search_call: no place for it",))
    assert [owned for _, owned in differences(searched, warned, "chat", same=False)] == [True]


@pytest.mark.parametrize("format", ["chat", "anthropic", "responses", "native"])
async def test_a_stream_that_was_cut_is_unreadable_to_the_judge(format: str) -> None:
    begun = {
        "chat": 'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n',
        "anthropic": 'data: {"type":"message_start","message":{"usage":{}}}\n\n',
        "responses": 'data: {"type":"response.created","response":{}}\n\n',
        "native": 'data: {"delta":"a","done":false}\n\n',
    }
    with pytest.raises(Unreadable):
        read_answer(format, begun[format], stream=True)


async def test_an_error_behind_a_200_is_seen_as_one() -> None:
    with pytest.raises(Failed):
        read_answer("chat", 'data: {"error":{"message":"no"}}\n\n', stream=True)


async def test_the_schemas_refuse_what_the_providers_would(openai: OpenAI) -> None:
    asked = [{"role": "user", "content": "Hi"}]
    assert not openai.request("CreateChatCompletionRequest", {"model": "m", "messages": asked})
    assert openai.request("CreateChatCompletionRequest", {"model": "m", "messages": asked, "top_k": 1})
    assert openai.request("CreateChatCompletionRequest", {"model": "m", "messages": asked, "temperature": None})
    assert openai.request("CreateChatCompletionRequest", {"model": "m", "messages": [{"role": "tool", "content": "x"}]})
    anthropic = Anthropic()
    assert not anthropic.faults({"model": "m", "max_tokens": 1, "messages": asked})
    assert anthropic.faults({"model": "m", "messages": asked})
    assert anthropic.faults({"model": "m", "max_tokens": 1, "messages": asked, "seed": 1})
    assert anthropic.faults({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "x"}]}]})
    gemini = Gemini()
    assert not gemini.faults({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]})
    assert gemini.faults({"contents": [{"role": "assistant", "parts": [{"text": "Hi"}]}]})
    assert gemini.faults({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "generationConfig": {"stop": 1}})
    call = {"role": "model", "parts": [{"functionCall": {"name": "go", "args": {}}}]}
    assert gemini.faults({"contents": [call, {"role": "user", "parts": [{"text": "Hi"}]}]})
