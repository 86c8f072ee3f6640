"""The ASGI application: the hot endpoints called at once, the rest on Starlette, one configuration at a time."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache

from msgspec.json import encode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from llmwise.api.errors import anthropic_body, native_body, openai_body
from llmwise.api.frame import Framed, Hot
from llmwise.api.http import refuse
from llmwise.api.openapi import document, page
from llmwise.api.routes import NATIVE, ROUTES
from llmwise.api.services import Services
from llmwise.domain.errors import (
    GatewayError,
    InternalError,
    MethodNotAllowed,
    NotFound,
    ShuttingDown,
)

log = logging.getLogger(__name__)

COMPAT = "/compat"
"""The base path of clients that need the compat framing of streams (see `native.events`)."""


class Gateway:
    """`services` may be replaced at any time; a request keeps those it began with."""

    def __init__(self, lifespan: Callable[["Gateway"], AsyncIterator[None]]) -> None:
        self.services: Services | None = None
        self.in_flight = 0
        self._hot: dict[tuple[str, str], Hot] = {(r.method, r.path): r.hot for r in ROUTES if r.hot is not None}
        self._lifespan = asynccontextmanager(lifespan)
        self._rest = self._starlette()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        hot = self._hot.get((scope["method"], scope["path"]))
        if hot is None:
            _normalise(scope)
            hot = self._hot.get((scope["method"], scope["path"]))
        services = self.services
        assert services is not None, "the server starts to listen after its lifespan has begun"
        self.in_flight += 1
        try:
            if hot is not None:
                await hot(services, scope, receive, send)
            else:
                scope["llmwise.services"] = services
                await self._rest(scope, receive, send)
        except asyncio.CancelledError:
            connection = scope.get("llmwise.connection")
            if connection is None:
                raise
            if not connection.transport.is_closing():  # not a caller that left: the server itself is ending
                await _instead(services, send, ShuttingDown("the gateway is ending; ask again"))
                connection.transport.close()
        except Exception:
            log.exception("a defect while answering %s %s", scope["method"], scope["path"])
            await _instead(services, send, InternalError("a defect in the gateway; its log says more"))
        finally:
            self.in_flight -= 1

    def _starlette(self) -> Starlette:
        spec = cache(lambda: document(ROUTES))  # made when first asked for: a start need not wait for it

        async def openapi(request: Request) -> Response:
            return Response(encode(spec()), media_type="application/json")

        async def docs(request: Request) -> Response:
            return HTMLResponse(page(spec()))

        routes: list[BaseRoute] = [
            StarletteRoute(route.path, Framed(route), methods=[route.method])
            for route in ROUTES
            if route.handler is not None
        ]
        routes += [StarletteRoute("/openapi.json", openapi), StarletteRoute("/docs", docs)]
        return Starlette(
            routes=routes,
            exception_handlers={404: self._not_found, 405: self._wrong_method},
            lifespan=lambda app: self._lifespan(self),
        )

    async def _not_found(self, request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        methods = [method for method, known in self._hot if known == path]
        if methods:
            return self._wrong(path, methods)
        return self._refusal(path, NotFound(f"{path[:100]}: no such path; /docs lists those there are"))

    async def _wrong_method(self, request: Request, error: Exception) -> Response:
        path = request.scope["path"]
        return self._wrong(path, [route.method for route in ROUTES if route.path == path] or ["another"])

    def _wrong(self, path: str, methods: list[str]) -> Response:
        response = self._refusal(path, MethodNotAllowed(f"{path}: only {', '.join(methods)} is served here"))
        response.headers["allow"] = ", ".join(methods)
        return response

    def _refusal(self, path: str, error: GatewayError) -> Response:
        assert self.services is not None
        request_id = self.services.new_request_id()
        headers = {"x-request-id": request_id}
        if path == "/v1/messages" or path.startswith("/v1/messages/"):
            render = anthropic_body
            headers["request-id"] = request_id
        else:
            render = openai_body if path.startswith("/v1/") else native_body
        return Response(render(error, request_id), error.status, headers, media_type="application/json")


def _normalise(scope: Scope) -> None:
    """Any prefix before the API's own base path works; `/compat` among them asks for the compat framing."""
    path: str = scope["path"]
    for base in (f"{NATIVE}/", "/v1/"):
        at = path.find(base)
        if at > 0 and not path.startswith(f"{NATIVE}/"):
            if COMPAT in path[:at]:
                scope["llmwise.compat"] = True
            scope["path"] = path[at:]
            scope["raw_path"] = path[at:].encode()
            return
    if path.endswith("/") and len(path) > 1:
        scope["path"] = path.rstrip("/")


async def _instead(services: Services, send: Send, error: GatewayError) -> None:
    """An answer in place of the one that will not come; none, and no harm, when its headers are out already."""
    try:
        await refuse(send, error, services.new_request_id(), native_body, None)
    except RuntimeError:
        return
