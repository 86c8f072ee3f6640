"""What was recorded, one exchange a line, and which wire format it is in."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

from msgspec import Struct
from msgspec.json import Decoder

Format: TypeAlias = Literal["chat", "responses", "anthropic", "gemini", "embeddings"]
"""What the provider speaks there. `chat` is Chat Completions, whichever vendor's."""


class Exchange(Struct, frozen=True):
    """One request and its answer. `response` is text as received: JSON, or server-sent events if `stream`."""

    id: str
    case: str
    turn: int
    provider: str
    path: str
    stream: bool
    request: Any
    status: int
    response_headers: dict[str, str]
    response: str
    request_headers: dict[str, str] = {}

    @property
    def format(self) -> Format | None:
        """`None` for an endpoint that the gateway doesn't offer: counting tokens, compaction, file stores."""
        path = self.path.partition("?")[0]
        if path.endswith("/chat/completions"):
            return "chat"
        if path.endswith("/responses"):
            return "responses"
        if path.endswith("/messages"):
            return "anthropic"
        if path.endswith(("generateContent", "streamGenerateContent", ":generateContent")):
            return "gemini"
        if path.endswith(("/embeddings", "mbedContents", ":embedContent")):
            return "embeddings"
        return None

    @property
    def model(self) -> str:
        """The name that the provider was asked for: in the body, or in Gemini's address."""
        if isinstance(self.request, dict) and isinstance(self.request.get("model"), str):
            return str(self.request["model"])
        name = self.path.partition("?")[0].rpartition("/models/")[2].rpartition(":")[0]
        return unquote(name) or "unknown"

    @property
    def content_type(self) -> str:
        return "text/event-stream" if self.stream else "application/json"

    @property
    def place(self) -> str:
        """Where it was, for a table: the provider and the endpoint without its model."""
        return f"{self.provider} {self.format or self.path.partition('?')[0].rpartition('/')[2]}"


_LINE = Decoder(Exchange)


def read(folder: Path) -> Iterator[Exchange]:
    """The exchanges of `folder/exchanges.jsonl`. Raises `FileNotFoundError`, and `msgspec.DecodeError` for a line that
    is none."""
    with (folder / "exchanges.jsonl").open("rb") as lines:
        for line in lines:
            if line.strip():
                yield _LINE.decode(line)


def specification(folder: Path) -> Any | None:
    """OpenAI's own description of its API, if it lies beside the data."""
    for place in (folder.parent / "specs" / "openai.json", folder / "openai.json"):
        if place.exists():
            return json.loads(place.read_bytes())
    return None
