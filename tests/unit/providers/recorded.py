"""Golden cases: what a provider really sent, what we make of it, and what we would have asked.

A case is a folder: `meta.toml`, `in.json` (a `ChatRequest`), `upstream.request.json` (its encoding), `response.json` or
`response.sse` (bytes as received) and `events.json`.
"""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from llmwise.domain.events import AttemptEvent
from llmwise.domain.models import Capabilities, ModelCard
from llmwise.domain.ports import Codec, StreamDecoder
from llmwise.domain.requests import ChatRequest

GOLDEN = Path(__file__).parents[2] / "golden"


class Case:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = tomllib.loads((folder / "meta.toml").read_text())
        self.stream = (folder / "response.sse").exists()
        self.response = (folder / ("response.sse" if self.stream else "response.json")).read_bytes()

    @property
    def request(self) -> ChatRequest:
        return msgspec.json.decode((self.folder / "in.json").read_bytes(), type=ChatRequest)

    @property
    def sent(self) -> Any:
        return json.loads((self.folder / "upstream.request.json").read_bytes())

    @property
    def events(self) -> Any:
        return json.loads((self.folder / "events.json").read_bytes())


def cases(family: str) -> dict[str, Case]:
    return {folder.name: Case(folder) for folder in sorted((GOLDEN / family).iterdir())}


def card(model: str, **changes: Any) -> ModelCard:
    settings = {"capabilities": Capabilities(vision=True, documents=True), **changes}
    return ModelCard(f"test/{model}", "test", model, **settings)


def rendered(events: Sequence[AttemptEvent]) -> list[dict[str, Any]]:
    """Events as in `events.json`: their name and whatever isn't default."""
    return [
        {"event": type(event).__name__}
        | {
            field.name: msgspec.to_builtins(value)
            for field in msgspec.structs.fields(event)
            if (value := getattr(event, field.name)) != field.default
        }
        for event in events
    ]


def streamed(decoder: StreamDecoder, *reads: bytes) -> list[AttemptEvent]:
    events: list[AttemptEvent] = []
    for data in reads:
        events += decoder.feed(data)
    return events + decoder.finish()


def read(codec: Codec, case: Case) -> list[AttemptEvent]:
    return streamed(codec.decoder(), case.response) if case.stream else codec.decode(case.response)
