"""Who is calling: a key's hash, looked up. Every failure gets one and the same answer, which says nothing of why."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from llmwise.domain.access import Access, Budget, ProviderKey, access_of, account_settings_of
from llmwise.domain.errors import Forbidden, Unauthorized, Unavailable
from llmwise.domain.ports import Clock
from llmwise.state.port import Purse
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.rows import FoundKey, KeyRow, SealedKey

CACHE_S = 5.0
"""How long a key is believed without asking the database again, in each process: what is revoked, rotated away or
changed lives at most this much longer, an account's provider keys and privacy settings with it. An expiry is kept to
the millisecond."""

MAX_CACHED = 10_000
KEY = re.compile(rb"mm_sk_[0-9a-f]{64}", re.ASCII)

REFUSAL = (
    "no valid API key: send it as 'Authorization: Bearer mm_sk_...'; "
    "an administrator makes one with 'llmwise keys create'"
)


class KeyStore(Protocol):
    async def find_access(self, key_hash: str) -> FoundKey | None: ...


class Principal(Struct, frozen=True):
    """A caller that was let in: its key, what that may do, what it and its account may spend, and how its account
    wants its requests handled. `own_keys` are the account's keys of providers, by the provider's name."""

    key: KeyRow
    access: Access
    purses: tuple[Purse, ...]
    zero_retention: bool = False
    own_keys: Mapping[str, ProviderKey] = {}


class Authenticator:
    """Keys by their SHA-256; the raw key is never kept. Known and unknown hashes are remembered for `CACHE_S`."""

    def __init__(self, store: KeyStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._cache: dict[bytes, tuple[float, Principal | None]] = {}
        self.open_key: Callable[[SealedKey], ProviderKey] = unreadable

    def cached(self, credential: bytes | None) -> Principal | None:
        """The caller, if its key was looked up lately: the hot path, which waits for nothing."""
        if credential is None:
            return None
        found = self._cache.get(hashlib.sha256(credential).digest())
        return found[1] if found is not None and self._clock.monotonic() < found[0] else None

    async def authenticate(self, credential: bytes | None) -> Principal:
        """`credential` is the raw key. Raises `Unauthorized`."""
        if credential is None or not KEY.fullmatch(credential):
            raise Unauthorized(REFUSAL)
        digest = hashlib.sha256(credential).digest()
        found = self._cache.get(digest)
        if found is None or self._clock.monotonic() >= found[0]:
            row = await self._ask(digest, found[1] if found is not None else None)
            if isinstance(row, Principal):
                return row
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            found = self._judged(row, digest.hex())
            self._cache[digest] = found
        if found[1] is None:
            raise Unauthorized(REFUSAL)
        return found[1]

    async def _ask(self, digest: bytes, known: "Principal | None") -> "FoundKey | Principal | None":
        """What the database says of the key; while it is away `known` is believed on, within the key's own expiry: the
        spool holds the records, and what is revoked meanwhile can't be heard of. Raises `Unavailable`."""
        if known is not None and known.key.works(self._clock.unix_ms(), digest.hex()):
            # Others need not wait for the answer too: a database that is away may take seconds to say so.
            self._cache[digest] = (self._clock.monotonic() + CACHE_S, known)
        else:
            known = None
        try:
            return await self._store.find_access(digest.hex())
        except StorageUnavailable as error:
            if known is not None:
                return known
            raise Unavailable(f"keys can't be looked up: {error.problem}", code="storage_unavailable") from error

    async def principal(self, key: KeyRow) -> Principal:
        """What a key may do now, without its secret: for what is done in its name later. Raises `Unauthorized`."""
        found = await self._ask(bytes.fromhex(key.hash), None)
        assert not isinstance(found, Principal), "nothing was known"
        principal = self._judged(found, key.hash)[1]
        if principal is None:
            raise Unauthorized(f"the key {key.prefix}... works no more", code="key_revoked")
        return principal

    def forget(self) -> None:
        """Ask the database again from now on: after a change of keys by this process."""
        self._cache.clear()

    def _judged(self, found: FoundKey | None, key_hash: str) -> tuple[float, Principal | None]:
        """Until when (monotonic) what about the key."""
        now_ms, believed_s = self._clock.unix_ms(), CACHE_S
        if found is None or not found.key.works(now_ms, key_hash):
            return self._clock.monotonic() + believed_s, None
        key = found.key
        ends = [key.expires_at_ms, None if key_hash == key.hash else key.previous_until_ms]
        for end_ms in ends:
            if end_ms is not None:
                believed_s = min(believed_s, (end_ms - now_ms) / 1000)
        own_keys = [self.open_key(row) for row in found.provider_keys]
        return self._clock.monotonic() + believed_s, principal_of(key, found.account_settings, own_keys)


def unreadable(row: SealedKey) -> ProviderKey:
    """A provider key where there is no master key to open it with."""
    return ProviderKey(row.id, row.provider, row.origin, None)


def principal_of(key: KeyRow, account_settings: str | None, own_keys: Sequence[ProviderKey] = ()) -> Principal:
    """A key and what its account may spend and wants, as their rows have it."""
    access = access_of(key.settings)
    settings = account_settings_of(account_settings)
    return Principal(
        key,
        access,
        (
            *purses_of("key", key.id, key.account_id, access.budgets),
            *purses_of("account", key.account_id, key.account_id, settings.budgets),
        ),
        settings.zero_retention,
        {own.provider: own for own in own_keys},
    )


def purses_of(
    kind: Literal["key", "account"], owner: str, account_id: str, budgets: Sequence[Budget]
) -> tuple[Purse, ...]:
    """One purse a period; of several budgets of one kind and period the least counts."""
    purses = []
    for period in dict.fromkeys(budget.period for budget in budgets):
        hard = [one.limit_nanousd for one in budgets if one.period == period and one.hard]
        soft = [one.limit_nanousd for one in budgets if one.period == period and not one.hard]
        purses.append(Purse(kind, owner, account_id, period, min(hard, default=None), min(soft, default=None)))
    return tuple(purses)


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


def require_mode(principal: Principal, work: str) -> None:
    """Raises `Forbidden` when the key may not use this kind of endpoint; what calls no model is open to all keys."""
    modes = principal.access.modes
    if modes is not None and work != "other" and work not in modes:
        allowed = ", ".join(modes) or "no model at all"
        raise Forbidden(f"this key may not use {work}, only {allowed}: ask an administrator", code="mode_not_allowed")
