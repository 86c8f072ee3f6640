"""Recorded embeddings, asked for in OpenAI's dialect: the same vectors, in the same order, and the same tokens."""

import base64
import json
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

from .answers import STATUS, Verdict, headers_of, target
from .gateway import Recorded, Replay
from .recorded import Exchange

PATH = "/v1/embeddings"


async def replay(gateway: Replay, exchange: Exchange) -> AsyncIterator[Verdict]:
    """One cell: the answer, to the question that it was recorded for."""
    gateway.upstream.answer = Recorded(exchange.status, headers_of(exchange), exchange.response.encode())
    texts = list(_texts(exchange.request))
    answer = await gateway.ask(PATH, {"model": target(exchange).id, "input": texts})
    wrong = []
    if exchange.status != 200:
        if answer.status_code not in STATUS.get(exchange.status, (502,)):
            wrong.append(f"status {answer.status_code} for a provider's {exchange.status}")
    elif answer.status_code != 200:
        wrong.append(f"status {answer.status_code}: {answer.text[:200]}")
    else:
        given = answer.json()
        vectors, tokens = _recorded(json.loads(exchange.response))
        got = [row["embedding"] for row in given["data"]]
        if len(got) != len(vectors) or any(_far(a, b) for a, b in zip(got, vectors, strict=True)):
            wrong.append(f"{len(got)} vectors, not the {len(vectors)} that were recorded")
        if tokens is not None and given["usage"]["prompt_tokens"] != tokens:
            wrong.append(f"usage: {given['usage']} instead of {tokens} tokens")
    yield Verdict(exchange.id, exchange.place, "embeddings whole", tuple(wrong))


def _texts(request: Any) -> Sequence[str]:
    if "input" in request:
        return [request["input"]] if isinstance(request["input"], str) else list(request["input"])
    asked = request.get("requests") or [request]
    return ["".join(part.get("text", "") for part in one["content"]["parts"]) for one in asked]


def _recorded(answer: Any) -> tuple[list[list[float]], int | None]:
    if "data" in answer:
        return [_floats(row["embedding"]) for row in answer["data"]], answer["usage"]["prompt_tokens"]
    rows = answer["embeddings"] if "embeddings" in answer else [answer["embedding"]]
    counted = (answer.get("usageMetadata") or {}).get("promptTokenCount")
    return [row["values"] for row in rows], counted


def _floats(vector: str | list[float]) -> list[float]:
    """A list, or 32-bit floats in base64."""
    if isinstance(vector, list):
        return vector
    data = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def _far(one: list[float], other: list[float]) -> bool:
    return len(one) != len(other) or any(abs(a - b) > 1e-6 for a, b in zip(one, other, strict=True))
