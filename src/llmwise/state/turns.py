"""What models said beside their tool calls, kept for the next turn of the conversation.

A value is bytes and means nothing here; a second implementation may keep it anywhere that forgets. This one keeps it in
memory only: thinking is the most private part of an answer, and a disk remembers too long.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

OVERHEAD_BYTES = 200
"""About what an entry takes beside its value: its key, its time, its place in the order."""


class ContinuitySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[continuity]`: thinking and signatures that a caller's format has no place for, kept for its next turn.

    enabled     without it nothing is kept
    ttl_s       so long after a turn
    max_bytes   of all turns together; the oldest go first
    """

    enabled: bool = True
    ttl_s: float = 3600.0
    max_bytes: int = 64 * 1024 * 1024


class TurnStore(Protocol):
    """Forgets whatever it likes. Never raises: a conversation goes on without."""

    async def put(self, keys: Sequence[bytes], value: bytes) -> None:
        """Keep `value` under each of `keys`, in place of what was there."""
        ...

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """The values in the order of `keys`."""
        ...


class MemoryTurns:
    """A `TurnStore` of this process. Invariant: `size` is what the entries take, and at most `max_bytes`."""

    def __init__(self, settings: ContinuitySettings, monotonic: Callable[[], float]) -> None:
        self.settings = settings
        self.size = 0
        self._monotonic = monotonic
        self._entries: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    async def put(self, keys: Sequence[bytes], value: bytes) -> None:
        if not self.settings.enabled:
            return
        expires = self._monotonic() + self.settings.ttl_s
        for key in keys:
            self._drop(key)
            self._entries[key] = (expires, value)
            self.size += len(value) + OVERHEAD_BYTES
        now = self._monotonic()
        while self._entries:
            oldest, (ends, _) = next(iter(self._entries.items()))
            if self.size <= self.settings.max_bytes and ends > now:
                break
            self._drop(oldest)

    async def get(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        now = self._monotonic()
        found = (self._entries.get(key) for key in keys)
        return [entry[1] if entry is not None and entry[0] > now else None for entry in found]

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= len(entry[1]) + OVERHEAD_BYTES
