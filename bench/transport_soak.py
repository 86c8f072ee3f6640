"""Soak the upstream port: random answers, cuts, stalls and cancellations at once; then look for what is left behind.

    python bench/transport_soak.py [--seconds 60] [--workers 48] [--client llmwise|pyreqwest|aiohttp]
    python bench/transport_soak.py --cost [--client ...]

A raw server runs in a process of its own and counts its open connections. The soak prints one line per interval
(requests, CPU per request, resident memory, file descriptors, tasks, connections that the server sees) and exits 1
when memory grows through its second half, or anything is left open in the end. `--cost` prints CPU microseconds per
request and per stream of 53 events instead, beside a bare socket that parses nothing.

`pyreqwest` and `aiohttp` are the rejected alternatives, installed by hand. The soak of pyreqwest 0.15.1 held 4,906
file descriptors and 447 MB after 20 s and never came to its end; this one stays at 40 MB and 65 descriptors through
300 s. CPU (2026-11, one core, uvloop, 2 busy cores shared with other work; a stream is 53 events, 16 at once):

                  1 at once       16       64   burst stream   5 ms between events
    bare socket          19       17       16
    llmwise              45       30       33            216                 1,179
    pyreqwest           119       62       74            568                 1,805
    aiohttp             228      218      190            431                 1,947
"""

import argparse
import asyncio
import collections
import contextlib
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

import psutil

from llmwise.providers.transport import Transport

try:
    from uvloop import run
except ImportError:
    from asyncio import run

HEADERS = [
    ("content-type", "application/json"),
    ("authorization", "Bearer sk-0123456789abcdef0123456789abcdef"),
    ("accept", "application/json"),
    ("user-agent", "llmwise-soak"),
]
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}],"pad":"%s"}\n\n' % (
    b"x" * 130
)
EVENTS = 53
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: r\r\nContent-Length: 620\r\n\r\n{"a":"%s"}'
    % (b"x" * 612)
)
CHUNK = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
MAX_GROWTH_MB = 6.0


# The server: the path of a request says how it is answered.


class Server:
    def __init__(self) -> None:
        self.open = 0
        self.gap_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
                )
                if length:
                    await reader.readexactly(length)
                if not await self.answer(head.split(b" ", 2)[1].decode(), reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):  # uvloop's word for a closed transport
            pass
        finally:
            self.open -= 1
            writer.transport.abort()

    async def answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        if path == "/open":
            body = json.dumps(self.open - 1).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        elif path.startswith("/gap/"):
            self.gap_s = float(path[5:])
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif path in ("/whole", "/close"):
            writer.write(WHOLE)
            return path == "/whole"
        elif path == "/stream":
            writer.write(HEAD)
            for _ in range(EVENTS):
                writer.write(CHUNK)
                await writer.drain()
                if self.gap_s:
                    await asyncio.sleep(self.gap_s)
            writer.write(b"0\r\n\r\n")
        elif path == "/large":
            writer.write(HEAD)
            for _ in range(200):
                writer.write(b"4000\r\n" + b"y" * 0x4000 + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
        elif path == "/trickle":
            for byte in HEAD + CHUNK + b"0\r\n\r\n":
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)
        elif path == "/error":
            writer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}")
        elif path == "/cut":
            writer.write(random.choice((WHOLE, HEAD + CHUNK * 3))[: random.randrange(1, 400)])
            await writer.drain()
            return False
        elif path == "/garbage":
            writer.write(random.choice((b"\0\1\2", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", HEAD + b"zz\r\n")))
            await reader.read()  # until the client leaves
            return False
        else:  # /stall: never a byte, /half: never the rest
            if path == "/half":
                writer.write(HEAD + CHUNK)
            await reader.read()
            return False
        await writer.drain()
        return True


async def serve() -> None:
    server = await asyncio.start_server(Server().serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# The clients: one call each that reads an answer whole, or as a stream. Both give its length.


class Client(Protocol):
    async def whole(self, url: str, body: bytes) -> int: ...
    async def stream(self, url: str, body: bytes) -> int: ...
    async def aclose(self) -> None: ...


class Ours:
    def __init__(self) -> None:
        self.transport = Transport()

    async def whole(self, url: str, body: bytes) -> int:
        response = await self.transport.send("POST", url, HEADERS, body, stream=False)
        return len(await response.read())

    async def stream(self, url: str, body: bytes) -> int:
        size = 0
        async with await self.transport.send("POST", url, HEADERS, body, stream=True) as response:
            async for part in response:
                size += len(part)
        return size

    async def aclose(self) -> None:
        await self.transport.aclose()


class Pyreqwest:
    def __init__(self) -> None:
        from pyreqwest.client import ClientBuilder

        self.client = ClientBuilder().follow_redirects(False).no_proxy().build()

    async def whole(self, url: str, body: bytes) -> int:
        response = await self.client.post(url).headers(HEADERS).body_bytes(body).build().send()
        return len((await response.bytes()).to_bytes())

    async def stream(self, url: str, body: bytes) -> int:
        size = 0
        request = self.client.post(url).headers(HEADERS).body_bytes(body).streamed_read_buffer_limit(1).build_streamed()
        async with request as response:
            while (part := await response.body_reader.read_chunk()) is not None:
                size += len(part.to_bytes())
        return size

    async def aclose(self) -> None:
        await self.client.close()


class Aiohttp:
    def __init__(self) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=0)
        self.session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def whole(self, url: str, body: bytes) -> int:
        async with self.session.post(url, headers=dict(HEADERS), data=body, allow_redirects=False) as response:
            return len(await response.read())

    async def stream(self, url: str, body: bytes) -> int:
        size = 0
        async with self.session.post(url, headers=dict(HEADERS), data=body, allow_redirects=False) as response:
            async for part in response.content.iter_any():
                size += len(part)
        return size

    async def aclose(self) -> None:
        await self.session.close()


class Bare(asyncio.Protocol):
    """The floor: fixed bytes out, anything back counts as the answer. Only for `whole`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiter.set_result(len(data))


CLIENTS: dict[str, Callable[[], Client]] = {"llmwise": Ours, "pyreqwest": Pyreqwest, "aiohttp": Aiohttp}


# The soak.

PATHS = {
    "/whole": 30, "/stream": 30, "/large": 2, "/trickle": 2, "/error": 6, "/close": 4,
    "/cut": 10, "/garbage": 4, "/stall": 6, "/half": 6,
}  # fmt: skip
"""How often each kind of answer is asked for, of 100."""


async def soak(client: Client, base: str, seconds: float, workers: int) -> list[str]:
    """Print the table; return what is wrong."""
    me = psutil.Process()
    ends: collections.Counter[str] = collections.Counter()
    stop = time.monotonic() + seconds
    interval = max(1.0, seconds / 20)
    before = (me.num_fds(), len(asyncio.all_tasks()))

    async def worker(chance: random.Random) -> None:
        while time.monotonic() < stop:
            path = chance.choices(list(PATHS), list(PATHS.values()))[0]
            call = client.stream if chance.random() < 0.5 else client.whole
            body = b"{}" * chance.choice((1, 50, 5000, 200_000) if chance.random() < 0.02 else (1, 50, 500))
            leaves = path in ("/stall", "/half") or chance.random() < 0.2
            try:
                async with asyncio.timeout(chance.random() * 0.03 if leaves else 20):
                    await call(base + path, body)
                ends["complete"] += 1
            except TimeoutError:
                ends["left early" if leaves else "HUNG"] += 1
            except Exception as error:
                ends[getattr(error, "kind", type(error).__name__)] += 1

    print("    s   requests  CPU us/request   RSS MB    fds  tasks  open at the server")
    memory: list[float] = []
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(worker(random.Random(number)))
        started = time.monotonic()
        done, cpu = 0, _cpu_s()
        while time.monotonic() < stop:
            await asyncio.sleep(min(interval, max(0.0, stop - time.monotonic())))
            memory.append(me.memory_info().rss / 2**20)
            count, spent = ends.total(), _cpu_s()
            print(
                f"{time.monotonic() - started:5.0f} {count:10,} {(spent - cpu) / max(1, count - done) * 1e6:15.0f} "
                f"{memory[-1]:8.1f} {me.num_fds():6} {len(asyncio.all_tasks()):6} {await _open_at(base):19}",
                flush=True,
            )
            done, cpu = count, spent
    print("ends:", ", ".join(f"{name} {count:,}" for name, count in ends.most_common()))

    wrong = []
    half = memory[len(memory) // 2 :]
    if len(half) >= 4:
        growth = statistics.median(half[-2:]) - statistics.median(half[:2])
        print(f"memory, second half: {growth:+.1f} MB")
        if growth > MAX_GROWTH_MB:
            wrong.append(f"memory grew by {growth:.1f} MB through the second half")
    if ends["HUNG"]:
        wrong.append(f"{ends['HUNG']} calls hung")
    idle = await _open_at(base)
    if idle > workers:
        wrong.append(f"{idle} connections open with nobody asking, of {workers} workers")
    await client.aclose()
    left = idle
    for _ in range(100):
        if not (left := await _open_at(base)):
            break
        await asyncio.sleep(0.02)
    if left:
        wrong.append(f"{left} connections open after the client was closed")
    after = (me.num_fds(), len(asyncio.all_tasks()))
    print(f"after closing: {after[0]} fds (before {before[0]}), {after[1]} tasks, {left} open at the server")
    if after[0] > before[0] + 4:  # a client's own event fds may stay
        wrong.append(f"{after[0] - before[0]} file descriptors left")
    if after[1] > before[1]:
        wrong.append(f"{after[1] - before[1]} tasks left")
    return wrong


# The cost.


async def cost(name: str, client: Client | None, base: str, seconds: float) -> None:
    body = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"%s"}],"max_tokens":64}' % (b"Hello! " * 14)

    async def per_call(call: Callable[[str, bytes], Awaitable[int]], path: str, at_once: int) -> float:
        results = []
        for _ in range(4):  # the first is the warm-up
            count, stop, cpu = 0, time.monotonic() + seconds, _cpu_s()

            async def worker(stop: float = stop) -> None:
                nonlocal count
                while time.monotonic() < stop:
                    await call(base + path, body)
                    count += 1

            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(worker())
            results.append((_cpu_s() - cpu) / count * 1e6)
        return statistics.median(results[1:])

    if client is None:
        floor = [await _bare(base, body, at_once, seconds) for at_once in (1, 16, 64)]
        print(f"{name:10} {floor[0]:8.1f} {floor[1]:8.1f} {floor[2]:8.1f}")
        return
    row = [await per_call(client.whole, "/whole", at_once) for at_once in (1, 16, 64)]
    for gap_s in (0.0, 0.005):
        await client.whole(f"{base}/gap/{gap_s}", b"")
        row.append(await per_call(client.stream, "/stream", 16))
    await client.whole(f"{base}/gap/0", b"")
    print(f"{name:10} {row[0]:8.1f} {row[1]:8.1f} {row[2]:8.1f} {row[3]:12.0f} {row[4]:14.0f}", flush=True)
    await client.aclose()


async def _bare(base: str, body: bytes, at_once: int, seconds: float) -> float:
    port = int(base.rpartition(":")[2])
    request = b"POST /whole HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    loop = asyncio.get_running_loop()
    count, stop, cpu = 0, time.monotonic() + seconds, _cpu_s()

    async def worker() -> None:
        nonlocal count
        transport, protocol = await loop.create_connection(Bare, "127.0.0.1", port)
        while time.monotonic() < stop:
            protocol.waiter = loop.create_future()
            transport.write(request)
            await protocol.waiter
            count += 1
        transport.abort()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    return (_cpu_s() - cpu) / count * 1e6


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _open_at(base: str) -> int:
    """Connections that the server has open, without this question's own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
    writer.write(b"GET /open HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    count = int(await reader.read(20))
    writer.transport.abort()
    return count


@contextlib.contextmanager
def started() -> Iterator[str]:
    """The address of a server in a process of its own."""
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


async def main(options: argparse.Namespace) -> int:
    with started() as base:
        if options.cost:
            print("client           c1      c16      c64 burst stream stream at 5 ms")
            await cost("bare", None, base, options.seconds)
            for name in options.client or ["llmwise"]:
                await cost(name, CLIENTS[name](), base, options.seconds)
            return 0
        wrong = await soak(CLIENTS[(options.client or ["llmwise"])[0]](), base, options.seconds, options.workers)
    for line in wrong:
        print("LEAK:", line)
    print("ok" if not wrong else "failed")
    return bool(wrong)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, help="of the soak (60), or of each measurement (2)")
    parser.add_argument("--workers", type=int, default=48, help="calls at once")
    parser.add_argument(
        "--client", action="append", choices=list(CLIENTS), help="default llmwise; repeatable with --cost"
    )
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.seconds = arguments.seconds or (2 if arguments.cost else 60)
    sys.exit(run(serve() if arguments.serve else main(arguments)))
