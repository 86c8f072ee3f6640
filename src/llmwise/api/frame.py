"""The frame around every endpoint off the hot path: one place for admission, decoding, answers and errors."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.json import Decoder, encode
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llmwise.api.auth import require_admin
from llmwise.api.errors import native_body, openai_body
from llmwise.api.http import JSON, Caller, ClientGone, admit, decode, read_body, refuse, respond
from llmwise.api.limits import Work
from llmwise.api.services import Services
from llmwise.domain.errors import GatewayError, InternalError, Unprocessable
from llmwise.domain.validation import did_you_mean, misfit, shown
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.rows import KeyRow

log = logging.getLogger(__name__)

Access: TypeAlias = Literal["open", "key", "admin"]
Hot: TypeAlias = Callable[[Services, Scope, Receive, Send], Awaitable[None]]


class Call(Struct, frozen=True):
    """One request to a framed endpoint. `query` and `body` are the structs that its route names, or `None`;
    `services` those of the configuration that the request came under."""

    services: Services
    key: KeyRow | None
    path: Mapping[str, str]
    query: Any
    body: Any
    request: Request
    caller: Caller | None = None


Handler: TypeAlias = Callable[[Call], Awaitable[Any]]


class Route(Struct, frozen=True):
    """One row of the route table. Exactly one of `handler` (framed) and `hot` (a plain ASGI callable) is set.

    `answer` is the type of a successful JSON answer, for the OpenAPI document, or a media type for anything else; a
    tuple: one of these types. `secret`: nothing of its body is repeated in an error. `upload` says what the handler
    itself reads from the request, as it is.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    summary: str
    answer: Any
    handler: Handler | None = None
    hot: Hot | None = None
    access: Access = "key"
    work: Work = "other"
    query: type[Struct] | None = None
    body: type[Struct] | None = None
    body_optional: bool = False
    secret: bool = False
    upload: str | None = None
    stream: bool = False
    dialect: Literal["native", "openai", "anthropic", "operations"] = "native"

    @property
    def answers(self) -> tuple[Any, ...]:
        """All the shapes of a successful answer."""
        return self.answer if isinstance(self.answer, tuple) else (self.answer,)


class Framed:
    """A route's handler as an ASGI app."""

    def __init__(self, route: Route) -> None:
        assert route.handler is not None
        self._route = route
        self._handler = route.handler
        self._refusal = openai_body if route.dialect == "openai" else native_body
        self._decoder = None if route.body is None else Decoder(route.body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        services: Services = scope["llmwise.services"]
        request_id = services.new_request_id()
        caller: Caller | None = None
        try:
            try:
                if self._route.access != "open":
                    caller = await admit(services, scope["headers"], self._route.work)
                    if self._route.access == "admin":
                        require_admin(caller.key)
                answer = await self._handler(await self._call(services, caller, scope, receive))
            except StorageUnavailable as error:
                log.error("storage: %s", error)
                raise GatewayError("the database does not answer; see the gateway's log", code="storage") from error
            except (GatewayError, ClientGone):
                raise
            except Exception as error:
                log.exception("a defect while answering %s %s", self._route.method, self._route.path)
                raise InternalError(f"a defect in the gateway; its log says more under {request_id}") from error
        except GatewayError as error:
            await refuse(send, error, request_id, self._refusal, caller)
            return
        except ClientGone:
            return
        if isinstance(answer, Response):
            await answer(scope, receive, send)
            return
        headers = [JSON, (b"x-request-id", request_id.encode()), *(caller.headers() if caller is not None else ())]
        await respond(send, 200, headers, encode(answer))

    async def _call(self, services: Services, caller: Caller | None, scope: Scope, receive: Receive) -> Call:
        request = Request(scope, receive)
        body = None
        if self._decoder is not None:
            raw = await read_body(services, scope, receive)
            if raw.strip() or not self._route.body_optional:
                body = decode(self._decoder, raw, secret=self._route.secret)
        return Call(
            services=services,
            key=caller.key if caller is not None else None,
            path=scope.get("path_params", {}),
            query=None if self._route.query is None else parse_query(self._route.query, request),
            body=body,
            request=request,
            caller=caller,
        )


def parse_query(type_: type[Struct], request: Request) -> Struct:
    """The query string as a struct: numbers from their digits, unknown names refused. Raises `Unprocessable`."""
    given = dict(request.query_params)
    for name in given:
        if name not in type_.__struct_fields__:
            known = ", ".join(type_.__struct_fields__)
            raise Unprocessable(
                f"{name} = {shown(given[name])}: unknown query parameter"
                f"{did_you_mean(name, type_.__struct_fields__) or f'; known: {known}'}",
                param=name,
            )
    try:
        return msgspec.convert(given, type_, strict=False)
    except msgspec.ValidationError as error:
        wrong = misfit(str(error))
        value = given.get(str(wrong.keys[0])) if wrong.keys else None
        raise Unprocessable(f"{wrong.path} = {shown(value)}: {wrong.what}", param=wrong.path) from error
