"""Regression schedules: a suite, run when a cron expression says, in the name of the key that made the schedule.

The database holds when each is due; the process with the lease runs what is. A time that was missed while no gateway
ran is made up for once, not as often as it was missed.

A suite that runs in a key's name holds what this key or an administrator last put in: whoever else could change it
would ask questions with rights, and from a budget, that are not its own.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.json import decode, encode

from llmwise.api.frame import Call
from llmwise.api.learning import new_id
from llmwise.api.native.suites import Name, RunDetail, detail, own, owned_of, run, suite_of
from llmwise.api.services import Services
from llmwise.domain.errors import Conflict, GatewayError, NotFound, Unprocessable
from llmwise.insights.suites import Suite
from llmwise.storage.insights import Document
from llmwise.storage.rows import KeyRow

log = logging.getLogger(__name__)

Limit = Annotated[int, Meta(ge=1, le=200)]
Cron = Annotated[str, Meta(max_length=200)]

MOST = 1000


class Schedule(Struct, frozen=True):
    """`next_run_at_ms` is `null` while it is off. `last_error` is why the last time could not run."""

    id: str
    name: str
    suite_id: str
    cron: str
    timezone: str
    enabled: bool
    key_id: str
    account_id: str
    created_at_ms: int
    updated_at_ms: int
    next_run_at_ms: int | None
    last_run_at_ms: int | None = None
    last_run_id: str | None = None
    last_status: Literal["passed", "failed", "stopped", "error"] | None = None
    last_error: str | None = None


class SchedulesQuery(Struct, forbid_unknown_fields=True):
    limit: Limit = 30


class ScheduleBody(Struct, forbid_unknown_fields=True):
    """`cron` has five fields, minute first; every minute is the most often. `timezone` is a name like Europe/Vienna."""

    suite_id: Name
    cron: Cron = "0 6 * * *"
    timezone: Annotated[str, Meta(max_length=64)] = "UTC"
    name: Name | None = None
    enabled: bool = True


class ScheduleChange(Struct, forbid_unknown_fields=True):
    """What is left out stays."""

    suite_id: Name | UnsetType = UNSET
    cron: Cron | UnsetType = UNSET
    timezone: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class ScheduleList(Struct):
    total: int
    items: list[Schedule]


async def list_schedules(call: Call) -> ScheduleList:
    """GET /api/v1/optimization/regression-schedules, newest first."""
    query: SchedulesQuery = call.query
    mine = [one for one in await _all(call.services) if _visible(call.key, one)]
    return ScheduleList(len(mine), mine[: query.limit])


async def create_schedule(call: Call) -> Schedule:
    """POST /api/v1/optimization/regression-schedules."""
    body: ScheduleBody = call.body
    assert call.key is not None
    services = call.services
    suite = await _trusted(services, call.key, body.suite_id)
    now_ms = services.clock.unix_ms()
    due = next_ms(body.cron, body.timezone, now_ms)
    schedule = Schedule(
        id=new_id("sch", now_ms),
        name=body.name or suite.name,
        suite_id=suite.id,
        cron=body.cron,
        timezone=body.timezone,
        enabled=body.enabled,
        key_id=call.key.id,
        account_id=call.key.account_id,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
        next_run_at_ms=due if body.enabled else None,
    )
    await services.store.put_document(Document("schedule", schedule.id, now_ms, now_ms, encode(schedule).decode()))
    return schedule


async def update_schedule(call: Call) -> Schedule:
    """PUT /api/v1/optimization/regression-schedules/{schedule_id}."""
    body: ScheduleChange = call.body
    services = call.services
    schedule = await _own(call)
    if body.suite_id is not UNSET:
        await _trusted(services, await services.store.one_key(schedule.key_id), body.suite_id)
    now_ms = services.clock.unix_ms()
    given = {name: getattr(body, name) for name in body.__struct_fields__ if getattr(body, name) is not UNSET}

    def changed(old: Schedule) -> Schedule:
        new = msgspec.structs.replace(old, **given, updated_at_ms=now_ms)
        due = next_ms(new.cron, new.timezone, now_ms)
        return msgspec.structs.replace(new, next_run_at_ms=due if new.enabled else None)

    return await _change(services, call.path["schedule_id"], changed)


async def run_schedule(call: Call) -> RunDetail:
    """POST /api/v1/optimization/regression-schedules/{schedule_id}/run: now, besides its times."""
    schedule = await _own(call)
    assert call.key is not None
    suite = await suite_of(call.services, call.key, schedule.suite_id)
    principal = await call.services.authenticator.principal(call.key)
    done = await run(call.services, principal, suite, schedule_id=schedule.id)
    now_ms = call.services.clock.unix_ms()

    def ran(old: Schedule) -> Schedule:
        return msgspec.structs.replace(
            old, last_run_at_ms=now_ms, last_run_id=done.id, last_status=done.status, last_error=None
        )

    await _change(call.services, schedule.id, ran)
    return detail(done)


async def run_due(services: Services) -> list[str]:
    """Run what is due, one after another; the ids of the schedules. To be called by the process with the lease."""
    now_ms = services.clock.unix_ms()
    due = [one for one in await _all(services) if one.next_run_at_ms is not None and one.next_run_at_ms <= now_ms]
    for schedule in due:
        following = next_ms(schedule.cron, schedule.timezone, now_ms)
        # Before it runs: a process that dies in the middle must not leave one that every other dies of, too.
        await _change(services, schedule.id, partial(msgspec.structs.replace, next_run_at_ms=following))
        await _change(services, schedule.id, await _run(services, schedule, now_ms))
    return [schedule.id for schedule in due]


async def _run(services: Services, schedule: Schedule, now_ms: int) -> Callable[[Schedule], Schedule]:
    """Run it once; what the schedule remembers of it."""
    try:
        key = await services.store.one_key(schedule.key_id)
        suite = await _trusted(services, key, schedule.suite_id)
        done = await run(services, await services.authenticator.principal(key), suite, schedule_id=schedule.id)
    except GatewayError as failure:
        error = f"{failure.code}: {failure.message}"
        log.warning("schedule %s could not run: %s", schedule.id, error)
        return partial(msgspec.structs.replace, last_run_at_ms=now_ms, last_status="error", last_error=error)
    if done.status != "passed":
        log.warning("scheduled suite %s (%s): %s", suite.name, schedule.id, done.status)
    return partial(
        msgspec.structs.replace, last_run_at_ms=now_ms, last_run_id=done.id, last_status=done.status, last_error=None
    )


def next_ms(cron: str, timezone: str, now_ms: int) -> int:
    """When it is due after now. Raises `Unprocessable`."""
    zone: tzinfo
    try:
        zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        text = f"timezone = {timezone!r}: no such time zone; write it like Europe/Vienna"
        raise Unprocessable(text, param="timezone", code="invalid_timezone") from error
    try:
        if len(cron.split()) != 5:  # six would begin with seconds
            raise CronSimError("not five fields")
        found = next(CronSim(cron, datetime.fromtimestamp(now_ms / 1000, zone)))
    except (CronSimError, StopIteration) as error:
        text = f"cron = {cron!r}: {str(error) or 'never comes'}; five fields, like '0 6 * * 1-5'"
        raise Unprocessable(text, param="cron", code="invalid_cron") from error
    return int(found.timestamp() * 1000)


async def _all(services: Services) -> list[Schedule]:
    _, documents = await services.store.latest_documents("schedule", MOST)
    return [decode(document.body, type=Schedule) for document in documents]


async def _own(call: Call) -> Schedule:
    document = await call.services.store.document("schedule", call.path["schedule_id"])
    found = None if document is None else decode(document.body, type=Schedule)
    if found is None or not _visible(call.key, found):
        id = call.path["schedule_id"][:64]
        raise NotFound(f"no schedule {id!r}; /optimization/regression-schedules lists them")
    assert call.key is not None
    own(call.key, found.key_id, f"schedule {found.id}")
    return found


async def _trusted(services: Services, key: KeyRow, suite_id: str) -> Suite:
    """The suite as `key` may have it run unasked. Raises `NotFound`, and `Conflict` where another key changed it last
    that is not an administrator's, nor was."""
    owned = await owned_of(services, key, suite_id)
    if owned.changed_by not in (key.id, None):
        by = await services.store.one_key(owned.changed_by)
        if not by.admin:
            text = f"{suite_id} was last changed with {by.id}, neither the schedule's key nor an administrator's"
            raise Conflict(f"{text}: make a suite of your own", code="suite_changed")
    return owned.suite


async def _change(services: Services, id: str, change: Callable[[Schedule], Schedule]) -> Schedule:
    def to(body: str | None) -> str:
        assert body is not None, "schedules are never removed"
        return encode(change(decode(body, type=Schedule))).decode()

    stored = await services.store.change_document("schedule", id, services.clock.unix_ms(), to)
    return decode(stored.body, type=Schedule)


def _visible(key: KeyRow | None, schedule: Schedule) -> bool:
    return key is not None and (key.admin or key.account_id == schedule.account_id)
