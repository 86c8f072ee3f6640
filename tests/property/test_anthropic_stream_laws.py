"""The law of Anthropic's streams: neither events nor errors depend on how the bytes were cut."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from llmwise.domain.errors import GatewayError
from llmwise.domain.events import AttemptEvent
from llmwise.providers.anthropic import CODEC

STREAMS = [
    path.read_bytes()
    for path in sorted((Path(__file__).parents[1] / "golden" / "anthropic").glob("*/response.sse"))
    if path.stat().st_size < 6000
]
assert STREAMS


def read(reads: list[bytes]) -> tuple[list[AttemptEvent], type[GatewayError] | None]:
    decoder, events = CODEC.decoder(), []
    try:
        for data in reads:
            events += decoder.feed(data)
        events += decoder.finish()
    except GatewayError as error:
        return events, type(error)
    return events, None


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    ends = sorted(min(i, len(stream)) for i in at)
    return [stream[i:j] for i, j in zip([0, *ends], [*ends, len(stream)], strict=True)]


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 6000), max_size=30))
def test_events_do_not_depend_on_how_the_bytes_were_cut(stream: bytes, at: list[int]) -> None:
    assert read(cut(stream, at)) == read([stream])


@given(
    st.sampled_from(STREAMS),
    st.integers(0, 6000),
    st.binary(max_size=12),
    st.lists(st.integers(0, 6000), max_size=12),
)
def test_a_damaged_stream_ends_the_same_way_however_it_was_cut(
    stream: bytes, where: int, damage: bytes, at: list[int]
) -> None:
    broken = stream[:where] + damage + stream[where + len(damage) :]
    assert read(cut(broken, at)) == read([broken])


@given(st.sampled_from(STREAMS), st.integers(0, 6000))
def test_a_stream_that_ends_early_is_never_finished(stream: bytes, length: int) -> None:
    if length < len(stream.rstrip()):
        _, error = read([stream[:length]])
        assert error is not None
