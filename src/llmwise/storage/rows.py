"""What the store answers with, beside the records of `domain.records`. Money in nano-USD, times in ms."""

from operator import add

from msgspec import Struct
from msgspec.structs import astuple

from llmwise.domain.access import DEFAULT_ACCOUNT
from llmwise.domain.ids import KeyId
from llmwise.domain.records import AttemptRecord, RequestRecord


class KeyRow(Struct, frozen=True):
    """An API key of the gateway. `hash` is the SHA-256 of the raw key in hex, `prefix` its first 12 characters, to be
    shown. `revoked_at_ms` is `None` while the key works. `settings` is JSON text (`domain.access.Access`); `None` means
    all defaults. From `expires_at_ms` on it works no more. `previous_hash` is of the secret before the last rotation,
    which works until `previous_until_ms`."""

    id: KeyId
    name: str
    hash: str
    prefix: str
    admin: bool
    created_at_ms: int
    revoked_at_ms: int | None
    settings: str | None
    account_id: str = DEFAULT_ACCOUNT
    expires_at_ms: int | None = None
    previous_hash: str | None = None
    previous_until_ms: int | None = None

    def works(self, now_ms: int, key_hash: str) -> bool:
        """Whether the secret with this hash opens anything now."""
        if self.revoked_at_ms is not None or (self.expires_at_ms is not None and now_ms >= self.expires_at_ms):
            return False
        return key_hash == self.hash or (self.previous_until_ms is not None and now_ms < self.previous_until_ms)


class AccountRow(Struct, frozen=True):
    """Who pays for keys. `settings` is JSON text (`domain.access.AccountSettings`); `None` means all defaults."""

    id: str
    name: str
    created_at_ms: int
    settings: str | None


class SealedKey(Struct, frozen=True):
    """An account's own key of a provider, encrypted (`storage.sealing`). `origin` is where it may be sent, `hint` what
    may be shown of it. `id` changes with the key."""

    account_id: str
    provider: str
    id: str
    origin: str
    hint: str
    sealed: str
    created_at_ms: int


class FoundKey(Struct, frozen=True):
    """A key, the settings of its account, and the account's own keys of providers."""

    key: KeyRow
    account_settings: str | None
    provider_keys: tuple[SealedKey, ...] = ()


class ListedKey(KeyRow, frozen=True):
    """A key with the time of its last settled request; `None` if there is none. It is read from the requests, so that
    using a key writes nothing to it."""

    last_used_at_ms: int | None = None


class SettledRequest(Struct, frozen=True):
    """One request with its attempts, in their order."""

    request: RequestRecord
    attempts: tuple[AttemptRecord, ...]


class Tally(Struct, frozen=True):
    """Sums over requests. `errors` had a status of 400 or more. `cost_nanousd` adds the costs that are known;
    `unpriced_requests` counts those whose cost is not, which are not free: the true sum is higher if there are any.
    `output_tokens` holds the reasoning tokens too; the other buckets don't overlap."""

    requests: int
    errors: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nanousd: int
    unpriced_requests: int

    @classmethod
    def zero(cls) -> "Tally":
        return cls(0, 0, 0, 0, 0, 0, 0, 0, 0)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*map(add, astuple(self), astuple(other)))


class DayUsage(Struct, frozen=True):
    """One UTC day, as `YYYY-MM-DD`."""

    day: str
    tally: Tally


class TaskUsage(Struct, frozen=True):
    """One task type; `None` gathers the requests that were not classified."""

    task_type: str | None
    tally: Tally


class ModelUsage(Struct, frozen=True):
    """One target's share, summed over *attempts*, so that money and failures are booked where they arose and not on
    the model that answered in the end. Attempts that were skipped never reached the provider and don't count.
    `errors` are the attempts that failed on the provider's side or were refused there (a caller who left is none).
    `latency_ms` is the mean of the attempts that completed, `None` if none did."""

    model: str
    provider: str
    attempts: int
    errors: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nanousd: int
    unpriced_attempts: int
    latency_ms: int | None


class Quantiles(Struct, frozen=True):
    """By nearest rank: the smallest value that at least half, or 95 in 100, of the values don't exceed. `None` without
    values. Requests that failed are left out: a fast refusal is not a fast answer."""

    p50_ms: int | None
    p95_ms: int | None


class UsageSummary(Struct, frozen=True):
    """A key's usage since `since_ms`. Days ascend, models and task types are ordered by cost, then by count.
    `charged_nanousd` is what the ledger charged for it all."""

    since_ms: int
    total: Tally
    charged_nanousd: int
    latency: Quantiles
    ttft: Quantiles
    by_model: tuple[ModelUsage, ...]
    by_day: tuple[DayUsage, ...]
    by_task_type: tuple[TaskUsage, ...]
