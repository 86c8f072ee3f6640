"""The framing of server-sent events, against the specification's own examples and what providers send."""

import pytest

from llmwise.wire.sse import Frame, FrameTooLarge, SSEDecoder


def frames(*reads: bytes) -> list[Frame]:
    decoder = SSEDecoder()
    found = [frame for read in reads for frame in decoder.feed(read)]
    return found + decoder.finish()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_each_kind_of_line_end_is_one(end: bytes) -> None:
    stream = b"data: one" + end + end + b"event: named" + end + b"data: two" + end + end
    assert frames(stream) == [Frame(b"one"), Frame(b"two", "named")]


def test_comments_ids_and_unknown_fields_are_skipped() -> None:
    assert frames(b": OPENROUTER PROCESSING\n\nid: 7\nretry: 10\ncolour: red\ndata: x\n\n") == [Frame(b"x")]


def test_data_of_several_lines_is_joined_by_lf() -> None:
    assert frames(b"data: YHOO\ndata: +2\ndata: 10\n\n") == [Frame(b"YHOO\n+2\n10")]


def test_only_one_space_after_the_colon_is_taken_away() -> None:
    assert frames(b"data:tight\n\ndata:  two\n\n") == [Frame(b"tight"), Frame(b" two")]


def test_a_field_without_a_colon_is_empty_data() -> None:
    assert frames(b"data\n\n") == [Frame(b"")]


def test_a_name_without_data_is_no_frame() -> None:
    assert frames(b"event: ping\n\n") == []


def test_a_byte_order_mark_at_the_start_is_not_data() -> None:
    assert frames(b"\xef\xbb\xbfdata: x\n\n") == [Frame(b"x")]


def test_the_last_frame_needs_no_blank_line() -> None:
    assert frames(b"data: x\n\ndata: [DONE]") == [Frame(b"x"), Frame(b"[DONE]")]
    assert frames(b"data: [DONE]\n") == [Frame(b"[DONE]")]


def test_a_cr_and_its_lf_in_two_reads_are_one_line_end() -> None:
    assert frames(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [Frame(b"a\nb")]


def test_a_character_cut_between_reads_arrives_whole() -> None:
    euro = "€".encode()
    assert frames(b"data: " + euro[:1], euro[1:] + b"\n\n") == [Frame(euro)]


def test_a_frame_that_never_ends_is_refused() -> None:
    decoder = SSEDecoder(max_frame_bytes=100)
    decoder.feed(b"data: " + b"x" * 90)
    with pytest.raises(FrameTooLarge):
        decoder.feed(b"x" * 90)


def test_the_bound_is_for_a_frame_and_not_for_the_stream() -> None:
    decoder = SSEDecoder(max_frame_bytes=100)
    assert sum(len(decoder.feed(b"data: " + b"x" * 50 + b"\n\n")) for _ in range(50)) == 50
