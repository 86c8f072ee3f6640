"""Callers that never tire, and what they were told: for tests that kill what they call.

Bare sockets, for the load of a closed loop at many times what an HTTP client's library does, and because only so it is
known which answers came whole.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

QUESTION = "What is up, %08d?"
"""Each is asked once, with a number of its own, by which the provider and the records can be compared."""

CATCHES_UP_S = 10.0
"""With a `rate`, what callers could not ask for so long they ask as soon as they can."""


@dataclass
class Heard:
    """What the callers heard. `answered` holds the ids of requests whose answer came whole with status 200, `broken`
    those whose answer began and did not end, `refused` other statuses; `unheard` counts requests without a byte of an
    answer, which a caller may safely ask again. `silence_s` is the longest time between two whole answers, whoever got
    them, since it was last set to 0."""

    answered: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    refused: list[tuple[str, int, bytes]] = field(default_factory=list)
    unheard: int = 0
    silence_s: float = 0.0
    last_at: float = field(default_factory=time.monotonic)

    def whole(self, id: str) -> None:
        self.answered.append(id)
        now = time.monotonic()
        self.silence_s, self.last_at = max(self.silence_s, now - self.last_at), now


class Load:
    """`callers` connections, each asking again as soon as it is answered, or `rate` requests a second in all. Loads
    of one gateway share their `numbers`. What is asked takes turns by `streams`."""

    def __init__(
        self,
        port: int,
        key: str,
        model: str,
        callers: int = 16,
        rate: float | None = None,
        numbers: Iterator[int] | None = None,
        streams: Sequence[bool] = (False, True),
    ) -> None:
        self.heard = Heard()
        self._port = port
        self._pause_s = callers / rate if rate else 0.0
        self._callers = callers
        self._stopping = False
        self._numbers = count() if numbers is None else numbers
        self._requests = [_request(port, key, model, stream) for stream in streams]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._callers):
                group.create_task(self._call())

    def stop(self) -> None:
        """Each caller hears its answer out, and asks no more."""
        self._stopping = True

    async def _call(self) -> None:
        due = time.monotonic()
        while not self._stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.2)  # more often, and 64 of them take the core that the gateway starts on
                continue
            try:
                while not self._stopping:
                    asked = next(self._numbers)
                    writer.write(self._requests[asked % len(self._requests)] % (QUESTION.encode() % asked))
                    if not await self._hear(reader):
                        break
                    if self._pause_s:
                        due = max(due + self._pause_s, time.monotonic() - CATCHES_UP_S)
                        await asyncio.sleep(max(0.0, due - time.monotonic()))
            finally:
                writer.transport.abort()

    async def _hear(self, reader: asyncio.StreamReader) -> bool:
        """One answer; whether the connection may be used again."""
        heard = self.heard
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
        except (OSError, asyncio.IncompleteReadError):
            heard.unheard += 1
            return False
        status = int(head[9:12])
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        id = fields.get(b"x-request-id", b"").decode()
        try:
            if b"content-length" in fields:
                body = await reader.readexactly(int(fields[b"content-length"]))
                whole = True
            else:
                body = await reader.readuntil(b"0\r\n\r\n")
                whole = b"data: [DONE]" in body and b'"event":"error"' not in body
        except (OSError, asyncio.IncompleteReadError):
            heard.broken.append(id)
            return False
        if status != 200:
            heard.refused.append((id, status, body))
        elif not whole:
            heard.broken.append(id)
        else:
            heard.whole(id)
        return fields.get(b"connection") != b"close"


def _request(port: int, key: str, model: str, stream: bool) -> bytes:
    """With `%s` where the question goes, which always has the same length."""
    question = {"model": model, "messages": [{"role": "user", "content": "%s"}], "stream": stream}
    body = json.dumps(question).encode()
    size = len(body) - len("%s") + len(QUESTION % 0)
    head = (
        f"POST /api/v1/chat HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    )
    return head.encode() + body
