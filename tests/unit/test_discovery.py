import asyncio
import socket

import msgspec
import pytest

from llmwise.catalog.rows import ModelSettings
from llmwise.config import Config, ProviderSettings
from llmwise.discovery import to_ask, with_discovered


class ModelServer:
    """Lists `names` at GET /v1/models, as Ollama does."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def __aenter__(self) -> "ModelServer":
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head.split(b"\r\n")[0].decode())
        body = msgspec.json.encode({"object": "list", "data": [{"id": name} for name in self.names]})
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()


def asking(url: str, **more: ProviderSettings) -> Config:
    return Config(providers={"ollama": ProviderSettings("openai", url), **more})


def test_a_model_server_is_asked_for_its_models_which_are_free() -> None:
    async def run() -> tuple[Config, list[str]]:
        async with ModelServer(["qwen3:8b", "llama4"]) as server:
            return await with_discovered(asking(server.url)), server.asked

    config, asked = asyncio.run(run())
    assert asked == ["GET /v1/models HTTP/1.1"]
    assert [(model.id, model.provider, model.input_price) for model in config.models] == [
        ("qwen3:8b", "ollama", 0),
        ("llama4", "ollama", 0),
    ]


def test_a_server_whose_models_are_listed_is_not_asked() -> None:
    config = asking("http://127.0.0.1:1/v1")
    assert list(to_ask(config)) == ["ollama"]
    listed = msgspec.structs.replace(config, models=[ModelSettings(id="mine", provider="ollama")])
    assert to_ask(listed) == {}


def test_a_hosted_vendor_is_not_asked() -> None:
    assert to_ask(Config(providers={"openai": ProviderSettings("openai", "https://api.openai.com/v1")})) == {}


def test_a_server_that_is_away_offers_nothing_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        config = asking(f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        assert asyncio.run(with_discovered(config)) is config
    assert "ollama" in caplog.text
    assert "offers no models now" in caplog.text
