"""Time, handed down: one total for the request, and out of it what each wait of each attempt may take."""

import asyncio

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


class Watch:
    """A time-out for many short waits of one task, at the cost of one timer.

    `asyncio.timeout` arms and disarms a timer for each wait, a quarter of what a streamed event costs. Here the timer
    stays, looks at the deadline when it fires, and is set anew if that has moved on. As with `asyncio.timeout`, a wait
    that takes too long is cancelled; `expired` tells that cancellation from one that comes from elsewhere.

        watch.until(instant)
        try:
            batch = await exchange.receive()
        except asyncio.CancelledError:
            if not watch.expired():
                raise  # somebody else wants this task to end
            ...
        finally:
            watch.rest()
    """

    __slots__ = ("_cancelling", "_expired", "_expires", "_loop", "_task", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """For the current task, which does all the waiting."""
        task = asyncio.current_task()
        assert task is not None, "only a task can wait"
        self._loop = loop
        self._task = task
        self._timer: asyncio.TimerHandle | None = None
        self._expires: float | None = None  # None: nothing is being waited for
        self._expired = False
        self._cancelling = 0

    def until(self, expires: float) -> None:
        """The wait that begins now may last until `expires`, on the loop's clock."""
        self._cancelling = self._task.cancelling()
        self._expires = expires
        timer = self._timer
        if timer is None:
            self._timer = self._loop.call_at(expires, self._look)
        elif expires < timer.when():
            timer.cancel()
            self._timer = self._loop.call_at(expires, self._look)

    def rest(self) -> None:
        """The wait is over; the timer stays for the next one."""
        self._expires = None

    def expired(self) -> bool:
        """Whether the cancellation that was just caught is this watch's own, and nobody else's besides. Takes it
        back, so that the task goes on."""
        if not self._expired:
            return False
        self._expired = False
        return self._task.uncancel() <= self._cancelling

    def stop(self) -> None:
        """Give the timer back."""
        self._expires = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        expires = self._expires
        if expires is None:
            return  # the next wait sets the timer again
        if self._loop.time() < expires:
            self._timer = self._loop.call_at(expires, self._look)
            return
        self._expired = True
        self._task.cancel()
