"""The account's own keys of providers (BYOK): /settings/keys. Shown by their last characters only, and never again in
full. What is saved or deleted holds at once in this process, and in others within `auth.CACHE_S`."""

import secrets
from typing import Annotated

from msgspec import Meta, Struct

from llmwise.api.auth import CACHE_S
from llmwise.api.frame import Call
from llmwise.domain.access import ProviderKey
from llmwise.domain.errors import NotFound, NotImplementedHere, Unprocessable
from llmwise.domain.ports import Keyed
from llmwise.domain.validation import did_you_mean
from llmwise.storage import settings as storage
from llmwise.storage.rows import SealedKey
from llmwise.storage.sealing import Sealer

Secret = Annotated[str, Meta(min_length=1, max_length=4096)]

NO_MASTER = (
    "this gateway has no master key to encrypt provider keys with: its administrator makes one with "
    "`llmwise secrets new` and names it in [secrets] keys"
)


class KeysBody(Struct, forbid_unknown_fields=True):
    """Keys by the provider's name; each takes the place of what was there."""

    keys: Annotated[dict[str, Secret], Meta(min_length=1, max_length=64)]


class ProviderKeyInfo(Struct):
    """`key` is the hint that may be shown. `usable` says whether requests go by it: `problem` says why not."""

    provider: str
    key: str
    origin: str
    created_at_ms: int
    usable: bool
    problem: str | None


class ProviderKeys(Struct):
    """`providers` are those that take a key; `available`, whether any can be saved. Within `effective_within_s` a
    change holds in every process."""

    keys: list[ProviderKeyInfo]
    providers: list[str]
    available: bool
    effective_within_s: float


class DeletedKey(Struct):
    provider: str
    deleted: bool
    effective_within_s: float


async def provider_keys(call: Call) -> ProviderKeys:
    """GET /api/v1/settings/keys."""
    assert call.key is not None
    services = call.services
    rows = await services.store.read(storage.provider_keys, call.key.account_id)
    return ProviderKeys(
        [_info(row, services.authenticator.open_key(row), services.providers.get(row.provider)) for row in rows],
        sorted(name for name, provider in services.providers.items() if isinstance(provider, Keyed)),
        services.sealer is not None,
        CACHE_S,
    )


async def save(call: Call) -> ProviderKeys:
    """PUT /api/v1/settings/keys."""
    assert call.key is not None
    services = call.services
    sealer = services.sealer
    if sealer is None:
        raise NotImplementedHere(NO_MASTER, code="secrets_not_set_up")
    sealed = tuple([_sealed(call, sealer, name, secret) for name, secret in call.body.keys.items()])
    await services.store.write(storage.put_provider_keys, sealed)
    services.authenticator.forget()
    return await provider_keys(call)


async def delete(call: Call) -> DeletedKey:
    """DELETE /api/v1/settings/keys/{provider}."""
    assert call.key is not None
    name = call.path["provider"]
    if not await call.services.store.write(storage.delete_provider_key, call.key.account_id, name):
        raise NotFound("this account has no key for such a provider; GET /api/v1/settings/keys lists those it has")
    call.services.authenticator.forget()
    return DeletedKey(name, True, CACHE_S)


def _sealed(call: Call, sealer: Sealer, name: str, given: str) -> SealedKey:
    """Raises `Unprocessable`, which never repeats the key, nor a name that is no provider's."""
    assert call.key is not None
    services, path = call.services, f"keys.{name}"
    provider = services.providers.get(name)
    takers = [each for each, one in services.providers.items() if isinstance(one, Keyed)]
    if provider is None:
        near = did_you_mean(name, takers) or f"; this gateway has {', '.join(sorted(takers)) or 'none'}"
        raise Unprocessable(f"keys: unknown provider{near}", param="keys")  # its name may be a key
    if not isinstance(provider, Keyed):
        raise Unprocessable(f"{path}: {name} takes no key", param=path)
    secret = given.strip()
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise Unprocessable(f"{path}: is no key: only printable ASCII without spaces can be sent", param=path)
    now_ms = services.clock.unix_ms()
    return sealer.seal(
        id=f"pk_{now_ms:012x}{secrets.token_hex(6)}",
        account_id=call.key.account_id,
        provider=name,
        origin=provider.origin,
        secret=secret,
        now_ms=now_ms,
    )


def _info(row: SealedKey, opened: ProviderKey, provider: object) -> ProviderKeyInfo:
    problem = None
    if not isinstance(provider, Keyed):
        problem = f"{row.provider} is no provider of this gateway, or takes no key now"
    elif provider.origin != row.origin:
        problem = f"it was saved for {row.origin}, and {row.provider} is at {provider.origin} now: save it again"
    elif opened.secret is None:
        problem = "it can't be read any more: save it again"
    return ProviderKeyInfo(row.provider, row.hint, row.origin, row.created_at_ms, problem is None, problem)
