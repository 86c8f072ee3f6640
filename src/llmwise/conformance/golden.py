"""Answers that providers really gave: each file has the bytes, where and when they were recorded, and what they say.

What they say was read by a person and by `said`; it is written down, so that a mistake in the reader shows.
"""

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from msgspec import Struct
from msgspec.json import Decoder

from llmwise.conformance.cases import Case, Check, Outcome, readable
from llmwise.conformance.said import Call, Tokens
from llmwise.providers.scripted.server import Recording


class Record(Struct, frozen=True):
    """One file. `response` is text as it came: JSON, or server-sent events if `stream`."""

    name: str
    family: str
    shows: str
    source: str
    date: str
    stream: bool
    response: str
    text: str
    calls: tuple[Call, ...]
    reasoning: str
    finish: str
    tokens: Tokens | None


class Golden(Case, frozen=True):
    """A case whose provider answers with a recording. It is asked for as it was recorded: streamed, or whole."""

    family: str = ""
    record: Record | None = None

    def recording(self, stream: bool) -> Recording:
        assert self.record is not None
        kind = "text/event-stream" if self.record.stream else "application/json"
        return Recording(self.record.response.encode(), kind)


_DECODER = Decoder(Record)


@cache
def records() -> tuple[Record, ...]:
    folder = files(__package__).joinpath("golden")
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(_DECODER.decode(file.read_bytes()) for file in found)


def golden_cases() -> list[Golden]:
    return [Golden(f"recorded: {r.shows}", _says(r), modes=(r.stream,), family=r.family, record=r) for r in records()]


def _says(record: Record) -> Check:
    def check(outcome: Outcome) -> Iterator[str]:
        wrong = list(readable(outcome))
        yield from wrong
        if wrong:
            return
        got = outcome.said
        if got.text != record.text:
            yield f"text is {got.text!r:.100}, not {record.text!r:.100}"
        if [(c.name, json.loads(c.arguments)) for c in got.calls] != [
            (c.name, json.loads(c.arguments)) for c in record.calls
        ]:
            yield f"calls are {got.calls!r:.160}, not {record.calls!r:.160}"
        if got.finish != record.finish:
            yield f"finish is {got.finish}, not {record.finish}"
        if record.tokens is not None and got.tokens is not None:
            for name in ("prompt", "output", "cache_read"):
                if getattr(got.tokens, name) != getattr(record.tokens, name):
                    yield f"{name} tokens are {getattr(got.tokens, name)}, not {getattr(record.tokens, name)}"

    return check
