"""Server-sent events: bytes in, the data of whole events out.

Law: the events do not depend on how the bytes were cut into reads. An unfinished line waits for its
rest, and so does a lone CR, whose LF may be the next byte. Lines are only cut at LF, CR and CRLF: `str`'s
own `splitlines` (and with it httpx's `iter_lines`) also cuts at U+0085, U+2028 and U+2029, which JSON may
hold unescaped, and loses the event. A character cut between two reads is no special case, because no
byte of a multi-byte UTF-8 sequence looks like a line's end.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html. Only `data` matters
here; `event`, `id`, `retry`, comments and unknown fields are skipped.
"""

from __future__ import annotations

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SSEDecoder:
    """Feed it the bytes of one stream, in order; it gives back each event's data when it is whole."""

    def __init__(self) -> None:
        self._unfinished = bytearray()
        self._data: list[bytes] = []
        self._at_start = True

    def feed(self, data: bytes) -> list[str]:
        """The data of the events that these bytes complete; often none, sometimes several."""
        self._unfinished += data
        if b"\n" not in data and b"\r" not in data:  # don't look again at what has been looked at
            return []
        lines = self._unfinished.splitlines(keepends=True)
        self._unfinished = bytearray() if lines[-1].endswith(b"\n") else lines.pop()
        return self._events(lines)

    def close(self) -> list[str]:
        """The data of an event that lacks only its last line's end; the standard would drop it."""
        lines, self._unfinished = [self._unfinished, bytearray()], bytearray()
        return self._events(lines)

    def _events(self, lines: list[bytearray]) -> list[str]:
        events = []
        for terminated in lines:
            line = bytes(terminated).rstrip(b"\r\n")
            if self._at_start:
                line, self._at_start = line.removeprefix(_BYTE_ORDER_MARK), False
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
            elif not line and self._data:
                events.append(b"\n".join(self._data).decode(errors="replace"))
                self._data.clear()
        return events
