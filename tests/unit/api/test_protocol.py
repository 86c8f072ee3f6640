"""What goes to the socket in one write."""

import asyncio
from typing import Any

import pytest

from llmwise.api.protocol import _Writing


class Socket:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


@pytest.mark.anyio
async def test_a_head_goes_out_with_the_first_bytes_or_by_itself_when_none_come() -> None:
    socket: Any = Socket()
    writing = _Writing(asyncio.get_running_loop(), socket)
    writing.write(b"HTTP/1.1 200 OK\r\n\r\n")
    writing.write(b"one")
    writing.write(b"two")
    assert socket.written == [b"HTTP/1.1 200 OK\r\n\r\none", b"two"]
    writing.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await asyncio.sleep(0)
    assert socket.written[2:] == [b"HTTP/1.1 204 No Content\r\n\r\n"]
    writing.write(b"HTTP/1.1 200 OK\r\n\r\n")
    writing.close()
    assert (socket.written[3:], socket.closed) == ([b"HTTP/1.1 200 OK\r\n\r\n"], True)
