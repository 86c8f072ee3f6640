"""What reached the scripted server: bounded, with credentials cut to their last four characters."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

KEPT_ENTRIES = 1000
KEPT_BODY_BYTES = 1 << 20
KEPT_BODIES_BYTES = 16 << 20

_CREDENTIALS = frozenset({"authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"})


class Entry(Struct):
    """One request. `nth` counts the requests for `model`; `at_ms` is Unix time.

    `finished`: the script was played to its end, whatever the fault. `client_left`: the client closed the connection
    before that, `left_after_ms` after its request was complete. `body` is `None` where it was no JSON or over
    `KEPT_BODY_BYTES`.
    """

    model: str
    dialect: str
    path: str
    stream: bool
    nth: int
    fault: str
    at_ms: int
    headers: dict[str, str]
    body: msgspec.Raw | None
    body_bytes: int
    finished: bool = False
    client_left: bool = False
    left_after_ms: float | None = None

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return None if self.body is None else msgspec.json.decode(self.body)


class Journal:
    """The last entries, and counts of all since the last `clear`. `_held` is the size of the bodies kept."""

    def __init__(self) -> None:
        self.total = 0
        self.by_model: Counter[str] = Counter()
        self._entries: deque[Entry] = deque()
        self._held = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        self.total += 1
        self.by_model[entry.model] += 1
        self._entries.append(entry)
        self._held += _held(entry)
        while len(self._entries) > KEPT_ENTRIES or self._held > KEPT_BODIES_BYTES:
            self._held -= _held(self._entries.popleft())

    def clear(self) -> None:
        self.total = 0
        self.by_model.clear()
        self._entries.clear()
        self._held = 0

    def shown(self) -> bytes:
        """All of it as JSON."""
        whole = {"total": self.total, "by_model": self.by_model, "requests": list(self._entries)}
        return msgspec.json.encode(whole)


def kept_body(body: bytes) -> msgspec.Raw | None:
    """`body` if it may be kept and shown: JSON, and not too large."""
    if len(body) > KEPT_BODY_BYTES:
        return None
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except msgspec.DecodeError:
        return None
    return msgspec.Raw(body)


def redacted(headers: Mapping[str, str]) -> dict[str, str]:
    """Header names in lower case; of a credential only that it was there and how it ended."""
    return {name: hint(value) if name in _CREDENTIALS else value for name, value in headers.items()}


def hint(secret: str) -> str:
    """Its last four characters, none of a secret so short that they would be much of it."""
    return f"…{secret[-4:]}" if len(secret) >= 12 else "…"


def _held(entry: Entry) -> int:
    return 0 if entry.body is None else entry.body_bytes
