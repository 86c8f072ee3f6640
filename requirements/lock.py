"""Writes run.txt, dev.txt and container.txt: every package that `make run`, `make test` and the container (`deploy`)
install, at one version, with hashes.

Run it (`make lock`) after a change to pyproject.toml's dependencies. Needs pip-tools.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SETS = {
    "run": ("build", "gateway", "local"),
    "container": ("build", "gateway", "postgres", "valkey"),
    "dev": ("build", "gateway", "local", "dev"),
}


def main() -> None:
    for name, extras in SETS.items():
        subprocess.run(
            [
                sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe",
                "--strip-extras", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-options",
                "--no-annotate", "--resolver=backtracking",
                *(f"--extra={extra}" for extra in extras),
                f"--output-file={HERE / f'{name}.txt'}", str(HERE.parent / "pyproject.toml"),
            ],
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
