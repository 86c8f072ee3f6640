"""Who is calling: a key's hash, looked up. Every failure gets one and the same answer, which says nothing of why."""

import hashlib
import re
from collections.abc import Callable
from typing import Protocol

from llmwise.domain.errors import Forbidden, Unauthorized
from llmwise.storage.rows import KeyRow

CACHE_S = 5.0
"""How long a key is believed without asking the database again: a revoked key lives at most this much longer."""

MAX_CACHED = 10_000
KEY = re.compile(rb"mm_sk_[0-9a-f]{64}", re.ASCII)

REFUSAL = (
    "no valid API key: send it as 'Authorization: Bearer mm_sk_...'; "
    "an administrator makes one with 'llmwise keys create'"
)


class KeyStore(Protocol):
    async def find_key(self, hash: str) -> KeyRow | None: ...


class Authenticator:
    """Keys by their SHA-256; the raw key is never kept. Known and unknown hashes are remembered for `CACHE_S`."""

    def __init__(self, store: KeyStore, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._cache: dict[bytes, tuple[float, KeyRow | None]] = {}

    def cached(self, credential: bytes | None) -> KeyRow | None:
        """The key, if it was looked up lately: the hot path, which waits for nothing."""
        if credential is None:
            return None
        found = self._cache.get(hashlib.sha256(credential).digest())
        return found[1] if found is not None and self._monotonic() < found[0] else None

    async def authenticate(self, credential: bytes | None) -> KeyRow:
        """`credential` is the raw key. Raises `Unauthorized`."""
        if credential is None or not KEY.fullmatch(credential):
            raise Unauthorized(REFUSAL)
        digest = hashlib.sha256(credential).digest()
        found = self._cache.get(digest)
        if found is None or self._monotonic() >= found[0]:
            key = await self._store.find_key(digest.hex())
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            found = (self._monotonic() + CACHE_S, key)
            self._cache[digest] = found
        if found[1] is None:
            raise Unauthorized(REFUSAL)
        return found[1]

    def forget(self) -> None:
        """Ask the database again from now on: after a change of keys by this process."""
        self._cache.clear()


def credential_of(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """The key in `Authorization: Bearer`, or in Anthropic's `x-api-key`; of two, the first."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            return key.strip() if scheme.lower() == b"bearer" else None
        if name == b"x-api-key":
            return value.strip()
    return None


def require_admin(key: KeyRow) -> None:
    """Raises `Forbidden` unless the key is an administrator's."""
    if not key.admin:
        raise Forbidden("this needs an administrator's key: make one with 'llmwise keys create --admin'")
