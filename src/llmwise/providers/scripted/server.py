"""The scripted provider over HTTP: one port, four wire formats, faults down to the socket.

    POST …/chat/completions, …/embeddings             OpenAI
    POST …/responses                                  OpenAI's Responses API
    POST …/messages, …/messages/count_tokens          Anthropic
    POST …/models/{m}:generateContent, :streamGenerateContent, :countTokens,
         :batchEmbedContents                          Gemini
    GET  …/models                                     in the format that path and headers ask for
    GET  /healthz, /_state, /_requests, /_script      POST /_script      DELETE /_requests

Built on asyncio and h11 rather than as an ASGI application: a reset, a cut body or a wrong length need the socket. A
client that leaves ends at once what is being played for it.
"""

import asyncio
import re
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from llmwise.providers.scripted import openai
from llmwise.providers.scripted.answers import Question, compose
from llmwise.providers.scripted.anthropic import Anthropic
from llmwise.providers.scripted.connection import Connection, Performance, Request
from llmwise.providers.scripted.dialect import BadRequest, Dialect, HTTPCall, Refusal
from llmwise.providers.scripted.gemini import Gemini
from llmwise.providers.scripted.journal import Entry, Journal, hint, kept_body, redacted
from llmwise.providers.scripted.openai import OpenAI
from llmwise.providers.scripted.parsing import ScriptError, parse_script
from llmwise.providers.scripted.responses import Responses
from llmwise.providers.scripted.script import Cue, Oversized, Playback, Script
from llmwise.providers.scripted.steps import Reply, Tokens, answered_with, steps

LISTEN_BACKLOG = 2048
UNNAMED_MODEL = "scripted"
"""What `/models` lists when the script names none."""

_OPENAI, _RESPONSES, _ANTHROPIC, _GEMINI = OpenAI(), Responses(), Anthropic(), Gemini()
_GEMINI_CALL = re.compile(r"/models/([^/]+):(generateContent|streamGenerateContent|countTokens|batchEmbedContents)$")

_GEMINI_CALLS: dict[str, Callable[[HTTPCall], Question | tuple[str, bytes]]] = {
    "generateContent": _GEMINI.question,
    "streamGenerateContent": _GEMINI.question,
    "countTokens": _GEMINI.count_tokens,
    "batchEmbedContents": _GEMINI.embeddings,
}


class Recording(Struct, frozen=True):
    """An answer that a provider really gave, as it came."""

    body: bytes
    content_type: str
    status: int = 200


class ScriptedServer:
    """`async with ScriptedServer(script) as server`: it listens between enter and exit, on a free port unless told.

    Entering raises `OSError` when the port is taken. Leaving aborts every connection and waits for its task. The tasks
    are the connections' and in no task group: a group would wrap whatever the `async with` block raises.
    """

    def __init__(self, script: Script | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host = host
        self._port = port
        self._playback = Playback(script)
        self._listener: asyncio.Server | None = None
        self.journal = Journal()
        self.recording: Recording | None = None  # while set, it is the answer to every call of a model
        self.connections: set[Connection] = set()
        self.closing = False
        self._all_gone = asyncio.Event()

    @property
    def url(self) -> str:
        """Without a slash at the end, and without the `/v1` that some clients want in their base URL."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def requests(self) -> list[Entry]:
        """The last requests that reached it, oldest first."""
        return list(self.journal)

    @property
    def in_flight(self) -> int:
        return sum(connection.entry is not None for connection in self.connections)

    def set_script(self, script: Script) -> None:
        """From the next request on; each model's requests are counted anew. The journal stays."""
        self._playback.start(script)

    def reset(self) -> None:
        """Empty the journal, and play the script from its start."""
        self._playback.start()
        self.journal.clear()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self), self._host, self._port, backlog=LISTEN_BACKLOG, reuse_address=True
        )
        self._port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        self.closing = True
        for connection in tuple(self.connections):
            connection.abort()
        if self.connections:
            await self._all_gone.wait()

    def disconnected(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if self.closing and not self.connections:
            self._all_gone.set()

    def perform(self, request: Request) -> Performance:
        """What to play for `request`."""
        if request.path in {"/healthz", "/_state", "/_requests", "/_script"}:
            status, body = self._own_page(request)
            return Performance(answered_with(body, status))
        if request.path.endswith("/models") and request.method == "GET":
            names = self._playback.script.model_names or [UNNAMED_MODEL]
            return Performance(answered_with(_listing_dialect(request).models(names)))
        return self._model_call(request)

    def _model_call(self, request: Request) -> Performance:
        now_s = time.time()
        gemini = _GEMINI_CALL.search(request.path)
        call = HTTPCall(
            request.headers,
            request.query,
            request.body,
            gemini[1] if gemini else None,
            gemini is not None and gemini[2] == "streamGenerateContent",
        )
        dialect: Dialect
        asked: Question | tuple[str, bytes]
        if gemini:
            dialect = _GEMINI
        elif "/messages" in request.path:
            dialect = _ANTHROPIC
        else:
            dialect = _RESPONSES if request.path.endswith("/responses") else _OPENAI
        try:
            if request.method != "POST":
                raise BadRequest(f"{request.method} is not served at {request.path}", 405)
            if gemini:
                asked = _GEMINI_CALLS[gemini[2]](call)
            elif request.path.endswith("/messages/count_tokens"):
                asked = _ANTHROPIC.count_tokens(call)
            elif request.path.endswith("/messages"):
                asked = _ANTHROPIC.question(call)
            elif request.path.endswith("/embeddings"):
                asked = openai.embeddings(call)
            elif request.path.endswith("/chat/completions"):
                asked = _OPENAI.question(call)
            elif request.path.endswith("/responses"):
                asked = _RESPONSES.question(call)
            else:
                raise BadRequest(f"the scripted server has no {request.path}", 404)
        except BadRequest as error:
            body = dialect.error(Refusal(error.status, error.message))
            entry = self._noted(request, dialect, gemini[1] if gemini else "", call.stream, 0, "invalid", now_s)
            return Performance(answered_with(body, error.status), entry)
        model = asked.model if isinstance(asked, Question) else asked[0]
        stream = isinstance(asked, Question) and asked.stream
        cue = self._playback.next(model)
        entry = self._noted(request, dialect, model, stream, cue.nth, cue.rule.fault, now_s)
        if self.recording is not None:
            answer = self.recording
            return Performance(answered_with(answer.body, answer.status, answer.content_type), entry)
        return Performance(steps(cue, dialect, _reply(asked, cue, now_s), now_s), entry)

    def _noted(
        self, request: Request, dialect: Dialect, model: str, stream: bool, nth: int, fault: str, now_s: float
    ) -> Entry:
        query = {name: hint(value) if name == "key" else value for name, value in request.query.items()}
        entry = Entry(
            model=model,
            dialect=dialect.name,
            path=request.path + (f"?{urlencode(query)}" if query else ""),
            stream=stream,
            nth=nth,
            fault=fault,
            at_ms=int(now_s * 1000),
            headers=redacted(request.headers),
            body=kept_body(request.body),
            body_bytes=len(request.body),
        )
        self.journal.add(entry)
        return entry

    def _own_page(self, request: Request) -> tuple[int, bytes]:
        """Status and JSON of the pages that steer the mock."""
        match request.method, request.path:
            case "GET", "/healthz":
                return 200, msgspec.json.encode({"status": "ok", "scripted": True})
            case "GET", "/_state":
                # The connection that asks does not count: with nobody else there it is 0.
                state = {
                    "connections": len(self.connections) - 1,
                    "in_flight": self.in_flight,
                    "total": self.journal.total,
                }
                return 200, msgspec.json.encode(state)
            case "GET", "/_requests":
                return 200, self.journal.shown()
            case "DELETE", "/_requests":
                self.reset()
                return 200, b'{"total":0}'
            case "GET", "/_script":
                return 200, msgspec.json.encode(self._playback.script)
            case "POST", "/_script":
                try:
                    script = parse_script(msgspec.json.decode(request.body))
                except (msgspec.DecodeError, ScriptError) as error:
                    return 400, msgspec.json.encode({"error": str(error)})
                self.set_script(script)
                return 200, msgspec.json.encode({"rules": len(script.rules), "models": script.model_names})
            case _:
                return 405, msgspec.json.encode({"error": f"{request.method} is not served at {request.path}"})


def _reply(asked: Question | tuple[str, bytes], cue: Cue, now_s: float) -> Reply:
    if not isinstance(asked, Question):
        return asked[1]
    if isinstance(cue.rule, Oversized) and not asked.stream:
        cue = Cue(cue.nth, cue.rule, msgspec.structs.replace(cue.settings, text="x" * cue.rule.bytes))
    return Tokens(asked, compose(asked, cue, now_s=int(now_s)))


def _listing_dialect(request: Request) -> Dialect:
    if "anthropic-version" in request.headers:
        return _ANTHROPIC
    return _GEMINI if "/v1beta" in request.path and "/openai" not in request.path else _OPENAI
