"""Accounts' provider keys at rest: Fernet (AES-128-CBC with HMAC-SHA256, https://github.com/fernet/spec, read
2026-11-22) under the operator's master keys.

What is sealed is the key together with its account, its provider and its origin. A row that was copied to another
account, or whose origin was changed in the database, opens to nothing.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from llmwise.domain.access import ProviderKey
from llmwise.storage.rows import SealedKey

SHOWN_CHARACTERS = 4
SHOWN_OF_AT_LEAST = 16
"""A key this long shows its last characters; a shorter one shows none."""


class SealingError(Exception):
    """The library for it is not installed, or a ciphertext opens with none of the master keys."""


class Sealer:
    """`masters` are Fernet keys, the newest first: it seals with the first and opens with any."""

    def __init__(self, masters: Sequence[str]) -> None:
        try:
            from cryptography.fernet import Fernet, MultiFernet  # 20 ms that only a gateway with master keys pays
        except ModuleNotFoundError as error:
            raise SealingError(f"[secrets] needs a library ({error}); run: pip install 'llmwise[gateway]'") from error
        self._fernet = MultiFernet([Fernet(master) for master in masters])

    def seal(self, *, id: str, account_id: str, provider: str, origin: str, secret: str, now_ms: int) -> SealedKey:
        text = msgspec.json.encode(_Inside(account_id, provider, origin, secret))
        sealed = self._fernet.encrypt(text).decode()
        return SealedKey(account_id, provider, id, origin, hint_of(secret), sealed, now_ms)

    def open(self, row: SealedKey) -> ProviderKey:
        """A key that can't be read has no secret: whoever uses it is told so."""
        from cryptography.fernet import InvalidToken

        try:
            inside = msgspec.json.decode(self._fernet.decrypt(row.sealed), type=_Inside)
        except (InvalidToken, msgspec.DecodeError):
            return ProviderKey(row.id, row.provider, row.origin, None)
        same = (inside.account_id, inside.provider, inside.origin) == (row.account_id, row.provider, row.origin)
        return ProviderKey(row.id, row.provider, row.origin, inside.secret if same else None)

    def again(self, sealed: str) -> str:
        """The same under the newest master key. Raises `SealingError`."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.rotate(sealed).decode()
        except InvalidToken as error:
            advice = "name the one that it was made with"
            raise SealingError(f"a provider key opens with none of the master keys: {advice}") from error


def new_master() -> str:
    """A master key. Raises `SealingError`."""
    try:
        from cryptography.fernet import Fernet
    except ModuleNotFoundError as error:
        raise SealingError(f"{error}; run: pip install 'llmwise[gateway]'") from error
    return Fernet.generate_key().decode()


def hint_of(secret: str) -> str:
    """What may be shown."""
    return f"...{secret[-SHOWN_CHARACTERS:]}" if len(secret) >= SHOWN_OF_AT_LEAST else "..."


class _Inside(Struct, frozen=True, array_like=True):
    account_id: str
    provider: str
    origin: str
    secret: str
