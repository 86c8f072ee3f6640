"""What is kept of the account's requests: /settings/privacy."""

from msgspec import Struct
from msgspec.structs import replace

from llmwise.api.auth import CACHE_S
from llmwise.api.frame import Call
from llmwise.api.native import suites
from llmwise.api.services import Services
from llmwise.domain.access import AccountSettings, account_settings_of
from llmwise.storage import memory, retention


class PrivacyBody(Struct, forbid_unknown_fields=True):
    """What is absent stays as it is. The purge belongs to `zero_retention_mode: true`; asked for alone, it is done
    without changing the mode."""

    data_training_opt_in: bool | None = None
    zero_retention_mode: bool | None = None
    purge_existing_data: bool = True


class Purged(Struct):
    """How many records each step touched."""

    requests_redacted: int
    memories_deleted: int
    conversations_redacted: int
    comments_deleted: int
    test_runs_redacted: int


class Privacy(Struct):
    """`keep_text` is the gateway's own setting: without it nobody's texts are kept. `purged` is `null` when nothing was
    to be purged. Within `effective_within_s` a change holds in every process."""

    data_training_opt_in: bool
    zero_retention_mode: bool
    keep_text: bool
    redaction: bool
    keep_text_days: int | None
    keep_records_days: int | None
    effective_within_s: float
    purged: Purged | None = None


async def privacy(call: Call) -> Privacy:
    """GET /api/v1/settings/privacy."""
    assert call.key is not None
    account = await call.services.store.account(call.key.account_id)
    return _answer(call.services, account_settings_of(account.settings))


async def update(call: Call) -> Privacy:
    """PUT /api/v1/settings/privacy."""
    assert call.key is not None
    body: PrivacyBody = call.body
    services, account_id = call.services, call.key.account_id

    def changed(settings: AccountSettings) -> AccountSettings:
        if body.zero_retention_mode is not None:
            settings = replace(settings, zero_retention=body.zero_retention_mode)
        if body.data_training_opt_in is not None:
            settings = replace(settings, training_opt_in=body.data_training_opt_in)
        return settings

    account = await services.store.change_account(account_id, services.clock.unix_ms(), changed)
    services.authenticator.forget()
    answer = _answer(services, account_settings_of(account.settings))
    alone = body.zero_retention_mode is None and body.data_training_opt_in is None
    if body.purge_existing_data and (body.zero_retention_mode or alone):
        answer.purged = await purge(services, account_id)
    return answer


async def purge(services: Services, account_id: str) -> Purged:
    """Forget the texts of the account's requests and test runs, its memories and its conversations' titles. What other
    processes are about to write of requests that are under way is found by the next round of `storage.keeper`."""
    await services.writer.flush()
    store = services.store
    redacted = 0
    while some := await store.write(retention.forget_texts, account_id):
        redacted += some
    purged = Purged(
        redacted,
        await store.write(memory.remove, account_id),
        await store.write(retention.forget_titles, account_id),
        await store.write(retention.forget_comments, account_id),
        await suites.forget_texts(store, services.clock.unix_ms(), account_id=account_id),
    )
    await store.read(retention.scrub)
    return purged


def _answer(services: Services, settings: AccountSettings) -> Privacy:
    kept = services.retention
    return Privacy(
        settings.training_opt_in,
        settings.zero_retention,
        services.kept.keep_text,
        services.kept.redact is not None,
        kept.keep_text_days,
        kept.keep_records_days,
        CACHE_S,
    )
