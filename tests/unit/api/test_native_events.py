"""Framing of native streams. Its law: whatever the text, both kinds of reader get it back."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmwise.api.native.events import COMPAT_DONE, COMPAT_KEEP_ALIVE, compat_frame, frame

VALUES = st.dictionaries(st.text(max_size=8), st.text(max_size=60) | st.none() | st.integers() | st.booleans())
NASTY = {"delta": 'a\nb\\nc\\\\n"\u2028\u2029\u0085\x1c\x0b\x0c\r\n🦉', "path": "C:\\new\\notes"}


def published(body: bytes) -> list[str]:
    """As npm's `llmwise` 0.1.2 reads: cut at the two characters backslash and n; a piece begins with `data:`, or is
    none; what follows the last cut is never looked at."""
    *pieces, _ = body.decode().split("\\n")
    return [piece.strip()[5:].strip() for piece in pieces if piece.strip().startswith("data:")]


def standard(body: bytes) -> list[str]:
    """As httpx reads: by lines, which end also at Unicode's own line ends."""
    return [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]


@given(st.lists(VALUES, max_size=4))
def test_both_kinds_of_reader_get_every_event_of_a_compat_stream(events: list[dict[str, Any]]) -> None:
    body = b"".join(compat_frame(event) for event in events) + COMPAT_KEEP_ALIVE + COMPAT_DONE
    for read in (published, standard):
        *data, done = read(body)
        assert done == "[DONE]"
        assert [json.loads(text) for text in data] == events


@given(VALUES)
def test_a_standard_frame_is_one_line_of_data_however_lines_are_cut(event: dict[str, Any]) -> None:
    body = frame(event)
    assert body.startswith(b"data: ")
    assert body.endswith(b"\n\n")
    (line,) = standard(body)
    assert json.loads(line) == event
    assert len(body.decode().removesuffix("\n\n").splitlines()) == 1


def test_the_worst_text_survives() -> None:
    for make in (frame, compat_frame):
        (line,) = standard(make(NASTY))
        assert json.loads(line) == NASTY
    (text,) = published(compat_frame(NASTY))
    assert json.loads(text) == NASTY
