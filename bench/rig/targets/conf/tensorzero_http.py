"""tensorzero_http.py CONFIG PORT_FILE: serve the gateway's HTTP API on a port of its own choice, and say which."""

import re
import signal
import sys
from pathlib import Path

import tensorzero

config, port_file = sys.argv[1:]
gateway = tensorzero._start_http_gateway(  # what its patch_openai_client starts
    config_file=config, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
)
port = re.search(r":(\d+)", gateway.base_url)
assert port is not None
Path(port_file).write_text(port[1])
signal.pause()
