"""What the gateway does while nobody asks: each process reads again what steers Auto; one of them, by a lease, watches
for drift, ends trials that are decided, runs what is scheduled and has answers graded.

    every REFRESH_S   all processes: what is decided (`Steering.refresh`)
    every ROUND_S     the one with the lease: alerts, trial, guard, schedules, texts, grades

A round that fails is logged and tried again at the next; it never ends the process.
"""

import asyncio
import hashlib
import hmac
import logging
import random
from collections.abc import Callable, Mapping, Sequence

from msgspec.json import decode, encode
from msgspec.structs import replace

from llmwise.api.grading import grade
from llmwise.api.learning import DAY_MS, note, typed
from llmwise.api.native.schedules import run_due
from llmwise.api.native.suites import forget_texts
from llmwise.api.services import Services
from llmwise.insights import control as controls
from llmwise.insights.alerts import Alert, Metric, Watch
from llmwise.insights.dataset import Judged, Row, is_own, rows_of
from llmwise.insights.quality import judged_by, qualities, told_of
from llmwise.insights.settings import AlertSettings, QualitySettings
from llmwise.insights.shadow import Verdict, judge
from llmwise.storage.errors import StorageUnavailable
from llmwise.storage.insights import Document, Signal

log = logging.getLogger(__name__)

REFRESH_S = 2.0
ROUND_S = 15.0
LEASE_MS = 60_000
"""A process that died is followed after so long."""

WATCHED_DAYS = 3
MOST_WATCHED = 50_000
LATE_MS = 60_000
"""Records come into the database when their requests end: so far back each round looks for those it has not seen."""

FORGET_MS = 600_000

LATE: tuple[Metric, ...] = ("quality",)
"""What may be said of an answer long after it."""

WEBHOOK_TRIES = 4
WEBHOOK_WAIT_S = 1.0


class Rounds:
    """`services` gives those of the configuration in force. Belongs to one event loop."""

    def __init__(
        self,
        services: Callable[[], Services],
        holder: str,
        alerts: AlertSettings,
        quality: QualitySettings,
    ) -> None:
        self._services = services
        self._holder = holder
        self.alerts = alerts
        self.quality = quality
        self._watch: Watch | None = None
        self._seen: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._until_ms = 0
        self._forgets_ms = 0
        self._random = random.Random()

    async def run(self) -> None:
        """Until cancelled."""
        left_s, waits = 0.0, False
        while True:
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
                left_s -= REFRESH_S
                if left_s <= 0:
                    left_s = ROUND_S
                    await self.round()
                waits = False
            except StorageUnavailable as error:
                if not waits:  # said once, however long it lasts
                    log.warning("the optimizer waits for the database: %s", error)
                waits = True
            except Exception:
                log.exception("a defect in the optimizer's round; the next one tries again")

    async def refresh(self) -> None:
        services = self._services()
        await services.steering.refresh(services.planner.settings)

    async def round(self) -> None:
        """One round, if this process has the lease."""
        services = self._services()
        now_ms = services.clock.unix_ms()
        if not await services.store.lease("rounds", self._holder, now_ms, LEASE_MS):
            self._watch = None
            return
        await self.watch()
        await self.try_on()
        await self.guard()
        await run_due(services)
        await self.forget()
        if self.quality.judge is not None:
            await grade(services, self.quality, self._random)

    async def watch(self) -> list[Alert]:
        """Look at what was settled since the last time; the alerts that began or ended."""
        services = self._services()
        await services.writer.flush()
        now_ms = services.clock.unix_ms()
        fresh = self._watch is None
        if self._watch is None:
            self._watch, self._seen, self._heard = Watch(), {}, {}
            self._until_ms = now_ms - WATCHED_DAYS * DAY_MS
        since_ms = self._until_ms - (0 if fresh else LATE_MS)
        settled = await services.store.settled_between(since_ms, now_ms + 1, MOST_WATCHED)
        signals = await services.store.signals_since(since_ms)
        asked = [one for one in settled if not is_own(one.request.conversation_id)]
        new = typed([one for one in asked if one.request.id not in self._seen])
        ids = {one.request.id for one in new}
        late = [one for one in signals if one.id not in self._heard and one.request_id not in ids]
        self._seen = _remembered(self._seen, {one.request.id: one.request.created_at_ms for one in settled}, now_ms)
        self._heard = _remembered(self._heard, {one.id: one.created_at_ms for one in signals}, now_ms)
        self._until_ms = now_ms
        judged = judged_by(new, signals)
        changed: dict[str, Alert] = {}
        for one in new:
            for row in rows_of(one.request, one.attempts, judged(one.request.id)):
                changed |= {alert.id: alert for alert in self._watch.add(row)}
        for row in await self._said_late(late):
            changed |= {alert.id: alert for alert in self._watch.add(row, LATE)}
        known = await self._stored()
        if fresh:
            # What somebody before us held for open and we can't find is over.
            there = {alert.id for alert in self._watch.open.values()}
            for old in known.values():
                if old.ended_at_ms is None and old.id not in there and old.id not in changed:
                    changed[old.id] = replace(old, ended_at_ms=now_ms)
        changed = {id: alert for id, alert in changed.items() if known.get(id) != alert}
        for alert in changed.values():
            await self._tell(alert)
        await self._avoid()
        return [*changed.values()]

    async def _said_late(self, signals: Sequence[Signal]) -> list[Row]:
        """Rows of requests that were looked at before somebody, a user or a judge, said how good they were."""
        rows: list[Row] = []
        told = told_of(signals)
        at = {signal.request_id: signal.created_at_ms for signal in signals}
        for id, quality in told.items():
            found = await self._services().store.request(id)
            if found is not None and not is_own(found.request.conversation_id):
                (one,) = typed([found])
                rows += [
                    replace(row, created_at_ms=at[id]) for row in rows_of(one.request, one.attempts, Judged(quality))
                ]
        return rows

    async def try_on(self) -> None:
        """End the trial that is decided: an inferior policy is given up, one that passed is adopted if so wished."""
        services = self._services()
        trial = services.steering.control.trial
        if trial is None or trial.stage != "canary":
            return
        now_ms = services.clock.unix_ms()
        verdict, told = await self._compared(trial.version, trial.began_at_ms, trial.margin)
        if verdict == "running":
            return
        auto = services.planner.settings
        if verdict == "inferior":
            log.warning("policy %s is given up: %s", trial.version, told)
            await services.steering.change(controls.end, auto, now_ms)
            await note(services, "given_up", goal=trial.goal, version=trial.version, by="gateway", why=told)
        elif trial.adopt_when_passed:
            log.warning("policy %s is adopted: %s", trial.version, told)
            change = lambda control: controls.adopt(control, trial.goal, trial.version, now_ms)  # noqa: E731
            await services.steering.change(change, auto, now_ms)
            await note(services, "adopted", goal=trial.goal, version=trial.version, by="gateway", why=told)

    async def guard(self) -> None:
        """Give back an adopted policy that is surely worse than what is held back beside it; else the guard ends when
        its time is over."""
        services = self._services()
        by, now_ms, auto = services.steering.control.guard, services.clock.unix_ms(), services.planner.settings
        if by is None:
            return
        verdict, told = await self._compared(by.version, by.began_at_ms, by.margin)
        if verdict == "inferior":
            log.warning("policy %s is given back: %s", by.version, told)
            await services.steering.change(lambda control: controls.give_back(control, by.goal, now_ms), auto, now_ms)
            await note(services, "given_back", goal=by.goal, version=by.version, by="gateway", why=told)
        elif now_ms >= by.until_ms:
            await services.steering.change(lambda control: replace(control, guard=None), auto, now_ms)
            await note(services, "kept", goal=by.goal, version=by.version, by="gateway", why=told)

    async def _compared(self, version: str, since_ms: int, margin: float) -> tuple[Verdict, str]:
        """The verdict on a version by its two arms, and the figures in words."""
        store, now_ms = self._services().store, self._services().clock.unix_ms()
        settled = await store.settled_between(since_ms, now_ms + 1, MOST_WATCHED)
        signals = await store.signals_since(since_ms)
        result = judge(settled, version, margin, qualities(settled, signals))
        return result.verdict, "; ".join(
            f"{one.name}: {one.canary:.3f} against {one.control:.3f}, "
            f"difference {one.interval.low:+.3f} to {one.interval.high:+.3f}"
            for one in result.measures
        )

    async def forget(self) -> None:
        """Every `FORGET_MS`: the texts of test runs that are older than the configuration lets texts be."""
        services = self._services()
        now_ms, days = services.clock.unix_ms(), services.retention.keep_text_days
        if days is not None and now_ms >= self._forgets_ms:
            self._forgets_ms = now_ms + FORGET_MS
            await forget_texts(services.store, now_ms, before_ms=now_ms - days * DAY_MS)

    async def _stored(self) -> dict[str, Alert]:
        _, documents = await self._services().store.latest_documents("alert", 500)
        return {one.id: decode(one.body, type=Alert) for one in documents}

    async def _tell(self, alert: Alert) -> None:
        services = self._services()
        over = alert.ended_at_ms is not None
        text = "%s of %s on %s: usually %.4g, now %.4g"
        log.warning(f"alert {'ended' if over else 'began'}: {text}", alert.metric, alert.model, alert.task_type,
                    alert.usual, alert.seen)  # fmt: skip
        body = encode(alert).decode()
        await services.store.put_document(
            Document("alert", alert.id, alert.began_at_ms, services.clock.unix_ms(), body)
        )
        if self.alerts.webhook is not None:
            await send(self.alerts.webhook, self.alerts.secret, alert)

    async def _avoid(self) -> None:
        """Tell all processes whom to leave out."""
        services = self._services()
        assert self._watch is not None
        avoid = tuple(sorted(self._watch.avoid, key=str)) if self.alerts.avoid else ()
        if tuple(sorted(services.steering.control.avoid, key=str)) != avoid:
            change = lambda control: replace(control, avoid=avoid)  # noqa: E731
            await services.steering.change(change, services.planner.settings, services.clock.unix_ms())


def _remembered(old: Mapping[str, int], new: Mapping[str, int], now_ms: int) -> dict[str, int]:
    """Ids with their times, as far back as the next round looks again."""
    return {id: at for id, at in (*old.items(), *new.items()) if at >= now_ms - 2 * LATE_MS}


async def send(url: str, secret: str | None, alert: Alert, wait_s: float = WEBHOOK_WAIT_S) -> bool:
    """POST an alert, signed, up to `WEBHOOK_TRIES` times with twice the wait each; whether it was taken (2xx). The URL
    is the operator's own, from the configuration, and may be inside the network; redirects are not followed."""
    body = encode({"event": "alert_ended" if alert.ended_at_ms is not None else "alert_began", "alert": alert})
    headers = {"content-type": "application/json", "x-llmwise-delivery": alert.id}
    if secret is not None:
        headers["x-llmwise-signature"] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    why: object = None
    import httpx  # loads a tenth of what a start takes, for gateways that have no webhook

    async with httpx.AsyncClient(timeout=5.0, follow_redirects=False, trust_env=False) as client:
        for number in range(WEBHOOK_TRIES):
            if number:
                await asyncio.sleep(wait_s * 2 ** (number - 1))
            try:
                response = await client.post(url, content=body, headers=headers)
            except httpx.HTTPError as error:
                why = type(error).__name__
                continue
            if response.is_success:
                return True
            why = response.status_code
            if response.status_code < 500 and response.status_code not in (408, 429):
                break
    log.error("the alerts' webhook did not take %s: %s", alert.id, why)
    return False
