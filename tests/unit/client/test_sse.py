"""The decoder's law: events do not depend on how the bytes were cut."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmwise.client._sse import SSEDecoder

STREAM = (
    "\ufeffdata: first\n\n"
    ": a comment\n\n"
    "event: named\nid: 7\nretry: 10\ndata: Grüße 🦉\n\n"
    "data:no space\r\n\r\n"
    "data:  two spaces\n\n"
    "data: of\ndata: several\r\ndata\rdata: lines\n\n"
    'data: {"delta": "a\u2028b\u2029c\u0085d"}\n\n\\n\n'  # and the mark that the compat path appends
    "nonsense\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = [
    "first",
    "Grüße 🦉",
    "no space",
    " two spaces",
    "of\nseveral\n\nlines",
    '{"delta": "a\u2028b\u2029c\u0085d"}',
    "[DONE]",
]


def decode(stream: bytes, cuts: list[int]) -> list[str]:
    decoder = SSEDecoder()
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    reads = [stream[start:end] for start, end in pairwise(edges)]
    return [event for read in reads for event in decoder.feed(read)] + decoder.close()


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_events_do_not_depend_on_how_the_bytes_were_cut(cuts: list[int]) -> None:
    assert decode(STREAM, cuts) == EVENTS


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_events_arrive_one_byte_at_a_time_with_any_newline(newline: str) -> None:
    stream = f"data: a{newline}data: b{newline}{newline}data: c{newline}{newline}".encode()
    assert decode(stream, list(range(len(stream)))) == ["a\nb", "c"]


texts = st.text(max_size=30)


@given(st.lists(st.dictionaries(texts, texts, max_size=3)), st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(0)))
def test_any_json_survives_unescaped(events: list[dict[str, str]], newline: str, cuts: list[int]) -> None:
    dumped = [json.dumps(event, ensure_ascii=False) for event in events]
    stream = "".join(f"data: {text}{newline}{newline}" for text in dumped).encode(errors="surrogatepass")
    assert decode(stream, cuts) == [text.encode(errors="surrogatepass").decode(errors="replace") for text in dumped]


def test_an_event_is_given_out_as_soon_as_its_blank_line_is_here() -> None:
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\ndata: b\n") == ["a"]


def test_a_last_event_without_its_blank_line_is_not_lost() -> None:
    assert decode(b"data: a\n\ndata: b", []) == ["a", "b"]
    assert decode(b"data: a\n\ndata: b\n", []) == ["a", "b"]


def test_a_long_line_in_small_reads_takes_linear_time() -> None:
    """4 MB in reads of 16 bytes: seconds if each read looked at the whole line again, and it doesn't."""
    decoder = SSEDecoder()
    for _ in range(250_000):
        decoder.feed(b"0123456789abcdef")
    assert decoder.feed(b"\n") == []
