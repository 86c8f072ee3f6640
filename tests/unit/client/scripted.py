"""A real HTTP server on a loopback port that does exactly what its script says."""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


class Step(Enum):
    """What a script can do besides sending bytes."""

    UNTIL_CLIENT_LEAVES = auto()
    RESET = auto()


Script = tuple[bytes | Step, ...]
"""Sent part by part; then the connection is closed."""


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64  # with the default of 5, the sixth connection at once waits a second


class ScriptedServer:
    """Answers the n-th request with the n-th script, byte for byte, and later ones with the last."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self.seen: list[Seen] = []
        self.client_left = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                try:
                    for part in self.script():
                        self.play(part)
                except ConnectionError:
                    server.client_left.set()

            def script(self) -> Script:
                if not (line := self.rfile.readline().decode().split()):
                    return ()
                headers = {}
                while field := self.rfile.readline().decode().strip():
                    name, _, value = field.partition(": ")
                    headers[name.lower()] = value
                body = self.rfile.read(int(headers.get("content-length", 0)))
                with server._lock:
                    server.seen.append(Seen(line[0], line[1], headers, json.loads(body) if body else None))
                    return server.scripts[min(len(server.seen), len(server.scripts)) - 1]

            def play(self, part: bytes | Step) -> None:
                if isinstance(part, bytes):
                    self.wfile.write(part)
                elif part is Step.RESET:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    self.connection.settimeout(10)
                    if self.connection.recv(1) == b"":
                        server.client_left.set()

        return Handler


def reply(payload: Any = None, status: int = 200, **headers: str) -> Script:
    """A whole response: text as it is, anything else as JSON. `retry_after="0"` is a header."""
    body = payload.encode() if isinstance(payload, str) else json.dumps({} if payload is None else payload).encode()
    return (_head(status, {"Content-Length": str(len(body)), **headers}) + body,)


def stream(*parts: bytes | Step, **headers: str) -> Script:
    """A streamed response that lasts as long as its connection."""
    return (_head(200, {"Content-Type": "text/event-stream", **headers}), *parts)


def event(**keys: Any) -> bytes:
    return b"data: %s\n\n" % json.dumps(keys).encode()


DONE = b"data: [DONE]\n\n"


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} x", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()
