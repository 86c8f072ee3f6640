"""A file as a stream of values, in constant memory: lines of JSON, JSON documents and arrays of any length, CSV. Files
compressed with gzip are read as they are.

A value that can't be read is a `Malformed` in its place, with its number: of the line in a file of lines (the first is
1), of the element in an array.
"""

import codecs
import csv
import gzip
import io
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, TypeAlias

from llmwise.insights.audit.drafts import Malformed

HEAD_BYTES = 256 * 1024
"""Looked at to recognise a format."""
MOST_LINE_BYTES = 16 * 1024 * 1024
"""Longest line, and longest element of an array."""
MOST_BYTES = 64 * 1024 * 1024 * 1024
"""After decompression: a file that goes on for ever ends here."""
MOST_FIELD_CHARS = 4 * 1024 * 1024
"""Longest field of a CSV: a prompt of a million tokens. Not longer: a quote without its pair swallows as much."""
CHUNK_BYTES = 256 * 1024
GZIP = b"\x1f\x8b"

Numbered: TypeAlias = tuple[int, Any]


class Unreadable(Exception):
    """The file as a whole can't be read; for people."""


class Input:
    """An open file. `file` must be seekable; `name` is for people; no more than `most_bytes` are read of it."""

    def __init__(self, name: str, file: BinaryIO, most_bytes: int = MOST_BYTES) -> None:
        self.name = name
        self._most_bytes = most_bytes
        self.raw = file
        file.seek(0, os.SEEK_END)
        self.size = file.tell()
        file.seek(0)
        self._packed = file.read(2) == GZIP
        start = self._start()
        self.start = start[:2]
        self.head = start.decode("utf-8", "replace").lstrip("\ufeff")

    @property
    def position(self) -> int:
        """How many bytes of `size` were read: for a progress bar."""
        return min(self.raw.tell(), self.size)

    def open(self) -> BinaryIO:
        """The bytes from the start, decompressed."""
        self.raw.seek(0)
        return gzip.GzipFile(fileobj=self.raw, mode="rb") if self._packed else self.raw  # type: ignore[return-value]  # it reads

    def lines(self) -> Iterator[tuple[int, bytes | Malformed]]:
        """Lines that are not blank. Raises `Unreadable`."""
        number = total = 0
        file = io.BufferedReader(self.open(), CHUNK_BYTES) if self._packed else self.open()  # type: ignore[type-var]
        try:
            while line := file.readline(MOST_LINE_BYTES):
                number += 1
                total += len(line)
                if total > self._most_bytes:
                    raise Unreadable(f"{self.name}: over {self._most_bytes} bytes; split it")
                if len(line) == MOST_LINE_BYTES and not line.endswith(b"\n"):
                    while (more := file.readline(MOST_LINE_BYTES)) and not more.endswith(b"\n"):
                        total += len(more)
                        if total > self._most_bytes:
                            raise Unreadable(f"{self.name}: over {self._most_bytes} bytes; split it")
                    yield number, Malformed(f"the line is over {MOST_LINE_BYTES} bytes")
                    continue
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                if not line.isspace():
                    yield number, line
        except (OSError, EOFError) as error:
            raise Unreadable(f"{self.name}: can't be read on after line {number} ({error})") from error
        finally:
            if self._packed:
                file.detach() if isinstance(file, io.BufferedReader) else None

    def rows(self) -> Iterator[tuple[int, Mapping[str, str] | Malformed]]:
        """CSV: rows by the names of the header, whatever of comma, semicolon and tab it uses. A header that comes
        again (files that were joined) is left out."""
        header: list[str] = []
        csv.field_size_limit(max(csv.field_size_limit(), MOST_FIELD_CHARS))  # the process's: Python has no other
        reader = csv.reader(self._text(), delimiter=delimiter(self.head))
        while True:
            try:
                row = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                yield reader.line_num, Malformed(f"no CSV: {error}")
                continue
            if row is None:
                return
            if not header:
                header = [name.strip() for name in row]
            elif len(row) != len(header):
                if row:
                    yield reader.line_num, Malformed(f"{len(row)} columns where the header has {len(header)}")
            elif row != header:
                yield reader.line_num, dict(zip(header, row, strict=True))

    def values(self) -> Iterator[Numbered]:
        """JSON values: the elements of an array, else one document after another. What follows a broken one can't be
        found: reading ends there."""
        decode = json.JSONDecoder().raw_decode
        text, number, array = "", 0, False
        chunks = self._chunks()
        ended = False
        at = 0
        while True:
            while at < len(text) and text[at] in " \t\r\n,\ufeff":
                at += 1
            if at < len(text) and text[at] == "[" and not array and number == 0:
                array, at = True, at + 1
                continue
            if at < len(text) and text[at] == "]" and array:
                return
            if at < len(text):
                try:
                    value, after = decode(text, at)
                    if after < len(text) or ended:
                        number += 1
                        at = after
                        yield number, value
                        continue
                except (json.JSONDecodeError, RecursionError) as error:
                    if ended or len(text) - at > MOST_LINE_BYTES:
                        yield number + 1, Malformed(f"no JSON ({_brief(error)}); nothing after it can be read")
                        return
            if ended:
                if array:
                    yield number + 1, Malformed("the array is cut off: its ] is missing")
                return
            # At least as much again as waits already: the same bytes are not looked at over and over.
            text, at, more = text[at:], 0, max(len(text) - at, 1)
            while more > 0 and not ended:
                chunk = next(chunks, None)
                ended = chunk is None
                text += chunk or ""
                more -= len(chunk or "")

    def _text(self) -> Iterator[str]:
        for _, line in self.lines():
            yield "\n" if isinstance(line, Malformed) else line.decode("utf-8", "replace")

    def _chunks(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        total, file = 0, self.open()
        try:
            while chunk := file.read(CHUNK_BYTES):
                total += len(chunk)
                if total > self._most_bytes:
                    raise Unreadable(f"{self.name}: over {self._most_bytes} bytes; split it")
                yield decoder.decode(chunk)
        except (OSError, EOFError) as error:
            raise Unreadable(f"{self.name}: can't be read on ({error})") from error

    def _start(self) -> bytes:
        try:
            return self.open().read(HEAD_BYTES)
        except (OSError, EOFError) as error:
            raise Unreadable(f"{self.name}: can't be read ({error})") from error


def delimiter(head: str) -> str:
    """What separates the columns of the header."""
    first = head.split("\n", 1)[0]
    return max(",\t;", key=first.count)


def _brief(error: Exception) -> str:
    return error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
