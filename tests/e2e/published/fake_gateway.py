"""The least of a gateway that the published clients can be run against: the native API's shapes, no models.

It stands in where the scripts themselves are under test. Every answer is `TEXT`, whose characters are those
that careless framing loses; the model `broken` fails, so that a chain moves on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "mm_sk_" + "a" * 64
TEXT = 'Grüße,\nC:\\new \\n "quoted"\u2028next\u0085line 🦉'
MARK = "\\n\n"
ARRAYS = {"/models", "/credits/transactions", "/credits/packs", "/usage/recent"}
NUMBERS = {"prompt_tokens": 3, "completion_tokens": 5, "latency_ms": 12, "cost": 0.001}
CHARGES = {"credits_charged": 1, "credits_remaining": 99, "finish_reason": "stop"}


class FakeGateway(ThreadingHTTPServer):
    """Counts the calls of models, for `history` and `usage/recent`; doesn't serve the paths in `missing`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answered = 0
        self.titles: dict[str, str | None] = {}
        self.missing: set[str] = set()


@contextmanager
def running() -> Iterator[FakeGateway]:
    with FakeGateway() as gateway:
        thread = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield gateway
        finally:
            gateway.shutdown()
            thread.join()


def chat_answer(model: str) -> dict[str, Any]:
    return {"id": "r1", "model": model, "content": TEXT, "mode": "chat", "resolved_model": model} | NUMBERS | CHARGES


def plain_events(model: str) -> list[dict[str, Any]]:
    chunks: list[dict[str, Any]] = [
        {"model": model, "delta": piece, "done": False, "latency_ms": 5, "content_length": len(piece)}
        for piece in (TEXT[:9], TEXT[9:])
    ]
    last = {"model": model, "delta": "", "done": True, "ttft_ms": 4, "tokens_per_second": 50} | NUMBERS
    return [*chunks, last, {"event": "done", "resolved_model": model, "byok": False} | CHARGES]


def chain_events(chain: list[str]) -> list[dict[str, Any]]:
    routes: list[dict[str, Any]] = []
    trace: list[dict[str, Any]] = []
    for model in chain:
        failed = model == "broken"
        status = {"status": "failed", "status_code": 503} if failed else {"status": "success", "status_code": 200}
        trace.append({"model": model, "latency_ms": 5} | status)
        routes += [{"event": "route", "model": model, "status": "trying"}, {"event": "route"} | trace[-1]]
        if not failed:
            break
    model = trace[-1]["model"]
    chunks = [{"event": "chunk", "model": model, "delta": piece} for piece in (TEXT[:9], TEXT[9:])]
    summary = {"event": "trace", "final_model": model, "attempts": len(trace), "trace": trace, "saved_ms": 0}
    return [*routes, *chunks, summary, {"event": "done", "resolved_model": model} | CHARGES]


def frames(events: list[dict[str, Any]], *, compat: bool) -> Iterator[bytes]:
    """Events as bytes: what `json.dumps` escapes by default is what the Python client needs escaped."""
    texts = [json.dumps(event).replace("\\\\", "\\u005c").replace("\\n", "\\u000a") for event in events]
    for frame in [": hello", *(f"data: {text}" for text in texts), "data: [DONE]"]:
        yield f"{frame}\n\n{MARK if compat else ''}".encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeGateway

    def log_message(self, *args: object) -> None:
        pass

    def serve(self) -> None:
        url = urlsplit(self.path)
        prefix, found, path = url.path.partition("/api/v1")
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else {}
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if not found or self.headers.get("Authorization") != f"Bearer {KEY}":
            error = {"error": "no valid API key", "code": "unauthorized", "status_code": 401, "request_id": "r0"}
            self.answer(401, error)
        elif path in self.server.missing:
            self.answer(404, {"error": "no such path", "code": "not_found", "status_code": 404, "request_id": "r0"})
        elif path == "/chat":
            self.chat(body, compat=prefix.endswith("/compat"))
        else:
            self.answer(200, self.other(path, query))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815 (http.server's names)

    def chat(self, body: dict[str, Any], *, compat: bool) -> None:
        self.server.answered += 1
        model: str = body["model"]
        if not body.get("stream", True):
            return self.answer(200, chat_answer(model))
        chain = [model, *body["routing"]["fallback"]] if "routing" in body else []
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for frame in frames(chain_events(chain) if chain else plain_events(model), compat=compat):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        self.wfile.write(b"0\r\n\r\n")
        return None

    def other(self, path: str, query: dict[str, str]) -> Any:
        if path == "/conversations" and self.command == "POST":
            self.server.titles["c1"] = None
            return {"id": "c1"}
        if path == "/conversations/c1":
            if "title" in query:
                self.server.titles["c1"] = query["title"]
            return {"id": "c1", "title": self.server.titles["c1"]}
        if path in ARRAYS:
            return [{"id": "m"}] * (self.server.answered if path == "/usage/recent" else 1)
        return {"total": self.server.answered, "items": []}

    def answer(self, status: int, payload: Any) -> None:
        body = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
