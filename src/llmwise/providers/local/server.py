"""The child process: xllamacpp's own OpenAI-compatible server for one model file, on a free port of the loopback.

It reads a key from the first line of its standard input, which every request must bear (a web page could call an open
port), and writes `READY <url>` to its standard output once the model is loaded. It ends on SIGTERM, and when its
standard input ends, which is when whoever started it is gone, however that came.

    python -m llmwise.providers.local.server --model FILE --name ID --slots 4 --slot-tokens 2048 --threads 2
"""

import argparse
import os
import sys
import threading

MISSING_DEPENDENCY = 78
"""Exit status (EX_CONFIG) when xllamacpp isn't installed: starting again won't help."""

READY = "READY "

HTTP_THREADS = 64
"""The server gives a connection a thread for as long as it is kept open, used or not; its default is 8."""


def main() -> None:
    arguments = _arguments()
    key = sys.stdin.readline().strip()
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    # Whatever the library prints goes to the log; standard output is for the one line that is waited for.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        # In here, because this file is also read where the optional dependency is absent.
        import xllamacpp  # type: ignore[import-untyped]  # it has no stubs
    except ImportError as error:
        print(f"xllamacpp is not installed: pip install 'llmwise[local]' ({error})", file=sys.stderr)
        sys.exit(MISSING_DEPENDENCY)
    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.model_alias = {arguments.name}
    params.port = 0
    params.api_keys = [key]
    params.n_parallel = arguments.slots
    params.n_ctx = arguments.slots * arguments.slot_tokens  # the slots share it
    # Also for reading prompts: threads wait for each other by spinning, and on busy cores more of them are slower.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = arguments.threads
    params.n_threads_http = HTTP_THREADS
    params.cache_ram_mib = 0  # by default it keeps up to 8 GiB of old prompts
    params.use_jinja = True
    params.ui = False
    server = xllamacpp.Server(params)
    with report:
        report.write(f"{READY}{server.listening_address}\n")
    threading.Event().wait()


def _leave_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve one model file on the loopback.")
    parser.add_argument("--model", required=True, help="the .gguf file")
    parser.add_argument("--name", required=True, help="what answers call the model")
    parser.add_argument("--slots", type=int, required=True, help="requests at a time")
    parser.add_argument("--slot-tokens", type=int, required=True, help="prompt and answer of one request")
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
