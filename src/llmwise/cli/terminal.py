"""What models and providers say, on a terminal: without the characters that would steer it (ECMA-48 C0 and C1: an
escape sequence can recolor, retitle or overwrite what the user sees). A pipe gets every text as it is."""

import re
import sys

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Without control characters, but for newline and tab."""
    return _CONTROLS.sub("", text)


def say(text: str) -> None:
    """Write to standard output at once."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
