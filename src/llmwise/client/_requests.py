"""From a method's arguments to an HTTP request. No I/O."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from typing import Any
from urllib.parse import quote

import httpx

DEFAULT_BASE_URL = "http://127.0.0.1:8080"
"""A gateway on this machine, where the published clients default to the hosted service: who forgets the setting must
not send prompts to a third party (docs/decisions/0009-sdk-default-base-url.md)."""

POOL = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
"""httpx's own limit is 100 connections: the 101st concurrent stream would wait until it times out."""


@cache
def tls() -> ssl.SSLContext:
    """httpx's own TLS settings, shared by all clients: reading the certificates takes some 30 ms each time."""
    return httpx.create_ssl_context()


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client sends with every call, and how it takes failures."""

    root: str
    """Base URL with `/api/v1`, without a final slash."""
    key: str | None
    max_retries: int
    raise_on_error: bool
    timeout: float | httpx.Timeout | None = None
    """Seconds for connecting, and for each read and write; None leaves it to the httpx client."""

    @classmethod
    def resolve(cls, api_key: str | None, base_url: str | None, *, max_retries: int, raise_on_error: bool) -> Settings:
        """Fill what isn't given from LLMWISE_API_KEY and LLMWISE_BASE_URL; blank counts as not given.

        `/api/v1` is appended where it is missing: `http://host:8080`, `http://host:8080/compat` and
        `https://host/any/prefix/api/v1/` all work. Raises `ValueError` if the URL isn't http(s).
        """
        root = _given(base_url) or _given(os.environ.get("LLMWISE_BASE_URL")) or DEFAULT_BASE_URL
        root = root.rstrip("/")
        if not root.startswith(("http://", "https://")):
            raise ValueError(f"base URL {root!r} must start with http:// or https://")
        if not root.endswith("/api/v1"):
            root += "/api/v1"
        key = _given(api_key) or _given(os.environ.get("LLMWISE_API_KEY"))
        return cls(root, key, max_retries=max_retries, raise_on_error=raise_on_error)

    def but(
        self,
        *,
        timeout: float | httpx.Timeout | None = None,
        max_retries: int | None = None,
        raise_on_error: bool | None = None,
    ) -> Settings:
        """These settings but for those given."""
        return replace(
            self,
            timeout=self.timeout if timeout is None else timeout,
            max_retries=self.max_retries if max_retries is None else max_retries,
            raise_on_error=self.raise_on_error if raise_on_error is None else raise_on_error,
        )


def _given(text: str | None) -> str | None:
    return (text or "").strip() or None


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API, before it knows a server."""

    method: str
    path: str
    """Below `/api/v1`, with a leading slash; ids already quoted."""
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    streams: bool = False

    def request(self, http: httpx.Client | httpx.AsyncClient, settings: Settings) -> httpx.Request:
        """The request. An httpx client that the caller brought keeps its own base URL and Authorization."""
        headers = {"User-Agent": _user_agent()}
        if settings.key and "authorization" not in http.headers:
            headers["Authorization"] = f"Bearer {settings.key}"
        if self.streams:
            headers["Accept"] = "text/event-stream"
        return http.build_request(
            self.method,
            (str(http.base_url).rstrip("/") or settings.root) + self.path,
            params=self.query or None,
            json=self.body,
            headers=headers,
            timeout=httpx.USE_CLIENT_DEFAULT if settings.timeout is None else settings.timeout,
        )


@cache
def _user_agent() -> str:
    # The published client's prefix, so that logs and dashboards go on recognizing it.
    try:
        return f"llmwise-python-sdk/{metadata.version('llmwise')}"
    except metadata.PackageNotFoundError:
        return "llmwise-python-sdk/0"


# As in the published client: a number from numpy or a decimal string will do, and so will a tuple.
_COERCIONS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("temperature", "top_p", "semantic_min_score", "min_score"), float),
    **dict.fromkeys(("max_tokens", "seed", "semantic_top_k", "top_k", "layers", "samples"), int),
    **dict.fromkeys(("limit", "offset", "days", "sample_size", "min_calls_per_model"), int),
    **dict.fromkeys(("messages", "models", "contestants", "criteria"), list),
}


def fields(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A method's arguments as the fields of a body or query.

    Without `self` and without what is None; the fields in `extra` are laid over the named ones.
    """
    named = {
        name: _COERCIONS[name](value) if name in _COERCIONS else value
        for name, value in arguments.items()
        if value is not None and name not in ("self", "extra")
    }
    return named | dict(arguments.get("extra") or {})


def get(path: str, query: Mapping[str, Any] | None = None) -> Call:
    return Call("GET", path, query=query or {})


def post(path: str, body: Mapping[str, Any] | None = None) -> Call:
    return Call("POST", path, body=body or {})


def put(path: str, body: Mapping[str, Any] | None = None) -> Call:
    return Call("PUT", path, body=body or {})


def delete(path: str) -> Call:
    return Call("DELETE", path)


def whole_answer(path: str, arguments: Mapping[str, Any]) -> Call:
    """A call of models, answered at once. Raises `ValueError` if a stream was asked for."""
    if arguments["stream"]:
        name = path[1:]
        raise ValueError(f"{name}(stream=True) has no answer to return; use {name}_stream(...)")
    return Call("POST", path, body=fields({**arguments, "stream": False}))


def event_stream(path: str, arguments: Mapping[str, Any]) -> Call:
    """A call of models, answered in events."""
    return Call("POST", path, body=fields({**arguments, "stream": True}), streams=True)


def segment(identifier: str) -> str:
    """An id as one segment of a path.

    Raises `ValueError` for an id that would name another path: `DELETE /memory/` could mean all of it.
    """
    if identifier in {"", ".", ".."}:
        raise ValueError(f"{identifier!r} is not an id")
    return quote(identifier, safe="")
