"""One connection of the scripted server: HTTP/1.1 in and out by h11, steps played to the socket."""

import asyncio
import logging
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from typing import Protocol, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
from msgspec import Struct

from llmwise.providers.scripted.journal import Entry
from llmwise.providers.scripted.steps import Close, Data, End, Forever, Head, Step, Wait

MAX_HEAD_BYTES = 64 << 10
MAX_REQUEST_BYTES = 64 << 20
MAX_PIPELINED_BYTES = 1 << 20
WRITE_BYTES = 256 << 10
LABELS = (("server", "llmwise mock (scripted)"), ("x-llmwise-scripted", "1"))

_log = logging.getLogger(__name__)
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing resets


class Request(Struct, frozen=True):
    """A whole request. Header names are in lower case, `path` is decoded and without its query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


class Performance(Struct, frozen=True):
    """What is played for a request. `entry` is its line in the journal; the server's own pages have none."""

    steps: Iterator[Step]
    entry: Entry | None = None


class Stage(Protocol):
    """What a connection needs of its server."""

    connections: "set[Connection]"
    closing: bool

    def disconnected(self, connection: "Connection") -> None: ...

    def perform(self, request: Request) -> Performance: ...


class Connection(asyncio.Protocol):
    """Requests one after the other; while one is being answered, further bytes wait unread in h11.

    `entry` is the request being played, if it is in the journal.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._h11 = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._started = 0.0
        self._ours = False  # we closed the connection, nobody left it
        self.entry: Entry | None = None

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # both loops have set TCP_NODELAY
        self._stage.connections.add(self)
        if self._stage.closing:
            self.abort()

    def data_received(self, data: bytes) -> None:
        self._h11.receive_data(data)
        self._advance()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is None:
            self._stage.disconnected(self)
            return
        self._task.add_done_callback(lambda _: self._stage.disconnected(self))
        if self.entry is not None and not self._ours:
            self.entry.client_left = True
            self.entry.left_after_ms = round((time.monotonic() - self._started) * 1000, 3)
        self._task.cancel()

    # Called by the server.

    def abort(self) -> None:
        self._ours = True
        self._transport.abort()

    def _advance(self) -> None:
        """Take in what has come, up to the end of one request."""
        while self._task is None and not self._transport.is_closing():
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                self._reject(error.error_status_hint, str(error))
                return
            if event is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
                return
            if isinstance(event, h11.Request):
                self._head = event
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_REQUEST_BYTES:
                    self._reject(413, f"a request of more than {MAX_REQUEST_BYTES} bytes")
            elif isinstance(event, h11.EndOfMessage):
                self._begin()
            else:  # PAUSED, or the client's side is over
                return
        if len(self._h11.trailing_data[0]) > MAX_PIPELINED_BYTES:
            self.abort()

    def _begin(self) -> None:
        assert self._head is not None
        request = _request(self._head, bytes(self._body))
        self._head = None
        self._body.clear()
        self._started = time.monotonic()
        self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            performance = self._stage.perform(request)
            self.entry = performance.entry
            await self._play(performance.steps)
        except Exception:  # a defect of the mock: say so, and leave the other connections alone
            _log.exception("the scripted answer to %s failed", request.path)
            self.abort()
            return
        finally:
            self._task = None
        if self.entry is not None:
            self.entry.finished = True
            self.entry = None
        if self._ours:
            return
        if self._h11.our_state is h11.MUST_CLOSE:
            self._ours = True
            self._transport.close()
        else:
            self._h11.start_next_cycle()
            self._advance()

    async def _play(self, steps: Iterator[Step]) -> None:
        """A head waits for what follows it, to share its packet, unless time is to pass between them."""
        held = b""
        for step in steps:
            match step:
                case Head():
                    date = formatdate(usegmt=True)
                    headers = [("content-type", step.content_type), ("date", date), *LABELS, *step.headers]
                    if step.length is not None:
                        headers.append(("content-length", str(step.length)))
                    response = h11.Response(status_code=step.status, headers=headers)
                    held = self._h11.send(response) or b""
                case Data(data=data):
                    for start in range(0, len(data), WRITE_BYTES):
                        part = data if len(data) <= WRITE_BYTES else data[start : start + WRITE_BYTES]
                        self._write(held + (self._h11.send(h11.Data(data=part)) or b""))
                        held = b""
                        await self._writable.wait()
                case End():
                    self._write(held + (self._h11.send(h11.EndOfMessage()) or b""))
                    return
                case Wait(seconds=seconds):
                    self._write(held)
                    held = b""
                    await asyncio.sleep(seconds)
                case Forever():
                    self._write(held)
                    await asyncio.get_running_loop().create_future()
                case Close(reset=reset):
                    self._write(held)
                    self._ours = True
                    if reset:
                        peer = cast(socket.socket, self._transport.get_extra_info("socket"))
                        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    self._transport.close()  # what was written goes out first
                    return

    def _send(self, event: h11.Event) -> None:
        self._write(self._h11.send(event) or b"")

    def _write(self, data: bytes) -> None:
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _reject(self, status: int, message: str) -> None:
        """The bytes are no request that could be answered in any dialect."""
        body = message.encode()
        headers = [*LABELS, ("content-type", "text/plain"), ("content-length", str(len(body))), ("connection", "close")]
        self._ours = True
        if self._h11.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send(h11.Response(status_code=status, headers=headers))
            self._send(h11.Data(data=body))
            self._send(h11.EndOfMessage())
        self._transport.close()


def _request(head: h11.Request, body: bytes) -> Request:
    target = urlsplit(head.target.decode("latin-1"))
    return Request(
        method=head.method.decode("latin-1"),
        path=unquote(target.path),
        query=dict(parse_qsl(target.query, keep_blank_values=True)),
        headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
        body=body,
    )
