"""Server-sent events, both ways.

The decoder's law: the frames do not depend on how the bytes were cut. Ends of line may be LF, CRLF or CR; comments
and unknown fields are skipped; data of several lines is joined by LF; a last frame without its blank line counts.
Format: https://html.spec.whatwg.org/multipage/server-sent-events.html (read 2026-11-22).
"""

from msgspec import Struct

BOM = b"\xef\xbb\xbf"
MAX_FRAME_BYTES = 8 * 1024 * 1024


class FrameTooLarge(ValueError):
    """A frame grew over the decoder's bound without ending."""


class Frame(Struct, frozen=True, gc=False):
    """One event: its `data`, undecoded, and its name where one was given."""

    data: bytes
    event: str | None = None


class SSEDecoder:
    """Bytes, however cut, to frames.

    Invariant: `_held` are the bytes of an unfinished frame with normalised line ends, and hold no blank line. They are
    kept in pieces and searched once, so that a frame trickling in byte by byte costs no more than its length.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max = max_frame_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._after_cr = False  # the last byte was a CR: an LF that follows belongs to it
        self._at_start = True

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises `FrameTooLarge`."""
        if not data:
            return []
        if self._at_start:
            data = b"".join(self._held) + data
            self._held, self._held_bytes = [], 0
            if BOM.startswith(data):  # a byte order mark, or a part of one: wait for what follows
                self._held = [data]
                return []
            self._at_start = False
            data = data.removeprefix(BOM)
        if self._after_cr or b"\r" in data:
            data = self._normalise(data)
        held = self._held
        split_blank_line = held and data[:1] == b"\n" and held[-1][-1:] == b"\n"
        if b"\n\n" not in data and not split_blank_line:
            if data:
                held.append(data)
                self._held_bytes += len(data)
                if self._held_bytes > self._max:
                    raise FrameTooLarge(f"a frame of more than {self._max} bytes")
            return []
        if held:
            data = b"".join(held) + data
        *blocks, rest = data.split(b"\n\n")
        # Of an odd number of line ends the last one leads the next block; leading ones mean nothing.
        rest = rest.lstrip(b"\n")
        self._held = [rest] if rest else []
        self._held_bytes = len(rest)
        return [frame for block in blocks if (frame := _frame(block)) is not None]

    @property
    def between_frames(self) -> bool:
        """Nothing of an unfinished frame is held: what comes next begins one."""
        return not self._held and not self._after_cr

    def finish(self) -> list[Frame]:
        """The frame that the body ended in, if it was not closed by a blank line."""
        frame = _frame(b"".join(self._held).removeprefix(BOM))
        self._held = []
        return [] if frame is None else [frame]

    def _normalise(self, data: bytes) -> bytes:
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]
        self._after_cr = data[-1:] == b"\r" if data else False
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def encode(frame: Frame) -> bytes:
    """The frame's bytes, with its blank line."""
    data = frame.data.replace(b"\n", b"\ndata: ") if b"\n" in frame.data else frame.data
    if frame.event is None:
        return b"data: %b\n\n" % data
    return b"event: %b\ndata: %b\n\n" % (frame.event.encode(), data)


def _frame(block: bytes) -> Frame | None:
    if b"\n" not in block and block[:6] == b"data: ":  # what nearly every frame is
        return Frame(block[6:])
    event: str | None = None
    data: list[bytes] = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
    return Frame(b"\n".join(data), event) if data else None
