"""Callers that never tire, and what they were told: for tests that kill what they call.

Bare sockets, for the load of a closed loop at many times what an HTTP client's library does, and because only so it is
known which answers came whole.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field


@dataclass
class Heard:
    """What the callers heard. `answered` holds the ids of requests whose answer came whole with status 200, `broken`
    those whose answer began and did not end, `refused` other statuses; `unheard` counts requests without a byte of an
    answer, which a caller may safely ask again."""

    answered: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    refused: list[tuple[str, int, bytes]] = field(default_factory=list)
    unheard: int = 0


class Load:
    """`callers` connections, each asking again as soon as it is answered, or `rate` requests a second in all."""

    def __init__(self, port: int, key: str, model: str, callers: int = 16, rate: float | None = None) -> None:
        self.heard = Heard()
        self._port = port
        self._pause_s = callers / rate if rate else 0.0
        self._callers = callers
        self._stopping = False
        self._requests = [_request(port, key, model, stream) for stream in (False, True)]

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._callers):
                group.create_task(self._call(number))

    def stop(self) -> None:
        """Each caller hears its answer out, and asks no more."""
        self._stopping = True

    async def _call(self, number: int) -> None:
        count = number
        due = time.monotonic()
        while not self._stopping:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            try:
                while not self._stopping:
                    count += 1
                    writer.write(self._requests[count % 2])
                    if not await self._hear(reader):
                        break
                    if self._pause_s:
                        due = max(due + self._pause_s, time.monotonic() - 1.0)
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
            heard.answered.append(id)
        return fields.get(b"connection") != b"close"


def _request(port: int, key: str, model: str, stream: bool) -> bytes:
    question = {"model": model, "messages": [{"role": "user", "content": "What is up?"}], "stream": stream}
    body = json.dumps(question).encode()
    head = (
        f"POST /api/v1/chat HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
