"""A real gateway in this process, and providers that answer with what was recorded.

Whole answers go over real sockets on both sides. Cut ones come in by a transport that hands over the recorded bytes in
the pieces that were asked for: a socket would join them again, and byte by byte it would cost a second an answer.
"""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, cast, get_args

import httpx
import uvicorn
from msgspec import Struct

from llmwise.api.routes import ROUTES
from llmwise.api.server import Gateway
from llmwise.app import asgi, codec_of
from llmwise.cli.serve import uvicorn_config
from llmwise.config import Kind, parse
from llmwise.domain.ports import Provider
from llmwise.providers.http import Endpoint, HttpProvider
from llmwise.providers.registry import VENDORS
from llmwise.providers.transport import Headers, Transport
from llmwise.storage.store import OfflineKeys

from .recorded import Format

UNLIMITED = "[limits]\n" + "".join(
    f"{name} = 1_000_000\n" for name in ("chat", "compare", "blend", "judge", "other", "burst")
)
PATIENT = "[timeouts]\n" + "".join(
    f"{name} = 60.0\n" for name in ("connect_s", "first_event_s", "idle_s", "total_s", "answer_s")
)
NEVER_OPENS = "[breaker]\nfailures = 1000\nhard_down_s = 0.001\n"

CUT = "-cut"
"""Behind a provider's name: the same one, read through the cutting transport."""


class Recorded(Struct, frozen=True):
    """An answer as a provider gave it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Received(Struct, frozen=True):
    """A request as it reached a provider."""

    path: str
    body: bytes


class Upstream:
    """One server for all providers. It answers every request with `answer`, or what `elsewhere` has for the end of
    its path, and keeps what came in `received`."""

    def __init__(self) -> None:
        self.answer = Recorded(500, {}, b"")
        self.elsewhere: dict[str, Recorded] = {}
        self.received: list[Received] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
                self.received.append(Received(lines[0].split(" ")[1], await reader.readexactly(length)))
                path = self.received[-1].path.partition("?")[0]
                answer = next((a for end, a in self.elsewhere.items() if path.endswith(end)), self.answer)
                said = {**answer.headers, "content-length": str(len(answer.body))}
                fields = "".join(f"{name}: {value}\r\n" for name, value in said.items())
                writer.write(f"HTTP/1.1 {answer.status} Recorded\r\n{fields}\r\n".encode("latin-1") + answer.body)
                await writer.drain()
        writer.close()


class _Pieces:
    """A response whose body comes in the given pieces."""

    def __init__(self, recorded: Recorded, cuts: Sequence[int]) -> None:
        self.status = recorded.status
        self.headers = Headers([(k.encode(), v.encode("latin-1")) for k, v in recorded.headers.items()])
        edges = [0, *cuts, len(recorded.body)]
        self._pieces = (recorded.body[a:b] for a, b in pairwise(edges) if b > a)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration

    async def read(self) -> bytes:
        return b"".join(self._pieces)

    async def aclose(self) -> None:
        self._pieces = iter(())  # type: ignore[assignment]  # nothing is left to hand over


class Cutter:
    """Stands where the transport stands: nothing is sent, and the answer comes cut at `cuts`."""

    def __init__(self) -> None:
        self.answer = Recorded(500, {}, b"")
        self.cuts: Sequence[int] = ()

    async def send(self, *_: object, **__: object) -> _Pieces:
        return _Pieces(self.answer, self.cuts)

    async def aclose(self) -> None:
        pass


class Replay:
    """A gateway that serves, its caller, and the recorded providers behind it."""

    def __init__(self, gateway: Gateway, client: httpx.AsyncClient, upstream: Upstream, cutter: Cutter) -> None:
        self.gateway = gateway
        self.client = client
        self.upstream = upstream
        self.cutter = cutter

    async def ask(self, path: str, body: Mapping[str, Any] | bytes, headers: Mapping[str, str] = {}) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(path, content=content, headers={"content-type": "application/json", **headers})


KINDS: Mapping[Format, str] = {"chat": "openai", "anthropic": "anthropic", "gemini": "gemini", "responses": "responses"}
"""The kind of provider that speaks a format."""


def offered() -> frozenset[str]:
    """The formats that this gateway speaks with callers and with providers: it grows."""
    paths = {route.path for route in ROUTES}
    found = {"native", "chat", "anthropic", "gemini"}
    found |= {"responses"} if "/v1/responses" in paths and KINDS["responses"] in get_args(Kind) else set()
    return frozenset(found | ({"embeddings"} if "/v1/embeddings" in paths else set()))


class Target(Struct, frozen=True):
    """A model that the gateway is to offer: `provider` is a vendor's name, or another's with its `kind`."""

    provider: str
    upstream: str
    kind: str
    cut: bool = False
    embeds: bool = False

    @property
    def id(self) -> str:
        return f"{self.provider}:{self.upstream}"[:90] + (CUT if self.cut else "")


def configuration(targets: Iterable[Target], url: str) -> str:
    """Every provider at `url`, every model with every ability: what a recording asks is the recording's business."""
    parts = ['[storage]\nurl = "sqlite:///llmwise.db"\nkeep_text = false\n', UNLIMITED, PATIENT, NEVER_OPENS]
    able = "".join(f"{name} = true\n" for name in ("vision", "documents", "tools", "json_schema", "reasoning"))
    seen: set[str] = set()
    for target in targets:
        name = target.provider + (CUT if target.cut else "")
        if name not in seen:
            seen.add(name)
            parts.append(
                f'[providers.{name}]\nkind = "{target.kind}"\nbase_url = "{url}/{name}/v1"\napi_key = "env:KEY"\n'
            )
        if target.id not in seen:
            seen.add(target.id)
            upstream = json.dumps(target.upstream)
            rest = 'kind = "embedding"\n' if target.embeds else f"[models.capabilities]\n{able}"
            parts.append(
                f'[[models]]\nid = "{target.id}"\nprovider = "{name}"\nupstream = {upstream}\n'
                f"context_window = 1_000_000\n{rest}"
            )
    return "\n".join(parts)


@asynccontextmanager
async def serving(folder: Path, targets: Iterable[Target]) -> AsyncIterator[Replay]:
    """The gateway, until the block ends. Its database lies in `folder`."""
    upstream, cutter = Upstream(), Cutter()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 16)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    text = configuration(targets, url)
    config = parse(text, source=str(folder / "llmwise.toml"), environ={"KEY": "sk-recorded"})
    with OfflineKeys.open(config.storage.url) as keys:
        key = keys.create("replay", True, time.time_ns() // 1_000_000)[1]
    gateway = asgi(config)
    serve = uvicorn.Server(uvicorn_config(config, gateway))
    async with server:
        with _listening() as listening:
            base = f"http://127.0.0.1:{listening.getsockname()[1]}"
            task = asyncio.create_task(serve.serve(sockets=[listening]), name="uvicorn")
            try:
                while not serve.started and not task.done():  # noqa: ASYNC110  # uvicorn has no event for it
                    await asyncio.sleep(0.01)
                assert gateway.services is not None, "the gateway did not start"
                _let_cut(cast("dict[str, Provider]", gateway.services.providers), cutter)
                headers = {"authorization": f"Bearer {key}", "anthropic-version": "2023-06-01"}
                async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60, trust_env=False) as client:
                    yield Replay(gateway, client, upstream, cutter)
            finally:
                serve.should_exit = True
                await asyncio.wait_for(task, 30)


def _listening() -> socket.socket:
    """A socket that says it is TCP: asyncio sets TCP_NODELAY on what it accepts from no other, and each answer would
    wait 40 ms."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    return listening


def _let_cut(providers: dict[str, Provider], cutter: Cutter) -> None:
    for name, provider in list(providers.items()):
        if name.endswith(CUT):
            vendor = name.removesuffix(CUT)
            kind = getattr(provider, "kind", None) or provider.family
            auth = VENDORS[vendor].auth if vendor in VENDORS else "bearer"
            endpoint = Endpoint(name, "http://recorded.invalid/v1", "sk-recorded", auth)
            providers[name] = HttpProvider(endpoint, codec_of(kind, vendor), cast(Transport, cutter))
