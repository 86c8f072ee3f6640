"""What is wrong with a request is said: the documented status, a stable code, the value and the remedy."""

import json
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import httpx
import pytest
from msgspec import Struct

from llmwise.providers.scripted.server import ScriptedServer

from .gateway import Gateway, asked, running, settings

MAX_BODY, MAX_HEADERS, READ_S = 20_000, 4_096, 1.0

CHAT = "/api/v1/chat"
COMPLETIONS = "/v1/chat/completions"

GOOD = asked(model="gpt-5.2", stream=False)


class Bad(Struct):
    """A request and what it meets. `says` are pieces of the message, `header` one of the answer."""

    name: str
    status: int
    code: str
    says: tuple[str, ...]
    body: Any = None
    method: str = "POST"
    path: str = CHAT
    headers: Mapping[str, str] = {}
    header: tuple[str, str] | None = None


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def with_message(message: Mapping[str, Any]) -> dict[str, Any]:
    return {**GOOD, "messages": [message]}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def tool(parameters: Any) -> dict[str, Any]:
    return {**GOOD, "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]}


def image(url: str) -> dict[str, Any]:
    return with_message({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})


NATIVE = (
    # the body
    Bad("not JSON", 400, "invalid_json", ("the body is not JSON",), body=b'{"model": '),
    Bad("no body", 400, "invalid_json", ("the body is not JSON",), body=b""),
    Bad("not UTF-8", 400, "invalid_json", ("the body is not JSON",), body=b'{"model": "\xff"}'),
    Bad("an array", 422, "validation_error", ("body = [1]", "expected `object`"), body=[1]),
    Bad("nested too deep", 400, "json_too_deep", ("nested too deeply",), body=b"[" * 9_000 + b"]" * 9_000),
    Bad(
        "a schema nested too deep",
        400,
        "json_too_deep",
        ("tools[0].function.parameters", "64 levels"),
        body=tool({"a": deep(70)}),
    ),
    Bad(
        "too large, as announced", 413, "payload_too_large", (f"{MAX_BODY} bytes", "max_body_bytes"), body=b" " * 20_001
    ),
    Bad(
        "a form",
        415,
        "unsupported_media_type",
        ("application/x-www-form-urlencoded", "application/json"),
        body=b"model=a",
        headers={"content-type": "application/x-www-form-urlencoded"},
    ),
    Bad(
        "compressed",
        415,
        "unsupported_media_type",
        ("content-encoding 'gzip'", "unencoded"),
        body=GOOD,
        headers={"content-encoding": "gzip"},
    ),
    # its fields
    Bad(
        "an unknown field",
        422,
        "validation_error",
        ("temprature = 0.5", "unknown field", "'temperature'"),
        body={**GOOD, "temprature": 0.5},
    ),
    Bad(
        "an unknown field of a message",
        422,
        "validation_error",
        ("messages[0].contents = 'hi'", "unknown field", "'content'"),
        body=with_message({"role": "user", "contents": "hi"}),
    ),
    Bad("no model", 422, "validation_error", ("model: is required",), body=without("model")),
    Bad("an empty model", 422, "validation_error", ("model = ''",), body={**GOOD, "model": ""}),
    Bad("a number for a model", 422, "validation_error", ("model = 7", "`str`"), body={**GOOD, "model": 7}),
    Bad("no messages", 422, "validation_error", ("messages: is required",), body=without("messages")),
    Bad("an empty list of messages", 422, "validation_error", ("messages = []",), body={**GOOD, "messages": []}),
    Bad("text for messages", 422, "validation_error", ("messages = 'hi'", "`array`"), body={**GOOD, "messages": "hi"}),
    Bad("too hot", 422, "validation_error", ("temperature = 2.5", "<= 2.0"), body={**GOOD, "temperature": 2.5}),
    Bad("text for a number", 422, "validation_error", ("temperature = 'hot'",), body={**GOOD, "temperature": "hot"}),
    Bad("no tokens", 422, "validation_error", ("max_tokens = 0", ">= 1"), body={**GOOD, "max_tokens": 0}),
    Bad(
        "too many tokens",
        422,
        "validation_error",
        ("max_tokens = 128001", "<= 128000"),
        body={**GOOD, "max_tokens": 128_001},
    ),
    Bad("half a token", 422, "validation_error", ("max_tokens = 1.5", "`int"), body={**GOOD, "max_tokens": 1.5}),
    Bad("stream as text", 422, "validation_error", ("stream = 'yes'", "`bool`"), body={**GOOD, "stream": "yes"}),
    Bad("a list for stop", 422, "validation_error", ("stop[0] = 1", "`str`"), body={**GOOD, "stop": [1]}),
    Bad(
        "an unknown goal",
        422,
        "validation_error",
        ("optimization_goal = 'cheap'", "balanced", "cost"),
        body={**GOOD, "optimization_goal": "cheap"},
    ),
    # messages
    Bad(
        "an unknown role",
        422,
        "validation_error",
        ("messages[0].role = 'robot'", "user", "assistant"),
        body=with_message({"role": "robot", "content": "hi"}),
    ),
    Bad(
        "a message without content",
        422,
        "validation_error",
        ("messages[0].content: is empty", "give text"),
        body=with_message({"role": "user"}),
    ),
    Bad(
        "a message of no blocks",
        422,
        "validation_error",
        ("messages[0].content: is empty",),
        body=with_message({"role": "user", "content": []}),
    ),
    Bad(
        "a number for content",
        422,
        "validation_error",
        ("messages[0].content = 3",),
        body=with_message({"role": "user", "content": 3}),
    ),
    Bad(
        "an unknown block",
        422,
        "validation_error",
        ("messages[0].content[0]", "'audio'"),
        body=with_message({"role": "user", "content": [{"type": "audio", "audio": "x"}]}),
    ),
    Bad(
        "a tool's answer to no call",
        422,
        "validation_error",
        ("messages[0].tool_call_id: is required",),
        body=with_message({"role": "tool", "content": "4"}),
    ),
    Bad("an image by FTP", 422, "validation_error", ("'ftp://x/y.png'", "https"), body=image("ftp://x/y.png")),
    Bad(
        "an image that is text",
        422,
        "validation_error",
        ("data URL", "data:image/TYPE;base64,DATA"),
        body=image("data:text/plain,hi"),
    ),
    Bad(
        "a schema without a schema",
        422,
        "validation_error",
        ("response_format.json_schema: is required",),
        body={**GOOD, "response_format": {"type": "json_schema"}},
    ),
    # models and routing
    Bad(
        "an unknown model",
        404,
        "model_not_found",
        ("'gpt-5.22'", "did you mean", "'gpt-5.2'"),
        body={**GOOD, "model": "gpt-5.22"},
    ),
    Bad(
        "a model of a provider that is not configured",
        404,
        "model_not_found",
        ("'mistral-large'", "'mistral'", "set its key"),
        body={**GOOD, "model": "mistral-large"},
    ),
    Bad(
        "a model like no other",
        404,
        "model_not_found",
        ("'zzzzzzzz'", "/api/v1/models"),
        body={**GOOD, "model": "zzzzzzzz"},
    ),
    Bad(
        "an unknown fallback",
        404,
        "model_not_found",
        ("'gemini-3-flush'", "'gemini-3-flash'"),
        body={**GOOD, "routing": {"fallback": ["gemini-3-flush"]}},
    ),
    Bad(
        "an unknown strategy",
        422,
        "validation_error",
        ("routing.strategy = 'fastest'", "latency", "round-robin"),
        body={**GOOD, "routing": {"strategy": "fastest"}},
    ),
    Bad(
        "too many fallbacks",
        422,
        "validation_error",
        ("routing.fallback: 9 models", "at most 8"),
        body={**GOOD, "routing": {"fallback": [f"m{i}" for i in range(9)]}},
    ),
    # the key
    Bad(
        "no key",
        401,
        "unauthorized",
        ("Authorization: Bearer", "llmwise keys create"),
        body=GOOD,
        headers={"authorization": ""},
        header=("www-authenticate", "Bearer"),
    ),
    Bad(
        "no key at all that is one",
        401,
        "unauthorized",
        ("mm_sk_",),
        body=GOOD,
        headers={"authorization": "Bearer sk-1"},
    ),
    Bad(
        "a key that nobody made",
        401,
        "unauthorized",
        ("no valid API key",),
        body=GOOD,
        headers={"authorization": "Bearer mm_sk_" + "0" * 64},
    ),
    Bad("the wrong scheme", 401, "unauthorized", ("Bearer",), body=GOOD, headers={"authorization": "Basic bW06c2s="}),
    # paths, methods and queries
    Bad("the wrong method", 405, "method_not_allowed", ("only POST",), method="GET", header=("allow", "POST")),
    Bad(
        "the wrong method elsewhere",
        405,
        "method_not_allowed",
        ("only GET",),
        path="/api/v1/models",
        header=("allow", "GET"),
    ),
    Bad("an unknown path", 404, "not_found", ("/api/v1/chats", "/docs"), path="/api/v1/chats"),
    Bad(
        "an unknown query parameter",
        422,
        "validation_error",
        ("limits = '5'", "'limit'"),
        method="GET",
        path="/api/v1/history?limits=5",
    ),
    Bad(
        "a query parameter over its limit",
        422,
        "validation_error",
        ("limit = '1000'", "<= 200"),
        method="GET",
        path="/api/v1/history?limit=1000",
    ),
    Bad(
        "text for a number in the query",
        422,
        "validation_error",
        ("days = 'week'", "`int`"),
        method="GET",
        path="/api/v1/usage/summary?days=week",
    ),
    Bad(
        "a request that is not in the history",
        404,
        "not_found",
        ("'req_1'", "/history"),
        method="GET",
        path="/api/v1/history/req_1",
    ),
    Bad(
        "the key of nobody to revoke",
        404,
        "not_found",
        ("'nobody'",),
        method="DELETE",
        path="/api/v1/keys/revoke?id=nobody",
    ),
    Bad(
        "a key without a name", 422, "validation_error", ("name = ''",), body={"name": ""}, path="/api/v1/keys/generate"
    ),
)

OPENAI = (
    Bad("not JSON", 400, "invalid_json", ("the body is not JSON",), body=b"{"),
    Bad("no model", 400, "invalid_request", ("model: is required",), body=without("model")),
    Bad("no messages", 400, "invalid_request", ("messages: is empty",), body={**GOOD, "messages": []}),
    Bad("too hot", 400, "invalid_request", ("temperature = 3",), body={**GOOD, "temperature": 3}),
    Bad("too many choices", 400, "invalid_request", ("n = 9", "1 to 8"), body={**GOOD, "n": 9}),
    Bad(
        "an unknown role",
        400,
        "invalid_request",
        ("messages[0].role = 'robot'",),
        body=with_message({"role": "robot", "content": "hi"}),
    ),
    Bad(
        "an unknown effort",
        400,
        "invalid_request",
        ("reasoning_effort = 'huge'", "high"),
        body={**GOOD, "reasoning_effort": "huge"},
    ),
    Bad(
        "a field of ours that is not known",
        400,
        "invalid_request",
        ("routing.fallbacks", "'fallback'"),
        body={**GOOD, "routing": {"fallbacks": []}},
    ),
    Bad("an unknown model", 404, "model_not_found", ("'gpt-5.22'", "'gpt-5.2'"), body={**GOOD, "model": "gpt-5.22"}),
    Bad("no key", 401, "unauthorized", ("no valid API key",), body=GOOD, headers={"authorization": ""}),
    Bad(
        "no key for the models",
        401,
        "unauthorized",
        ("no valid",),
        method="GET",
        path="/v1/models",
        headers={"authorization": ""},
    ),
    Bad("too large", 413, "payload_too_large", ("max_body_bytes",), body=b" " * 20_001),
    Bad("the wrong method", 405, "method_not_allowed", ("only POST",), method="GET"),
    Bad("a path that is not there", 404, "not_found", ("/v1/audio/speech",), path="/v1/audio/speech"),
)


@pytest.fixture(scope="module")
def gateway(providers: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One with narrow bounds at its door."""
    server = {
        "max_body_bytes": MAX_BODY,
        "max_header_bytes": MAX_HEADERS,
        "header_read_s": READ_S,
        "body_read_s": READ_S,
    }
    with running(tmp_path_factory.mktemp("bad"), settings(providers.url, server=server)) as gateway:
        yield gateway


def put(client: httpx.Client, bad: Bad, path: str) -> httpx.Response:
    body = bad.body if isinstance(bad.body, bytes) else json.dumps(bad.body).encode() if bad.body is not None else b""
    headers = {"content-type": "application/json", **bad.headers}
    return client.request(bad.method, path, content=body, headers=headers)


def name_of(bad: Bad) -> str:
    return bad.name.replace(" ", "-")


@pytest.mark.parametrize("bad", NATIVE, ids=name_of)
def test_a_bad_request_is_refused_in_plain_words(client: httpx.Client, mock: ScriptedServer, bad: Bad) -> None:
    response = put(client, bad, bad.path)
    told = response.json()
    assert (response.status_code, told["code"]) == (bad.status, bad.code), told
    assert told["status_code"] == bad.status
    assert isinstance(told["error"], str)
    for piece in bad.says:
        assert piece in told["error"]
    assert told["request_id"] == response.headers["x-request-id"]
    if bad.header is not None:
        assert response.headers[bad.header[0]] == bad.header[1]
    assert mock.requests == []


@pytest.mark.parametrize("bad", OPENAI, ids=name_of)
def test_a_bad_request_to_the_openai_api_is_refused_in_openai_s_envelope(
    client: httpx.Client, mock: ScriptedServer, bad: Bad
) -> None:
    response = put(client, bad, COMPLETIONS if bad.path == CHAT else bad.path)
    told = response.json()["error"]
    assert (response.status_code, told["code"]) == (bad.status, bad.code), told
    for piece in bad.says:
        assert piece in told["message"]
    assert told["type"].endswith("_error")
    assert told["request_id"] == response.headers["x-request-id"]
    assert mock.requests == []


def test_a_body_without_an_announced_length_is_refused_once_it_is_too_large(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 1_000

    response = client.post(CHAT, content=chunks(), headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")


Answer: TypeAlias = tuple[int, dict[str, Any]]


def raw(gateway: Gateway, *pieces: bytes) -> Answer:
    """Status and JSON body of what comes back when only `pieces` are sent."""
    with gateway.connect() as connection:
        for piece in pieces:
            connection.sendall(piece)
        return whole(connection)


def whole(connection: socket.socket) -> Answer:
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        assert more, "closed without an answer"
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return int(lines[0].split()[1]), json.loads(body)


def test_headers_that_do_not_end_are_not_waited_for(gateway: Gateway) -> None:
    status, told = raw(gateway, b"POST /api/v1/chat HTTP/1.1\r\nhost: x\r\n")
    assert (status, told["code"], told["status_code"]) == (408, "header_timeout", 408)
    assert "1 s ([server] header_read_s)" in told["error"]


def test_a_connection_that_says_nothing_is_closed_without_a_word(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        assert connection.recv(100) == b""


def test_headers_over_the_limit_are_refused(gateway: Gateway) -> None:
    with gateway.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-padding: " + b"a" * MAX_HEADERS + b"\r\n")
        while not select.select([connection], [], [], 0.05)[0]:
            connection.sendall(b"x-more: 1\r\n")
        status, told = whole(connection)
    assert (status, told["code"], told["status_code"]) == (431, "headers_too_large", 431)
    assert f"{MAX_HEADERS} bytes ([server] max_header_bytes)" in told["error"]


def test_a_body_that_does_not_come_is_not_waited_for(gateway: Gateway) -> None:
    head = (
        b"POST /api/v1/chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
        b"authorization: Bearer " + (gateway.key or "").encode() + b"\r\n\r\n"
    )
    status, told = raw(gateway, head)
    assert (status, told["code"]) == (408, "body_timeout")
    assert "1 s ([server] body_read_s)" in told["error"]
    status, told = raw(gateway, head, b'{"model":')
    assert (status, told["code"]) == (408, "body_timeout")


def test_a_caller_that_leaves_amid_its_body_leaves_nothing_behind(gateway: Gateway, client: httpx.Client) -> None:
    with gateway.connect() as connection:
        connection.sendall(b"POST /api/v1/chat HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n")
        connection.sendall(b"authorization: Bearer " + (gateway.key or "").encode() + b"\r\n\r\n{")
    assert client.post(CHAT, json=GOOD).status_code == 200
    assert gateway.log == ""


def test_a_key_that_is_no_administrator_s_may_not_make_or_revoke_keys(gateway: Gateway, client: httpx.Client) -> None:
    made = client.post("/api/v1/keys/generate", json={"name": "plain"}).json()
    with gateway.client(made["key"]) as plain:
        refusals: tuple[Callable[[], httpx.Response], ...] = (
            lambda: plain.post("/api/v1/keys/generate", json={"name": "more"}),
            lambda: plain.delete("/api/v1/keys/revoke", params={"id": "administrator"}),
        )
        for ask in refusals:
            response = ask()
            assert (response.status_code, response.json()["code"]) == (403, "forbidden")
            assert "llmwise keys create --admin" in response.json()["error"]
            assert "x-ratelimit-remaining" in response.headers


def test_a_revoked_key_is_refused_like_one_that_never_was(gateway: Gateway, client: httpx.Client) -> None:
    made = client.post("/api/v1/keys/generate", json={"name": "short-lived"}).json()
    with gateway.client(made["key"]) as short_lived:
        assert short_lived.get("/api/v1/models").status_code == 200
        assert client.delete("/api/v1/keys/revoke", params={"id": made["id"]}).json()["revoked"] is True
        revoked = short_lived.get("/api/v1/models")
    with gateway.client("mm_sk_" + "0" * 64) as stranger:
        unknown = stranger.get("/api/v1/models")
    assert revoked.status_code == unknown.status_code == 401
    assert revoked.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}


def test_a_refusal_of_a_stream_is_a_status_and_not_an_event(client: httpx.Client) -> None:
    response = client.post(CHAT, json={**GOOD, "stream": True, "model": "nobody"})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"


def test_there_are_at_least_thirty_kinds_of_bad_requests() -> None:
    assert len(NATIVE) >= 30
    assert len({bad.name for bad in NATIVE}) == len(NATIVE)


def test_a_bad_request_leaves_the_log_alone(gateway: Gateway, client: httpx.Client) -> None:
    for bad in NATIVE:
        put(client, bad, bad.path)
    assert gateway.log == ""
