"""Time, handed down: one total for the request, and out of it what each wait of each attempt may take."""

import asyncio
import math

from msgspec import Struct


class TimeoutSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """`[timeouts]`, in seconds.

    connect_s       to reach the provider
    first_event_s   from the start of an attempt to its first content, when it streams
    idle_s          between two reads of an answer that has begun
    total_s         for the whole request, all attempts together
    answer_s        from the start of an attempt to the answer's headers, when it does not stream: the provider then
                    says nothing until it is done. Absent: four times `first_event_s`
    """

    connect_s: float = 5.0
    first_event_s: float = 90.0
    idle_s: float = 90.0
    total_s: float = 600.0
    answer_s: float | None = None


NEVER = math.inf
EARLY_S = 0.002
"""A timer may fire this much before its instant: uvloop's clock counts whole milliseconds, and rounds."""


class Deadline:
    """The instants of one request, on the event loop's clock (seconds)."""

    __slots__ = ("_settings", "_stream", "expires")

    def __init__(self, settings: TimeoutSettings, now: float, *, stream: bool) -> None:
        self._settings = settings
        self._stream = stream
        self.expires = now + settings.total_s

    def over(self, now: float) -> bool:
        """Whether the time of the whole request is up."""
        return now >= self.expires - EARLY_S

    @property
    def first_setting(self) -> str:
        """Which setting bounds the wait for the first content."""
        return "first_event_s" if self._stream else "answer_s"

    def first_content(self, now: float, attempts_left: int) -> float:
        """Until when an attempt that starts `now` may take to its first content.

        An answer that does not stream shares what is left of the total with the attempts that may have to follow, so
        that a provider that hangs leaves time for its fallback.
        """
        if self._stream:
            return min(now + self._settings.first_event_s, self.expires)
        answer_s = self._settings.answer_s or 4 * self._settings.first_event_s
        return now + min(answer_s, (self.expires - now) / max(1, attempts_left))

    def next_read(self, now: float) -> float:
        """Until when the next read of a committed answer may take."""
        return min(now + self._settings.idle_s, self.expires)


TICK_S = 0.05


class Watchdog:
    """Time-outs for very many short waits, at the cost of one timer for all of them.

    `asyncio.timeout` sets a timer and takes it back for each wait, a quarter of what a streamed event costs. Here one
    timer goes round every `TICK_S` while anybody waits, and looks who has waited too long: a wait ends that much late
    at most. As with `asyncio.timeout` its task is cancelled; `Watch.expired` tells that cancellation from any other.
    """

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._going_round = False
        self.ending = False
        """Once set, nobody waits any longer: every wait under way, and every later one, is ended."""

    def watch(self) -> "Watch":
        """A watch over the current task, which does all the waiting, until it is stopped."""
        task = asyncio.current_task()
        assert task is not None, "only a task can wait"
        watch = Watch(self._watches, task)
        self._watches.add(watch)
        if not self._going_round:
            self._going_round = True
            loop = asyncio.get_running_loop()
            loop.call_later(TICK_S, self._go_round, loop)
        return watch

    def _go_round(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        until = NEVER if self.ending else now
        for watch in [watch for watch in self._watches if watch.until <= until and watch.until != NEVER]:
            watch.expire()
        self._going_round = bool(self._watches)
        if self._going_round:
            loop.call_later(TICK_S, self._go_round, loop)


class Watch:
    """One task's waits, one after the other.

    watch.until = instant
    try:
        batch = await exchange.receive()
        if watch.fired:  # the time was up just as the answer came: the cancellation is still on its way
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        if not watch.expired():
            raise  # somebody else wants this task to end
        ...
    finally:
        watch.until = NEVER
    """

    __slots__ = ("_all", "_cancelling", "_task", "fired", "until")

    def __init__(self, watches: "set[Watch]", task: "asyncio.Task[object]") -> None:
        self.until = NEVER
        self._all = watches
        self._task = task
        self._cancelling = task.cancelling()
        self.fired = False

    def expire(self) -> None:
        """The wait has taken too long: end it."""
        self.until = NEVER
        self.fired = True
        self._task.cancel()

    def expired(self) -> bool:
        """Whether the cancellation that was just caught is this watch's own, and nobody else's besides. Takes it
        back, so that the task goes on."""
        if not self.fired:
            return False
        self.fired = False
        return self._task.uncancel() <= self._cancelling

    def stop(self) -> None:
        self.until = NEVER
        self._all.discard(self)
