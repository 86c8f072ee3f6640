"""The decoder's law: the frames do not depend on how the bytes were cut."""

from hypothesis import given
from hypothesis import strategies as st

from llmwise.wire.sse import Frame, SSEDecoder

LINES = st.sampled_from(
    [b"data: x", b"data:", b'data: {"a": "\xe2\x82\xac"}', b": ping", b"event: e", b"id: 1", b"data", b"junk", b""]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    return b"".join(line + end for line, end in draw(st.lists(st.tuples(LINES, ENDS), max_size=25)))


def decoded(stream: bytes, cuts: list[int]) -> list[Frame]:
    decoder = SSEDecoder()
    frames: list[Frame] = []
    start = 0
    for cut in [*sorted(cuts), len(stream)]:
        frames += decoder.feed(stream[start:cut])
        start = cut
    return frames + decoder.finish()


@given(streams(), st.data())
def test_frames_do_not_depend_on_how_the_bytes_were_cut(stream: bytes, data: st.DataObject) -> None:
    whole = decoded(stream, [])
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=40))
    assert decoded(stream, cuts) == whole
    assert decoded(stream, list(range(len(stream)))) == whole


def test_a_byte_order_mark_may_be_cut_too() -> None:
    stream = b"\xef\xbb\xbfdata: x\n\n"
    assert decoded(stream, [1]) == decoded(stream, []) == [Frame(b"x")]


def by_the_book(stream: bytes) -> list[Frame]:
    """The specification's algorithm, line by line, with no thought of speed. A last frame without its blank line
    counts, which the specification would drop: providers end like that."""
    text = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    frames, data, event = [], list[bytes](), None
    for line in [*text.split(b"\n"), b""]:
        if line:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name == b"event":
                event = value.decode()
        else:
            if data:
                frames.append(Frame(b"\n".join(data), event))
            data, event = [], None
    return frames


@given(streams())
def test_frames_are_those_of_the_specification(stream: bytes) -> None:
    assert decoded(stream, []) == by_the_book(stream)
