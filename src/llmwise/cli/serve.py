"""`llmwise serve`: run the gateway."""

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Annotated

import typer
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from llmwise.api.protocol import protocol
from llmwise.api.server import Gateway
from llmwise.app import asgi, check
from llmwise.cli.failing import ConfigOption, fail, user_errors
from llmwise.config import Config, load
from llmwise.discovery import to_ask, with_discovered
from llmwise.storage.spool import Spool
from llmwise.storage.store import OfflineKeys

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
BACKLOG = 2048

WORKER_PING_S = 0.1
WORKER_SILENT_S = 60.0
"""A worker that says nothing for so long is replaced. One that starts says nothing until it has imported the gateway:
with uvicorn's 5 s the workers of a busy machine were killed and begun anew for ever (load 10 on two cores: 10 s)."""


def serve(
    config: ConfigOption = None,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="Overrides [server] port; 0: a free one.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Overrides [server] host.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Overrides [server] workers.")] = None,
) -> None:
    """Run the gateway until it is told to stop. Ready when GET /healthz answers 200."""
    with user_errors():
        settings = load(config)
        server = settings.server
        # Everything that can be wrong is looked at before the port is taken.
        offered = asyncio.run(with_discovered(settings)) if to_ask(settings) else settings
        check(offered, time.time_ns() // 1_000_000)
    count = workers or server.workers
    _one_local_model(settings, count)
    host = host or server.host
    number = server.port if port is None else port
    with _listen(host, number) as listening:
        with user_errors():
            if settings.storage.spool:
                Spool.claim(Path(settings.storage.spool)).close(everything_stored=True)  # as each process will
            first_key = _first_key(settings)  # after the port: a start that fails must not have used it up unseen
        if first_key is not None:
            typer.echo(
                f"First start: this is the administrator's key. It is shown once and kept nowhere.\n\n    {first_key}\n"
            )
        shown_host = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
        typer.echo(f"llmwise serves on http://{shown_host}:{listening.getsockname()[1]}  (docs at /docs)", nl=True)
        sys.stdout.flush()
        run(settings, listening, count, config_path=settings.source)


def run(settings: Config, listening: socket.socket, workers: int, config_path: str | None) -> None:
    """Serve on an open socket; returns when told to stop."""
    _begin_log()
    # uvicorn raises the signal that it has obeyed once more when it is done: to have done as told is no failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if workers == 1:
        settle_garbage()
        uvicorn.Server(uvicorn_config(settings, asgi(settings))).run(sockets=[listening])
        return
    if config_path is not None:
        os.environ["LLMWISE_CONFIG"] = config_path  # how the workers find it
    config = uvicorn_config(settings, "llmwise.cli.serve:worker", workers)
    _Workers(config, [listening]).run()


def worker() -> Gateway:
    """The application of one worker process. It ends with its parent, however that ends: nobody else would tell it to,
    and it would keep the port."""
    _begin_log()
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    settle_garbage()
    return asgi(load())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _begin_log() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def settle_garbage() -> None:
    """What was imported stays: the collector need not look at it again and again. Requests make few cycles, so that it
    need not look often either."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


class _Workers(Multiprocess):
    """Worker processes; a hang-up goes on to them instead of replacing them. No look at one takes long, or a signal
    would have to wait for it."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._heard: dict[int, float] = {}

    def terminate_all(self) -> None:
        # As long as one process has the port open, the kernel takes connections that nobody will answer.
        for listening in self.sockets:
            listening.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        for index, process in enumerate(self.processes):
            if self._lives(process):
                continue
            process.kill()
            process.join()
            if process.exitcode == STARTUP_FAILURE:  # the next would fail alike
                self.should_exit.set()
                return
            log.warning("worker %s has ended with status %s, another begins", process.pid, process.exitcode)
            self.processes[index] = Process(self.config, self.sockets)
            self.processes[index].start()

    def _lives(self, process: Process) -> bool:
        if process.pid is None or not process.process.is_alive():
            return False
        now = time.monotonic()
        if process.ping(WORKER_PING_S):
            self._heard[process.pid] = now
        return now - self._heard.setdefault(process.pid, now) < WORKER_SILENT_S

    def handle_hup(self) -> None:
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)


def uvicorn_config(settings: Config, app: Gateway | str, workers: int = 1) -> uvicorn.Config:
    server = settings.server
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        workers=workers,
        http=protocol(server.header_read_s, server.max_header_bytes, server.write_s),  # type: ignore[arg-type]  # called, not derived
        ws="none",
        loop="uvloop",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        date_header=False,
        proxy_headers=bool(server.trusted_proxies),
        forwarded_allow_ips=server.trusted_proxies or None,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(server.drain_s),
        backlog=BACKLOG,
    )


def _one_local_model(settings: Config, workers: int) -> None:
    """Workers share nothing but the socket: each would hold the local model's weights and threads once more."""
    local = [name for name, provider in settings.providers.items() if provider.kind == "local"]
    if local and workers > 1:
        without = "" if settings.source else "write a configuration, which offers only what it names; "
        fail(
            f"{workers} workers would run the local model {workers} times: {without}leave [providers.{local[0]}] out, "
            "or use --workers 1; a model that all workers share is a server of its own, like ollama or vllm"
        )


def _listen(host: str, port: int) -> socket.socket:
    """The open socket, before anything else is started: a taken port is said at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Says that it is TCP: asyncio sets TCP_NODELAY on what it accepts from no other (uvloop always does).
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)  # who comes before the workers are up waits for them, and is not turned away
    except OSError as error:
        listening.close()
        fail(f"can't listen on {host}:{port}: {error.strerror}; choose another with --port, or 0 for a free one")
    listening.set_inheritable(True)
    return listening


def _first_key(settings: Config) -> str | None:
    """An administrator's key, if the database has none yet."""
    with OfflineKeys.open(settings.storage.url) as keys:
        return keys.create_first("administrator", time.time_ns() // 1_000_000)
