"""What a key and an account may do and spend: JSON in their rows' `settings`, read when the key is looked up."""

from functools import lru_cache
from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.json import Decoder

from llmwise.domain.records import Mode

Period: TypeAlias = Literal["day", "week", "month", "total"]
"""UTC: a week begins on Monday, a month on its first day; `total` never ends."""

DEFAULT_ACCOUNT = "default"
"""The account of every key that was made without naming one. It is there from the start, and unlimited."""


class Budget(Struct, frozen=True, gc=False):
    """At most so much in each period. A hard one refuses what comes after, a soft one only warns."""

    period: Period
    limit_nanousd: int
    hard: bool = True


class Access(Struct, frozen=True):
    """A key's settings; `None` means "no bound of its own". Fields of a later version are ignored.

    models               catalog ids, no others may be asked
    modes                endpoints that call models, no others may be used
    budgets              of this key alone; its account's hold beside them
    requests_per_minute  instead of the configured limit of each mode
    burst                instead of the configured one, in 10 s
    tokens_per_minute    of prompts and answers together
    concurrency          requests at the same time
    compat               streams in the framing of the published TypeScript client
    strict               what a target can't take is refused, not left out with a warning
    """

    models: tuple[str, ...] | None = None
    modes: tuple[Mode, ...] | None = None
    budgets: tuple[Budget, ...] = ()
    requests_per_minute: int | None = None
    burst: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    compat: bool = False
    strict: bool = False


class AutoTopUp(Struct, frozen=True):
    """Kept for whoever sets up payments; without one nothing is ever bought."""

    enabled: bool = False
    threshold_credits: int = 300
    amount_usd: float = 10.0
    monthly_cap_usd: float = 200.0


class Copilot(Struct, frozen=True):
    """Kept for whoever shows it: what the account wants, and how far it has come."""

    goal: str | None = None
    onboarded: bool = False
    checklist: dict[str, bool] = {}


class AccountSettings(Struct, frozen=True):
    """An account's settings.

    budgets           what its keys may spend together
    zero_retention    no text of its requests is kept anywhere
    training_opt_in   its data may be used for training; stored, and used for nothing here
    """

    budgets: tuple[Budget, ...] = ()
    auto_topup: AutoTopUp = AutoTopUp()
    zero_retention: bool = False
    training_opt_in: bool = False
    copilot: Copilot = Copilot()


class ProviderKey(Struct, frozen=True):
    """An account's own key of a provider, for the requests of one who called. It may be sent to `origin` alone.
    `secret` is `None` when it can't be read any more. `id` changes with the key."""

    id: str
    provider: str
    origin: str
    secret: str | None

    def __repr__(self) -> str:
        return f"ProviderKey({self.id!r}, {self.provider!r}, {self.origin!r})"  # never the secret


_access = Decoder(Access)
_account = Decoder(AccountSettings)

UNBOUNDED = Access()


@lru_cache(maxsize=4096)
def access_of(settings: str | None) -> Access:
    """A key's settings as its row has them."""
    return UNBOUNDED if settings is None else _access.decode(settings)


@lru_cache(maxsize=4096)
def account_settings_of(settings: str | None) -> AccountSettings:
    """An account's settings as its row has them."""
    return AccountSettings() if settings is None else _account.decode(settings)
