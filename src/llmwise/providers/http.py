"""The one adapter: a codec and a transport make a `Provider`, whatever the family.

    encode ─▶ send ─▶ status? ─▶ content type? ─▶ Exchange

What the provider answers decides how it is read, not what we asked: a stream answered by plain JSON is decoded whole,
a plain request answered by server-sent events as a stream, and a page of HTML is no answer. The address is the
configured one, with the codec's path behind it: nothing of a caller gets in, redirects are failures, and so the key
goes to its own origin only. Whatever ends a `receive` early closes the connection.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NoReturn
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from llmwise.domain.errors import GatewayError, InternalError, UnsupportedInput, UpstreamInvalid
from llmwise.domain.events import AttemptEvent, Warned
from llmwise.domain.messages import Family
from llmwise.domain.models import ModelCard
from llmwise.domain.ports import Codec, CountingCodec, EmbeddingCodec, Exchange, Outgoing, StreamDecoder
from llmwise.domain.requests import ChatRequest, EmbeddingRequest
from llmwise.providers.failures import from_response, from_transport
from llmwise.providers.registry import Auth
from llmwise.providers.transport import Response, Transport, TransportError
from llmwise.wire.sse import FrameTooLarge

ANTHROPIC_VERSION: Final = "2023-06-01"
"""https://platform.claude.com/docs/en/api/versioning (2026-11-22): of the two there are the one that takes more."""


class Endpoint(Struct, frozen=True):
    """Where a provider is and how we show who we are. `name` is the connection's in the configuration; `headers` are
    sent with every request."""

    name: str
    base_url: str
    api_key: str | None = None
    auth: Auth = "bearer"
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, {self.base_url!r}, auth={self.auth!r})"  # never the key


class HttpProvider:
    """A `Provider` over HTTP. Owns its transport: `aclose` closes it."""

    def __init__(self, endpoint: Endpoint, codec: Codec, transport: Transport) -> None:
        base = urlsplit(endpoint.base_url)
        if base.scheme not in ("http", "https") or not base.hostname or base.query or base.fragment:
            raise ValueError(f"the base_url of {endpoint.name} is not http(s)://host/path: {endpoint.base_url!r}")
        self._name = endpoint.name
        self._secret = endpoint.api_key
        self._codec = codec
        self._transport = transport
        self._base_url = endpoint.base_url.rstrip("/")
        self._headers = _static_headers(endpoint)
        self._endpoint = endpoint

    @property
    def name(self) -> str:
        return self._name

    @property
    def family(self) -> Family:
        return self._codec.family

    @property
    def origin(self) -> str:
        return origin_of(self._base_url)

    def keyed(self, secret: str) -> "HttpProvider":
        auth = "bearer" if self._endpoint.auth == "none" else self._endpoint.auth
        return HttpProvider(replace(self._endpoint, api_key=secret, auth=auth), self._codec, self._transport)

    async def send(self, request: ChatRequest, target: ModelCard) -> Exchange:
        outgoing = self._codec.encode(request, target)
        response, kind = await self._post(outgoing, stream=request.stream)
        asked = request.passthrough
        # What the provider answers decides, not what was asked for.
        is_stream = "event-stream" in kind or ("json" not in kind and request.stream)
        verbatim = request.verbatim and is_stream == request.stream
        verbatim = verbatim and asked is not None and asked.dialect == self._codec.family
        if is_stream:
            return _Streamed(self._name, response, self._codec.decoder(verbatim=verbatim), outgoing.warnings)
        return _Whole(self._name, response, partial(self._codec.decode, verbatim=verbatim), outgoing.warnings)

    async def embed(self, request: EmbeddingRequest, target: ModelCard) -> Exchange:
        codec = self._codec
        if not isinstance(codec, EmbeddingCodec):
            raise UnsupportedInput(f"{self._name} makes no embeddings", provider=self._name, param="model")
        outgoing = codec.encode_embedding(request, target)
        response, _ = await self._post(outgoing, stream=False)
        return _Whole(self._name, response, partial(codec.decode_embedding, request=request), outgoing.warnings)

    async def count_tokens(self, request: ChatRequest, target: ModelCard) -> int:
        codec = self._codec
        if not isinstance(codec, CountingCodec):
            raise UnsupportedInput(f"{self._name} counts no tokens", provider=self._name)
        response, _ = await self._post(codec.encode_count(request, target), stream=False)
        try:
            return codec.decode_count(await response.read())
        except BaseException as error:
            await response.aclose()
            _raise_ours(error, self._name)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _post(self, outgoing: Outgoing, *, stream: bool) -> tuple[Response, str]:
        """The answer and its content type in lower case, once its headers are here and its status is a success."""
        if outgoing.path[:1] != "/":  # else it could change the host
            raise InternalError(f"a codec's path has to begin with a slash: {outgoing.path!r}")
        headers = _with(self._headers, outgoing.headers) if outgoing.headers else self._headers
        url = self._base_url + outgoing.path
        try:
            response = await self._transport.send("POST", url, headers, outgoing.body, stream=stream)
        except TransportError as error:
            raise from_transport(error, provider=self._name) from error
        try:
            if not 200 <= response.status < 300:
                raise await self._refusal(response)
            kind = (response.headers.get("content-type") or "").lower()
            if "html" in kind:
                message = f"{self._name} answered {response.status} with a page of HTML: is its base_url right?"
                raise UpstreamInvalid(message, provider=self._name, upstream_status=response.status)
        except BaseException:
            await response.aclose()
            raise
        return response, kind

    async def _refusal(self, response: Response) -> GatewayError:
        try:
            body = await response.read()
        except TransportError:
            body = b""  # the status says enough
        return from_response(response.status, response.headers, body, provider=self._name, secret=self._secret)


def origin_of(base_url: str) -> str:
    """Scheme, host and port, which a browser would call the origin."""
    base = urlsplit(base_url)
    host = f"[{base.hostname}]" if ":" in (base.hostname or "") else base.hostname
    return f"{base.scheme}://{host}:{base.port or (443 if base.scheme == 'https' else 80)}"


def _with(headers: tuple[tuple[str, str], ...], said: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """`headers` and a request's own, which take the place of those of their names."""
    names = {name.lower() for name, _ in said}
    return (*((name, value) for name, value in headers if name.lower() not in names), *said)


def _static_headers(endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    headers = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")]
    headers.append(("User-Agent", "llmwise"))
    if endpoint.auth == "x-api-key":
        headers.append(("anthropic-version", ANTHROPIC_VERSION))
    if endpoint.api_key is not None:
        match endpoint.auth:
            case "bearer":
                headers.append(("Authorization", f"Bearer {endpoint.api_key}"))
            case "x-api-key" | "x-goog-api-key":
                headers.append((endpoint.auth, endpoint.api_key))
            case "none":
                pass
    return (*headers, *endpoint.headers)


class _Streamed:
    """An exchange whose answer comes bit by bit."""

    def __init__(self, name: str, response: Response, decoder: StreamDecoder, warnings: tuple[Warned, ...]) -> None:
        self._name = name
        self._response = response
        self._decoder = decoder
        self._first: tuple[AttemptEvent, ...] = warnings
        self._ended = False

    async def receive(self) -> Sequence[AttemptEvent]:
        if self._ended:
            return ()
        try:
            if self._decoder.failure is not None:  # it was found behind the last batch's events
                raise self._decoder.failure
            events: Sequence[AttemptEvent] = ()
            while not events and not self._ended:
                try:
                    events = self._decoder.feed(await self._response.__anext__())
                except StopAsyncIteration:
                    self._ended = True
                    events = self._decoder.finish()
                except TransportError as error:
                    events = self._cut(error)
        except BaseException as error:
            self._ended = True
            await self._response.aclose()
            _raise_ours(error, self._name)
        if self._first:
            events = (*self._first, *events)
            self._first = ()
        return events

    async def aclose(self) -> None:
        self._ended = True
        await self._response.aclose()

    def _cut(self, error: TransportError) -> Sequence[AttemptEvent]:
        """An answer whose terminal frame has come is complete, however the connection ends after it."""
        self._ended = True
        try:
            return self._decoder.finish()
        except GatewayError:
            raise from_transport(error, provider=self._name) from error


class _Whole:
    """An exchange whose answer is one body: one batch."""

    def __init__(
        self,
        name: str,
        response: Response,
        decode: Callable[[bytes], list[AttemptEvent]],
        warnings: tuple[Warned, ...],
    ) -> None:
        self._name = name
        self._response = response
        self._decode = decode
        self._warnings = warnings
        self._ended = False

    async def receive(self) -> Sequence[AttemptEvent]:
        if self._ended:
            return ()
        self._ended = True
        try:
            events = self._decode(await self._response.read())
        except BaseException as error:
            await self._response.aclose()
            _raise_ours(error, self._name)
        return (*self._warnings, *events) if self._warnings else events

    async def aclose(self) -> None:
        self._ended = True
        await self._response.aclose()


def _raise_ours(error: BaseException, name: str) -> NoReturn:
    """Raise a foreign error as ours, with the provider's name on it, and anything else as it is."""
    if isinstance(error, TransportError):
        raise from_transport(error, provider=name) from error
    if isinstance(error, FrameTooLarge):
        raise UpstreamInvalid(f"{name} sent {error}", provider=name) from error
    if isinstance(error, GatewayError) and error.provider is None:
        error.provider = name
    raise error
